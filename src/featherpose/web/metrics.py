"""What the server counts, for Prometheus. Labels come from fixed sets: no client can make the numbers grow."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from featherpose.web.dispatch import Dispatcher

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The counters of one server; two servers of one process share nothing."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "featherpose_requests_total", "HTTP requests by route and status.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "featherpose_request_seconds", "Time to an answer.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._stages = Histogram(
            "featherpose_stage_seconds", "Time of each stage of a picture.", ["stage"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._frames = Counter(
            "featherpose_frames_total", "Frames of live sessions by outcome.", ["outcome"], registry=registry
        )
        self.sessions = Gauge("featherpose_sessions", "Live sessions.", registry=registry)
        self.viewers = Gauge("featherpose_viewers", "Clients that watch a source.", registry=registry)
        self._admitted = Gauge(
            "featherpose_admitted", "Pictures that wait or are worked on.", ["lane"], registry=registry
        )
        self._internal = Counter("featherpose_internal_errors_total", "Defects of the server.", registry=registry)

    def watch(self, dispatcher: Dispatcher) -> None:
        """Read the lengths of the queue when asked."""
        self._admitted.labels("pictures").set_function(lambda: dispatcher.admitted("pictures"))
        self._admitted.labels("live").set_function(lambda: dispatcher.admitted("live"))

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def stage(self, stage: str, ms: float) -> None:
        """Count the time of a stage."""
        self._stages.labels(stage).observe(ms / 1e3)

    def frame(self, outcome: str) -> None:
        """Count a frame of a live session: poses, dropped or error."""
        self._frames.labels(outcome).inc()

    def internal_error(self) -> None:
        """Count a defect."""
        self._internal.inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)
