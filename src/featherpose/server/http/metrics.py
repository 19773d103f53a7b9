"""Prometheus metrics of the server. Labels come from fixed sets, so no client can add time series."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from featherpose.server.dispatch import Dispatcher

__all__ = ["Metrics"]

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """Counters of one server; two servers of one process share nothing."""

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
            "featherpose_stage_seconds", "Time of each stage of an image.", ["stage"], buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._frames = Counter(
            "featherpose_frames_total", "Frames of live sessions by outcome.", ["outcome"], registry=registry
        )
        self.sessions = Gauge("featherpose_sessions", "Live sessions.", registry=registry)
        self.viewers = Gauge("featherpose_viewers", "Clients that watch a source.", registry=registry)
        self._admitted = Gauge(
            "featherpose_admitted", "Images that wait or are worked on.", ["lane"], registry=registry
        )
        self._connections = Gauge("featherpose_connections", "Open connections.", registry=registry)
        self._ended = Counter(
            "featherpose_connections_ended_total", "Connections that the server ended early.", ["cause"],
            registry=registry,
        )  # fmt: skip
        self._shortages = Counter(
            "featherpose_out_of_memory_total", "Images and frames for which there was no memory.", registry=registry
        )
        self._internal = Counter("featherpose_internal_errors_total", "Defects of the server.", registry=registry)

    def watch(self, dispatcher: Dispatcher) -> None:
        """Read the lengths of the queue on each scrape."""
        self._admitted.labels("images").set_function(lambda: dispatcher.admitted("images"))
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

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Read the number of connections on each scrape."""
        self._connections.set_function(count)

    def connection_ended(self, cause: str) -> None:
        """Count a connection that the server ended early; the causes are a fixed set."""
        self._ended.labels(cause).inc()

    def out_of_memory(self) -> None:
        """Count an image or frame for which there was no memory."""
        self._shortages.inc()

    def internal_error(self) -> None:
        """Count an internal error."""
        self._internal.inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
