"""Everyone's poses over a video, for commands that need all of it before they begin."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack

from featherpose.cli.compilation import note_compilation
from featherpose.cli.lazy_source import LazySource, ReadingOptions
from featherpose.cli.options import ModelOptions
from featherpose.cli.options.predict_options import SourceOptions
from featherpose.cli.progress import progress_line
from featherpose.errors import OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.formats.record import FrameRecord
from featherpose.media.sources.find import ReconnectOptions, SourceRef, find_sources
from featherpose.motion.sequence import PoseSequence
from featherpose.stream import FrameResult, StreamOptions, process_stream
from featherpose.tracking import PoseTracker
from featherpose.tracking import warm_up as warm_up_tracking
from featherpose.zoo.resolve import resolve_model

__all__ = ["find_video", "read_video_poses"]


def find_video(source: str) -> SourceRef:
    """Find one video file.

    Raises:
        OptionError: If it is something else.
        SourceError: If there is none.
    """
    refs = find_sources(source)
    if len(refs) != 1 or refs[0].is_images or refs[0].camera is not None:
        raise OptionError(
            f"{source} is not one video", expected="a video file or a results file",
            hint="record a camera first: featherpose live 0 --save clip.mp4",
        )  # fmt: skip
    return refs[0]


def read_video_poses(
    ref: SourceRef, part: SourceOptions, model: ModelOptions, *, quiet: bool,
    look: Callable[[FrameResult], None] = lambda _: None,
) -> PoseSequence:  # fmt: skip
    """Find everyone in a video, followed by a tracker.

    Args:
        ref: The video.
        part: Which part of it.
        model: How it is looked at.
        quiet: Show no progress and no damage of the video.
        look: Given each frame with its people.

    Raises:
        SourceError: If there is no frame, or nobody in them.
    """
    resolved = resolve_model(model.model)
    engine = model.throughput_engine
    late = LazySource(
        ref,
        ReadingOptions(
            span=part.span, strict=part.strict, timeout_s=part.timeout, max_pixels=int(part.max_megapixels * 1e6),
            reconnect=ReconnectOptions(give_up_s=part.reconnect),
        ),
    )  # fmt: skip
    records: list[FrameRecord] = []
    people = 0
    with ExitStack() as stack:
        estimator = stack.enter_context(
            PoseEstimator(resolved, quality=model.quality, refine=model.refine, engine=engine)
        )
        note_compilation(resolved.spec.method, quiet=quiet)
        estimator.warm_up()
        warm_up_tracking()
        line = stack.enter_context(progress_line(not quiet and sys.stderr.isatty()))
        options = StreamOptions(policy="all", in_flight=engine.num_streams + 2 if engine.num_streams else None)
        for result in process_stream(late, estimator, PoseTracker(), smoother=False, options=options):
            frame = result.frame
            records.append(FrameRecord(frame.index, frame.timestamp_s, result.poses, frame.name))
            look(result)
            people += len(result.poses)
            line.show(late, len(records), people)
        if late.source is not None and late.source.errors and not quiet:
            print(f"featherpose: {late.source.errors[0]}", file=sys.stderr)
    if not records:
        raise SourceError(f"{ref.name} holds no frame that can be read")
    return PoseSequence.from_records(records)
