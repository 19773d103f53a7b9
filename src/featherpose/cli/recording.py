"""Recording of a live source: poses and annotated video, written in a separate thread."""

from __future__ import annotations

import queue
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from featherpose.cli.options.predict_options import Targets
from featherpose.cli.outputs import PoseOutputs
from featherpose.drawing.draw import DrawOptions, draw_poses
from featherpose.errors import FeatherposeError, OptionError, OutputError
from featherpose.formats import WRITERS
from featherpose.formats.record import FrameRecord, PoseWriter
from featherpose.media.sinks.video import VIDEO_OUTPUT_SUFFIXES, VideoSink, open_video_sink, recover_videos
from featherpose.media.sources.find import SourceRef
from featherpose.output_names import OutputNames, source_name
from featherpose.skeleton import Skeleton
from featherpose.stream import FrameResult

__all__ = ["SAVED_SUFFIXES", "Recording", "SaveFiles", "save_files"]

_DATA = {suffix: writer for writer in WRITERS for suffix in writer.SUFFIXES}
SAVED_SUFFIXES = ", ".join(_DATA)
"""Suffixes of the data files that can be recorded, for the help."""
_QUEUED = 8  # frames; a disk that stays slower makes the source drop late ones, and nothing grows
_PATIENCE_S = 0.5
_FPS = 25.0  # nominal only: every frame keeps its own time


@dataclass(frozen=True, slots=True)
class SaveFiles:
    """Files of ``--save``.

    Attributes:
        data: Name of the file of each format of poses.
        video: Annotated video, or None.
    """

    data: Targets
    video: Path | None


def save_files(paths: list[Path]) -> SaveFiles:
    """Return the kind of each file by its suffix.

    Raises:
        OptionError: If a suffix is unknown, or two files are of one kind.

    Example:
        >>> files = save_files([Path("day.jsonl"), Path("day.mp4")])
        >>> {writer.OPTION: name for writer, name in files.data.items()}, str(files.video)
        ({'jsonl': 'day.jsonl'}, 'day.mp4')
    """
    data: dict[type[PoseWriter], str] = {}
    video: Path | None = None
    for path in paths:
        suffix = path.suffix.lower()
        writer = _DATA.get(suffix)
        if writer is None and suffix not in VIDEO_OUTPUT_SUFFIXES:
            raise OptionError(
                f"--save {path}: the suffix says no format",
                expected=f"{', '.join(_DATA)} (COCO results are .json), or a video: {', '.join(VIDEO_OUTPUT_SUFFIXES)}",
            )
        before = video if writer is None else data.get(writer)
        if before is not None:
            raise OptionError(f"--save names two files of one kind, {before} and {path}")
        if writer is None:
            video = path
        else:
            data[writer] = str(path)
    return SaveFiles(data, video)


class Recording:
    """Recorder of a live source.

    Call it with each result. Files are written in a separate thread: a slow disk must not delay the live source.

    Args:
        files: What to write.
        ref: The source, which must not be overwritten.
        skeleton: What the keypoints are.
        skeletons: Whether they are drawn into the video.
        failed: Set when a file cannot be written any more; `close` then raises why.

    Attributes:
        frames: Frames recorded.
        poses: People in them.
        dropped: Frames that came too late for inference and are in no file.
        notes: Messages for the user when the recording begins: names of unfinished files.

    Raises:
        OutputError: If a file cannot be written.
        MissingExtraError: If Parquet is asked for without pyarrow.
    """

    def __init__(
        self, files: SaveFiles, ref: SourceRef, skeleton: Skeleton, failed: threading.Event, *, skeletons: bool = True
    ) -> None:
        self.frames = self.poses = self.dropped = 0
        self._failed = failed
        self._skeletons = skeletons
        self._error: BaseException | None = None
        self._video: VideoSink | None = None
        self._results: queue.Queue[FrameResult | None] = queue.Queue(_QUEUED)
        recovered: list[Path] = []
        with ExitStack() as opening:
            self._data = opening.enter_context(PoseOutputs(files.data, [ref], skeleton))
            if files.video is not None:
                if OutputNames(ref.paths).is_taken(files.video):
                    raise OutputError(f"--save {files.video} would overwrite the source", hint="choose another name")
                recovered = recover_videos(files.video)
                self._video = opening.enter_context(open_video_sink(files.video, _FPS))
            self._files = opening.pop_all()
        video = None if self._video is None else self._video.unfinished
        unfinished = [*self._data.unfinished, *([] if video is None else [video])]
        self.notes = [
            f"what an earlier run left unfinished is in {source_name(path)}"
            for path in [*self._data.recovered, *recovered]
        ]
        if unfinished:
            self.notes.append(f"until the end, the recording is in {', '.join(map(source_name, unfinished))}")
        self._thread: threading.Thread | None = threading.Thread(target=self._write_all, name="featherpose-recording")
        self._thread.start()

    def __call__(self, result: FrameResult) -> None:
        """Take a result; blocks while the disk is behind."""
        if self._video is not None:
            image = result.frame.image.copy()  # the frame belongs to the server, which may draw into it as well
            if self._skeletons:
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
        except BaseException as error:  # raised again by `close`, in the caller's thread
            self._error = error
            self._failed.set()

    def _write(self, result: FrameResult) -> None:
        frame, poses = result.frame, result.poses
        self._data.write(FrameRecord(frame.index, frame.timestamp_s, poses, frame.name))
        if self._video is not None:
            self._video.write(frame.image, frame.timestamp_s)
        self.frames += 1
        self.poses += len(poses)
        self.dropped = result.dropped

    @property
    def written(self) -> list[str]:
        """Return what was written, for messages; complete after `close`."""
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
