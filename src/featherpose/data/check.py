"""Looking a data set over before days of training: broken files, impossible boxes, likely left/right swaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.data.coco import LabelledPicture
from featherpose.data.dataset import read_picture
from featherpose.errors import DatasetError, OutputError
from featherpose.skeleton import Skeleton

__all__ = ["CheckReport", "Finding", "check_pictures", "contact_sheet"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that looks wrong.

    Attributes:
        kind: ``missing``, ``unreadable``, ``size``, ``outside``, ``swapped`` or ``duplicate``.
        picture: The picture's path.
        detail: One clause.
    """

    kind: str
    picture: Path
    detail: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a data set holds and what looks wrong in it.

    Attributes:
        pictures: Number of pictures listed.
        readable: Number that can be read.
        people: People with keypoints.
        ignored: Boxes of people without keypoints and crowds.
        keypoint_counts: Labelled times of each keypoint, by name.
        findings: In the order of the pictures.
    """

    pictures: int
    readable: int
    people: int
    ignored: int
    keypoint_counts: dict[str, int]
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> int:
        """Findings that would stop or spoil training: missing and unreadable pictures."""
        return sum(f.kind in ("missing", "unreadable") for f in self.findings)


def check_pictures(pictures: Sequence[LabelledPicture], skeleton: Skeleton) -> CheckReport:
    """Read every picture and compare it with its annotation.

    Args:
        pictures: The data set.
        skeleton: Names of the keypoints, and which are mirrored pairs.
    """
    findings: list[Finding] = []
    readable = 0
    counts = np.zeros(skeleton.num_keypoints, np.int64)
    seen: set[Path] = set()
    for picture in pictures:
        if picture.path in seen:
            findings.append(Finding("duplicate", picture.path, "listed more than once"))
        seen.add(picture.path)
        if not picture.path.is_file():
            findings.append(Finding("missing", picture.path, "the file does not exist"))
            continue
        try:
            height, width = read_picture(picture.path).shape[:2]
        except DatasetError as error:
            findings.append(Finding("unreadable", picture.path, error.given))
            continue
        readable += 1
        counts += (~np.isnan(picture.keypoints[..., 0])).sum(axis=0)
        findings += _compare(picture, (width, height), skeleton)
    return CheckReport(
        pictures=len(pictures),
        readable=readable,
        people=sum(len(p.keypoints) for p in pictures),
        ignored=sum(len(p.ignore_boxes) for p in pictures),
        keypoint_counts=dict(zip(skeleton.keypoints, counts.tolist(), strict=True)),
        findings=tuple(findings),
    )


def _compare(picture: LabelledPicture, size: tuple[int, int], skeleton: Skeleton) -> list[Finding]:
    found = []
    width, height = size
    if picture.size not in ((0, 0), size):
        annotated = f"{picture.size[0]}x{picture.size[1]}"
        found.append(Finding("size", picture.path, f"annotated as {annotated}, is {width}x{height}"))
    for i, box in enumerate(picture.ignore_boxes):
        if box[0] < -1 or box[1] < -1 or box[2] > width + 1 or box[3] > height + 1 or (box[2:] <= box[:2]).any():
            corners = ", ".join(f"{v:.0f}" for v in box)
            found.append(Finding("outside", picture.path, f"box {i} ({corners}) is not inside {width}x{height}"))
    for i, person in enumerate(picture.keypoints):
        with np.errstate(invalid="ignore"):
            outside = ((person < -1) | (person > np.array([width, height]))).any(axis=1)
        for k in np.flatnonzero(outside):
            x, y = person[k]
            where = f"{skeleton.keypoints[k]} of person {i} at ({x:.0f}, {y:.0f})"
            found.append(Finding("outside", picture.path, f"{where} is not inside {width}x{height}"))
        if swapped_sides(person, skeleton):
            found.append(Finding("swapped", picture.path, f"left and right of person {i} may be exchanged in part"))
    return found


def swapped_sides(person: np.ndarray, skeleton: Skeleton) -> bool:
    """Whether some left/right pairs look exchanged against the others.

    Limbs hardly ever cross twice: where exchanging one pair shortens the limbs at that pair to less than 60 %,
    its labels are worth a look. A crossed pair of legs is a candidate too; a person decides.

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
    pictures: Sequence[LabelledPicture], skeleton: Skeleton, *, columns: int = 6, rows: int = 4, cell_px: int = 240
) -> UInt8[np.ndarray, "H W 3"]:
    """Evenly chosen pictures with their limbs drawn: a look tells more than counts.

    Args:
        pictures: The data set; unreadable pictures stay grey.
        skeleton: Limbs.
        columns: Pictures in a row.
        rows: Rows.
        cell_px: Side of each.
    """
    sheet = np.full((rows * cell_px, columns * cell_px, 3), 64, np.uint8)
    people = [p for p in pictures if len(p.keypoints)] or list(pictures)
    chosen = [people[i] for i in np.unique(np.linspace(0, len(people) - 1, rows * columns).astype(int))]
    for number, picture in enumerate(chosen):
        try:
            image = read_picture(picture.path)
        except DatasetError:
            continue
        scale = cell_px / max(image.shape[:2])
        size = (max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale)))
        small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        for person in picture.keypoints * scale:
            for i, (a, b) in enumerate(skeleton.limbs):
                if np.isfinite(person[[a, b]]).all():
                    hue = np.array([[[180 * i // max(1, skeleton.num_limbs), 255, 255]]], np.uint8)
                    colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
                    ends = [(round(float(person[j][0])), round(float(person[j][1]))) for j in (a, b)]
                    cv2.line(small, ends[0], ends[1], colour, 2, cv2.LINE_AA)
        y, x = number // columns * cell_px, number % columns * cell_px
        sheet[y : y + size[1], x : x + size[0]] = small
    return sheet


def write_contact_sheet(path: Path, sheet: UInt8[np.ndarray, "H W 3"]) -> None:
    """Write the sheet as a picture; complete or not at all.

    Raises:
        OutputError: If the kind of picture is unknown or the place cannot be written.
    """
    try:
        ok, data = cv2.imencode(path.suffix or ".jpg", sheet)
    except cv2.error as error:
        raise OutputError(f"{path} is no kind of picture", expected="a name ending in .jpg or .png") from error
    partial = path.with_name(f".{path.name}.partial")
    try:
        if not ok:
            raise OutputError(f"{path} cannot be encoded")
        partial.write_bytes(data.tobytes())
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror})") from error
