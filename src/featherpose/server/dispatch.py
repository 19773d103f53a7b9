"""One estimator for all clients: a bounded queue in front of a few worker threads.

Images of requests and frames of live sessions wait in two lanes that the workers serve in turn, so that a burst of
uploads cannot delay a camera, nor many cameras an upload. Each worker does all of an image - decompress,
prepare, network, decode, encode the answer - and there is one worker more than the engine runs inferences at once:
while some wait for the engine the others keep the remaining stages busy.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, TypeVar

from featherpose.server.http.errors import too_busy

__all__ = ["Dispatcher", "Lane"]

Lane = Literal["images", "live"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Job:
    future: Future[Any]
    run: Callable[[float], Any]
    queued_at: float


class Dispatcher:
    """Runs jobs on ``workers`` threads; a full lane rejects new jobs instead of growing.

    Args:
        workers: Threads.
        bounds: Jobs of each lane that may wait or run at once.
        patience_s: A job of the images lane that waited longer than this is refused instead of run.
        explain: Called with what a job raised; returns the error that the caller receives.
    """

    def __init__(
        self,
        workers: int,
        *,
        bounds: dict[Lane, int],
        patience_s: float,
        explain: Callable[[BaseException], BaseException] = lambda error: error,
    ) -> None:
        self._explain = explain
        self._bounds = bounds
        self._patience_s = patience_s
        self._lanes: dict[Lane, deque[_Job]] = {lane: deque() for lane in bounds}
        self._admitted: dict[Lane, int] = dict.fromkeys(bounds, 0)
        self._changed = threading.Condition()
        self._closed = False
        self._turn = 0
        # Running mean of the time an image keeps one worker, for the Retry-After advice.
        self._seconds = 0.05
        self._threads = [
            threading.Thread(target=self._work, name=f"featherpose-serve-{i}", daemon=True) for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def workers(self) -> int:
        """Return the number of threads."""
        return len(self._threads)

    def admitted(self, lane: Lane) -> int:
        """Return the number of jobs of a lane that wait or run."""
        return self._admitted[lane]

    def retry_after_s(self) -> int:
        """Return when to ask again: about the time that the queue takes to empty, in whole seconds."""
        waiting = sum(self._admitted.values())
        return max(1, min(60, round(waiting * self._seconds / max(1, len(self._threads)))))

    def full(self, lane: Lane, count: int = 1) -> bool:
        """Return whether ``count`` more jobs would be rejected now."""
        return self._admitted[lane] + count > self._bounds[lane]

    def submit(self, lane: Lane, *runs: Callable[[float], _T]) -> list[Future[_T]]:
        """Queue all of the jobs, or none.

        Args:
            lane: Where they wait.
            runs: Each is called in a worker with the milliseconds it waited.

        Raises:
            HTTPError: If the lane is full, or the dispatcher was closed.
        """
        now = perf_counter()
        jobs = [_Job(Future(), run, now) for run in runs]
        with self._changed:
            if self._closed or self.full(lane, len(jobs)):
                raise too_busy(self.retry_after_s())
            self._admitted[lane] += len(jobs)
            self._lanes[lane].extend(jobs)
            self._changed.notify(len(jobs))
        return [job.future for job in jobs]

    def close(self, patience_s: float) -> None:
        """Finish the admitted jobs, then end the threads; reject new ones."""
        deadline = perf_counter() + patience_s
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - perf_counter()))

    def _take(self) -> tuple[Lane, _Job] | None:
        """Return the next job, of the lanes in turn; None when all is done and closed."""
        with self._changed:
            while True:
                lanes = list(self._lanes)
                for i in range(len(lanes)):
                    lane = lanes[(self._turn + i) % len(lanes)]
                    if self._lanes[lane]:
                        self._turn += i + 1
                        return lane, self._lanes[lane].popleft()
                if self._closed:
                    return None
                self._changed.wait()

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            lane, job = taken
            self._run(lane, job)
            del taken, job  # release image and answer while waiting for the next job

    def _run(self, lane: Lane, job: _Job) -> None:
        started = perf_counter()
        waited_s = started - job.queued_at
        result: Any = None
        error: BaseException | None = None
        if not job.future.set_running_or_notify_cancel():
            pass  # whoever asked has gone
        elif lane == "images" and waited_s > self._patience_s:
            error = too_busy(self.retry_after_s())
        else:
            try:
                result = job.run(1e3 * waited_s)
            except BaseException as caught:  # handed to whoever asked
                error = self._explain(caught)
            self._seconds += 0.05 * (perf_counter() - started - self._seconds)
        with self._changed:
            self._admitted[lane] -= 1
        if job.future.cancelled():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
