"""feather: the project's own network, a pose-trained trunk with heatmaps at stride 4 and PAFs at stride 8.

Convention
    Input: BGR images, 0..255; any height and width that are multiples of 8. Normalization is inside the network.
    Output: heatmaps in 0..1, one channel a keypoint in the skeleton's order, stride 4; part affinity fields, two
    channels a limb, stride 8. Cell c of a map with stride t is centered at pixel ``t * c + (t - 1) / 2``.

The trunk is MobileNet v2 as MoveNet MultiPose has it (`featherpose.nn.movenet`) behind a narrower front
(`featherpose.nn.feather_front`); `from_movenet` assembles a network that already finds keypoints and whose PAF head
is new.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.errors import ModelError
from featherpose.methods.method import Method
from featherpose.methods.paf.method import PAF
from featherpose.nn.equalization.feather_equalization import cross_layer_equalization
from featherpose.nn.feather_front import FeatherFront, FrontShape
from featherpose.nn.movenet import (
    TAIL_WIDTHS,
    FrontFeatures,
    KeypointHead,
    MoveNetTrunk,
    Pyramid,
    TrunkTail,
    read_movenet,
    upsampled_onto,
)
from featherpose.nn.outputs import PoseModule, Split, StageMaps
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

__all__ = ["Feather", "KeypointContext", "PafHead", "Smoothing", "TrunkFeatures"]


class TrunkFeatures(NamedTuple):
    """Features that the heads read."""

    p4: Float[Tensor, "B 24 h4 w4"]
    p8: Float[Tensor, "B 24 h8 w8"]
    c8: Float[Tensor, "B 48 h8 w8"]
    d16: Float[Tensor, "B 144 h16 w16"]
    c32: Float[Tensor, "B T h32 w32"]


class _Separable(nn.Module):
    """Residual block of depthwise 3x3 and 1x1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, 1, 1, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.pointwise(self.depthwise(x)))


class PafHead(nn.Module):
    """Part affinity fields at stride 8 from the trunk's strides 32, 16 and 8.

    A 1x1 convolution brings every level to the same width. Context is computed at stride 16, where a dense 3x3 costs
    little; only cheap separable blocks run at stride 8.
    """

    def __init__(self, limbs: int, channels: int = 128, blocks: int = 4, *, top: int = TAIL_WIDTHS[-1]) -> None:
        super().__init__()
        self.from32 = nn.Conv2d(top, channels, 1)
        self.from16 = nn.Conv2d(144, channels, 1)
        self.context = nn.Conv2d(channels, channels, 3, 1, 1)
        self.blocks16 = nn.ModuleList((_Separable(channels),))
        self.from8 = nn.Conv2d(48, channels, 1)
        self.from_pyramid = nn.Conv2d(24, channels, 1)
        self.blocks8 = nn.ModuleList(_Separable(channels) for _ in range(blocks))
        self.hidden = nn.Conv2d(channels, channels, 1)
        self.out = nn.Conv2d(channels, 2 * limbs, 1)

    def forward(
        self, p8: Tensor, c8: Tensor, d16: Tensor, c32: Tensor
    ) -> tuple[Float[Tensor, "B D h8 w8"], Float[Tensor, "B N h8 w8"]]:
        """Compute the fields, and the features of the layer before them, from `TrunkFeatures`."""
        x = F.relu(upsampled_onto(self.from32(c32), self.from16(d16)))
        x = x + F.relu(self.context(x))
        for block in self.blocks16:
            x = block(x)
        x = F.relu(upsampled_onto(x, self.from8(c8) + self.from_pyramid(p8)))
        for block in self.blocks8:
            x = block(x)
        return self.out(F.relu(self.hidden(x))), x


class KeypointContext(nn.Module):
    """Heatmap logits from the PAF head's features, added to the keypoint head's logits at stride 4.

    The keypoint head sees 24 channels and a small neighborhood; limb directions disambiguate its maxima. The logits
    are added before the sigmoid, so either can suppress the other. All layers but the first start at zero, so adding
    this part to a trained network, or adding blocks to this part, changes nothing at first.

    Args:
        channels: Of the PAF head.
        keypoints: Heatmaps.
        hidden: Channels behind the first 1x1 convolution.
        blocks: Residual dense 3x3 convolutions at stride 8.
        fine: Whether logits at stride 4 are computed as well, four for each cell of stride 8 (Shi et al. 2016).
    """

    def __init__(self, channels: int, keypoints: int, hidden: int = 64, *, blocks: int = 0, fine: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 1)
        self.blocks = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, 1, 1) for _ in range(blocks))
        self.out = nn.Conv2d(hidden, keypoints, 1)
        self.fine = nn.Conv2d(hidden, 4 * keypoints, 1) if fine else None
        for layer in (*self.blocks, self.out, self.fine):
            if isinstance(layer, nn.Conv2d):
                nn.init.zeros_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(
        self, features: Float[Tensor, "B N h8 w8"]
    ) -> tuple[Float[Tensor, "B K h8 w8"], Float[Tensor, "B K h4 w4"] | None]:
        """Compute the logits to be added: those of stride 8, and those of stride 4 if there are any."""
        x = F.relu(self.hidden(features))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return self.out(x), None if self.fine is None else F.pixel_shuffle(self.fine(x), 2)


class Smoothing(nn.Module):
    """A fixed Gaussian over the finished heatmaps.

    At stride 4 the trunk's heatmaps often show one joint as two maxima a few cells apart, which the decoder would
    assign to two people. One cell of blur joins them and stabilizes the sub-cell position. Losses are computed after
    it.

    Args:
        channels: Heatmaps.
        sigma: In cells.
    """

    kernel: Tensor

    def __init__(self, channels: int, sigma: float = 1.0) -> None:
        super().__init__()
        offsets = torch.arange(-2, 3, dtype=torch.float32)
        line = torch.exp(-(offsets**2) / (2 * sigma**2))
        line = line / line.sum()
        square = (line[:, None] * line[None]).repeat(channels, 1, 1, 1)
        # Not a weight: it follows from the architecture, so it is not in checkpoints.
        self.register_buffer("kernel", square, persistent=False)

    def forward(self, heatmaps: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K h w"]:
        """Blur the heatmaps; cells outside count as their nearest neighbor inside."""
        padded = F.pad(heatmaps, (2, 2, 2, 2), mode="replicate")
        return F.conv2d(padded, self.kernel.to(heatmaps.dtype), groups=heatmaps.shape[1])


class Feather(PoseModule):
    """Trunk, keypoint head and PAF head.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        channels: Width of the PAF head.
        blocks: Separable blocks of the PAF head at stride 8.
        front: Widths of the first layers.
        tail: Expanded channels of the trunk's thirteen blocks behind them, and those at its end.
        context_blocks: Dense convolutions of the part that turns the PAF head's features into heatmap logits.
        fine: Whether that part computes logits at stride 4 as well.

    Example:
        >>> net = Feather(OPENPOSE_18).eval()
        >>> ((heatmaps, pafs),) = net(torch.zeros(1, 3, 64, 96))
        >>> tuple(heatmaps.shape), tuple(pafs.shape)
        ((1, 18, 16, 24), (1, 38, 8, 12))
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("channels", "blocks", "front", "tail", "context_blocks", "fine")
    MARK: ClassVar[str] = "pyramid.top.weight"
    FROM_WEIGHTS: ClassVar[tuple[str, ...]] = ("front", "tail")

    method: Method = PAF
    probabilities = True

    def __init__(self, skeleton: Skeleton = OPENPOSE_18, *, channels: int = 128, blocks: int = 4,
                 front: FrontShape | None = None, tail: Sequence[int] = TAIL_WIDTHS,
                 context_blocks: int = 2, fine: bool = True) -> None:  # fmt: skip
        super().__init__(skeleton, PAF.outputs(skeleton, strides={"heatmaps": 4}))
        self.front = FeatherFront(front)
        self.tail = TrunkTail(tail)
        self.pyramid = Pyramid(tail[-1])
        self.keypoints = KeypointHead(skeleton.num_keypoints)
        self.pafs = PafHead(skeleton.num_limbs, channels, blocks, top=tail[-1])
        self.context = KeypointContext(channels, skeleton.num_keypoints, blocks=context_blocks, fine=fine)
        self.smooth = Smoothing(skeleton.num_keypoints)

    @classmethod
    def from_movenet(cls, trunk: MoveNetTrunk, images: Sequence[Float[Tensor, "1 3 H W"]],
                     skeleton: Skeleton = OPENPOSE_18, *, channels: int = 128, blocks: int = 4,
                     front: FrontShape | None = None, **context: Any) -> Feather:  # fmt: skip
        """Build a network with the public network's trunk and its heatmaps of the keypoints that it has.

        Heatmaps of other keypoints, such as the neck, start near 0. The front is fitted on ``images``.
        """
        net = cls(skeleton, channels=channels, blocks=blocks, front=front, **context)
        net.front.start_from(trunk.front, images)
        net.tail.load_state_dict(trunk.tail.state_dict())
        net.pyramid.load_state_dict(trunk.pyramid.state_dict())
        head, known = net.keypoints, trunk.keypoints
        head.depthwise.load_state_dict(known.depthwise.state_dict())
        head.hidden.load_state_dict(known.hidden.state_dict())
        if head.out.bias is None or known.out.bias is None:
            raise ModelError("a keypoint head has no biases")
        with torch.no_grad():
            for k, sources in enumerate(COCO_17.mapping_to(skeleton)):
                if len(sources) == 1:
                    head.out.weight[k] = known.out.weight[sources[0]]
                    head.out.bias[k] = known.out.bias[sources[0]]
                else:
                    head.out.weight[k] = 0
                    head.out.bias[k] = -5.0
        return net

    def features(self, bgr: Float[Tensor, "B 3 H W"]) -> TrunkFeatures:
        """Compute the features that the heads read."""
        return self.features_behind(self.front(bgr))

    def features_behind(self, front: FrontFeatures) -> TrunkFeatures:
        """Compute the features that the heads read from those of the front."""
        c8, c16, d16, c32 = self.tail(front.stride8)
        _, p8, p4 = self.pyramid(front.stride4, c8, c16, c32)
        return TrunkFeatures(p4, p8, c8, d16, c32)

    def logits(self, features: TrunkFeatures) -> StageMaps:
        """Compute heatmap logits, not yet smoothed, and fields."""
        fields, inside = self.pafs(features.p8, features.c8, features.d16, features.c32)
        coarse, fine = self.context(inside)
        own = self.keypoints(features.p4)
        return StageMaps(upsampled_onto(coarse, own if fine is None else own + fine), fields)

    def smoothed(self, logits: StageMaps) -> StageMaps:
        """Turn logits into smoothed probabilities; fields stay as they are."""
        return StageMaps(self.smooth(torch.sigmoid(logits.heatmaps.float())), logits.pafs)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Compute heatmaps and fields of BGR images, 0..255; one stage."""
        return (self.smoothed(self.logits(self.features(images.to(self.pafs.out.weight.dtype)))),)

    def splits(self) -> tuple[Split, ...]:
        """Split behind the pyramid, or behind the front."""
        return (
            Split(("front", "tail", "pyramid"), TrunkFeatures._fields, self.features,
                  lambda seen: self._stages(TrunkFeatures(*seen))),
            Split(("front",), FrontFeatures._fields, self.front,
                  lambda seen: self._stages(self.features_behind(FrontFeatures(*seen)))),
        )  # fmt: skip

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Compute the one stage; sigmoid and smoothing in float32, in every precision of the run."""
        return self._stages(self.features(images))

    def _stages(self, features: TrunkFeatures) -> tuple[StageMaps, ...]:
        logits = self.logits(features)
        # Near 0 and 1, shorter formats are too coarse for a cross-entropy.
        with torch.autocast(features.p4.device.type, enabled=False):
            return (self.smoothed(logits),)

    def equalize(self, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Give all channels about equal ranges, in place, without changing the outputs (better INT8)."""
        cross_layer_equalization(self.eval(), images)

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the options of these weights: widths and blocks; none if they are of another network."""
        if "pafs.out.weight" not in tensors:
            return {}
        blocks = {match[1] for n in tensors if (match := re.match(r"pafs\.blocks8\.(\d+)\.", n))}
        layers = {"stem": "stem", "first": "first.expand", "block": "block.expand", "entry": "entry.expand"}
        widths = {part: tensors.get(f"front.{layer}.weight") for part, layer in layers.items()}
        front = FrontShape(**{part: len(weight) for part, weight in widths.items() if weight is not None})
        places = [name for name in tensors if re.fullmatch(r"tail\.stages\.\d\.\d\.expand\.weight", name)]
        tail = tuple(len(tensors[name]) for name in (*sorted(places), "tail.top.weight") if name in tensors)
        context_blocks = {match[1] for n in tensors if (match := re.match(r"context\.blocks\.(\d+)\.", n))}
        return {
            "channels": tensors["pafs.out.weight"].shape[1], "blocks": len(blocks), "front": front,
            "tail": tail or TAIL_WIDTHS, "context_blocks": len(context_blocks),
            "fine": "context.fine.weight" in tensors,
        }  # fmt: skip

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints and limbs by the widths of the last layers."""
        if "keypoints.out.weight" not in tensors or "pafs.out.weight" not in tensors:
            return None
        return tensors["keypoints.out.weight"].shape[0], tensors["pafs.out.weight"].shape[0] // 2

    @classmethod
    def from_published(
        cls, path: Path, images: Callable[[], Sequence[Float[Tensor, "1 3 H W"]]], skeleton: Skeleton, **options: Any
    ) -> Feather | None:
        """Start from the public MoveNet ``.tflite``, see `from_movenet`."""
        if path.suffix != ".tflite":
            return None
        return cls.from_movenet(read_movenet(path), images(), skeleton, **options)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Name the parts in the order of the data."""
        return {
            "front": ("front",),
            "trunk": ("tail",),
            "pyramid": ("pyramid",),
            "pafs": ("pafs",),
            "heatmaps": ("keypoints", "context", "smooth"),
        }

    @torch.no_grad()
    def normalize_inputs_of_pafs(self, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Fold each feature's scale on real images into the new head's first layers.

        The trunk's batch norms are folded away, so its levels differ in scale by two orders of magnitude; without
        this the level with the largest values dominates the head.
        """
        seen = [self.features(image) for image in images]
        head = self.pafs
        for name, conv in (("c32", head.from32), ("d16", head.from16), ("c8", head.from8), ("p8", head.from_pyramid)):
            values = torch.cat([getattr(f, name).transpose(0, 1).flatten(1) for f in seen], dim=1)
            mean, std = values.mean(1), values.std(1).clamp(min=1e-3 * float(values.std()))
            conv.weight.mul_((1 / std)[None, :, None, None])
            if conv.bias is not None:
                conv.bias.copy_(-(conv.weight[:, :, 0, 0] @ mean))
