"""Heatmaps behind a spatial transformer, learned with a parallel branch: RMPE (Fang et al. 2017, arXiv 1612.00137).

Section 3.1: a transformer moves and scales an imprecise crop before a single-person network sees it, and the inverse
transformation brings the heatmaps back. Those are compared with the person as the crop shows them. In training a
second, frozen network looks at the transformed crop and gives heatmaps that are not brought back: they are compared
with the person in the middle of the crop, so its errors reach the transformer alone, and are small where the person is
centered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ConfigError
from featherpose.methods.declared import DeclaredMethod
from featherpose.methods.heatmap import HeatmapTargets
from featherpose.methods.hourglass import HourglassMethod
from featherpose.methods.method import Output, Target
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["RECENTERED", "RecenteredMethod", "RecenteredTargets", "moved_to_center"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecenteredTargets(HeatmapTargets):
    """Form of the training targets.

    Attributes:
        centered_part: The longer side of the box around the keypoints of a centered person, as a part of the view's.
        parallel_weight: Weight of the parallel branch in the loss; 0 trains the transformer by the heatmaps alone.

    Raises:
        ConfigError: If a value is outside its range.
    """

    centered_part: float = 0.8
    parallel_weight: float = 1.0

    def __post_init__(self) -> None:
        HeatmapTargets.__post_init__(self)
        if not 0.1 <= self.centered_part <= 1 or self.parallel_weight < 0:
            raise ConfigError(
                f"targets {self} are impossible", expected="centered_part from 0.1 to 1, parallel_weight not negative"
            )


def moved_to_center(
    person: Float32[np.ndarray, "K 2"], size: tuple[int, int], part: float
) -> Float32[np.ndarray, "K 2"]:
    """Move and scale a person so that the box around the keypoints is in the middle of a view.

    Args:
        person: Keypoints in view pixels, NaN where unknown.
        size: (width, height) of the view.
        part: What the box takes of the view along the axis that it fills most.

    Returns:
        float32[K, 2]: the keypoints of the centered person; a person of one keypoint is moved and not scaled.

    Example:
        >>> moved_to_center(np.float32([[0, 10], [10, 50]]), (100, 100), 0.8).tolist()
        [[39.5, 9.5], [59.5, 89.5]]
    """
    known = person[np.isfinite(person[:, 0])]
    if not len(known):
        return person
    low, high = known.min(axis=0), known.max(axis=0)
    filled = float(((high - low) / np.array(size)).max())
    scale = part / filled if filled > 0 else 1.0
    middle = (np.array(size, np.float32) - 1) / 2
    return np.asarray((person - (low + high) / 2) * np.float32(scale) + middle, np.float32)


class RecenteredMethod(HourglassMethod):
    """Single-person heatmaps, and in training those of a branch that sees the person centered."""

    name = "rmpe"
    title = "Single-person heatmaps behind a spatial transformer (Fang et al. 2017, RMPE)"
    Targets = RecenteredTargets

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: HeatmapTargets,
    ) -> Target:
        """Draw the first person where the view shows them, and once more centered.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> people = np.full((1, 17, 2), 8, np.float32)
            >>> form = RecenteredTargets()
            >>> target = RECENTERED.encode(
            ...     people, np.empty((0, 4), np.float32), COCO_17, (48, 64), RECENTERED.outputs(COCO_17), form
            ... )
            >>> [np.unravel_index(m[0].argmax(), m[0].shape) for m in target.values.values()][1]
            (np.int64(7), np.int64(5))
        """
        assert isinstance(targets, RecenteredTargets)
        seen = super().encode(people, ignore, skeleton, size, outputs, targets)
        middle = [moved_to_center(person, size, targets.centered_part) for person in people[:1]]
        moved = np.stack(middle) if middle else people[:1]
        centered = super().encode(moved, ignore, skeleton, size, outputs, targets)
        # The weight goes with the targets: the loss knows nothing else of them.
        mask = centered.masks["heatmaps"] * np.float32(targets.parallel_weight)
        return Target(
            {**seen.values, "centered": centered.values["heatmaps"]}, {**seen.masks, "centered": mask}
        )  # fmt: skip

    # A teacher's heatmaps cannot be centered without the labels.
    merge = DeclaredMethod.merge

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
        """Add the squared error of the parallel branch, keypoints weighted up, to the stages' losses."""
        from featherpose.methods.losses import foreground_weights

        own = [stage for stage in stages if "heatmaps" in stage]
        total, parts = super().loss(own, values, masks, config, skeleton, probabilities=probabilities)
        for stage in stages:
            if "parallel" in stage:
                target = values["centered"]
                weight = foreground_weights(target, masks["centered"], config.foreground)
                parallel = ((stage["parallel"].float() - target).square() * weight).sum(dim=1).mean()
                parts["parallel"] = parallel.detach()
                total = total + parallel
        return total, parts


RECENTERED = RecenteredMethod()
"""The method, as a value."""
