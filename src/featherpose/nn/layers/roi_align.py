"""RoIAlign: features of boxes on a grid of fixed size (He et al. 2017, arXiv 1703.06870, section 3).

Nothing is rounded: each cell of the grid is the mean of a few regularly spaced points, each interpolated bilinearly
between the four nearest cells of the features. One sampling serves all boxes of an image, so the exported graph has a
single layer for it. `featherpose.evaluation.reference.roi_align` is the plain form that a test compares.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["grid_points", "roi_align"]


def grid_points(boxes: Float[Tensor, "B N 4"], rows: int, columns: int) -> Float[Tensor, "B N rows columns 2"]:
    """Return the centers of a box's cells, (x, y) in pixels.

    Args:
        boxes: (left, top, right, bottom) in pixels.
        rows: Cells along the height.
        columns: Cells along the width.

    Example:
        >>> grid_points(torch.tensor([[[0.0, 0.0, 8.0, 4.0]]]), 1, 2).tolist()
        [[[[[2.0, 2.0], [6.0, 2.0]]]]]
    """
    down = (torch.arange(rows, device=boxes.device) + 0.5) / rows
    across = (torch.arange(columns, device=boxes.device) + 0.5) / columns
    y, x = torch.meshgrid(down, across, indexing="ij")
    corner, side = boxes[..., None, None, :2], boxes[..., None, None, 2:] - boxes[..., None, None, :2]
    return corner + side * torch.stack((x, y), -1)


def roi_align(
    features: Float[Tensor, "B C h w"],
    boxes: Float[Tensor, "B N 4"],
    stride: int,
    cells: tuple[int, int],
    *,
    samples: int = 2,
) -> Float[Tensor, "B N C rows columns"]:
    """Sample the features inside of each box; beyond their border those at the border continue.

    Args:
        features: Of whole images.
        boxes: (left, top, right, bottom), pixels counted from the edge of the first one.
        stride: Pixels per cell of the features.
        cells: (rows, columns) of the result.
        samples: Points along each side of a cell.

    Example:
        >>> features = torch.arange(8.0).expand(1, 1, 8, 8)
        >>> roi_align(features, torch.tensor([[[8.0, 0.0, 24.0, 16.0]]]), 4, (1, 2))[0, 0, 0].tolist()
        [[2.5, 4.5]]
    """
    rows, columns = cells
    batch, count = boxes.shape[:2]
    points = grid_points(boxes.float(), rows * samples, columns * samples)
    # In halves of the image from its middle, as grid_sample has it; the grids of all boxes stand below each other. The
    # sides are divided by one at a time: put into a tensor, an exported graph would keep those of its example.
    x = 2 * points[..., 0] / (features.shape[3] * stride) - 1
    y = 2 * points[..., 1] / (features.shape[2] * stride) - 1
    grid = torch.stack((x, y), -1).reshape(batch, count * rows * samples, columns * samples, 2)
    found = F.grid_sample(features.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    if samples > 1:
        found = F.avg_pool2d(found, samples)
    return found.reshape(batch, -1, count, rows, columns).transpose(1, 2)
