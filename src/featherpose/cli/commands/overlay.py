"""``featherpose overlay``: graphics that follow people, and hidden heads, in images and videos."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TextIO

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: their own remarks on damaged files would stand beside our one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.augment.effects import EffectOptions, FrameEffects
from featherpose.augment.privacy.anonymize import AuditFile, LookAhead, audit_path
from featherpose.augment.privacy.heads import Heads
from featherpose.augment.several_heights import BEST_HEIGHTS, SeveralHeights
from featherpose.cli.annotating import AnnotatedOutput
from featherpose.cli.compilation import note_compilation
from featherpose.cli.lazy_source import LazySource, ReadingOptions
from featherpose.cli.options import ModelOptions
from featherpose.cli.options.effect_options import EffectArguments
from featherpose.cli.options.predict_options import SourceOptions
from featherpose.cli.progress import ProgressLine, progress_line
from featherpose.cli.source_names import SourceNames
from featherpose.drawing.draw import draw_poses
from featherpose.errors import FeatherposeError, OptionError, SourceError
from featherpose.files import output_error
from featherpose.media.sources.find import ReconnectOptions, SourceRef, find_sources
from featherpose.media.sources.source import Source
from featherpose.output_names import OutputNames
from featherpose.stream import FrameResult, StreamOptions, process_stream
from featherpose.tracking import PoseTracker
from featherpose.tracking import warm_up as warm_up_tracking
from featherpose.zoo.resolve import resolve_model

__all__ = ["overlay"]

_log = logging.getLogger(__name__)
_MARK = ".overlay"


@dataclass(slots=True)
class _Run:
    frames: int = 0
    people: int = 0
    heads: int = 0
    left_out: int = 0
    failures: list[str] = field(default_factory=list)


def overlay(
    source: Annotated[str, Parameter(help="An image, a folder of images, a video, a camera number or an address.")],
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Image or video to write, a folder for several images; NAME.overlay.SUFFIX if left out.",
        ),
    ] = None,
    effects: EffectArguments = EffectArguments(),  # noqa: B008 - frozen
    every_head: Annotated[
        bool,
        Parameter(
            negative="",
            help=f"Look at each frame at the heights {', '.join(map(str, BEST_HEIGHTS))}: hides more heads, takes some "
            "eight times as long.",
        ),
    ] = False,
    audit: Annotated[
        Path | None,
        Parameter(help="What was hidden, JSON Lines; OUTPUT.audit.jsonl if left out, with --anonymize only."),
    ] = None,
    skeletons: Annotated[bool, Parameter(negative="", help="Draw the skeletons as well.")] = False,
    part: SourceOptions = SourceOptions(),  # noqa: B008
    model: ModelOptions = ModelOptions(),  # noqa: B008
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Draw graphics that follow people, and hide heads, in images and videos.

    A frame that cannot be processed is left out, never written as it was; the exit code is then 1.
    """
    options = effects.wanted()
    if options.anonymize is None and (audit is not None or every_head):
        raise OptionError("--audit and --every-head", expected="--anonymize as well")
    refs = find_sources(source)
    if len(refs) != 1:
        raise OptionError(f"{source} is {len(refs)} sources", expected="one video, or images only")
    ref = refs[0]
    run = _Run()
    target = AnnotatedOutput(output, refs, SourceNames(refs), mark=_MARK)
    with ExitStack() as stack:
        stack.callback(target.abandon)
        estimator = _estimator(model, options, every_head)
        stack.callback(estimator.close)
        first = estimator.estimators[0]
        note_compilation(first.spec.method, quiet=quiet)
        first.warm_up()
        warm_up_tracking()
        record = None
        if options.anonymize is not None:
            name = audit or audit_path(output if output is not None else Path(f"{Path(ref.name).stem}{_MARK}"))
            if OutputNames(ref.paths).is_taken(name):
                raise OptionError(f"--audit {name} would overwrite the source", hint="choose another name")
            facts = {"model": first.spec.name, "heights": [e.height for e in estimator.estimators]}
            record = AuditFile(_open_text(stack, name), options.anonymize, options.heads, facts)
        line = stack.enter_context(progress_line(not quiet and sys.stderr.isatty()))
        reading = ReadingOptions(
            span=part.span, strict=part.strict, timeout_s=part.timeout, max_pixels=int(part.max_megapixels * 1e6),
            reconnect=ReconnectOptions(give_up_s=part.reconnect),
        )  # fmt: skip
        worker = _Worker(run, options, target, record, ref, LazySource(ref, reading), skeletons)
        worker.process(estimator, line)
        target.close()
    if not quiet:
        hidden = f", {run.heads:,} heads hidden" if options.anonymize is not None else ""
        print(f"featherpose: {run.frames:,} frames, {run.people:,} people{hidden}", file=sys.stderr)
        for name_ in target.summary():
            print(f"featherpose: wrote {name_}", file=sys.stderr)
    for failure in run.failures:
        print(f"featherpose: {failure}", file=sys.stderr)
    return 1 if run.failures or not run.frames else 0


def _estimator(model: ModelOptions, options: EffectOptions, every_head: bool) -> SeveralHeights:
    heights = BEST_HEIGHTS if every_head else (model.quality.height,)
    # Refinement drops doubles of one person: here a head too many is better than one too few.
    refine = "off" if options.anonymize is not None else model.refine
    return SeveralHeights(
        resolve_model(model.model), heights=heights, quality=model.quality, refine=refine,
        candidates=options.candidates, engine=model.throughput_engine,
    )  # fmt: skip


def _open_text(stack: ExitStack, path: Path) -> TextIO:
    try:
        return stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise output_error(path, error) from error


class _Worker:
    """One frame after the other."""

    def __init__(
        self, run: _Run, options: EffectOptions, target: AnnotatedOutput, record: AuditFile | None, ref: SourceRef,
        late: LazySource, skeletons: bool,
    ) -> None:  # fmt: skip
        self._run, self._options, self._target, self._record = run, options, target, record
        self._ref, self._late, self._skeletons = ref, late, skeletons
        self._effects = FrameEffects(options, video=not ref.is_images)
        # A live source is not held back.
        ahead = options.anonymize is not None and bool(ref.paths) and not ref.is_images
        self._ahead: LookAhead[FrameResult] | None = LookAhead() if ahead else None

    def process(self, estimator: SeveralHeights, line: ProgressLine) -> None:
        """Take everything of the source."""
        video = not self._ref.is_images
        scene = self._options.scene
        results = process_stream(
            self._late, estimator, PoseTracker() if video else None,
            smoother=video and (scene is None or scene.smoothing), options=StreamOptions(policy="all"),
        )  # fmt: skip
        try:
            for result in results:
                self._take(result)
                line.show(self._late, self._run.frames, self._run.people)
        except SourceError as error:
            if self._late.strict or not self._run.frames:
                raise
            self._run.failures.append(str(error))
        if self._ahead is not None:
            for result, heads in self._ahead.rest():
                self._write(result, heads)
        if self._late.source is not None:
            self._run.failures += [str(problem) for problem in self._late.source.errors]

    def _take(self, result: FrameResult) -> None:
        frame = result.frame
        try:
            heads = self._effects.find_heads(result.poses, frame.timestamp_s)
        except Exception as error:  # a frame whose heads are not known is not written
            self._leave_out(result, error)
            return
        if self._ahead is None:
            self._write(result, heads)
            return
        for ready, ready_heads in self._ahead.push(result, frame.timestamp_s, heads):
            self._write(ready, ready_heads)

    def _write(self, result: FrameResult, heads: Heads) -> None:
        frame, source = result.frame, self._late.source
        assert source is not None
        try:
            self._effects.draw(frame.image, result.poses, heads, frame.timestamp_s)
            if self._skeletons:
                draw_poses(frame.image, result.poses)
        except Exception as error:
            self._leave_out(result, error)
            return
        if self._record is not None:  # before the frame: what is not recorded is not written
            self._record.note(frame.name, frame.index, frame.timestamp_s, heads)
        self._put(result, source)
        self._run.heads += len(heads)

    def _put(self, result: FrameResult, source: Source) -> None:
        self._target.write(result.frame.image, result.frame, self._ref, source)
        self._run.frames += 1
        self._run.people += len(result.poses)

    def _leave_out(self, result: FrameResult, error: Exception) -> None:
        if isinstance(error, FeatherposeError):
            raise error  # the scene does not fit the skeleton: no frame would do
        _log.debug("frame %d of %s", result.frame.index, result.frame.name, exc_info=error)
        reason = f"{type(error).__name__}: {error}"
        self._run.left_out += 1
        self._run.failures.append(f"frame {result.frame.index} of {result.frame.name} is left out: {reason}")
        if self._record is not None:
            self._record.failed(result.frame.name, result.frame.index, reason)
