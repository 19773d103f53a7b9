"""The cut-off of a low pass from the data: as low as the noise asks for, and no lower than the motion allows.

A coordinate over time is motion at low frequencies and noise at all of them. Stein's unbiased estimate of the risk
(Stein 1981, Estimation of the mean of a multivariate normal distribution) tells how far a linear filter's result lies
from the truth without knowing it: the energy that the filter takes away, plus twice the noise that it lets through. The
cut-off with the least estimate is taken. The noise is read off at frequencies at which people do not move. Errors of a
network that last from frame to frame look like motion and are left to it.
"""

from __future__ import annotations

import numpy as np

__all__ = ["choose_cutoffs", "low_pass_gain", "pass_cutoff"]

_LOWEST_HZ = 1.0
_STEPS = 12
# Noise is read off from here on, where hands and feet of people hardly move (Winter 2009, 2.2.3), or from this share of
# the highest frequency that the frame rate shows.
_NOISE_HZ = 7.0
_NOISE_SHARE = 0.75
_MIN_FRAMES = 20
_CHI_SQUARE_MEDIAN = 0.4549


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
    return np.asarray(1 / (1 + (frequencies_hz / pass_cutoff(cutoff_hz, order)) ** order))


def choose_cutoffs(values: np.ndarray, rate_hz: float, highest_hz: float, order: int) -> np.ndarray:
    """Choose each column's cut-off by the least risk.

    Args:
        values: float64[T, C] without gaps.
        rate_hz: Frames a second.
        highest_hz: The highest cut-off that may be chosen, which short pieces and slow frame rates get as it is.
        order: Order of both passes together.

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
    # Without the straight line between its ends and continued oddly, a piece has no jump where its copies meet.
    share = (np.arange(t) / (t - 1))[:, None]
    moved = values - ((1 - share) * values[0] + share * values[-1])
    whole = np.concatenate((moved, -moved[-2:0:-1]))
    power = np.abs(np.fft.rfft(whole, axis=0)) ** 2
    at = np.fft.rfftfreq(len(whole), 1 / rate_hz)
    quiet = at >= min(_NOISE_HZ, _NOISE_SHARE * rate_hz / 2)
    # An odd signal has sines only, so the powers of noise follow chi square with one degree of freedom. Their median is
    # less moved by what motion there is than their mean.
    noise = np.median(power[quiet], axis=0) / _CHI_SQUARE_MEDIAN
    cutoffs = np.geomspace(_LOWEST_HZ, highest_hz, _STEPS)
    gains = np.array([low_pass_gain(at, float(cutoff), order) for cutoff in cutoffs])
    risks = (1 - gains) ** 2 @ power + 2 * gains.sum(1)[:, None] * noise
    # A tie is decided for the higher cut-off.
    return np.asarray(cutoffs[len(cutoffs) - 1 - risks[::-1].argmin(0)])
