"""Spatial transformers that scale and shift (Jaderberg et al. 2015, arXiv 1506.02025; Fang et al. 2017, section 3.1).

A transformation is float[B, 2, 3]: output coordinates, -1..1 between the edges, to input coordinates. The inverse
undoes it: ``inverse_of(t)`` of `axis_aligned` transformations is their exact inverse, so heatmaps of a region go back
to where the region came from.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["axis_aligned", "inverse_of", "transformed"]

# The region is between these parts of the input, along each axis.
_LEAST, _MOST = 0.5, 1.25


def axis_aligned(numbers: Float[Tensor, "B 4"]) -> Float[Tensor, "B 2 3"]:
    """Make transformations of four free numbers each; zeros give the identity.

    Args:
        numbers: Logarithms of the scales in x and y, bounded to 0.5..1.25, and the shifts in x and y.

    Example:
        >>> axis_aligned(torch.zeros(1, 4))[0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    scales = numbers[:, :2].exp().clamp(_LEAST, _MOST)
    shifts = torch.tanh(numbers[:, 2:])
    zero = torch.zeros_like(scales[:, :1])
    rows = torch.cat((scales[:, :1], zero, shifts[:, :1], zero, scales[:, 1:], shifts[:, 1:]), 1)
    return rows.reshape(-1, 2, 3)


def inverse_of(region: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B 2 3"]:
    """Invert transformations that scale and shift (equation 3 of Fang et al.).

    Example:
        >>> region = torch.tensor([[[0.5, 0.0, 0.25], [0.0, 0.8, -0.4]]])
        >>> inverse_of(region)[0].tolist()
        [[2.0, 0.0, -0.5], [0.0, 1.25, 0.5]]
    """
    scales = torch.stack((region[:, 0, 0], region[:, 1, 1]), 1)
    shifts = -region[:, :, 2] / scales
    zero = torch.zeros_like(scales[:, :1])
    rows = torch.cat((1 / scales[:, :1], zero, shifts[:, :1], zero, 1 / scales[:, 1:], shifts[:, 1:]), 1)
    return rows.reshape(-1, 2, 3)


def transformed(maps: Float[Tensor, "B C h w"], region: Float[Tensor, "B 2 3"]) -> Float[Tensor, "B C h w"]:
    """Resample maps bilinearly; what comes from outside of them is 0.

    Example:
        >>> maps = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> torch.allclose(transformed(maps, axis_aligned(torch.zeros(1, 4))), maps)
        True
    """
    # `affine_grid` with align_corners off, written with operations that every engine reads.
    row, column = torch.ones_like(maps[:1, :1, :, :1]).float(), torch.ones_like(maps[:1, :1, :1]).float()
    y = (2 * row.cumsum(2) - 1) / maps.shape[2] - 1
    x = (2 * column.cumsum(3) - 1) / maps.shape[3] - 1
    numbers = region.float()[:, :, :, None, None]
    grid = torch.stack([numbers[:, i, 0] * x[0] + numbers[:, i, 1] * y[0] + numbers[:, i, 2] for i in (0, 1)], 3)
    return F.grid_sample(maps.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
