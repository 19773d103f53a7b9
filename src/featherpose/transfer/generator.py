"""A network that draws one person in any pose: the nearest frame of the training video, corrected.

After "Everybody Dance Now" (Chan et al. 2019, arXiv 1808.07371): from the pose of this frame and the picture of the
frame before to a picture, learned from a video of the person. To be small enough for a CPU it does not draw a person
from noise: its input is the most similar training frame and both poses, and it learns what to change; a mask says where
the empty background shows.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Generator", "generator_inputs"]


def generator_inputs() -> dict[str, str]:
    """Return what the network is given, by name, for people and model files."""
    return {
        "nearest": "float[B, 3, H, W] in 0..1: the nearest training frame, shifted",
        "before": "float[B, 3, H, W]: what was drawn for the frame before",
        "plate": "float[B, 3, H, W]: the empty background",
        "pose": "float[B, C, H/4, W/4]: maps of the pose",
        "nearest_pose": "float[B, C, H/4, W/4]: maps of the pose of the nearest frame",
    }


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


class Generator(nn.Module):
    """The network.

    Args:
        maps: Channels C of a pose's maps.
        width: Channels at full size; the other sizes have multiples.

    Example:
        >>> network = Generator(maps=5)
        >>> image = torch.zeros(1, 3, 32, 16)
        >>> maps = torch.zeros(1, 5, 8, 4)
        >>> network(image, image, image, maps, maps).shape
        torch.Size([1, 3, 32, 16])
    """

    def __init__(self, maps: int, width: int = 12) -> None:
        super().__init__()
        self.maps, self.width = maps, width
        self.at_full = _block(9, width)
        self.at_half = _block(width, 2 * width, 2)
        self.at_quarter = nn.Sequential(_block(2 * width, 4 * width, 2), _block(4 * width, 4 * width))
        self.poses = _block(2 * maps, 4 * width)
        self.at_eighth = nn.Sequential(_block(8 * width, 6 * width, 2), _block(6 * width, 6 * width))
        self.deep = nn.Sequential(
            _block(6 * width, 8 * width, 2), _block(8 * width, 8 * width), _block(8 * width, 6 * width)
        )
        self.up_eighth = _block(12 * width, 6 * width)
        self.up_quarter = nn.Sequential(_block(14 * width, 6 * width), _block(6 * width, 4 * width))
        self.up_half = _block(6 * width, 2 * width)
        self.up_full = _block(3 * width, width)
        self.last = nn.Conv2d(width, 5, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        with torch.no_grad():
            self.last.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -2.0, 2.0]))

    def forward(
        self,
        nearest: Float[Tensor, "B 3 H W"],
        before: Float[Tensor, "B 3 H W"],
        plate: Float[Tensor, "B 3 H W"],
        pose: Float[Tensor, "B C h w"],
        nearest_pose: Float[Tensor, "B C h w"],
    ) -> Float[Tensor, "B 3 H W"]:
        """Draw the person in a pose, before the background; values are 0..1."""
        full = self.at_full(torch.cat((nearest, before, plate), 1) - 0.5)
        half = self.at_half(full)
        quarter = torch.cat((self.at_quarter(half), self.poses(torch.cat((pose, nearest_pose), 1))), 1)
        eighth = self.at_eighth(quarter)
        x = self.up_eighth(torch.cat((_grown(self.deep(eighth), eighth), eighth), 1))
        x = self.up_quarter(torch.cat((_grown(x, quarter), quarter), 1))
        x = self.up_half(torch.cat((_grown(x, half), half), 1))
        x = self.up_full(torch.cat((_grown(x, full), full), 1))
        # In float32: differences of one step of 255 count.
        out = self.last(x).float()
        drawn = (nearest + out[:, :3]).clamp(0, 1)
        shares = torch.softmax(torch.cat((out[:, 3:4], out[:, 4:5]), 1), 1)
        return cast(Tensor, shares[:, :1] * plate + shares[:, 1:] * drawn)


def _grown(x: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
