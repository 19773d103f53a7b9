"""The cut-off of a low pass from the data: as low as the noise asks for, and no lower than the motion allows.

A coordinate over time is motion at low frequencies and noise at all of them. Stein's unbiased estimate of the risk
(Stein 1981, Estimation of the mean of a multivariate normal distribution) tells how far a linear filter's result lies
from the truth without knowing it: the energy that the filter takes away, plus twice the noise that it lets through. The
cut-off with the least estimate is taken. Errors of a network that last from frame to frame look like motion and are
left to it.

The noise is measured by fourth differences, which motion hardly enters (Hall, Kay & Titterington 1990, Asymptotically
optimal difference-based estimation of variance in nonparametric regression). It is their mean square and no median,
because wild values are noise as well, and it leaves out whatever a gap filler put in, which is smooth.
"""

from __future__ import annotations

import numpy as np

__all__ = ["choose_cutoffs", "low_pass_gain", "pass_cutoff", "white_noise"]

_LOWEST_HZ = 1.0
_STEPS = 14
_MIN_FRAMES = 20
# Of frame rates at which the cut-off is near the highest frequency there is.
_NOISE_SHARE = 0.75
_DIFFERENCES = 4
_DIFFERENCE_GAIN = 70.0  # sum of the squares of 1, -4, 6, -4, 1


def pass_cutoff(cutoff_hz: float, order: int) -> float:
    """Return the cut-off of each of two passes that together halve the power at another one (Winter 2009, 2.2.4.4).

    Args:
        cutoff_hz: Cut-off of both passes together.
        order: Order of both passes together.

    Example:
        >>> round(pass_cutoff(6.0, 4), 2)
        7.48
    """
    return float(cutoff_hz / (2**0.5 - 1) ** (1 / order))


def low_pass_gain(frequencies_hz: np.ndarray, cutoff_hz: float, order: int) -> np.ndarray:
    """Amplitude that a Butterworth filter leaves after both passes; half of the power at the cut-off.

    Args:
        frequencies_hz: Where.
        cutoff_hz: Cut-off of both passes together.
        order: Order of both passes together.

    Example:
        >>> low_pass_gain(np.array([0.0, 6.0, 60.0]), 6.0, 4).round(3)
        array([1.   , 0.707, 0.   ])
    """
    squares = np.square(frequencies_hz / pass_cutoff(cutoff_hz, order))
    power = squares
    for _ in range(order // 2 - 1):  # far quicker than a general power
        power = power * squares
    return np.asarray(1 / (1 + power))


def white_noise(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return float64[C]: the variance of the noise that is new in each frame; 0 where too little was measured to tell.

    Args:
        values: float64[T, C].
        measured: bool[T, C]; False where a value is missing or was filled in.

    Example:
        >>> times = np.arange(300)[:, None] / 60
        >>> noisy = np.sin(times) + np.random.default_rng(0).normal(0, 0.3, times.shape)
        >>> white_noise(noisy, np.isfinite(noisy)).round(2)
        array([0.09])
    """
    if len(values) < _MIN_FRAMES:
        return np.zeros(values.shape[1])
    whole = np.logical_and.reduce([measured[i : len(measured) - _DIFFERENCES + i] for i in range(_DIFFERENCES + 1)])
    differences = np.where(whole, np.nan_to_num(np.diff(values, _DIFFERENCES, axis=0)), 0.0)
    count = whole.sum(0)
    enough = count >= _MIN_FRAMES - _DIFFERENCES
    variance = (differences**2).sum(0) / (_DIFFERENCE_GAIN * np.maximum(count, 1))
    return np.asarray(np.where(enough, variance, 0.0))


def choose_cutoffs(
    values: np.ndarray,
    rate_hz: float,
    highest_hz: float,
    order: int,
    *,
    noise: np.ndarray | None = None,
    axes: int = 1,
) -> np.ndarray:
    """Choose each column's cut-off by the least risk.

    Args:
        values: float64[T, C] without gaps.
        rate_hz: Frames a second.
        highest_hz: The highest cut-off that may be chosen, which short pieces and slow frame rates get as it is.
        order: Order of both passes together.
        noise: float64[C], variances; measured on the values unless given.
        axes: So many neighboring columns belong together and get one cut-off.

    Returns:
        float64[C], Hz, from 1 to ``highest_hz``.

    Example:
        >>> times = np.arange(300) / 60
        >>> slow = np.sin(2 * np.pi * 0.5 * times)[:, None]
        >>> shaky = slow + np.random.default_rng(0).normal(0, 0.3, slow.shape)
        >>> choose_cutoffs(slow, 60, 6.0, 4).round(1), bool(choose_cutoffs(shaky, 60, 6.0, 4)[0] < 3)
        (array([6.]), True)
    """
    t = len(values)
    nothing = np.full(values.shape[1], highest_hz)
    if t < _MIN_FRAMES or highest_hz <= _LOWEST_HZ or highest_hz >= _NOISE_SHARE * rate_hz / 2:
        return nothing
    noise = white_noise(values, np.ones(values.shape, bool)) if noise is None else noise
    # Without the straight line between its ends and continued oddly, a piece has no jump where its copies meet.
    rows = np.ascontiguousarray(values.T)
    share = np.arange(t) / (t - 1)
    moved = rows - ((1 - share) * rows[:, :1] + share * rows[:, -1:])
    whole = np.concatenate((moved, -moved[:, -2:0:-1]), axis=1)
    spectrum = np.fft.rfft(whole)
    power = spectrum.real**2 + spectrum.imag**2
    at = np.fft.rfftfreq(whole.shape[1], 1 / rate_hz)
    cutoffs = np.geomspace(_LOWEST_HZ, highest_hz, _STEPS)
    gains = np.array([low_pass_gain(at, float(cutoff), order) for cutoff in cutoffs])
    # An odd signal of twice the length has sines only, in which white noise has twice the power.
    risks = (1 - gains) ** 2 @ power.T + 2 * gains.sum(1)[:, None] * (2 * t * noise)
    together = risks.reshape(_STEPS, -1, axes).sum(-1)
    # A tie is decided for the higher cut-off.
    return np.asarray(np.repeat(cutoffs[_STEPS - 1 - together[::-1].argmin(0)], axes))
