"""Options within their ranges: one check, one message."""

from __future__ import annotations

from featherpose.errors import OptionError

__all__ = ["check_within"]


def check_within(name: str, value: float, low: float, high: float) -> None:
    """Hold an option to its range.

    Raises:
        OptionError: If the value is outside, or not a number.

    Example:
        >>> check_within("min_score", 2, 0, 1)
        Traceback (most recent call last):
        featherpose.errors.OptionError: min_score is 2; expected a number from 0 to 1
    """
    # A comparison with NaN is false, so NaN is refused as well.
    if not low <= value <= high:
        raise OptionError(f"{name} is {value}", expected=f"a number from {low:g} to {high:g}")
