"""Read CVAT's own formats, "CVAT for images" and "CVAT for video" 1.1: ``annotations.xml``, with or without images.

People are skeletons with points below them, points joined by a group, or one row of points a person.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree.ElementTree import Element

from featherpose.data.exchange.annotations import Annotations, LabeledImage, LabeledPerson, is_person, named_skeleton
from featherpose.data.exchange.image_files import ImageFiles, plain_name
from featherpose.data.exchange.values import keypoint_rows, number, side
from featherpose.data.exchange.xml_elements import elements
from featherpose.data.keypoint_names import matched_names
from featherpose.errors import DatasetError
from featherpose.parsing import shown
from featherpose.skeleton import Skeleton

__all__ = ["find_cvat", "read_cvat"]

_WANTED = frozenset({"image", "track", "label", "original_size"})

Point = tuple[float, float, int]


class _Shape(NamedTuple):
    """A person as the file tells it: points by name, or in a row without names."""

    label: str
    points: dict[str, Point]
    row: list[Point]
    box: tuple[float, float, float, float] | None
    order: tuple[str, ...] = ()  # of all points of a skeleton, those outside the image as well


class _Picture(NamedTuple):
    name: str
    size: tuple[int, int] | None
    shapes: list[_Shape]


def find_cvat(folder: Path) -> Path | None:
    """Return the ``annotations.xml`` of an export, or the file itself if it is XML; None if there is none."""
    if folder.is_dir():
        return next((path for path in (folder / "annotations.xml", folder / "default.xml") if path.is_file()), None)
    return folder if folder.suffix.lower() == ".xml" else None


def read_cvat(path: Path, images: ImageFiles, wanted: Skeleton) -> Annotations:
    """Read one ``annotations.xml``.

    Args:
        path: The file.
        images: Where its images are; they are not needed for "CVAT for images".
        wanted: Names keypoints that are given in a row, and whose spelling is taken for the others.

    Raises:
        DatasetError: If the file is none of CVAT's, contradicts itself, or names keypoints in no known way.
    """
    children: dict[str, list[str]] = defaultdict(list)  # label of a skeleton -> its points, as the task declares them
    pictures: list[_Picture] = []
    frames: dict[int, list[_Shape]] = defaultdict(list)
    size: tuple[int, int] | None = None
    for element in elements(path, _WANTED):
        if element.tag == "label":
            name, parent = element.findtext("name"), element.findtext("parent")
            if name and parent:
                children[parent].append(name)
        elif element.tag == "original_size":
            width, height = (side(element.findtext(key), f"{path}: {key} of the video") for key in ("width", "height"))
            size = width, height
        elif element.tag == "image":
            pictures.append(_picture(path, element))
        else:
            for frame, shape in _track(path, element):
                frames[frame].append(shape)
    if frames:
        pictures += _frames(path, frames, size, images)
    if not pictures:
        raise DatasetError(f"{path} lists no images", expected='an export as "CVAT for images" or "CVAT for video"')
    label, names = _keypoint_names(path, pictures, children, wanted)
    people = [[s for s in picture.shapes if s.label == label or is_person(s.label)] for picture in pictures]
    left_out = Counter(s.label for p, kept in zip(pictures, people, strict=True) for s in p.shapes if s not in kept)
    labeled = []
    for picture, shapes in zip(pictures, people, strict=True):
        if picture.size is None:
            raise DatasetError(f"{path}: image {picture.name} has no width and height")
        labeled.append(
            LabeledImage(
                picture.name, picture.size, tuple(_person(path, shape, names) for shape in shapes),
                images.find(picture.name),
            )
        )  # fmt: skip
    skeleton = named_skeleton(tuple(matched_names(names, wanted.keypoints)), label)
    findings = tuple(f"left out: {count} of label {shown(name)}" for name, count in sorted(left_out.items()))
    return Annotations(skeleton, tuple(labeled), findings)


def _picture(path: Path, element: Element) -> _Picture:
    name = plain_name(element.get("name", ""))
    if not name:
        raise DatasetError(f"{path} has an image without a name")
    size = (
        side(element.get("width"), f"{path}: width of {name}"),
        side(element.get("height"), f"{path}: height of {name}"),
    )
    return _Picture(name, size, _joined([_shape(path, name, child) for child in element]))


def _track(path: Path, track: Element) -> list[tuple[int, _Shape]]:
    found = []
    for child in track:
        if child.get("outside") == "1" or (child.tag == "skeleton" and not _points_of(path, "a track", child)):
            continue
        frame = int(number(child.get("frame"), f"{path}: frame of a track"))
        _, shape = _shape(path, f"frame {frame}", child, track.get("label", ""))
        if shape is not None:
            found.append((frame, shape))
    return found


def _shape(path: Path, where: str, child: Element, label: str = "") -> tuple[str, _Shape | None]:
    """Return the group that a shape belongs to (empty: none) and the shape; None for kinds that are no person."""
    name, group = child.get("label", label), child.get("group_id", "")
    if child.tag == "skeleton":
        order = tuple(point.get("label", "") for point in child if point.tag == "points")
        return "", _Shape(name, _points_of(path, where, child), [], None, order)
    if child.tag == "points":
        row = _coordinates(path, where, child.get("points", ""), hidden=child.get("occluded") == "1")
        if len(row) == 1 and group not in ("", "0"):
            return group, _Shape("", {name: row[0]}, [], None)
        return "", _Shape(name, {}, row, None)
    if child.tag == "box":
        corners = [number(child.get(key), f"{path}: {key} of a box in {where}") for key in ("xtl", "ytl", "xbr", "ybr")]
        left, top, right, bottom = corners
        if right < left or bottom < top:
            raise DatasetError(f"{path}: a box in {where} ends before it begins")
        return ("" if group == "0" else group), _Shape(name, {}, [], (left, top, right - left, bottom - top))
    return "", _Shape(name, {}, [], None) if child.tag in ("polygon", "polyline", "ellipse", "mask", "cuboid") else None


def _joined(shapes: list[tuple[str, _Shape | None]]) -> list[_Shape]:
    """Join the points and the box of each group to one person."""
    single = [shape for group, shape in shapes if shape is not None and not group]
    groups: dict[str, list[_Shape]] = defaultdict(list)
    for group, shape in shapes:
        if shape is not None and group:
            groups[group].append(shape)
    for members in groups.values():
        points = {name: point for member in members for name, point in member.points.items()}
        box = next((member.box for member in members if member.box is not None), None)
        label = next((member.label for member in members if member.label), "person")
        single.append(_Shape(label, points, [], box))
    return single


def _points_of(path: Path, where: str, skeleton: Element) -> dict[str, Point]:
    points: dict[str, Point] = {}
    for child in skeleton:
        if child.tag != "points" or child.get("outside") == "1":
            continue
        row = _coordinates(path, where, child.get("points", ""), hidden=child.get("occluded") == "1")
        name = child.get("label", "")
        if len(row) != 1 or name in points:
            raise DatasetError(f"{path}: keypoint {shown(name)} of a skeleton in {where} occurs {len(row) + 1} times")
        points[name] = row[0]
    return points


def _coordinates(path: Path, where: str, text: str, *, hidden: bool) -> list[Point]:
    pairs = [pair.split(",") for pair in text.split(";") if pair]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise DatasetError(f"{path}: points in {where} are {shown(text)}", expected="x,y;x,y;…")
    x_name, y_name = f"{path}: x of a point in {where}", f"{path}: y of a point in {where}"
    return [(number(x, x_name), number(y, y_name), 1 if hidden else 2) for x, y in pairs]


def _keypoint_names(
    path: Path, pictures: list[_Picture], children: dict[str, list[str]], wanted: Skeleton
) -> tuple[str, list[str]]:
    """Return the label of the people and the names of their keypoints, in the order of the task."""
    seen: dict[str, list[str]] = defaultdict(list)
    rows: Counter[tuple[str, int]] = Counter()
    for picture in pictures:
        for shape in picture.shapes:
            names = shape.order or tuple(shape.points)
            seen[shape.label] += [name for name in names if name not in seen[shape.label]]
            if shape.row:
                rows[shape.label, len(shape.row)] += 1
    named = {label: children.get(label) or names for label, names in {**seen, **children}.items() if names}
    if named:
        known = set(wanted.keypoints)

        def rank(label: str) -> tuple[int, bool, int]:
            shared = len(known & set(matched_names(named[label], wanted.keypoints)))
            return shared, is_person(label), len(seen.get(label, ()))

        label = max(named, key=rank)
        missing = [name for name in seen.get(label, ()) if name not in named[label]]
        return label, [*named[label], *missing]
    for (label, count), _ in rows.most_common():
        if count == wanted.num_keypoints:
            return label, list(wanted.keypoints)
    if rows:
        (label, count), _ = rows.most_common(1)[0]
        raise DatasetError(
            f"{path} has {count} points a person ({shown(label)}) without names, and {wanted.name} has "
            f"{wanted.num_keypoints}",
            hint="name a skeleton of as many keypoints, in their order, with --skeleton",
        )
    raise DatasetError(f"{path} has neither skeletons nor points", expected="people labeled by keypoints")


def _person(path: Path, shape: _Shape, names: list[str]) -> LabeledPerson:
    points = shape.points
    if shape.row:
        if len(shape.row) != len(names):
            raise DatasetError(
                f"{path} has a person of {len(shape.row)} points", expected=f"{len(names)}, as the others have"
            )
        points = dict(zip(names, shape.row, strict=True))
    return LabeledPerson(keypoint_rows(names, points), shape.box)


def _frames(
    path: Path, frames: dict[int, list[_Shape]], size: tuple[int, int] | None, images: ImageFiles
) -> list[_Picture]:
    if size is None:
        raise DatasetError(f"{path} does not say how large its frames are")
    pictures = []
    for frame, shapes in sorted(frames.items()):
        for suffix in (".PNG", ".png", ".jpg", ".jpeg"):
            name = f"frame_{frame:06d}{suffix}"
            if images.find(name) is not None:
                break
        else:
            raise DatasetError(
                f"{path} is of a video, and frame {frame} is no image here",
                expected=f"{PurePosixPath(name).stem}.png",
                hint='export it with "Save images", or name the folder of the frames with --images',
            )
        pictures.append(_Picture(name, size, shapes))
    return pictures
