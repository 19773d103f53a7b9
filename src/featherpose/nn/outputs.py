"""What every network of featherpose takes and gives: the one interface of training, export and analysis.

Convention
    Input: BGR pictures as float or uint8 values 0..255, [B 3 H W], H and W multiples of the larger stride.
    Normalisation is inside the network, so that nothing outside can disagree about it.
    Output: one `StageMaps` for each stage, in order; the last one is the network's answer, the earlier ones are for
    intermediate supervision and analysis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Num
from torch import Tensor

from featherpose.skeleton import Skeleton

__all__ = ["PoseNetwork", "StageMaps", "normalised"]


class StageMaps(NamedTuple):
    """What one stage says about a batch.

    Attributes:
        heatmaps: float[B, C, h, w], C = K, or K + 1 with the background last.
        pafs: float[B, 2L, h', w'], channels as in `Skeleton.paf_channels`.
    """

    heatmaps: Float[Tensor, "B C h w"]
    pafs: Float[Tensor, "B D v u"]


@runtime_checkable
class PoseNetwork(Protocol):
    """A `torch.nn.Module` that finds keypoints and limbs."""

    skeleton: Skeleton
    heatmap_stride: int
    paf_stride: int
    size_multiple: int

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Name of each part for people, in the order of the data, and the modules that make it up."""
        ...

    def __call__(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Maps of every stage; the last one counts."""
        ...


def normalised(images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """(x - 128) / 256, the range that Lightweight OpenPose and OpenPose are trained on.

    Example:
        >>> import torch
        >>> normalised(torch.tensor([[[[0, 128]]]], dtype=torch.uint8)).flatten().tolist()
        [-0.5, 0.0]
    """
    return (images - 128.0) * (1.0 / 256.0)
