"""One person's video as a generator learns from it: frames, the empty background, and the person's pose in each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.errors import SourceError
from featherpose.motion.cleaning.filters import FilterOptions, filter_sequence
from featherpose.motion.cleaning.gaps import drop_doubtful, fill_gaps
from featherpose.motion.cleaning.hampel import reject_outliers
from featherpose.motion.cleaning.swaps import repair_swaps
from featherpose.motion.people import choose_people
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import Skeleton

__all__ = [
    "Footage",
    "Window",
    "background_plate",
    "clean_person",
    "nearest_frame",
    "pose_distance",
    "pose_maps",
    "shrink",
]

_MULTIPLE = 16
_PLATE_FRAMES = 60
_MAP_STRIDE = 4


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a frame that a generator draws, of one size for the whole video.

    Attributes:
        width: Pixels.
        height: Pixels.
    """

    width: int
    height: int

    def origin(self, points: Float64[np.ndarray, "K 2"], size: tuple[int, int]) -> tuple[int, int]:
        """Return the (x, y) of its upper left corner in a frame of ``size`` (width, height): around the person."""
        seen = points[np.isfinite(points[:, 0])]
        middle = (seen.min(0) + seen.max(0)) / 2 if len(seen) else np.array(size) / 2
        x = int(np.clip(round(middle[0] - self.width / 2), 0, max(0, size[0] - self.width)))
        y = int(np.clip(round(middle[1] - self.height / 2), 0, max(0, size[1] - self.height)))
        return x, y


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """T frames of one person.

    Attributes:
        frames: uint8[T, H, W, 3], BGR, scaled to the height that is learned.
        points: float64[T, K, 2], the person's keypoints in pixels of these frames, NaN where missing.
        skeleton: What they are.
        plate: uint8[H, W, 3], the background without the person.
        window: The part that is drawn.
    """

    frames: UInt8[np.ndarray, "T H W 3"]
    points: Float64[np.ndarray, "T K 2"]
    skeleton: Skeleton
    plate: UInt8[np.ndarray, "H W 3"]
    window: Window

    @classmethod
    def collect(cls, images: Iterable[np.ndarray], sequence: PoseSequence, height: int) -> Footage:
        """Scale frames and keypoints, and find background and window.

        Args:
            images: The T frames that ``sequence`` is of, uint8[H, W, 3].
            sequence: One person, in pixels of the frames.
            height: Height to learn at, pixels.

        Raises:
            SourceError: If the person is seen in too few frames.
        """
        kept, points = [], []
        scale = 1.0
        for row, image in enumerate(images):
            if row >= sequence.num_frames:
                break
            person = sequence.keypoints[row, 0]
            if np.isfinite(person[:, 0]).sum() < 5:
                continue
            scale = height / image.shape[0]
            width = round(image.shape[1] * scale)
            kept.append(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
            points.append((person + 0.5) * scale - 0.5)
        if len(kept) < 20:
            raise SourceError(
                f"the person is seen in {len(kept)} frames", expected="at least 20", hint="take a longer video"
            )
        frames, people = np.array(kept, np.uint8), np.array(points)
        return cls(frames, people, sequence.skeleton, background_plate(frames, people), _window(people, frames.shape))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the frames."""
        return self.frames.shape[2], self.frames.shape[1]

    def split(self, share: float) -> tuple[Footage, Footage]:
        """Return the first ``share`` of the frames and the rest; background and window are found in the first alone."""
        cut = int(len(self.frames) * share)
        frames, points = self.frames[:cut], self.points[:cut]
        first = Footage(frames, points, self.skeleton, background_plate(frames, points), _window(points, frames.shape))
        return first, Footage(self.frames[cut:], self.points[cut:], self.skeleton, first.plate, first.window)

    def part(self, first: int, last: int) -> Footage:
        """Return the frames ``first`` to ``last`` (not included), with the same background and window."""
        return Footage(self.frames[first:last], self.points[first:last], self.skeleton, self.plate, self.window)


def _window(points: Float64[np.ndarray, "T K 2"], shape: tuple[int, ...]) -> Window:
    spans = np.nanmax(points, 1) - np.nanmin(points, 1)
    wide, high = np.percentile(spans, 98, axis=0)
    margin = 0.22 * float(np.median(spans[:, 1]))
    sides = []
    for span, limit in ((wide + margin, shape[2]), (high + margin, shape[1])):
        side = int(np.ceil(span / _MULTIPLE)) * _MULTIPLE
        sides.append(min(side, limit // _MULTIPLE * _MULTIPLE))
    return Window(*sides)


def background_plate(
    frames: UInt8[np.ndarray, "T H W 3"], points: Float64[np.ndarray, "T K 2"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Find the empty background of a camera that stands still: the median of what is seen beside the person.

    Pixels that the person always covers are filled in from around (Telea 2004, by OpenCV).
    """
    rows = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), _PLATE_FRAMES)).astype(int))
    stack = frames[rows].astype(np.float32)
    for layer, person in zip(stack, points[rows], strict=True):
        seen = person[np.isfinite(person[:, 0])]
        hull = cv2.convexHull(np.rint(seen).astype(np.int32))
        mask = np.zeros(layer.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, hull, (1,))
        reach = max(3, int(0.07 * np.ptp(seen[:, 1])))
        mask = cv2.dilate(mask, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1)))
        layer[mask > 0] = np.nan
    hidden = np.isnan(stack[..., 0]).all(0)
    stack[:, hidden] = 0
    plate = np.nanmedian(stack, 0).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.inpaint(plate, hidden.astype(np.uint8), 3, cv2.INPAINT_TELEA)) if hidden.any() else plate


def clean_person(sequence: PoseSequence, which: str = "longest") -> PoseSequence:
    """Choose one person and calm the keypoints: doubtful ones dropped, swaps undone, gaps filled, filtered.

    Raises:
        OptionError: If there is no such person.
    """
    one = choose_people(sequence, which)
    one = reject_outliers(repair_swaps(drop_doubtful(one, 0.1)))
    one = fill_gaps(one, 1.0, "linear")
    return filter_sequence(one, FilterOptions(name="gaussian", width_s=0.03))


def pose_maps(
    points: Float64[np.ndarray, "K 2"], skeleton: Skeleton, size: tuple[int, int]
) -> Float32[np.ndarray, "C h w"]:
    """Draw a pose as maps: a disc for each keypoint and a capsule for each limb, at a quarter of the size.

    Args:
        points: (x, y) in pixels, NaN where missing.
        skeleton: What they are.
        size: (width, height) in pixels.

    Returns:
        float32[K + L, height / 4, width / 4] in 0..1.
    """
    width, height = size[0] // _MAP_STRIDE, size[1] // _MAP_STRIDE
    maps = np.zeros((skeleton.num_keypoints + skeleton.num_limbs, height, width), np.float32)
    cells = (points - (_MAP_STRIDE - 1) / 2) / _MAP_STRIDE
    fixed = np.rint(np.nan_to_num(cells) * 16).astype(np.int32)
    for k in np.flatnonzero(np.isfinite(points[:, 0])).tolist():
        canvas = np.zeros((height, width), np.uint8)
        cv2.circle(canvas, fixed[k].tolist(), 24, (255,), cv2.FILLED, cv2.LINE_AA, 4)
        maps[k] = cv2.GaussianBlur(canvas, (5, 5), 1) / np.float32(255)
    for i, ends in enumerate(skeleton.limbs):
        if np.isfinite(points[list(ends)]).all():
            canvas = np.zeros((height, width), np.uint8)
            cv2.polylines(canvas, [fixed[list(ends)]], False, (255,), 2, cv2.LINE_AA, 4)
            maps[skeleton.num_keypoints + i] = canvas / np.float32(255)
    return maps


def pose_distance(
    pose: Float64[np.ndarray, "K 2"], others: Float64[np.ndarray, "T K 2"]
) -> tuple[Float64[np.ndarray, " T"], Float64[np.ndarray, "T 2"]]:
    """Compare a pose with others, wherever in the image they are.

    Returns:
        Mean distance of the keypoints after the best shift, infinite where no keypoint is seen in both; and that shift
        (from the others to the pose), pixels.
    """
    difference = pose - others
    apart = np.isnan(difference[..., 0]).all(1)
    difference[apart] = 0
    shift = np.nanmedian(difference, 1)
    rest = np.hypot(*np.moveaxis(difference - shift[:, None], -1, 0))
    missing = np.isnan(rest).mean(1)
    distance = np.nanmean(np.minimum(np.nan_to_num(rest, nan=0.0), 1e3), 1) * (1 + 2 * missing)
    return np.where(apart, np.inf, distance), shift


def nearest_frame(
    pose: Float64[np.ndarray, "K 2"], footage: Footage, *, leave_out: tuple[int, int] | None = None
) -> tuple[int, tuple[int, int]]:
    """Find the frame with the most similar pose.

    Args:
        pose: The pose wanted.
        footage: Where to look.
        leave_out: Frames (from, to) that are not looked at.

    Returns:
        Its number, and the whole pixels (x, y) that it must be shifted by. The first, unshifted, where no frame shares
        a keypoint with the pose.
    """
    distance, shift = pose_distance(pose, footage.points)
    if leave_out is not None:
        distance[leave_out[0] : leave_out[1]] = np.inf
    best = int(np.argmin(distance))
    return best, (round(float(shift[best, 0])), round(float(shift[best, 1])))


def shrink(image: UInt8[np.ndarray, "H W 3"], height: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return an image at another height."""
    size = (round(image.shape[1] * height / image.shape[0]), height)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
