"""The server on many machines: the application of `featherpose.server` as replicas on Ray Serve.

The proxies of Ray Serve listen; a request goes to the replica that is least busy, a WebSocket stays on the one that
accepted it until it ends, so a session keeps its tracker. Watched sources are a deployment of their own with one
replica: a camera is opened once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from featherpose.cluster.ray_session import RaySession
from featherpose.errors import MissingExtraError, OptionError
from featherpose.quality import model_of, quality_named

if TYPE_CHECKING:
    from featherpose.server.options import ServeOptions

__all__ = ["ReplicaOptions", "Served", "application", "serve"]

_SOURCES_PREFIX = "/v1/sources"
_NAME, _SOURCES_NAME = "featherpose", "featherpose-sources"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOptions:
    """Number of replicas of the server, and their limits.

    Attributes:
        least: Replicas that are always there.
        most: Replicas that may be there under load.
        cores: Processors of each replica, which are its inference threads as well.
        target_requests: Requests and sessions in progress for each replica, beyond which there will be more replicas.
        most_waiting: Requests that wait at a proxy for a replica; further ones are answered 503.
        request_timeout_s: Longest time of a request; sessions are requests, too, for as long as they live.
        health_s: Interval of health checks; a replica has three times as long to answer.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> ReplicaOptions(least=3, most=2)
        Traceback (most recent call last):
        featherpose.errors.OptionError: 3 to 2 replicas; expected at least one, and no fewer at most than at least
    """

    least: int = 1
    most: int = 4
    cores: int = 1
    target_requests: float = 2.0
    most_waiting: int = 64
    request_timeout_s: float | None = None
    health_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise OptionError(
                f"{self.least} to {self.most} replicas", expected="at least one, and no fewer at most than at least"
            )
        if self.cores < 1 or self.most_waiting < 1:
            raise OptionError(f"{self.cores} cores, {self.most_waiting} waiting requests", expected="1 or more")
        for value in (self.target_requests, self.health_s, self.request_timeout_s or 1.0):
            if not value > 0:
                raise OptionError(f"{value:g} requests or seconds", expected="a positive number")


class Served:
    """A running server; close it, or use it as a context manager.

    Attributes:
        url: Where it listens.
    """

    def __init__(self, session: RaySession, url: str) -> None:
        self._session = session
        self.url = url

    def replicas(self) -> dict[str, int]:
        """Return how many replicas of the server are in each state, such as ``RUNNING``."""
        from ray import serve as ray_serve

        found: dict[str, int] = {}
        for application in ray_serve.status().applications.values():
            for deployment in application.deployments.values():
                for state, count in deployment.replica_states.items():
                    name = str(getattr(state, "value", state))
                    found[name] = found.get(name, 0) + int(count)
        return found

    def wait(self) -> None:
        """Return when the process is asked to end (Ctrl-C)."""
        while True:
            time.sleep(3600)

    def close(self) -> None:
        """Take the applications down, and end a Ray that was started for them."""
        from ray import serve as ray_serve

        try:
            ray_serve.delete(_NAME)
            ray_serve.delete(_SOURCES_NAME)
            if self._session.local:
                ray_serve.shutdown()
        finally:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(
    options: ServeOptions | None = None, *, replicas: ReplicaOptions | None = None, address: str | None = None
) -> Served:
    """Deploy the server on Ray Serve: the routes and limits of ``featherpose serve``, on as many machines as there are.

    What the server keeps to on each connection by itself (deadlines, their number, TLS) is up to Ray Serve's proxies
    here, or to the ingress in front of them. ``/metrics`` and ``limits`` are those of one replica.

    Args:
        options: Behavior and limits of each replica; ``host`` and ``port`` are those of the proxies.
        replicas: How many there are.
        address: The Ray cluster to join; None starts Ray on this machine, on loopback.

    Raises:
        OptionError: If an option is outside its range, or TLS is asked for.
        MissingExtraError: If Ray Serve or the server's packages are not installed.
        ModelError: If the model cannot be found.
        ClusterError: If Ray cannot be started or reached.

    Example:
        >>> from featherpose.cluster import ReplicaOptions, serve
        >>> def forever() -> None:
        ...     with serve(replicas=ReplicaOptions(least=2, most=8), address="auto") as server:
        ...         print(server.url)
        ...         server.wait()
    """
    if find_spec("fastapi") is None or find_spec("prometheus_client") is None:
        raise MissingExtraError("the server", "serve")
    if find_spec("ray") is None or find_spec("ray.serve") is None:
        raise MissingExtraError("the server on many machines", "cluster")
    from featherpose.server.options import ServeOptions
    from featherpose.zoo.resolve import resolve_model

    options, replicas = options or ServeOptions(), replicas or ReplicaOptions()
    if options.certificate is not None:
        raise OptionError("a certificate", expected="none: TLS ends at the ingress in front of Ray Serve")
    resolve_model(model_of(options.model, options.quality))  # what is wrong with it is told before anything is started
    session = RaySession(address, workers=replicas.most * replicas.cores + 2)
    try:
        from ray import serve as ray_serve

        ray_serve.start(
            http_options={
                "host": options.host, "port": options.port, "request_timeout_s": replicas.request_timeout_s,
            },
        )  # fmt: skip
        shared = replace(options, engine=replace(options.engine, threads=replicas.cores), sources={})
        _deploy(ray_serve, shared, replicas, _NAME, "/", replicas.least, replicas.most)
        if options.sources:
            watching = replace(shared, sources=options.sources)
            _deploy(ray_serve, watching, replicas, _SOURCES_NAME, _SOURCES_PREFIX, 1, 1)
    except BaseException:
        session.close()
        raise
    return Served(session, f"http://{options.host}:{options.port}")


def application(arguments: dict[str, str]) -> Any:
    """Return the server as an application of Ray Serve, for ``serve run`` and the files of KubeRay.

    The token that clients must send is taken from FEATHERPOSE_TOKEN, because such a server listens to the network.

    Args:
        arguments: ``model``, ``quality``, ``height``, ``cores``, ``least``, ``most`` and ``allowed_hosts`` (with
            commas), each as text.

    Raises:
        OptionError: If an argument is unknown or outside its range, or there is no token.
    """
    from ray import serve as ray_serve

    from featherpose.runtime.backend import EngineOptions
    from featherpose.server.options import ServeOptions

    known = {"model", "quality", "height", "cores", "least", "most", "allowed_hosts"}
    if unknown := set(arguments) - known:
        raise OptionError(f"the argument {min(unknown)}", expected=f"one of {', '.join(sorted(known))}")
    try:
        cores, height = int(arguments.get("cores", "1")), arguments.get("height")
        replicas = ReplicaOptions(
            least=int(arguments.get("least", "1")), most=int(arguments.get("most", "4")), cores=cores
        )
        options = ServeOptions(
            model=arguments.get("model"), quality=quality_named(arguments.get("quality", "balanced")),
            height=None if height is None else int(height), engine=EngineOptions(threads=cores), host="0.0.0.0",
            token=os.environ.get("FEATHERPOSE_TOKEN"),
            allowed_hosts=tuple(name for name in arguments.get("allowed_hosts", "").split(",") if name),
        )  # fmt: skip
    except ValueError as error:
        if isinstance(error, OptionError):
            raise
        raise OptionError(f"the arguments {arguments}", expected="whole numbers where numbers are") from error
    return _bound(ray_serve, options, replicas, replicas.least, replicas.most)


def _deploy(
    ray_serve: Any, options: ServeOptions, replicas: ReplicaOptions, name: str, prefix: str, least: int, most: int
) -> None:
    ray_serve.run(_bound(ray_serve, options, replicas, least, most), name=name, route_prefix=prefix)


def _bound(ray_serve: Any, options: ServeOptions, replicas: ReplicaOptions, least: int, most: int) -> Any:
    scaling: dict[str, Any] = {"num_replicas": 1}
    if most > least or least > 1:
        scaling = {
            "autoscaling_config": {
                "min_replicas": least, "max_replicas": most, "initial_replicas": least,
                "target_ongoing_requests": replicas.target_requests, "upscale_delay_s": 10, "downscale_delay_s": 120,
            }
        }  # fmt: skip
    limits = options.limits
    deployment = ray_serve.deployment(
        name="server",
        ray_actor_options={"num_cpus": replicas.cores},
        max_ongoing_requests=limits.queue + limits.sessions + limits.viewers,
        max_queued_requests=replicas.most_waiting,
        health_check_period_s=replicas.health_s,
        health_check_timeout_s=3 * replicas.health_s,
        graceful_shutdown_timeout_s=limits.shutdown_timeout_s,
        **scaling,
    )
    return deployment(ray_serve.ingress(_builder(options))(_Replica)).bind()


class _Replica:
    """One copy of the server; its application is made by `_builder` in the replica's process."""

    def check_health(self) -> None:
        """Fail if the engine has, which makes Ray Serve replace the replica."""
        import numpy as np

        for service in _services:
            service.estimator(np.full((64, 64, 3), 128, np.uint8))


_services: list[Any] = []


def _builder(options: ServeOptions) -> Callable[[], Any]:
    """Return what makes the application in a replica, where the model is loaded."""

    def build() -> Any:
        from featherpose.cluster import serving
        from featherpose.server.app import create_app

        app = create_app(options)
        serving._services.append(app.state.service)
        return _at_whole_paths(app)

    return build


def _at_whole_paths(app: Any) -> Any:
    """Let routes see the whole path: Ray Serve takes the prefix of an application for where it is mounted."""

    async def whole(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, "root_path": ""}
        await app(scope, receive, send)

    return whole
