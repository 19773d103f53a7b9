"""Process a unit: read, decode, infer; every failure of an input becomes a record."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from featherpose.cluster.batch_options import DetectionOptions
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.outputs.shards import Outcome
from featherpose.cluster.storage import read_input
from featherpose.cluster.videos import Piece, local_copy
from featherpose.errors import ModelError, OutputError, SourceError, StoreError
from featherpose.formats.record import FrameRecord
from featherpose.media.images import decode_image
from featherpose.media.sources.find import SourceRef
from featherpose.media.sources.source import Span
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["Detector", "MakeDetector", "PoseDetector", "model_identity"]


class Detector(Protocol):
    """Interface that a worker needs: people of an image and of a piece of a video."""

    skeleton: Skeleton

    def facts(self) -> dict[str, Any]:
        """Return model, engine and device, for the manifest."""
        ...

    def image(self, unit: Unit, data: bytes | None) -> Outcome:
        """Return the people of an image, or why there are none.

        Args:
            unit: The image.
            data: Its bytes, if they were read ahead.
        """
        ...

    def piece(self, unit: Unit, advance: Callable[[], None]) -> Piece:
        """Return the people of a piece of a video.

        Args:
            unit: The piece.
            advance: Is called for each frame.
        """
        ...


MakeDetector = Callable[[DetectionOptions, float], Detector]
"""Makes the detector of a worker from the options and the patience with a store in seconds."""


def model_identity(model: str | None) -> dict[str, Any]:
    """Return what a model is: its name, the digests of its files, and its card.

    Raises:
        ModelError: If it cannot be found.
    """
    from featherpose.zoo.resolve import resolve_model

    resolved = resolve_model(model)
    files = sorted({resolved.path, resolved.path.with_suffix(".bin")})
    return {
        "name": resolved.spec.name,
        "sha256": {path.name: sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()},
        "card": None if resolved.card is None else resolved.card.model_dump(mode="json"),
    }


class PoseDetector:
    """A `featherpose.PoseEstimator` that takes units.

    Args:
        options: Options that determine the poses.
        patience_s: How long a store that does not answer is waited for, seconds.

    Raises:
        ModelError: If the model cannot be opened.
    """

    def __init__(self, options: DetectionOptions, patience_s: float) -> None:
        import cv2

        from featherpose.estimator import PoseEstimator

        cv2.setNumThreads(1)
        self._options = options
        self._patience_s = patience_s
        self._estimator = PoseEstimator(
            options.model,
            quality=options.quality,
            height=options.height,
            refine=options.refine,
            engine=options.engine,
            options=options.decoding,
            tiles=options.tiles,
        )
        self._estimator.warm_up()
        self.skeleton = self._estimator.skeleton

    def facts(self) -> dict[str, Any]:
        """Return model, engine and device, for the manifest."""
        return dict(self._estimator.describe())

    def image(self, unit: Unit, data: bytes | None) -> Outcome:
        """Return the people of an image, or why there are none."""
        try:
            if data is None:
                data = read_input(unit.uri, offset=unit.offset, size=unit.size or None, patience_s=self._patience_s)
            digest = sha256(data).hexdigest()
            try:
                image = decode_image(data, unit.key, max_pixels=self._options.max_pixels)
            except SourceError as error:
                return Outcome(unit.key, error=str(error), bytes=len(data), sha256=digest)
        except SourceError as error:
            return Outcome(unit.key, error=str(error))
        poses = self._estimator(image)
        assert isinstance(poses, Poses)
        return Outcome(
            unit.key, frames=1, people=len(poses), size=poses.image_size, bytes=len(data), sha256=digest,
            records=(FrameRecord(0, 0.0, poses, unit.key, is_image=True),),
        )  # fmt: skip

    def piece(self, unit: Unit, advance: Callable[[], None]) -> Piece:
        """Return the people of a piece of a video.

        Raises:
            SourceError: If nothing of it can be read.
            StoreError: If its store does not answer.
        """
        with local_copy(unit.uri, self._patience_s) as path:
            return self._detect(unit, path, advance)

    def _detect(self, unit: Unit, path: Path, advance: Callable[[], None]) -> Piece:
        # Every frame is counted from the beginning of the video, so that pieces take the same ones as a whole video.
        span = Span(start_s=unit.start_s or None, end_s=unit.end_s or None)
        found: list[tuple[int, float, Poses]] = []
        source = SourceRef(path.name, (path,)).open(span, max_pixels=self._options.max_pixels)
        with source:
            for frame in source:
                advance()
                if frame.index % self._options.frame_step == 0:
                    poses = self._estimator(frame.image)
                    assert isinstance(poses, Poses)
                    found.append((frame.index, frame.timestamp_s, poses))
            problems = "; ".join(str(error).replace(str(path), unit.key) for error in source.errors)
        return Piece.of_frames(found, self.skeleton, problems)

    def sample(self, path: Path, frames: int) -> tuple[int, float, int]:
        """Do the first frames of a video.

        Returns:
            How many, the seconds they took, and how many frames the video has.
        """
        step = self._options.frame_step
        with SourceRef(path.name, (path,)).open(max_pixels=self._options.max_pixels) as source:
            began, number = time.perf_counter(), 0
            for frame in source:
                if frame.index % step == 0:
                    self._estimator(frame.image)
                    number += 1
                if number >= frames:
                    break
            spent_s = time.perf_counter() - began
            return number, spent_s, (source.frame_count or number) // step


class ReadAhead:
    """Bytes of the next images of a shard, read while others are inferred; for stores, where reading is waiting.

    Args:
        units: The images, in order.
        patience_s: How long a store that does not answer is waited for, seconds.
    """

    _AHEAD, _THREADS = 16, 8

    def __init__(self, units: list[Unit], patience_s: float) -> None:
        from concurrent.futures import Future, ThreadPoolExecutor

        self._units, self._patience_s = units, patience_s
        self._pool = ThreadPoolExecutor(self._THREADS, thread_name_prefix="read")
        self._pending: dict[int, Future[bytes]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def get(self, index: int) -> bytes:
        """Return the bytes of an image.

        Raises:
            SourceError, StoreError: As reading does.
        """
        with self._lock:
            self._next = max(self._next, index)
            while self._next < len(self._units) and self._next <= index + self._AHEAD:
                unit = self._units[self._next]
                self._pending[self._next] = self._pool.submit(
                    read_input, unit.uri, offset=unit.offset, size=unit.size or None, patience_s=self._patience_s
                )
                self._next += 1
            future = self._pending.pop(index)
        return future.result()

    def close(self) -> None:
        """End reading."""
        self._pool.shutdown(wait=False, cancel_futures=True)


FATAL = (StoreError, OutputError, ModelError)
"""What ends a run instead of being the fault of one input."""
