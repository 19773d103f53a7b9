"""Read YOLO-pose data sets: a folder with ``data.yaml``, ``images/`` and ``labels/`` of text files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from featherpose.data.exchange.annotations import (
    Annotations,
    LabeledImage,
    LabeledPerson,
    is_person,
    named_skeleton,
)
from featherpose.data.exchange.image_files import image_size
from featherpose.data.keypoint_names import matched_names
from featherpose.errors import DatasetError
from featherpose.media.images import IMAGE_SUFFIXES
from featherpose.parsing import (
    Limits,
    ParseError,
    check_values,
    decode_text,
    is_file,
    is_folder,
    is_integer,
    read_document,
    shown,
)
from featherpose.skeleton import Skeleton
from featherpose.skeleton_fields import MAX_KEYPOINTS

__all__ = ["find_yolo_pose", "read_yolo_pose"]

_MAX_LABEL_BYTES = 2**24
# Rounding leaves coordinates a little outside the image; more is another unit.
_SLACK = 0.01


@dataclass(frozen=True, slots=True)
class _Layout:
    """What ``data.yaml`` says."""

    names: Mapping[int, str]
    count: int
    numbers: int
    keypoints: tuple[str, ...] | None
    roots: tuple[Path, ...]


def find_yolo_pose(source: Path) -> Path | None:
    """Return the ``data.yaml`` of a folder, or the file itself; None if it is none of YOLO-pose."""
    if source.is_file():
        return source if source.suffix.lower() in (".yaml", ".yml") else None
    # Some tools put everything into one folder of the archive.
    for folder in (source, *sorted(path for path in source.iterdir() if path.is_dir())):
        for path in (folder / "data.yaml", *sorted(folder.glob("*.yaml")), *sorted(folder.glob("*.yml"))):
            if path.is_file():
                return path
    return None


def read_yolo_pose(path: Path, wanted: Skeleton) -> Annotations:
    """Read all parts (train, val, test) of a data set.

    Args:
        path: Its ``data.yaml``.
        wanted: Names the keypoints where the file does not, if it has as many.

    Raises:
        DatasetError: If the folder is no such data set, or a label file contradicts it.
    """
    layout = _layout(path)
    people = [key for key, name in layout.names.items() if is_person(name)]
    if not people and len(layout.names) > 1:
        raise DatasetError(f"{path} has the classes {shown(list(layout.names.values()))}", expected="one called person")
    if layout.keypoints is not None:
        keypoints = tuple(matched_names(layout.keypoints, wanted.keypoints))
    elif layout.count == wanted.num_keypoints:
        keypoints = wanted.keypoints
    else:
        raise DatasetError(
            f"{path} has {layout.count} keypoints without names, and {wanted.name} has {wanted.num_keypoints}",
            hint="name a skeleton of as many keypoints, in their order, with --skeleton",
        )
    labels: list[LabeledImage] = []
    left_out: Counter[str] = Counter()
    unlabeled = 0
    for file, name in _images(path.parent, layout.roots):
        label_file = _label_file(file)
        if label_file is None:
            unlabeled += 1
            continue
        size = image_size(file)
        found = _people(label_file, layout, set(people), size, left_out)
        labels.append(LabeledImage(name, size, found, file))
    findings = [f"left out: {count} of class {name}" for name, count in sorted(left_out.items())]
    if unlabeled:
        findings.append(f"{unlabeled} images have no label file, and are left out")
    return Annotations(named_skeleton(keypoints), tuple(labels), tuple(findings))


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc] # without types
    """Plain YAML without references, which unfold to far more than the file."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("it has references")
        return super().compose_node(parent, index)


def _check_nesting(text: str) -> None:
    """Refuse brackets inside of too many others: PyYAML takes seconds for two kilobytes of them."""
    depth = 0
    for bracket in re.findall(r"[][{}]", text):
        depth = depth + 1 if bracket in "[{" else max(0, depth - 1)
        if depth > Limits().max_depth:
            raise ParseError("is nested too deep")


def _layout(path: Path) -> _Layout:
    try:
        text = decode_text(read_document(path, Limits().max_bytes))
        _check_nesting(text)
        data = yaml.load(text, _PlainLoader)
        check_values(data, Limits())
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="the data.yaml of a data set") from error
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise DatasetError(f"{path} is no YAML: {' '.join(str(error).split())[:200]}") from error
    shape = data.get("kpt_shape") if isinstance(data, dict) else None
    if not isinstance(data, dict) or shape is None:
        raise DatasetError(f"{path} has no kpt_shape", expected="the data.yaml of a YOLO-pose data set")
    if not isinstance(shape, list) or len(shape) != 2 or not all(map(is_integer, shape)):
        raise DatasetError(f"{path} has kpt_shape {shown(shape)}", expected="[keypoints, 2 or 3]")
    count, numbers = shape
    if not 0 < count <= MAX_KEYPOINTS or numbers not in (2, 3):
        raise DatasetError(f"{path} has kpt_shape {shown(shape)}", expected="[keypoints, 2 or 3]")
    names = _class_names(path, data.get("names"))
    keypoints = _keypoint_names(path, data.get("kpt_names"), names, count)
    base = path.parent
    stated = data.get("path")
    # A path from another machine is none here: then the folder of the file is meant, as Ultralytics does.
    if isinstance(stated, str) and is_folder(base / stated):
        base = base / stated
    roots = [base / root for key in ("train", "val", "test") for root in _texts(path, key, data.get(key))]
    return _Layout(names, count, numbers, keypoints, tuple(roots) or (base / "images",))


def _texts(path: Path, key: str, value: object) -> list[str]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DatasetError(f"{path} has {key} {shown(value)}", expected="a folder of images, or several")
    return [text for text in texts if text]


def _class_names(path: Path, value: object) -> dict[int, str]:
    names = dict(enumerate(value)) if isinstance(value, list) else value
    if names is None:
        return {0: "person"}
    if not isinstance(names, dict) or not all(is_integer(k) and isinstance(v, str) for k, v in names.items()):
        raise DatasetError(f"{path} has names {shown(value)}", expected="the name of each class")
    return names


def _keypoint_names(path: Path, value: object, classes: Mapping[int, str], count: int) -> tuple[str, ...] | None:
    if isinstance(value, dict):  # by class
        person = next((key for key, name in classes.items() if is_person(name)), next(iter(classes), 0))
        value = value.get(person)
    elif isinstance(value, list) and value and all(isinstance(names, list) for names in value):  # the same, as a list
        value = value[0]
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != count or not all(isinstance(n, str) and n for n in value):
        raise DatasetError(f"{path} has kpt_names {shown(value)}", expected=f"{count} names")
    if len(set(value)) < count:
        raise DatasetError(f"{path} has kpt_names {shown(value)}", expected="different names")
    return tuple(value)


def _images(home: Path, roots: tuple[Path, ...]) -> list[tuple[Path, str]]:
    """Return the images below the roots, each with its name relative to the folder ``images`` that holds it."""
    found: dict[Path, str] = {}
    for root in roots:
        if is_file(root) and root.suffix.lower() == ".txt":
            for line in decode_text(read_document(root, 2**28)).splitlines():
                file = root.parent / line.strip()
                if line.strip() and is_file(file):
                    found[file.absolute()] = _relative(file, home)
            continue
        if not is_folder(root):
            # Exports keep the paths of the machine that they come from.
            root = home / root.name if is_folder(home / root.name) else home / "images" / root.name
        if not is_folder(root):
            raise DatasetError(f"there is no folder of images {root}", hint="correct data.yaml")
        for file in sorted(root.rglob("*")):
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("._"):
                found[file.absolute()] = _relative(file, home)
    return list(found.items())


def _relative(file: Path, home: Path) -> str:
    parts = file.relative_to(home).parts if file.is_relative_to(home) else file.parts
    inside = parts[parts.index("images") + 1 :] if "images" in parts else parts
    return PurePosixPath(*(inside if not file.is_absolute() or inside != file.parts else (file.name,))).as_posix()


def _label_file(image: Path) -> Path | None:
    """Return the text file of an image: in ``labels`` where it is in ``images``, or beside it."""
    parts = list(image.parts)
    places = [image.with_suffix(".txt")]
    for i in range(len(parts) - 1, -1, -1):
        if parts[i] == "images":
            places.insert(0, Path(*parts[:i], "labels", *parts[i + 1 :]).with_suffix(".txt"))
            break
    return next((place for place in places if place.is_file()), None)


def _people(
    path: Path, layout: _Layout, people: set[int], size: tuple[int, int], left_out: Counter[str]
) -> tuple[LabeledPerson, ...]:
    try:
        lines = decode_text(read_document(path, _MAX_LABEL_BYTES)).splitlines()
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="a label file of YOLO-pose") from error
    found = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        where = f"{path} line {number}"
        try:
            values = np.array(words, np.float64)
        except ValueError:
            raise DatasetError(f"{where} is {shown(line)}", expected="numbers") from None
        wanted = 5 + layout.count * layout.numbers
        if len(values) not in (5, wanted) or values[0] != int(values[0]):
            raise DatasetError(f"{where} has {len(values)} numbers", expected=f"{wanted}: class, box, keypoints")
        kind = int(values[0])
        if people and kind not in people:
            left_out[str(layout.names.get(kind, kind))] += 1
            continue
        found.append(_person(where, values, layout, size))
    return tuple(found)


def _person(where: str, values: np.ndarray, layout: _Layout, size: tuple[int, int]) -> LabeledPerson:
    scale = np.array(size, np.float64)
    keypoints = np.zeros((layout.count, 3))
    if len(values) > 5:
        given = values[5:].reshape(layout.count, layout.numbers)
        # Two numbers a keypoint leave 0, 0 to say that it is missing.
        known = given[:, 2] > 0 if layout.numbers == 3 else (given != 0).any(axis=1)
        keypoints[known, :2] = given[known, :2]
        keypoints[known, 2] = np.where(given[known, 2] < 2, 1, 2) if layout.numbers == 3 else 2
    box = values[1:5]
    everything = np.concatenate((box, keypoints[:, :2].ravel()))
    if not (np.isfinite(everything).all() and (everything >= -_SLACK).all() and (everything <= 1 + _SLACK).all()):
        raise DatasetError(f"{where} has coordinates outside 0 to 1", expected="parts of the image's width and height")
    keypoints[:, :2] *= scale
    center, extent = box[:2] * scale, box[2:] * scale
    left, top = (center - extent / 2).tolist()
    return LabeledPerson(keypoints, (left, top, float(extent[0]), float(extent[1])))
