"""``featherpose predict``: pictures, videos, cameras and streams in, everyone's keypoints out."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Annotated, Any

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: their own remarks on damaged files would stand beside our one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.annotating import AnnotatedOutput
from featherpose.cli.options import ModelOptions
from featherpose.cli.predict_options import DrawingOptions, FileOptions, PartOptions, PeopleOptions
from featherpose.cli.progress import ProgressLine, progress_line
from featherpose.cli.reading import LateSource, ReadingOptions
from featherpose.cli.writing import DataFiles, image_numbers
from featherpose.codecs.paf.compiling import kernel_cache, kernels_are_cached
from featherpose.errors import FeatherposeError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.formats.record import FrameRecord
from featherpose.media.atomic import write_bytes
from featherpose.media.draw import DrawOptions, draw_poses
from featherpose.media.sources import ReconnectOptions, SourceRef, find_sources
from featherpose.runtime.backend import EngineOptions
from featherpose.stream import FrameResult, StreamOptions, process_stream
from featherpose.tracking import PoseTracker
from featherpose.tracking import warm_up as warm_up_tracking
from featherpose.zoo.resolving import resolve_model

__all__ = ["predict"]

_log = logging.getLogger(__name__)

# Opening several networks side by side takes longer than so few pictures gain by it.
_FEW_PICTURES = 8
_STAGES = ("read", "prepare", "infer", "decode", "track", "draw", "write")


@dataclass(slots=True)
class _Run:
    """What happened so far: sums, so that a stream of days takes no more memory than a picture."""

    started: float = field(default_factory=perf_counter)
    frames: int = 0
    dropped: int = 0
    people: int = 0
    stage_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_STAGES, 0.0))
    failures: list[dict[str, str]] = field(default_factory=list)
    sources: int = 0
    interrupted: int = 0


def predict(
    sources: Annotated[
        list[str],
        Parameter(
            help="Pictures, folders, patterns, videos, animated GIFs, camera numbers, http(s) and rtsp addresses."
        ),
    ],
    /,
    *,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    files: FileOptions = FileOptions(),  # noqa: B008
    part: PartOptions = PartOptions(),  # noqa: B008
    people: PeopleOptions = PeopleOptions(),  # noqa: B008
    drawing: DrawingOptions = DrawingOptions(),  # noqa: B008
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Find everyone's keypoints in pictures, videos, cameras and streams.

    Files that cannot be read are reported and left out while the rest is done; the exit code is then 1. Ctrl-C ends
    the run after the current frame with complete files.
    """
    run = _Run()
    refs = _find(sources, part.strict, run)
    annotated = AnnotatedOutput(files.output, refs) if files.annotates else None
    talk = not quiet
    resolved = resolve_model(model.model)
    engine = _engine(model, refs)
    estimator = PoseEstimator(
        resolved, height=model.height, engine=engine, decode=people.decode(resolved.spec.decode),
        tiles=people.tile_options,
    )  # fmt: skip
    with ExitStack() as stack:
        stack.callback(estimator.close)
        data = stack.enter_context(DataFiles(files, refs, estimator.skeleton))
        if annotated is not None:
            stack.callback(annotated.close)
        compiled = kernels_are_cached()
        if talk and not compiled:
            print("featherpose: compiling the decoder for this processor, once; takes some seconds", file=sys.stderr)
        estimator.warm_up()
        # Once means once: the kernels of tracking are compiled with the others, even if there are only pictures now.
        if (people.followed and not all(ref.is_pictures for ref in refs)) or (not compiled and kernel_cache()):
            warm_up_tracking()
        stop = stack.enter_context(_stop_on_signal(run))
        line = stack.enter_context(progress_line(talk and sys.stderr.isatty()))
        options = ReadingOptions(
            span=part.span, strict=part.strict, timeout_s=part.timeout, max_pixels=int(part.max_megapixels * 1e6),
            reconnect=ReconnectOptions(give_up_s=part.reconnect),
        )  # fmt: skip
        numbers = image_numbers(refs)
        worker = _Worker(
            run, estimator, people, drawing.options(tracked=people.followed), data, annotated, numbers,
            # Those that run side by side, one that waits in the engine and one in this thread's hands.
            StreamOptions(in_flight=engine.requests + 2 if engine.requests else None),
        )  # fmt: skip
        started = perf_counter()
        for ref in refs:
            if stop.is_set():
                break
            worker.process(LateSource(ref, options), stop, line)
        seconds = perf_counter() - started
    written = [*data.written, *(annotated.summary() if annotated is not None else [])]
    if files.summary is not None:
        write_bytes(files.summary, (json.dumps(_summary(run, seconds, estimator, written), indent=1) + "\n").encode())
    if talk:
        _print_summary(run, seconds, written)
    if run.interrupted:
        return run.interrupted
    if run.failures and run.sources == 1 and not run.frames:
        return 1
    return 1 if run.failures else 0


def _engine(model: ModelOptions, refs: list[SourceRef]) -> EngineOptions:
    """Several pictures side by side for films and many pictures; the shortest time for one, and for what is live."""
    live = any(ref.camera is not None or ref.url is not None for ref in refs)
    few = all(ref.is_pictures for ref in refs) and sum(len(ref.paths) for ref in refs) <= _FEW_PICTURES
    return model.engine if live or few else model.throughput_engine


def _find(sources: list[str], strict: bool, run: _Run) -> list[SourceRef]:
    refs: list[SourceRef] = []
    for source in sources:
        try:
            refs += find_sources(source)
        except SourceError as error:
            if strict or len(sources) == 1:
                raise
            _report(run, source, error)
    if not refs:
        raise SourceError(f"none of the {len(sources)} sources can be read")
    run.sources = sum(max(1, len(ref.paths)) for ref in refs) + len(run.failures)
    return refs


def _report(run: _Run, name: str, error: FeatherposeError) -> None:
    run.failures.append({"source": name, "error": str(error)})
    print(f"featherpose: {error}", file=sys.stderr)


@contextmanager
def _stop_on_signal(run: _Run) -> Iterator[threading.Event]:
    """The first Ctrl-C or SIGTERM asks for an end after the current frame; a second one is Python's usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, _frame: object) -> None:
        run.interrupted = 128 + signum
        stop.set()
        signal.signal(signum, previous[signum])

    previous: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Worker:
    """One frame after the other through network, tracker, drawing and files."""

    def __init__(
        self,
        run: _Run,
        estimator: PoseEstimator,
        people: PeopleOptions,
        drawing: DrawOptions,
        data: DataFiles,
        annotated: AnnotatedOutput | None,
        numbers: dict[Any, int],
        options: StreamOptions,
    ) -> None:
        self._run = run
        self._estimator = estimator
        self._people = people
        self._drawing = drawing
        self._data = data
        self._annotated = annotated
        self._numbers = numbers
        self._options = options
        self._problems = 0

    def process(self, late: LateSource, stop: threading.Event, line: ProgressLine) -> None:
        """Everything of one source."""
        follow = self._people.followed and not late.ref.is_pictures
        tracker = PoseTracker() if follow else None
        smooth = self._people.smooth if follow else False
        self._problems = 0
        dropped = 0
        try:
            for result in process_stream(
                late, self._estimator, tracker, smoother=smooth, options=self._options, stop=stop
            ):
                self._run.dropped += result.dropped - dropped
                dropped = result.dropped
                self._finish(result, late)
                self._note_problems(late)
                line.show(late, self._run.frames, self._run.people)
        except SourceError as error:
            if late.strict:
                raise
            _report(self._run, late.ref.name, error)
        self._note_problems(late)
        if self._annotated is not None:
            self._annotated.end_source()

    def _note_problems(self, late: LateSource) -> None:
        if late.source is None:
            return
        for problem in late.source.problems[self._problems :]:  # the reader has logged them already
            self._run.failures.append({"source": late.ref.name, "error": str(problem)})
        self._problems = len(late.source.problems)

    def _finish(self, result: FrameResult, late: LateSource) -> None:
        frame, source, poses, run = result.frame, late.source, result.poses, self._run
        assert source is not None
        started = perf_counter()
        picture = source.kind == "image"
        if picture:
            poses = poses.with_track_ids(None)  # an address turned out to be a picture
        number = self._numbers.get(frame.path) if frame.path is not None else None
        self._data.write(FrameRecord(frame.index, frame.timestamp_s, poses, frame.name, number), picture=picture)
        written = perf_counter()
        drawn = written
        if self._annotated is not None:
            draw_poses(frame.image, poses, self._drawing)
            drawn = perf_counter()
            self._annotated.write(frame.image, frame, late.ref, source)
        run.frames += 1
        run.people += len(poses)
        for stage, spent in (
            ("read", result.read_ms),
            ("prepare", result.times.prepare_ms),
            ("infer", result.times.infer_ms),
            ("decode", result.times.decode_ms),
            ("track", result.track_ms),
            ("draw", 1e3 * (drawn - written)),
            ("write", 1e3 * (perf_counter() - drawn + written - started)),
        ):
            run.stage_ms[stage] += spent


def _summary(run: _Run, seconds: float, estimator: PoseEstimator, written: list[str]) -> dict[str, Any]:
    info = estimator.info
    return {
        "frames": run.frames,
        "dropped": run.dropped,
        "people": run.people,
        "sources": run.sources,
        "failed": run.failures,
        "interrupted": bool(run.interrupted),
        "seconds": round(seconds, 3),
        "fps": round(run.frames / seconds, 2) if seconds > 0 else None,
        "mean_ms": {stage: round(total / max(1, run.frames), 3) for stage, total in run.stage_ms.items()},
        "model": info.model,
        "height": estimator.height,
        "engine": info.engine,
        "device": info.device,
        "precision": info.precision,
        "threads": info.threads,
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
