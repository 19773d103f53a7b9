"""Peaks of heatmaps, and people as groups of peaks with similar tags (Newell et al. 2017, arXiv 1611.05424, 3.3).

Keypoints are taken one after another from the head down. The peaks of one are assigned to the people so far by an
optimal assignment over the rounded distance of tags, and among equal distances by the peak's height; a peak that is
farther than the limit from the person it was given, or that was given none, starts a person. Everything is compiled;
`featherpose.evaluation.reference.tags` has the plain form.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from featherpose.jit import kernel

__all__ = ["MAX_PEAKS", "assign", "fill", "find_peaks", "group"]

MAX_PEAKS = 30
"""Most peaks of one keypoint (section 3.3)."""

# Costs are this many times the rounded distance, less the height: height decides among equal distances only.
_DISTANCE = 100.0
_FAR = 1e6
_REACH = 2


@kernel
def _find_peaks(heatmap, threshold, xs, ys, scores):  # type: ignore[no-untyped-def]
    """Find the highest cells of 5x5 around them, best first; of equal ones the first in reading order."""
    height, width = heatmap.shape
    limit = len(scores)
    count = 0
    for y in range(height):
        for x in range(width):
            value = heatmap[y, x]
            if not value > threshold:  # False for NaN
                continue
            highest = True
            for v in range(max(y - _REACH, 0), min(y + _REACH + 1, height)):
                for u in range(max(x - _REACH, 0), min(x + _REACH + 1, width)):
                    other = heatmap[v, u]
                    if other > value or (other == value and (v < y or (v == y and u < x))):
                        highest = False
            if not highest or (count == limit and not value > scores[limit - 1]):
                continue
            place = min(count, limit - 1)
            while place > 0 and scores[place - 1] < value:
                xs[place], ys[place], scores[place] = xs[place - 1], ys[place - 1], scores[place - 1]
                place -= 1
            xs[place], ys[place], scores[place] = x, y, value
            count = min(count + 1, limit)
    return count


@kernel
def assign(costs):  # type: ignore[no-untyped-def]
    """Assign each row to a column of its own at the least total cost; there are no more rows than columns.

    Shortest augmenting paths (Jonker and Volgenant 1987), in O(rows² columns).

    Args:
        costs: float64[n, m], n ≤ m.

    Returns:
        int64[n]: the column of each row.
    """
    n, m = costs.shape
    row_price = np.zeros(n + 1)
    column_price = np.zeros(m + 1)
    taken = np.zeros(m + 1, np.int64)  # row + 1 of each column + 1, 0 for none
    before = np.zeros(m + 1, np.int64)
    for row in range(1, n + 1):
        taken[0] = row
        column = 0
        shortest = np.full(m + 1, np.inf)
        done = np.zeros(m + 1, np.bool_)
        while True:
            done[column] = True
            here = taken[column]
            step = np.inf
            following = 0
            for j in range(1, m + 1):
                if done[j]:
                    continue
                reduced = costs[here - 1, j - 1] - row_price[here] - column_price[j]
                if reduced < shortest[j]:
                    shortest[j] = reduced
                    before[j] = column
                if shortest[j] < step:
                    step = shortest[j]
                    following = j
            for j in range(m + 1):
                if done[j]:
                    row_price[taken[j]] += step
                    column_price[j] -= step
                else:
                    shortest[j] -= step
            column = following
            if taken[column] == 0:
                break
        while column != 0:
            taken[column] = taken[before[column]]
            column = before[column]
    found = np.full(n, -1, np.int64)
    for j in range(1, m + 1):
        if taken[j]:
            found[taken[j] - 1] = j - 1
    return found


@kernel
def _group(peaks, counts, order, max_distance, members, tags):  # type: ignore[no-untyped-def]
    """Fill ``members`` (person, keypoint) with peak numbers, -1 for none; return the number of people."""
    people = 0
    limit = len(members)
    sizes = np.zeros(limit, np.int64)
    for step in range(len(order)):
        k = order[step]
        n = counts[k]
        if n == 0:
            continue
        known = people
        chosen = np.full(n, -1, np.int64)
        if known:
            # As many columns more as there are peaks: nobody has to be given a person.
            costs = np.full((n, known + n), _FAR)
            for i in range(n):
                for p in range(known):
                    distance = abs(np.float64(peaks[k, i, 3]) - tags[p])
                    costs[i, p] = np.rint(distance) * _DISTANCE - peaks[k, i, 2]
            found = assign(costs)
            for i in range(n):
                p = found[i]
                if p < known and abs(np.float64(peaks[k, i, 3]) - tags[p]) < max_distance:
                    chosen[i] = p
        for i in range(n):
            p = chosen[i]
            if p < 0:
                if people == limit:
                    continue
                p = people
                people += 1
            members[p, k] = i
            tags[p] = (tags[p] * sizes[p] + peaks[k, i, 3]) / (sizes[p] + 1)
            sizes[p] += 1
    return people


@kernel
def fill(heatmap, tagmap, tag, threshold):  # type: ignore[no-untyped-def]
    """Find the cell that suits a person best: height less the rounded distance of tags.

    Returns:
        (x, y, height); height 0 where no cell is above the threshold.
    """
    height, width = heatmap.shape
    best = -np.inf
    row = 0
    column = 0
    for y in range(height):
        for x in range(width):
            value = heatmap[y, x] - np.rint(abs(np.float64(tagmap[y, x]) - tag))
            if value > best:
                best = value
                row = y
                column = x
    found = heatmap[row, column]
    if not found > threshold or abs(np.float64(tagmap[row, column]) - tag) >= 1:
        found = np.float32(0)
    return column, row, found


def find_peaks(
    heatmaps: Float32[np.ndarray, "K h w"], tags: Float32[np.ndarray, "K h w"], threshold: float
) -> tuple[Float32[np.ndarray, "K M 4"], Int64[np.ndarray, " K"]]:
    """Find the peaks of every keypoint.

    Returns:
        (x, y, height, tag) of up to 30 peaks a keypoint, best first, in cells; and how many there are.

    Example:
        >>> heatmaps = np.zeros((1, 4, 6), np.float32)
        >>> heatmaps[0, 1, 4] = 0.9
        >>> peaks, counts = find_peaks(heatmaps, np.ones_like(heatmaps), 0.2)
        >>> counts.tolist(), peaks[0, 0].round(2).tolist()
        ([1], [4.0, 1.0, 0.8999999761581421, 1.0])
    """
    k = len(heatmaps)
    peaks, counts = np.zeros((k, MAX_PEAKS, 4), np.float32), np.zeros(k, np.int64)
    xs, ys = np.zeros(MAX_PEAKS, np.int64), np.zeros(MAX_PEAKS, np.int64)
    for number in range(k):
        scores = np.zeros(MAX_PEAKS, np.float32)
        n = _find_peaks(np.ascontiguousarray(heatmaps[number], np.float32), np.float32(threshold), xs, ys, scores)
        counts[number] = n
        peaks[number, :n, 0], peaks[number, :n, 1], peaks[number, :n, 2] = xs[:n], ys[:n], scores[:n]
        peaks[number, :n, 3] = tags[number, ys[:n], xs[:n]]
    return peaks, counts


def group(
    peaks: Float32[np.ndarray, "K M 4"],
    counts: Int64[np.ndarray, " K"],
    order: Int64[np.ndarray, " K"],
    max_distance: float,
) -> tuple[Int64[np.ndarray, "P K"], Float32[np.ndarray, " P"]]:
    """Join peaks to people.

    Args:
        peaks: Of `find_peaks`.
        counts: Peaks of each keypoint.
        order: In which keypoints are taken.
        max_distance: A peak whose tag is farther from a person's mean tag starts a person of its own.

    Returns:
        The peak of each person's keypoints, -1 for none, and the mean tag of each person.
    """
    limit = int(counts.sum())
    members, tags = np.full((limit, len(peaks)), -1, np.int64), np.zeros(limit)
    people = int(_group(peaks, counts, order, max_distance, members, tags)) if limit else 0
    return members[:people], tags[:people].astype(np.float32)
