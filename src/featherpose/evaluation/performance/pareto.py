"""Accuracy against cost: AP, time and multiply-accumulates of several models at several input heights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.coco_ap import average_precision, estimate_dataset
from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.evaluation.performance.timing import Timing, time_in_turns
from featherpose.media.images import read_image
from featherpose.runtime.backend import WARMUP_INFERENCES, Backend, EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.runtime.openvino.graphs import read_layers
from featherpose.zoo.resolve import ResolvedModel

__all__ = ["CostPoint", "measure_pareto", "pareto_front"]

_TIMED_IMAGES = 5


@dataclass(frozen=True, slots=True)
class CostPoint:
    """One model at one input height.

    Attributes:
        model: Its name.
        height: Network input height in pixels.
        size: (width, height) of the network input that was timed, in pixels.
        precision: Number format that ran.
        AP: COCO keypoint AP, 0..1.
        images: How many the AP is over.
        network: Time of the network.
        macs: Multiply-accumulates at that size.
    """

    model: str
    height: int
    size: tuple[int, int]
    precision: str
    AP: float
    images: int
    network: Timing
    macs: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file."""
        return {
            "model": self.model,
            "height": self.height,
            "size": list(self.size),
            "precision": self.precision,
            "AP": round(self.AP, 5),
            "images": self.images,
            "network": self.network.as_dict(),
            "gmacs": round(self.macs / 1e9, 4),
        }


def pareto_front(points: Sequence[CostPoint], cost: Callable[[CostPoint], float]) -> list[CostPoint]:
    """Return the points that no other beats in both AP and cost, cheapest first.

    Args:
        points: All of them.
        cost: The cost of a point; lower is better.
    """
    front: list[CostPoint] = []
    for point in sorted(points, key=lambda p: (cost(p), -p.AP)):
        if not front or point.AP > front[-1].AP:
            front.append(point)
    return front


def measure_pareto(
    models: Sequence[ResolvedModel],
    dataset: CocoDataset,
    heights: Sequence[int],
    *,
    engine: EngineOptions | None = None,
    options: Any | None = None,
    rounds: int = 12,
    progress: Callable[[str], None] | None = None,
) -> list[CostPoint]:
    """Measure every model at every height.

    Times are taken on images of the most frequent shape of the data set, in turns over models and heights, before the
    AP: a slow minute of the machine that fell on a single height would distort the curve.

    Args:
        models: The models to compare.
        dataset: Annotated images; at least one.
        heights: Network input heights in pixels.
        engine: How the networks run.
        options: Decoding options for all of them; those of each model unless given.
        rounds: Turns of five images for each model and height.
        progress: Called with the name of each measurement.

    Raises:
        OptionError: If a list is empty or a model is named twice.
        ModelError: If a model cannot be run.
        DatasetError: If an image is missing.
        MissingExtraError: If pycocotools is not installed.
    """
    if not models or not heights or not dataset.images:
        raise OptionError(
            f"{len(models)} models, {len(heights)} heights, {len(dataset.images)} images", expected="some of each"
        )
    engine = engine or EngineOptions()
    images = _frequent_shape(dataset)
    names = _told_apart(models)
    if progress is not None:
        progress("times")
    pairs = [(height, model, name) for height in heights for model, name in zip(models, names, strict=True)]
    timings, sizes = _time_networks([(height, model) for height, model, _ in pairs], images, engine, rounds)
    points = []
    for (height, model, name), timing, size in zip(pairs, timings, sizes, strict=True):
        if progress is not None:
            progress(f"height {height}: AP of {name}")
        with _estimator(model, height, engine, options) as estimator:
            scores = average_precision(dataset, estimate_dataset(estimator, dataset))
            precision = estimator.info.precision
        macs = sum(layer.macs for layer in read_layers(model.path, size))
        points.append(CostPoint(name, height, size, precision, max(0.0, scores.AP), len(dataset.images), timing, macs))
    return points


def _told_apart(models: Sequence[ResolvedModel]) -> list[str]:
    """Return names that keep two files of one network apart, such as FP32 and INT8."""
    often = Counter(model.spec.name for model in models)
    names = [model.spec.name if often[model.spec.name] == 1 else model.path.stem for model in models]
    if len(set(names)) < len(names):
        names = [str(model.path) for model in models]
    if len(set(names)) < len(names):
        raise OptionError("a model is named twice", expected="each model once")
    return names


@contextmanager
def _estimator(
    model: ResolvedModel, height: int, engine: EngineOptions, options: Any | None
) -> Iterator[PoseEstimator]:
    backend = open_backend(model.path, model.spec, engine)
    with PoseEstimator.from_backend(backend, height=height, options=options) as estimator:
        estimator.warm_up()
        yield estimator


def _frequent_shape(dataset: CocoDataset) -> list[UInt8[np.ndarray, "H W 3"]]:
    """Return a few images of the most frequent size: a median over mixed shapes would be the time of no image."""
    sizes = {image["id"]: (image.get("width"), image.get("height")) for image in dataset.annotations.get("images", [])}
    frequent = Counter(sizes.get(sample.image_id) for sample in dataset.images).most_common(1)[0][0]
    chosen = [sample for sample in dataset.images if sizes.get(sample.image_id) == frequent]
    return [read_image(sample.path) for sample in chosen[:_TIMED_IMAGES]]


def _time_networks(
    pairs: Sequence[tuple[int, ResolvedModel]],
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    engine: EngineOptions,
    rounds: int,
) -> tuple[list[Timing], list[tuple[int, int]]]:
    backends: list[Backend] = []
    calls, sizes = [], []
    try:
        for height, model in pairs:
            spec = model.spec
            prepared = [spec.prepare(sample, height=height) for sample in images]
            backends.append(open_backend(model.path, spec, engine))
            calls.append(partial(_infer_all, backends[-1], [network_input for network_input, _ in prepared]))
            sizes.append(prepared[0][1].network_size)
        samples = time_in_turns(calls, rounds=rounds, warm_up=-(-WARMUP_INFERENCES // len(images)))
    finally:
        for backend in backends:
            backend.close()
    return [Timing.of([sample / len(images) for sample in times]) for times in samples], sizes


def _infer_all(backend: Backend, inputs: Sequence[UInt8[np.ndarray, "1 h w 3"]]) -> None:
    for network_input in inputs:
        backend.infer(network_input)
