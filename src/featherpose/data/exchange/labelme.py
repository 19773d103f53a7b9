"""Read LabelMe: one JSON file an image, points and rectangles, grouped to people by a number."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

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
from featherpose.data.exchange.image_files import ImageFiles, plain_name
from featherpose.data.exchange.values import keypoint_rows, number, renamed, side
from featherpose.errors import DatasetError
from featherpose.parsing import ParseError, is_file, parse_json, read_document, shown
from featherpose.skeleton import Skeleton

__all__ = ["find_labelme", "read_labelme"]

# With the image itself in the file, as LabelMe writes it unless told otherwise.
_MAX_BYTES = 2**28
_START_BYTES = 4096

_Found = tuple[LabeledImage, list[tuple[dict[str, tuple[float, float, int]], Box | None]]]


def find_labelme(source: Path) -> list[Path]:
    """Return LabelMe's files of a folder and its subfolders, or the file itself; empty if there are none."""
    paths = sorted(source.rglob("*.json")) if source.is_dir() else [source]
    return [path for path in paths if path.suffix.lower() == ".json" and _looks_right(path)]


def _looks_right(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except OSError:
        return False
    return b'"shapes"' in start or (b'"version"' in start and b'"flags"' in start)


def read_labelme(paths: list[Path], images: ImageFiles, wanted: Skeleton, root: Path) -> Annotations:
    """Read LabelMe's files.

    Args:
        paths: One an image.
        images: Where the images are.
        wanted: Whose order and spelling of keypoints is taken.
        root: The folder that names of images are relative to.

    Raises:
        DatasetError: If a file is none of LabelMe's, or does not tell which person a keypoint belongs to.
    """
    names: list[str] = []
    left_out: Counter[str] = Counter()
    read: list[_Found] = []
    for path in paths:
        found = _file(path, images, root, left_out)
        for points, _ in found[1]:
            names += [name for name in points if name not in names]
        read.append(found)
    if not names:
        raise DatasetError(f"{paths[0].parent} has no points", expected="shapes of the kind point, named by keypoint")
    spelled = one_spelling(names, wanted)
    skeleton = named_skeleton(keypoint_order(list(spelled.values()), wanted))
    labeled = []
    for image, people in read:
        everyone = tuple(
            LabeledPerson(keypoint_rows(skeleton.keypoints, renamed(points, spelled, image.file_name)), box)
            for points, box in people
        )
        labeled.append(LabeledImage(image.file_name, image.size, everyone, image.path))
    findings = tuple(f"left out: {count} shapes of the kind {shown(kind)}" for kind, count in sorted(left_out.items()))
    return Annotations(skeleton, tuple(labeled), findings)


def _file(path: Path, images: ImageFiles, root: Path, left_out: Counter[str]) -> _Found:
    try:
        data = parse_json(read_document(path, _MAX_BYTES))
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="a file of LabelMe") from error
    shapes = data.get("shapes") if isinstance(data, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise DatasetError(f"{path} has no list of shapes", expected="a file of LabelMe")
    size = side(data.get("imageWidth"), f"{path}: imageWidth"), side(data.get("imageHeight"), f"{path}: imageHeight")
    given = data.get("imagePath")
    name = plain_name(given) if isinstance(given, str) else ""
    if not name:
        raise DatasetError(f"{path} has imagePath {shown(given)}", expected="the name of its image")
    # Paths are relative to the file; images of one name in two folders stay apart.
    file = path.parent / name
    if is_file(file) and file.is_relative_to(root):
        return LabeledImage(file.relative_to(root).as_posix(), size, (), file), _people(path, shapes, left_out)
    return LabeledImage(PurePosixPath(name).name, size, (), images.find(name)), _people(path, shapes, left_out)


def _people(
    path: Path, shapes: list[Mapping[str, Any]], left_out: Counter[str]
) -> list[tuple[dict[str, tuple[float, float, int]], Box | None]]:
    points: dict[object, dict[str, tuple[float, float, int]]] = defaultdict(dict)
    boxes: dict[object, Box] = {}
    alone: list[Box] = []
    others: list[tuple[object, str]] = []
    for shape in shapes:
        kind, label, group = shape.get("shape_type", "polygon"), shape.get("label"), shape.get("group_id")
        if kind not in ("point", "rectangle"):
            left_out[str(kind)[:40]] += 1
            continue
        corners = _corners(path, shape)
        if not isinstance(label, str) or not 0 < len(label) <= 200 or not isinstance(group, int | str | None):
            raise DatasetError(f"{path} has a shape with label {shown(label)} and group {shown(group)}")
        if kind == "point":
            if label in points[group]:
                where = "without a group" if group is None else f"in group {shown(group)}"
                raise DatasetError(
                    f"{path} has two points {shown(label)} {where}",
                    expected="one group for each person (LabelMe: Edit Label, Group ID)",
                )
            points[group][label] = (*corners[0], 1 if shape.get("difficult") is True else 2)
            continue
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        box = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
        if not is_person(label):
            others.append((group, label))
        if group is not None:
            boxes[group] = box
        elif is_person(label):
            alone.append(box)
    if None in points and len(alone) == 1 and len(points) == 1:
        boxes[None] = alone.pop()
    for group, label in others:  # a rectangle of any name may go with points, none alone
        if group is None or group not in points:
            boxes.pop(group, None)
            left_out[f"rectangle, {label[:40]}"] += 1
    groups = list(dict.fromkeys((*points, *boxes)))
    return [*((points[group], boxes.get(group)) for group in groups), *(({}, box) for box in alone)]


def _corners(path: Path, shape: Mapping[str, Any]) -> list[tuple[float, float]]:
    given = shape.get("points")
    wanted = (1,) if shape.get("shape_type") == "point" else (2, 4)
    if not isinstance(given, list) or len(given) not in wanted or not all(isinstance(p, list) for p in given):
        raise DatasetError(f"{path} has a {shape.get('shape_type')} with points {shown(given)}")
    if any(len(p) != 2 for p in given):
        raise DatasetError(f"{path} has points {shown(given)}", expected="[[x, y], …]")
    return [(number(x, f"{path}: x"), number(y, f"{path}: y")) for x, y in given]
