"""Checks of a data set before training: broken files, impossible boxes, likely left/right swaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.data.coco import AnnotatedImage
from featherpose.data.coco_file import CocoFile
from featherpose.data.labeled_pixels import read_image
from featherpose.drawing.draw import draw_limbs
from featherpose.errors import DatasetError, OutputError
from featherpose.skeleton import Skeleton

__all__ = ["CheckReport", "Finding", "check_dataset", "check_images", "contact_sheet"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A suspected fault.

    Attributes:
        kind: ``missing``, ``unreadable``, ``size``, ``outside``, ``swapped`` or ``duplicate``; ``refused`` for what
            training and evaluation do not take, and the kinds of `featherpose.data.coco_file.CocoFinding`.
        image: The image's path.
        detail: One clause.
    """

    kind: str
    image: Path
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Contents and suspected faults of a data set.

    Attributes:
        images: Number of images listed.
        readable: Number that can be read.
        people: People with keypoints.
        ignored: Boxes of people without keypoints and crowds.
        keypoint_counts: Labeled times of each keypoint, by name.
        findings: In the order of the images.
    """

    images: int
    readable: int
    people: int
    ignored: int
    keypoint_counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> int:
        """Return the findings that stop training and evaluation: missing and unreadable images, refused annotations."""
        return sum(f.kind in ("missing", "unreadable", "refused") for f in self.findings)


def check_dataset(file: CocoFile, images: Sequence[AnnotatedImage], skeleton: Skeleton) -> CheckReport:
    """Join the faults of an annotation file with those of its images.

    Args:
        file: Read with its faults.
        images: Its images.
        skeleton: That of the images.
    """
    folder = {sample.image_id: sample.path for sample in images}
    paths = {image.file_name: folder[image.image_id] for image in file.images}
    findings = [
        Finding(f.kind, paths.get(f.file_name, Path(f.file_name) if f.file_name else file.path), f.detail)
        for f in (*file.faults, *file.findings)
    ]
    lacking = [n for n, parts in zip(skeleton.keypoints, file.skeleton.mapping_to(skeleton), strict=True) if not parts]
    if lacking:
        detail = f"{len(lacking)} keypoints of {skeleton.name} are not in the file: {', '.join(lacking)}"
        findings.append(Finding("keypoints", file.path, detail))
    report = check_images(images, skeleton)
    return replace(report, findings=(*findings, *report.findings))


def check_images(images: Sequence[AnnotatedImage], skeleton: Skeleton) -> CheckReport:
    """Read every image and compare it with its annotation.

    Args:
        images: The data set.
        skeleton: Names of the keypoints, and which are mirrored pairs.
    """
    findings: list[Finding] = []
    readable = 0
    counts = np.zeros(skeleton.num_keypoints, np.int64)
    seen: set[Path] = set()
    for sample in images:
        if sample.path in seen:
            findings.append(Finding("duplicate", sample.path, "listed more than once"))
        seen.add(sample.path)
        if not sample.path.is_file():
            findings.append(Finding("missing", sample.path, "the file does not exist"))
            continue
        try:
            height, width = read_image(sample.path).shape[:2]
        except DatasetError as error:
            findings.append(Finding("unreadable", sample.path, error.given))
            continue
        readable += 1
        counts += (~np.isnan(sample.keypoints[..., 0])).sum(axis=0)
        findings += _compare(sample, (width, height), skeleton)
    return CheckReport(
        images=len(images),
        readable=readable,
        people=sum(len(p.keypoints) for p in images),
        ignored=sum(len(p.ignore_boxes) for p in images),
        keypoint_counts=dict(zip(skeleton.keypoints, counts.tolist(), strict=True)),
        findings=tuple(findings),
    )


def _compare(sample: AnnotatedImage, size: tuple[int, int], skeleton: Skeleton) -> list[Finding]:
    found = []
    width, height = size
    if sample.size not in ((0, 0), size):
        annotated = f"{sample.size[0]}x{sample.size[1]}"
        found.append(Finding("size", sample.path, f"annotated as {annotated}, is {width}x{height}"))
    for i, box in enumerate(sample.ignore_boxes):
        if box[0] < -1 or box[1] < -1 or box[2] > width + 1 or box[3] > height + 1 or (box[2:] <= box[:2]).any():
            corners = ", ".join(f"{v:.0f}" for v in box)
            found.append(Finding("outside", sample.path, f"box {i} ({corners}) is not inside {width}x{height}"))
    for i, person in enumerate(sample.keypoints):
        with np.errstate(invalid="ignore"):
            outside = ((person < -1) | (person > np.array([width, height]))).any(axis=1)
        for k in np.flatnonzero(outside):
            x, y = person[k]
            where = f"{skeleton.keypoints[k]} of person {i} at ({x:.0f}, {y:.0f})"
            found.append(Finding("outside", sample.path, f"{where} is not inside {width}x{height}"))
        if swapped_sides(person, skeleton):
            found.append(Finding("swapped", sample.path, f"left and right of person {i} may be exchanged in part"))
    return found


def swapped_sides(person: np.ndarray, skeleton: Skeleton) -> bool:
    """Return whether some left/right pairs look exchanged against the others.

    Limbs hardly ever cross twice: if exchanging one pair shortens the limbs at that pair to less than 60 %, its labels
    are suspicious. A crossed pair of legs is a candidate, too; the user decides.

    Args:
        person: float32[K, 2], NaN where missing.
        skeleton: Limbs and mirrored pairs.
    """
    flip = skeleton.flip_order
    for left, right in skeleton.flip_pairs:
        now = exchanged = 0.0
        for a, b in skeleton.limbs:
            if b not in (left, right) and a not in (left, right):
                continue
            end, start = (b, a) if b in (left, right) else (a, b)
            if flip[start] == start or np.isnan(person[[end, start, flip[end]]]).any():
                continue
            now += float(np.linalg.norm(person[end] - person[start]))
            exchanged += float(np.linalg.norm(person[flip[end]] - person[start]))
        if now > 0 and exchanged < 0.6 * now and exchanged > 0:
            return True
    return False


def contact_sheet(
    images: Sequence[AnnotatedImage], skeleton: Skeleton, *, columns: int = 6, rows: int = 4, cell_px: int = 240
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw a contact sheet: evenly chosen images with their limbs.

    Args:
        images: The data set; unreadable images stay gray.
        skeleton: Limbs.
        columns: Images in a row.
        rows: Rows.
        cell_px: Side of each.
    """
    sheet = np.full((rows * cell_px, columns * cell_px, 3), 64, np.uint8)
    people = [p for p in images if len(p.keypoints)] or list(images)
    chosen = [people[i] for i in np.unique(np.linspace(0, len(people) - 1, rows * columns).astype(int))]
    for number, sample in enumerate(chosen):
        try:
            image = read_image(sample.path)
        except DatasetError:
            continue
        scale = cell_px / max(image.shape[:2])
        size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        draw_limbs(small, sample.keypoints * scale, skeleton)
        y, x = number // columns * cell_px, number % columns * cell_px
        sheet[y : y + size[1], x : x + size[0]] = small
    return sheet


def write_contact_sheet(path: Path, sheet: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write the sheet as an image; complete or not at all.

    Raises:
        OutputError: If the kind of image is unknown or the place cannot be written.
    """
    try:
        ok, data = cv2.imencode(path.suffix or ".jpg", sheet)
    except cv2.error as error:
        raise OutputError(f"{path} is no kind of image", expected="a name ending in .jpg or .png") from error
    partial = path.with_name(f".{path.name}.partial")
    try:
        if not ok:
            raise OutputError(f"{path} cannot be encoded")
        partial.write_bytes(data.tobytes())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error
