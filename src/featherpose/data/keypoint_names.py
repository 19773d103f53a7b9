"""Match keypoint names that differ in separators, case or the way sides are written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from featherpose.skeleton import builtin_skeletons

__all__ = ["canonical_name", "matched_names"]

_SIDES = {"l": "left", "r": "right", "left": "left", "right": "right"}
_CASE_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\W_]+")


def canonical_name(name: str) -> str:
    """Return a name in lower case, with ``_`` between words and the side in front.

    Example:
        >>> [canonical_name(n) for n in ("left-eye", "Left Eye", "leftEye", "LEye", "eye (left)", "l_eye")]
        ['left_eye', 'left_eye', 'left_eye', 'left_eye', 'left_eye', 'left_eye']
    """
    words = [word for word in _SEPARATORS.split(_CASE_BOUNDARY.sub("_", name).casefold()) if word]
    sides = [word for word in words if word in _SIDES]
    if len(sides) == 1 and len(words) > 1:
        words.remove(sides[0])
        words.insert(0, _SIDES[sides[0]])
    return "_".join(words)


def matched_names(names: Sequence[str], wanted: Iterable[str]) -> list[str]:
    """Return the names with those of the wanted or built-in keypoints in place of other spellings of them.

    A name that is ambiguous, or that would occur twice, stays as it is.

    Example:
        >>> matched_names(["Left-Eye", "tail"], ["left_eye"])
        ['left_eye', 'tail']
    """
    known = list(dict.fromkeys([*wanted, *(n for s in builtin_skeletons().values() for n in s.keypoints)]))
    forms = Counter(map(canonical_name, known))
    by_form = {canonical_name(name): name for name in known if forms[canonical_name(name)] == 1}
    exact = set(known)
    replaced = [name if name in exact else by_form.get(canonical_name(name), name) for name in names]
    often = Counter(replaced)
    return [new if often[new] == 1 else old for old, new in zip(names, replaced, strict=True)]
