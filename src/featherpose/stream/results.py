"""Options of taking frames from a source, and the result of each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from featherpose.errors import OptionError
from featherpose.estimator import StageTimes
from featherpose.media.sources.source import Frame
from featherpose.poses import Poses

__all__ = ["FrameResult", "StreamOptions", "StreamPolicy"]

StreamPolicy = Literal["auto", "all", "latest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Options of taking frames from a source.

    Attributes:
        policy: ``all`` frames, for files; ``latest`` for live sources: a frame is dropped and counted when a later one
            arrives first; ``auto`` is ``latest`` for cameras and live streams (``source.live``), ``all`` for the rest.
        in_flight: Under ``all``, frames begun and not yet decoded; an engine that runs several side by side is kept
            busy by two more than these (`EngineOptions.num_streams`), and results come later. Under ``latest``,
            networks that run at once. None is 3 and 1.
        prefetch: Frames read ahead of each source under ``all``; a frame of 1080p takes 6 MB.

    Raises:
        OptionError: If a value is outside its range.
    """

    policy: StreamPolicy = "auto"
    in_flight: int | None = None
    prefetch: int = 3

    def __post_init__(self) -> None:
        if self.policy not in get_args(StreamPolicy):
            raise OptionError(f"policy {self.policy!r}", expected="auto, all or latest")
        if (self.in_flight is not None and not 1 <= self.in_flight <= 64) or not 1 <= self.prefetch <= 1024:
            raise OptionError(
                f"{self.in_flight} in flight, {self.prefetch} read ahead",
                expected="1 to 64 and 1 to 1024",
            )


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """Everyone in one frame, and its times.

    Attributes:
        frame: The frame itself.
        poses: The people, with ids if there is a tracker.
        source_index: Which of several sources it came from, from 0.
        dropped: Frames of this source dropped so far because they were late.
        read_ms: Time spent reading and decompressing the frame.
        queue_ms: Time it waited, read but not begun.
        stage_times: Time of preparation, network and decoding; the network's includes waiting for its turn.
        track_ms: Time of tracking and smoothing.
        latency_ms: Time from capture (the moment the source delivered the frame) to this result.
    """

    frame: Frame
    poses: Poses
    source_index: int
    dropped: int
    read_ms: float
    queue_ms: float
    stage_times: StageTimes
    track_ms: float
    latency_ms: float
