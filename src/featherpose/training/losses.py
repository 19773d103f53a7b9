"""Losses on maps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from featherpose.data.dataset import Batch
from featherpose.nn.outputs import StageMaps
from featherpose.skeleton import Skeleton
from featherpose.training.config import LossConfig

__all__ = ["loss_of"]


def loss_of(
    stages: Sequence[StageMaps], batch: Batch, config: LossConfig, skeleton: Skeleton, *, probabilities: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its parts by name, without gradient; 0 and none where maps do not teach.

    Args:
        stages: Outputs of every stage, the last one last.
        batch: What they should be, and where that is known.
        config: Which loss.
        skeleton: Pairs of PAF channels.
        probabilities: Whether the network's heatmaps are probabilities, strictly between 0 and 1.
    """
    if config.kind == "hints":
        return torch.zeros((), device=batch.pictures.device), {}
    if config.kind == "l2":
        return _l2(stages, batch)
    return _soft(stages, batch, config, skeleton, probabilities)


def _l2(stages: Sequence[StageMaps], batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Half the squared error over known cells, summed over channels, cells and stages (Osokin 2018, section 3).

    The published code divides by the batch and nothing else; so does this, and rates carry over.
    """
    total, parts = torch.zeros(()), {}
    count = len(batch.pictures)
    for number, maps in enumerate(stages):
        heat = ((maps.heatmaps.float() - batch.heatmaps) * batch.heatmap_mask).square().sum() / (2 * count)
        paf = ((maps.pafs.float() - batch.pafs) * batch.paf_mask).square().sum() / (2 * count)
        parts[f"heatmaps_{number}"], parts[f"pafs_{number}"] = heat.detach(), paf.detach()
        total = total + heat + paf
    return total, parts


def _soft(
    stages: Sequence[StageMaps], batch: Batch, config: LossConfig, skeleton: Skeleton, probabilities: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy of heatmaps against soft targets, squared error of fields, limbs and keypoints weighted up.

    The gradient of the cross-entropy with respect to a logit is the error itself, so confident mistakes still
    teach; a squared error behind a sigmoid would forgive them. Maps are averaged over cells, summed over channels.
    """
    total, parts = torch.zeros(()), {}
    xs, ys = (list(channels) for channels in zip(*skeleton.paf_channels, strict=True))
    strength = torch.sqrt(batch.pafs[:, xs].square() + batch.pafs[:, ys].square())
    paf_weight = torch.ones_like(batch.pafs)
    paf_weight[:, xs] += config.foreground * strength
    paf_weight[:, ys] += config.foreground * strength
    heat_weight = (1 + (config.foreground + 1) * batch.heatmaps) * batch.heatmap_mask
    target = batch.heatmaps.clamp(1e-4, 1 - 1e-4)
    floor = -(target * target.log() + (1 - target) * (1 - target).log())
    for number, maps in enumerate(stages):
        paf = ((maps.pafs.float() - batch.pafs).square() * paf_weight * batch.paf_mask).sum(dim=1).mean()
        if probabilities:
            said = maps.heatmaps.float().clamp(1e-5, 1 - 1e-5)
            # By hand: PyTorch's own refuses a NaN before the loop can keep the batch that caused it.
            error = -(batch.heatmaps * said.log() + (1 - batch.heatmaps) * torch.log1p(-said)) - floor
        else:
            error = (maps.heatmaps.float() - batch.heatmaps).square()
        heat = (error * heat_weight).sum(dim=1).mean()
        parts[f"heatmaps_{number}"], parts[f"pafs_{number}"] = heat.detach(), paf.detach()
        total = total + config.heatmap_weight * heat + paf
    return total, parts
