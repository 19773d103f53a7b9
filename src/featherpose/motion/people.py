"""Choice of people: everyone, one person by id, or the largest, most central or longest seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from featherpose.errors import OptionError
from featherpose.motion.body_points import body_size
from featherpose.motion.sequence import PoseSequence, Step

__all__ = ["PersonChoice", "choose_people", "person_at"]

PersonChoice = Literal["all", "largest", "central", "longest"]

# A track of a few frames is no movement to analyze.
_MIN_SECONDS = 0.5
# What a network takes for a person on a machine or a coat is unsure, and small or brief beside the real people. Both
# must hold: the mean score, and the product of score, size and frames as a share of the greatest.
_UNSURE = 0.4
_SLIGHT = 0.15


def choose_people(sequence: PoseSequence, who: str | int = "all", *, min_seconds: float = _MIN_SECONDS) -> PoseSequence:
    """Keep the chosen people.

    Args:
        sequence: Everyone.
        who: ``all`` (seen for ``min_seconds`` or longer, and not both unsure and slight beside the others: a network
            sees people in machines), ``largest``, ``central``, ``longest``, or an id.
        min_seconds: Least time for ``all``; if no person is seen that long, all people stay.

    Raises:
        OptionError: If the choice is unknown or no person has the id.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> points = np.zeros((20, 2, 1, 2))
        >>> points[5:, 1] = np.nan
        >>> two = PoseSequence.from_arrays(points, np.arange(20) / 10, Skeleton.create("dot", ["tip"], []))
        >>> choose_people(two, "longest").track_ids
        (0,)
    """
    if isinstance(who, int) or who.lstrip("-").isdigit():
        return sequence.person(int(who))
    seen = sequence.found.any(-1)
    if who == "all":
        step = 1 / sequence.rate_hz if sequence.num_frames > 1 else 0.0
        long = np.flatnonzero(seen.sum(0) * step >= min_seconds)
        sequence = sequence.select(long.tolist()) if len(long) else sequence
        return _without_phantoms(sequence)
    frames = seen.sum(0)
    if who == "longest":
        return sequence.select([int(frames.argmax())])
    if who == "largest":
        # A large person who passes by for a moment is not meant.
        weight = np.nan_to_num(body_size(sequence)) * np.sqrt(frames / max(1, frames.max()))
        return sequence.select([int(weight.argmax())])
    if who == "central":
        width, height = sequence.image_size
        if not width:
            raise OptionError("the size of the image is unknown", hint="choose largest, longest or an id")
        counts = np.maximum(sequence.found.sum((0, 2)), 1)[:, None]
        centers = np.nan_to_num(sequence.keypoints).sum((0, 2)) / counts
        away = np.hypot(*((centers - (width / 2, height / 2)) / (width, height)).T)
        away[frames < 0.25 * frames.max()] = np.inf
        return sequence.select([int(away.argmin())])
    raise OptionError(f"person {who!r}", expected="all, largest, central, longest or an id")


def _without_phantoms(sequence: PoseSequence) -> PoseSequence:
    frames = sequence.found.any(-1).sum(0)
    sureness = sequence.scores.sum((0, 2)) / np.maximum((sequence.scores > 0).sum((0, 2)), 1)
    weight = sureness * np.nan_to_num(body_size(sequence)) * frames
    slight = (sureness < _UNSURE) & (weight < _SLIGHT * weight.max(initial=0.0))
    if not slight.any():
        return sequence
    ids = ", ".join(str(number) for number, out in zip(sequence.track_ids, slight, strict=True) if out)
    text = f"left out {slight.sum()} unsure and slight beside the others; --person chooses them: {ids}"
    kept = sequence.select(np.flatnonzero(~slight).tolist())
    return replace(kept, steps=(*kept.steps, Step("choose_people", {}, int(slight.sum()), text)))


def person_at(sequence: PoseSequence, x: float, y: float, frame: int = 0) -> int:
    """Return the id of the person whose nearest keypoint in a frame is closest to a point of the image, for a click.

    Raises:
        OptionError: If no person is in the frame.
    """
    apart = np.hypot(sequence.keypoints[frame, ..., 0] - x, sequence.keypoints[frame, ..., 1] - y)
    apart = np.where(np.isfinite(apart), apart, np.inf).min(-1)
    if not np.isfinite(apart).any():
        raise OptionError(f"nobody is in frame {frame}", hint="choose another frame")
    return sequence.track_ids[int(apart.argmin())]
