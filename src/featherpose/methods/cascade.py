"""Heatmaps of a cascade that learns what is hardest: CPN's hard keypoint mining (Chen et al. 2018, arXiv 1711.07319).

Section 3.2.2: every level of GlobalNet learns all keypoints; RefineNet, the last stage, learns in each image only the M
keypoints whose loss is highest, 8 of 17. The hidden and hard ones would otherwise drown in the loss of the easy ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featherpose.methods.heatmap import HeatmapMethod
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CASCADE", "PLAIN_CASCADE", "CascadeMethod", "hardest"]

_PART = 8 / 17


def hardest(errors: Tensor, count: int) -> Tensor:
    """Mean over the images of the sum of each one's ``count`` highest errors.

    Args:
        errors: float[B, K].
        count: Keypoints that count, at least 1.

    Example:
        >>> import torch
        >>> float(hardest(torch.tensor([[1.0, 5.0, 3.0], [2.0, 0.0, 0.0]]), 2))
        5.0
    """
    return errors.topk(min(count, errors.shape[1]), dim=1).values.sum(dim=1).mean()


class CascadeMethod(HeatmapMethod):
    """Single-person heatmaps whose last stage learns the hardest keypoints.

    Args:
        name: Short name.
        mining: Whether the last stage mines; without, it learns all keypoints, for comparison.
    """

    title = "Single-person heatmaps with hard keypoint mining (Chen et al. 2018, CPN)"

    def __init__(self, name: str = "cpn", *, mining: bool = True) -> None:
        self.name, self._mining = name, mining
        if not mining:
            self.title = "CPN without hard keypoint mining"

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
        """Sum the stages' losses as method ``heatmap`` does; of the last one only the hardest keypoints."""
        if not self._mining:
            return super().loss(stages, values, masks, config, skeleton, probabilities=probabilities)
        total, parts = super().loss(stages[:-1], values, masks, config, skeleton, probabilities=probabilities)
        errors = self._errors(stages[-1]["heatmaps"], values["heatmaps"], masks["heatmaps"], config, probabilities)
        mined = hardest(errors.mean(dim=(2, 3)), max(1, round(_PART * skeleton.num_keypoints)))
        parts["hardest"] = mined.detach()
        return total + mined, parts


CASCADE = CascadeMethod()
"""The method, as a value."""

PLAIN_CASCADE = CascadeMethod("cpn-all-keypoints", mining=False)
"""The same without mining."""
