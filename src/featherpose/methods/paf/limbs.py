"""Peaks to limbs: every pair of candidates is weighed by the part affinity field between them.

Cao et al. 2017, section 3.2: the line integral of the field along the limb, here as the mean of samples that are
interpolated bilinearly from the coarse map, so the fields are never resized. All pairs of all limbs are scored in one
compiled pass; a pair is given up as soon as too many of its samples have failed, and in crowds near pairs go first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from featherpose.jit import kernel

__all__ = ["Limbs", "limb_score", "limb_support", "match_limbs", "order_by_score"]


# Where near limbs go first: kinds of limbs with more pairs than this, as far as so many neighbors reach on average,
# settled when their score exceeds this.
_FEW_PAIRS = 144
_NEIGHBORS = 6
_SURE = np.float32(0.4)


class Limbs(NamedTuple):
    """M matched limbs, by limb type and within one type best first.

    Attributes:
        types: int32[M], index of the limb in the skeleton.
        ends: int32[M, 2], indices of the two peaks.
        scores: float32[M], mean projected field.
    """

    types: Int32[np.ndarray, " M"]
    ends: Int32[np.ndarray, "M 2"]
    scores: Float32[np.ndarray, " M"]


@kernel
def limb_support(field_x, field_y, xa, ya, xb, yb, samples, threshold, needed):  # type: ignore[no-untyped-def]
    """Return (sum of the projections, samples over the threshold) along a limb from a to b, in PAF cells.

    Reading stops early, with too low a count, once ``needed`` samples can no longer support the limb.
    """
    height, width = field_x.shape
    dx = xb - xa
    dy = yb - ya
    length = np.sqrt(dx * dx + dy * dy)
    if not length > np.float32(1e-6):
        return np.float32(0), 0
    ux = dx / length
    uy = dy / length
    step = np.float32(1) / np.float32(samples - 1)
    total = np.float32(0)
    good = 0
    bad = 0
    stride = 3 if samples % 3 != 0 else 1
    at = samples // 2
    for _ in range(samples):
        # Not in order along the limb: neighbors agree, so distant samples refute a wrong pair sooner.
        at += stride
        if at >= samples:
            at -= samples
        t = np.float32(at) * step
        x = min(max(xa + t * dx, np.float32(0)), np.float32(width - 1))
        y = min(max(ya + t * dy, np.float32(0)), np.float32(height - 1))
        column = int(x)
        row = int(y)
        right = min(column + 1, width - 1)
        below = min(row + 1, height - 1)
        fx = x - np.float32(column)
        fy = y - np.float32(row)
        w00 = (np.float32(1) - fx) * (np.float32(1) - fy)
        w01 = fx * (np.float32(1) - fy)
        w10 = (np.float32(1) - fx) * fy
        w11 = fx * fy
        value = ux * (
            w00 * field_x[row, column] + w01 * field_x[row, right]
            + w10 * field_x[below, column] + w11 * field_x[below, right]
        ) + uy * (
            w00 * field_y[row, column] + w01 * field_y[row, right]
            + w10 * field_y[below, column] + w11 * field_y[below, right]
        )  # fmt: skip
        total += value
        if value > threshold:
            good += 1
        else:
            bad += 1
            if bad > samples - needed:
                break
    return total, good


@kernel
def limb_score(field_x, field_y, xa, ya, xb, yb, samples, threshold, part, every_cell):  # type: ignore[no-untyped-def]
    """Return the mean projected field along a limb, -1 when no more than ``part`` of the samples support it.

    A limb that passes and whose samples lie more than a cell apart is read again, once a cell, if ``every_cell``.
    """
    needed = int(np.floor(part * np.float32(samples))) + 1
    total, good = limb_support(field_x, field_y, xa, ya, xb, yb, samples, threshold, needed)
    if good < needed:
        return np.float32(-1)
    count = samples
    dx = xb - xa
    dy = yb - ya
    cells = np.sqrt(dx * dx + dy * dy)
    if every_cell and cells > np.float32(samples - 1):
        count = int(np.ceil(cells)) + 1
        needed = int(np.floor(part * np.float32(count))) + 1
        total, good = limb_support(field_x, field_y, xa, ya, xb, yb, count, threshold, needed)
        if good < needed:
            return np.float32(-1)
    return total / np.float32(count)


@kernel
def _sift_down(scores, order, root, end):  # type: ignore[no-untyped-def]
    while 2 * root + 1 < end:
        child = 2 * root + 1
        if child + 1 < end and scores[order[child + 1]] < scores[order[child]]:
            child += 1
        if not scores[order[child]] < scores[order[root]]:
            return
        order[root], order[child] = order[child], order[root]
        root = child


@kernel
def order_by_score(scores, count):  # type: ignore[no-untyped-def]
    """Return the indices of the first ``count`` scores, highest first (heap sort: small to compile, no worst case)."""
    # The casts keep the compiler from making a second version for the constant 0.
    order = np.empty(count, np.int64)
    for i in range(count):
        order[i] = i
    for root in range(count // 2 - 1, -1, -1):
        _sift_down(scores, order, np.int64(root), np.int64(count))
    for end in range(count - 1, 0, -1):
        order[0], order[end] = order[end], order[0]
        _sift_down(scores, order, np.int64(0), np.int64(end))
    return order


@kernel
def _match(  # type: ignore[no-untyped-def]
    positions, starts, ends, pafs, limbs, samples, threshold, part, every_cell, longest, prefer_near_pairs
):
    cells = pafs.shape[1] * pafs.shape[2]
    bound = 0
    for i in range(limbs.shape[0]):
        bound += min(ends[limbs[i, 0]] - starts[limbs[i, 0]], ends[limbs[i, 1]] - starts[limbs[i, 1]])
    types = np.empty(bound, np.int32)
    pairs = np.empty((bound, 2), np.int32)
    scores = np.empty(bound, np.float32)
    matched = 0
    # The last limb, counted from 1, that took the peak as its first or second end.
    taken_first = np.zeros(positions.shape[0], np.int32)
    taken_second = np.zeros(positions.shape[0], np.int32)
    pair_a = np.empty(256, np.int32)
    pair_b = np.empty(256, np.int32)
    pair_score = np.empty(256, np.float32)
    for i in range(limbs.shape[0]):
        a = limbs[i, 0]
        b = limbs[i, 1]
        count_b = ends[b] - starts[b]
        field_x = pafs[limbs[i, 2]]
        field_y = pafs[limbs[i, 3]]
        reach = longest
        rounds = 1
        if prefer_near_pairs and (ends[a] - starts[a]) * count_b > _FEW_PAIRS:
            near = np.sqrt(np.float32(_NEIGHBORS * cells) / (np.float32(np.pi) * np.float32(count_b)))
            if near < longest:
                reach = near
                rounds = 2
        for turn in range(rounds):
            least = np.float32(0)
            if rounds == 2:
                if turn == 0:
                    least = _SURE
                else:
                    reach = longest
            found = 0
            for p in range(starts[a], ends[a]):
                if taken_first[p] == i + 1:
                    continue
                xa = positions[p, 0]
                ya = positions[p, 1]
                for q in range(starts[b], ends[b]):
                    xb = positions[q, 0]
                    yb = positions[q, 1]
                    if (xb - xa) * (xb - xa) + (yb - ya) * (yb - ya) > reach * reach or taken_second[q] == i + 1:
                        continue
                    score = limb_score(field_x, field_y, xa, ya, xb, yb, samples, threshold, part, every_cell)
                    if not score > least:
                        continue
                    if found == pair_score.shape[0]:
                        wider_a = np.empty(2 * found, np.int32)
                        wider_b = np.empty(2 * found, np.int32)
                        wider_score = np.empty(2 * found, np.float32)
                        for f in range(found):
                            wider_a[f] = pair_a[f]
                            wider_b[f] = pair_b[f]
                            wider_score[f] = pair_score[f]
                        pair_a = wider_a
                        pair_b = wider_b
                        pair_score = wider_score
                    pair_a[found] = p
                    pair_b[found] = q
                    pair_score[found] = score
                    found += 1
            order = order_by_score(pair_score, np.int64(found))
            for o in range(found):
                p = pair_a[order[o]]
                q = pair_b[order[o]]
                if taken_first[p] == i + 1 or taken_second[q] == i + 1:
                    continue
                taken_first[p] = i + 1
                taken_second[q] = i + 1
                types[matched] = i
                pairs[matched, 0] = p
                pairs[matched, 1] = q
                scores[matched] = pair_score[order[o]]
                matched += 1
    return types, pairs, scores, matched


def match_limbs(
    positions: Float32[np.ndarray, "N 2"],
    starts: Int32[np.ndarray, " K1"],
    ends: Int32[np.ndarray, " K"],
    pafs: Float32[np.ndarray, "D v u"],
    limbs: Int32[np.ndarray, "L 4"],
    *,
    samples: int,
    threshold: float,
    min_part: float,
    every_cell: bool,
    max_length: float,
    prefer_near_pairs: bool = False,
) -> Limbs:
    """Score all pairs of each limb and take them greedily, best first, each peak once per limb.

    Args:
        positions: float32[N, 2] peaks in PAF cells, sorted by keypoint.
        starts: int32[K + 1] first peak of each keypoint.
        ends: int32[K] behind the last peak of each keypoint that may be used.
        pafs: float32[D, v, u]; not modified.
        limbs: int32[L, 4] keypoints a, b and the channels of x and y.
        samples: Points read along a limb.
        threshold: Projected field that a sample must exceed to support the limb.
        min_part: More than this part of the samples must support it.
        every_cell: Whether a long limb that passes is read again at every cell.
        max_length: Longest limb in PAF cells.
        prefer_near_pairs: In crowds, settle limbs between near peaks that the field clearly supports before all others,
            so that the work grows with the people and not with their square.

    Example:
        >>> pafs = np.zeros((2, 3, 9), np.float32)
        >>> pafs[0, 1] = 1  # a field that points to the right along the middle row
        >>> match_limbs(
        ...     np.array([[1, 1], [7, 1]], np.float32),
        ...     np.array([0, 1, 2], np.int32),
        ...     np.array([1, 2], np.int32),
        ...     pafs,
        ...     np.array([[0, 1, 0, 1]], np.int32),
        ...     samples=10,
        ...     threshold=0.05,
        ...     min_part=0.8,
        ...     every_cell=True,
        ...     max_length=20.0,
        ... )
        Limbs(types=array([0], dtype=int32), ends=array([[0, 1]], dtype=int32), scores=array([1.], dtype=float32))
    """
    types, pairs, scores, matched = _match(
        positions, starts, ends, pafs, limbs,
        samples, np.float32(threshold), np.float32(min_part), every_cell, np.float32(max_length), prefer_near_pairs,
    )  # fmt: skip
    return Limbs(types[:matched], pairs[:matched], scores[:matched])
