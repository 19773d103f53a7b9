"""Read annotations of any known format; the format is recognized by the content."""

from __future__ import annotations

from pathlib import Path

from featherpose.data.coco_file import MAX_ANNOTATION_BYTES
from featherpose.data.exchange.annotations import Annotations
from featherpose.data.exchange.coco_keypoints import find_coco, read_coco_annotations
from featherpose.data.exchange.cvat_reading import find_cvat, read_cvat
from featherpose.data.exchange.image_files import ImageFiles
from featherpose.data.exchange.label_studio_reading import read_label_studio
from featherpose.data.exchange.labelme import find_labelme, read_labelme
from featherpose.data.exchange.matlab_reading import find_matlab, read_matlab
from featherpose.data.exchange.yolo_pose_reading import find_yolo_pose, read_yolo_pose
from featherpose.errors import DatasetError
from featherpose.parsing import ParseError, read_document
from featherpose.skeleton import Skeleton

__all__ = ["SOURCES", "read_annotations"]

SOURCES = ("cvat", "yolo-pose", "labelme", "label-studio", "matlab", "coco")
"""Formats that are read, in the order in which they are looked for."""

_EXPECTED = (
    "an export of CVAT, Label Studio or LabelMe, a YOLO-pose folder, the .mat file of MPII, FLIC or LSP, "
    "or COCO keypoints"
)


def read_annotations(
    source: Path, wanted: Skeleton, *, images: Path | None = None, kind: str | None = None
) -> tuple[str, Annotations]:
    """Read annotations of any known format.

    Args:
        source: A folder or file; zip files are unpacked before (`featherpose.data.exchange.archives`).
        wanted: Names keypoints where the source does not, and gives the spelling of those that it names.
        images: Folder of the images, if they are not beside the annotations.
        kind: One of `SOURCES`; recognized unless given.

    Returns:
        The format and the annotations.

    Raises:
        DatasetError: If the source is of no known format, damaged, or contradicts itself.
    """
    for name in SOURCES if kind is None else (kind,):
        found = _read(name, source, wanted, images)
        if found is not None:
            return name, found.checked(source)
    what = "holds no annotations that are known here" if kind is None else f"holds no annotations of {kind}"
    raise DatasetError(f"{source} {what}", expected=_EXPECTED)


def _read(kind: str, source: Path, wanted: Skeleton, images: Path | None) -> Annotations | None:
    home = source if source.is_dir() else source.parent
    if kind == "cvat":
        path = find_cvat(source)
        return None if path is None else read_cvat(path, _files(home, images), wanted)
    if kind == "yolo-pose":
        path = find_yolo_pose(source)
        return None if path is None else read_yolo_pose(path, wanted)
    if kind == "labelme":
        paths = find_labelme(source)
        return read_labelme(paths, _files(home, images), wanted, images or home) if paths else None
    if kind == "label-studio":
        path = _list_of_json(source)
        return None if path is None else read_label_studio(path, _files(home, images), wanted)
    if kind == "matlab":
        path = find_matlab(source)
        return None if path is None else read_matlab(path, _files(home, images))
    path = find_coco(source)
    return None if path is None else read_coco_annotations(path, _files(home, images), wanted)


def _files(home: Path, images: Path | None) -> ImageFiles:
    return ImageFiles(images) if images is not None else ImageFiles(home / "images", home)


def _list_of_json(source: Path) -> Path | None:
    """Return the JSON file that holds a list, as Label Studio's does: the source, or the only one in the folder."""
    paths = [source] if source.is_file() else sorted(source.glob("*.json"))
    lists = []
    for path in paths:
        try:
            start = read_document(path, MAX_ANNOTATION_BYTES)[:64] if path.suffix.lower() == ".json" else b""
        except ParseError:
            continue
        if start.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"["):
            lists.append(path)
    return lists[0] if len(lists) == 1 else None
