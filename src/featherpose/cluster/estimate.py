"""Estimated cost of a run: sources are counted, a sample is processed on one core, and the rest is extrapolated."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from featherpose.cluster.batch_options import BatchOptions
from featherpose.cluster.detection import PoseDetector
from featherpose.cluster.inputs.sources import find_units
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.videos import local_copy
from featherpose.errors import FeatherposeError

__all__ = ["CostEstimate", "estimate_cost"]

_IMAGES, _VIDEOS = 64, 8
_FRAMES_A_VIDEO = 60
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """Estimated cost of a run.

    Attributes:
        images: Images and members of tar files.
        videos: Videos.
        video_frames: About how many frames they have, by those of them that were looked at.
        unreadable: Inputs of the sample that could not be read.
        sampled: Inputs that were done.
        images_per_core_s: Images a second on one core of this machine, reading included; 0 without images.
        frames_per_core_s: Frames of videos a second on one core; 0 without videos.
        bytes: About how many bytes the inputs have.
        core_hours: Hours that one core would take for everything.
        price: Of a core for an hour, in any currency.
    """

    images: int
    videos: int
    video_frames: int
    unreadable: int
    sampled: int
    images_per_core_s: float
    frames_per_core_s: float
    bytes: int
    core_hours: float
    price: float

    @property
    def cost(self) -> float:
        """Of everything, in the currency of the price."""
        return self.core_hours * self.price

    @property
    def cost_per_million(self) -> float:
        """Of a million images, or frames where there are no images."""
        rate = self.images_per_core_s or self.frames_per_core_s
        return 1e6 / rate / 3600 * self.price if rate else 0.0

    def hours(self, cores: int) -> float:
        """Return the hours that this many cores would take.

        Example:
            >>> CostEstimate(1000, 0, 0, 0, 64, 10.0, 0.0, 10**8, 1000 / 10 / 3600, 0.04).hours(2) * 3600
            50.0
        """
        return self.core_hours / cores

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "images": self.images, "videos": self.videos, "video_frames": self.video_frames,
            "unreadable_in_sample": self.unreadable, "sampled": self.sampled,
            "images_per_core_s": round(self.images_per_core_s, 2),
            "frames_per_core_s": round(self.frames_per_core_s, 2), "bytes": self.bytes,
            "core_hours": round(self.core_hours, 4), "price_per_core_hour": self.price, "cost": round(self.cost, 4),
            "cost_per_million": round(self.cost_per_million, 2),
        }  # fmt: skip


def estimate_cost(sources: Iterable[str], options: BatchOptions | None = None, *, price: float = 0.04) -> CostEstimate:
    """List the sources, process a sample and extrapolate; nothing is written and Ray is not needed.

    Args:
        sources: As `run_batch` takes them.
        options: Options of the run.
        price: Of a core for an hour, in any currency.

    Raises:
        OptionError, SourceError, StoreError, ModelError: As `run_batch` does.
    """
    options = options or BatchOptions()
    images, videos = _Sample(_IMAGES), _Sample(_VIDEOS)
    for source in sources:
        for unit in find_units(source, patience_s=options.patience_s):
            (videos if unit.kind == "video" else images).see(unit)
    detection = options.detection
    engine = replace(detection.engine, threads=max(1, detection.engine.threads))
    detector = PoseDetector(replace(detection, engine=engine), options.patience_s)
    image_rate, image_bytes, done, broken = _time_images(detector, images.kept)
    frame_rate, video_bytes, frames, more_done, more_broken = _time_videos(detector, videos.kept)
    video_frames = int(frames * videos.seen)
    cores = max(1, detection.engine.threads)
    seconds = (images.seen / image_rate if image_rate else 0.0) + (video_frames / frame_rate if frame_rate else 0.0)
    return CostEstimate(
        images.seen, videos.seen, video_frames, broken + more_broken, done + more_done, image_rate / cores,
        frame_rate / cores, int(image_bytes * images.seen + video_bytes * videos.seen), seconds * cores / 3600, price,
    )  # fmt: skip


class _Sample:
    """Some of many, each with the same chance, the same at every call."""

    def __init__(self, size: int) -> None:
        self._size, self._random = size, random.Random(0)
        self.kept: list[Unit] = []
        self.seen = 0

    def see(self, unit: Unit) -> None:
        self.seen += 1
        if len(self.kept) < self._size:
            self.kept.append(unit)
        elif (place := self._random.randrange(self.seen)) < self._size:
            self.kept[place] = unit


def _time_images(detector: PoseDetector, units: list[Unit]) -> tuple[float, float, int, int]:
    """Images a second, bytes of one, how many were done and how many could not be read."""
    if not units:
        return 0.0, 0.0, 0, 0
    detector.image(units[0], None)  # whatever is done once
    began, done, size, broken = time.perf_counter(), 0, 0, 0
    for unit in units:
        outcome = detector.image(unit, None)
        done, size, broken = done + 1, size + outcome.bytes, broken + bool(outcome.error)
        if time.perf_counter() - began > _SECONDS:
            break
    return done / (time.perf_counter() - began), size / done, done, broken


def _time_videos(detector: PoseDetector, units: list[Unit]) -> tuple[float, float, float, int, int]:
    """Frames a second, bytes and frames of one video, how many were tried and how many could not be read."""
    if not units:
        return 0.0, 0.0, 0.0, 0, 0
    seconds, worked, size, frames, done, broken = 0.0, 0, 0, 0, 0, 0
    for unit in units:
        try:
            with local_copy(unit.uri, 10.0) as path:
                size += path.stat().st_size
                number, spent_s, length = detector.sample(path, _FRAMES_A_VIDEO)
        except (FeatherposeError, OSError):
            broken += 1
            continue
        seconds, worked, frames, done = seconds + spent_s, worked + number, frames + length, done + 1
        if seconds > _SECONDS:
            break
    return (worked / seconds if seconds else 0.0), size / max(1, done), frames / max(1, done), done, broken
