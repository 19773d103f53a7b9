"""Keypoints that no body could have: bones seen much too long, or collapsed at once.

The image of a bone is at most as long as the bone, and it shortens as the bone turns toward the camera, over several
frames. A network that cannot see a joint puts it elsewhere: on the other leg, which makes a bone too long, or beside
the next joint, which lets it collapse from one frame to the next. The angle there is then that of an arrow of a few
pixels.

How long a bone may be follows from the body's proportions (Drillis & Contini 1966; Winter 2009) and from the size of
the person at that time, of which all bones are a measure.
"""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
from scipy.ndimage import median_filter

from featherpose.errors import OptionError
from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.runs import true_runs
from featherpose.motion.sequence import PoseSequence, Step

__all__ = ["reject_bones"]

# Limbs from the trunk outward.
_LIMBS = tuple(
    tuple(f"{side}_{part}" for part in parts)
    for parts in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
    for side in ("left", "right")
)
# Lengths of bones in statures, by their ends.
_PARTS = {"knee": 0.245, "ankle": 0.246, "elbow": 0.186, "wrist": 0.146}
_BONES = {("mid_hip", "neck"): 0.288} | {
    (inner, outer): _PARTS[outer.partition("_")[2]] for limb in _LIMBS for inner, outer in pairwise(limb)
}
# The person's size is that of the more stretched bones, and changes slowly.
_STRETCHED = 75
_SIZE_WINDOW_S = 2.0
_MIN_BONES = 3
# Frames on both sides that confirm a keypoint, and how many are enough: those of the outlier identifier.
_AROUND = 3
_CONFIRMED = 3


def reject_bones(
    sequence: PoseSequence, *, longest: float = 1.5, collapsed: float = 0.3, jump: float = 0.35
) -> PoseSequence:
    """Mark keypoints at the outer end of impossible bones as missing.

    Args:
        sequence: Poses over time.
        longest: Bones over this multiple of the length that fits the person are impossible.
        collapsed: Bones under this share of it are, if they came to it or leave it by a jump.
        jump: Change of length from one frame to the next that is a jump, as a share of the bone's length.

    Returns:
        The sequence without the knees, ankles, elbows and wrists concerned. Where both bones of a limb are impossible,
        the joint between them is taken out.

    Raises:
        OptionError: If the limits do not lie in order.

    Example:
        >>> from featherpose.evaluation.motion.known_people import squatting
        >>> squats = squatting(1).sequence
        >>> points = squats.keypoints.copy()
        >>> knee, ankle = (squats.skeleton.index(f"left_{part}") for part in ("knee", "ankle"))
        >>> points[40:50, 0, ankle] = points[40:50, 0, knee] + 5
        >>> hurt = PoseSequence.from_arrays(points, squats.timestamps_s, squats.skeleton)
        >>> reject_bones(squats).steps[0].changed, reject_bones(hurt).steps[0].changed
        (0, 10)
    """
    if not 0 < collapsed < 1 < longest or not jump > 0:
        raise OptionError(f"bones of {collapsed} to {longest} times their length", expected="a range around 1")
    names = sequence.skeleton.keypoints
    points = body_points(sequence, ["neck", "mid_hip", *chain.from_iterable(_LIMBS)])
    lengths = {
        (a, b): np.hypot(*np.moveaxis(points[b] - points[a], -1, 0)) for a, b in _BONES if a in points and b in points
    }
    size = _size(lengths, sequence)
    out = np.zeros(sequence.found.shape, bool)
    for limb in _LIMBS:
        first, second = (
            _impossible(lengths[ends], size * _BONES[ends], longest, collapsed, jump) if ends in lengths else None
            for ends in pairwise(limb)
        )
        _, middle, outer = limb
        if first is not None and middle in names:
            out[..., names.index(middle)] |= first
        if second is not None and outer in names:
            # With the joint between them elsewhere both bones are wrong, and this end may be right.
            out[..., names.index(outer)] |= second if first is None else second & ~first
    out &= sequence.found
    out |= _unconfirmed(sequence.found & ~out, out)
    count = int(out.sum())
    step = Step(
        "reject_bones",
        {"longest": longest, "collapsed": collapsed, "jump": jump},
        count,
        f"rejected {count:,} keypoints at the end of bones of impossible length",
    )
    return sequence.without(out, step)


def _unconfirmed(kept: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """Return bool[T, P, K]: kept keypoints that stand almost alone among rejected ones.

    Within ``_AROUND`` frames on both sides are more rejected ones, and too few others for the outlier identifier to
    judge. A gap filled up to such a keypoint would be as wrong as it is.
    """
    out = np.zeros(kept.shape, bool)
    for p, k in np.argwhere(rejected.any(0)).tolist():
        near = np.ones(2 * _AROUND + 1, int)
        others, bad = (np.convolve(each[:, p, k], near)[_AROUND:-_AROUND] for each in (kept, rejected))
        out[:, p, k] = kept[:, p, k] & (others < _CONFIRMED) & (bad > others)
    return out


def _size(lengths: dict[tuple[str, str], np.ndarray], sequence: PoseSequence) -> np.ndarray:
    """Return float64[T, P]: the stature that the stretched bones of each time belong to; NaN if too few are seen."""
    sizes = np.full((sequence.num_frames, sequence.num_people), np.nan)
    if len(lengths) < _MIN_BONES:
        return sizes
    bones = np.sort(np.stack([length / _BONES[ends] for ends, length in lengths.items()]), axis=0)  # NaN last
    count = np.isfinite(bones).sum(0)
    place = np.maximum((count - 1) * _STRETCHED // 100, 0)
    each = np.where(count >= _MIN_BONES, np.take_along_axis(bones, place[None], 0)[0], np.nan)
    window = max(1, round(_SIZE_WINDOW_S * sequence.rate_hz)) if sequence.num_frames > 1 else 1
    for p in range(sequence.num_people):
        known = np.flatnonzero(np.isfinite(each[:, p]))
        if len(known):
            smooth = median_filter(each[known, p], size=min(window, len(known)), mode="nearest")
            sizes[:, p] = np.interp(np.arange(len(each)), known, smooth)
    return sizes


def _impossible(length: np.ndarray, usual: np.ndarray, longest: float, collapsed: float, jump: float) -> np.ndarray:
    """Return bool[T, P]: bones that are too long, or part of a stretch of collapsed ones that a jump begins or ends."""
    share = length / usual
    out = share > longest
    low = share < collapsed
    for p in np.flatnonzero(low.any(0)).tolist():
        seen = np.flatnonzero(np.isfinite(share[:, p]))
        value, is_low = share[seen, p], low[seen, p]
        for first, end in true_runs(is_low):
            came = first > 0 and value[first - 1] - value[first] > jump
            left = end < len(value) and value[end] - value[end - 1] > jump
            if came or left:
                out[seen[first:end], p] = True
    return np.asarray(out)
