"""OpenPose JSON back into people of frames: a folder with one file a frame.

``NAME_000000000012_keypoints.json`` as OpenPose and `OpenPoseWriter` name them, or ``NAME_000012.json`` as Sports2D and
Pose2Sim do: the last number is the frame's. The files hold no times and, of most tools, no ids (``person_id`` -1).
"""

from __future__ import annotations

import re
from pathlib import Path

from featherpose.errors import SourceError
from featherpose.formats.frame_numbers import FoundPerson, number_in_name, numbered_records
from featherpose.formats.record import FrameRecord
from featherpose.parsing import ParseError, parse_json, read_document, reason_of, shown
from featherpose.skeleton import Skeleton

__all__ = ["openpose_files", "read_openpose_folder"]

_MAX_BYTES = 2**24
_NUMBER = re.compile(r"_?\d+(_keypoints)?$")


def openpose_files(folder: str | Path) -> list[Path]:
    """Return the JSON files of a folder by name; none if it cannot be read.

    Raises:
        SourceError: If the folder cannot be listed.
    """
    try:
        return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() == ".json")
    except OSError as error:
        raise SourceError(f"{folder} cannot be read: {reason_of(error)}") from error


def read_openpose_folder(
    folder: str | Path,
    *,
    fps: float | None,
    skeleton: Skeleton | None = None,
    image_size: tuple[int, int] = (0, 0),
) -> list[FrameRecord]:
    """Read the people of videos, in order; frames whose file is missing are filled in as frames without people.

    Args:
        folder: With one file a frame.
        fps: Frames a second of the numbers in the names; needed, since the format has no times.
        skeleton: What the keypoints are; by their number unless given (18: OpenPose's COCO order, 25: BODY_25).
        image_size: (width, height) that the poses shall carry.

    Raises:
        SourceError: If the folder or a file cannot be read or is something else.
        OptionError: If ``fps`` is missing or impossible.
    """
    files = openpose_files(folder)
    if not files:
        raise SourceError(f"{folder} holds no JSON file", expected="OpenPose JSON, one file a frame")
    sources: dict[str, dict[int, list[FoundPerson]]] = {}
    for file in files:
        number = number_in_name(file.name)
        if number is None:
            raise SourceError(f"{file} has no frame number in its name", expected="NAME_000000000012_keypoints.json")
        frames = sources.setdefault(_NUMBER.sub("", file.stem), {})
        if number in frames:
            raise SourceError(f"{file} has the frame number {number} of another file", expected="one file a frame")
        frames[number] = _people(file)
    return [
        record
        for source, frames in sources.items()
        for record in numbered_records(
            frames, path=folder, fps=fps, skeleton=skeleton, image_size=image_size, source=source
        )
    ]


def _people(file: Path) -> list[FoundPerson]:
    try:
        data = parse_json(read_document(file, _MAX_BYTES))
    except ParseError as error:
        raise SourceError(f"{file} {error}", expected="OpenPose JSON") from error
    people = data.get("people") if isinstance(data, dict) else None
    if not isinstance(people, list) or not all(isinstance(person, dict) for person in people):
        raise SourceError(f"{file} holds {shown(data)}", expected="OpenPose JSON with a list of people")
    out = []
    for place, person in enumerate(people):
        values = person.get("pose_keypoints_2d", person.get("pose_keypoints"))
        if values == []:
            continue  # a face or a hand without a body
        given = person.get("person_id")
        track_id = given[0] if isinstance(given, list) and len(given) == 1 else given
        out.append(FoundPerson.checked(values, None, track_id, f"{file} person {place}"))
    return out
