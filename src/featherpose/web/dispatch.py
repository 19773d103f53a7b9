"""One estimator for everybody: a bounded queue in front of a few worker threads.

Pictures of requests and frames of live sessions wait in two lanes of which the workers take in turn, so that a burst
of uploads cannot hold up a camera, nor a crowd of cameras an upload. Each worker does all of a picture - decompress,
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

from featherpose.web.refusals import too_busy

__all__ = ["Dispatcher", "Lane"]

Lane = Literal["pictures", "live"]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Job:
    future: Future[Any]
    run: Callable[[float], Any]
    queued_at: float


class Dispatcher:
    """Runs jobs on ``workers`` threads; a lane that is full refuses instead of growing.

    Args:
        workers: Threads.
        bounds: Jobs of each lane that may wait or run at once.
        patience_s: A job of the pictures lane that waited longer than this is refused instead of run.
    """

    def __init__(self, workers: int, *, bounds: dict[Lane, int], patience_s: float) -> None:
        self._bounds = bounds
        self._patience_s = patience_s
        self._lanes: dict[Lane, deque[_Job]] = {lane: deque() for lane in bounds}
        self._admitted: dict[Lane, int] = dict.fromkeys(bounds, 0)
        self._changed = threading.Condition()
        self._closed = False
        self._turn = 0
        # How long a picture keeps one worker, for the advice when to come back: a running mean.
        self._seconds = 0.05
        self._threads = [
            threading.Thread(target=self._work, name=f"featherpose-serve-{i}", daemon=True) for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def workers(self) -> int:
        """Threads."""
        return len(self._threads)

    def admitted(self, lane: Lane) -> int:
        """Jobs of a lane that wait or run."""
        return self._admitted[lane]

    def retry_after_s(self) -> int:
        """When it is worth to ask again: about the time that the queue takes to empty, whole seconds."""
        waiting = sum(self._admitted.values())
        return max(1, min(60, round(waiting * self._seconds / max(1, len(self._threads)))))

    def full(self, lane: Lane, count: int = 1) -> bool:
        """Whether ``count`` more jobs would be refused now."""
        return self._admitted[lane] + count > self._bounds[lane]

    def submit(self, lane: Lane, *runs: Callable[[float], _T]) -> list[Future[_T]]:
        """Queue jobs, all of them or none.

        Args:
            lane: Where they wait.
            runs: Each is called in a worker with the milliseconds it waited.

        Raises:
            Refusal: If the lane is full, or the dispatcher was closed.
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
        """Finish what was admitted, then end the threads; refuse what comes now."""
        deadline = perf_counter() + patience_s
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - perf_counter()))

    def _take(self) -> tuple[Lane, _Job] | None:
        """The next job, of the lanes in turn; None when all is done and closed."""
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
            del taken, job  # lets go of picture and answer while waiting for the next one

    def _run(self, lane: Lane, job: _Job) -> None:
        started = perf_counter()
        waited_s = started - job.queued_at
        result: Any = None
        error: BaseException | None = None
        if not job.future.set_running_or_notify_cancel():
            pass  # whoever asked has gone
        elif lane == "pictures" and waited_s > self._patience_s:
            error = too_busy(self.retry_after_s())
        else:
            try:
                result = job.run(1e3 * waited_s)
            except BaseException as caught:  # handed to whoever asked
                error = caught
            self._seconds += 0.05 * (perf_counter() - started - self._seconds)
        with self._changed:
            self._admitted[lane] -= 1
        if job.future.cancelled():
            return
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
