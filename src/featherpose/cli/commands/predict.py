"""``featherpose predict``: everyone's keypoints in images, videos, cameras and streams."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: without them their messages on damaged files would appear beside our
# one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.annotating import AnnotatedOutput
from featherpose.cli.compilation import note_compilation
from featherpose.cli.lazy_source import LazySource, ReadingOptions
from featherpose.cli.options import ModelOptions
from featherpose.cli.options.predict_options import (
    DrawingOptions,
    FileOptions,
    FormatTargets,
    PeopleOptions,
    SourceOptions,
    targets_of,
)
from featherpose.cli.outputs import PoseOutputs
from featherpose.cli.progress import ProgressLine, progress_line
from featherpose.cli.report import write_json
from featherpose.cli.source_names import ImageIds, SourceNames, join_images, without_annotated
from featherpose.cli.stopping import stop_on_signal
from featherpose.drawing.draw import DrawOptions, draw_poses
from featherpose.errors import FeatherposeError, OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.formats.record import FrameRecord
from featherpose.jit import kernel_cache
from featherpose.media.sources.find import ReconnectOptions, SourceRef, find_sources
from featherpose.media.sources.source import Frame
from featherpose.output_names import source_name
from featherpose.poses import Poses
from featherpose.runtime.backend import EngineOptions
from featherpose.stream import DetectEvery, Estimator, FrameResult, StreamOptions, process_stream
from featherpose.tracking import PoseTracker
from featherpose.tracking import warm_up as warm_up_tracking
from featherpose.zoo.resolve import resolve_model

__all__ = ["predict"]

_log = logging.getLogger(__name__)

# Opening several network streams takes longer than this few images gain.
_FEW_IMAGES = 8
_STAGES = ("read", "prepare", "infer", "decode", "refine", "track", "draw", "write")


@dataclass(slots=True)
class _Run:
    """Sums of what happened so far, so that a stream of days takes no more memory than an image."""

    started: float = field(default_factory=perf_counter)
    frames: int = 0
    dropped: int = 0
    people: int = 0
    stage_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))
    failures: list[dict[str, str]] = field(default_factory=list)
    sources: int = 0
    skipped: int = 0
    interrupted: int = 0


def predict(
    sources: Annotated[
        list[str],
        Parameter(
            help="Images, folders, patterns, videos, animations, camera numbers or device files, http(s) and rtsp "
            "addresses; - for standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    /,
    *,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    files: FileOptions = FileOptions(),  # noqa: B008
    formats: FormatTargets = FormatTargets(),  # noqa: B008
    part: SourceOptions = SourceOptions(),  # noqa: B008
    people: PeopleOptions = PeopleOptions(),  # noqa: B008
    drawing: DrawingOptions = DrawingOptions(),  # noqa: B008
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Find everyone's keypoints in images, videos, cameras and streams.

    Unreadable files are reported and skipped; the exit code is then 1. Ctrl-C ends the run after the current frame with
    complete files.
    """
    if people.detect_every > 1 and files.resume:
        raise OptionError("--detect-every with --resume", hint="frames depend on those before: run it anew")
    run = _Run()
    refs = _find(sources, part.strict, run)
    talk = not quiet
    targets = targets_of(formats)
    names = SourceNames(refs)
    annotates = files.output is not None or not targets
    annotated = AnnotatedOutput(files.output, refs, names, resume=files.resume) if annotates else None
    ids = _image_ids(refs, files, "coco" in {writer.OPTION for writer in targets})
    resolved = resolve_model(model.model)
    engine = _engine(model, refs)
    estimator = PoseEstimator(
        resolved, quality=model.quality, refine=model.refine, engine=engine, options=people.decoding(resolved.spec),
        tiles=people.tile_options,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.callback(estimator.close)
        data = stack.enter_context(
            PoseOutputs(
                targets, refs, estimator.skeleton, names=names, header=files.jsonl_header, facts=estimator.describe(),
                resume=files.resume, summary=files.summary,
            )
        )  # fmt: skip
        if annotated is not None:
            stack.callback(annotated.abandon)
        if talk:
            _tell_names(data)
        compiled = note_compilation(resolved.spec.method, quiet=not talk)
        estimator.warm_up()
        # Compile all kernels together, those of tracking too, even if there are only images now.
        if (people.followed and not all(ref.is_images for ref in refs)) or (not compiled and kernel_cache()):
            warm_up_tracking()
        stop = stack.enter_context(stop_on_signal())
        line = stack.enter_context(progress_line(talk and sys.stderr.isatty()))
        options = ReadingOptions(
            span=part.span, strict=part.strict, timeout_s=part.timeout, max_pixels=int(part.max_megapixels * 1e6),
            reconnect=ReconnectOptions(give_up_s=part.reconnect),
        )  # fmt: skip
        worker = _Worker(
            run, estimator, people, drawing.options(tracked=people.followed), data, annotated, names, ids, talk,
            # Those that run in parallel, one that waits in the engine and one in this thread.
            StreamOptions(in_flight=engine.num_streams + 2 if engine.num_streams else None),
        )  # fmt: skip
        started = perf_counter()
        for ref in refs:
            if stop.event.is_set():
                break
            worker.process(ref, options, stop.event, line)
        seconds = perf_counter() - started
        data.close()
        if annotated is not None:
            annotated.close()
    run.interrupted = stop.exit_code
    written = [*data.written, *(annotated.summary() if annotated is not None else [])]
    if files.summary is not None:
        write_json(files.summary, _summary(run, seconds, estimator, written))
    if talk:
        _print_summary(run, seconds, written)
    if run.interrupted:
        return run.interrupted
    if run.failures and run.sources == 1 and not run.frames:
        return 1
    return 1 if run.failures else 0


def _engine(model: ModelOptions, refs: list[SourceRef]) -> EngineOptions:
    """Run images in parallel for videos and many images; otherwise choose the shortest latency."""
    live = any(ref.camera is not None or ref.url is not None for ref in refs)
    few = all(ref.is_images for ref in refs) and sum(len(ref.paths) for ref in refs) <= _FEW_IMAGES
    return model.engine if live or few else model.throughput_engine


def _find(sources: list[str], strict: bool, run: _Run) -> list[SourceRef]:
    refs: list[SourceRef] = []
    for source in sources:
        if source.startswith("-") and source != "-":  # the parser takes it as a source, because "-" is one
            raise OptionError(
                f"unknown option {source}",
                hint=f"see `featherpose predict --help`; a file of that name is ./{source}",
            )
        try:
            refs += find_sources(source)
        except SourceError as error:
            if strict or len(sources) == 1:
                raise
            _report(run, source, error)
    if not refs:
        raise SourceError(f"none of the {len(sources)} sources can be read")
    refs, left_out = without_annotated(refs)
    if left_out:
        print(f"featherpose: {left_out} annotated files of an earlier run (*.poses.*) are left out", file=sys.stderr)
    if not refs:
        raise SourceError(
            f"{sources[0]} holds only annotated files of an earlier run", hint="name one of them to annotate it again"
        )
    run.sources = sum(max(1, len(ref.paths)) for ref in refs) + len(run.failures)
    return join_images(refs)


def _image_ids(refs: list[SourceRef], files: FileOptions, wanted: bool) -> dict[Path, int]:
    if files.coco_ids is not None and not wanted:
        raise OptionError("--coco-ids without --coco", hint="name the file of the COCO results as well")
    if not wanted:
        return {}
    found = ImageIds.of_names(refs) if files.coco_ids is None else ImageIds.of_annotations(refs, files.coco_ids)
    if found.message:
        print(f"featherpose: {found.message}", file=sys.stderr)
    return found.ids


def _tell_names(data: PoseOutputs) -> None:
    for path in data.recovered:
        print(f"featherpose: what an earlier run left unfinished is in {source_name(path)}", file=sys.stderr)
    data.recovered.clear()
    if data.unfinished:
        print(
            f"featherpose: until the run ends, its results are in {', '.join(map(source_name, data.unfinished))}",
            file=sys.stderr,
        )


def _report(run: _Run, name: str, error: FeatherposeError) -> None:
    run.failures.append({"source": name, "error": str(error)})
    print(f"featherpose: {error}", file=sys.stderr)


def _source_of(late: LazySource, error: SourceError) -> str:
    """Return what the outputs call the file that an error is about."""
    paths = late.ref.paths
    path = error.path or (paths[0] if len(paths) == 1 else None)
    return late.ref.name if path is None else source_name(path)


class _Worker:
    """Passes each frame through network, tracker, drawing and files."""

    def __init__(
        self,
        run: _Run,
        estimator: PoseEstimator,
        people: PeopleOptions,
        drawing: DrawOptions,
        data: PoseOutputs,
        annotated: AnnotatedOutput | None,
        names: SourceNames,
        ids: dict[Path, int],
        talk: bool,
        options: StreamOptions,
    ) -> None:
        self._run = run
        self._estimator = estimator
        self._people = people
        self._drawing = drawing
        self._data = data
        self._annotated = annotated
        if annotated is not None:
            annotated.opened = self._tell_video
        self._names = names
        self._ids = ids
        self._talk = talk
        self._tracker: PoseTracker | None = None
        self._earlier: Iterator[FrameRecord] = iter(())
        self._options = options
        self._noted = 0

    def process(self, ref: SourceRef, options: ReadingOptions, stop: threading.Event, line: ProgressLine) -> None:
        """Process all remaining frames of one source."""
        late = LazySource(ref, options)
        follow = self._people.followed and not ref.is_images
        tracker = PoseTracker() if follow else None
        if self._data.resumes:
            first_image = self._images_done(ref, options) if ref.is_images else 0
            if ref.is_images and first_image >= len(ref.paths):
                self._run.skipped += first_image
                return
            late = LazySource(
                ref, options, first_image=first_image, skip=lambda frame, count: self._is_done(late, frame, count)
            )
            self._tracker = tracker
            self._earlier = self._data.earlier(source_name(ref.paths[0])) if ref.paths else iter(())
        smooth = self._people.smooth if follow else False
        self._noted = 0
        dropped = 0
        try:
            for result in process_stream(
                late, self._detector(ref), tracker, smoother=smooth, options=self._options, stop=stop
            ):
                self._run.dropped += result.dropped - dropped
                dropped = result.dropped
                self._finish(result, late)
                self._note_errors(late)
                line.show(late, self._run.frames, self._run.people)
        except SourceError as error:
            if late.strict:
                raise
            _report(self._run, _source_of(late, error), error)
        self._note_errors(late)
        self._run.skipped += late.skipped
        if self._annotated is not None:
            self._annotated.end_source()

    def _detector(self, ref: SourceRef) -> Estimator:
        """Return the estimator of a source: of a video one that detects on some frames only, if that was asked for."""
        every = self._people.detect_every
        return self._estimator if every == 1 or ref.is_images else DetectEvery(self._estimator, every)

    def _images_done(self, ref: SourceRef, options: ReadingOptions) -> int:
        """Return how many image files at the beginning of a folder are already done."""
        step = options.span.frame_step
        for place in range(0, len(ref.paths), step):
            path = ref.paths[place]
            if not self._data.holds(self._record_of(path, place, is_image=True)) or (
                self._annotated is not None and not self._annotated.holds_image(path, ref)
            ):
                return place
        return len(ref.paths)

    def _record_of(self, path: Path | None, index: int, *, is_image: bool, name: str = "") -> FrameRecord:
        poses = Poses.empty(self._estimator.skeleton, (0, 0))
        return self._record(path, name, index, 0.0, poses, is_image)

    def _is_done(self, late: LazySource, frame: Frame, count: int) -> bool:
        assert late.source is not None
        record = self._record_of(frame.path, frame.index, is_image=late.source.kind == "image", name=frame.name)
        # Both are asked: each records what it holds.
        annotated = self._annotated is None or self._annotated.holds(frame, late.ref, late.source.kind, count)
        done = self._data.holds(record) and annotated
        if done and self._tracker is not None:
            # Ids continue: the tracker sees what the earlier run wrote, before any new frame.
            before = next((r for r in self._earlier if r.frame >= frame.index), None)
            if before is not None and before.frame == frame.index:
                self._tracker.update(before.poses, frame.timestamp_s)
        return done

    def _note_errors(self, late: LazySource) -> None:
        if late.source is None:
            return
        for problem in late.source.errors[self._noted :]:  # the reader has already logged them
            self._run.failures.append({"source": _source_of(late, problem), "error": str(problem)})
        self._noted = len(late.source.errors)

    def _finish(self, result: FrameResult, late: LazySource) -> None:
        frame, source, poses, run = result.frame, late.source, result.poses, self._run
        assert source is not None
        started = perf_counter()
        image = source.kind == "image"
        if image:
            poses = poses.with_track_ids(None)  # an address turned out to be an image
        self._data.write(self._record(frame.path, frame.name, frame.index, frame.timestamp_s, poses, image))
        written = perf_counter()
        drawn = written
        if self._annotated is not None:
            draw_poses(frame.image, poses, self._drawing)
            drawn = perf_counter()
            self._annotated.write(frame.image, frame, late.ref, source, first_s=late.first_s)
        run.frames += 1
        run.people += len(poses)
        for stage, spent in (
            ("read", result.read_ms),
            *result.stage_times.by_stage().items(),
            ("track", result.track_ms),
            ("draw", 1e3 * (drawn - written)),
            ("write", 1e3 * (perf_counter() - drawn + written - started)),
        ):
            run.stage_ms[stage] += spent

    def _record(
        self, path: Path | None, name: str, index: int, time_s: float, poses: Poses, is_image: bool
    ) -> FrameRecord:
        if path is None:
            return FrameRecord(index, time_s, poses, name, is_image=is_image)
        return FrameRecord(
            index, time_s, poses, source_name(path), self._ids.get(path) if is_image else None, is_image,
            str(self._names.stem(path)),
        )  # fmt: skip

    def _tell_video(self) -> None:
        assert self._annotated is not None
        unfinished = self._annotated.unfinished
        if unfinished is not None and self._talk:
            for path in self._annotated.recovered:
                print(f"featherpose: what an earlier run left unfinished is in {source_name(path)}", file=sys.stderr)
            self._annotated.recovered.clear()
            print(f"featherpose: until it is whole, the video is in {source_name(unfinished)}", file=sys.stderr)


def _summary(run: _Run, seconds: float, estimator: PoseEstimator, written: list[str]) -> dict[str, Any]:
    return {
        "frames": run.frames,
        "dropped": run.dropped,
        "resumed_after": run.skipped,
        "people": run.people,
        "sources": run.sources,
        "failed": run.failures,
        "interrupted": bool(run.interrupted),
        "seconds": round(seconds, 3),
        "fps": round(run.frames / seconds, 2) if seconds > 0 else None,
        "mean_ms": {stage: round(total / max(1, run.frames), 3) for stage, total in run.stage_ms.items()},
        **estimator.describe(),
        "written": written,
    }


def _print_summary(run: _Run, seconds: float, written: list[str]) -> None:
    def plural(count: int, one: str, many: str) -> str:
        return f"{count:,} {one if count == 1 else many}"

    rate = f", {run.frames / seconds:.1f} a second" if run.frames > 1 and seconds > 0 else ""
    lines = [f"{plural(run.frames, 'frame', 'frames')}, {plural(run.people, 'pose', 'poses')} in {seconds:.1f} s{rate}"]
    if run.frames:
        stages = [f"{stage} {run.stage_ms[stage] / run.frames:.1f}" for stage in _STAGES if run.stage_ms[stage] > 0]
        lines.append(f"mean ms a frame, partly in parallel: {', '.join(stages)}")
    if run.skipped:
        lines.append(f"{plural(run.skipped, 'frame', 'frames')} of the earlier run kept")
    if run.dropped:
        lines.append(f"{plural(run.dropped, 'frame', 'frames')} of a live source dropped, because later ones had come")
    lines += [f"wrote {name}" for name in written]
    if run.failures:
        lines.append(
            f"{plural(len(run.failures), 'problem', 'problems')} in {plural(run.sources, 'source', 'sources')}"
        )
    if run.interrupted:
        lines.append("interrupted; the files hold what was done until then")
    for line in lines:
        print(line, file=sys.stderr)
