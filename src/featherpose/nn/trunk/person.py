"""The trunk for crops: the project's single-person network, a small high-resolution network.

Branches at strides 4, 8, 16 and 32 run side by side. In each of them two gated units (1x1 to half of the channels,
depthwise 3x3, 1x1 back, added to the gated input) follow each other; then the branches exchange features. It is the
shape of Lite-HRNet (Yu et al. 2021, arXiv 2104.06403) in which splits, concatenations and shuffles of channels are
written as gates and zeros, so that every operation is a convolution, an addition or an upsampling.

Convention
    Input: BGR crops, 0..255, height and width multiples of 32; 224x160 is what the weights were trained for. A cell
    (i, j) of stride 4 stands for pixel (4i, 4j), not for the center of 4x4 pixels: `centered` moves features there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "PERSON_CHANNELS",
    "PERSON_EXCHANGES",
    "Down",
    "Exchange",
    "PersonFeatures",
    "PersonLayers",
    "PersonTrunk",
    "Unit",
    "centered",
]

PERSON_CHANNELS = 40, 80, 160, 320
"""Channels at strides 4, 8, 16 and 32."""
PERSON_EXCHANGES = 2, 4, 2
"""Exchanges with two, three and four branches."""

_STEM = 32
# ImageNet's mean and standard deviation, RGB, in 0..1.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PersonFeatures(NamedTuple):
    """The features that heads read: those behind the trunk's own way up, and its branches."""

    top4: Float[Tensor, "B 40 h4 w4"]
    b4: Float[Tensor, "B 40 h4 w4"]
    b8: Float[Tensor, "B 80 h8 w8"]
    b16: Float[Tensor, "B 160 h16 w16"]
    b32: Float[Tensor, "B 320 h32 w32"]


def _spatial(channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, 1, groups=channels)


def _pointwise(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 1)


class Unit(nn.Module):
    """``ReLU(leave(spatial(ReLU(enter(x)))) + gate * x)``.

    Args:
        channels: In and out.
        gated: Whether there is a gate for each channel; without one the unit is a plain residual block.
    """

    gate: nn.Parameter | None

    def __init__(self, channels: int, *, gated: bool = True) -> None:
        super().__init__()
        half = channels // 2
        self.enter, self.spatial, self.leave = _pointwise(channels, half), _spatial(half), _pointwise(half, channels)
        self.gate = nn.Parameter(torch.ones(1, channels, 1, 1)) if gated else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the unit."""
        kept = x if self.gate is None else self.gate * x
        return F.relu(self.leave(self.spatial(F.relu(self.enter(x)))) + kept)


class Down(nn.Module):
    """From a finer branch to a coarser one: depthwise 3x3 at stride 2 and 1x1, repeated, ReLU between repetitions."""

    def __init__(self, channels: int, out: int, steps: int, *, last_relu: bool = False) -> None:
        super().__init__()
        self.steps = nn.ModuleList(
            nn.ModuleList((_spatial(channels, 2), _pointwise(channels, out if k == steps - 1 else channels)))
            for k in range(steps)
        )
        self.last_relu = last_relu

    def forward(self, x: Tensor) -> Tensor:
        """Halve height and width at each repetition."""
        for k, step in enumerate(self.steps):
            first, second = step.children()
            x = second(first(x))
            if k < len(self.steps) - 1 or self.last_relu:
                x = F.relu(x)
        return x


class Exchange(nn.Module):
    """Two units a branch, then each receives the others: coarser ones by 1x1 and repetition, finer by `Down`.

    Args:
        channels: Of the branches, finest first.
        far: Whether a branch receives from all others; from its neighbors alone otherwise.
        gated: Whether units have gates.
    """

    def __init__(self, channels: Sequence[int], *, far: bool = True, gated: bool = True) -> None:
        super().__init__()
        n = len(channels)
        self.units = nn.ModuleList(nn.Sequential(Unit(c, gated=gated), Unit(c, gated=gated)) for c in channels)
        self.reach = reach = n if far else 1
        self.up = nn.ModuleDict(
            {
                f"{j}{i}": _pointwise(channels[j], channels[i])
                for i in range(n)
                for j in range(i + 1, min(n, i + 1 + reach))
            }
        )
        self.down = nn.ModuleDict(
            {f"{j}{i}": Down(channels[j], channels[i], i - j) for i in range(n) for j in range(max(0, i - reach), i)}
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Compute the branches behind the exchange, finest first, in and out."""
        own = [unit(x) for unit, x in zip(self.units, branches, strict=True)]
        sums: list[Tensor] = []
        for i, y in enumerate(own):
            for j in range(max(0, i - self.reach), i):
                # What goes down from the finest branch is its sum.
                y = y + self.down[f"{j}{i}"](sums[0] if j == 0 else own[j])
            for j in range(i + 1, min(len(own), i + 1 + self.reach)):
                y = y + F.interpolate(self.up[f"{j}{i}"](own[j]), scale_factor=float(2 ** (j - i)), mode="nearest")
            sums.append(y)
        return [F.relu(total) for total in sums]


class _Stem(nn.Module):
    """32 channels at stride 4 from RGB, 0..255."""

    mean: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _STEM, 3, 2, 1)
        self.near = nn.Sequential(_spatial(_STEM, 2), _pointwise(_STEM, _STEM))
        self.enter = _pointwise(_STEM, _STEM)
        self.far = nn.Sequential(_spatial(_STEM, 2), _pointwise(_STEM, _STEM))
        self.register_buffer("mean", 255 * torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(_STD).view(1, 3, 1, 1)), persistent=False)

    def forward(self, rgb: Tensor) -> Tensor:
        x = F.relu(self.stem((rgb - self.mean) * self.scale))
        return F.relu(self.near(x) + self.far(F.relu(self.enter(x))))


class PersonLayers(nn.Module):
    """The layers of the trunk, by the names of the single-person network's weights.

    Args:
        exchanges: Exchanges with two, three and four branches, each at least one.
        far: Whether branches exchange features over several strides at once; with their neighbors alone otherwise.
        gated: Whether units have gates.
    """

    def __init__(self, exchanges: Sequence[int] = PERSON_EXCHANGES, *, far: bool = True, gated: bool = True) -> None:
        super().__init__()
        channels = PERSON_CHANNELS
        self.stem = _Stem()
        self.first = nn.Sequential(_spatial(_STEM), _pointwise(_STEM, channels[0]))
        self.widen = nn.ModuleList(
            Down(channels[k] if k else _STEM, channels[k + 1], 1, last_relu=True) for k in range(3)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(Exchange(channels[: k + 2], far=far, gated=gated) for _ in range(count))
            for k, count in enumerate(exchanges)
        )
        tops = (*channels[::-1], channels[0])
        self.head = nn.ModuleList(nn.Sequential(_spatial(a), _pointwise(a, b)) for a, b in pairwise(tops))

    def features(self, bgr: Float[Tensor, "B 3 H W"]) -> PersonFeatures:
        """Compute the features of BGR crops, 0..255."""
        x = self.stem(bgr.flip(1))
        branches = [F.relu(self.first(x))]
        for k, stage in enumerate(self.stages):
            branches.append(self.widen[k](branches[-1] if k else x))
            for exchange in stage.children():
                branches = exchange(branches)
        top: Tensor | None = None
        for branch, layers in zip(reversed(branches), self.head, strict=True):
            if top is not None:
                branch = branch + F.interpolate(top, size=branch.shape[2:], mode="bilinear", align_corners=True)
            top = F.relu(layers(branch))
        assert top is not None
        return PersonFeatures(top, *branches)


class PersonTrunk(PersonLayers):
    """Features of one person at strides 4 to 32.

    Example:
        >>> features = PersonTrunk().eval()(torch.zeros(1, 3, 64, 32))
        >>> [tuple(x.shape[1:]) for x in features]
        [(40, 16, 8), (40, 16, 8), (80, 8, 4), (160, 4, 2), (320, 2, 1)]
    """

    def forward(self, bgr: Float[Tensor, "B 3 H W"]) -> PersonFeatures:
        """Compute the features of BGR crops, 0..255."""
        return self.features(bgr)


def centered(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """Move maps of stride 4 whose cells stand for pixels 4i to cells that stand for 4i + 1.5, by interpolation.

    Example:
        >>> ramp = torch.arange(5.0).expand(1, 1, 5, 5)
        >>> centered(ramp)[0, 0, 0].tolist()
        [0.375, 1.375, 2.375, 3.375, 4.0]
    """
    part = 1.5 / 4
    wide = F.pad(maps, (0, 1, 0, 1), mode="replicate")
    across = (1 - part) * wide[..., :-1] + part * wide[..., 1:]
    return (1 - part) * across[:, :, :-1] + part * across[:, :, 1:]
