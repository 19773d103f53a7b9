"""Write `Annotations` as a folder for another tool; it gets its final name when it is complete."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from featherpose.data.exchange.annotations import Annotations
from featherpose.data.exchange.coco_keypoints import coco_annotations
from featherpose.data.exchange.cvat_writing import cvat_annotations, cvat_labels
from featherpose.data.exchange.label_studio_writing import LOCAL_FILES, label_studio_config, label_studio_tasks
from featherpose.data.exchange.yolo_pose_writing import label_name, yolo_data, yolo_labels
from featherpose.errors import DatasetError, OutputError
from featherpose.files import make_folder, output_error

__all__ = ["TARGETS", "write_annotations"]

TARGETS = ("coco", "yolo-pose", "label-studio", "cvat")
"""Formats that are written."""


def write_annotations(
    annotations: Annotations, target: Path, kind: str, *, copy_images: bool = True, prefix: str = LOCAL_FILES
) -> tuple[str, ...]:
    """Write a folder.

    Args:
        annotations: What to write.
        target: The folder; it must be new or empty.
        kind: One of `TARGETS`.
        copy_images: Copy the images to ``images``, as COCO and YOLO-pose want them; the others take none.
        prefix: Put in front of the names of images in the tasks of Label Studio.

    Returns:
        What the format cannot hold, one clause each.

    Raises:
        OutputError: If the folder holds something, or cannot be written.
        DatasetError: If two images would have one label file.
    """
    findings = [*_losses(annotations, kind)]
    with _new_folder(target) as folder:
        if kind == "coco":
            _write(folder / "annotations.json", coco_annotations(annotations))
        elif kind == "label-studio":
            _write(folder / "tasks.json", label_studio_tasks(annotations, prefix))
            _write(folder / "labeling_config.xml", label_studio_config(annotations.skeleton))
        elif kind == "cvat":
            _write(folder / "annotations.xml", cvat_annotations(annotations))
            _write(folder / "labels.json", cvat_labels(annotations.skeleton))
        else:
            _write(folder / "data.yaml", yolo_data(annotations.skeleton))
            for image in annotations.images:
                _write(folder / "labels" / label_name(image.file_name), yolo_labels(image, annotations))
        if copy_images and kind in ("coco", "yolo-pose"):
            findings += _copy(annotations, folder / "images")
    return tuple(findings)


def _losses(annotations: Annotations, kind: str) -> list[str]:
    if kind == "yolo-pose":
        labels = Counter(label_name(image.file_name) for image in annotations.images)
        if clash := next((name for name, count in labels.items() if count > 1), None):
            raise DatasetError(f"two images would have the label file {clash}", hint="rename one of them")
    crowds = sum(person.is_crowd for image in annotations.images for person in image.people)
    if crowds and kind != "coco":
        what = "left out" if kind == "yolo-pose" else "written as boxes"
        return [f"{crowds} crowds, which {kind} does not know, are {what}"]
    return []


def _copy(annotations: Annotations, folder: Path) -> list[str]:
    missing = 0
    for image in annotations.images:
        if image.path is None:
            missing += 1
            continue
        place = folder / image.file_name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image.path, place)
    if not missing:
        return []
    return [f"{missing} of {len(annotations.images)} images were not found, and are not in images/"]


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


@contextlib.contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Give a folder under a temporary name; rename it on success, remove it on failure."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise OutputError(f"{target} is a file", expected="the name of a new folder")
    if target.is_dir() and any(target.iterdir()):
        raise OutputError(f"{target} is not empty", expected="the name of a new folder")
    make_folder(target.parent)
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{target.name[:100]}.", dir=target.parent))
    except OSError as error:
        raise output_error(target, error) from error
    try:
        yield part
        if os.name == "posix":
            mask = os.umask(0)
            os.umask(mask)
            part.chmod(0o777 & ~mask)
        if target.is_dir():
            target.rmdir()
        part.rename(target)
    except OSError as error:
        raise output_error(target, error) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
