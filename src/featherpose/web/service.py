"""What all routes share: the one estimator, its queue, the counts, and whether the server is about to end."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from featherpose.errors import FeatherposeError, SourceError
from featherpose.estimator import PoseEstimator, StageTimes
from featherpose.media.draw import DrawOptions, draw_poses
from featherpose.poses import Poses
from featherpose.runtime.processor import available_cores
from featherpose.tracking import warm_up as warm_up_tracking
from featherpose.web.dispatch import Dispatcher
from featherpose.web.metrics import Metrics
from featherpose.web.options import ServeOptions
from featherpose.web.pictures import decode_upload
from featherpose.web.records import Thresholds, people_records, select_people, times_record
from featherpose.zoo.card import ModelCard
from featherpose.zoo.resolving import resolve_model

__all__ = ["PoseService", "encode_jpeg"]

_log = logging.getLogger(__name__)
_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class _Done:
    """One picture, worked on."""

    image: np.ndarray
    poses: Poses
    times: dict[str, float]


class PoseService:
    """One estimator and everything that is counted in front of it.

    Args:
        options: How the server was started.

    Raises:
        ModelError: If the model cannot be found, read or run here.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.limits = options.limits
        resolved = resolve_model(options.model)
        self.card: ModelCard | None = resolved.card
        self.estimator = PoseEstimator(resolved, height=options.height, engine=options.engine, decode=options.decode)
        self.estimator.warm_up()
        warm_up_tracking()
        self.estimator(np.full((480, 640, 3), 128, np.uint8))  # the first inference prepares the engine's kernels
        self.draining = False
        self.active = 0
        self.sockets = 0
        self.ended = asyncio.Event()
        self.metrics = Metrics()
        # A session may end while its frame waits, and another one begin.
        live = 2 * self.limits.sessions + 2 * max(1, len(options.sources))
        workers = min(16, max(2, options.engine.requests)) + 1
        self.dispatcher = Dispatcher(
            min(workers, available_cores() + 1),
            bounds={"pictures": self.limits.queue, "live": live},
            patience_s=self.limits.queue_timeout_s,
        )
        self.metrics.watch(self.dispatcher)

    @property
    def model_name(self) -> str:
        """Name of the loaded model."""
        return self.estimator.spec.name

    def close(self) -> None:
        """Finish what was accepted and release the engine."""
        self.dispatcher.close(self.limits.shutdown_timeout_s)
        self.estimator.close()

    def people_json(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> bytes:
        """JSON of everyone in a picture; runs in a worker.

        Raises:
            SourceError: If it is no picture that the server takes.
        """
        return json.dumps(self.people_record(data, name, thresholds, waited_ms)).encode()

    def people_record(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> dict[str, Any]:
        """Everyone in a picture as plain data; runs in a worker."""
        done = self._work(data, name, thresholds, waited_ms)
        return {
            "model": self.model_name,
            "skeleton": self.estimator.skeleton.name,
            "size": list(done.poses.image_size),
            "people": people_records(done.poses),
            "times_ms": done.times,
        }

    def people_record_or_error(
        self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float
    ) -> dict[str, Any] | FeatherposeError:
        """As `people_record`, with the error of a bad picture as a value: the others of its batch stand."""
        try:
            return self.people_record(data, name, thresholds, waited_ms)
        except SourceError as error:
            return error

    def annotated_jpeg(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> bytes:
        """The picture with everyone drawn into it, as JPEG; runs in a worker."""
        done = self._work(data, name, thresholds, waited_ms)
        image = done.image if done.image.flags.writeable else done.image.copy()
        # Unless the client has chosen, what is uncertain is left out as on any other picture.
        draw_poses(
            image, done.poses, DrawOptions(min_keypoint_score=0) if thresholds.min_keypoint_score else DrawOptions()
        )
        return encode_jpeg(image)

    def _work(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> _Done:
        started = perf_counter()
        image = decode_upload(data, name, max_pixels=self.limits.pixels)
        read_ms = 1e3 * (perf_counter() - started)
        poses, times = self.estimator.timed(image)
        self.note_times(times, queue_ms=waited_ms, read_ms=read_ms)
        return _Done(image, select_people(poses, thresholds), times_record(times, queue=waited_ms, read=read_ms))

    def note_times(self, times: StageTimes, *, queue_ms: float, read_ms: float) -> None:
        """Count where the time of one picture went."""
        for stage, ms in (
            ("queue", queue_ms),
            ("read", read_ms),
            ("prepare", times.prepare_ms),
            ("infer", times.infer_ms),
            ("decode", times.decode_ms),
        ):
            self.metrics.stage(stage, ms)


def encode_jpeg(image: np.ndarray) -> bytes:
    """A picture as JPEG."""
    whole, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not whole:
        raise SourceError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels cannot be written as JPEG")
    return data.tobytes()
