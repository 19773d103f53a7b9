"""Smoothing over time without delay: Butterworth (the usual one), adaptive, One-Euro, Gaussian, median, LOESS, spline.

A filter runs over each stretch of frames without a gap and never across one. Filters that need even spacing see the
stretch at its median rate and give their result back at the real times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.ndimage import gaussian_filter1d, median_filter

from featherpose.errors import OptionError
from featherpose.jit import kernel
from featherpose.motion.body_points import body_size
from featherpose.motion.cleaning.cutoffs import choose_cutoffs, white_noise
from featherpose.motion.cleaning.lowpass import low_pass
from featherpose.motion.cleaning.medians import MAD_TO_SIGMA, row_medians
from featherpose.motion.cleaning.runs import true_runs
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
# Points that count less than this are reported as ignored.
_IGNORED = 0.1
_HUBER_ROUNDS = 4
_TUKEY_ROUNDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """Options of smoothing coordinates over time.

    Attributes:
        name: ``butterworth``: low pass, forth and back (Winter 2009, Biomechanics and Motor Control of Human
            Movement, 2.2.4.4). ``adaptive``: the same with a cut-off of its own for each keypoint, lower where noise
            outweighs motion (`featherpose.motion.cleaning.cutoffs`). ``one-euro``: cut-off grows with speed (Casiez,
            Roussel & Vogel 2012), forth and back. ``gaussian``. ``median``: keeps edges. ``loess``: local lines with
            tricube weights (Cleveland 1979).
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
    rows = np.ascontiguousarray((sequence.keypoints / size[:, None, None]).reshape(t, -1).T)
    cutoffs = None
    if options.name == "adaptive":
        # Chosen once, on all of the noise; what is filled in (score 0) tells nothing about it.
        measured = np.repeat((sequence.scores > 0).reshape(t, -1).T, 2, axis=0)
        cutoffs = _cutoffs(rows, sequence.timestamps_s, options, measured, axes=2)
    smooth = _filter_rows(rows, sequence.timestamps_s, options, cutoffs)
    ignored = 0
    if robust and options.name != "none":
        smooth, ignored = _filter_again(rows, smooth, sequence.timestamps_s, options, cutoffs)
    filtered = np.ascontiguousarray(smooth.T).reshape(sequence.keypoints.shape)
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
    rows: np.ndarray, filtered: np.ndarray, times: np.ndarray, options: FilterOptions, cutoffs: np.ndarray | None
) -> tuple[np.ndarray, int]:
    """Return the robust curve through float64[2 n, T] rows (x and y alternate), and how many points it ignores.

    Huber's weights come first, which lead to one curve from wherever they start; Tukey's then ignore what is far off.
    """
    points, out = rows.reshape(-1, 2, len(times)), filtered.reshape(-1, 2, len(times)).copy()
    active = np.arange(len(points))  # a curve without doubtful points does not change any more
    ignored = np.zeros(len(points), int)
    for turn in range(_HUBER_ROUNDS + _TUKEY_ROUNDS):
        known = np.abs(points[active] - out[active]).reshape(len(active), -1)
        sigma = np.maximum(MAD_TO_SIGMA * row_medians(np.fmax(known, 0.0)), _FLOOR)
        modified, doubtful, counts = _pulled(points, out, active, sigma, turn < _HUBER_ROUNDS)
        changing = doubtful > 0
        if not changing.any():
            break
        active, modified = active[changing], modified[changing]
        ignored[active] = counts[changing]
        own = None if cutoffs is None else np.repeat(cutoffs[::2][active], 2)
        out[active] = _filter_rows(modified.reshape(-1, len(times)), times, options, own).reshape(modified.shape)
    return out.reshape(rows.shape), int(ignored.sum())


@kernel
def _pulled(
    points: np.ndarray, out: np.ndarray, active: np.ndarray, sigma: np.ndarray, huber: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the active curves' points [A, 2, T] with the doubtful ones pulled to the curve, and two counts of each.

    The counts are those of doubtful and of ignored points.
    """
    length = points.shape[2]
    pulled = np.empty((len(active), 2, length))
    doubtful, ignored = np.zeros(len(active), np.int64), np.zeros(len(active), np.int64)
    for i in range(len(active)):
        read, curve = points[active[i]], out[active[i]]
        for t in range(length):
            x, y = read[0, t] - curve[0, t], read[1, t] - curve[1, t]
            if not x * x + y * y > (_DOUBT * sigma[i]) ** 2:  # nor where a point is missing
                pulled[i, 0, t], pulled[i, 1, t] = read[0, t], read[1, t]
                continue
            ratio = np.sqrt(x * x + y * y) / sigma[i]
            weight = _DOUBT / ratio if huber else max(0.0, 1 - (ratio / _TUKEY) ** 2) ** 2
            doubtful[i] += 1
            ignored[i] += weight < _IGNORED
            pulled[i, 0, t], pulled[i, 1, t] = curve[0, t] + weight * x, curve[1, t] + weight * y
    return pulled, doubtful, ignored


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
    rows = np.ascontiguousarray(np.asarray(values, np.float64).T)
    if options.name == "adaptive" and cutoffs_hz is None:
        cutoffs_hz = _cutoffs(rows, times_s, options, np.isfinite(rows), axes=1)
    return np.ascontiguousarray(_filter_rows(rows, times_s, options, cutoffs_hz).T)


def _filter_rows(rows: np.ndarray, times: np.ndarray, options: FilterOptions, cutoffs: np.ndarray | None) -> np.ndarray:
    """Return float64[C, T] smoothed; neighbors in time are neighbors in memory."""
    out = np.array(rows)
    if options.name == "none" or len(times) < _MIN_FRAMES:
        return out
    if cutoffs is None:
        cutoffs = np.full(len(rows), options.cutoff_hz)
    for first, last, chosen in _stretches(np.isfinite(rows)):
        if last - first >= _MIN_FRAMES:
            piece = rows[chosen, first:last]
            out[chosen, first:last] = _filter_piece(piece, times[first:last], options, cutoffs[chosen])
    return out


def _cutoffs(
    rows: np.ndarray, times: np.ndarray, options: FilterOptions, measured: np.ndarray, *, axes: int
) -> np.ndarray:
    """Return float64[C]: each row's cut-off, from its longest stretch."""
    out = np.full(len(rows), options.cutoff_hz)
    if len(times) < _MIN_FRAMES:
        return out
    noise = white_noise(rows.T, measured.T)
    for first, last, chosen in sorted(_stretches(np.isfinite(rows)), key=lambda stretch: stretch[1] - stretch[0]):
        if last - first < _MIN_FRAMES:
            continue
        piece, step = rows[chosen, first:last].T, float(np.median(np.diff(times[first:last])))
        out[chosen] = choose_cutoffs(
            piece, 1 / step, options.cutoff_hz, options.order, noise=noise[chosen], axes=axes
        )  # fmt: skip
    return out


def _stretches(found: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Return (first, last, rows) of bool[C, T]: stretches without gaps; rows with the same ones go together."""
    whole = found.all(1)
    stretches = [(0, found.shape[1], np.flatnonzero(whole))] if whole.any() else []
    groups: dict[tuple[int, int], list[int]] = {}
    for row in np.flatnonzero(~whole).tolist():
        for stretch in true_runs(found[row]):
            groups.setdefault(stretch, []).append(row)
    return stretches + [(first, last, np.array(chosen)) for (first, last), chosen in groups.items()]


def _filter_piece(piece: np.ndarray, times: np.ndarray, options: FilterOptions, cutoffs: np.ndarray) -> np.ndarray:
    if options.name == "gcv-spline":
        return _gcv_spline(piece, times)
    if options.name == "one-euro":
        forth = _one_euro(piece, times, options)
        back = _one_euro(piece[:, ::-1], -times[::-1], options)[:, ::-1]
        return np.asarray((forth + back) / 2)
    steps = np.diff(times)
    step = float(np.median(steps))
    if (np.abs(steps - step) <= _EVEN * step).all():
        return _filter_even(piece, 1 / step, options, cutoffs)
    even = times[0] + np.arange(int(np.ceil((times[-1] - times[0]) / step - 1e-6)) + 1) * step
    spread = np.stack([np.interp(even, times, row) for row in piece])
    smooth = _filter_even(spread, 1 / step, options, cutoffs) if len(even) >= _MIN_FRAMES else spread
    return np.stack([np.interp(times, even, row) for row in smooth])


def _filter_even(rows: np.ndarray, rate_hz: float, options: FilterOptions, cutoffs: np.ndarray) -> np.ndarray:
    if options.name in ("butterworth", "adaptive"):
        return low_pass(rows, rate_hz, cutoffs, options.order)
    return _EVEN_FILTERS[options.name](rows, options.width_s * rate_hz)


def _loess(rows: np.ndarray, width: float) -> np.ndarray:
    """Fit weighted straight lines through the neighbors, from sums that one convolution each gives."""
    half = max(2, round(width))
    offsets = np.arange(-half, half + 1)
    weights = (1 - (np.abs(offsets) / (half + 1)) ** 3) ** 3
    n = rows.shape[1]

    def moving(kernel: np.ndarray, of: np.ndarray) -> np.ndarray:
        # Value i is the sum over offsets d of kernel[d] * of[i + d]; outside the stretch there is nothing to sum.
        return np.stack([np.convolve(row, kernel[::-1])[half : half + n] for row in of])

    ones = np.ones((1, n))
    s0, s1, s2 = (moving(weights * offsets**power, ones) for power in range(3))
    t0, t1 = moving(weights, rows), moving(weights * offsets, rows)
    return np.asarray((s2 * t0 - s1 * t1) / (s0 * s2 - s1**2))


_EVEN_FILTERS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "gaussian": lambda rows, width: np.asarray(gaussian_filter1d(rows, width, mode="nearest")),
    "median": lambda rows, width: np.asarray(
        median_filter(rows, size=(1, 2 * max(1, round(width)) + 1), mode="nearest")
    ),
    "loess": _loess,
}


def _gcv_spline(piece: np.ndarray, times: np.ndarray) -> np.ndarray:
    if len(times) < 5:
        return piece
    return np.stack([make_smoothing_spline(times, row)(times) for row in piece])


def _one_euro(piece: np.ndarray, times: np.ndarray, options: FilterOptions) -> np.ndarray:
    frames = np.array(piece.T)  # frame after frame
    speed = np.zeros(len(piece))
    for i in range(1, len(frames)):
        step = times[i] - times[i - 1]
        speed += _gain(1.0, step) * ((frames[i] - frames[i - 1]) / step - speed)
        gain = _gain(options.cutoff_hz + options.beta * np.abs(speed), step)
        frames[i] = frames[i - 1] + gain * (frames[i] - frames[i - 1])
    return frames.T


def _gain(cutoff_hz: float | np.ndarray, step_s: float) -> float | np.ndarray:
    return 1 / (1 + 1 / (2 * np.pi * cutoff_hz * step_s))


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
