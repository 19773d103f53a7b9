"""The loss on tags (Newell et al. 2017, arXiv 1611.05424, section 3.2, equation 1)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pull_and_push"]


def pull_and_push(tags: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Pull the tags of a person to their mean, and push the means of two people apart.

    ``pull`` is the mean over people of the mean squared distance of their tags from their mean tag; ``push`` the mean
    over pairs of people of ``exp(-(a - b)² / 2)`` of their mean tags (σ = 1). Both are averaged over images.

    Args:
        tags: float[B, K, h, w].
        owners: float[B, K, h, w]: the number of the person whose keypoint lies in a cell, from 1; 0 for none.

    Example:
        >>> owners = torch.zeros(1, 2, 1, 2)
        >>> owners[0, :, 0, 0], owners[0, :, 0, 1] = 1, 2
        >>> tags = torch.tensor([[[[0.0, 9.0]], [[2.0, 9.0]]]])
        >>> pull, push = pull_and_push(tags, owners)
        >>> float(pull), float(push) < 1e-6
        (0.5, True)
    """
    pulls, pushes = [], []
    for found, names in zip(tags, owners, strict=True):
        marked = names > 0
        people, index = torch.unique(names[marked], return_inverse=True)
        if not len(people):
            pulls.append(found.sum() * 0)
            pushes.append(found.sum() * 0)
            continue
        values = found[marked]
        counts = torch.zeros(len(people), device=values.device).index_add(0, index, torch.ones_like(values))
        means = torch.zeros(len(people), device=values.device).index_add(0, index, values) / counts
        spread = torch.zeros_like(means).index_add(0, index, (values - means[index]).square()) / counts
        pulls.append(spread.mean())
        likeness = torch.exp(-(means[:, None] - means[None]).square() / 2)
        pairs = max(1, len(people) * (len(people) - 1))
        pushes.append((likeness.sum() - likeness.diagonal().sum()) / pairs)
    return torch.stack(pulls).mean(), torch.stack(pushes).mean()
