"""Direct regression of coordinates, as DeepPose does (Toshev and Szegedy 2014, arXiv 1312.4659).

A joint's coordinates are normalized by the person's box (section 3, equation 1): 0 at the center of the network's
input, -0.5 and 0.5 at its edges. The later stages of a cascade answer the same numbers, better (section 3.2); each is
supervised. Besides the paper's coordinates there is a number for each keypoint that says whether it is there at all:
photographs cut people off, and a score is what evaluation and fusion need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ConfigError
from featherpose.geometry import Letterbox
from featherpose.methods.declared import (
    DeclaredDecoder,
    DeclaredMethod,
    check_arrays,
    keypoint_output,
    vector_output,
)
from featherpose.methods.method import Arrays, Output, Target
from featherpose.methods.single_person import one_person
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["REGRESSION", "RegressionDecoder", "RegressionMethod", "RegressionOptions", "RegressionTargets"]

# Where the smooth absolute error turns from squared to linear: a fiftieth of the input.
_TURN = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionOptions:
    """Rules by which coordinates become a person.

    Attributes:
        min_score: A keypoint of lower presence is missing.
        min_keypoints: People with fewer keypoints are dropped.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_score: float = 0.2
    min_keypoints: int = 1

    def __post_init__(self) -> None:
        check_within("min_score", self.min_score, 0, 1)
        check_within("min_keypoints", self.min_keypoints, 1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionTargets:
    """Form of the training targets.

    Attributes:
        presence_weight: Weight of the cross-entropy of presence against the error of coordinates.

    Raises:
        ConfigError: If it is negative.
    """

    presence_weight: float = 0.02

    def __post_init__(self) -> None:
        if not self.presence_weight >= 0:
            raise ConfigError(f"presence_weight is {self.presence_weight}", expected="a number that is not negative")


class RegressionDecoder(DeclaredDecoder[RegressionOptions]):
    """Decodes coordinates into one person or none."""

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find the person in one image, in pixels of the source image.

        Raises:
            ModelError: If there are fewer numbers than keypoints need.
        """
        check_arrays(outputs, self._outputs, self._skeleton)
        k = self._skeleton.num_keypoints
        scores = np.clip(np.nan_to_num(outputs["presence"][:k, 0, 0]), 0, 1).astype(np.float32)
        normalized = np.asarray(outputs["coordinates"][: 2 * k, 0, 0], np.float32).reshape(k, 2)
        found = (scores >= max(self._options.min_score, 1e-6)) & np.isfinite(normalized).all(axis=1)
        pixels = (normalized + np.float32(0.5)) * np.array(letterbox.network_size, np.float32) - np.float32(0.5)
        return one_person(pixels, scores, found, self._skeleton, letterbox, min_keypoints=self._options.min_keypoints)


class RegressionMethod(DeclaredMethod):
    """Coordinates of one person."""

    name = "regression"
    title = "Direct regression of coordinates (Toshev and Szegedy 2014, DeepPose)"
    Options = RegressionOptions
    Decoder = RegressionDecoder
    Targets = RegressionTargets
    search_space: Mapping[str, Sequence[Any]] = {"min_score": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)}

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``coordinates``, x and y a keypoint, and ``presence``; neither is a map.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> [(o.name, o.channels, o.stride) for o in REGRESSION.outputs(COCO_17)]
            [('coordinates', 34, 0), ('presence', 17, 0)]
        """
        return vector_output("coordinates", skeleton, 0), keypoint_output("presence", skeleton, 0)

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: RegressionTargets,
    ) -> Target:
        """Normalize the first person's coordinates; NaN where they are unknown, whose presence is 0.

        A view without a person is masked.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> target = REGRESSION.encode(
            ...     np.full((1, 17, 2), 23.5, np.float32),
            ...     np.empty((0, 4), np.float32),
            ...     COCO_17,
            ...     (48, 96),
            ...     REGRESSION.outputs(COCO_17),
            ...     RegressionTargets(),
            ... )
            >>> target.values["coordinates"][:2, 0, 0].tolist()
            [0.0, -0.25]
        """
        self.by_name(outputs)
        k = skeleton.num_keypoints
        person = people[0] if len(people) else np.full((k, 2), np.nan, np.float32)
        normalized = (person + np.float32(0.5)) / np.array(size, np.float32) - np.float32(0.5)
        # Keypoints outside the view are known, but whoever sees only the view cannot be asked for them.
        inside = np.asarray((np.abs(normalized) <= 0.5).all(axis=1), np.bool_)  # False for NaN
        normalized = np.where(inside[:, None], normalized, np.float32(np.nan))
        mask = np.full((1, 1), float(len(people) > 0), np.float32)
        return Target(
            {
                "coordinates": np.asarray(normalized, np.float32).reshape(2 * k, 1, 1),
                "presence": inside.astype(np.float32).reshape(k, 1, 1),
            },
            {"coordinates": mask, "presence": mask},
        )

    def loss(
        self,
        stages: Sequence[Mapping[str, Tensor]],
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        config: Any,
        skeleton: Skeleton,
        *,
        probabilities: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """``l2``: squared error of known coordinates (section 3.1, equation 3); ``soft``: smooth absolute error.

        Averaged over known coordinates, with the cross-entropy of presence, and summed over the stages.
        """
        import torch
        from torch.nn import functional as F

        from featherpose.methods.losses import cross_entropy

        known = torch.isfinite(values["coordinates"]) & (masks["coordinates"] > 0)
        truth = torch.where(known, values["coordinates"], 0.0)
        total, parts = torch.zeros((), device=truth.device), {}
        for number, stage in enumerate(stages):
            found = torch.where(known, stage["coordinates"].float(), 0.0)
            if config.kind == "l2":
                error = (found - truth).square()
            else:
                error = F.smooth_l1_loss(found, truth, beta=_TURN, reduction="none")
            distance = error.sum() / known.sum().clamp(min=1)
            presence = (cross_entropy(stage["presence"], values["presence"]) * masks["presence"]).mean()
            parts[f"coordinates_{number}"], parts[f"presence_{number}"] = distance.detach(), presence.detach()
            total = total + distance + RegressionTargets().presence_weight * presence
        return total, parts


REGRESSION = RegressionMethod()
"""The method, as a value."""
