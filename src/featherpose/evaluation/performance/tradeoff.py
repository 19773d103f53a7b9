"""The slides' trade-off, measured: accuracy against the time of an image, for systems of every kind.

A bottom-up network takes about the same time for one person and for thirty; behind a detector every person costs a
crop. So each system is timed on images with 1, 3, 10 and 30 people, composed from photographs, as a whole: resizing,
networks, decoding and suppression.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from featherpose.errors import ModelError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.complexity.graph_complexity import graph_complexity
from featherpose.evaluation.keypoints.coco_ap import average_precision, estimate_dataset
from featherpose.evaluation.keypoints.dataset import CocoDataset
from featherpose.evaluation.performance.mosaics import compose_crowd, find_cutouts
from featherpose.evaluation.performance.timing import Timing, time_in_turns
from featherpose.runtime.backend import EngineOptions
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import ResolvedModel, resolve_model

__all__ = ["SLIDES", "PublishedTrade", "System", "SystemTrade", "measure_tradeoff", "parse_system"]


@dataclass(frozen=True, slots=True)
class PublishedTrade:
    """A row of the slides' table: COCO test-dev, times on a GTX 1080 Ti with three people an image.

    Attributes:
        system: Name in the slides.
        ap: AP in percent.
        ap50: At OKS 0.50.
        ap75: At OKS 0.75.
        fps: Images a second; None where the slides have none.
    """

    system: str
    ap: float
    ap50: float
    ap75: float
    fps: float | None


SLIDES: Mapping[str, PublishedTrade] = MappingProxyType(
    {
        "multiposenet": PublishedTrade("MultiPoseNet", 69.6, 86.3, 76.6, 23),
        "associative-embedding": PublishedTrade("Newell et al.", 65.5, 86.8, 72.3, 6),
        "openpose": PublishedTrade("CMU-Pose", 61.8, 84.9, 67.5, 10),
        "cpn": PublishedTrade("Megvii", 73.0, 91.7, 80.9, None),
        "cfn": PublishedTrade("CFN", 72.6, 86.7, 69.7, 3),
        "mask-rcnn": PublishedTrade("Mask R-CNN", 69.2, 90.4, 76.0, 5),
        "rmpe": PublishedTrade("SJTU", 68.8, 87.5, 75.9, 0.4),
        "g-rmi-2017": PublishedTrade("G-RMI 2017", 66.9, 86.4, 73.6, None),
        "g-rmi": PublishedTrade("G-RMI 2016", 60.5, 82.2, 66.2, None),
    }
)
"""The slides' table "Multi-person pose estimation: the trade-off", by our names of the systems."""


@dataclass(frozen=True, slots=True)
class System:
    """What is measured.

    Attributes:
        name: For the table.
        model: A network for whole images, or for one person.
        detector: What finds people for a network for one person; None for the bundled network's people.
        refiner: A network for one person behind a network for whole images; None for none.
    """

    name: str
    model: ResolvedModel
    detector: ResolvedModel | None = None
    refiner: ResolvedModel | None = None

    def open(self, engine: EngineOptions, *, height: int) -> PoseEstimator:
        """Open the networks.

        Raises:
            ModelError: If one of them cannot be run here.
        """
        person = self.model if self.model.spec.crop is not None else self.refiner
        whole = self.detector if self.model.spec.crop is not None else self.model
        if person is None:
            return PoseEstimator(whole, height=height, refine="off", engine=engine)
        refine = RefineOptions(mode="all", model=person.path)
        return PoseEstimator(whole, height=height, refine=refine, engine=engine)


@dataclass(frozen=True, slots=True)
class SystemTrade:
    """A system's accuracy and times.

    Attributes:
        name: Of the system.
        ap: AP, 0..1.
        ap50: At OKS 0.50.
        ap75: At OKS 0.75.
        parameters: Weights of its own network; None where the file does not tell.
        minutes: Wall-clock time of its training by `featherpose train`; None where its card does not tell.
        times: By the number of people.
        published: The slides' row of this name, None if they have none.
    """

    name: str
    ap: float
    ap50: float
    ap75: float
    parameters: int | None
    minutes: float | None
    times: Mapping[int, Timing]
    published: PublishedTrade | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        slides = self.published
        return {
            "name": self.name,
            "AP": round(self.ap, 5),
            "AP50": round(self.ap50, 5),
            "AP75": round(self.ap75, 5),
            "parameters": self.parameters,
            "training_minutes": self.minutes,
            "times": {str(people): timing.as_dict() for people, timing in self.times.items()},
            "slides": None
            if slides is None
            else {"AP": slides.ap, "AP50": slides.ap50, "AP75": slides.ap75, "FPS": slides.fps},
        }


def parse_system(text: str) -> System:
    """Read ``NAME=MODEL``, ``NAME=MODEL@DETECTOR`` or ``NAME=MODEL+REFINER``.

    Raises:
        OptionError: If it is none of them.
        ModelError: If a model cannot be found, or stands where it cannot.
    """
    name, separator, models = text.partition("=")
    if not separator or not name or not models:
        raise OptionError(f"the system {text!r}", expected="NAME=MODEL, NAME=MODEL@DETECTOR or NAME=MODEL+REFINER")
    first, at, detector = models.partition("@")
    first, plus, refiner = first.partition("+") if not at else (first, "", "")
    model = resolve_model(first)
    if at and model.spec.crop is None:
        raise ModelError(f"{first} sees whole images, and {detector} was to find people for it", expected="a + for it")
    behind = resolve_model(refiner) if plus else None
    if behind is not None and behind.spec.crop is None:
        raise ModelError(f"{refiner} sees whole images", expected="a network that sees one person behind the +")
    return System(name, model, resolve_model(detector) if at else None, behind)


def measure_tradeoff(
    systems: Sequence[System],
    dataset: CocoDataset,
    folder: Path,
    *,
    people: Sequence[int] = (1, 3, 10, 30),
    height: int = 256,
    rounds: int = 7,
    engine: EngineOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[SystemTrade]:
    """Measure AP on a data set, and times in turns on images with so many people.

    Args:
        systems: What is measured.
        dataset: Images for AP.
        folder: COCO folder of photographs from which the crowds are composed.
        people: Numbers of people.
        height: Input height of networks for whole images that take any.
        rounds: Turns of timing for each number of people.
        engine: How networks run; one inference at a time on all cores is timed.
        progress: Called with a message at each step.

    Raises:
        DatasetError: If the folder shows nobody who stands alone.
    """
    say = progress or (lambda message: None)
    engine = engine or EngineOptions()
    crowds = {count: compose_crowd(find_cutouts(folder), count) for count in people}
    estimators: list[PoseEstimator] = []
    try:
        scores = []
        for system in systems:
            say(f"{system.name}: AP on {len(dataset.images)} images")
            estimators.append(system.open(engine, height=height))
            estimators[-1].warm_up()
            scores.append(average_precision(dataset, estimate_dataset(estimators[-1], dataset)))
        times: list[dict[int, Timing]] = [{} for _ in systems]
        for count, image in crowds.items():
            say(f"times with {count} people")
            samples = time_in_turns([partial(e, image) for e in estimators], rounds=rounds, warm_up=2)
            for found, some in zip(times, samples, strict=True):
                found[count] = Timing.of(some)
    finally:
        for estimator in estimators:
            estimator.close()
    return [
        SystemTrade(
            system.name,
            score.AP,
            score.AP50,
            score.AP75,
            _parameters(system),
            _minutes(system),
            found,
            SLIDES.get(system.name),
        )
        for system, score, found in zip(systems, scores, times, strict=True)
    ]


def _minutes(system: System) -> float | None:
    card = system.model.card
    return None if card is None or card.training is None else card.training.minutes


def _parameters(system: System) -> int | None:
    spec = system.model.spec
    try:
        return graph_complexity(system.model.path, spec.only_size or (16 * spec.size_multiple,) * 2).parameters
    except (ModelError, OptionError):
        return None
