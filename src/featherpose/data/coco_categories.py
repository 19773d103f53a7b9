"""Choice of the person category of a COCO file, and the names of its keypoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featherpose.data.keypoint_names import matched_names
from featherpose.errors import DatasetError, SkeletonError
from featherpose.parsing import is_integer, shown
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["PersonCategory", "person_category"]

_PERSON_NAMES = ("person", "people", "human", "pedestrian")
_MAX_CATEGORIES, _MAX_KEYPOINTS, _MAX_NAME = 10_000, 1000, 200


@dataclass(frozen=True, slots=True)
class PersonCategory:
    """The category that is read.

    Attributes:
        category_id: Its id in the file; 1 where the file has no categories.
        skeleton: Its keypoints in the file's order, without limbs.
        is_only: Whether the file knows no other, so that annotations need not name it.
        left_out: One clause for each other category with annotations.
    """

    category_id: int
    skeleton: Skeleton
    is_only: bool
    left_out: tuple[str, ...] = ()

    def holds(self, annotation: Mapping[str, Any]) -> bool:
        """Return whether an annotation is of this category."""
        value = annotation.get("category_id")
        return (value is None and self.is_only) or (not isinstance(value, bool) and value == self.category_id)


def person_category(path: Path, data: Mapping[str, Any], wanted: Skeleton) -> PersonCategory:
    """Choose the category by name and keypoints.

    The category that names most of the wanted keypoints is taken, of several such that called ``person``. A file
    without categories, or without keypoint names, has the wanted skeleton or COCO's, as its number of keypoints says.

    Args:
        path: Of the file, for messages.
        data: The file, with a list of objects ``annotations``.
        wanted: The skeleton that people shall be brought to.

    Raises:
        DatasetError: If categories are malformed or ambiguous, an annotation's is not listed, or keypoints have no
            names and no known number.
    """
    categories = _listed(path, data.get("categories"))
    used = Counter(_category_of(path, number, record) for number, record in enumerate(data["annotations"]))
    if data["annotations"] and not any("keypoints" in record for record in data["annotations"]):
        kinds = sorted({key for a in data["annotations"][:100] for key in a} & {"caption", "segmentation", "bbox"})
        raise DatasetError(
            f"{path} has no keypoints (but {', '.join(kinds) or 'nothing known'})",
            expected="person keypoint annotations, such as person_keypoints_val2017.json",
        )
    stated = [key for key in used if key is not None]
    if not categories:
        if len(stated) > 1:
            raise DatasetError(f"{path} has annotations of {len(stated)} categories and no list 'categories'")
        only = stated[0] if stated else 1
        return PersonCategory(only, _unnamed(path, data, wanted, only, is_only=True), True)
    for key in stated:
        if key not in categories:
            raise DatasetError(f"{path} has annotations of category {key}, which is not listed")
    chosen = _chosen(path, categories, used, wanted)
    is_only = len(categories) == 1
    if not is_only and used[None]:
        raise DatasetError(f"{path} has {used[None]} annotations without category_id, and {len(categories)} categories")
    name, keypoints = categories[chosen]
    left_out = tuple(
        f"left out: {count} of category {shown(categories[key][0])}"
        for key, count in sorted(used.items(), key=lambda pair: str(pair[0]))
        if key is not None and key != chosen
    )
    if not keypoints:
        return PersonCategory(chosen, _unnamed(path, data, wanted, chosen, is_only=is_only), is_only, left_out)
    try:
        skeleton = Skeleton.create(name, matched_names(keypoints, wanted.keypoints), [])
    except SkeletonError as error:
        raise DatasetError(f"{path}: category {shown(name)} cannot be used: {error}") from error
    return PersonCategory(chosen, skeleton, is_only, left_out)


def _listed(path: Path, value: object) -> dict[int, tuple[str, list[str]]]:
    if value is None:
        return {}
    if not isinstance(value, list) or len(value) > _MAX_CATEGORIES:
        raise DatasetError(f"{path}: 'categories' is {shown(value)}", expected="a list of categories")
    found: dict[int, tuple[str, list[str]]] = {}
    for number, category in enumerate(value):
        if not isinstance(category, dict):
            raise DatasetError(f"{path}: category {number} is {shown(category)}", expected="an object with id and name")
        key = category.get("id", 1 if len(value) == 1 else None)
        if not is_integer(key) or key in found:
            raise DatasetError(f"{path}: category {number} has id {shown(key)}", expected="a whole number of its own")
        name, keypoints = category.get("name", "person"), category.get("keypoints") or []
        if not _is_name(name):
            raise DatasetError(f"{path}: category {key} has name {shown(name)}", expected="a short text")
        if not isinstance(keypoints, list) or len(keypoints) > _MAX_KEYPOINTS or not all(map(_is_name, keypoints)):
            raise DatasetError(
                f"{path}: category {key} has keypoints {shown(keypoints)}", expected=f"at most {_MAX_KEYPOINTS} names"
            )
        found[key] = (name, keypoints)
    return found


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _category_of(path: Path, number: int, annotation: Mapping[str, Any]) -> int | None:
    value = annotation.get("category_id")
    if value is not None and not is_integer(value):
        raise DatasetError(f"{path}: annotation {number} has category_id {shown(value)}", expected="a whole number")
    return value


def _chosen(
    path: Path, categories: Mapping[int, tuple[str, list[str]]], used: Mapping[int | None, int], wanted: Skeleton
) -> int:
    def shared(keypoints: list[str]) -> int:
        if not keypoints:
            return 0
        names = set(matched_names(keypoints, wanted.keypoints))
        return len(names & set(wanted.keypoints))

    scores = {key: shared(keypoints) for key, (_, keypoints) in categories.items()}
    best = [key for key in categories if scores[key] == max(scores.values())]
    for narrower in (
        [key for key in best if categories[key][0].strip().casefold() in _PERSON_NAMES],
        [key for key in best if categories[key][1]],
        [key for key in best if used.get(key)],
    ):
        if narrower:
            best = narrower
    if len(best) > 1:
        names = ", ".join(shown(categories[key][0]) for key in best[:4])
        raise DatasetError(
            f"{path} has {len(best)} categories that may be meant: {names}", expected="one called person"
        )
    return best[0]


def _unnamed(path: Path, data: Mapping[str, Any], wanted: Skeleton, category: int, *, is_only: bool) -> Skeleton:
    lengths = Counter(
        len(record["keypoints"])
        for record in data["annotations"]
        if isinstance(record.get("keypoints"), list)
        and (record.get("category_id") == category or (is_only and record.get("category_id") is None))
    )
    for skeleton in (wanted, COCO_17):
        if lengths[3 * skeleton.num_keypoints]:
            return skeleton
    if not lengths:
        return wanted
    raise DatasetError(
        f"{path} does not name its keypoints, and has {lengths.most_common(1)[0][0]} keypoint numbers for a person",
        expected=f"'keypoints' in its category, or {3 * wanted.num_keypoints} numbers",
    )
