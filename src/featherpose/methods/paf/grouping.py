"""Limbs to people: limbs that share a keypoint belong to one person.

The limbs are taken by score, best first, so that of two that contradict each other the better one stands and the
other is never counted. Every peak has at most one owner, and every peak and limb is counted once:

- a limb between two free peaks starts a person;
- a limb from an owned to a free peak extends its person, unless the person has another keypoint of that kind;
- a limb between two people merges them when they have no keypoint in common;
- a limb within one person confirms it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from featherpose.jit import kernel
from featherpose.methods.paf.limbs import limb_score, order_by_score

__all__ = ["Groups", "complete_people", "group_limbs"]


class Groups(NamedTuple):
    """P people as rows of peaks.

    Attributes:
        members: int32[P, K], index of the peak that is the person's keypoint k, -1 where there is none.
        sums: float32[P], keypoint scores plus the scores of the limbs between them.
    """

    members: Int32[np.ndarray, "P K"]
    sums: Float32[np.ndarray, " P"]


@kernel
def _group(peak_scores, num_keypoints, limbs, joins, types, ends, scores):  # type: ignore[no-untyped-def]
    count = types.shape[0]
    owner = np.empty(peak_scores.shape[0], np.int32)
    for i in range(owner.shape[0]):
        owner[i] = -1
    members = np.empty((count, num_keypoints), np.int32)
    sums = np.zeros(count, np.float32)
    alive = np.zeros(count, np.bool_)
    people = 0
    order = order_by_score(scores, np.int64(count))
    for late in range(2):
        for o in range(count):
            m = order[o]
            kind = types[m]
            if joins[kind] == (late == 1):
                continue
            a = limbs[kind, 0]
            b = limbs[kind, 1]
            p = ends[m, 0]
            q = ends[m, 1]
            first = owner[p]
            second = owner[q]
            if first < 0 and second < 0:
                if late == 0:
                    for k in range(num_keypoints):
                        members[people, k] = -1
                    members[people, a] = p
                    members[people, b] = q
                    sums[people] = peak_scores[p] + peak_scores[q] + scores[m]
                    alive[people] = True
                    owner[p] = people
                    owner[q] = people
                    people += 1
            elif second < 0:
                if members[first, b] < 0:
                    members[first, b] = q
                    sums[first] += peak_scores[q] + (scores[m] if late == 0 else np.float32(0))
                    owner[q] = first
            elif first < 0:
                if members[second, a] < 0:
                    members[second, a] = p
                    sums[second] += peak_scores[p] + (scores[m] if late == 0 else np.float32(0))
                    owner[p] = second
            elif first == second:
                if late == 0:
                    sums[first] += scores[m]
            elif late == 0:
                apart = True
                for k in range(num_keypoints):
                    if members[first, k] >= 0 and members[second, k] >= 0:
                        apart = False
                        break
                if apart:
                    for k in range(num_keypoints):
                        if members[second, k] >= 0:
                            members[first, k] = members[second, k]
                            owner[members[second, k]] = first
                    sums[first] += sums[second] + scores[m]
                    alive[second] = False
    kept = 0
    for i in range(people):
        if alive[i]:
            for k in range(num_keypoints):
                members[kept, k] = members[i, k]
            sums[kept] = sums[i]
            kept += 1
    return members, sums, kept


@kernel
def _complete(  # type: ignore[no-untyped-def]
    members,
    sums,
    positions,
    peak_scores,
    starts,
    pafs,
    limbs,
    samples,
    threshold,
    part,
    every_cell,
    least,
    longest,
    reach,
):
    people = members.shape[0]
    num_limbs = limbs.shape[0]
    taken = np.zeros(positions.shape[0], np.bool_)
    for i in range(people):
        for k in range(members.shape[1]):
            if members[i, k] >= 0:
                taken[members[i, k]] = True
    order = order_by_score(sums, np.int64(people))
    for o in range(people):
        i = order[o]
        # A person's own limbs bound the distance of the next joint: without this bound faint fields across a crowd
        # would assign the joints of distant people.
        own = np.float32(0)
        for limb in range(num_limbs):
            a = members[i, limbs[limb, 0]]
            b = members[i, limbs[limb, 1]]
            if a >= 0 and b >= 0:
                dx = positions[a, 0] - positions[b, 0]
                dy = positions[a, 1] - positions[b, 1]
                own = max(own, dx * dx + dy * dy)
        bound = min(longest * longest, reach * reach * own)
        grown = True
        while grown:
            grown = False
            for limb in range(num_limbs):
                a = limbs[limb, 0]
                b = limbs[limb, 1]
                if (members[i, a] >= 0) == (members[i, b] >= 0):
                    continue
                forward = members[i, a] >= 0
                anchor = members[i, a] if forward else members[i, b]
                missing = b if forward else a
                best = -1
                best_field = least
                for q in range(starts[missing], starts[missing + 1]):
                    if taken[q]:
                        continue
                    dx = positions[q, 0] - positions[anchor, 0]
                    dy = positions[q, 1] - positions[anchor, 1]
                    if dx * dx + dy * dy > bound:
                        continue
                    tail = anchor if forward else q
                    head = q if forward else anchor
                    field = limb_score(
                        pafs[limbs[limb, 2]], pafs[limbs[limb, 3]],
                        positions[tail, 0], positions[tail, 1], positions[head, 0], positions[head, 1],
                        samples, threshold, part, every_cell,
                    )  # fmt: skip
                    if field > best_field:
                        best = q
                        best_field = field
                if best >= 0:
                    members[i, missing] = best
                    taken[best] = True
                    sums[i] += peak_scores[best] + best_field
                    grown = True


def group_limbs(
    peak_scores: Float32[np.ndarray, " N"],
    num_keypoints: int,
    limbs: Int32[np.ndarray, "L 4"],
    joins: Bool[np.ndarray, " L"],
    types: Int32[np.ndarray, " M"],
    ends: Int32[np.ndarray, "M 2"],
    scores: Float32[np.ndarray, " M"],
) -> Groups:
    """Join matched limbs to people.

    Args:
        peak_scores: float32[N].
        num_keypoints: K.
        limbs: int32[L, 4] keypoints a, b and the channels of x and y.
        joins: bool[L]; limbs that are False only lend a free peak to a person, after all others.
        types: int32[M] limb of each match.
        ends: int32[M, 2] peaks of each match.
        scores: float32[M] score of each match.

    Example:
        >>> group_limbs(
        ...     np.array([0.5, 0.25, 0.75], np.float32),
        ...     3,
        ...     np.array([[0, 1, 0, 1], [1, 2, 2, 3]], np.int32),
        ...     np.array([True, True]),
        ...     np.array([0, 1], np.int32),
        ...     np.array([[0, 1], [1, 2]], np.int32),
        ...     np.array([1.0, 0.5], np.float32),
        ... )
        Groups(members=array([[0, 1, 2]], dtype=int32), sums=array([3.], dtype=float32))
    """
    members, sums, kept = _group(peak_scores, num_keypoints, limbs, joins, types, ends, scores)
    return Groups(members[:kept], sums[:kept])


def complete_people(
    groups: Groups,
    positions: Float32[np.ndarray, "N 2"],
    peak_scores: Float32[np.ndarray, " N"],
    starts: Int32[np.ndarray, " K1"],
    pafs: Float32[np.ndarray, "D v u"],
    limbs: Int32[np.ndarray, "L 4"],
    *,
    samples: int,
    threshold: float,
    min_part: float,
    every_cell: bool,
    min_field: float,
    max_length: float,
    reach: float,
) -> None:
    """Give free peaks, weak ones too, to people who lack that keypoint; the best people choose first.

    ``groups`` is changed in place. Arguments as for `match_limbs`; ``min_field`` is the mean projected field that the
    connecting limb must exceed, ``reach`` how many times as long as the longest limb of the person it may be.
    """
    _complete(
        groups.members, groups.sums, positions, peak_scores, starts, pafs, limbs,
        samples, np.float32(threshold), np.float32(min_part), every_cell, np.float32(min_field), np.float32(max_length),
        np.float32(reach),
    )  # fmt: skip
