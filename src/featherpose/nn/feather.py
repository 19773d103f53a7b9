"""feather: the network of our own, a pose-trained trunk with keypoint heatmaps at stride 4 and PAFs at stride 8.

Convention
    Input: BGR pictures, 0..255; any height and width that are multiples of 8. Normalisation is inside the network.
    Output: heatmaps in 0..1, one channel a keypoint in the skeleton's order, stride 4; part affinity fields, two
    channels a limb, stride 8. Cell c of a map with stride t is centred at pixel ``t * c + (t - 1) / 2``.

The trunk is MobileNet v2 as MoveNet MultiPose has it (`featherpose.nn.movenet`) behind a narrower front
(`featherpose.nn.feather_front`); `from_movenet` assembles a network that already finds keypoints and whose PAF head
is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.errors import ModelError
from featherpose.nn.feather_front import FeatherFront, FrontShape
from featherpose.nn.movenet import FrontFeatures, KeypointHead, MoveNetTrunk, Pyramid, TrunkTail, upsampled_onto
from featherpose.nn.outputs import StageMaps
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton

__all__ = ["Feather", "KeypointContext", "PafHead", "Smoothing", "TrunkFeatures"]


class TrunkFeatures(NamedTuple):
    """Everything that heads read."""

    p4: Float[Tensor, "B 24 h4 w4"]
    p8: Float[Tensor, "B 24 h8 w8"]
    c8: Float[Tensor, "B 48 h8 w8"]
    d16: Float[Tensor, "B 144 h16 w16"]
    c32: Float[Tensor, "B 1280 h32 w32"]


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

    Every level is brought to the same width by a 1x1 convolution, the wide view is worked out at stride 16, where a
    dense 3x3 costs little, and only cheap separable blocks run at stride 8.
    """

    def __init__(self, limbs: int, channels: int = 128, blocks: int = 4) -> None:
        super().__init__()
        self.from32 = nn.Conv2d(1280, channels, 1)
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
        """Fields, and the features that they are read off, from those of `TrunkFeatures`."""
        x = F.relu(upsampled_onto(self.from32(c32), self.from16(d16)))
        x = x + F.relu(self.context(x))
        for block in self.blocks16:
            x = block(x)
        x = F.relu(upsampled_onto(x, self.from8(c8) + self.from_pyramid(p8)))
        for block in self.blocks8:
            x = block(x)
        return self.out(F.relu(self.hidden(x))), x


class KeypointContext(nn.Module):
    """What the PAF head's features say about keypoints: heatmap logits at stride 8, added to those at stride 4.

    The keypoint head sees 24 channels and a small neighbourhood; whoever knows where limbs run knows better which of
    its maxima are joints. The two are added before the sigmoid, so either can silence the other, and places stay as
    exact as stride 4 has them. The last layer starts at zero: a network that gets this says at first what it said.

    Args:
        channels: Of the PAF head.
        keypoints: Heatmaps.
        hidden: Channels between the two 1x1 convolutions.
    """

    def __init__(self, channels: int, keypoints: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 1)
        self.out = nn.Conv2d(hidden, keypoints, 1)
        nn.init.zeros_(self.out.weight)
        if self.out.bias is not None:
            nn.init.zeros_(self.out.bias)

    def forward(self, features: Float[Tensor, "B N h8 w8"]) -> Float[Tensor, "B K h8 w8"]:
        """Logits to be added."""
        result: Tensor = self.out(F.relu(self.hidden(features)))
        return result


class Smoothing(nn.Module):
    """A fixed Gaussian over the finished heatmaps.

    At stride 4 the trunk's heatmaps often show one joint as two maxima a few cells apart; the decoder would take
    them for two people's. One cell of blur joins them and steadies the sub-cell position. Losses look through it.

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
        # Not a weight: it follows from the architecture, so checkpoints do not carry it.
        self.register_buffer("kernel", square, persistent=False)

    def forward(self, heatmaps: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K h w"]:
        """The blurred heatmaps; cells outside count as their nearest neighbour inside."""
        padded = F.pad(heatmaps, (2, 2, 2, 2), mode="replicate")
        return F.conv2d(padded, self.kernel.to(heatmaps.dtype), groups=heatmaps.shape[1])


class Feather(nn.Module):
    """Trunk, keypoint head and PAF head.

    Args:
        skeleton: Keypoints and limbs of the outputs.
        channels: Width of the PAF head.
        blocks: Separable blocks of the PAF head at stride 8.
        front: Widths of the first layers.

    Example:
        >>> net = Feather(OPENPOSE_18).eval()
        >>> ((heatmaps, pafs),) = net(torch.zeros(1, 3, 64, 96))
        >>> tuple(heatmaps.shape), tuple(pafs.shape)
        ((1, 18, 16, 24), (1, 38, 8, 12))
    """

    heatmap_stride = 4
    paf_stride = 8
    size_multiple = 8

    def __init__(self, skeleton: Skeleton = OPENPOSE_18, *, channels: int = 128, blocks: int = 4,
                 front: FrontShape | None = None) -> None:  # fmt: skip
        super().__init__()
        self.skeleton = skeleton
        self.front = FeatherFront(front)
        self.tail = TrunkTail()
        self.pyramid = Pyramid()
        self.keypoints = KeypointHead(skeleton.num_keypoints)
        self.pafs = PafHead(skeleton.num_limbs, channels, blocks)
        self.context = KeypointContext(channels, skeleton.num_keypoints)
        self.smooth = Smoothing(skeleton.num_keypoints)

    @classmethod
    def from_movenet(cls, trunk: MoveNetTrunk, pictures: Sequence[Float[Tensor, "1 3 H W"]],
                     skeleton: Skeleton = OPENPOSE_18, *, channels: int = 128, blocks: int = 4,
                     front: FrontShape | None = None) -> Feather:  # fmt: skip
        """Start from the public network: its trunk, and its heatmaps for the keypoints that it knows.

        Keypoints that it does not know, such as the neck, start silent. The front is fitted on ``pictures``.
        """
        net = cls(skeleton, channels=channels, blocks=blocks, front=front)
        net.front.start_from(trunk.front, pictures)
        net.tail.load_state_dict(trunk.tail.state_dict())
        net.pyramid.load_state_dict(trunk.pyramid.state_dict())
        head, known = net.keypoints, trunk.keypoints
        head.depthwise.load_state_dict(known.depthwise.state_dict())
        head.hidden.load_state_dict(known.hidden.state_dict())
        if head.out.bias is None or known.out.bias is None:
            raise ModelError("a keypoint head has no biases")
        with torch.no_grad():
            for k, sources in enumerate(COCO_17.sources_of(skeleton)):
                if len(sources) == 1:
                    head.out.weight[k] = known.out.weight[sources[0]]
                    head.out.bias[k] = known.out.bias[sources[0]]
                else:
                    head.out.weight[k] = 0
                    head.out.bias[k] = -5.0
        return net

    def features(self, bgr: Float[Tensor, "B 3 H W"]) -> TrunkFeatures:
        """What the heads read."""
        return self.features_behind(self.front(bgr))

    def features_behind(self, front: FrontFeatures) -> TrunkFeatures:
        """What the heads read, from what the front says."""
        c8, c16, d16, c32 = self.tail(front.stride8)
        _, p8, p4 = self.pyramid(front.stride4, c8, c16, c32)
        return TrunkFeatures(p4, p8, c8, d16, c32)

    def logits(self, features: TrunkFeatures) -> StageMaps:
        """Heatmap logits, not yet smoothed, and fields."""
        fields, inside = self.pafs(features.p8, features.c8, features.d16, features.c32)
        return StageMaps(upsampled_onto(self.context(inside), self.keypoints(features.p4)), fields)

    def smoothed(self, logits: StageMaps) -> StageMaps:
        """What `logits` gave, the heatmaps as smoothed probabilities; training losses work on these."""
        return StageMaps(self.smooth(torch.sigmoid(logits.heatmaps.float())), logits.pafs)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """Heatmaps and fields of BGR pictures, 0..255; one stage."""
        return (self.smoothed(self.logits(self.features(images.to(self.pafs.out.weight.dtype)))),)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """The network's parts in the order of the data."""
        return {
            "front": ("front",),
            "trunk": ("tail",),
            "pyramid": ("pyramid",),
            "pafs": ("pafs",),
            "heatmaps": ("keypoints", "context", "smooth"),
        }

    @torch.no_grad()
    def normalise_inputs_of_pafs(self, pictures: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Fold each feature's scale on real pictures into the new head's first layers.

        The trunk's batch norms are folded away, so its levels differ in scale by two orders of magnitude; without
        this the head listens to the loudest level alone.
        """
        seen = [self.features(picture) for picture in pictures]
        head = self.pafs
        for name, conv in (("c32", head.from32), ("d16", head.from16), ("c8", head.from8), ("p8", head.from_pyramid)):
            values = torch.cat([getattr(f, name).transpose(0, 1).flatten(1) for f in seen], dim=1)
            mean, std = values.mean(1), values.std(1).clamp(min=1e-3 * float(values.std()))
            conv.weight.mul_((1 / std)[None, :, None, None])
            if conv.bias is not None:
                conv.bias.copy_(-(conv.weight[:, :, 0, 0] @ mean))
