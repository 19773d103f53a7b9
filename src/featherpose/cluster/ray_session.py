"""Ray: started on this machine and ended again, or a cluster that is there.

A Ray of our own listens on the loopback interface only, requires a token made for this run, sends no
usage statistics, and opens no dashboard.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import threading
from importlib.util import find_spec
from types import TracebackType
from typing import Any, Self

from featherpose.errors import ClusterError, MissingExtraError
from featherpose.runtime.processor import available_cores

__all__ = ["RaySession", "check_installed"]

_OBJECT_STORE_BYTES = 100 * 2**20  # jobs and reports are small: images never pass through it
_SHUTDOWN_S = 20.0
_TRY_AGAIN = "run the same command again; if it fails again, see /tmp/ray/session_latest/logs"

# Read when Ray is imported or its processes start; the names are Ray's.
_LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray takes the address of the network card for a node unless it believes that it cannot form a cluster, in which
    # case everything listens on 127.0.0.1 (named after the systems where that is its default).
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_worker_niceness": "0",  # 15 otherwise, behind every other process of the machine
    # Ray's core ends this process when the head has not answered for so long, a minute otherwise. On one machine a head
    # that is silent is dead.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
}

_tokens: list[str] = []


class RaySession:
    """A connection to Ray; a local Ray ends with it.

    Args:
        address: Of a cluster; None starts Ray on this machine.
        workers: How many workers a local Ray must have room for; None for one a core.

    Attributes:
        ray: The module.
        local: Whether Ray was started here.

    Raises:
        MissingExtraError: If Ray is not installed.
        ClusterError: If it cannot be started or reached.
    """

    def __init__(self, address: str | None = None, *, workers: int | None = None) -> None:
        self.local = address is None
        self._head: Any = None
        check_installed()
        self._before = dict(os.environ)
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        if self.local:
            os.environ.update(_LOCAL_ENVIRONMENT)
            if "ray" not in sys.modules:  # it reads mode and token once in the life of a process
                _tokens.append(secrets.token_hex(32))
            if _tokens:
                os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=_tokens[0])
        import ray

        self.ray: Any = ray
        if ray.is_initialized():
            raise ClusterError("Ray is in use in this process", hint="end it first: ray.shutdown()")
        if self.local:
            ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # the same for a Ray that was loaded before
        _silence(ray)
        try:
            self._connect(address, workers)
        except BaseException:
            self.close()
            raise
        self._head = self._find_head() if self.local else None

    def _connect(self, address: str | None, workers: int | None) -> None:
        try:
            if address is None:
                self.ray.init(
                    address="local", num_cpus=max(workers or 1, available_cores()), include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES, log_to_driver=False, logging_level="ERROR",
                )  # fmt: skip
            else:
                self.ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except Exception as error:
            what = (
                "Ray cannot be started on this machine"
                if address is None
                else f"the Ray cluster {address} cannot be reached"
            )
            raise ClusterError(
                f"{what}: {' '.join(str(error).split())[:300] or type(error).__name__}",
                hint="check the address" if address else _TRY_AGAIN,
            ) from error

    def _find_head(self) -> Any:
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "gcs_server" in child.name():
                    return child
        return None

    @property
    def head_is_gone(self) -> bool:
        """Whether the head process of a local Ray has died; nothing that is asked of Ray is answered then."""
        import psutil

        if self._head is None:
            return False
        try:
            return not self._head.is_running() or self._head.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    def cpus(self) -> tuple[float, float]:
        """Return the processors of the cluster, and those of them that nobody has."""
        total = float(self.ray.cluster_resources().get("CPU", 0.0))
        return total, float(self.ray.available_resources().get("CPU", 0.0))

    def close(self) -> None:
        """Leave the cluster, or end the local Ray and every process of it."""
        import psutil

        ours = psutil.Process().children(recursive=True) if self.local else []
        if not self.head_is_gone:
            # A Ray in trouble may not answer: its processes are ended below all the same.
            ending = threading.Thread(target=self.ray.shutdown, daemon=True)
            ending.start()
            ending.join(_SHUTDOWN_S)
        if self.local:
            ray_processes = []
            for child in ours:
                with contextlib.suppress(psutil.Error):
                    if any("ray" in part for part in (child.name(), *child.cmdline()[:3])):
                        child.kill()
                        ray_processes.append(child)
            psutil.wait_procs(ray_processes, timeout=5)
        _restore(self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_installed() -> None:
    """Check whether Ray is installed, without importing it.

    Raises:
        MissingExtraError: If it is not.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("Ray", "cluster")


def _silence(ray: Any) -> None:
    """Keep Ray from printing on the terminal of a command: the pool tells of lost workers, each in one line."""
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _restore(before: dict[str, str]) -> None:
    for name in [*_LOCAL_ENVIRONMENT, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"]:
        if name in before:
            os.environ[name] = before[name]
        else:
            os.environ.pop(name, None)
