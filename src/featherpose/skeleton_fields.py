"""Check the fields of a skeleton that comes from a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from featherpose.errors import SkeletonError
from featherpose.parsing import is_finite, is_integer, shown

__all__ = ["MAX_KEYPOINTS", "MAX_LIMBS", "is_name", "list_of", "pairs_of", "sigmas_of"]

# More than any body, hand or face has; K and L are widths of arrays and layers.
MAX_KEYPOINTS, MAX_LIMBS, _MAX_NAME = 1024, 4096, 200


def is_name(value: object) -> bool:
    """Return whether a value can be the name of a skeleton or keypoint."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _is_keypoint(value: object) -> bool:
    return is_name(value) or is_integer(value)


def list_of(key: str, value: object, is_one: Callable[[object], bool], what: str, most: int) -> list[Any]:
    """Return a list of at most ``most`` values, each of which ``is_one`` accepts.

    Raises:
        SkeletonError: If the value is something else; ``what`` names what was expected.
    """
    if not isinstance(value, list | tuple):
        raise SkeletonError(f"the skeleton's {key} is {shown(value)}", expected=f"a list of {what}")
    if len(value) > most:
        raise SkeletonError(f"the skeleton has {len(value)} {key}", expected=f"at most {most}")
    for item in value:
        if not is_one(item):
            raise SkeletonError(f"the skeleton has {shown(item)} among its {key}", expected=what)
    return list(value)


def pairs_of(
    key: str, value: object, is_one: Callable[[object], bool] = _is_keypoint, what: str = "names or indices"
) -> list[tuple[Any, Any]]:
    """Return a list of pairs, each half of which ``is_one`` accepts.

    Raises:
        SkeletonError: If the value is something else.
    """

    def is_pair(item: object) -> bool:
        return isinstance(item, list | tuple) and len(item) == 2 and all(map(is_one, item))

    return [(pair[0], pair[1]) for pair in list_of(key, value, is_pair, f"pairs of {what}", MAX_LIMBS)]


def sigmas_of(value: object) -> list[float] | dict[str, float] | None:
    """Return OKS constants as a list, as a mapping from keypoint names, or None where there are none.

    Raises:
        SkeletonError: If the value is something else.
    """
    if value is None:
        return None
    if isinstance(value, Mapping):
        return dict(zip(value, sigmas_of(list(value.values())) or [], strict=True))
    return [float(number) for number in list_of("sigmas", value, is_finite, "numbers", MAX_KEYPOINTS)]
