"""The workers of a run as Ray actors: jobs out, reports in, lost workers replaced.

Each worker takes a whole processor (or as many as it has inference threads), and nothing else of a run takes any, so
the pool cannot deadlock. A lost worker is replaced, not restarted in place, because its last input decides how
its job is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from featherpose.cluster.batch_options import BatchOptions
from featherpose.cluster.detection import MakeDetector
from featherpose.cluster.ray_session import RaySession
from featherpose.cluster.worker import Job, Report, Worker
from featherpose.errors import ClusterError

__all__ = ["Pool"]

_MOST_LOSSES_IN_A_ROW = 20
_PROGRESS_TIMEOUT_S = 1.0


@dataclass(slots=True)
class _Member:
    """A worker and its current input."""

    actor: Any
    opening: Any
    facts: dict[str, Any] | None = None
    job: Job | None = None
    running: Any = None
    asked: Any = None
    done: int = 0
    at: str = ""
    since_s: float = 0.0
    started: float = field(default_factory=time.monotonic)


class Pool:
    """Workers of one run.

    Args:
        session: Ray.
        out: Address of the output.
        options: The run's.
        make_detector: Makes the detector of each worker.
        size: How many workers.

    Attributes:
        lost: Workers that died or hung.
        facts: Model, engine and device of the workers, once one has reported them.
    """

    def __init__(
        self, session: RaySession, out: str, options: BatchOptions, make_detector: MakeDetector, size: int
    ) -> None:
        threads = max(1, options.detection.engine.threads)
        # Two calls at once: the job, and the question how far it is.
        self._class = session.ray.remote(Worker).options(
            num_cpus=threads, max_restarts=0, max_task_retries=0, max_concurrency=2
        )
        self._session, self._out, self._options, self._make = session, out, options, make_detector
        self._members: list[_Member] = []
        self._lost_in_a_row = 0
        self._finished_done = 0
        self.lost = 0
        self.facts: dict[str, Any] | None = None
        self.grow(size)

    def grow(self, size: int) -> None:
        """Add workers up to a number."""
        while len(self._members) < size:
            actor = self._class.remote(self._out, self._options, self._make)
            self._members.append(_Member(actor, actor.open.remote()))

    @property
    def size(self) -> int:
        """How many workers there are to be."""
        return len(self._members)

    @property
    def ready(self) -> int:
        """How many have loaded the model."""
        return sum(member.facts is not None for member in self._members)

    @property
    def busy(self) -> int:
        """How many have a job."""
        return sum(member.job is not None for member in self._members)

    @property
    def idle(self) -> int:
        """How many could take one."""
        return sum(member.job is None and member.facts is not None for member in self._members)

    @property
    def done(self) -> int:
        """Units and frames that were worked on in all, as far as is known."""
        return self._finished_done + sum(member.done for member in self._members)

    def slowest(self) -> str:
        """Where the worker is that has been at one input for longest."""
        some = [member for member in self._members if member.at]
        if not some:
            return ""
        longest = max(some, key=lambda member: member.since_s)
        return f"{longest.at} for {longest.since_s:.0f} s"

    def submit(self, job: Job) -> None:
        """Give a job to a worker that is idle."""
        member = next(m for m in self._members if m.job is None and m.facts is not None)
        member.job, member.running = job, member.actor.run.remote(job)

    def wait(self, timeout_s: float) -> Iterator[tuple[Job, Report | None]]:
        """Yield jobs that have ended, with their reports; None for one whose worker was lost.

        Raises:
            ClusterError: If workers cannot load the model, or are lost one after the other.
        """
        ray = self._session.ray
        waiting = [m.opening if m.facts is None else m.running for m in self._members if m.facts is None or m.job]
        if not waiting:
            time.sleep(min(timeout_s, 0.05))
            return
        ready, _ = ray.wait(waiting, num_returns=1, timeout=timeout_s)
        if ready:
            ready, _ = ray.wait(waiting, num_returns=len(waiting), timeout=0)
        for reference in ready:
            member = next(m for m in self._members if reference in (m.opening, m.running))
            try:
                value = ray.get(reference)
            except ray.exceptions.RayError as error:
                yield from self._replace(member, error)
                continue
            if member.facts is None:
                if "error" in value:
                    raise ClusterError(str(value["error"]))
                member.facts = value
                self.facts = self.facts or value
                continue
            job, member.job, member.running, member.at = member.job, None, None, ""
            member.done = value.total
            assert job is not None
            self._lost_in_a_row = 0
            yield job, value

    def _replace(self, member: _Member, error: BaseException) -> Iterator[tuple[Job, Report | None]]:
        self.lost += 1
        self._lost_in_a_row += 1
        if self._lost_in_a_row > max(_MOST_LOSSES_IN_A_ROW, 2 * len(self._members)):
            reason = " ".join(str(error).split())[:300]
            raise ClusterError(
                f"{self._lost_in_a_row} workers were lost without a result in between: {reason}",
                hint="look for too little memory; fewer --workers need less",
            )
        self._finished_done += member.done
        self._members.remove(member)
        self._session.ray.kill(member.actor)
        self.grow(len(self._members) + 1)
        if member.job is not None:
            yield replace(member.job, careful=True), None

    def ask(self) -> Iterator[tuple[Job, Report | None]]:
        """Ask the workers for their progress, and replace those that exceed the time for one input."""
        ray = self._session.ray
        for member in list(self._members):
            if member.facts is None:
                continue
            if member.asked is None:
                member.asked = member.actor.progress.remote()
        asked = [m.asked for m in self._members if m.asked is not None]
        if not asked:
            return
        answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_PROGRESS_TIMEOUT_S)
        for member in list(self._members):
            if member.asked is None:
                continue
            if member.asked in answered:
                reference, member.asked = member.asked, None
                try:
                    member.done, member.at, member.since_s = ray.get(reference)
                except ray.exceptions.RayError:
                    continue  # its job tells the same
                member.started = time.monotonic()
            else:
                member.since_s = max(member.since_s, time.monotonic() - member.started)
            if member.job is not None and member.since_s > self._options.unit_timeout_s:
                yield from self._replace(member, TimeoutError(member.at))

    def close(self) -> None:
        """End the workers."""
        for member in self._members:
            self._session.ray.kill(member.actor)
        self._members.clear()
