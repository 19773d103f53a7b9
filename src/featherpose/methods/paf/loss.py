"""Losses on heatmaps and part affinity fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from featherpose.methods.losses import binary_entropy, foreground_weights, heatmap_error
from featherpose.skeleton import Skeleton

__all__ = ["squared_error", "weighted_loss"]

_Stages = Sequence[Mapping[str, Tensor]]


def squared_error(
    stages: _Stages, values: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return half the squared error over known cells, summed over channels, cells and stages (Osokin 2018, section 3).

    The published code divides by the batch and nothing else; so does this, and learning rates carry over.

    Args:
        stages: For each stage float[B, C, h, w] by output name.
        values: Targets by output name.
        masks: float[B, 1, h, w] by output name.
    """
    total, parts = torch.zeros(()), {}
    for number, maps in enumerate(stages):
        for name, target in values.items():
            error = ((maps[name].float() - target) * masks[name]).square().sum() / (2 * len(target))
            parts[f"{name}_{number}"] = error.detach()
            total = total + error
    return total, parts


def weighted_loss(
    stages: _Stages,
    values: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
    config: Any,
    skeleton: Skeleton,
    *,
    probabilities: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted loss: cross-entropy of heatmaps, squared error of fields, limbs and keypoints weighted up.

    Maps are averaged over cells, summed over channels. See `featherpose.methods.losses.heatmap_error`.

    Args:
        stages: For each stage ``heatmaps`` float[B, C, h, w] and ``pafs`` float[B, 2L, v, u].
        values: Targets of the same shapes.
        masks: float[B, 1, h, w] by output name.
        config: ``foreground`` and ``heatmap_weight`` are read.
        skeleton: Pairs of PAF channels.
        probabilities: Whether the heatmaps are probabilities, strictly between 0 and 1.
    """
    total, parts = torch.zeros(()), {}
    heatmaps, pafs = values["heatmaps"], values["pafs"]
    xs, ys = (list(channels) for channels in zip(*skeleton.paf_channels, strict=True))
    strength = torch.sqrt(pafs[:, xs].square() + pafs[:, ys].square())
    paf_weight = torch.ones_like(pafs)
    paf_weight[:, xs] += config.foreground * strength
    paf_weight[:, ys] += config.foreground * strength
    heat_weight = foreground_weights(heatmaps, masks["heatmaps"], config.foreground)
    entropy = binary_entropy(heatmaps) if probabilities else None
    for number, maps in enumerate(stages):
        paf = ((maps["pafs"].float() - pafs).square() * paf_weight * masks["pafs"]).sum(dim=1).mean()
        error = heatmap_error(maps["heatmaps"], heatmaps, entropy)
        heat = (error * heat_weight).sum(dim=1).mean()
        parts[f"heatmaps_{number}"], parts[f"pafs_{number}"] = heat.detach(), paf.detach()
        total = total + config.heatmap_weight * heat + paf
    return total, parts
