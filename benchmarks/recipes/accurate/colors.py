"""Photometric augmentation on the device: saturation, contrast, brightness, gamma, blur, noise and occluders."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augment_colors"]

_OCCLUDERS, _OCCLUDED = 2, 0.3
"""Rectangles that may lie over a view, and the part of the views over which each does."""


def augment_colors(images: Float[Tensor, "B 3 S S"], generator: torch.Generator) -> Float[Tensor, "B 3 S S"]:
    """Change the colors of each image by its own random amounts.

    Args:
        images: Centered at 0: -128..127.
        generator: Of the images' device.

    Returns:
        Images in the same range.
    """
    number, device = len(images), images.device

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(number, *shape, device=device, generator=generator)

    def some(part: float) -> Tensor:
        return (torch.rand(number, 1, 1, 1, device=device, generator=generator) < part).float()

    gray = images.mean(1, keepdim=True)
    saturation = between(0.5, 1.5, 1, 1, 1) * (1 - some(0.1))  # a tenth of them has no color at all
    images = gray + (images - gray) * (1 + (saturation - 1) * some(0.7))
    contrast = 1 + (between(0.6, 1.4, 1, 1, 1) - 1) * some(0.7)
    brightness = between(-35, 35, 1, 1, 1) * some(0.7)
    tint = between(-15, 15, 3, 1, 1) * some(0.5)
    images = images * contrast + brightness + tint
    gamma = torch.exp(between(-0.4, 0.4, 1, 1, 1) * some(0.4))
    images = ((images + 128).clamp(0, 255) / 255) ** gamma * 255 - 128
    blurred = F.avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    images = torch.where(some(0.15) > 0, blurred, images)
    noise = torch.randn(images.shape, device=device, generator=generator) * 8
    images = images + noise * between(0, 1, 1, 1, 1) * some(0.25)
    for _ in range(_OCCLUDERS):
        images = _occluded(images, between, some)
    return images.clamp(-128, 127)


def _occluded(images: Tensor, between: Callable[..., Tensor], some: Callable[[float], Tensor]) -> Tensor:
    """Lay a rectangle of one color over some images; targets stay, so limbs are inferred from their surroundings."""
    side = images.shape[-1]
    line = torch.arange(side, device=images.device)
    x, y, width, height = between(0, side), between(0, side), between(8, side / 5), between(8, side / 5)
    columns = (line - x[:, None]).abs() < width[:, None] / 2
    rows = (line - y[:, None]).abs() < height[:, None] / 2
    covered = columns[:, None, None, :] & rows[:, None, :, None] & (some(_OCCLUDED) > 0)
    return torch.where(covered, between(-128, 127, 3, 1, 1).expand_as(images), images)
