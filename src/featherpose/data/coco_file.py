"""Reader of COCO keypoint files: one set of rules for training, evaluation and ``featherpose data check``.

What is taken is checked value by value and copied; nothing else of the file survives. Wrong content is of two kinds:
*faults*, for which no right value is known and which every reader refuses, and *findings*, for which the file itself
says what is right (a count, an id) or which only look doubtful: they are put right or kept, and reported.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float64

from featherpose.data.coco_categories import PersonCategory, person_category
from featherpose.errors import DatasetError
from featherpose.parsing import ParseError, is_file, is_finite, is_folder, is_integer, parse_json, read_document, shown
from featherpose.skeleton import Skeleton

__all__ = [
    "MAX_ANNOTATION_BYTES",
    "CocoFile",
    "CocoFinding",
    "CocoImage",
    "CocoPerson",
    "is_name_inside",
    "locate_coco",
    "read_coco_file",
]

_log = logging.getLogger(__name__)

# Annotations of all of COCO train2017 have 240 MB.
MAX_ANNOTATION_BYTES = 2**30
_MAX_NAME, _MAX_SIDE_PX = 1024, 10**6
_MAX_LISTED = 1000
# OKS scales by the area of the person's segment; this is COCO's mean ratio of segments to boxes.
_SEGMENT_PART = 0.53


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One image that the file lists.

    Attributes:
        image_id: COCO's id.
        file_name: Relative to the folder of the images, with ``/``; never outside it.
        size: (width, height) in pixels; (0, 0) where the file does not say.
    """

    image_id: int
    file_name: str
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class CocoPerson:
    """One annotated person or crowd.

    Attributes:
        image_id: The image's id.
        keypoints: float64[K, 3] (x, y in pixels, visibility: over 0 where labeled); 0, 0, 0 where not labeled.
        box: (left, top, width, height) in pixels.
        area: Of the segment in square pixels, as OKS takes it.
        is_crowd: Whether this is a group that was not annotated one by one.
    """

    image_id: int
    keypoints: Float64[np.ndarray, "K 3"]
    box: tuple[float, float, float, float]
    area: float
    is_crowd: bool

    @property
    def is_labeled(self) -> bool:
        """Return whether the person has keypoints, so that it is trained on and counts in evaluation."""
        return not self.is_crowd and bool((self.keypoints[:, 2] > 0).any())


@dataclass(frozen=True, slots=True)
class CocoFinding:
    """Something wrong or doubtful in the file.

    Attributes:
        kind: ``ids``, ``num_keypoints``, ``category``, ``box``, ``origin``, ``keypoints`` or, for a fault, ``refused``.
        detail: One clause.
        file_name: The image concerned; empty for the whole file.
    """

    kind: str
    detail: str
    file_name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CocoFile:
    """A COCO keypoint file that was read.

    Attributes:
        path: The file.
        skeleton: The file's keypoints in its own order, without limbs; names in the spelling of the wanted skeleton.
        images: In the order of the file.
        people: In the order of the file; annotations of other categories are left out.
        category_id: The person category's id in the file.
        faults: What makes the file unusable; empty unless it was read for a check.
        findings: What is wrong without harm, or doubtful.
    """

    path: Path
    skeleton: Skeleton
    images: tuple[CocoImage, ...]
    people: tuple[CocoPerson, ...]
    category_id: int
    faults: tuple[CocoFinding, ...] = ()
    findings: tuple[CocoFinding, ...] = ()

    def summary(self) -> str:
        """Return the findings in one line: ``13 num_keypoints, 2 box``; empty if there are none."""
        return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(f.kind for f in self.findings).items()))


def locate_coco(dataset: Path, images: Path | None = None) -> tuple[Path, Path]:
    """Find the annotation file of a data set and the folder of its images.

    Args:
        dataset: A folder with ``annotations.json`` (or ``annotations.json.gz``) and ``images/``, or the file itself.
        images: Folder of the images; ``images`` beside the file unless given.

    Raises:
        DatasetError: If one of them is missing.
    """
    expected = "a folder with annotations.json and images/, or a COCO keypoint file with --images"
    if is_folder(dataset):
        found = [dataset / name for name in ("annotations.json", "annotations.json.gz") if (dataset / name).is_file()]
        if not found:
            raise DatasetError(f"folder {dataset} has no annotations.json", expected=expected)
        file = found[0]
    elif is_file(dataset):
        file = dataset
    else:
        raise DatasetError(f"there is no {dataset}", expected=expected)
    folder = images or file.parent / "images"
    if not is_folder(folder):
        hint = "say where the images are with --images FOLDER"
        raise DatasetError(f"there is no folder of images {folder}", hint=hint)
    return file, folder


def read_coco_file(path: Path, wanted: Skeleton, *, keep_faults: bool = False) -> CocoFile:
    """Read and check COCO person keypoints: JSON in UTF-8, UTF-16 or UTF-32, also gzipped.

    Findings are logged in one line.

    Args:
        path: The file.
        wanted: The skeleton that people shall be brought to; the file's category and keypoint names are matched with
            it by name, in any order and spelling.
        keep_faults: Report faults in the result instead of raising the first.

    Raises:
        DatasetError: If the file is not COCO keypoints, contradicts itself, annotates nobody, or shares no keypoint
            with the skeleton.
    """
    data = _load(path)
    reader = _Reader(path, data, person_category(path, data, wanted))
    found = reader.read()
    source = found.skeleton
    if not any(source.mapping_to(wanted)):
        raise DatasetError(
            f"{path} has keypoints {', '.join(source.keypoints[:4])}, …",
            expected=f"some of skeleton {wanted.name!r}: {', '.join(wanted.keypoints[:4])}, …",
        )
    if found.faults and not keep_faults:
        more = len(found.faults) - 1
        raise DatasetError(
            f"{path}: {found.faults[0].detail}" + (f" (and {more} more faults)" if more else ""),
            hint="featherpose data check lists them all" if more else None,
        )
    if found.findings and not keep_faults:
        _log.warning("%s: %s; featherpose data check lists them", path, found.summary())
    return found


def _load(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise DatasetError(f"{path} does not exist", expected="a COCO keypoint file")
    try:
        data = parse_json(read_document(path, MAX_ANNOTATION_BYTES))
    except ParseError as error:
        raise DatasetError(f"{path} {error}", expected="a COCO keypoint file") from error
    if isinstance(data, list):
        raise DatasetError(f"{path} is a list, as COCO results are", expected="COCO annotations, with the ground truth")
    if not isinstance(data, dict):
        raise DatasetError(f"{path} holds a {type(data).__name__}", expected="COCO annotations, an object")
    for key in ("images", "annotations"):
        if not isinstance(data.get(key), list) or not all(isinstance(item, dict) for item in data[key]):
            raise DatasetError(
                f"{path} is not in COCO format: it has no list {key!r} of objects",
                expected="COCO annotations: images, annotations, categories",
            )
    return data


class _Reader:
    """Collects what the file holds and what is wrong with it."""

    def __init__(self, path: Path, data: Mapping[str, Any], category: PersonCategory) -> None:
        self._path, self._data, self._category = path, data, category
        self._faults: list[CocoFinding] = []
        self._findings: list[CocoFinding] = []

    def read(self) -> CocoFile:
        images: dict[int, CocoImage] = {}
        for number, record in enumerate(self._data["images"]):
            image = self._image(number, record)
            if image is not None and image.image_id in images:
                self._fault(f"two images have the id {image.image_id}", image.file_name)
            elif image is not None:
                images[image.image_id] = image
        if not self._data["images"]:
            self._fault("lists no images")
        people: list[CocoPerson] = []
        seen: set[int] = set()
        self._findings += [CocoFinding("category", detail) for detail in self._category.left_out]
        for number, record in enumerate(self._data["annotations"]):
            if self._category.holds(record):
                person = self._person(number, record, images)
                if person is not None:
                    people.append(person)
                    self._check_id(number, record.get("id"), images[person.image_id].file_name, seen)
        if not self._faults and not any(person.is_labeled for person in people):
            self._fault("annotates nobody's keypoints")
        return CocoFile(
            self._path, self._category.skeleton, tuple(images.values()), tuple(people), self._category.category_id,
            tuple(self._faults), tuple(self._findings),
        )  # fmt: skip

    def _fault(self, detail: str, file_name: str = "") -> None:
        if len(self._faults) < _MAX_LISTED:
            self._faults.append(CocoFinding("refused", detail, file_name))

    def _find(self, kind: str, detail: str, file_name: str) -> None:
        self._findings.append(CocoFinding(kind, detail, file_name))

    def _image(self, number: int, record: Mapping[str, Any]) -> CocoImage | None:
        image_id, name = record.get("id"), record.get("file_name")
        if not is_integer(image_id) or not isinstance(name, str) or not is_name_inside(name):
            if is_integer(image_id) and isinstance(name, str) and name:
                # A file from elsewhere must not make the reader access files outside the folder.
                self._fault(f"image {image_id} has file name {shown(name)}; expected a name inside the folder")
            else:
                self._fault(f"image {number} has id {shown(image_id)} and file name {shown(name)}")
            return None
        sides = []
        for key in ("width", "height"):
            value = record.get(key)
            if value is None:
                value = 0
            if not is_finite(value) or value != int(value) or not 0 <= value <= _MAX_SIDE_PX:
                self._fault(f"image {image_id} has {key} {shown(value)}; expected pixels, a whole number", name)
                return None
            sides.append(int(value))
        return CocoImage(int(image_id), name, (sides[0], sides[1]) if all(sides) else (0, 0))

    def _check_id(self, number: int, value: object, file_name: str, seen: set[int]) -> None:
        # Ids serve no purpose here: people are numbered anew. Other programs need unique ones.
        if not is_integer(value):
            self._find("ids", f"annotation {number} has id {shown(value)}; expected a whole number", file_name)
        elif value in seen:
            self._find("ids", f"two annotations have the id {value}", file_name)
        else:
            seen.add(value)

    def _person(self, number: int, record: Mapping[str, Any], images: Mapping[int, CocoImage]) -> CocoPerson | None:
        image_id = record.get("image_id")
        image = images.get(image_id) if is_integer(image_id) else None
        if image is None:
            if not self._faults:  # the refused image is the cause
                self._fault(f"annotation {number} belongs to image {shown(image_id)}, which is not listed")
            return None
        try:
            return self._read_person(number, record, image)
        except _FaultError as error:
            self._fault(f"annotation {number} {error}", image.file_name)
            return None

    def _read_person(self, number: int, record: Mapping[str, Any], image: CocoImage) -> CocoPerson:
        keypoints = _keypoints(record.get("keypoints"), self._category.skeleton)
        points = keypoints[keypoints[:, 2] > 0, :2]
        if _is_normalized(points, image.size):
            raise _FaultError("has keypoints between 0 and 1; expected pixels")
        box = _box(record.get("bbox"), points)
        crowd = record.get("iscrowd")
        if not (crowd is None or isinstance(crowd, int)) or crowd not in (None, 0, 1):
            raise _FaultError(f"has iscrowd {shown(crowd)}; expected 0 or 1")
        area = record.get("area")
        if area is None:
            area = _SEGMENT_PART * box[2] * box[3]
        if not is_finite(area, 1e18) or area < 0:
            raise _FaultError(f"has area {shown(area)}; expected square pixels")
        self._doubt(number, record, image, points, box)
        return CocoPerson(image.image_id, keypoints, box, float(area), bool(crowd))

    def _doubt(
        self, number: int, record: Mapping[str, Any], image: CocoImage, points: np.ndarray, box: tuple[float, ...]
    ) -> None:
        where, stated, counted = f"annotation {number}", record.get("num_keypoints"), len(points)
        if stated is not None and (isinstance(stated, bool) or stated != counted):
            detail = f"{where} says num_keypoints {shown(stated)}, its keypoints show {counted}"
            self._find("num_keypoints", detail, image.file_name)
        if counted and (points == 0).all(axis=1).any():
            self._find("origin", f"{where} has labeled keypoints at (0, 0)", image.file_name)
        corners = ", ".join(f"{v:.4g}" for v in box)
        left, top, width, height = box
        if counted:
            margin = 2 + 0.1 * max(width, height)
            low, high = np.array([left, top]) - margin, np.array([left + width, top + height]) + margin
            inside = int(((points >= low) & (points <= high)).all(axis=1).sum())
            if 2 * inside < counted:
                detail = f"{where}: {inside} of {counted} keypoints lie in its box ({corners})"
                self._find("box", detail, image.file_name)
        elif max(box) <= 1:
            self._find("box", f"{where} has box ({corners}); expected pixels", image.file_name)


class _FaultError(Exception):
    """Return what is wrong with one annotation; the message continues "annotation N ..."."""


def is_name_inside(name: str) -> bool:
    """Return whether a name is that of a file inside a folder, valid in every file system.

    Example:
        >>> is_name_inside("a/b.jpg"), is_name_inside("../b.jpg"), is_name_inside("a" * 300)
        (True, False, False)
    """
    if not name or "\0" in name or "\\" in name or len(name) > _MAX_NAME:
        return False
    try:
        longest = max(len(part.encode()) for part in name.split("/"))
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    relative = PurePosixPath(name)
    return longest <= 255 and not relative.is_absolute() and ".." not in relative.parts and bool(relative.name)


def _keypoints(values: object, skeleton: Skeleton) -> Float64[np.ndarray, "K 3"]:
    k = skeleton.num_keypoints
    if values is None or values == []:
        return np.zeros((k, 3))
    if not isinstance(values, list):
        raise _FaultError(f"has keypoints {shown(values)}; expected a list of {3 * k} numbers")
    if len(values) != 3 * k:
        raise _FaultError(f"has {len(values)} keypoint numbers; expected {3 * k}: x, y, visibility of {k}")
    if not set(map(type, values)) <= {int, float, type(None)}:
        wrong = next(v for v in values if type(v) not in (int, float, type(None)))
        raise _FaultError(f"has {shown(wrong)} among its keypoints; expected {3 * k} numbers")
    try:
        table = np.array([np.nan if v is None else v for v in values], np.float64).reshape(k, 3)
    except OverflowError:
        raise _FaultError("has a keypoint beyond all images; expected pixels") from None
    # A missing keypoint is written as 0, 0, 0 by COCO, as null or NaN by others; one of unknown visibility is wrong.
    missing = (table[:, 2] <= 0) | (np.isnan(table[:, 2]) & ~(np.abs(table[:, :2]) > 0).all(axis=1))
    table[missing] = 0
    bad = np.flatnonzero(~(np.abs(table) <= 1e9).all(axis=1))
    if len(bad):
        x, y, v = values[3 * int(bad[0]) : 3 * int(bad[0]) + 3]
        raise _FaultError(
            f"has {skeleton.keypoints[int(bad[0])]} at ({shown(x)}, {shown(y)}) with visibility {shown(v)}; "
            f"expected {3 * k} finite numbers"
        )
    return table


def _is_normalized(points: np.ndarray, size: tuple[int, int]) -> bool:
    tiny = 0 < min(size) <= 8
    return len(points) >= 2 and not tiny and bool(((points >= 0) & (points <= 1)).all())


def _box(value: object, points: np.ndarray) -> tuple[float, float, float, float]:
    if value is None and len(points):
        corner, extent = points.min(axis=0), np.maximum(np.ptp(points, axis=0), 1)
        return float(corner[0]), float(corner[1]), float(extent[0]), float(extent[1])
    if not isinstance(value, list) or len(value) != 4 or not all(is_finite(v) for v in value) or min(value[2:]) < 0:
        raise _FaultError(f"has bbox {shown(value)}; expected [x, y, width, height] in pixels")
    return float(value[0]), float(value[1]), float(value[2]), float(value[3])
