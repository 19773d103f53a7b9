"""RMPE on the trunk: a spatial transformer between two looks at a crop (Fang et al. 2017, arXiv 1612.00137, 3.1).

The trunk looks at the crop as it is; a localization network reads its coarsest features and says where in the crop the
person is. That region is resampled to the crop's size, and the trunk and two hourglasses look at it (the single-person
estimator, SPPE). The inverse transformation brings the heatmaps back, so from outside the network is like any other.

In training the parallel branch, the head of the project's single-person network, reads the features of the region
(`featherpose.methods.recentered`). It shares the trunk with the branch that is trained, since both are frozen. Its
gradient reaches the transformer through the pixels of the region.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.method import Method
from featherpose.methods.recentered import RECENTERED
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.layers.transformer import axis_aligned, inverse_of, transformed
from featherpose.nn.outputs import Split, Stage
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.nn.trunk.light_hourglass import LightHourglass
from featherpose.nn.trunk.network import full_precision
from featherpose.nn.trunk.person import PERSON_CHANNELS, centered
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["LightRmpe", "ParallelMaps"]

# The coarsest level is brought to this many cells, those of a 224x160 crop.
_GRID = 7, 5


class ParallelMaps(NamedTuple):
    """The parallel branch's output, of training alone.

    Attributes:
        parallel: float[B, K, h, w] of the region, not brought back.
    """

    parallel: Float[Tensor, "B K h w"]


class _Localization(nn.Module):
    """The region of the crop in which the person is, from the trunk's coarsest features."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(channels, affine=False)
        self.reduce = conv_norm_relu(channels, 32, 1)
        self.hidden = nn.Linear(32 * _GRID[0] * _GRID[1], 64)
        self.region = nn.Linear(64, 4)
        nn.init.zeros_(self.region.weight)
        nn.init.zeros_(self.region.bias)

    def forward(self, coarse: Tensor) -> Float[Tensor, "B 2 3"]:
        x = F.interpolate(
            self.reduce(self.normalize(coarse)), size=_GRID, mode="bilinear", align_corners=False
        )  # fmt: skip
        return axis_aligned(self.region(F.relu(self.hidden(x.flatten(1)))).float())


class LightRmpe(LightHourglass):
    """Heatmaps of one person at stride 4, from a crop that need not be centered.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> stages = LightRmpe().eval()(torch.zeros(1, 3, 64, 32))
        >>> len(stages), tuple(stages[-1].heatmaps.shape)
        (2, (1, 17, 16, 8))
    """

    MARK: ClassVar[str] = "localization.region.weight"
    method: Method = RECENTERED

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton)
        self.localization = _Localization(PERSON_CHANNELS[3])
        self.parallel = nn.Conv2d(PERSON_CHANNELS[0], skeleton.num_keypoints, 1)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute every stack's heatmaps in the crop as it was given, for BGR crops, 0..255."""
        floats = images.to(next(self.decoder.parameters()).dtype)
        return self._behind_localization(floats, self.features(floats).b32, training=False)

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute every stack's heatmaps, and those of the parallel branch."""
        return self._behind_localization(images, self.features(images).b32, training=True)

    def splits(self) -> tuple[Split, ...]:
        """Split behind the first look: its coarsest features, and the crop itself."""
        return (
            Split(
                ("person",), ("b32", "crop"), lambda bgr: (self.features(bgr).b32, bgr),
                lambda seen: self._behind_localization(seen[1], seen[0], training=True),
            ),
        )  # fmt: skip

    def _behind_localization(self, images: Tensor, coarse: Tensor, *, training: bool) -> tuple[Stage, ...]:
        region = self.localization(coarse)
        # Depthwise layers are slower in short formats, there and back.
        with full_precision(images):
            seen = self.features(transformed(images, region))
        stages: list[Stage] = []
        back = inverse_of(region)
        for stage in self._behind_trunk(seen):
            assert isinstance(stage, SinglePersonMaps)
            stages.append(SinglePersonMaps(transformed(stage.heatmaps, back)))
        if training:
            stages.append(ParallelMaps(centered(self.parallel(seen.top4))))
        return tuple(stages)

    @classmethod
    def from_published(
        cls, path: Path, images: Callable[[], Sequence[Float[Tensor, "1 3 H W"]]], skeleton: Skeleton, **options: Any
    ) -> Self | None:
        """Start trunk and parallel branch from the single-person network; None for a checkpoint of a light network.

        Keypoints that the single-person network does not know have no parallel heatmap: it is 0, and teaches nothing.
        """
        network = super().from_published(path, images, skeleton, **options)
        if network is not None:
            from safetensors.torch import load_file

            tensors = load_file(path)
            rows = [COCO_17.keypoints.index(n) if n in COCO_17.keypoints else -1 for n in skeleton.keypoints]
            with torch.no_grad():
                for own, name in (
                    (network.parallel.weight, "heatmaps.weight"),
                    (network.parallel.bias, "heatmaps.bias"),
                ):
                    assert own is not None
                    for row, origin in enumerate(rows):
                        own[row] = tensors[name][origin].float() if origin >= 0 else 0
        return network
