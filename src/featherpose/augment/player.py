"""A scene over time: graphics placed on each person of each frame, faded in and out, and trails."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

import numpy as np
from jaxtyping import UInt8

from featherpose.augment.anchors import Affine, Point
from featherpose.augment.bodies import body_units, named_points
from featherpose.augment.placement import UP, place_graphic
from featherpose.augment.scene import Scene, SceneItem
from featherpose.augment.shapes import draw_gauge, draw_line, draw_trail, text_sprite
from featherpose.augment.silhouette import Silhouette
from featherpose.augment.sprites import draw_sprite
from featherpose.augment.trail import Trail
from featherpose.errors import OptionError, SkeletonError
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["ScenePlayer", "warm_up"]

_FORGET_S = 5.0
_TRUST = 1e-3  # a joint just over the least score counts


@dataclass(slots=True)
class _Shown:
    """One graphic on one person."""

    opacity: float
    seen_s: float
    points: list[Point]
    unit: float
    up: Point
    trail: Trail = field(default_factory=Trail)


class ScenePlayer:
    """Draws a scene into the frames of one video.

    Args:
        scene: What is drawn.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._shown: dict[tuple[int, int], _Shown] = {}
        # Of each item the rows of its joints: a middle lies between two, any other joint between a row and itself.
        self._ends: list[list[tuple[int, int]]] = []
        self._skeleton: Skeleton | None = None
        self._names: dict[str, tuple[int, ...]] = {}
        self._last_s: float | None = None
        self._units: dict[int, float] = {}

    def reset(self) -> None:
        """Remove the state of all people."""
        self._shown.clear()
        self._units.clear()
        self._last_s = None

    def render(
        self, image: UInt8[np.ndarray, "H W 3"], poses: Poses, timestamp_s: float | None = None
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the scene into the next frame, in place, and return it.

        Args:
            image: uint8[H, W, 3], BGR, contiguous and writable.
            poses: The people in it, with ids for fading and trails.
            timestamp_s: When it is shown, seconds; None for an image that stands alone.

        Raises:
            OptionError: If the image cannot be drawn into.
            SkeletonError: If a joint of the scene is unknown to the people's skeleton.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.flags.writeable:
            raise OptionError(
                f"an image of type {image.dtype} and shape {image.shape} cannot be drawn into",
                expected="a writable uint8 array of shape (H, W, 3)",
            )
        self._use(poses.skeleton)
        if timestamp_s is not None and self._last_s is not None and timestamp_s < self._last_s:
            self.reset()
        step_s = 0.0 if timestamp_s is None or self._last_s is None else timestamp_s - self._last_s
        first = self._last_s is None
        units = body_units(poses)
        # Numbers of Python: a few for each of dozens of graphics, for which numpy's calls would take longer.
        places = np.where(poses.keypoint_scores[..., None] > 0, poses.keypoints, np.nan).astype(np.float64)
        points = places.tolist()
        scores, totals = poses.keypoint_scores.tolist(), poses.scores.tolist()
        numbers = [-1] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
        largest = int(np.nanargmax(units)) if len(units) and np.isfinite(units).any() else -1
        # Far people first: near ones and what they wear lie over them.
        order = np.argsort(np.nan_to_num(units), kind="stable").tolist()
        items = sorted(range(len(self.scene.items)), key=lambda i: not self.scene.items[i].behind)
        visited = set()
        for person in order:
            number = numbers[person]
            unit = self._steady_unit(number, float(units[person]), timestamp_s is not None)
            if not unit > 0:
                continue
            up = self._up(points[person])
            for place in items:
                item = self.scene.items[place]
                if not _is_meant(item, number, person == largest):
                    continue
                joints, trusted = self._places(place, points[person], scores[person], item)
                shown = self._follow(place, number, joints, unit, up, trusted, timestamp_s, step_s, first)
                if shown is None:
                    continue
                visited.add((place, number))
                body = Silhouette(places[person], unit, poses.skeleton) if item.behind else None
                words = ("" if number < 0 else str(number), totals[person])
                self._draw(image, item, shown, words, body, timestamp_s)
        if timestamp_s is not None:
            self._fade_unseen(image, visited, timestamp_s, step_s)
            self._last_s = timestamp_s
        return image

    def _use(self, skeleton: Skeleton) -> None:
        if self._skeleton is skeleton:
            return
        names = self._names = named_points(skeleton)
        self._ends = []
        for item in self.scene.items:
            for name in (*item.joints, *(item.up or ())):
                if name not in names:
                    raise SkeletonError(
                        f"scene {self.scene.name!r} names the joint {name!r}, which skeleton {skeleton.name!r} lacks",
                        expected=f"one of {', '.join(names)}",
                    )
            joints = [names[name] for name in (*item.joints, *(item.up or ()))]
            self._ends.append([(ends[0], ends[-1]) for ends in joints])
        self._skeleton = skeleton

    def _up(self, points: list[list[float]]) -> Point:
        """Return the direction from the hips to the head; up in the image where one of them is missing."""
        if not {"neck", "mid_hip"} <= self._names.keys():
            return UP
        neck, hips = self._names["neck"], self._names["mid_hip"]
        x, y = (points[neck[0]][i] + points[neck[-1]][i] - points[hips[0]][i] - points[hips[-1]][i] for i in (0, 1))
        return (x / 2, y / 2) if isfinite(x + y) else UP

    def _steady_unit(self, number: int, unit: float, video: bool) -> float:
        """Return the body unit, smoothed over time."""
        if not video or number < 0:
            return unit
        before = self._units.get(number)
        if before is not None:
            unit = before if not unit > 0 else before + 0.15 * (unit - before)
        if unit > 0:
            self._units[number] = unit
        return unit

    def _places(
        self, place: int, points: list[list[float]], scores: list[float], item: SceneItem
    ) -> tuple[list[Point], bool]:
        """Find where the joints of an item are, and whether they can be trusted."""
        ends = self._ends[place]
        joints = [((points[a][0] + points[b][0]) / 2, (points[a][1] + points[b][1]) / 2) for a, b in ends]
        n, least = len(item.joints), item.min_score - _TRUST
        trusted = all(scores[a] >= least and scores[b] >= least for a, b in ends[:n])
        return joints, trusted and all(isfinite(x + y) for x, y in joints[:n])

    def _follow(
        self, place: int, number: int, joints: list[Point], unit: float, up: Point, trusted: bool,
        now_s: float | None, step_s: float, first: bool,
    ) -> _Shown | None:  # fmt: skip
        """Return the state of one graphic on one person; None while it is not to be seen."""
        if now_s is None or number < 0:
            return _Shown(1.0, now_s or 0.0, joints, unit, up) if trusted else None
        key = (place, number)
        shown = self._shown.get(key)
        change = step_s / max(self.scene.fade_s, 1e-3)
        if shown is None:
            if not trusted:
                return None
            shown = self._shown[key] = _Shown(1.0 if first else min(1.0, change), now_s, joints, unit, up)
            return shown
        shown.opacity = min(1.0, shown.opacity + change) if trusted else max(0.0, shown.opacity - change)
        if trusted:
            shown.points, shown.unit, shown.up, shown.seen_s = joints, unit, up, now_s
        return shown if shown.opacity > 0 else None

    def _fade_unseen(
        self, image: np.ndarray, visited: set[tuple[int, int]], now_s: float, step_s: float
    ) -> None:  # fmt: skip
        """Fade the graphics of people who have left, at their last position."""
        for key, shown in list(self._shown.items()):
            if key in visited:
                continue
            shown.opacity -= step_s / max(self.scene.fade_s, 1e-3)
            if shown.opacity > 0:
                self._draw(image, self.scene.items[key[0]], shown, (str(key[1]), None), None, now_s)
            elif now_s - shown.seen_s > _FORGET_S:
                del self._shown[key]
            else:
                shown.opacity = 0.0
                shown.trail.clear()

    def _draw(
        self, image: np.ndarray, item: SceneItem, shown: _Shown, words: tuple[str, float | None],
        body: Silhouette | None, now_s: float | None,
    ) -> None:  # fmt: skip
        opacity = item.opacity * shown.opacity
        joints, unit = shown.points[: len(item.joints)], shown.unit
        if item.kind in ("sprite", "text"):
            sprite = item.sprite
            if sprite is None:
                score = "" if words[1] is None else f"{words[1]:.2f}"
                sprite = text_sprite(item.text.format(id=words[0], score=score), item.color)
            if sprite is None:
                return
            matrix = place_graphic(item, shown.points, unit, shown.up, sprite.size)
            if matrix is not None:
                draw_sprite(image, sprite, matrix, opacity, body)
            return
        if item.kind == "gauge":
            draw_gauge(image, joints, item.size * unit, item.color, item.width * unit, opacity)
            return
        right, down = item.offset[0] * unit, item.offset[1] * unit
        if item.kind != "trail":
            moved = [(x + right, y + down) for x, y in joints]
            radius = item.size * unit if item.kind == "circle" else 0.0
            draw_line(image, moved, item.kind, item.color, item.width * unit, radius, opacity)
        elif now_s is not None:
            shown.trail.forget(now_s - item.seconds)
            if now_s == shown.seen_s:
                shown.trail.add(now_s, joints[0][0] + right, joints[0][1] + down)
            draw_trail(image, shown.trail.rows, now_s, item.seconds, item.color, item.width * unit, opacity)


def warm_up(scene: Scene) -> None:
    """Compile or load every kernel that a scene needs, so that its first frame is not late.

    Args:
        scene: What will be drawn.
    """
    image, place = np.zeros((32, 32, 3), np.uint8), Affine(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    body = Silhouette(np.full((COCO_17.num_keypoints, 2), 16.0), 8.0, COCO_17)
    joints = [(4.0, 16.0), (16.0, 16.0), (16.0, 4.0)]
    for item in scene.items:
        if item.kind in ("sprite", "text"):
            sprite = item.sprite or text_sprite("0", item.color)
            assert sprite is not None
            draw_sprite(image, sprite, place, 1.0, body if item.behind else None)
        elif item.kind == "gauge":
            draw_gauge(image, joints, 8.0, item.color, 2.0, 1.0)
        elif item.kind == "trail":
            draw_trail(image, np.full((2, 3), 16.0), 16.0, 1.0, item.color, 4.0, 1.0)


def _is_meant(item: SceneItem, number: int, largest: bool) -> bool:
    if item.people == "all":
        return True
    return largest if item.people == "largest" else number in item.people
