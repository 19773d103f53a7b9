"""Frames in, people out, in order, while reading, inference and the caller's own work overlap.

    source ── reader thread ── bounded queue ── network requests in flight ── decoder, tracker ── your loop

One thread a source reads ahead; several inferences run in the engine; decoding, tracking and the caller's own work run
in the caller's thread meanwhile. Nothing grows: a source that is faster than the machine waits
(`all`) or loses its oldest frames (`latest`).

Under `latest` a frame is chosen as late as possible: when the network can start it at once. While it runs, the previous
frame is decoded, tracked and used, and newer frames replace each other.
"""

from __future__ import annotations

from featherpose.stream.detect_every import DetectEvery
from featherpose.stream.processing import Estimator, process_stream, process_streams
from featherpose.stream.results import FrameResult, StreamOptions, StreamPolicy

__all__ = [
    "DetectEvery",
    "Estimator",
    "FrameResult",
    "StreamOptions",
    "StreamPolicy",
    "process_stream",
    "process_streams",
]
