"""Inferences in flight: a bounded number of worker threads in front of an engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore, Lock

from featherpose.errors import ModelError
from featherpose.methods.method import Arrays

__all__ = ["AsyncRunner"]


class AsyncRunner:
    """Runs blocking inferences on up to ``limit`` threads; the threads only wait for the engine.

    Results are finished by the worker, so a caller may start as many inferences as it likes before it asks for the
    first result: `submit` waits for an engine that is busy, never for a caller that is.

    Args:
        limit: Inferences at once, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self._free = BoundedSemaphore(limit)
        self._lock = Lock()
        self._closed = False
        self._executor = ThreadPoolExecutor(limit, thread_name_prefix="featherpose-infer")

    def submit(self, run: Callable[[], list[Arrays]]) -> Future[list[Arrays]]:
        """Start an inference; blocks while ``limit`` others run.

        Args:
            run: The inference of one batch.

        Raises:
            ModelError: If `close` was called.
        """
        self._free.acquire()
        try:
            with self._lock:  # an executor that is shut down while we submit must not surface as a RuntimeError
                if self._closed:
                    raise ModelError("the model was closed", hint="open it again")
                future = self._executor.submit(run)
        except BaseException:
            self._free.release()
            raise
        future.add_done_callback(lambda _: self._free.release())
        return future

    def close(self) -> None:
        """Let running inferences end, accept no more; calling it again does nothing."""
        with self._lock:
            self._closed = True
        self._executor.shutdown(wait=True)
