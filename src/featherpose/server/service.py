"""State that all routes share: the estimator, its queue, the metrics, and whether the server is shutting down."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

import cv2
import numpy as np

from featherpose.augment.effects import FrameEffects
from featherpose.augment.player import warm_up as warm_up_scene
from featherpose.drawing.draw import DrawOptions, draw_poses
from featherpose.errors import FeatherposeError, SourceError
from featherpose.estimator import PoseEstimator, StageTimes
from featherpose.poses import Poses
from featherpose.quality import model_of
from featherpose.runtime.processor import available_cores
from featherpose.server.dispatch import Dispatcher
from featherpose.server.http.memory import is_shortage, out_of_memory
from featherpose.server.http.metrics import Metrics
from featherpose.server.http.uploads import decode_upload
from featherpose.server.options import ServeOptions
from featherpose.server.routes.serialize import Thresholds, people_records, select_people, times_record
from featherpose.tracking import warm_up as warm_up_tracking
from featherpose.zoo.card import ModelCard
from featherpose.zoo.resolve import resolve_model

__all__ = ["PoseService", "encode_jpeg"]

_log = logging.getLogger(__name__)
_JPEG_QUALITY = 85
_LEAST_PATIENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class _Done:
    """Outcome of one image."""

    image: np.ndarray
    everyone: Poses
    poses: Poses
    times: dict[str, float]


class PoseService:
    """One estimator, and the counters in front of it.

    Args:
        options: How the server was started.

    Raises:
        ModelError: If the model cannot be found, read or run here.
    """

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self.limits = options.limits
        resolved = resolve_model(model_of(options.model, options.quality))
        self.card: ModelCard | None = resolved.card
        self.estimator = PoseEstimator(
            resolved, quality=options.quality, height=options.height, refine=options.refine, engine=options.engine,
            options=options.decoding,
            candidates=None if options.effects is None else options.effects.candidates,
        )  # fmt: skip
        self.estimator.warm_up()
        warm_up_tracking()
        if options.effects is not None and options.effects.scene is not None:
            warm_up_scene(options.effects.scene)
        self.estimator(np.full((480, 640, 3), 128, np.uint8))  # the first inference prepares the engine's kernels
        self.draining = False
        self._closed = False
        self.active = 0
        self.sockets = 0
        self.ended = asyncio.Event()
        self.end_by: float | None = None  # of time.monotonic, once the server is about to end
        self.metrics = Metrics()
        # A session may end while its frame waits, and another one begin.
        live = 2 * self.limits.sessions + 2 * max(1, len(options.sources))
        workers = min(16, max(2, options.engine.num_streams)) + 1
        self.dispatcher = Dispatcher(
            min(workers, available_cores() + 1),
            bounds={"images": self.limits.queue, "live": live},
            patience_s=self.limits.queue_timeout_s,
            explain=self.explain,
        )
        self.metrics.watch(self.dispatcher)

    @property
    def budget_crops(self) -> int | None:
        """Return the most people an image who are refined; None for all, 0 for nobody."""
        refiner = self.estimator.refiner
        return 0 if refiner is None else refiner.budget_crops

    @property
    def model_name(self) -> str:
        """Return the name of the loaded model."""
        return self.estimator.spec.name

    def explain(self, error: BaseException) -> BaseException:
        """Return an HTTP error for a lack of memory, which is not the file's fault; other errors unchanged."""
        if not is_shortage(error):
            return error
        self.metrics.out_of_memory()
        _log.error("not enough memory for what clients sent: they are told to come back later")
        return out_of_memory()

    def close(self) -> None:
        """Finish accepted work and release the engine; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        patience_s = self.limits.shutdown_timeout_s
        if self.end_by is not None:
            patience_s = max(_LEAST_PATIENCE_S, min(patience_s, self.end_by - monotonic() - _LEAST_PATIENCE_S))
        self.dispatcher.close(patience_s)
        self.estimator.close()

    def people_json(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> bytes:
        """Return the people of an image as JSON; runs in a worker.

        Raises:
            SourceError: If the server does not accept the image.
        """
        return json.dumps(self.people_record(data, name, thresholds, waited_ms)).encode()

    def people_record(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> dict[str, Any]:
        """Return the people of an image as plain data; runs in a worker."""
        done = self._work(data, name, thresholds, waited_ms)
        return {
            "model": self.model_name,
            "budget_crops": self.budget_crops,
            "skeleton": self.estimator.skeleton.name,
            "size": list(done.poses.image_size),
            "people": people_records(done.poses),
            "times_ms": done.times,
        }

    def people_record_or_error(
        self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float
    ) -> dict[str, Any] | FeatherposeError:
        """Do as `people_record`, with the error of a bad image as a value: the rest of its batch is unaffected."""
        try:
            return self.people_record(data, name, thresholds, waited_ms)
        except SourceError as error:
            return error

    def annotated_jpeg(self, data: bytes, name: str, thresholds: Thresholds, waited_ms: float) -> bytes:
        """Return the annotated image as JPEG; runs in a worker."""
        done = self._work(data, name, thresholds, waited_ms)
        image = done.image if done.image.flags.writeable else done.image.copy()
        if self.options.effects is not None:
            FrameEffects(self.options.effects, video=False).apply(image, done.everyone, 0.0)
        # Unless the client has chosen, what is uncertain is left out as on any other image.
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
        return _Done(image, poses, select_people(poses, thresholds), times_record(times, queue=waited_ms, read=read_ms))

    def note_times(self, times: StageTimes, *, queue_ms: float, read_ms: float) -> None:
        """Count the stage times of one image."""
        for stage, ms in (
            ("queue", queue_ms),
            ("read", read_ms),
            *times.by_stage().items(),
        ):
            self.metrics.stage(stage, ms)


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an image as JPEG."""
    whole, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not whole:
        raise SourceError(f"an image of {image.shape[1]}x{image.shape[0]} pixels cannot be written as JPEG")
    return data.tobytes()
