"""Plain, slow implementations of the part affinity field codec, the reference of the fast one.

They follow the published description step by step (Cao et al. 2017, section 3; Osokin 2018), in numpy and Python, and
share no code with `featherpose.methods.paf`. Decoding has three stages that can be timed one by one:

1. `resize_to_image` or `resize_by`: every map is resized by cubic interpolation, to the size of the image (the
   baseline of Lightweight OpenPose's speed table) or by a small factor (its proposed system: 4).
2. `extract_keypoints`: local maxima of the resized heatmaps.
3. `group_keypoints`: limbs between them, and people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32

from featherpose.geometry import Letterbox
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.maps import Maps
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = [
    "Candidate",
    "PlainPafDecoder",
    "ResizedMaps",
    "encode_maps_plainly",
    "extract_keypoints",
    "group_keypoints",
    "resize_by",
    "resize_to_image",
]


@dataclass(frozen=True, slots=True)
class ResizedMaps:
    """Maps after a full resize.

    Attributes:
        heatmaps: float32[H, W, K].
        pafs: float32[H, W, 2L].
        scale: (x, y) resized pixels per network pixel.
    """

    heatmaps: Float32[np.ndarray, "H W K"]
    pafs: Float32[np.ndarray, "H W D"]
    scale: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A local maximum: keypoint index, position in resized pixels, height."""

    keypoint: int
    x: float
    y: float
    score: float


def _resize(array: Float32[np.ndarray, "h w C"], size: tuple[int, int]) -> Float32[np.ndarray, "H W C"]:
    resized = cv2.resize(array, size, interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized.reshape(size[1], size[0], -1), np.float32)


def _last(array: Float32[np.ndarray, "C h w"], channels: int) -> Float32[np.ndarray, "h w C"]:
    return np.ascontiguousarray(array[:channels].transpose(1, 2, 0))


def resize_by(maps: Maps, skeleton: Skeleton, ratio: int) -> ResizedMaps:
    """Resize the heatmaps by a factor and the PAFs to the same size.

    Example:
        >>> from featherpose.methods.paf.encode import encode_maps
        >>> from featherpose.skeleton import COCO_17
        >>> maps = encode_maps(np.full((1, 17, 2), 40, np.float32), COCO_17, (96, 64))
        >>> resize_by(maps, COCO_17, 4).heatmaps.shape
        (32, 48, 17)
    """
    height, width = maps.heatmaps.shape[1:]
    size = (width * ratio, height * ratio)
    scale = ratio / maps.heatmap_stride
    heatmaps = _resize(_last(maps.heatmaps, skeleton.num_keypoints), size)
    return ResizedMaps(heatmaps, _resize(_last(maps.pafs, 2 * skeleton.num_limbs), size), (scale, scale))


def resize_to_image(maps: Maps, skeleton: Skeleton, letterbox: Letterbox) -> ResizedMaps:
    """Resize all maps to the network input, cut the padding away, and resize the rest to the source image."""
    left, top = letterbox.padding
    width, height = letterbox.content_size

    def whole(array: Float32[np.ndarray, "C h w"], channels: int) -> Float32[np.ndarray, "H W C"]:
        inside = _resize(_last(array, channels), letterbox.network_size)[top : top + height, left : left + width]
        return _resize(inside, letterbox.source_size)

    x, y = letterbox.scale
    return ResizedMaps(
        whole(maps.heatmaps, skeleton.num_keypoints), whole(maps.pafs, 2 * skeleton.num_limbs), (1 / x, 1 / y)
    )


def _vertex(before: float, middle: float, after: float) -> float:
    """Return where a parabola through three neighboring values is highest, -0.5 to 0.5 around the middle one."""
    bend = before - 2 * middle + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def extract_keypoints(
    resized: ResizedMaps, options: PafOptions, *, reach: int = 1, subpixel: bool = False
) -> list[list[Candidate]]:
    """Return the local maxima over the threshold for each keypoint; of two that are near the stronger stays.

    Args:
        resized: Maps after a full resize.
        options: Peak threshold and suppression radius.
        reach: A maximum is higher than all values this many resized pixels to each side. 1 is the published rule; one
            cell of the original map excludes the ripples that the cubic interpolation adds between cells.
        subpixel: Whether to place the maximum below the pixel, by a parabola in x and one in y.

    Returns:
        K lists, best first. Of the pixels of a plateau the first in reading order counts.
    """
    found: list[list[Candidate]] = []
    radius_x = options.suppression_radius_px * resized.scale[0]
    radius_y = options.suppression_radius_px * resized.scale[1]
    for keypoint in range(resized.heatmaps.shape[2]):
        heatmap = np.ascontiguousarray(resized.heatmaps[:, :, keypoint])
        height, width = heatmap.shape
        around = np.pad(heatmap, reach, constant_values=-np.inf)
        peaks = heatmap > options.peak_threshold
        for step in range(1, reach + 1):
            peaks &= heatmap > around[reach - step : reach - step + height, reach : reach + width]
            peaks &= heatmap > around[reach : reach + height, reach - step : reach - step + width]
            peaks &= heatmap >= around[reach + step : reach + step + height, reach : reach + width]
            peaks &= heatmap >= around[reach : reach + height, reach + step : reach + step + width]
        candidates = []
        for y, x in zip(*(axis.tolist() for axis in np.nonzero(peaks)), strict=True):
            dx = dy = 0.0
            if subpixel and 0 < x < width - 1:
                dx = _vertex(*heatmap[y, x - 1 : x + 2].tolist())
            if subpixel and 0 < y < height - 1:
                dy = _vertex(*heatmap[y - 1 : y + 2, x].tolist())
            candidates.append(Candidate(keypoint, x + dx, y + dy, float(heatmap[y, x])))
        candidates.sort(key=lambda c: -c.score)
        kept: list[Candidate] = []
        for candidate in candidates:
            if all(
                math.hypot((candidate.x - other.x) / radius_x, (candidate.y - other.y) / radius_y) >= 1
                for other in kept
            ):
                kept.append(candidate)
        found.append(kept)
    return found


def _limb_score(
    resized: ResizedMaps, channels: tuple[int, int], a: Candidate, b: Candidate, options: PafOptions
) -> float | None:
    """Return the mean projected field between two candidates, None when too few samples support the limb."""
    length = math.hypot(b.x - a.x, b.y - a.y)
    if length == 0:
        return None
    direction = ((b.x - a.x) / length, (b.y - a.y) / length)
    total, supporting = 0.0, 0
    for i in range(options.limb_samples):
        t = i / (options.limb_samples - 1)
        x = min(max(round(a.x + t * (b.x - a.x)), 0), resized.pafs.shape[1] - 1)
        y = min(max(round(a.y + t * (b.y - a.y)), 0), resized.pafs.shape[0] - 1)
        field = resized.pafs[y, x, channels[0]] * direction[0] + resized.pafs[y, x, channels[1]] * direction[1]
        total += float(field)
        supporting += bool(field > options.limb_threshold)
    if not supporting > options.min_limb_support * options.limb_samples:
        return None
    return total / options.limb_samples


def _connect(
    resized: ResizedMaps,
    candidates: list[list[Candidate]],
    ends: tuple[int, int],
    channels: tuple[int, int],
    options: PafOptions,
) -> list[tuple[float, int, int]]:
    """Return the limbs of one type: (score, index of the first end, index of the second end), best first."""
    pairs = []
    for i, a in enumerate(candidates[ends[0]]):
        for j, b in enumerate(candidates[ends[1]]):
            score = _limb_score(resized, channels, a, b, options)
            if score is not None:
                pairs.append((score, i, j))
    pairs.sort(key=lambda pair: -pair[0])
    used_a: set[int] = set()
    used_b: set[int] = set()
    chosen = []
    for score, i, j in pairs:
        if i not in used_a and j not in used_b:
            used_a.add(i)
            used_b.add(j)
            chosen.append((score, i, j))
    return chosen


@dataclass(slots=True)
class _Person:
    members: dict[int, int]
    score: float


def group_keypoints(
    resized: ResizedMaps, candidates: list[list[Candidate]], skeleton: Skeleton, options: PafOptions
) -> list[tuple[dict[int, Candidate], float]]:
    """Return limbs between candidates, and people from limbs that share a keypoint.

    Limb types are taken in the skeleton's order. Two partial people without a common keypoint that a limb joins become
    one; a limb that contradicts its person is left out; limbs that close loops only contribute a keypoint.

    Returns:
        For each person its keypoints by index and its score, sum of keypoint and limb scores times (n - 1).
    """
    people: list[_Person] = []
    loops = list(skeleton.loop_limbs) if not options.loop_limbs_join else []
    for limb in [i for i in range(skeleton.num_limbs) if i not in loops] + loops:
        a, b = skeleton.limbs[limb]
        for score, i, j in _connect(resized, candidates, (a, b), skeleton.paf_channels[limb], options):
            first = next((person for person in people if person.members.get(a) == i), None)
            second = next((person for person in people if person.members.get(b) == j), None)
            lends = limb in loops
            if first is None and second is None:
                if not lends:
                    people.append(_Person({a: i, b: j}, candidates[a][i].score + candidates[b][j].score + score))
            elif second is None and first is not None:
                if b not in first.members:
                    first.members[b] = j
                    first.score += candidates[b][j].score + (0 if lends else score)
            elif first is None and second is not None:
                if a not in second.members:
                    second.members[a] = i
                    second.score += candidates[a][i].score + (0 if lends else score)
            elif first is second and first is not None:
                first.score += 0 if lends else score
            elif first is not None and second is not None and not lends and not first.members.keys() & second.members:
                first.members |= second.members
                first.score += second.score + score
                people.remove(second)
    complete = []
    for person in people:
        n = len(person.members)
        if n >= options.min_keypoints and person.score / n >= options.min_mean_score:
            keypoints = {k: candidates[k][i] for k, i in person.members.items()}
            complete.append((keypoints, person.score * (n - 1)))
    return complete


class PlainPafDecoder:
    """The three stages in a row, with the interface of `featherpose.methods.paf.decoder.PafDecoder`.

    Args:
        skeleton: Keypoints and limbs of the maps.
        options: Rules, `PafOptions.published` unless given. The second pass, the longest limb, reading at every
            cell, near limbs first and the ranking exponent of the better rules are not part of the published method
            and are ignored.
        ratio: Resize the maps by this factor; None resizes them to the source image.
        refined: Maxima of whole cells, placed below the pixel, instead of whole pixels that beat their neighbors:
            what the fast decoder promises, and 0.008 AP better (COCO photographs, height 368, ratio 8).

    Example:
        >>> from featherpose.methods.paf.encode import encode_maps
        >>> arm = Skeleton.create("arm", ["shoulder", "elbow", "hand"], [("shoulder", "elbow"), ("elbow", "hand")])
        >>> maps = encode_maps(np.array([[[20, 20], [60, 30], [90, 60]]], np.float32), arm, (128, 96))
        >>> PlainPafDecoder(arm)(maps, Letterbox.fit((128, 96), height=96, multiple=8)).keypoints.round()
        array([[[20., 20.], [60., 30.], [90., 60.]]], dtype=float32)
    """

    def __init__(
        self,
        skeleton: Skeleton,
        options: PafOptions | None = None,
        *,
        ratio: int | None = None,
        refined: bool = False,
    ) -> None:
        self.skeleton = skeleton
        self.options = options or PafOptions.published()
        self.ratio = ratio
        self.refined = refined

    def __call__(self, maps: Maps, letterbox: Letterbox) -> Poses:
        """Return everyone in one image, best first, in pixels of the source image."""
        if self.ratio is None:
            resized = resize_to_image(maps, self.skeleton, letterbox)
        else:
            resized = resize_by(maps, self.skeleton, self.ratio)
        reach = max(1, round(maps.heatmap_stride * min(resized.scale))) if self.refined else 1
        candidates = extract_keypoints(resized, self.options, reach=reach, subpixel=self.refined)
        people = group_keypoints(resized, candidates, self.skeleton, self.options)
        people.sort(key=lambda person: -person[1])
        keypoints = np.full((len(people), self.skeleton.num_keypoints, 2), np.nan, np.float32)
        scores = np.zeros(keypoints.shape[:2], np.float32)
        for p, (members, _) in enumerate(people):
            for k, candidate in members.items():
                keypoints[p, k] = candidate.x, candidate.y
                scores[p, k] = min(candidate.score, 1.0)
        if self.ratio is not None:
            scale = np.asarray(resized.scale, np.float32)
            keypoints = letterbox.inverse((keypoints + np.float32(0.5)) / scale - np.float32(0.5))
        ranks = np.array([score for _, score in people], np.float32)
        return Poses(keypoints, scores, ranks, self.skeleton, letterbox.source_size)


def encode_maps_plainly(
    keypoints: Float32[np.ndarray, "P K 2"],
    skeleton: Skeleton,
    size: tuple[int, int],
    *,
    stride: int = 8,
    sigma_px: float = 7.0,
    paf_half_width: float = 1.0,
) -> Maps:
    """Encode people as maps, cell by cell, as `featherpose.methods.paf.encode.encode_maps` defines it, with background.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> encode_maps_plainly(np.full((1, 17, 2), 20, np.float32), COCO_17, (64, 32))
        Maps(heatmaps (18, 4, 8) /8, pafs (38, 4, 8) /8)
    """
    height, width = -(-size[1] // stride), -(-size[0] // stride)
    heatmaps = np.zeros((skeleton.num_keypoints + 1, height, width))
    pafs = np.zeros((2 * skeleton.num_limbs, height, width))
    overlaps = np.zeros((skeleton.num_limbs, height, width))
    cells = [(row, column) for row in range(height) for column in range(width)]
    for person in keypoints.astype(np.float64):
        for k, (x, y) in enumerate(person.tolist()):
            if math.isnan(x) or math.isnan(y):
                continue
            for row, column in cells:
                dx, dy = column * stride + (stride - 1) / 2 - x, row * stride + (stride - 1) / 2 - y
                exponent = (dx * dx + dy * dy) / (2 * sigma_px**2)
                if exponent <= math.log(100):
                    heatmaps[k, row, column] = max(heatmaps[k, row, column], math.exp(-exponent))
        for limb, (a, b) in enumerate(skeleton.limbs):
            start, end = (person[[a, b]] - (stride - 1) / 2) / stride
            length = float(np.hypot(*(end - start)))
            if not length > 1e-6:
                continue
            unit = (end - start) / length
            for row, column in cells:
                offset = np.array([column, row]) - start
                along, aside = float(offset @ unit), float(offset[0] * unit[1] - offset[1] * unit[0])
                if abs(aside) <= paf_half_width and -paf_half_width <= along <= length + paf_half_width:
                    overlaps[limb, row, column] += 1
                    pafs[list(skeleton.paf_channels[limb]), row, column] += unit
    for limb, channels in enumerate(skeleton.paf_channels):
        pafs[list(channels)] /= np.maximum(overlaps[limb], 1)
    heatmaps[-1] = 1 - heatmaps[:-1].max(axis=0)
    return Maps(heatmaps.astype(np.float32), pafs.astype(np.float32), stride, stride)
