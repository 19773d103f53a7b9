"""How frames are taken from a source, and what comes of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from featherpose.errors import OptionError
from featherpose.estimator import StageTimes
from featherpose.media.frames import Frame
from featherpose.poses import Poses

__all__ = ["FrameResult", "StreamOptions", "StreamPolicy"]

StreamPolicy = Literal["auto", "every", "newest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How frames are taken from a source.

    Attributes:
        policy: ``every`` frame, for files; ``newest`` for live: what is late is dropped and counted; ``auto`` is
            ``newest`` for cameras and live streams (``source.live``), ``every`` for all others.
        in_flight: Under ``every``, frames begun and not yet decoded; an engine that runs several side by side is kept
            busy by two more than these (`EngineOptions.requests`), and results come later. Under ``newest``, networks
            that run at once. None is 3 and 1.
        ahead: Frames read ahead of each source under ``every``; a frame of 1080p takes 6 MB.

    Raises:
        OptionError: If a value is outside its range.
    """

    policy: StreamPolicy = "auto"
    in_flight: int | None = None
    ahead: int = 3

    def __post_init__(self) -> None:
        if self.policy not in get_args(StreamPolicy):
            raise OptionError(f"policy {self.policy!r}", expected="auto, every or newest")
        if (self.in_flight is not None and not 1 <= self.in_flight <= 64) or not 1 <= self.ahead <= 1024:
            raise OptionError(
                f"{self.in_flight} in flight, {self.ahead} ahead", expected="1 to 64 in flight and 1 to 1024 ahead"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """Everyone in one frame, and what it took.

    Attributes:
        frame: The frame itself.
        poses: The people, with ids if there is a tracker.
        source: Which of several sources it came from, from 0.
        dropped: Frames of this source dropped so far because they were late.
        read_ms: Time spent reading and decompressing the frame.
        wait_ms: Time it waited, read but not begun.
        times: Time of preparation, network and decoding; the network's includes waiting for its turn.
        track_ms: Time of tracking and smoothing.
        age_ms: Time from capture (the moment the source delivered the frame) to this result.
    """

    frame: Frame
    poses: Poses
    source: int
    dropped: int
    read_ms: float
    wait_ms: float
    times: StageTimes
    track_ms: float
    age_ms: float
