"""Smoothing over time without delay: Butterworth (the usual one), adaptive, One-Euro, Gaussian, median, LOESS, spline.

A filter runs over each stretch of frames without a gap and never across one. Filters that need even spacing see the
stretch at its median rate and give their result back at the real times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.signal import butter, sosfiltfilt

from featherpose.errors import OptionError
from featherpose.motion.cleaning import body_size
from featherpose.motion.cutoffs import choose_cutoffs, pass_cutoff, white_noise
from featherpose.motion.sequence import PoseSequence, Step

__all__ = ["FilterName", "FilterOptions", "derivative", "filter_sequence", "filter_values"]

FilterName = Literal["butterworth", "adaptive", "one-euro", "gaussian", "median", "loess", "gcv-spline", "none"]

# Intervals that differ by less than this share count as even: container timestamps are rounded to milliseconds.
_EVEN = 0.1
_MIN_FRAMES = 4
# Points within so many standard deviations count fully; Tukey's constant has 95 % efficiency for normal noise. The
# least standard deviation, in body sizes.
_DOUBT = 2.0
_TUKEY = 4.685
_FLOOR = 0.01
_HUBER_ROUNDS = 4
_TUKEY_ROUNDS = 2
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """Options of smoothing coordinates over time.

    Attributes:
        name: ``butterworth``: low pass, forth and back (Winter 2009, Biomechanics and Motor Control of Human
            Movement, 2.2.4.4). ``adaptive``: the same with a cut-off of its own for each keypoint, lower where noise
            outweighs motion (`featherpose.motion.cutoffs`). ``one-euro``: cut-off grows with speed (Casiez, Roussel &
            Vogel 2012), forth and back. ``gaussian``. ``median``: keeps edges. ``loess``: local lines with tricube
            weights (Cleveland 1979).
            ``gcv-spline``: cubic smoothing spline, strength by generalized cross-validation (Woltring 1986). ``none``.
        cutoff_hz: Butterworth: frequency at which half of the power remains, after both passes. Adaptive: the highest.
            One-Euro: the lowest.
        order: Butterworth: order of both passes together, even.
        beta: One-Euro: growth of the cut-off, Hz per (body size / s).
        width_s: Gaussian: standard deviation. Median and LOESS: half of the window. Seconds.

    Raises:
        OptionError: If a value is outside its range.
    """

    name: FilterName = "butterworth"
    cutoff_hz: float = 6.0
    order: int = 4
    beta: float = 2.0
    width_s: float = 0.05

    def __post_init__(self) -> None:
        if self.name not in get_args(FilterName):
            raise OptionError(f"filter {self.name!r}", expected=", ".join(get_args(FilterName)))
        if not 0 < self.cutoff_hz <= 1000:
            raise OptionError(f"a cut-off of {self.cutoff_hz} Hz", expected="a positive number")
        if self.order % 2 or not 2 <= self.order <= 12:
            raise OptionError(f"order {self.order}", expected="an even number from 2 to 12")
        if not 0 <= self.beta <= 1000:
            raise OptionError(f"beta {self.beta}", expected="0 or more")
        if not 0 < self.width_s <= 10:
            raise OptionError(f"a width of {self.width_s} s", expected="a positive number of seconds")


_DEFAULT = FilterOptions()


def filter_sequence(sequence: PoseSequence, options: FilterOptions = _DEFAULT, *, robust: bool = False) -> PoseSequence:
    """Smooth the coordinates of everyone.

    Args:
        sequence: Poses over time, cleaned and filled.
        options: The filter.
        robust: Whether keypoints that lie far from the filtered curve count less, up to not at all (weights of Huber
            and Tukey by modified residuals: Huber & Ronchetti 2009, Robust Statistics, 7.8). Deviations under 2 % of a
            person's size are never doubted, so that this changes nothing for calm keypoints.

    Returns:
        The smoothed sequence; missing keypoints stay missing. Stretches of fewer than four frames stay as they are.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> times = np.arange(120) / 60
        >>> truth = np.stack([np.sin(2 * np.pi * times), np.cos(2 * np.pi * times)], -1)[:, None]
        >>> noisy = truth + np.random.default_rng(0).normal(0, 0.05, truth.shape)
        >>> sequence = PoseSequence.from_arrays(noisy, times, Skeleton.create("dot", ["tip"], []))
        >>> error = filter_sequence(sequence).keypoints[:, 0] - truth
        >>> bool(error.std() < 0.6 * 0.05)
        True
    """
    t = sequence.num_frames
    size = body_size(sequence)  # One-Euro measures speed in body sizes a second
    size = np.where(np.nan_to_num(size) > 0, size, 1.0)
    columns = (sequence.keypoints / size[:, None, None]).reshape(t, -1)
    cutoffs = None
    if options.name == "adaptive":
        # Chosen once, on all of the noise; what is filled in (score 0) tells nothing about it.
        measured = np.repeat((sequence.scores > 0).reshape(t, -1), 2, axis=1)
        cutoffs = _cutoffs(columns, sequence.timestamps_s, options, measured, axes=2)
    filtered = filter_values(columns, sequence.timestamps_s, options, cutoffs)
    ignored = 0
    if robust and options.name != "none":
        filtered, ignored = _filter_again(columns, filtered, sequence.timestamps_s, options, cutoffs)
    filtered = filtered.reshape(sequence.keypoints.shape)
    settings: dict[str, float | int | str] = {"name": options.name}
    if options.name in ("butterworth", "adaptive", "one-euro"):
        settings["cutoff_hz"] = options.cutoff_hz
    if cutoffs is not None:
        settings["usual_hz"] = round(float(np.median(cutoffs)), 2) if len(cutoffs) else options.cutoff_hz
    if options.name in ("butterworth", "adaptive"):
        settings["order"] = options.order
    if options.name == "one-euro":
        settings["beta"] = options.beta
    if options.name in ("gaussian", "median", "loess"):
        settings["width_s"] = options.width_s
    count = 0 if options.name == "none" else int(sequence.found.sum())
    said = ", ".join(f"{key} {value}" for key, value in settings.items() if key != "name")
    text = f"filtered by {options.name}" + (f" ({said})" if said else "")
    if ignored:
        text += f"; {ignored:,} keypoints far from the curve did not count"
    return sequence.changed(filtered * size[:, None, None], Step("filter_sequence", settings, count, text))


def _filter_again(
    columns: np.ndarray, filtered: np.ndarray, times: np.ndarray, options: FilterOptions, cutoffs: np.ndarray | None
) -> tuple[np.ndarray, int]:
    """Return the robust curve through float64[T, 2 n] columns (x and y alternate), and how many points it ignores.

    Huber's weights come first, which lead to one curve from wherever they start; Tukey's then ignore what is far off.
    """
    out = filtered.copy()
    active = np.arange(columns.shape[1])  # a curve without doubtful points does not change any more
    ignored: dict[int, int] = {}
    for turn in range(_HUBER_ROUNDS + _TUKEY_ROUNDS):
        away = (columns[:, active] - out[:, active]).reshape(len(columns), -1, 2)
        distances = np.hypot(away[..., 0], away[..., 1])
        known = np.where(np.isfinite(away), np.abs(away), 0.0)
        sigma = np.maximum(_MAD_TO_SIGMA * np.median(known, axis=(0, 2)), _FLOOR)
        rows = (distances > _DOUBT * sigma).any(0)  # False where missing
        if not rows.any():
            break
        away, active = away[:, rows], active[np.repeat(rows, 2)]
        ratio = np.maximum(distances[:, rows] / sigma[rows], _DOUBT)
        weights = _DOUBT / ratio if turn < _HUBER_ROUNDS else np.clip(1 - (ratio / _TUKEY) ** 2, 0, None) ** 2
        weights[ratio <= _DOUBT] = 1.0
        ignored |= zip(active[::2].tolist(), (weights < 0.1).sum(0).tolist(), strict=True)
        modified = out[:, active] + (weights[..., None] * away).reshape(len(columns), -1)
        out[:, active] = filter_values(modified, times, options, None if cutoffs is None else cutoffs[active])
    return out, sum(ignored.values())


def filter_values(
    values: np.ndarray, times_s: np.ndarray, options: FilterOptions = _DEFAULT, cutoffs_hz: np.ndarray | None = None
) -> np.ndarray:
    """Smooth columns of values, each over its own stretches without gaps.

    Args:
        values: float64[T, C]; NaN where missing.
        times_s: float64[T] seconds, increasing.
        options: Which filter.
        cutoffs_hz: float64[C], for ``adaptive``; chosen from the values unless given.

    Returns:
        float64[T, C].
    """
    out = np.array(values, np.float64)
    if options.name == "none" or len(out) < _MIN_FRAMES:
        return out
    if options.name == "adaptive":
        if cutoffs_hz is None:
            cutoffs_hz = _cutoffs(out, times_s, options, np.isfinite(out), axes=1)
        for cutoff in np.unique(cutoffs_hz):
            chosen = cutoffs_hz == cutoff
            plain = replace(options, name="butterworth", cutoff_hz=float(cutoff))
            out[:, chosen] = filter_values(out[:, chosen], times_s, plain)
        return out
    for first, last, columns in _stretches(np.isfinite(out)):
        if last - first < _MIN_FRAMES:
            continue
        piece = out[first:last, columns]
        out[first:last, columns] = _filter_piece(piece, times_s[first:last], options)
    return out


def _cutoffs(
    values: np.ndarray, times: np.ndarray, options: FilterOptions, measured: np.ndarray, *, axes: int
) -> np.ndarray:
    """Return float64[C]: each column's cut-off, from its longest stretch."""
    out = np.full(values.shape[1], options.cutoff_hz)
    noise = white_noise(values, measured)
    for first, last, columns in sorted(_stretches(np.isfinite(values)), key=lambda stretch: stretch[1] - stretch[0]):
        if last - first < _MIN_FRAMES:
            continue
        piece, step = values[first:last, columns], float(np.median(np.diff(times[first:last])))
        out[columns] = choose_cutoffs(
            piece, 1 / step, options.cutoff_hz, options.order, noise=noise[columns], axes=axes
        )  # fmt: skip
    return out


def _stretches(found: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Yield (first, last, columns): stretches without gaps; columns with the same ones go together."""
    whole = found.all(0)
    stretches = [(0, len(found), np.flatnonzero(whole))] if whole.any() else []
    groups: dict[tuple[int, int], list[int]] = {}
    for column in np.flatnonzero(~whole).tolist():
        edges = np.flatnonzero(np.diff(np.concatenate(([False], found[:, column], [False])).astype(np.int8)))
        for first, last in edges.reshape(-1, 2).tolist():
            groups.setdefault((first, last), []).append(column)
    return stretches + [(first, last, np.array(columns)) for (first, last), columns in groups.items()]


def _filter_piece(piece: np.ndarray, times: np.ndarray, options: FilterOptions) -> np.ndarray:
    if options.name == "gcv-spline":
        return _gcv_spline(piece, times)
    if options.name == "one-euro":
        forth = _one_euro(piece, times, options)
        back = _one_euro(piece[::-1], -times[::-1], options)[::-1]
        return np.asarray((forth + back) / 2)
    steps = np.diff(times)
    step = float(np.median(steps))
    if (np.abs(steps - step) <= _EVEN * step).all():
        return _EVEN_FILTERS[options.name](piece, 1 / step, options)
    even = times[0] + np.arange(int(np.ceil((times[-1] - times[0]) / step - 1e-6)) + 1) * step
    spread = np.stack([np.interp(even, times, column) for column in piece.T], -1)
    smooth = _EVEN_FILTERS[options.name](spread, 1 / step, options) if len(even) >= _MIN_FRAMES else spread
    return np.stack([np.interp(times, even, column) for column in smooth.T], -1)


def _butterworth(values: np.ndarray, rate_hz: float, options: FilterOptions) -> np.ndarray:
    order = options.order // 2  # of each pass
    adjusted = pass_cutoff(options.cutoff_hz, options.order)
    if adjusted >= 0.499 * rate_hz:
        return values  # nothing is above the cut-off
    sections = butter(order, adjusted, fs=rate_hz, output="sos")
    # Odd extension over one period of the cut-off keeps the ends in place.
    pad = min(len(values) - 1, max(3 * (order + 1), int(np.ceil(rate_hz / options.cutoff_hz))))
    return np.asarray(sosfiltfilt(sections, values, axis=0, padtype="odd", padlen=pad))


def _gaussian(values: np.ndarray, rate_hz: float, options: FilterOptions) -> np.ndarray:
    return np.asarray(gaussian_filter1d(values, options.width_s * rate_hz, axis=0, mode="nearest"))


def _median(values: np.ndarray, rate_hz: float, options: FilterOptions) -> np.ndarray:
    window = 2 * max(1, round(options.width_s * rate_hz)) + 1
    return np.asarray(median_filter(values, size=(window, 1), mode="nearest"))


def _loess(values: np.ndarray, rate_hz: float, options: FilterOptions) -> np.ndarray:
    """Fit weighted straight lines through the neighbors, from sums that one convolution each gives."""
    half = max(2, round(options.width_s * rate_hz))
    offsets = np.arange(-half, half + 1)
    weights = (1 - (np.abs(offsets) / (half + 1)) ** 3) ** 3
    n = len(values)

    def moving(kernel: np.ndarray, of: np.ndarray) -> np.ndarray:
        # Row i is the sum over offsets d of kernel[d] * of[i + d]; outside the stretch there is nothing to sum.
        full = np.apply_along_axis(np.convolve, 0, of, kernel[::-1])
        return np.asarray(full[half : half + n])

    ones = np.ones((n, 1))
    s0, s1, s2 = (moving(weights * offsets**power, ones) for power in range(3))
    t0, t1 = moving(weights, values), moving(weights * offsets, values)
    return np.asarray((s2 * t0 - s1 * t1) / (s0 * s2 - s1**2))


def _gcv_spline(piece: np.ndarray, times: np.ndarray) -> np.ndarray:
    if len(times) < 5:
        return piece
    return np.stack([make_smoothing_spline(times, column)(times) for column in piece.T], -1)


def _one_euro(piece: np.ndarray, times: np.ndarray, options: FilterOptions) -> np.ndarray:
    out = piece.copy()
    speed = np.zeros(piece.shape[1])
    for i in range(1, len(piece)):
        step = times[i] - times[i - 1]
        speed += _gain(1.0, step) * ((piece[i] - out[i - 1]) / step - speed)
        out[i] = out[i - 1] + _gain(options.cutoff_hz + options.beta * np.abs(speed), step) * (piece[i] - out[i - 1])
    return out


def _gain(cutoff_hz: float | np.ndarray, step_s: float) -> float | np.ndarray:
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))


_EVEN_FILTERS: dict[str, Callable[[np.ndarray, float, FilterOptions], np.ndarray]] = {
    "butterworth": _butterworth,
    "gaussian": _gaussian,
    "median": _median,
    "loess": _loess,
}


def derivative(values: np.ndarray, times_s: np.ndarray, order: int = 1) -> np.ndarray:
    """Compute the rate of change by central differences on the real times, second order exact for uneven spacing.

    Args:
        values: float64[T, ...]; NaN where missing, and then its neighbors' rates are missing too.
        times_s: float64[T] seconds, increasing.
        order: 1 for velocity, 2 for acceleration.

    Returns:
        float64[T, ...], values per second (to the power of ``order``); all NaN for fewer than three frames.

    Example:
        >>> derivative(np.array([0.0, 1.0, 4.0, 9.0]), np.arange(4.0))
        array([0., 2., 4., 6.])
    """
    if len(values) < 3:
        return np.full(np.shape(values), np.nan)
    rate = np.asarray(values, np.float64)
    for _ in range(order):
        rate = np.gradient(rate, times_s, axis=0, edge_order=2)
    return rate
