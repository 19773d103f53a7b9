"""COCO keypoints back into people of frames: the results of ``--coco`` and of other tools, and files of annotations.

Results are a list of people. They hold no times, and no frame without people; an id of a person over time only as
PoseTrack (``track_id``) or AlphaPose (``idx``) name it. The number of the frame is ``frame`` as `CocoWriter` writes it,
else the number in the name of the image (``file_name``, or an ``image_id`` that is a name), else ``image_id``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from featherpose.errors import SourceError
from featherpose.formats.frame_numbers import FoundPerson, number_in_name, numbered_records
from featherpose.formats.record import FrameRecord
from featherpose.parsing import ParseError, is_integer, parse_json, read_document, shown
from featherpose.skeleton import Skeleton

__all__ = ["read_coco_people"]

_MAX_BYTES = 2**30
_EXPECTED = "COCO keypoint results, a list of people with image_id, keypoints and score"


def read_coco_people(
    path: str | Path,
    *,
    fps: float | None,
    skeleton: Skeleton | None = None,
    image_size: tuple[int, int] = (0, 0),
) -> list[FrameRecord]:
    """Read the people of videos or of numbered images, in order; frames without people are filled in.

    Args:
        path: COCO keypoint results, or a COCO file with images and annotations.
        fps: Frames a second of the frame numbers; needed, since the format has no times.
        skeleton: What the keypoints are; by their number unless given.
        image_size: (width, height) that the poses shall carry.

    Raises:
        SourceError: If the file cannot be read or is something else.
        OptionError: If ``fps`` is missing or impossible.
    """
    path = Path(path)
    try:
        data = parse_json(read_document(path, _MAX_BYTES))
    except ParseError as error:
        raise SourceError(f"{path} {error}", expected=_EXPECTED) from error
    images: dict[int | str, Mapping[str, Any]] = {}
    if isinstance(data, dict) and isinstance(data.get("annotations"), list) and isinstance(data.get("images"), list):
        images = {image["id"]: image for image in data["images"] if isinstance(image, dict) and _has_id(image)}
        data = data["annotations"]
    if not isinstance(data, list):
        raise SourceError(f"{path} holds {shown(data)}", expected=_EXPECTED)
    if not data:
        raise SourceError(f"there is nobody in {path}", hint="try a larger --height")
    sources: dict[str, dict[int, list[FoundPerson]]] = {}
    names: dict[tuple[str, int], str] = {}
    for place, person in enumerate(data):
        where = f"{path} person {place}"
        if not isinstance(person, dict) or "keypoints" not in person or "image_id" not in person:
            raise SourceError(f"{where} is {shown(person)}", expected=_EXPECTED)
        source, number, name = _place(person, images, where)
        if names.setdefault((source, number), name) != name:
            raise SourceError(
                f"{path} has two images of number {number}: {names[source, number]} and {name}",
                expected="the frames of one video",
            )
        found = FoundPerson.checked(
            person["keypoints"], person.get("score"), person.get("track_id", person.get("idx")), where
        )
        sources.setdefault(source, {}).setdefault(number, []).append(found)
    return [
        record
        for source, frames in sources.items()
        for record in numbered_records(
            frames, path=path, fps=fps, skeleton=skeleton, image_size=image_size, source=source
        )
    ]


def _has_id(image: Mapping[str, Any]) -> bool:
    return isinstance(image.get("id"), int | str)


def _place(
    person: Mapping[str, Any], images: Mapping[int | str, Mapping[str, Any]], where: str
) -> tuple[str, int, str]:
    """Return the name of the video or folder, the number of the frame and the name of the image."""
    image_id = person["image_id"]
    image = images.get(image_id, {}) if isinstance(image_id, int | str) else {}
    name = person.get("file_name", image.get("file_name", image_id if isinstance(image_id, str) else ""))
    if not isinstance(name, str):
        raise SourceError(f"{where} has the file name {shown(name)}", expected="text")
    number = person.get("frame", image.get("frame_id"))
    if number is not None and "frame" in person:
        source = name
    else:
        source = str(PurePosixPath(name).parent) if "/" in name else ""
        number = number_in_name(name) if number is None else number
        number = image_id if number is None else number
    if not is_integer(number) or number < 0:
        raise SourceError(
            f"{where} has the image {shown(name or image_id)}, which tells no frame number",
            expected="a frame, or a number as image_id or in the name of the image",
        )
    return source, number, name
