"""Validate arguments before a long measurement starts."""

from __future__ import annotations

from pathlib import Path

from featherpose.errors import OptionError
from featherpose.evaluation.performance.figures import check_figure
from featherpose.files import check_writable
from featherpose.preprocess import MAX_HEIGHT_PX, MIN_HEIGHT_PX

__all__ = ["check_at_least", "check_heights", "check_outputs"]


def check_at_least(option: str, value: int, least: int) -> None:
    """Refuse a number that is too small.

    Raises:
        OptionError: If it is.

    Example:
        >>> check_at_least("--frames", 1, 2)
        Traceback (most recent call last):
        featherpose.errors.OptionError: --frames 1; expected at least 2
    """
    if value < least:
        raise OptionError(f"{option} {value}", expected=f"at least {least}")


def check_heights(option: str, *heights: int) -> None:
    """Refuse network input heights with which nothing can be found, or for which no memory is enough.

    Raises:
        OptionError: If there is one, or none at all.
    """
    if not heights or not all(MIN_HEIGHT_PX <= height <= MAX_HEIGHT_PX for height in heights):
        raise OptionError(" ".join([option, *map(str, heights)]), expected=f"{MIN_HEIGHT_PX} to {MAX_HEIGHT_PX} pixels")


def check_outputs(json: Path | None, plot: Path | None) -> None:
    """Refuse files that could not be written in the end.

    Raises:
        OutputError: If a name is a folder's, or its folder cannot be written to.
        MissingExtraError: If a plot is wanted and matplotlib is not installed.
    """
    if json is not None:
        check_writable(json)
    if plot is not None:
        check_figure(plot)
