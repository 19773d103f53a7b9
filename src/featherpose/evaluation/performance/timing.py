"""Comparable times: medians with their spread, and competitors in turns so that drift affects all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from featherpose.errors import OptionError

__all__ = ["Timing", "time_in_turns"]


@dataclass(frozen=True, slots=True)
class Timing:
    """A time measured many times.

    Attributes:
        median_ms: Half of the runs were faster.
        p95_ms: 95 % of the runs were faster.
        best_ms: The fastest run: the machine without disturbance.
        runs: How many.

    Example:
        >>> Timing.of([4.0, 2.0, 3.0]).median_ms, Timing.of([2.0]).fps
        (3.0, 500.0)
    """

    median_ms: float
    p95_ms: float
    best_ms: float
    runs: int

    @classmethod
    def of(cls, samples_ms: Sequence[float]) -> Timing:
        """Summarize samples in milliseconds.

        Raises:
            OptionError: If there are none.
        """
        if not len(samples_ms):
            raise OptionError("no run was timed", expected="at least one")
        return cls(
            median_ms=float(np.median(samples_ms)),
            p95_ms=float(np.percentile(samples_ms, 95)),
            best_ms=float(np.min(samples_ms)),
            runs=len(samples_ms),
        )

    @property
    def fps(self) -> float:
        """Return how many a second, one after the other, by the median."""
        return 1e3 / self.median_ms if self.median_ms > 0 else float("inf")

    def as_dict(self) -> dict[str, float | int]:
        """Return plain numbers for a JSON file, rounded to a microsecond."""
        return {
            "median_ms": round(self.median_ms, 3),
            "p95_ms": round(self.p95_ms, 3),
            "best_ms": round(self.best_ms, 3),
            "runs": self.runs,
        }


def time_in_turns(
    calls: Sequence[Callable[[], object]], *, rounds: int, block: int = 1, warm_up: int = 1
) -> list[list[float]]:
    """Time several calls in turns: each runs a block, then the next, so that a slow minute slows all of them.

    Args:
        calls: The functions to time.
        rounds: Turns of each call.
        block: Runs in one turn; more than one lets a call find its data in the cache again, as in real use.
        warm_up: Runs of each before the clock starts.

    Returns:
        For each call its times in milliseconds, ``rounds * block`` of them.

    Example:
        >>> [len(times) for times in time_in_turns([lambda: 1, lambda: 2], rounds=3, block=2)]
        [6, 6]
    """
    if rounds < 1 or block < 1 or warm_up < 0:
        raise OptionError(f"{rounds} rounds of {block} runs after {warm_up}", expected="at least one run")
    for call in calls:
        for _ in range(warm_up):
            call()
    samples: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, samples, strict=True):
            for _ in range(block):
                started = perf_counter()
                call()
                times.append(1e3 * (perf_counter() - started))
    return samples
