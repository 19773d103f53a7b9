"""A batch run: from sources to committed shards, on a pool of workers.

The process that runs this holds a list of the jobs under way, a bit for each shard that is committed, and the digests
of the keys; images, poses and the plan do not pass through it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from featherpose.cluster.batch_options import BatchOptions
from featherpose.cluster.detection import MakeDetector, PoseDetector, model_identity
from featherpose.cluster.inputs.plan import Plan, Shard, Split
from featherpose.cluster.inputs.sources import find_units
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.outputs.identity import check_output, run_identity, write_manifest
from featherpose.cluster.outputs.shards import Counts, committed_shards
from featherpose.cluster.pool import Pool
from featherpose.cluster.ray_session import RaySession, check_installed
from featherpose.cluster.storage import Store
from featherpose.cluster.videos import cut_at_key_frames, local_copy, piece_name
from featherpose.cluster.worker import Job, Report
from featherpose.errors import ClusterError, FeatherposeError
from featherpose.media.sources.find import SourceRef

__all__ = ["BatchProgress", "BatchSummary", "run_batch"]

_TICK_S = 1.0
_ASK_S = 2.0
_GROW_S = 30.0
_VIDEOS_AHEAD = 16


@dataclass(slots=True)
class BatchProgress:
    """Progress of a run.

    Attributes:
        units: Inputs that are committed, those of earlier runs with them.
        resumed: Those that earlier runs had committed.
        planned: Inputs that are known; more may follow until ``listed``.
        listed: Whether all sources have been listed.
        failed: Inputs without a result.
        people: Poses so far.
        done: Images and frames that this run has worked on.
        seconds: Since the first worker was ready.
        workers: Those that have loaded the model.
        lost: Workers that died or hung and were replaced.
    """

    units: int = 0
    resumed: int = 0
    planned: int = 0
    listed: bool = False
    failed: int = 0
    people: int = 0
    done: int = 0
    seconds: float = 0.0
    workers: int = 0
    lost: int = 0

    @property
    def rate(self) -> float:
        """Images and frames a second of this run."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that what is left takes at the rate of this run; None while that cannot be told."""
        new = self.units - self.resumed
        if not self.listed or new <= 0 or self.seconds <= 0:
            return None
        return (self.planned - self.units) * self.seconds / new


@dataclass(frozen=True, slots=True)
class BatchSummary:
    """Result of a run.

    Attributes:
        counts: Of all shards, those of earlier runs with them.
        resumed: Inputs that earlier runs had committed.
        shards: Files under ``units``.
        complete: Whether nothing is left to do.
        seconds: Of this run.
        progress: The last state.
        lost_workers: Workers that died or hung.
    """

    counts: Counts
    resumed: int
    shards: int
    complete: bool
    seconds: float
    progress: BatchProgress
    lost_workers: int


@dataclass(slots=True)
class _State:
    """What the loop keeps."""

    done: bytearray = field(default_factory=bytearray)
    counts: Counts = field(default_factory=Counts)
    shards: int = 0
    urgent: deque[Job] = field(default_factory=deque)
    pieces_left: dict[int, int] = field(default_factory=dict)

    def is_done(self, shard: int) -> bool:
        return shard < len(self.done) and self.done[shard] == 1

    def note(self, shard: int, counts: Counts) -> None:
        if self.is_done(shard):
            return
        if shard >= len(self.done):
            self.done.extend(bytes(shard + 1024 - len(self.done)))
        self.done[shard] = 1
        self.counts.add(counts)
        self.shards += 1


def run_batch(
    sources: Iterable[str],
    out: str,
    options: BatchOptions | None = None,
    *,
    on_progress: Callable[[BatchProgress], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
    make_detector: MakeDetector = PoseDetector,
    stop: threading.Event | None = None,
) -> BatchSummary:
    """Estimate poses in many images and videos, each input once, on all cores of a machine or a cluster.

    The same call again continues after whatever ended it: shards that were committed stay, the others are done. Inputs
    that have come since are added. What cannot be read is recorded and left out.

    Args:
        sources: Images, videos, folders, patterns, lists, tar files, and addresses of these.
        out: A folder or an address such as ``s3://bucket/run``; workers of a cluster must reach it.
        options: Options of the run.
        on_progress: Is called about once a second.
        on_notice: Called with a line of text when something needs attention.
        make_detector: Makes the detector of each worker; must be importable there.
        stop: Set it to end with what is committed.

    Raises:
        OptionError: If an option is outside its range, or the output belongs to a run with other options.
        SourceError: If a source does not exist or holds nothing.
        OutputError, StoreError: If the output cannot be written.
        ModelError: If the model cannot be opened.
        MissingExtraError: If Ray is not installed.
        ClusterError: If Ray fails.

    Example:
        >>> from featherpose.cluster import BatchOptions, run_batch
        >>> def people_in(folder: str, out: str) -> int:
        ...     return run_batch([folder], out, BatchOptions(workers=2)).counts.people
    """
    options = options or BatchOptions()
    names = list(sources)
    began = time.monotonic()
    store = Store(out, patience_s=options.patience_s)
    for source in names:  # misspelled names are reported before anything starts
        next(find_units(source, patience_s=10.0))
    model, skeleton = _model(options)
    identity = run_identity(names, options, model, skeleton)
    check_installed()
    check_output(store, identity)
    state = _State()
    for number, counts in committed_shards(store):
        state.note(number, counts)
    resumed = state.counts.units
    progress = BatchProgress(resumed=resumed)
    plan = Plan(store, shard_units=options.shard_units)
    facts: dict[str, Any] | None = None
    complete, lost = False, 0
    with RaySession(options.address, workers=options.workers) as session:
        try:
            units = (unit for name in names for unit in find_units(name, patience_s=options.patience_s))
            plan.start(units, _splitting(session, options))
            loop = _Loop(session, store, plan, state, options, make_detector, progress, on_progress, on_notice)
            complete = loop.run(stop or threading.Event())
            facts, lost = loop.facts, loop.lost
        finally:
            plan.close()
    write_manifest(store, state.counts, shards=state.shards, complete=complete, runs_in=facts)
    return BatchSummary(state.counts, resumed, state.shards, complete, time.monotonic() - began, progress, lost)


def _model(options: BatchOptions) -> tuple[dict[str, Any], dict[str, Any]]:
    from featherpose.zoo.resolve import resolve_model

    resolved = resolve_model(options.detection.meant_model)
    resolved.spec.decoder(options.detection.decoding)
    return model_identity(options.detection.meant_model), resolved.spec.skeleton.to_dict()


def _splitting(session: RaySession, options: BatchOptions) -> Split:
    """Cut videos where they are: as Ray tasks without a processor of their own, several at a time."""
    if options.detection.segment_s <= 0:
        return lambda units: ([unit] for unit in units)
    cut = session.ray.remote(_pieces).options(num_cpus=0, max_retries=1)

    def split(units: Iterable[Unit]) -> Iterator[list[Unit]]:
        waiting: deque[tuple[Unit, Any]] = deque()
        for unit in units:
            if unit.kind != "video":
                yield [unit]
                continue
            waiting.append((unit, cut.remote(unit, options.detection.segment_s, options.patience_s)))
            if len(waiting) >= _VIDEOS_AHEAD:
                yield _cut(*waiting.popleft())
        while waiting:
            yield _cut(*waiting.popleft())

    def _cut(unit: Unit, reference: Any) -> list[Unit]:
        try:
            borders = session.ray.get(reference)
        except session.ray.exceptions.RayError:
            borders = [(0.0, 0.0)]  # the worker that reads it reports what is wrong
        return [Unit(unit.uri, "video", segment=i, start_s=start, end_s=end) for i, (start, end) in enumerate(borders)]

    return split


def _pieces(unit: Unit, segment_s: float, patience_s: float) -> list[tuple[float, float]]:
    try:
        with local_copy(unit.uri, patience_s) as path:
            if SourceRef(path.name, (path,)).is_images:
                return [(0.0, 0.0)]
            return cut_at_key_frames(path, segment_s)
    except FeatherposeError:
        return [(0.0, 0.0)]


class _Loop:
    """Gives jobs to idle workers until nothing is left."""

    def __init__(
        self, session: RaySession, store: Store, plan: Plan, state: _State, options: BatchOptions,
        make_detector: MakeDetector, progress: BatchProgress, on_progress: Callable[[BatchProgress], None] | None,
        on_notice: Callable[[str], None] | None,
    ) -> None:  # fmt: skip
        self._session, self._store, self._plan, self._state = session, store, plan, state
        self._options, self._make, self._progress = options, make_detector, progress
        self._on_progress, self._on_notice = on_progress, on_notice
        self._pool: Pool | None = None
        self._planned: deque[Job] = deque()
        self._moved_s = time.monotonic()
        self._ready_s: float | None = None
        self._asked_s = self._grown_s = self._told_s = 0.0
        self._last_done = -1
        self.facts: dict[str, Any] | None = None
        self.lost = 0

    def run(self, stop: threading.Event) -> bool:
        """Return whether everything is done."""
        try:
            while not stop.is_set():
                job = self._next()
                if job is None and not self._busy and self._plan.exhausted and not self._state.urgent:
                    return True
                if job is not None:
                    pool = self._pool_of()
                    if pool.idle:
                        pool.submit(job)
                        continue
                    self._planned.appendleft(job)
                if self._pool is None:
                    time.sleep(0.05)
                else:
                    for ended, report in self._pool.wait(_TICK_S if job is not None or self._busy else 0.05):
                        self._take(ended, report)
                self._watch()
        finally:
            if self._pool is not None:
                self.facts, self.lost = self._pool.facts, self._pool.lost
                self.show()
                if not self._session.head_is_gone:
                    self._pool.close()
        return False

    @property
    def _busy(self) -> int:
        return 0 if self._pool is None else self._pool.busy

    def _pool_of(self) -> Pool:
        """Return the pool, made when there is something to do: a rerun of what is complete starts no worker."""
        if self._pool is None:
            size = self._options.workers or self._fitting()
            self._pool = Pool(self._session, self._store.uri, self._options, self._make, size)
        return self._pool

    def _fitting(self) -> int:
        """How many workers the cluster has room for; one at least, which then waits for a processor."""
        total, _ = self._session.cpus()
        return max(1, int(total // max(1, self._options.detection.engine.threads)))

    def _next(self) -> Job | None:
        if self._state.urgent:
            return self._state.urgent.popleft()
        while not self._planned:
            shard = self._plan.take()
            if shard is None:
                return None
            if not self._state.is_done(shard.number):
                self._planned.extend(self._jobs_of(shard))
        return self._planned.popleft()

    def _jobs_of(self, shard: Shard) -> list[Job]:
        if shard.kind == "image":
            return [Job(shard)]
        there = set(self._store.names(f"_work/pieces/{shard.number:08d}", ".npz"))
        jobs = [Job(shard, i) for i in range(shard.units) if piece_name(shard.number, i) not in there]
        self._state.pieces_left[shard.number] = len(jobs)
        return jobs or [Job(shard, Job.JOIN)]

    def _take(self, job: Job, report: Report | None) -> None:
        self._moved_s = time.monotonic()
        if report is None:
            self._state.urgent.append(job)
            return
        if report.fatal:
            raise FeatherposeError(report.fatal)
        if report.counts is not None:
            self._state.note(job.shard.number, report.counts)
            self._state.pieces_left.pop(job.shard.number, None)
            return
        left = self._state.pieces_left[job.shard.number] = self._state.pieces_left[job.shard.number] - 1
        if left == 0:
            self._state.urgent.append(Job(job.shard, Job.JOIN))

    def _watch(self) -> None:
        """Report the progress, and when there is none."""
        now = time.monotonic()
        if self._session.head_is_gone:
            raise ClusterError("the head process of Ray ended", hint="run the same command again: it continues")
        pool = self._pool
        if pool is not None and now - self._asked_s > _ASK_S:
            self._asked_s = now
            for job, report in pool.ask():
                self._tell(f"{job.shard.number}: a worker was at one input for too long and is replaced")
                self._take(job, report)
            if self._options.address is not None and self._options.workers is None and now - self._grown_s > _GROW_S:
                self._grown_s = now
                pool.grow(self._fitting())
        self.show()
        progress = self._progress
        if progress.done != self._last_done:
            self._last_done, self._moved_s = progress.done, now
        still_s = now - self._moved_s
        if still_s > self._options.stall_s and now - self._told_s > self._options.stall_s:
            self._told_s = now
            self._tell(self._why_still(still_s))

    def show(self) -> None:
        """Report the progress."""
        pool, now = self._pool, time.monotonic()
        progress = self._progress
        progress.units, progress.failed = self._state.counts.units, self._state.counts.failed
        progress.people, progress.planned = self._state.counts.people, self._plan.units
        progress.listed = self._plan.complete
        if pool is not None:
            progress.done, progress.workers, progress.lost = pool.done, pool.ready, pool.lost
            if pool.ready and self._ready_s is None:
                self._ready_s = now
            progress.seconds = 0.0 if self._ready_s is None else now - self._ready_s
        if self._on_progress is not None:
            self._on_progress(progress)

    def _why_still(self, still_s: float) -> str:
        pool, still = self._pool, f"no progress for {still_s:.0f} s"
        if pool is None or (pool.ready and not pool.busy and not self._plan.exhausted):
            return f"{still}: the sources are still being listed, {self._plan.units:,} inputs so far"
        if not pool.ready:
            total, free = self._session.cpus()
            threads = max(1, self._options.detection.engine.threads)
            return (
                f"{still}: none of {pool.size} workers could start; each needs {threads} "
                f"processor{'s' if threads > 1 else ''}, and the cluster has {total:g} of which {free:g} are free"
            )
        return f"{still}: {pool.busy} workers are busy, the longest at {pool.slowest() or 'its start'}"

    def _tell(self, line: str) -> None:
        if self._on_notice is not None:
            self._on_notice(line)
