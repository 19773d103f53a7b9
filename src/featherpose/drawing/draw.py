"""Skeletons on images, in place, at sub-pixel positions, in a few calls for any number of people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from featherpose.drawing.palette import Color, limb_colors, person_color, text_color
from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["DrawOptions", "draw_limbs", "draw_poses"]

_SHIFT = 4  # coordinates in sixteenths of a pixel
_OUTLINE: Color = (24, 24, 24)
_JOINT: Color = (255, 255, 255)
# People of similar size share one thickness, and with it one call; far people get finer lines than near ones.
_THICKNESSES = np.array([1, 2, 3, 4, 6, 8, 10, 13, 16], np.int32)
_THICKNESS_OF_SIZE = 0.0125
# Dots of these diameters are round without smoothing, which takes five times as long; smaller ones would be crosses.
_ROUND_JOINTS_PX = (5, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOptions:
    """How people are drawn.

    Attributes:
        color: ``limb``: body parts in their own colors, left cool, right warm; ``person``: one color for each
            person, by id where there is one.
        thickness: Line width in pixels; by each person's size unless given.
        joints: Mark keypoints with a dot.
        outline: A dark edge that keeps lines visible on any background.
        boxes: The box around each person.
        ids: The track id of each person.
        scores: The score of each person.
        on_black: Blacken the image first: the skeleton alone.
        min_keypoint_score: Leave out keypoints below this score. Uncertain ones are kept in results because
            they raise the AP; of those under 0.2 four of five are wrong, so on an image they are noise.

    Raises:
        OptionError: If a value is outside its range.
    """

    color: Literal["limb", "person"] = "limb"
    thickness: int | None = None
    joints: bool = True
    outline: bool = True
    boxes: bool = False
    ids: bool = False
    scores: bool = False
    on_black: bool = False
    min_keypoint_score: float = 0.2

    def __post_init__(self) -> None:
        if self.color not in ("limb", "person"):
            raise OptionError(f"color {self.color!r} is unknown", expected="limb or person")
        if self.thickness is not None and not 1 <= self.thickness <= 200:
            raise OptionError(f"thickness {self.thickness} is impossible", expected="1 to 200 pixels")
        if not 0 <= self.min_keypoint_score <= 1:
            raise OptionError(f"keypoint score {self.min_keypoint_score:g} is impossible", expected="0 to 1")


_DEFAULT = DrawOptions()


def draw_poses(image: UInt8[np.ndarray, "H W 3"], poses: Poses, options: DrawOptions = _DEFAULT) -> None:
    """Draw people into an image.

    Missing keypoints are not drawn, nor limbs that lack an end. Small people are drawn first.

    Args:
        image: uint8[H, W, 3], BGR, C-contiguous and writable; changed in place.
        poses: The people, in pixels of this image.
        options: How they look.

    Raises:
        OptionError: If the image cannot be drawn into.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> points = np.random.default_rng(0).uniform(8, 56, (1, 17, 2)).astype(np.float32)
        >>> poses = Poses(points, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (64, 64))
        >>> canvas = np.zeros((64, 64, 3), np.uint8)
        >>> draw_poses(canvas, poses)
        >>> bool(canvas.any())
        True
    """
    flags = image.flags
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or not (flags.c_contiguous and flags.writeable)
    ):
        raise OptionError(
            f"an image of type {image.dtype} and shape {image.shape} cannot be drawn into",
            expected="a writable, contiguous uint8 array of shape (H, W, 3)",
            hint="give image.copy() or numpy.ascontiguousarray(image)",
        )
    if options.on_black:
        image[:] = 0
    if len(poses) == 0:
        return
    shown = np.isfinite(poses.keypoints).all(-1)
    if options.min_keypoint_score > 0:
        shown &= poses.keypoint_scores >= options.min_keypoint_score
    # Far outside the image OpenCV's fixed-point numbers overflow.
    limit = 4.0 * max(image.shape)
    points = np.where(shown[..., None], poses.keypoints, 0).clip(-limit, limit)
    fixed = np.rint(points * (1 << _SHIFT)).astype(np.int32)
    widths = _widths(points, shown, options.thickness)
    limbs = np.asarray(poses.skeleton.limbs, np.intp).reshape(-1, 2)
    ends = fixed[:, limbs]
    whole = shown[:, limbs].all(-1)
    whole[:, list(poses.skeleton.loop_limbs)] = False  # uncertain keypoints help the decoder and clutter the image
    shown &= whole.any(-1)[:, None]  # isolated dots are not a person
    for width in np.unique(widths).tolist():
        people = np.flatnonzero(widths == width)
        _draw_people(image, poses, people, ends[people], whole[people], fixed[people], shown[people], width, options)
    if options.boxes or options.ids or options.scores:
        _draw_labels(image, poses, np.where(shown[..., None], poses.keypoints, np.nan), widths, options)


def _widths(points: np.ndarray, shown: Bool[np.ndarray, "P K"], thickness: int | None) -> Int32[np.ndarray, " P"]:
    if thickness is not None:
        return np.full(len(points), thickness, np.int32)
    low = np.where(shown[..., None], points, np.inf).min(1)
    high = np.where(shown[..., None], points, -np.inf).max(1)
    sizes = np.nan_to_num((high - low).max(-1), neginf=0)
    nearest = np.abs(sizes[:, None] * _THICKNESS_OF_SIZE - _THICKNESSES).argmin(-1)
    return np.asarray(_THICKNESSES[nearest], np.int32)


def _draw_people(
    image: UInt8[np.ndarray, "H W 3"],
    poses: Poses,
    people: np.ndarray,
    ends: Int32[np.ndarray, "p L 2 2"],
    whole: Bool[np.ndarray, "p L"],
    fixed: Int32[np.ndarray, "p K 2"],
    shown: Bool[np.ndarray, "p K"],
    width: int,
    options: DrawOptions,
) -> None:
    dots = fixed[shown]
    edge = 2 if width < 6 else 4
    joint = width + max(1, width // 3)
    if options.outline:
        _lines(image, ends[whole], _OUTLINE, width + edge, smooth=width < 4)
        if options.joints:
            # A line of no length with round caps is a dot; all go in one call.
            _lines(image, np.repeat(dots[:, None], 2, axis=1), _OUTLINE, joint + edge, smooth=width < 4)
    if options.color == "limb":
        colors = limb_colors(poses.skeleton)
        by_limb, drawn = ends.swapaxes(0, 1), whole.T
        for limb in np.flatnonzero(drawn.any(1)).tolist():
            _lines(image, by_limb[limb][drawn[limb]], colors[limb], width)
    else:
        for i, person in enumerate(people.tolist()):
            _lines(image, ends[i, whole[i]], _color_of(poses, person), width)
    if options.joints and joint in _ROUND_JOINTS_PX:
        _lines(image, np.repeat(dots[:, None], 2, axis=1), _JOINT, joint, smooth=False)
    elif options.joints:
        for dot in dots.tolist():  # smooth discs are faster one by one than as lines
            cv2.circle(image, dot, joint << (_SHIFT - 1), _JOINT, cv2.FILLED, cv2.LINE_AA, _SHIFT)


def _lines(
    image: UInt8[np.ndarray, "H W 3"], ends: Int32[np.ndarray, "n 2 2"], color: Color, width: int, smooth: bool = True
) -> None:
    if len(ends):
        # OpenCV takes the first axis of one array as the list of lines.
        cv2.polylines(image, ends, False, color, width, cv2.LINE_AA if smooth else cv2.LINE_8, _SHIFT)  # type: ignore[call-overload]


def _color_of(poses: Poses, person: int) -> Color:
    return person_color(person if poses.track_ids is None else int(poses.track_ids[person]))


def _draw_labels(
    image: UInt8[np.ndarray, "H W 3"],
    poses: Poses,
    drawn: Float32[np.ndarray, "P K 2"],
    widths: Int32[np.ndarray, " P"],
    options: DrawOptions,
) -> None:
    height, width = image.shape[:2]
    scale = max(0.4, min(height, width) / 1400)
    # The box of what is drawn: an uncertain joint far away must not pull the label off the person.
    for person, box in enumerate(replace(poses, keypoints=drawn).boxes()):
        if not np.isfinite(box).all():
            continue
        color = _color_of(poses, person)
        margin = 3 * int(widths[person]) + 2
        left, top, right, bottom = (
            int(v) for v in (box + np.array([-margin, -margin, margin, margin])).clip(-1e6, 1e6).round()
        )
        if options.boxes:
            cv2.rectangle(image, (left, top), (right, bottom), color, max(1, round(scale * 2)), cv2.LINE_8)
        words = []
        if options.ids and poses.track_ids is not None and poses.track_ids[person] >= 0:  # -1: not confirmed yet
            words.append(f"#{int(poses.track_ids[person])}")
        if options.scores:
            words.append(f"{float(poses.scores[person]):.2f}")
        if words:
            _draw_label(image, " ".join(words), (left, top), scale, color)


def _draw_label(
    image: UInt8[np.ndarray, "H W 3"], text: str, corner: tuple[int, int], scale: float, color: Color
) -> None:
    font, weight = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(scale * 1.6))
    (text_width, text_height), baseline = cv2.getTextSize(text, font, scale, weight)
    pad = max(3, round(5 * scale))
    # Above the box, or inside it where the image ends.
    left = min(max(corner[0], 0), max(0, image.shape[1] - text_width - 2 * pad))
    bottom = max(corner[1], text_height + baseline + 2 * pad)
    top = bottom - text_height - 2 * pad
    cv2.rectangle(image, (left, top), (left + text_width + 2 * pad, bottom), color, cv2.FILLED)
    cv2.putText(image, text, (left + pad, bottom - pad), font, scale, text_color(color), weight, cv2.LINE_AA)


def draw_limbs(image: UInt8[np.ndarray, "H W 3"], keypoints: Float[np.ndarray, "P K 2"], skeleton: Skeleton) -> None:
    """Draw everyone's limbs as plain lines, one hue a limb, in place: for overviews of many small images.

    Example:
        >>> image = np.zeros((8, 8, 3), np.uint8)
        >>> arm = Skeleton.create("arm", ["elbow", "wrist"], [("elbow", "wrist")])
        >>> draw_limbs(image, np.float32([[[1, 4], [6, 4]]]), arm)
        >>> image[4, 1:7, 2].tolist()
        [255, 255, 255, 255, 255, 255]
    """
    for person in keypoints:
        for i, (a, b) in enumerate(skeleton.limbs):
            if np.isfinite(person[[a, b]]).all():
                hue = np.array([[[180 * i // skeleton.num_limbs, 255, 255]]], np.uint8)
                color = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
                ends = [(round(float(person[j][0])), round(float(person[j][1]))) for j in (a, b)]
                cv2.line(image, ends[0], ends[1], color, 2, cv2.LINE_AA)
