"""DeepPose in published size (Toshev and Szegedy 2014, arXiv 1312.4659).

Section 3.1 and figure 2: the network of Krizhevsky et al. on a 220x220 crop,
C(55x55x96) - LRN - P - C(27x27x256) - LRN - P - C(13x13x384) - C(13x13x384) - C(13x13x256) - P - F(4096) - F(4096),
and a linear layer that regresses every joint's coordinates. A cascade of such networks (section 3.2) looks at
sub-images around each joint; one stage is counted here. Besides the paper's 2K numbers there is one more a keypoint:
whether it is in the crop at all.
"""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.methods.method import Method
from featherpose.methods.regression import REGRESSION
from featherpose.nn.outputs import Coordinates, PoseModule, normalized
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["DeepPose"]

_FEATURES = 256 * 6 * 6


class DeepPose(PoseModule):
    """One stage of DeepPose.

    Args:
        skeleton: Keypoints of the outputs.

    Example:
        >>> import torch
        >>> with torch.device("meta"):
        ...     (stage,) = DeepPose()(torch.zeros(1, 3, 220, 220))
        >>> tuple(stage.coordinates.shape)
        (1, 34, 1, 1)
    """

    MARK: ClassVar[str] = "regress.0.weight"
    method: Method = REGRESSION
    crop = CropShape(width=220, height=220)
    size_multiple = 4

    def __init__(self, skeleton: Skeleton = COCO_17) -> None:
        super().__init__(skeleton, REGRESSION.outputs(skeleton))
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 96, 11, 4, 4), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
            nn.Conv2d(96, 256, 5, 1, 2), nn.ReLU(), nn.LocalResponseNorm(5), nn.MaxPool2d(3, 2),
            nn.Conv2d(256, 384, 3, 1, 1), nn.ReLU(), nn.Conv2d(384, 384, 3, 1, 1), nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        )  # fmt: skip
        self.regress = nn.Sequential(
            nn.Linear(_FEATURES, 4096), nn.ReLU(), nn.Dropout(0.6), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.6),
            nn.Linear(4096, 3 * skeleton.num_keypoints),
        )  # fmt: skip

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[Coordinates, ...]:
        """Compute coordinates and presence for BGR images, 0..255; one stage."""
        # 6x6 cells at 220x220 already; other inputs are brought to it.
        x = F.interpolate(self.convolutions(normalized(images)), size=(6, 6), mode="bilinear", align_corners=False)
        found, k = self.regress(x.flatten(1))[:, :, None, None], self.skeleton.num_keypoints
        return (Coordinates(found[:, : 2 * k], found[:, 2 * k :].sigmoid()),)
