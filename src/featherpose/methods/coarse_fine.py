"""Heatmaps of coarse and fine detectors, each level with a label of its own radius (Huang, Gong and Tao 2017, CFN).

Coarse features cannot tell positions apart that fine ones can, so they learn wider labels; the last stage, which the
coarse probability gates, learns the narrow ones. Wider labels need not be drawn: a Gaussian of twice the width is the
narrow one to the power of a quarter, ``exp(-d² / 2(2σ)²) = exp(-d² / 2σ²)^(1/4)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from featherpose.methods.heatmap import HeatmapMethod
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["COARSE_FINE", "CoarseFineMethod", "widened"]

# How many times as wide the labels of the coarse stages are, coarsest first.
_WIDENING = 2.0, 1.5


def widened(target: Tensor, factor: float) -> Tensor:
    """Widen Gaussians of height 1; cells in which the narrow one was cut off stay 0.

    Args:
        target: float[B, K, h, w].
        factor: How many times as wide.

    Example:
        >>> import torch
        >>> narrow = torch.exp(torch.tensor([0.0, -2.0]))
        >>> torch.allclose(widened(narrow, 2.0), torch.exp(torch.tensor([0.0, -0.5])))
        True
    """
    return target.clamp(min=0) ** (1 / factor**2)


class CoarseFineMethod(HeatmapMethod):
    """Single-person heatmaps with level-specific supervision."""

    name = "cfn"
    title = "Single-person heatmaps, coarse gating fine (Huang et al. 2017, CFN)"

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
        """Compare each stage as method ``heatmap`` does, the coarse ones with wider labels; summed over stages."""
        total, parts = super().loss(stages[-1:], values, masks, config, skeleton, probabilities=probabilities)
        parts = {"heatmaps_fine": parts["heatmaps_0"]}
        for number, stage in enumerate(stages[:-1]):
            wide = {"heatmaps": widened(values["heatmaps"], _WIDENING[min(number, len(_WIDENING) - 1)])}
            loss, _ = super().loss([stage], wide, masks, config, skeleton, probabilities=probabilities)
            parts[f"heatmaps_coarse_{number}"] = loss.detach()
            total = total + loss
        return total, parts


COARSE_FINE = CoarseFineMethod()
"""The method, as a value."""
