"""OpenPose JSON 1.3: one file a frame, named and laid out as OpenPose's own ``--write_json``.

The keypoint order is BODY_25 for a skeleton of that kind and OpenPose's COCO order (18 keypoints) for `OPENPOSE_18`
and `COCO_17`; any other skeleton keeps its own order. Source: OpenPose, doc/02_output.md, "JSON-UI mode".
"""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from featherpose.formats.record import FrameRecord, coordinate_rows
from featherpose.media.atomic import make_folder, write_bytes
from featherpose.media.naming import OutputNames
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, OPENPOSE_18

__all__ = ["OpenPoseWriter", "openpose_dict"]

_VERSION = 1.3
_EMPTY_PARTS = (
    "face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d",
    "pose_keypoints_3d", "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d",
)  # fmt: skip


def openpose_dict(poses: Poses) -> dict[str, Any]:
    """The people of one frame as OpenPose writes them; a missing keypoint is 0, 0, 0.

    Example:
        >>> openpose_dict(Poses.empty(OPENPOSE_18, (64, 64)))
        {'version': 1.3, 'people': []}
    """
    if poses.skeleton == COCO_17:
        poses = poses.to(OPENPOSE_18)
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


class OpenPoseWriter:
    """Writes ``<video>_000000000012_keypoints.json`` or ``<picture>_keypoints.json`` into a folder.

    Args:
        folder: Made if it does not exist.

    Raises:
        OutputError: If the folder or a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        self._folder = folder
        self._names = OutputNames()

    def write(self, record: FrameRecord, *, numbered: bool = True) -> None:
        """Write the file of one frame.

        Args:
            record: The frame; its source gives the file's name.
            numbered: False for a picture, whose name needs no frame number.
        """
        stem = Path(record.source).stem or "frame"
        number = f"_{record.frame:012d}" if numbered else ""
        path = self._names.take(self._folder / f"{stem}{number}_keypoints.json")
        write_bytes(path, json.dumps(openpose_dict(record.poses), separators=(",", ":")).encode())

    def close(self) -> None:
        """Every file is complete already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
