"""Second pass over the video: annotated with skeletons and angles, and as a small clip for the report page."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.drawing.draw import DrawOptions, draw_poses
from featherpose.drawing.palette import person_color
from featherpose.media.sinks.video import open_video_sink
from featherpose.media.sources.source import Frame
from featherpose.motion.analysis import MotionReport

__all__ = ["Clip", "render_videos"]

# Angles that are written beside their joint; hips and shoulders would overlap in a side view.
_SHOWN = ("knee", "elbow", "hip", "shoulder", "ankle")
_CLIP_WIDTH = 640
_CLIP_FRAMES = 9000
# WebM is Matroska with another name in its header, and the only one that every browser takes; OpenCV prints a warning
# when it is asked to write it. The element "DocType" gets the shorter name and an empty element (Void) for the rest.
_MATROSKA, _WEBM = b"\x42\x82\x88matroska", b"\x42\x82\x84webm\xec\x82\x00\x00"


class Clip:
    """A small VP8 video in memory, which every browser plays without a licensed codec.

    Attributes:
        fps: Its rate.
        rows: Row of the sequence -> frame of the clip, -1 where the row is not in it.
        scale: Clip pixels for each pixel of the source.
        size: (width, height) of the clip.
    """

    def __init__(self, report: MotionReport) -> None:
        rate = report.sequence.rate_hz
        self.fps = float(min(max(rate, 1.0), 240.0)) if rate == rate else 25.0
        self.rows = np.full(report.sequence.num_frames, -1)
        self.scale = 1.0
        self.size = (0, 0)
        self._frames = 0
        self._folder = tempfile.TemporaryDirectory()
        self._path = str(Path(self._folder.name) / "clip.mkv")
        self._writer: cv2.VideoWriter | None = None

    @property
    def full(self) -> bool:
        """Return whether it takes no more frames, so that the page stays loadable."""
        return self._frames >= _CLIP_FRAMES

    def write(self, image: UInt8[np.ndarray, "H W 3"], rows: np.ndarray) -> None:
        """Append a frame that shows these rows of the sequence."""
        if self._writer is None:
            self.scale = min(1.0, _CLIP_WIDTH / image.shape[1])
            self.size = tuple(int(side * self.scale) // 2 * 2 for side in (image.shape[1], image.shape[0]))  # type: ignore[assignment]
            self._writer = cv2.VideoWriter(self._path, cv2.VideoWriter.fourcc(*"VP80"), self.fps, self.size)
        self._writer.write(np.asarray(cv2.resize(image, self.size, interpolation=cv2.INTER_AREA)))
        self.rows[rows] = self._frames
        self._frames += 1

    def data_url(self) -> str:
        """Return the video as a ``data:`` address; empty without a frame. Ends the writing."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        path = Path(self._path)
        data = path.read_bytes() if path.is_file() else b""
        data = data.replace(_MATROSKA, _WEBM, 1)
        self._folder.cleanup()
        return "data:video/webm;base64," + base64.b64encode(data).decode() if data else ""

    def close(self) -> None:
        """Remove the temporary files."""
        if self._writer is not None:
            self._writer.release()
            self._writer = None
        self._folder.cleanup()


def render_videos(
    report: MotionReport, frames: Iterable[Frame], *, annotated: Path | None = None, clip: Clip | None = None,
    audio_from: Path | None = None,
) -> None:  # fmt: skip
    """Read the video once and write the requested outputs.

    Args:
        report: The analysis.
        frames: The frames that were analyzed, from the source opened again.
        annotated: Annotated video to write.
        clip: Clip to fill.
        audio_from: The video whose sound the annotated one gets.

    Raises:
        OutputError: If the annotated video cannot be written.
        SourceError: As the source does.
    """
    rows_of: dict[int, list[int]] = {}
    for row, number in enumerate(report.sequence.frames.tolist()):
        rows_of.setdefault(number, []).append(row)
    rate = report.sequence.rate_hz
    with ExitStack() as stack:
        sink = None
        if annotated is not None:
            sink = stack.enter_context(
                open_video_sink(annotated, rate if rate == rate else 25.0, audio_from=audio_from)
            )
        for frame in frames:
            rows = rows_of.get(frame.index)
            if rows is None:
                continue
            if clip is not None and not clip.full:
                clip.write(frame.image, np.array(rows))
            if sink is not None:
                image = frame.image if frame.image.flags.writeable else frame.image.copy()
                _annotate(image, report, rows[0])
                sink.write(image, frame.timestamp_s)


def _annotate(image: UInt8[np.ndarray, "H W 3"], report: MotionReport, row: int) -> None:
    draw_poses(image, report.sequence.poses(row), DrawOptions(ids=report.sequence.num_people > 1, min_keypoint_score=0))
    scale = max(0.4, min(image.shape[:2]) / 1400)
    for p in range(report.sequence.num_people):
        for text, place in _joint_texts(report, row, p):
            _text(image, text, place, scale, (255, 255, 255))
    lines = _counters(report, row)
    for i, (text, track_id) in enumerate(lines):
        height = round(34 * scale * 1.6)
        _text(image, text, (round(12 * scale) + 6, height * (i + 1)), scale * 1.5, person_color(track_id))


def _joint_texts(report: MotionReport, row: int, p: int) -> list[tuple[str, tuple[int, int]]]:
    """Return angles beside their joints; of two sides that overlap in a side view only one."""
    out = []
    skeleton = report.sequence.skeleton.keypoints
    facing = report.people[p].facing
    sides = ("left", "right") if facing in ("front", "back") else (facing,)
    # A person who faces right shows the right side to the camera, and left likewise.
    for side in sides:
        for part in _SHOWN:
            name = f"{side}_{part}"
            if name not in report.angles or name not in skeleton:
                continue
            value = report.angles[name][row, p]
            x, y = report.sequence.keypoints[row, p, skeleton.index(name)]
            if np.isfinite(value) and np.isfinite(x):
                out.append((str(round(float(value))), (int(x) + 8, int(y))))  # a format would say -0
    return out


def _counters(report: MotionReport, row: int) -> list[tuple[str, int]]:
    lines = []
    time_s = float(report.sequence.timestamps_s[row])
    for person in report.people:
        who = f"#{person.track_id} " if len(report.people) > 1 else ""
        if person.repetitions is not None and len(person.repetitions):
            done = sum(r.end_s <= time_s for r in person.repetitions.found)
            lines.append((f"{who}{person.repetitions.rule.name} {done}", person.track_id))
        if person.gait.steps:
            done = sum(event.time_s <= time_s for event in person.gait.contacts)
            lines.append((f"{who}steps {done}", person.track_id))
        if person.jumps:
            done = sum(jump.landing_s <= time_s for jump in person.jumps)
            lines.append((f"{who}jumps {done}", person.track_id))
    return lines


def _text(
    image: UInt8[np.ndarray, "H W 3"], text: str, place: tuple[int, int], scale: float, color: tuple[int, int, int]
) -> None:
    weight = max(1, round(scale * 1.6))
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (20, 20, 20), weight + 3, cv2.LINE_AA)
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, color, weight, cv2.LINE_AA)
