"""Read what Label Studio exports as JSON: tasks with keypoints, and boxes around people.

Keypoints belong to the region that they are children of, else to the box that they are related to or lie in alone, else
to the only person of the image.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherpose.data.coco_file import MAX_ANNOTATION_BYTES
from featherpose.data.exchange.annotations import (
    Annotations,
    Box,
    LabeledImage,
    LabeledPerson,
    is_person,
    keypoint_order,
    named_skeleton,
    one_spelling,
)
from featherpose.data.exchange.image_files import ImageFiles, image_size, plain_name
from featherpose.data.exchange.values import keypoint_rows, number, renamed, side
from featherpose.errors import DatasetError
from featherpose.media.images import IMAGE_SUFFIXES
from featherpose.parsing import ParseError, parse_json, read_document, shown
from featherpose.skeleton import Skeleton

__all__ = ["is_label_studio", "read_label_studio"]

_HIDDEN = "hidden"


@dataclass
class _Region:
    """A person while its points are collected."""

    box: Box | None = None
    label: str = "person"
    points: dict[str, tuple[float, float, int]] = field(default_factory=dict)


def is_label_studio(value: object) -> bool:
    """Return True if parsed JSON is a list of Label Studio's tasks."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(task, dict) and isinstance(task.get("data"), dict) for task in value[:10])
        and any(key in value[0] for key in ("annotations", "predictions", "completions"))
    )


def read_label_studio(path: Path, images: ImageFiles, wanted: Skeleton) -> Annotations:
    """Read one JSON export.

    Of several annotations of a task the last is taken that was not skipped; without any, its predictions.

    Args:
        path: The file.
        images: Where its images are, needed only for those whose size the file does not state.
        wanted: Whose spelling is taken for the names of keypoints.

    Raises:
        DatasetError: If the file is no such export, or does not tell which person a keypoint belongs to.
    """
    try:
        tasks = parse_json(read_document(path, MAX_ANNOTATION_BYTES))
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="Label Studio's export as JSON") from error
    if not is_label_studio(tasks):
        raise DatasetError(
            f"{path} is a list, but not of Label Studio's tasks",
            expected='its export "JSON" (not "JSON-MIN"), or a COCO file with images and categories (not results)',
        )
    names: list[str] = []
    skipped, several = 0, 0
    others: Counter[str] = Counter()
    found: list[tuple[str, tuple[int, int], list[_Region]]] = []
    for index, task in enumerate(tasks):
        where = f"{path}: task {shown(task.get('id', index)) if isinstance(task, dict) else index}"
        results, more = _results(where, task)
        several += more
        if results is None:
            skipped += 1
            continue
        name = _image_name(where, task["data"])
        regions, size = _regions(where, results)
        others.update(region.label for region in regions if not region.points and not is_person(region.label))
        regions = [region for region in regions if region.points or is_person(region.label)]
        size = size or _size_of(where, name, images)
        for region in regions:
            names += [point for point in region.points if point not in names]
        found.append((name, size, regions))
    if not names:
        raise DatasetError(f"{path} has no keypoints", expected="regions of the kind keypointlabels")
    spelled = one_spelling(names, wanted)
    skeleton = named_skeleton(keypoint_order(list(spelled.values()), wanted))
    labeled = tuple(
        LabeledImage(
            name, size, tuple(_person(name, region, skeleton, spelled) for region in regions), images.find(name)
        )
        for name, size, regions in found
    )
    findings = [f"left out: {skipped} tasks that nobody labeled, or that were skipped"] if skipped else []
    if several:
        findings.append(f"{several} tasks have several annotations; the last was taken")
    findings += [f"left out: {count} boxes of label {shown(label)}" for label, count in sorted(others.items())]
    return Annotations(skeleton, labeled, tuple(findings))


def _person(image: str, region: _Region, skeleton: Skeleton, spelled: Mapping[str, str]) -> LabeledPerson:
    points = renamed(region.points, spelled, image)
    return LabeledPerson(keypoint_rows(skeleton.keypoints, points), region.box)


def _results(where: str, task: object) -> tuple[list[Mapping[str, Any]] | None, int]:
    """Return the regions of one task, and 1 if there were several annotations to choose from."""
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        raise DatasetError(f"{where} has no data", expected="a task of Label Studio")
    for key in ("annotations", "completions", "predictions"):
        given = task.get(key) or []
        if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
            raise DatasetError(f"{where} has {key} {shown(given)}", expected="a list of objects")
        whole = [one for one in given if not one.get("was_cancelled")]
        if whole:
            results = whole[-1].get("result", [])
            if not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
                raise DatasetError(f"{where} has a result {shown(results)}", expected="a list of regions")
            return results, int(len(whole) > 1)
    return None, 0


def _image_name(where: str, data: Mapping[str, Any]) -> str:
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    for value in (*(texts[key] for key in ("image", "img", "photo", "picture") if key in texts), *texts.values()):
        name = plain_name(value)
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            return name
    raise DatasetError(f"{where} names no image: {shown(dict(data))}")


def _size_of(where: str, name: str, images: ImageFiles) -> tuple[int, int]:
    file = images.find(name)
    if file is None:
        raise DatasetError(
            f"{where} does not say how large {name} is, and the image is not here", hint="name its folder by --images"
        )
    return image_size(file)


def _regions(where: str, results: list[Mapping[str, Any]]) -> tuple[list[_Region], tuple[int, int] | None]:
    """Return the people of one task and the size of its image, where a region states it."""
    people: dict[str, _Region] = {}
    points: list[tuple[str, str, tuple[float, float, int]]] = []  # owner, name, place
    owner_of: dict[str, str] = {}
    size: tuple[int, int] | None = None
    for result in results:
        if result.get("type") == "relation":
            owner_of[str(result.get("from_id"))] = str(result.get("to_id"))
            owner_of.setdefault(str(result.get("to_id")), str(result.get("from_id")))
    for result in results:
        value = result.get("value")
        if result.get("type") not in ("keypointlabels", "rectanglelabels") or not isinstance(value, dict):
            continue
        if result.get("image_rotation") not in (None, 0):
            raise DatasetError(f"{where} labels a rotated image", hint="rotate the image itself and label it again")
        width = side(result.get("original_width"), f"{where}: width")
        height = side(result.get("original_height"), f"{where}: height")
        size = width, height
        label = _label(where, value)
        x, y = (number(value.get(key), f"{where}: {key} of {label}") / 100 for key in ("x", "y"))
        key = str(result.get("id"))
        if result["type"] == "keypointlabels":
            owner = result.get("parentID") or owner_of.get(key) or ""
            place = (x * width, y * height, 1 if _is_hidden(result) else 2)
            points.append((str(owner), label, place))
        else:
            w, h = (number(value.get(part), f"{where}: {part} of {label}") / 100 for part in ("width", "height"))
            if value.get("rotation") not in (None, 0):
                raise DatasetError(f"{where} has a box that is rotated", expected="upright boxes around people")
            people[key] = _Region((x * width, y * height, w * width, h * height), label)
    _give(where, people, points)
    return list(people.values()), size


def _label(where: str, value: Mapping[str, Any]) -> str:
    labels = value.get("keypointlabels") or value.get("rectanglelabels")
    if not isinstance(labels, list) or not labels or not isinstance(labels[0], str) or not 0 < len(labels[0]) <= 200:
        raise DatasetError(f"{where} has a region without label: {shown(dict(value))}")
    return str(labels[0])


def _is_hidden(result: Mapping[str, Any]) -> bool:
    meta = result.get("meta")
    text = meta.get("text") if isinstance(meta, dict) else None
    return isinstance(text, list) and _HIDDEN in text


def _give(where: str, people: dict[str, _Region], points: list[tuple[str, str, tuple[float, float, int]]]) -> None:
    """Hand each point to its person; makes people for points whose owner has no box."""
    loose: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for owner, name, place in points:
        if not owner:
            loose[name].append(place)
            continue
        person = people.setdefault(owner, _Region())
        if name in person.points:
            raise DatasetError(f"{where} has {name} twice in one person")
        person.points[name] = place
    if not loose:
        return
    if not people and all(len(places) == 1 for places in loose.values()):
        people["only"] = _Region(points={name: places[0] for name, places in loose.items()})
        return
    for name, places in loose.items():
        for place in places:
            around = [
                p for p in people.values() if p.box is not None and _inside(place, p.box) and name not in p.points
            ]
            if len(around) != 1:
                raise DatasetError(
                    f"{where} has {name} at ({place[0]:.0f}, {place[1]:.0f}), which lies in {len(around)} boxes of "
                    "people without it",
                    expected="keypoints that are children of their person's box, or lie in one alone",
                )
            around[0].points[name] = place


def _inside(place: tuple[float, float, int], box: Box) -> bool:
    return box[0] <= place[0] <= box[0] + box[2] and box[1] <= place[1] <= box[1] + box[3]
