"""The loss on boxes: task-aligned assignment (Feng et al. 2021, arXiv 2108.07755), GIoU and cross-entropy.

A detector answers a box and a score for each cell of its maps. Which cells learn a person is decided by what they
answer already: the cells inside of the person's box whose score and overlap with it are best together
(section 3.2, equation 7). They learn that box, and as their score how well they fit; all others learn 0. So no rule
about sizes and centers is needed.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from featherpose.errors import ConfigError
from featherpose.methods.boxes.box_targets import KNOWN_STRIDE
from featherpose.methods.losses import cross_entropy

__all__ = ["BOX_STRIDES", "assign", "box_loss", "cell_centers", "generalized_overlap", "overlaps"]

BOX_STRIDES = 8, 16, 32
"""Pixels per cell of the maps, finest first: their cells, row by row, are a detector's rows."""

# Exponents of score and overlap, and cells a person (section 4.1; the exponents as in PP-YOLOE, arXiv 2203.16250).
_SCORE_POWER, _OVERLAP_POWER, _CELLS = 1.0, 6.0, 10
_BOX_WEIGHT = 2.5


def cell_centers(
    rows: int, columns: int, device: torch.device | None = None
) -> tuple[Float[Tensor, "N 2"], Float[Tensor, " N"]]:
    """Return the center of each cell, (x, y) in pixels from the edge of the first one, and its stride.

    Args:
        rows: Of the finest map; a multiple of 4.
        columns: Likewise.
        device: Of the result.

    Example:
        >>> centers, strides = cell_centers(4, 8)
        >>> centers[:2].tolist(), len(centers), strides[-1].item()
        ([[4.0, 4.0], [12.0, 4.0]], 42, 32.0)
    """
    centers, strides = [], []
    for stride in BOX_STRIDES:
        part = stride // BOX_STRIDES[0]
        y, x = torch.meshgrid(
            torch.arange(rows // part, device=device), torch.arange(columns // part, device=device), indexing="ij"
        )
        centers.append((torch.stack((x, y), -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((len(centers[-1]),), float(stride), device=device))
    return torch.cat(centers), torch.cat(strides)


def _areas(boxes: Tensor) -> Tensor:
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def _shared(a: Tensor, b: Tensor) -> Tensor:
    return _areas(torch.cat((torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])), -1))


def overlaps(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return the intersection over union of boxes (left, top, right, bottom), broadcast.

    Example:
        >>> overlaps(torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 3, 2])).item()
        0.3333333432674408
    """
    shared = _shared(a, b)
    return shared / (_areas(a) + _areas(b) - shared).clamp(min=1e-6)


def generalized_overlap(a: Float[Tensor, "*n 4"], b: Float[Tensor, "*n 4"]) -> Float[Tensor, "*n"]:
    """Return the GIoU: the overlap, minus the part of the box around both that neither covers.

    Rezatofighi et al. 2019 (arXiv 1902.09630), algorithm 1.

    Example:
        >>> generalized_overlap(torch.tensor([0.0, 0, 1, 1]), torch.tensor([3.0, 0, 4, 1])).item()
        -0.5
    """
    shared = _shared(a, b)
    union = (_areas(a) + _areas(b) - shared).clamp(min=1e-6)
    around = _areas(torch.cat((torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])), -1))
    return shared / union - (around - union) / around.clamp(min=1e-6)


@torch.no_grad()
def assign(
    boxes: Float[Tensor, "B N 4"],
    scores: Float[Tensor, "B N"],
    people: Float[Tensor, "B M 4"],
    present: Bool[Tensor, "B M"],
    centers: Float[Tensor, "N 2"],
) -> tuple[Float[Tensor, "B N 4"], Float[Tensor, "B N"]]:
    """Choose what each cell learns.

    Args:
        boxes: What the cells answer.
        scores: Likewise, in 0..1.
        people: Boxes of the people.
        present: Which of them exist.
        centers: Of the cells.

    Returns:
        For each cell the box that it learns, and the score: 0 for background; the best cell of a person learns the
        largest overlap that any of its cells has.
    """
    low, high = people[:, :, None, :2], people[:, :, None, 2:]
    inside = ((centers > low) & (centers < high)).all(-1) & present[:, :, None]
    # A person between the centers of all cells has the nearest ones.
    away = (centers - (low + high) / 2).square().sum(-1)
    nearest = torch.zeros_like(inside).scatter(2, away.topk(2, largest=False).indices, True)
    inside |= nearest & present[:, :, None] & ~inside.any(2, keepdim=True)
    overlap = overlaps(boxes[:, None], people[:, :, None]) * inside
    fit = scores[:, None].pow(_SCORE_POWER) * overlap.pow(_OVERLAP_POWER)
    # Before anything is learned all fits are about 0: then the closest centers count.
    rank = torch.where(inside, fit + 1e-9 / (1 + away), -1.0)
    best = rank.topk(min(_CELLS, rank.shape[2]), dim=2).indices
    chosen = torch.zeros_like(inside).scatter(2, best, True) & inside
    # A cell that several people want learns the one that it overlaps most.
    owner = torch.where(chosen, overlap, -1.0).argmax(1, keepdim=True)
    chosen &= torch.zeros_like(chosen).scatter(1, owner, True)
    fit, overlap = fit * chosen, overlap * chosen
    level = fit / fit.amax(2, keepdim=True).clamp(min=1e-12) * overlap.amax(2, keepdim=True)
    learned = torch.where(chosen.any(1), level.amax(1), 0.0)
    return people.gather(1, owner[:, 0, :, None].expand(-1, -1, 4)), learned


def box_loss(
    boxes: Float[Tensor, "B 1 N 4"],
    scores: Float[Tensor, "B 1 N 1"],
    people: Float[Tensor, "B 1 M 4"],
    present: Float[Tensor, "B 1 M 1"],
    known: Float[Tensor, "B 1 h8 w8"],
) -> tuple[Tensor, Tensor]:
    """Compare boxes and scores with people.

    Args:
        boxes: What the network answers.
        scores: Likewise, strictly between 0 and 1.
        people: Boxes of people, rows of zeros behind them.
        present: 1 for a person, 0 for a row of zeros.
        known: 0 where it is unknown whether somebody is there.

    Returns:
        The loss of boxes and that of scores.

    Raises:
        ConfigError: If the views are no multiples of 32 pixels.
    """
    rows, columns = known.shape[2:]
    centers, _ = cell_centers(rows, columns, boxes.device)
    if len(centers) != boxes.shape[2]:
        raise ConfigError(
            f"views of {KNOWN_STRIDE * columns}x{KNOWN_STRIDE * rows} pixels", expected="multiples of 32 pixels"
        )
    found, likely = boxes[:, 0].float(), scores[:, 0, :, 0].float()
    wanted, levels = assign(found, likely, people[:, 0], present[:, 0, :, 0] > 0, centers)
    x, y = (centers / KNOWN_STRIDE).long().unbind(1)
    trusted = torch.where(levels > 0, 1.0, known[:, 0, y, x])
    count = levels.sum().clamp(min=1)
    error = (1 - generalized_overlap(found, wanted)) * levels
    # Cells without a person weigh by their own score, so that the many sure ones do not outweigh the people
    # (Zhang et al. 2021, arXiv 2008.13367, equation 2, with its α of 0.75 and γ of 2).
    weight = torch.where(levels > 0, 1.0, 0.75 * likely.detach().square())
    return _BOX_WEIGHT * error.sum() / count, (cross_entropy(likely, levels) * weight * trusted).sum() / count
