"""What the light networks share: a pose-trained trunk, a dense decoder over its levels, and a head of the subclass.

`ImageNetwork` stands on feather's trunk and sees whole images; `CropNetwork` stands on the trunk of the single-person
network and sees one person. Trunks are usually frozen (``freeze = ["person"]``, ``["front", "tail", "pyramid"]``), so
that a method is learned in minutes; weights of feather, of the single-person network or of any light network start
them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.errors import CheckpointError
from featherpose.methods.heatmap import HeatmapOptions
from featherpose.methods.method import Output
from featherpose.nn.feather import TrunkFeatures
from featherpose.nn.feather_front import FeatherFront
from featherpose.nn.layers.residual import conv_norm_relu
from featherpose.nn.movenet import Pyramid, TrunkTail, upsampled_onto
from featherpose.nn.outputs import PoseModule, Split, Stage
from featherpose.nn.trunk.person import PERSON_CHANNELS, PersonFeatures, PersonTrunk
from featherpose.skeleton import Skeleton

__all__ = [
    "EVERY_KEYPOINT",
    "LEVEL_STRIDES",
    "CropNetwork",
    "ImageNetwork",
    "Levels",
    "TrunkDecoder",
    "cell_indices",
    "full_precision",
    "maps_head",
    "probability",
    "raised",
]

LEVEL_STRIDES = 4, 8, 16, 32
EVERY_KEYPOINT = HeatmapOptions(min_score=0.02)
"""Rules for a network of crops: every keypoint gets a place, and who uses the pose decides by its score."""
# Nearly every cell of a target is 0: starting there saves the steps that would lead there.
_FIRST_LOGIT = -4.0

Levels = tuple[Tensor, Tensor, Tensor, Tensor]


class TrunkDecoder(nn.Module):
    """Features at strides 4, 8, 16 and 32: each level of the trunk, mixed with what the coarser ones know.

    A trunk's batch norms are folded away, so its levels may differ in scale by two orders of magnitude; each is
    normalized first.

    Args:
        channels: Of the trunk's levels at strides 4, 8, 16 and 32.
        widths: Channels of the decoder's levels.

    Example:
        >>> levels = [torch.zeros(1, c, 64 // s, 64 // s) for c, s in zip((24, 72, 144, 1280), (4, 8, 16, 32))]
        >>> [tuple(x.shape[1:]) for x in TrunkDecoder((24, 72, 144, 1280), (64, 96, 128, 160))(levels)]
        [(64, 16, 16), (96, 8, 8), (128, 4, 4), (160, 2, 2)]
    """

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.normalize = nn.ModuleList(nn.BatchNorm2d(c, affine=False) for c in channels)
        self.laterals = nn.ModuleList(nn.Conv2d(c, w, 1) for c, w in zip(channels, widths, strict=True))
        self.reduce = nn.ModuleList(nn.Conv2d(widths[i + 1], widths[i], 1) for i in range(3))
        self.mix = nn.ModuleList(conv_norm_relu(width, width) for width in widths)

    def forward(self, levels: Sequence[Tensor]) -> Levels:
        """Mix the levels; finest first, in and out."""
        inputs = [lateral(norm(x)) for lateral, norm, x in zip(self.laterals, self.normalize, levels, strict=True)]
        c32 = self.mix[3](inputs[3])
        c16 = self.mix[2](upsampled_onto(self.reduce[2](c32), inputs[2]))
        c8 = self.mix[1](upsampled_onto(self.reduce[1](c16), inputs[1]))
        c4 = self.mix[0](upsampled_onto(self.reduce[0](c8), inputs[0]))
        return c4, c8, c16, c32


class _OnTrunk(PoseModule):
    """A network whose subclass computes the stages from the decoder's features.

    Args:
        skeleton: Keypoints of the outputs.
        outputs: The method's outputs.
        decoder: Of the trunk's levels.
    """

    MARK: ClassVar[str] = ""

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output], decoder: TrunkDecoder) -> None:
        super().__init__(skeleton, outputs)
        self.decoder = decoder

    @abstractmethod
    def answer(self, levels: Levels) -> tuple[Stage, ...]:
        """Compute every stage from the decoder's features at strides 4, 8, 16 and 32."""

    @abstractmethod
    def features(self, bgr: Float[Tensor, "B 3 H W"]) -> Sequence[Tensor]:
        """Compute the trunk's features of BGR images, 0..255."""

    @abstractmethod
    def _behind_trunk(self, seen: Sequence[Tensor]) -> tuple[Stage, ...]: ...

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute every stage of BGR images, 0..255."""
        return self._behind_trunk(self.features(images.to(next(self.decoder.parameters()).dtype)))

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute the stages that the loss compares with the targets."""
        return self._behind_trunk(self.features(images))

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Nothing varies."""
        return {}


class ImageNetwork(_OnTrunk):
    """A network for whole images, on feather's trunk.

    Args:
        skeleton: Keypoints of the outputs.
        outputs: The method's outputs.
    """

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output]) -> None:
        super().__init__(skeleton, outputs, TrunkDecoder((24, 24 + 48, 144, 1280), (64, 96, 128, 160)))
        self.front = FeatherFront()
        self.tail = TrunkTail()
        self.pyramid = Pyramid()

    def features(self, bgr: Float[Tensor, "B 3 H W"]) -> TrunkFeatures:
        """Compute the trunk's features of BGR images, 0..255."""
        return self._behind_front(self.front(bgr))

    def splits(self) -> tuple[Split, ...]:
        """Split behind the trunk, or behind its front."""
        return (
            Split(("front", "tail", "pyramid"), TrunkFeatures._fields, self.features, self._behind_trunk),
            Split(("front",), ("stride4", "stride8"), self.front,
                  lambda seen: self._behind_trunk(self._behind_front(seen))),
        )  # fmt: skip

    def _behind_front(self, front: Sequence[Tensor]) -> TrunkFeatures:
        c8, c16, d16, c32 = self.tail(front[1])
        _, p8, p4 = self.pyramid(front[0], c8, c16, c32)
        return TrunkFeatures(p4, p8, c8, d16, c32)

    def levels(self, seen: Sequence[Tensor]) -> Levels:
        """Compute the decoder's features at strides 4 to 32 from the trunk's."""
        p4, p8, c8, d16, c32 = seen
        mixed: Levels = self.decoder((p4, torch.cat((p8, c8), 1), d16, c32))
        return mixed

    def _behind_trunk(self, seen: Sequence[Tensor]) -> tuple[Stage, ...]:
        return self.answer(self.levels(seen))


class CropNetwork(_OnTrunk):
    """A network for one person's crop, on the trunk of the single-person network.

    Args:
        skeleton: Keypoints of the outputs.
        outputs: The method's outputs.
    """

    START: ClassVar[str] = "refiner"
    size_multiple = 32
    crop = CropShape(width=160, height=224, margin=1.1)

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output]) -> None:
        c4, *coarser = PERSON_CHANNELS
        super().__init__(skeleton, outputs, TrunkDecoder((2 * c4, *coarser), (48, 64, 96, 128)))
        self.person = PersonTrunk()

    def features(self, bgr: Float[Tensor, "B 3 H W"]) -> PersonFeatures:
        """Compute the trunk's features of BGR crops, 0..255."""
        features: PersonFeatures = self.person(bgr)
        return features

    def splits(self) -> tuple[Split, ...]:
        """Split behind the trunk."""
        return (Split(("person",), PersonFeatures._fields, self.features, self._behind_trunk),)

    def _behind_trunk(self, seen: Sequence[Tensor]) -> tuple[Stage, ...]:
        top4, b4, b8, b16, b32 = seen
        return self.answer(self.decoder((torch.cat((top4, b4), 1), b8, b16, b32)))

    @classmethod
    def from_published(
        cls, path: Path, images: Callable[[], Sequence[Float[Tensor, "1 3 H W"]]], skeleton: Skeleton, **options: Any
    ) -> Self | None:
        """Start from the weights of the single-person network; None for a checkpoint of a light network."""
        from safetensors.torch import load_file

        if path.suffix != ".safetensors" or not path.is_file():
            return None
        try:
            tensors = load_file(path)
        except Exception as error:  # whatever is wrong with it
            raise CheckpointError(
                f"{path} is truncated, damaged or no checkpoint", hint="get the file again"
            ) from error
        if "widen.0.steps.0.0.weight" not in tensors:
            return None
        network = cls(skeleton, **options)
        trunk = network.person.state_dict()
        try:
            network.person.load_state_dict({name: tensors[name].float() for name in trunk})
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{path} is of another single-person network", expected="its published size"
            ) from error
        return network


def maps_head(channels: int, out: int, *, first: float = _FIRST_LOGIT) -> nn.Conv2d:
    """Make the last layer of a head: 1x1, of small weights, whose logits start near ``first``."""
    layer = nn.Conv2d(channels, out, 1)
    nn.init.normal_(layer.weight, std=0.01)
    assert layer.bias is not None
    nn.init.constant_(layer.bias, first)
    return layer


def probability(logits: Tensor) -> Tensor:
    """Sigmoid in float32, whatever the run's precision: near 0 and 1, shorter formats are too coarse."""
    with full_precision(logits):
        return torch.sigmoid(logits.float())


def full_precision(values: Tensor) -> AbstractContextManager[object]:
    """Compute with values like these in the formats that they have, whatever the run's precision."""
    if values.is_meta:  # which knows no autocast
        return nullcontext()
    return torch.autocast(values.device.type, enabled=False)


def cell_indices(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 2 h w"]:
    """Return the column and the row of each cell, from 0, in float32.

    Example:
        >>> cell_indices(torch.zeros(1, 5, 2, 3))[0].tolist()
        [[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]], [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]
    """
    # Sums of ones, so that an exported graph follows the size of its input.
    ones = torch.ones_like(x[:, :1], dtype=torch.float32)
    return torch.cat((ones.cumsum(3), ones.cumsum(2)), 1) - 1


def raised(x: Float[Tensor, "B C h w"], stride: int, like: Float[Tensor, "B D v u"]) -> Float[Tensor, "B C v u"]:
    """Upsample a level to the finest one, bilinearly; cells beyond that one are cut, as its alignment wants it.

    Args:
        x: Maps of the level.
        stride: Of the level.
        like: Maps of the finest level, whose size the result has.
    """
    if stride == LEVEL_STRIDES[0]:
        return x
    larger = F.interpolate(x, scale_factor=stride / LEVEL_STRIDES[0], mode="bilinear", align_corners=False)
    return larger[:, :, : like.shape[2], : like.shape[3]]
