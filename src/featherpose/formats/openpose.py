"""OpenPose JSON 1.3: one file a frame, named and laid out as OpenPose's own ``--write_json``.

The keypoint order is BODY_25 for a skeleton of that kind and OpenPose's COCO order (18 keypoints) for `OPENPOSE_18`
and `COCO_17`; any other skeleton keeps its own order. Source: OpenPose, doc/02_output.md, "JSON-UI mode".
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, TextIO

from featherpose.errors import OutputError
from featherpose.files import make_folder, output_error, write_bytes
from featherpose.formats.record import FrameRecord, PoseWriter, WriterOptions, coordinate_rows
from featherpose.output_names import OutputNames, fitting_name
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

__all__ = ["OpenPoseWriter", "openpose_dict"]

_VERSION = 1.3
_END = "_keypoints.json"
_EMPTY_PARTS = (
    "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d",
    "pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d",
)  # fmt: skip


def openpose_dict(poses: Poses) -> dict[str, Any]:
    """Return the people of one frame as OpenPose writes them; a missing keypoint is 0, 0, 0.

    Example:
        >>> openpose_dict(Poses.empty(OPENPOSE_18, (64, 64)))
        {'version': 1.3, 'people': []}
    """
    if poses.skeleton == COCO_17:
        poses = poses.to_skeleton(OPENPOSE_18)
    ids = [-1] * len(poses) if poses.track_ids is None else poses.track_ids.tolist()
    return {
        "version": _VERSION,
        "people": [
            {
                "person_id": [ids[p]],
                "pose_keypoints_2d": [0.0 if value != value else value for point in person for value in point],
                **{part: [] for part in _EMPTY_PARTS},
            }
            for p, person in enumerate(coordinate_rows(poses))
        ],
    }


class OpenPoseWriter(PoseWriter):
    """Writes ``<video>_000000000012_keypoints.json`` or ``<image>_keypoints.json`` into a folder.

    Sources of several folders get folders of their own in it. The files that an earlier run wrote for a source are
    removed when its first frame comes, so that a folder never mixes two runs over one video; those of other sources
    stay.
    """

    OPTION = "openpose"
    HELP = "Folder for OpenPose JSON 1.3, one file a frame"
    MISSING = "`0, 0, 0`"
    STREAMS = False

    def __init__(self, target: Path | TextIO, skeleton: Skeleton, options: WriterOptions = WriterOptions()) -> None:  # noqa: B008 - frozen
        self._folder = self._path(target)
        make_folder(self._folder)
        self._identity = self._folder.stat()
        self._names = OutputNames()
        self._resume = options.resume
        self._begun: set[tuple[Path, str]] = set()
        self._closed = False

    def write(self, record: FrameRecord) -> None:
        """Write the file of one frame.

        Raises:
            OutputError: If it cannot be written, or the folder was removed.
        """
        folder, stem = self._place(record)
        if (folder, stem) not in self._begun:
            self._check_folder()
            self._begun.add((folder, stem))
            make_folder(folder)
            if not record.is_image and not self._resume:
                _remove_earlier(folder, stem)
        data = json.dumps(openpose_dict(record.poses), separators=(",", ":")).encode()
        write_bytes(self._names.take(folder, self._numbered(stem, record), _END), data, make=False)

    def _place(self, record: FrameRecord) -> tuple[Path, str]:
        place = Path(record.file_stem or Path(record.source).stem or "frame")
        return self._folder / place.parent, place.name

    @staticmethod
    def _numbered(stem: str, record: FrameRecord) -> str:
        if record.is_image:
            return stem
        number = f"_{record.frame:012d}"
        return fitting_name(stem, number + _END).removesuffix(_END)

    def holds(self, record: FrameRecord) -> bool:
        """Return True if the run is resumed and the frame has its file."""
        if not self._resume:
            return False
        folder, stem = self._place(record)
        return (folder / fitting_name(self._numbered(stem, record), _END)).is_file()

    def _check_folder(self) -> None:
        try:
            if os.path.samestat(self._identity, self._folder.stat()):
                return
        except OSError:
            pass
        raise OutputError(
            f"{self._folder} was removed or replaced while it was written to", hint="run the command again"
        )

    def close(self) -> None:
        """Check that the folder still exists; every file is complete already."""
        if not self._closed:
            self._closed = True
            self._check_folder()


def _remove_earlier(folder: Path, stem: str) -> None:
    cut = re.escape(fitting_name(stem, f"_{0:012d}{_END}").removesuffix(f"_{0:012d}{_END}"))
    like = re.compile(rf"{cut}_\d{{12}}{re.escape(_END)}")
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if like.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    Path(entry.path).unlink()
    except OSError as error:
        raise output_error(folder, error) from error
