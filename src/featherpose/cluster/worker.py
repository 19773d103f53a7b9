"""What one process of a run does: shards in, files out. Nothing here knows of Ray, which calls it from another process.

An input that takes its process down cannot be recorded by that process. So a shard that was lost once is done
carefully: the place is written into the output before each input, and who dies there ``tries`` times is left out and
recorded as failed.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from featherpose.cluster.batch_options import BatchOptions
from featherpose.cluster.detection import FATAL, Detector, MakeDetector, ReadAhead
from featherpose.cluster.inputs.plan import Shard, read_shard
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.outputs.shards import Counts, Outcome, ShardWriter
from featherpose.cluster.storage import Store, locate
from featherpose.cluster.videos import Piece, piece_name, read_piece, write_piece
from featherpose.errors import FeatherposeError, SourceError
from featherpose.formats.record import FrameRecord
from featherpose.skeleton import Skeleton
from featherpose.tracking import Follower, PoseTracker

__all__ = ["Job", "Report", "Worker"]


@dataclass(frozen=True, slots=True)
class Job:
    """Something for a worker to do.

    Attributes:
        shard: Of the plan.
        piece: Number of the piece of a video to detect; -1 for a shard of images, -2 to join the pieces of a video.
        careful: Whether a worker was lost over it before.
    """

    shard: Shard
    piece: int = -1
    careful: bool = False

    IMAGES, JOIN = -1, -2


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a job.

    Attributes:
        counts: What the committed shard holds; None for a piece of a video, which counts when it is joined.
        fatal: Why the run cannot go on; empty if it can.
        seconds: How long it took.
        total: Units or frames that the worker has done in all.
    """

    counts: Counts | None = None
    fatal: str = ""
    seconds: float = 0.0
    total: int = 0


class Worker:
    """Does jobs one after the other; `progress` may be called meanwhile, from another thread.

    Args:
        out: Address of the output.
        options: The run's.
        make_detector: Makes the detector, once.
    """

    def __init__(self, out: str, options: BatchOptions, make_detector: MakeDetector) -> None:
        self._options = options
        self._store = Store(out, patience_s=options.patience_s)
        self._make = make_detector
        self._detector: Detector | None = None
        self._lock = threading.Lock()
        self._done = 0
        self._at = ""
        self._since = time.monotonic()

    def open(self) -> dict[str, Any]:
        """Load the model.

        Returns:
            What runs; ``{"error": …}`` if that failed.
        """
        try:
            self._detector = self._make(self._options.detection, self._options.patience_s)
            return self._detector.facts()
        except FeatherposeError as error:
            return {"error": str(error)}
        except Exception as error:
            return {
                "error": f"the model cannot be opened: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            }

    def progress(self) -> tuple[int, str, float]:
        """Return how many units or frames were done, where the worker is, and for how long, seconds."""
        with self._lock:
            return self._done, self._at, time.monotonic() - self._since

    def run(self, job: Job) -> Report:
        """Do a job and commit what comes of it."""
        began = time.monotonic()
        try:
            if job.piece >= 0:
                self._piece(job)
                counts = None
            elif job.piece == Job.JOIN:
                counts = self._join(job)
            else:
                counts = self._images(job)
        except FeatherposeError as error:
            return Report(fatal=str(error))
        except OSError as error:
            return Report(fatal=f"{self._store.shown} fails: {error.strerror or error}")
        finally:
            self._step("", 0)
        return Report(counts, "", time.monotonic() - began, self._done)

    def _step(self, at: str, done: int = 1) -> None:
        with self._lock:
            self._done += done
            self._at, self._since = at, time.monotonic()

    def _images(self, job: Job) -> Counts:
        assert self._detector is not None
        units = read_shard(self._store, job.shard)
        marker = _Marker(self._store, job) if job.careful else None
        remote = marker is None and any(locate(unit.uri).fs is not None for unit in units)
        ahead = ReadAhead(units, self._options.patience_s) if remote else None
        writer = ShardWriter(self._store, job.shard.number, self._options.formats, self._detector.skeleton)
        with contextlib.ExitStack() as stack:
            stack.callback(writer.close)
            if ahead is not None:
                stack.callback(ahead.close)
            outcomes = []
            for index, unit in enumerate(units):
                self._step(unit.key, 0)
                lost = marker.enter(index, self._options.tries) if marker is not None else 0
                if lost >= self._options.tries:
                    outcome = Outcome(unit.key, error=_lost(lost), tries=lost)
                else:
                    outcome = self._image(unit, ahead, index, lost)
                    if marker is not None:
                        marker.survived(index)
                for record in outcome.records:
                    writer.add(record)
                outcomes.append(replace(outcome, records=()))
                self._step(unit.key)
            counts = writer.commit(outcomes)
        if marker is not None:
            marker.clear()
        return counts

    def _image(self, unit: Unit, ahead: ReadAhead | None, index: int, lost: int) -> Outcome:
        assert self._detector is not None
        for attempt in range(lost + 1, self._options.tries + 1):
            try:
                data = ahead.get(index) if ahead is not None and attempt == lost + 1 else None
                outcome = self._detector.image(unit, data)
                return outcome if attempt == 1 else replace(outcome, tries=attempt)
            except SourceError as error:
                return Outcome(unit.key, error=str(error), tries=attempt)
            except FATAL:
                raise
            except Exception as error:  # a defect, or too little memory: not worth the other inputs of the shard
                failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return Outcome(unit.key, error=f"it failed {self._options.tries} times: {failure}", tries=self._options.tries)

    def _piece(self, job: Job) -> None:
        assert self._detector is not None
        unit = read_shard(self._store, job.shard)[job.piece]
        name = piece_name(job.shard.number, job.piece)
        marker = _Marker(self._store, job) if job.careful else None
        lost = marker.enter(job.piece, self._options.tries) if marker is not None else 0
        self._step(f"{unit.key} from {unit.start_s:.1f} s", 0)
        empty = Piece.of_frames([], self._detector.skeleton)
        if lost >= self._options.tries:
            piece = Piece(empty.frames, empty.times_s, empty.counts, empty.poses, _lost(lost))
        else:
            try:
                piece = self._detector.piece(unit, lambda: self._step(unit.key))
            except FATAL:
                raise
            except Exception as error:
                problem = str(error) if isinstance(error, FeatherposeError) else f"{type(error).__name__}: {error}"
                piece = Piece(empty.frames, empty.times_s, empty.counts, empty.poses, problem[:1000])
        write_piece(self._store, name, piece)
        if marker is not None:
            marker.clear()

    def _join(self, job: Job) -> Counts:
        """Follow the people of a video through all of its pieces."""
        assert self._detector is not None
        skeleton: Skeleton = self._detector.skeleton
        units = read_shard(self._store, job.shard)
        key, detection = units[0].key, self._options.detection
        follow = detection.track or detection.smooth
        follower = Follower(PoseTracker(), smoothing=detection.smooth)
        writer = ShardWriter(self._store, job.shard.number, self._options.formats, skeleton)
        frames, people, size = 0, 0, (0, 0)
        problems: list[str] = []
        try:
            for segment in range(len(units)):
                piece = read_piece(self._store, piece_name(job.shard.number, segment), skeleton)
                if piece is None:
                    raise SourceError(f"the people of piece {segment} of {key} are gone", hint="run the command again")
                if piece.problems and piece.problems not in problems:
                    problems.append(piece.problems)
                for frame, time_s, poses in piece:
                    self._step(key, 0)
                    tracked = follower.update(poses, time_s) if follow else poses
                    writer.add(FrameRecord(frame, time_s, tracked, key))
                    frames, people, size = frames + 1, people + len(poses), poses.image_size
            wrong = "; ".join(problems)
            error = "" if frames else wrong or "no frame could be read"
            outcome = Outcome(key, "video", error, wrong if frames else "", 1, frames, people, size)
            counts = writer.commit([outcome])
        finally:
            writer.close()
        for segment in range(len(units)):
            self._store.delete(piece_name(job.shard.number, segment))
        return counts


class _Marker:
    """Which input a careful worker is at, in the output, so that its successor knows where it died."""

    def __init__(self, store: Store, job: Job) -> None:
        piece = f"-{job.piece:06d}" if job.piece >= 0 else ""
        self._store, self._name = store, f"_work/attempts/{job.shard.number:08d}{piece}.json"
        self._tries: dict[str, int] = {}
        data = store.read(self._name)
        if data:
            with contextlib.suppress(ValueError):
                self._tries = {str(k): int(v) for k, v in json.loads(data)["tries"].items()}

    def enter(self, index: int, limit: int) -> int:
        """Note that an input is begun, and return how often a worker was lost over it before.

        Args:
            index: Of the input in the shard.
            limit: From so many losses on it is left out, and nothing has to be noted.
        """
        lost = self._tries.get(str(index), 0)
        if lost < limit:
            self._tries[str(index)] = lost + 1
            self._store.write(self._name, json.dumps({"tries": self._tries}).encode())
        return lost

    def survived(self, index: int) -> None:
        """Forget an input that did no harm; written with the next one."""
        self._tries.pop(str(index), None)

    def clear(self) -> None:
        """Forget everything: the shard is committed."""
        self._store.delete(self._name)


def _lost(times: int) -> str:
    return f"its worker died or hung {times} times while it was at this input"
