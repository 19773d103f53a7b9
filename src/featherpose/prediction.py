"""`predict`: one call from an image, video or other source to keypoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.media.sources.find import SourceRef, find_sources
from featherpose.media.sources.source import Span
from featherpose.quality import Quality, QualityName
from featherpose.runtime.backend import Precision
from featherpose.stream import FrameResult, process_stream
from featherpose.tiling import TileOptions
from featherpose.topdown.topdown_options import RefineMode, RefineOptions
from featherpose.tracking import PoseTracker

__all__ = ["predict"]


def predict(
    source: object,
    *,
    model: str | Path | None = None,
    quality: QualityName | Quality = "balanced",
    height: int | None = None,
    refine: RefineMode | RefineOptions | None = None,
    precision: Precision | None = None,
    device: str | None = None,
    threads: int | None = None,
    options: Any | None = None,
    tiles: TileOptions | None = None,
    track: bool | None = None,
    smooth: bool | None = None,
    start: float | None = None,
    end: float | None = None,
    frame_step: int = 1,
    strict: bool = False,
) -> Any:
    """Find everyone in an image, several images, a folder, a video, a camera or a stream.

    Each call loads the network, a fraction of a second. For many separate images keep a `PoseEstimator`; for a video
    with your own tracker or limits use `process_stream`.

    Args:
        source: An image file, an array uint8[H, W, 3] in BGR order, a PIL image, or a list of these; a folder, a
            pattern such as ``photos/*.jpg``, a video or animated GIF, a camera number, or an address.
        model: A model file, a name that `list_models` knows, or None for the bundled network.
        quality: ``fast``, ``balanced`` or ``best``.
        height: Network input height in pixels; higher finds smaller people and takes longer. That of the quality unless
            given.
        refine: ``off``, ``auto`` or ``all``: who is looked at again by a single-person network; as the quality says
            unless given.
        precision: Of the network; what the model was made for unless given.
        device: Of the inference engine.
        threads: Of the inference engine.
        options: Decoding options of the model's method, such as `PafOptions`.
        tiles: Overlapping views of each image, for small and far people.
        track: Whether people get ids; None for ids in videos, cameras and streams and none in images.
        smooth: Whether joints are smoothed; None smooths live sources with ids.
        start: Leave out what comes before this time of a video, seconds.
        end: Leave out what comes from this time on, seconds.
        frame_step: Take every n-th frame.
        strict: Raise at the first image of a folder that cannot be read, or at the early end of a video; otherwise
            they are logged.

    Returns:
        For one image a `Poses`; for a list a list of `Poses` in the same order; for all other sources an iterator of
        `FrameResult`, one a frame, in order. Memory does not grow with the length of the source, and closing the
        iterator stops reading. Of a folder the images come first, then each video; ``result.source_index`` says which.

    Raises:
        SourceError: If there is no such source, or it cannot be read.
        ModelError: If the model cannot be found, read or run here.
        OptionError: If an option is outside its range.

    Example:
        >>> import numpy as np
        >>> nobody = np.full((240, 320, 3), 128, np.uint8)
        >>> predict(nobody, height=128)
        Poses(0 people, openpose_18, 320x240)
        >>> predict([nobody, nobody[:200]], height=128)
        [Poses(0 people, openpose_18, 320x240), Poses(0 people, openpose_18, 320x200)]
        >>> def print_noses(video: str) -> None:
        ...     for result in predict(video):
        ...         print(result.frame.timestamp_s, result.poses["nose"])
    """
    if smooth and track is False:
        raise OptionError("smoothing without tracking", hint="smoothing follows the ids: leave track alone")
    span = Span(start_s=start, end_s=end, frame_step=frame_step)
    opened = partial(
        PoseEstimator,
        model,
        quality=quality,
        height=height,
        refine=refine,
        options=options,
        precision=precision,
        device=device,
        threads=threads,
        tiles=tiles,
    )
    if isinstance(source, list | tuple):
        with opened() as estimator:
            return estimator(source)
    if not isinstance(source, str | Path | int) or isinstance(source, bool):
        with opened() as estimator:
            return estimator.timed(source)[0]  # as_bgr raises the error for what it cannot take
    refs = find_sources(source)
    if len(refs) == 1 and refs[0].is_images and refs[0].folder is None:
        with opened() as estimator:
            return estimator(refs[0].paths[0])
    return _results(refs, opened, span, track=track, smooth=smooth, strict=strict)


def _results(
    refs: Sequence[SourceRef],
    opened: Callable[[], PoseEstimator],
    span: Span,
    *,
    track: bool | None,
    smooth: bool | None,
    strict: bool,
) -> Iterator[FrameResult]:
    with opened() as estimator:
        for number, ref in enumerate(refs):
            with ref.open(span, strict=strict) as source:
                tracked = source.kind != "image" if track is None else track
                smoother = smooth if tracked else None
                tracker = PoseTracker() if tracked else None
                for result in process_stream(source, estimator, tracker, smoother=smoother):
                    yield replace(result, source_index=number)
