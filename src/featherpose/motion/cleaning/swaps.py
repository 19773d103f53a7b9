"""Left/right swaps: frames in which the network exchanged a person's left and right joints, found and undone.

Each pair of joints (both knees, both ankles, ...) has two states a frame, as it was read or exchanged. The cheapest
path through the states is the smoothest motion: the cost of three frames in a row is the sum of both joints' absolute
second differences, plus a small price for every exchanged frame, which favors the network's sides in doubt. The path is
found by dynamic programming (Viterbi 1967) over pairs of consecutive states.

Where legs cross, networks often put both joints in one place for a frame and exchange them there. A frame with both
joints in one place carries no information on sides, so it is skipped and the motion is compared across it.

Hands and feet swing farthest and are decided first. For elbows and knees the cost then includes changes in the length
of lower arms and legs, so that the joints of a limb stay on one side.
"""

from __future__ import annotations

import numpy as np

from featherpose.errors import OptionError
from featherpose.jit import kernel
from featherpose.motion.body_points import body_size
from featherpose.motion.cleaning.medians import known_median, median
from featherpose.motion.sequence import PoseSequence, Step
from featherpose.skeleton import Skeleton

__all__ = ["repair_swaps"]

# Joints closer than this share of the body's size are in one place.
_APART = 0.03
# Joint -> the one further out, to which it has a bone of constant length.
_OUTER = {"knee": "ankle", "elbow": "wrist"}
_BONE_WEIGHT = 0.5


def repair_swaps(sequence: PoseSequence, *, price: float = 0.01, max_gap_s: float = 0.25) -> PoseSequence:
    """Exchange left and right joints back where that makes the motion smooth.

    Args:
        sequence: Poses over time.
        price: Least cost of an exchanged frame, in body sizes of second difference. Higher trusts the network more.
            Where joints shake by more than this, the usual second difference is the price: of two shaking joints in one
            place the smoother assignment is no better one.
        max_gap_s: A pair that is missing for longer starts anew, as it was read.

    Returns:
        The sequence with exchanged keypoints and scores; ``Step.changed`` counts joints.

    Raises:
        OptionError: If the price is not positive.
    """
    if not price > 0:
        raise OptionError(f"price is {price}", expected="a positive number")
    keypoints, scores = sequence.keypoints.copy(), sequence.scores.copy()
    sizes = body_size(sequence)
    changed = 0
    for p in range(sequence.num_people):
        if not sizes[p] > 0:
            continue
        for left, right in _outer_first(sequence.skeleton):
            pair = keypoints[:, p, [left, right]]
            apart = np.hypot(*(pair[:, 0] - pair[:, 1]).T) > _APART * sizes[p]  # False for a missing joint
            bones = _bone_costs(sequence.skeleton, keypoints[:, p], left, right) / sizes[p]
            for run in _runs(np.flatnonzero(apart), sequence.timestamps_s, max_gap_s):
                swapped = run[_cheapest(pair[run] / sizes[p], sequence.timestamps_s[run], price, bones[run])]
                if not len(swapped):
                    continue
                keypoints[swapped[:, None], p, [left, right]] = keypoints[swapped[:, None], p, [right, left]]
                scores[swapped[:, None], p, [left, right]] = scores[swapped[:, None], p, [right, left]]
                changed += 2 * len(swapped)
    text = f"exchanged {changed:,} joints whose left and right were swapped"
    step = Step("repair_swaps", {"price": price, "max_gap_s": max_gap_s}, changed, text)
    return sequence.changed(keypoints, step, scores=scores)


def _outer_first(skeleton: Skeleton) -> list[tuple[int, int]]:
    outer = set(_OUTER.values())
    return sorted(skeleton.flip_pairs, key=lambda pair: skeleton.keypoints[pair[0]].partition("_")[2] not in outer)


def _bone_costs(skeleton: Skeleton, points: np.ndarray, left: int, right: int) -> np.ndarray:
    """Return float64[T, 2]: deviation of bones to the outer joints from their usual length, as read and exchanged."""
    names = skeleton.keypoints
    part = _OUTER.get(names[left].partition("_")[2])
    costs = np.zeros((len(points), 2))
    if part is None or f"left_{part}" not in names or f"right_{part}" not in names:
        return costs
    ends = points[:, [names.index(f"left_{part}"), names.index(f"right_{part}")]]
    for state, order in enumerate(([left, right], [right, left])):
        vectors = ends - points[:, order]
        lengths = np.hypot(vectors[..., 0], vectors[..., 1])
        if state == 0:
            usual = known_median(lengths, otherwise=0.0)
        costs[:, state] = _BONE_WEIGHT * np.nan_to_num(np.abs(lengths - usual)).sum(-1)
    return costs


def _runs(rows: np.ndarray, times: np.ndarray, max_gap_s: float) -> list[np.ndarray]:
    if len(rows) < 4:
        return []
    cuts = np.flatnonzero(np.diff(times[rows]) > max_gap_s) + 1
    return [run for run in np.split(rows, cuts) if len(run) >= 4]


def _cheapest(pair: np.ndarray, times: np.ndarray, price: float, bones: np.ndarray) -> np.ndarray:
    """Return bool[n]: which rows of a pair [n, 2, 2] to exchange; ``bones`` [n, 2] are costs of the two states."""
    costs = _bends(np.ascontiguousarray(pair), times, median(np.diff(times)))
    price = max(price, median(costs[0]))
    extra = price + bones[:, 1] - bones[:, 0]  # of an exchanged row
    if (costs[0] <= costs[1:4].min(0) + price / 4).all() and (extra >= price).all():
        # The usual case, decided at once: an exchange of m frames alters at most three triples if m is 1 and four
        # otherwise, so it saves less than its price.
        return np.zeros(len(pair), bool)
    return _viterbi(costs, np.ascontiguousarray(extra))


@kernel
def _bends(pair: np.ndarray, times: np.ndarray, usual_s: float) -> np.ndarray:
    """Return float64[8, n - 2]: cost of three rows of a pair [n, 2, 2] in states a, b, c = bits of the index.

    It is the second difference of both joints on uneven times: the step after, less the step before stretched to the
    same time.
    """
    costs = np.empty((8, len(pair) - 2))
    for i in range(len(pair) - 2):
        before, after = times[i + 1] - times[i], times[i + 2] - times[i + 1]
        stretch, weight = after / before, usual_s / after
        for b in range(2):
            for c in range(2):
                bend = 0.0
                for joint in range(2):
                    last, here, next_ = pair[i, joint], pair[i + 1, joint ^ b], pair[i + 2, joint ^ c]
                    x = next_[0] - here[0] - stretch * (here[0] - last[0])
                    y = next_[1] - here[1] - stretch * (here[1] - last[1])
                    bend += np.sqrt(x * x + y * y)
                costs[2 * b + c, i] = weight * bend
                # Exchanging all three changes nothing.
                costs[7 - 2 * b - c, i] = weight * bend
    return costs


@kernel
def _viterbi(costs: np.ndarray, fee: np.ndarray) -> np.ndarray:
    """Return bool[n]: the cheapest path; ``costs`` [8, n - 2] of rows in states a, b, c = bits of the index."""
    n = len(fee)
    best = np.array([0.0, fee[1], fee[0], fee[0] + fee[1]])  # of paths that end in states b, c = bits of the index
    came = np.zeros((n - 2, 4), np.bool_)
    new = np.empty(4)
    for i in range(n - 2):
        for b in range(2):
            for c in range(2):
                kept = best[b] + costs[2 * b + c, i]
                other = best[2 + b] + costs[4 + 2 * b + c, i]
                came[i, 2 * b + c] = other < kept
                new[2 * b + c] = min(kept, other) + c * fee[i + 2]
        best[:] = new
    at = 0
    for k in range(1, 4):
        if best[k] < best[at]:
            at = k
    path = np.zeros(n, np.bool_)
    path[n - 1], path[n - 2] = at % 2 == 1, at // 2 == 1
    for i in range(n - 3, -1, -1):
        first = 1 if came[i, at] else 0
        path[i] = first == 1
        at = 2 * first + at // 2
    return path
