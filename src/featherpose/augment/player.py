"""A scene over time: graphics placed on each person of each frame, faded in and out, and trails."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, UInt8

from featherpose.augment.anchors import affine, similarity, upright
from featherpose.augment.bodies import body_units, named_points
from featherpose.augment.scene import Scene, SceneItem
from featherpose.augment.shapes import body_mask, draw_gauge, draw_line, draw_trail, text_sprite
from featherpose.augment.sprites import draw_sprite
from featherpose.errors import OptionError, SkeletonError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["ScenePlayer"]

_UP = np.array([0.0, -1.0])
_FORGET_S = 5.0
_TRUST = 1e-3  # a joint just over the least score counts


@dataclass(slots=True)
class _Shown:
    """One graphic on one person."""

    opacity: float
    seen_s: float
    points: np.ndarray
    unit: float
    up: np.ndarray
    trail: deque[tuple[float, float, float]] = field(default_factory=deque)


class ScenePlayer:
    """Draws a scene into the frames of one video.

    Args:
        scene: What is drawn.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._shown: dict[tuple[int, int], _Shown] = {}
        # Of each item the rows of its joints: a middle lies between two, any other joint between a row and itself.
        self._ends: list[tuple[np.ndarray, np.ndarray]] = []
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
        points = np.where(poses.keypoint_scores[..., None] > 0, poses.keypoints, np.nan).astype(np.float64)
        largest = int(np.nanargmax(units)) if len(units) and np.isfinite(units).any() else -1
        masks: dict[int, tuple[np.ndarray, tuple[int, int]] | None] = {}
        # Far people first: near ones and what they wear lie over them.
        order = np.argsort(np.nan_to_num(units), kind="stable").tolist()
        places = sorted(range(len(self.scene.items)), key=lambda i: not self.scene.items[i].behind)
        visited = set()
        for person in order:
            number = -1 if poses.track_ids is None else int(poses.track_ids[person])
            unit = self._steady_unit(number, float(units[person]), timestamp_s is not None)
            if not unit > 0:
                continue
            up = self._up(points[person])
            for place in places:
                item = self.scene.items[place]
                if not _is_meant(item, number, person == largest):
                    continue
                joints, trusted = self._places(place, points[person], poses.keypoint_scores[person], item)
                shown = self._follow(place, number, joints, unit, up, trusted, timestamp_s, step_s, first)
                if shown is None:
                    continue
                visited.add((place, number))
                mask = None
                if item.behind:
                    if person not in masks:
                        masks[person] = body_mask(points[person], poses.skeleton, unit, image.shape[:2])
                    mask = masks[person]
                words = {"id": "" if number < 0 else str(number), "score": f"{float(poses.scores[person]):.2f}"}
                self._draw(image, item, shown, words, points[person], mask, timestamp_s)
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
            self._ends.append((np.array([ends[0] for ends in joints]), np.array([ends[-1] for ends in joints])))
        self._skeleton = skeleton

    def _up(self, points: Float64[np.ndarray, "K 2"]) -> Float64[np.ndarray, "2"]:
        """Return the direction from the hips to the head; up in the image where one of them is missing."""
        if not {"neck", "mid_hip"} <= self._names.keys():
            return _UP
        neck, hips = self._names["neck"], self._names["mid_hip"]
        up = (points[neck[0]] + points[neck[-1]] - points[hips[0]] - points[hips[-1]]) / 2
        return np.asarray(up if np.isfinite(up).all() else _UP)

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
        self, place: int, points: Float64[np.ndarray, "K 2"], scores: np.ndarray, item: SceneItem
    ) -> tuple[Float64[np.ndarray, "n 2"], bool]:
        """Find where the joints of an item are, and whether they can be trusted."""
        first, last = self._ends[place]
        joints = (points[first] + points[last]) / 2
        n = len(item.joints)
        least = min(scores[first[:n]].min(), scores[last[:n]].min())
        return joints, bool(least >= item.min_score - _TRUST and np.isfinite(joints[:n]).all())

    def _follow(
        self, place: int, number: int, joints: np.ndarray, unit: float, up: np.ndarray, trusted: bool,
        now_s: float | None,
        step_s: float, first: bool,
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
                words = {"id": str(key[1]), "score": ""}
                self._draw(image, self.scene.items[key[0]], shown, words, None, None, now_s)
            elif now_s - shown.seen_s > _FORGET_S:
                del self._shown[key]
            else:
                shown.opacity = 0.0
                shown.trail.clear()

    def _draw(
        self, image: np.ndarray, item: SceneItem, shown: _Shown, words: dict[str, str],
        body: np.ndarray | None, mask: tuple[np.ndarray, tuple[int, int]] | None, now_s: float | None,
    ) -> None:  # fmt: skip
        opacity = item.opacity * shown.opacity
        joints, unit = shown.points[: len(item.joints)], shown.unit
        shift = np.array(item.offset) * unit
        if item.kind == "trail":
            if now_s is not None:
                while shown.trail and now_s - shown.trail[0][0] > item.seconds:
                    shown.trail.popleft()
                if now_s == shown.seen_s:
                    shown.trail.append((now_s, *(joints[0] + shift).tolist()))
                draw_trail(image, list(shown.trail), now_s, item.seconds, item.color, item.width * unit, opacity)
        elif item.kind == "gauge":
            draw_gauge(image, joints, item.size * unit, item.color, item.width * unit, opacity)
        elif item.kind in ("circle", "line", "polygon"):
            width = item.width * unit
            radius = item.size * unit if item.kind == "circle" else 0.0
            draw_line(image, joints + shift, item.kind, item.color, width, radius, opacity)
        else:
            sprite = item.sprite if item.sprite is not None else text_sprite(item.text.format(**words), item.color)
            if sprite is None:
                return
            matrix = self._matrix(item, shown, sprite.size)
            if matrix is not None:
                draw_sprite(image, sprite, matrix, opacity, mask)

    @staticmethod
    def _matrix(item: SceneItem, shown: _Shown, size: tuple[int, int]) -> np.ndarray | None:
        """From pixels of the sprite to pixels of the image."""
        joints = shown.points[: len(item.joints)]
        anchors = np.array(item.points or [(0.5, 0.5)] * len(joints)) * size - 0.5
        if len(joints) == 1:
            side = size[1] if item.kind == "text" else size[0]
            up = _UP
            if item.up is not None:
                ends = shown.points[len(item.joints) :]
                up = ends[1] - ends[0] if np.isfinite(ends).all() and np.ptp(ends) > 0 else _UP
            matrix: np.ndarray | None = upright(anchors[0], joints[0], item.size * shown.unit / side, up)
        elif len(joints) == 2:
            matrix = similarity(anchors, joints)
            turned = matrix is not None and shown.up @ -matrix[:, 1] < 0
            if turned and item.back != "show":  # left and right have changed places
                if item.back == "hide":
                    return None
                matrix = similarity(anchors[::-1], joints)
        else:
            matrix = affine(anchors, joints)
            if matrix is not None and np.linalg.det(matrix[:, :2]) < 0 and item.back != "show":
                if item.back == "hide":
                    return None
                mirror = np.array([[-1.0, 0.0, size[0] - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
                matrix = matrix @ mirror
        if matrix is None:
            return None
        if len(joints) > 1 and item.size != 1:
            middle = np.append(anchors.mean(0), 1.0)
            kept = matrix @ middle
            matrix = np.column_stack((matrix[:, :2] * item.size, kept - matrix[:, :2] @ middle[:2] * item.size))
        if any(item.offset):
            turn = matrix[:, :2] / np.maximum(np.hypot(*matrix[:, :2]), 1e-9)
            matrix = np.column_stack((matrix[:, :2], matrix[:, 2] + turn @ (np.array(item.offset) * shown.unit)))
        return matrix


def _is_meant(item: SceneItem, number: int, largest: bool) -> bool:
    if item.people == "all":
        return True
    return largest if item.people == "largest" else number in item.people
