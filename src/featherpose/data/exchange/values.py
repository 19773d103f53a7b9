"""Parse numbers in the texts of annotation files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float64

from featherpose.errors import DatasetError
from featherpose.parsing import is_finite, shown

__all__ = ["MAX_SIDE_PX", "keypoint_rows", "number", "renamed", "side"]

MAX_SIDE_PX = 10**6


def number(value: object, what: str) -> float:
    """Return a finite number, also from a text.

    Raises:
        DatasetError: With ``what``, if it is none.

    Example:
        >>> number("1.5", "x"), number(3, "y")
        (1.5, 3.0)
    """
    given = value
    if isinstance(value, str) and len(value) < 64:
        try:
            given = float(value)
        except ValueError:
            given = None
    if not is_finite(given):
        raise DatasetError(f"{what} is {shown(value)}", expected="a number")
    return float(given)


def side(value: object, what: str) -> int:
    """Return a width or height in pixels, from a number or a text.

    Raises:
        DatasetError: If it is none.
    """
    length = number(value, what)
    if length != int(length) or not 0 < length <= MAX_SIDE_PX:
        raise DatasetError(f"{what} is {shown(value)}", expected="pixels, a whole number")
    return int(length)


def keypoint_rows(names: Iterable[str], found: Mapping[str, tuple[float, float, int]]) -> Float64[np.ndarray, "K 3"]:
    """Return (x, y, visibility) of each name, 0, 0, 0 where it was not found.

    Example:
        >>> keypoint_rows(["a", "b"], {"b": (1.0, 2.0, 2)}).tolist()
        [[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]]
    """
    return np.array([found.get(name, (0.0, 0.0, 0)) for name in names], np.float64).reshape(-1, 3)


def renamed(
    points: Mapping[str, tuple[float, float, int]], names: Mapping[str, str], where: str
) -> dict[str, tuple[float, float, int]]:
    """Return a person's keypoints under other names.

    Raises:
        DatasetError: If two of them get the same name.
    """
    found: dict[str, tuple[float, float, int]] = {}
    for name, point in points.items():
        if names[name] in found:
            raise DatasetError(f"{where} has {names[name]} twice in one person, once as {shown(name)}")
        found[names[name]] = point
    return found
