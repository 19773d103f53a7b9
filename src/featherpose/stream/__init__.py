"""Frames in, people out, in order, while reading, inference and the caller's own work overlap.

    source ── reader thread ── bounded queue ── network requests in flight ── decoder, tracker ── your loop

One thread a source reads ahead; several inferences run in the engine; decoding, tracking and whatever the caller does
with a result happen in the caller's thread meanwhile. Nothing grows: a source that is faster than the machine waits
(`every`) or loses its oldest frames (`newest`).

Under `newest` a frame is chosen as late as possible: when the network can begin with it at once. While it runs, the
frame before is decoded, tracked and used, and the frames that come meanwhile replace each other.
"""

from __future__ import annotations

from featherpose.stream.processing import Estimator, process_stream, process_streams
from featherpose.stream.results import FrameResult, StreamOptions, StreamPolicy

__all__ = ["Estimator", "FrameResult", "StreamOptions", "StreamPolicy", "process_stream", "process_streams"]
