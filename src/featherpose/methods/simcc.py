"""One vector along x and one along y for each keypoint: SimCC heads (Li et al. 2022, arXiv 2107.03332), as RTMPose has.

Section 3: a coordinate is classified into more bins than there are pixels, by default two a pixel; its position is the
highest bin. The score is the lower of both maxima.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from featherpose.crops import CropShape
from featherpose.errors import ModelError
from featherpose.geometry import Letterbox
from featherpose.methods.declared import IMAGENET_MEAN, IMAGENET_STD, DeclaredDecoder, check_arrays
from featherpose.methods.method import Arrays, GraphShapes, Output, Recognized, Target
from featherpose.methods.single_person import one_person
from featherpose.methods.untrained import NoTargets, UntrainedMethod
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["SIMCC", "SimccDecoder", "SimccMethod", "SimccOptions"]

_NAMES = "simcc_x", "simcc_y"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimccOptions:
    """Rules by which vectors become a person.

    Attributes:
        min_score: A keypoint of lower score is missing.
        min_keypoints: People with fewer keypoints are dropped.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_score: float = 0.1
    min_keypoints: int = 1

    def __post_init__(self) -> None:
        check_within("min_score", self.min_score, 0, 1)
        check_within("min_keypoints", self.min_keypoints, 1, 1000)


class SimccDecoder(DeclaredDecoder[SimccOptions]):
    """Decodes vectors into one person or none."""

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find the person in one image, in pixels of the source image.

        Raises:
            ModelError: If there are fewer rows than keypoints, or not several bins a pixel.
        """
        check_arrays(outputs, self._outputs, self._skeleton)
        k = self._skeleton.num_keypoints
        position, heights = np.zeros((k, 2), np.float32), np.zeros((k, 2), np.float32)
        for axis, (name, size) in enumerate(zip(_NAMES, letterbox.network_size, strict=True)):
            bins = np.nan_to_num(outputs[name][:k].reshape(k, -1))
            if bins.shape[1] < size or bins.shape[1] % size:
                raise ModelError(f"{name} has {bins.shape[1]} bins for {size} pixels", expected="a multiple of them")
            best = bins.argmax(axis=1)
            position[:, axis] = best / np.float32(bins.shape[1] / size)
            heights[:, axis] = bins[np.arange(k), best]
        scores = np.clip(heights.min(axis=1), 0, 1)
        found = scores >= max(self._options.min_score, 1e-6)
        return one_person(position, scores, found, self._skeleton, letterbox, min_keypoints=self._options.min_keypoints)


class SimccMethod(UntrainedMethod):
    """Vectors along both axes."""

    name = "simcc"
    title = "One vector an axis for each keypoint (Li et al. 2022, SimCC; RTMPose)"
    Options = SimccOptions
    Decoder = SimccDecoder
    search_space: Mapping[str, Sequence[Any]] = {"min_score": (0.05, 0.1, 0.2, 0.3)}

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``simcc_x`` and ``simcc_y``, which are no maps: float32[K, 1, bins].

        Example:
            >>> [(o.name, o.channels, o.stride) for o in SIMCC.outputs(COCO_17)]
            [('simcc_x', 17, 0), ('simcc_y', 17, 0)]
        """
        k = skeleton.num_keypoints
        return tuple(Output(name=name, channels=k, stride=0, labels=tuple(skeleton.keypoints)) for name in _NAMES)

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize the published names of the outputs, with 17 rows, on crops of one size."""
        if shapes is None or not set(_NAMES) <= set(outputs) or shapes.fixed_size is None:
            return None
        rows = [shapes.outputs.get(name, ()) for name in _NAMES]
        if any(len(shape) != 3 or shape[1] != COCO_17.num_keypoints for shape in rows):
            return None
        width, height = shapes.fixed_size
        return Recognized(
            skeleton=COCO_17, outputs=self.outputs(COCO_17), rgb=True, mean=IMAGENET_MEAN, scale=IMAGENET_STD,
            crop=CropShape(width=width, height=height),
        )  # fmt: skip

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: NoTargets,
    ) -> Target:
        """Mark the bins of the first person's keypoints, two bins a pixel: what the decoder reads, for scenes."""
        self.by_name(outputs)
        values = {}
        for axis, name in enumerate(_NAMES):
            vectors = np.zeros((skeleton.num_keypoints, 1, 2 * size[axis]), np.float32)
            for k, position in enumerate(people[0, :, axis] if len(people) else ()):
                if np.isfinite(position) and 0 <= round(2 * float(position)) < vectors.shape[2]:
                    vectors[k, 0, round(2 * float(position))] = 1
            values[name] = vectors
        return Target(values, {name: np.ones(vectors.shape[1:], np.float32) for name, vectors in values.items()})


SIMCC = SimccMethod()
"""The method, as a value."""
