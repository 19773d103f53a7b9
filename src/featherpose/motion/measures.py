"""Numbers with unit and uncertainty, and the sources of uncertainty.

The uncertainty is one standard deviation of random error. Systematic errors - a camera that is not at a right angle to
the movement, a joint center that the network places elsewhere - are not included; `featherpose.motion.limits` states
them.

* A time is known to the frame: an event lies anywhere between two frames, which is a uniform distribution of the
  width of a frame, 1 / sqrt(12) of the interval.
* The noise of a coordinate is what the filter removed: the difference of the read and the filtered values, by a robust
  standard deviation, and more where the keypoint's score is low (Gauss' rule of weights: variance ~ 1 / score).
* An angle between two segments follows by the propagation of errors (ISO/IEC Guide 98-3): sigma^2 is the sum of the
  variances of the ends over the squared lengths of their segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from featherpose.motion.angles import ANGLES
from featherpose.motion.body_points import body_points
from featherpose.motion.cleaning.medians import MAD_TO_SIGMA, known_median, median, row_medians
from featherpose.motion.sequence import PoseSequence

__all__ = [
    "Measure",
    "angle_uncertainty",
    "angle_uncertainty_by_row",
    "coordinate_uncertainty",
    "frame_uncertainty_s",
    "score_doubt",
    "seen_scores",
]

_TYPICAL_SCORE = 0.6


@dataclass(frozen=True, slots=True)
class Measure:
    """A number, its unit and its uncertainty.

    Attributes:
        value: The number; NaN if it is unknown.
        unit: Such as ``deg``, ``s``, ``m``, ``px``, ``steps/min``, ``%``, or empty for a count.
        uncertainty: One standard deviation of random error, same unit; NaN if unknown.

    Example:
        >>> print(Measure(92.34, "deg", 1.5))
        92.3 ± 1.5 deg
    """

    value: float
    unit: str = ""
    uncertainty: float = float("nan")

    def __str__(self) -> str:
        if not np.isfinite(self.value):
            return "unknown"
        unit = f" {self.unit}" if self.unit else ""
        if not np.isfinite(self.uncertainty):
            shown = f"{self.value:.0f}" if not self.unit else f"{self.value:.3g}"
            return f"{shown}{unit}"
        digits = max(0, 1 - int(np.floor(np.log10(self.uncertainty)))) if self.uncertainty > 0 else 2
        digits = min(digits, 3) if self.uncertainty < 1 else 1
        return f"{self.value:.{digits}f} ± {self.uncertainty:.{digits}f}{unit}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; unknown values are None."""
        return {
            "value": _plain(self.value),
            "unit": self.unit,
            "uncertainty": _plain(self.uncertainty),
        }


def _plain(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def frame_uncertainty_s(timestamps_s: np.ndarray) -> float:
    """Return the standard deviation of the time of one event, seconds; NaN for a single frame."""
    if len(timestamps_s) < 2:
        return float("nan")
    return float(np.median(np.diff(timestamps_s)) / np.sqrt(12))


def coordinate_uncertainty(sequence: PoseSequence) -> np.ndarray:
    """Return float64[P, K]: standard deviation of a filtered coordinate, in the unit of the sequence.

    What the filter removed is white noise for the most part; a low pass with cut-off f lets through the share
    2 f / rate of its variance. Where nothing was filtered, the noise follows from the second differences of the values
    (for white noise their variance is six times its own).
    """
    filters = [step for step in sequence.steps if step.name == "filter_sequence"]
    points = sequence.keypoints
    rate = sequence.rate_hz
    raw = sequence.raw
    share = 1.0
    noise = np.full(points.shape[1:3], np.nan)
    if filters and raw.keypoints.shape == points.shape and sequence.unit == raw.unit:
        noise = _robust(raw.keypoints - points)
        settings = filters[-1].settings
        cutoff = float(settings.get("usual_hz", settings.get("cutoff_hz", 6.0)))
        share = min(1.0, 2 * cutoff / rate) if rate == rate else 1.0
    elif len(points) > 2:
        noise = _robust(points[2:] - 2 * points[1:-1] + points[:-2]) / np.sqrt(6)
    return np.asarray(noise * np.sqrt(share) * score_doubt(seen_scores(sequence)))


def seen_scores(sequence: PoseSequence) -> np.ndarray:
    """Return float64[P, K]: the mean score of each keypoint where it is seen; NaN where it never is."""
    seen = sequence.scores > 0
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(seen, sequence.scores, 0.0).sum(0) / seen.sum(0))


def score_doubt(scores: np.ndarray) -> np.ndarray:
    """Return how many times the typical noise keypoints of these mean scores have; 1 where the score is NaN.

    Example:
        >>> score_doubt(np.array([0.6, 0.15, 0.0])).round(2).tolist()
        [1.0, 2.0, 2.45]
    """
    doubt = np.sqrt(_TYPICAL_SCORE / np.clip(scores, 0.1, 1.0))
    return np.asarray(np.maximum(np.nan_to_num(doubt, nan=1.0), 0.7))


def _robust(values: np.ndarray) -> np.ndarray:
    """Return the standard deviation over time and both axes, from the median of absolute values."""
    out = np.full(values.shape[1:3], np.nan)
    magnitude = np.abs(np.moveaxis(values, 0, -1), order="C")  # [P, K, 2, T]
    for place in np.ndindex(out.shape):
        of_one = magnitude[place]
        known = np.isfinite(of_one[0])
        if known.all():
            out[place] = MAD_TO_SIGMA * median(of_one.ravel())
        elif known.any():
            out[place] = MAD_TO_SIGMA * median(of_one[:, known].ravel())
    return out


def angle_uncertainty(sequence: PoseSequence, name: str, sigma: np.ndarray | None = None) -> np.ndarray:
    """Return float64[P]: standard deviation of an angle in degrees, by propagation from its keypoints; NaN if unknown.

    ``sigma`` is `coordinate_uncertainty` of the sequence, if it is known already.
    """
    sigma = coordinate_uncertainty(sequence) if sigma is None else sigma

    def typical(lengths: np.ndarray) -> np.ndarray:
        return np.array([known_median(column) for column in lengths.T])

    return _propagated(sequence, name, sigma, body_points(sequence, ANGLES[name].points), typical)


def angle_uncertainty_by_row(one: PoseSequence, names: Sequence[str], sigma: np.ndarray) -> dict[str, np.ndarray]:
    """Return float64[T] for each angle: its standard deviation in each row, with the lengths that segments have there.

    Args:
        one: Poses of one person.
        names: Angles that its skeleton gives.
        sigma: float64[T, K], the standard deviation of a coordinate in each row.
    """
    points = body_points(one, {point for name in names for point in ANGLES[name].points})
    return {name: _propagated(one, name, sigma, points, lambda lengths: lengths[:, 0]) for name in names}


def _propagated(
    sequence: PoseSequence,
    name: str,
    sigma: np.ndarray,
    points: Mapping[str, np.ndarray],
    typical: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return float64[n], degrees, from sigma float64[n, K] and the n lengths that ``typical`` makes of [T, P]."""
    angle = ANGLES[name]
    index = {keypoint: i for i, keypoint in enumerate(sequence.skeleton.keypoints)}
    variance = np.zeros(len(sigma))
    overall: np.ndarray | None = None
    for ends in (angle.first, angle.second):
        if ends is None or "vertical" in ends:
            continue
        if not all(end in points for end in ends):  # the head, which may be one of several keypoints
            variance += np.nan
            continue
        length = typical(np.hypot(*np.moveaxis(points[ends[1]] - points[ends[0]], -1, 0)))
        for end in ends:
            if end in index:
                one = sigma[:, index[end]]
            else:  # the middle of two keypoints
                overall = _overall(sigma) if overall is None else overall
                one = overall / np.sqrt(2)
            variance += (one / length) ** 2
    return np.asarray(np.degrees(np.sqrt(variance)))


def _overall(sigma: np.ndarray) -> np.ndarray:
    """Return the median of the known values of each row; NaN where there is none."""
    known = np.isfinite(sigma)
    if len(sigma) and known[0].any() and (known == known[0]).all():
        return row_medians(sigma[:, known[0]])
    return np.array([known_median(row) for row in sigma])
