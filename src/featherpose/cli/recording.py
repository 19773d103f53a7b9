"""Keeping what is seen live: poses and annotated video, written in a thread of its own beside the live view."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from featherpose.cli.predict_options import FileOptions
from featherpose.cli.writing import DataFiles
from featherpose.errors import FeatherposeError, OptionError, OutputError
from featherpose.formats.record import FrameRecord
from featherpose.media.draw import DrawOptions, draw_poses
from featherpose.media.naming import OutputNames
from featherpose.media.sinks import VIDEO_OUTPUT_SUFFIXES, VideoSink, open_video_sink
from featherpose.media.sources import SourceRef
from featherpose.skeleton import Skeleton
from featherpose.stream import FrameResult

__all__ = ["Recording", "SaveFiles", "save_files"]

_DATA = {".jsonl": "jsonl", ".json": "coco", ".csv": "csv", ".parquet": "parquet"}
_QUEUED = 8  # frames; a disk that is slower for longer makes the source drop late ones, and nothing grows
_PATIENCE_S = 0.5
_FPS = 25.0  # nominal only: every frame keeps its own time


@dataclass(frozen=True, slots=True)
class SaveFiles:
    """What ``--save`` asks for.

    Attributes:
        data: Files of poses.
        video: Annotated video, or None.
    """

    data: FileOptions
    video: Path | None


def save_files(paths: list[Path]) -> SaveFiles:
    """The kind of each file by its suffix.

    Raises:
        OptionError: If a suffix is unknown, or two files are of one kind.

    Example:
        >>> files = save_files([Path("day.jsonl"), Path("day.mp4")])
        >>> files.data.jsonl, str(files.video)
        ('day.jsonl', 'day.mp4')
    """
    found: dict[str, Path] = {}
    for path in paths:
        suffix = path.suffix.lower()
        kind = "video" if suffix in VIDEO_OUTPUT_SUFFIXES else _DATA.get(suffix)
        if kind is None:
            raise OptionError(
                f"--save {path}: the suffix says no format",
                expected=f"{', '.join(_DATA)} (COCO results are .json), or a video: {', '.join(VIDEO_OUTPUT_SUFFIXES)}",
            )
        if kind in found:
            raise OptionError(f"--save names two files of one kind, {found[kind]} and {path}")
        found[kind] = path
    jsonl = found.get("jsonl")
    data = FileOptions(
        jsonl=None if jsonl is None else str(jsonl),
        coco=found.get("coco"),
        csv=found.get("csv"),
        parquet=found.get("parquet"),
    )
    return SaveFiles(data, found.get("video"))


class Recording:
    """Results of a live source into files.

    Call it with each result. Files are written in a thread of its own: a slow disk must not delay what is live.

    Args:
        files: What to write.
        ref: The source, which must not be overwritten.
        skeleton: What the keypoints are.
        failed: Set when a file cannot be written any more; `close` then raises why.

    Attributes:
        frames: Frames recorded.
        poses: People in them.
        dropped: Frames that came too late for inference and are in no file.

    Raises:
        OutputError: If a file cannot be written.
        MissingExtraError: If Parquet is asked for without pyarrow.
    """

    def __init__(self, files: SaveFiles, ref: SourceRef, skeleton: Skeleton, failed: threading.Event) -> None:
        self.frames = self.poses = self.dropped = 0
        self._failed = failed
        self._error: BaseException | None = None
        self._video: VideoSink | None = None
        self._results: queue.Queue[FrameResult | None] = queue.Queue(_QUEUED)
        with ExitStack() as opening:
            self._data = opening.enter_context(DataFiles(files.data, [ref], skeleton))
            if files.video is not None:
                if OutputNames(ref.paths).is_taken(files.video):
                    raise OutputError(f"--save {files.video} would overwrite the source", hint="choose another name")
                self._video = opening.enter_context(open_video_sink(files.video, _FPS))
            self._files = opening.pop_all()
        self._thread: threading.Thread | None = threading.Thread(target=self._write_all, name="featherpose-recording")
        self._thread.start()

    def __call__(self, result: FrameResult) -> None:
        """Take a result; waits while the disk is behind."""
        if self._video is not None:
            image = result.frame.image.copy()  # the frame belongs to the server, which may draw into it as well
            draw_poses(image, result.poses, DrawOptions(ids=True))
            result = replace(result, frame=replace(result.frame, image=image))
        while not self._failed.is_set():
            try:
                self._results.put(result, timeout=_PATIENCE_S)
                return
            except queue.Full:
                continue

    def _write_all(self) -> None:
        try:
            while (result := self._results.get()) is not None:
                self._write(result)
        except BaseException as error:  # raised again by `close`, in the thread that can tell people
            self._error = error
            self._failed.set()

    def _write(self, result: FrameResult) -> None:
        frame, poses = result.frame, result.poses
        self._data.write(FrameRecord(frame.index, frame.timestamp_s, poses, frame.name), picture=False)
        if self._video is not None:
            self._video.write(frame.image, frame.timestamp_s)
        self.frames += 1
        self.poses += len(poses)
        self.dropped = result.dropped

    @property
    def written(self) -> list[str]:
        """What was written, for people; complete after `close`."""
        video = [] if self._video is None or not self._video.frames else [str(self._video.path)]
        return [*self._data.written, *video]

    def close(self) -> None:
        """Write what was taken and complete the files; may be called twice.

        Raises:
            OutputError: If a file could not be written.
        """
        thread, self._thread = self._thread, None
        if thread is None:
            return
        while thread.is_alive():
            try:
                self._results.put(None, timeout=_PATIENCE_S)
                break
            except queue.Full:
                continue
        thread.join()
        try:
            self._files.close()
        except FeatherposeError:
            if self._error is None:
                raise
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
