"""Errors of heatmaps that the losses of several methods share; needs PyTorch."""

from __future__ import annotations

from torch import Tensor

__all__ = ["binary_entropy", "cross_entropy", "foreground_weights", "heatmap_error"]


def binary_entropy(target: Tensor) -> Tensor:
    """Return the entropy of each cell of soft targets: the least cross-entropy that any prediction reaches.

    Args:
        target: float[B, C, h, w] in 0..1.
    """
    known = target.clamp(1e-4, 1 - 1e-4)
    return -(known * known.log() + (1 - known) * (1 - known).log())


def heatmap_error(predicted: Tensor, target: Tensor, entropy: Tensor | None) -> Tensor:
    """Return the error of each cell: cross-entropy above the targets' entropy, or squared error.

    The gradient of the cross-entropy with respect to a logit is the error itself, so confident mistakes still teach; a
    squared error behind a sigmoid would forgive them.

    Args:
        predicted: float[B, C, h, w]; probabilities if ``entropy`` is given.
        target: The same shape, in 0..1.
        entropy: `binary_entropy` of the target; None for the squared error.

    Example:
        >>> import torch
        >>> target = torch.tensor([0.0, 0.5, 1.0])
        >>> heatmap_error(target, target, None).tolist()
        [0.0, 0.0, 0.0]
        >>> errors = heatmap_error(torch.tensor([0.9, 0.5, 1.0]), target, binary_entropy(target))
        >>> [round(error, 2) for error in errors.tolist()]
        [2.3, 0.0, -0.0]
    """
    if entropy is None:
        return (predicted.float() - target).square()
    return cross_entropy(predicted, target) - entropy


def cross_entropy(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of each cell.

    Args:
        predicted: Probabilities.
        target: The same shape, in 0..1.

    Example:
        >>> import torch
        >>> round(float(cross_entropy(torch.tensor(0.5), torch.tensor(1.0))), 3)
        0.693
    """
    likely = predicted.float().clamp(1e-5, 1 - 1e-5)
    # By hand: PyTorch's own refuses a NaN before the loop can keep the batch that caused it.
    return -(target * likely.log() + (1 - target) * (-likely).log1p())


def foreground_weights(target: Tensor, mask: Tensor, foreground: float) -> Tensor:
    """Return the weight of each cell: 1 on known background, ``foreground + 2`` on a keypoint, 0 where unknown.

    Args:
        target: float[B, C, h, w] in 0..1.
        mask: float[B, 1, h, w], 0 where the annotation is incomplete.
        foreground: Extra weight of keypoints.
    """
    return (1 + (foreground + 1) * target) * mask
