"""Groups of peaks to people in order: who is kept, who comes first, and where their keypoints are.

Each step is a few operations on a few dozen numbers; as kernels they take a fifth of the time that array operations
take, which at three people was as long as finding all peaks and limbs.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int32

from featherpose.jit import kernel
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.grouping import Groups

__all__ = ["place_peaks", "rank_groups", "read_people", "settle_people"]


@kernel
def _place(positions, scores, starts, stride, paf_stride, threshold, pixels, cells, ends):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    half = (stride - one) / np.float32(2)
    paf_half = (paf_stride - one) / np.float32(2)
    for i in range(positions.shape[0]):
        for c in range(2):
            pixels[i, c] = positions[i, c] * stride + half
            cells[i, c] = positions[i, c] if stride == paf_stride else (pixels[i, c] - paf_half) / paf_stride
    for k in range(ends.shape[0]):
        end = starts[k]
        while end < starts[k + 1] and scores[end] > threshold:
            end += 1
        ends[k] = end


def place_peaks(
    positions: Float32[np.ndarray, "N 2"],
    scores: Float32[np.ndarray, " N"],
    starts: Int32[np.ndarray, " K1"],
    *,
    stride: int,
    paf_stride: int,
    threshold: float | None,
) -> tuple[Float32[np.ndarray, "N 2"], Float32[np.ndarray, "N 2"], Int32[np.ndarray, " K"]]:
    """Return peaks in network pixels and in PAF cells, and the end of those of each keypoint that may start a limb.

    Args:
        positions: Peaks in heatmap cells, sorted by keypoint.
        scores: Of one keypoint the highest first.
        starts: First peak of each keypoint.
        stride: Network pixels a heatmap cell.
        paf_stride: Network pixels a PAF cell.
        threshold: Score above which a peak may start a limb; None for all.

    Example:
        >>> peaks, scores = np.array([[1, 2], [3, 4]], np.float32), np.array([0.9, 0.1], np.float32)
        >>> starts = np.array([0, 2], np.int32)
        >>> pixels, cells, ends = place_peaks(peaks, scores, starts, stride=4, paf_stride=8, threshold=0.5)
        >>> pixels.tolist(), cells.tolist(), ends.tolist()
        ([[5.5, 9.5], [13.5, 17.5]], [[0.25, 0.75], [1.25, 1.75]], [1])
    """
    pixels, cells = np.empty_like(positions), np.empty_like(positions)
    ends = np.empty(len(starts) - 1, np.int32)
    least = np.float32(-np.inf if threshold is None else threshold)
    _place(positions, scores, starts, np.float32(stride), np.float32(paf_stride), least, pixels, cells, ends)
    return pixels, cells, ends


@kernel
def _rank(members, sums, exponent, min_keypoints, min_mean, ranks, usable):  # type: ignore[no-untyped-def]
    for p in range(members.shape[0]):
        count = 0
        for k in range(members.shape[1]):
            count += members[p, k] >= 0
        mean = np.float64(sums[p]) / max(count, 1)
        # NaN stands for the papers' rule.
        ranks[p] = np.float64(sums[p]) * (count - 1) if np.isnan(exponent) else mean * np.float64(count) ** exponent
        usable[p] = count >= min_keypoints and mean >= min_mean


def rank_groups(groups: Groups, rules: PafOptions) -> tuple[Int32[np.ndarray, "P K"], Float32[np.ndarray, " P"]]:
    """Return the groups that are people, best first, and their ranks.

    Example:
        >>> groups = Groups(np.array([[0, -1], [1, 2]], np.int32), np.array([0.2, 1.8], np.float32))
        >>> members, ranks = rank_groups(groups, PafOptions(min_keypoints=1, min_mean_score=0.1, rank_exponent=0.5))
        >>> members.tolist(), ranks.round(3)
        ([[1, 2], [0, -1]], array([1.273, 0.2  ], dtype=float32))
    """
    ranks, usable = np.empty(len(groups.members)), np.empty(len(groups.members), np.bool_)
    exponent = np.nan if rules.rank_exponent is None else rules.rank_exponent
    _rank(
        groups.members, groups.sums, np.float64(exponent), rules.min_keypoints, np.float64(rules.min_mean_score),
        ranks, usable,
    )  # fmt: skip
    order = np.argsort(-ranks, kind="stable")
    order = order[usable[order]]
    return groups.members[order], ranks[order].astype(np.float32)


@kernel
def _settle(members, ranks, pixels, min_keypoints, half_px):  # type: ignore[no-untyped-def]
    kept = 0
    for p in range(members.shape[0]):
        count = 0
        left = np.float32(np.inf)
        top = np.float32(np.inf)
        right = np.float32(-np.inf)
        bottom = np.float32(-np.inf)
        for k in range(members.shape[1]):
            peak = members[p, k]
            if peak >= 0:
                count += 1
                left = min(left, pixels[peak, 0])
                right = max(right, pixels[peak, 0])
                top = min(top, pixels[peak, 1])
                bottom = max(bottom, pixels[peak, 1])
        if count < min_keypoints:
            continue
        for k in range(members.shape[1]):
            members[kept, k] = members[p, k]
        rank = ranks[p]
        if half_px > 0:
            side = np.sqrt(max((right - left) * (bottom - top), np.float32(0)))
            rank *= side / (side + half_px)
        ranks[kept] = rank
        kept += 1
    return kept


def settle_people(
    members: Int32[np.ndarray, "P K"],
    ranks: Float32[np.ndarray, " P"],
    pixels: Float32[np.ndarray, "N 2"],
    *,
    min_keypoints: int,
    half_px: float,
) -> tuple[Int32[np.ndarray, "p K"], Float32[np.ndarray, " p"]]:
    """Drop who has lost too many keypoints, and rank small people lower; best first.

    Args:
        members: Peaks of each person, -1 where there is none; overwritten.
        ranks: Overwritten.
        pixels: The peaks in network pixels.
        min_keypoints: Of a person, at least 1.
        half_px: As of `featherpose.methods.ranking.size_factors`.

    Example:
        >>> pixels = np.array([[0, 0], [8, 8], [20, 0], [52, 32]], np.float32)
        >>> people, ranks = np.array([[0, 1], [-1, -1], [2, 3]], np.int32), np.ones(3, np.float32)
        >>> members, ranks = settle_people(people, ranks, pixels, min_keypoints=1, half_px=8.0)
        >>> members.tolist(), ranks.tolist()
        ([[2, 3], [0, 1]], [0.800000011920929, 0.5])
    """
    kept = _settle(members, ranks, pixels, min_keypoints, np.float32(half_px))
    members, ranks = members[:kept], ranks[:kept]
    if half_px > 0 and kept > 1:
        order = np.argsort(-ranks, kind="stable")
        members, ranks = members[order], ranks[order]
    return members, ranks


@kernel
def _read(members, pixels, peak_scores, points, scores, found):  # type: ignore[no-untyped-def]
    for p in range(members.shape[0]):
        for k in range(members.shape[1]):
            peak = members[p, k]
            found[p, k] = peak >= 0
            for c in range(2):
                points[p, k, c] = pixels[peak, c] if peak >= 0 else np.float32(np.nan)
            scores[p, k] = min(peak_scores[peak], np.float32(1)) if peak >= 0 else np.float32(0)


def read_people(
    members: Int32[np.ndarray, "P K"], pixels: Float32[np.ndarray, "N 2"], scores: Float32[np.ndarray, " N"]
) -> tuple[Float32[np.ndarray, "P K 2"], Float32[np.ndarray, "P K"], Bool[np.ndarray, "P K"]]:
    """Return people's keypoints in network pixels, NaN where there is none, their scores up to 1, and which there are.

    Example:
        >>> members, pixels = np.array([[1, -1]], np.int32), np.array([[3, 4], [5, 6]], np.float32)
        >>> points, scores, found = read_people(members, pixels, np.array([0.5, 1.25], np.float32))
        >>> points.tolist(), scores.tolist(), found.tolist()
        ([[[5.0, 6.0], [nan, nan]]], [[1.0, 0.0]], [[True, False]])
    """
    points = np.empty((*members.shape, 2), np.float32)
    keypoint_scores, found = np.empty(members.shape, np.float32), np.empty(members.shape, np.bool_)
    _read(members, pixels, scores, points, keypoint_scores, found)
    return points, keypoint_scores, found
