"""The loss on keypoints in boxes: one hot cell a keypoint (He et al. 2017, arXiv 1703.06870, section 5)."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["cells_at", "region_loss"]


def cells_at(
    points: Float[Tensor, "R K 3"], boxes: Float[Tensor, "R 4"], cells: tuple[int, int]
) -> tuple[Int[Tensor, "R K"], Bool[Tensor, "R K"]]:
    """Return the number of the cell in which each keypoint lies, and whether it is known and inside of the box.

    Args:
        points: x, y and whether they are known.
        boxes: (left, top, right, bottom), in the same pixels.
        cells: (rows, columns) of a box.

    Example:
        >>> import torch
        >>> cell, inside = cells_at(torch.tensor([[[15.0, 3.0, 1.0]]]), torch.tensor([[10.0, 0.0, 18.0, 4.0]]), (2, 4))
        >>> cell.tolist(), inside.tolist()
        ([[6]], [[True]])
    """
    rows, columns = cells
    side = (boxes[:, None, 2:] - boxes[:, None, :2]).clamp(min=1e-6)
    part = (points[..., :2] - boxes[:, None, :2]) / side
    inside = (part >= 0).all(-1) & (part < 1).all(-1) & (points[..., 2] > 0)
    column = (part[..., 0] * columns).floor().clamp(0, columns - 1)
    row = (part[..., 1] * rows).floor().clamp(0, rows - 1)
    return (row * columns + column).long(), inside


def region_loss(
    logits: Float[Tensor, "R K rows columns"],
    boxes: Float[Tensor, "R 4"],
    points: Float[Tensor, "R K 3"],
) -> Tensor:
    """Return the cross-entropy of a softmax over all cells of a box, averaged over the keypoints that lie in theirs.

    Args:
        logits: One map a keypoint and box.
        boxes: (left, top, right, bottom) of the maps.
        points: x, y and whether they are known, in the same pixels.

    Example:
        >>> import torch
        >>> logits = torch.zeros(1, 1, 2, 2)
        >>> box, point = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[[0.5, 0.5, 1.0]]])
        >>> round(region_loss(logits, box, point).item(), 3)  # one of four, all as likely
        1.386
    """
    cell, inside = cells_at(points, boxes, (logits.shape[2], logits.shape[3]))
    flat = logits.flatten(2).float()
    missed = flat.logsumexp(2) - flat.gather(2, cell[:, :, None])[:, :, 0]
    return (missed * inside).sum() / inside.sum().clamp(min=1)
