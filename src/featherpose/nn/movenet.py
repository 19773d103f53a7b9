"""MoveNet MultiPose Lightning in PyTorch: the public network whose trunk was trained on poses.

Google publishes the network as a TensorFlow Lite file (Apache-2.0). `read_movenet` reads that file with OpenVINO and
`MoveNetTrunk` computes the same features and keypoint heatmaps: MobileNet v2 of width 1.5, a top-down pyramid to
stride 4, and on it a keypoint head of 17 heatmaps. Batch norms are folded in the file, so layers are convolutions
with biases. The center, regression and offset heads are not ported: part affinity fields replace them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.errors import MissingExtraError, ModelError, OptionError
from featherpose.nn.layers.depthwise import strided_depthwise

__all__ = [
    "TAIL_WIDTHS",
    "FrontFeatures",
    "InvertedResidual",
    "KeypointHead",
    "MoveNetFront",
    "MoveNetTrunk",
    "Pyramid",
    "SameConv2d",
    "TrunkTail",
    "read_movenet",
    "upsampled_onto",
]  # fmt: skip

_log = logging.getLogger(__name__)

# (expanded channels, output channels, stride) of each inverted residual block: MobileNet v2, width 1.5.
FRONT_BLOCKS = ((144, 40, 2), (240, 40, 1))
ENTRY_BLOCK = (240, 48, 2)
TAIL_BLOCKS = (
    ((288, 48, 1), (288, 48, 1)),
    ((288, 96, 2), (576, 96, 1), (576, 96, 1), (576, 96, 1)),
    ((576, 144, 1), (864, 144, 1), (864, 144, 1)),
    ((864, 240, 2), (1440, 240, 1), (1440, 240, 1), (1440, 480, 1)),
)
_TOP = 1280
TAIL_WIDTHS = (*(expanded for blocks in TAIL_BLOCKS for expanded, _, _ in blocks), _TOP)


class SameConv2d(nn.Conv2d):
    """A 3x3 convolution of stride 2 under TensorFlow's SAME padding: nothing on the left and top.

    Output cell c sees input cells 2c, 2c+1, 2c+2 for even and odd sizes alike; with an even size the second padded
    row and column are never read.

    Example:
        >>> SameConv2d(3, 8)(torch.zeros(1, 3, 6, 9)).shape
        torch.Size([1, 8, 3, 5])
    """

    def __init__(self, channels: int, out: int, *, groups: int = 1) -> None:
        super().__init__(channels, out, 3, 2, groups=groups)

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:  # noqa: A002 - PyTorch's name
        """Compute features at half the size."""
        padded = F.pad(input, (0, 2, 0, 2))
        return strided_depthwise(self, padded) if self.groups > 1 else super().forward(padded)


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter by depthwise 3x3, project by 1x1 without activation (Sandler et al. 2018, section 3)."""

    def __init__(self, channels: int, expanded: int, out: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, expanded, 1)
        self.depthwise = (
            nn.Conv2d(expanded, expanded, 3, 1, 1, groups=expanded)
            if stride == 1
            else SameConv2d(expanded, expanded, groups=expanded)
        )
        self.project = nn.Conv2d(expanded, out, 1)
        self.residual = stride == 1 and channels == out

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """Compute features after the block."""
        y = self.project(self.inside(x))
        result: Tensor = x + y if self.residual else y
        return result

    def inside(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B E h w"]:
        """Return the expanded and filtered channels, which the projection reads."""
        return F.relu6(self.depthwise(F.relu6(self.expand(x))))


class FrontFeatures(NamedTuple):
    """Features at strides 4 and 8 that the rest of the network reads."""

    stride4: Float[Tensor, "B 40 h4 w4"]
    stride8: Float[Tensor, "B 48 h8 w8"]


class MoveNetFront(nn.Module):
    """Stem and first blocks: all layers at strides 2 and 4, down to the entry of stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 48)
        self.depthwise = nn.Conv2d(48, 48, 3, 1, 1, groups=48)
        self.project = nn.Conv2d(48, 24, 1)
        self.blocks = nn.ModuleList()
        channels = 24
        for expanded, out, stride in FRONT_BLOCKS:
            self.blocks.append(InvertedResidual(channels, expanded, out, stride))
            channels = out
        self.entry = InvertedResidual(channels, *ENTRY_BLOCK)

    def forward(self, bgr: Float[Tensor, "B 3 H W"]) -> FrontFeatures:
        """Compute features of BGR images, 0..255."""
        x = bgr.flip(1) * (2 / 255) - 1
        x = self.project(F.relu6(self.depthwise(F.relu6(self.stem(x)))))
        for block in self.blocks:
            x = block(x)
        return FrontFeatures(x, self.entry(x))


class TrunkTail(nn.Module):
    """The blocks at strides 8, 16 and 32.

    Args:
        widths: Expanded channels of each of the thirteen blocks, and those at the end; the public ones unless given.
    """

    def __init__(self, widths: Sequence[int] | None = None) -> None:
        super().__init__()
        widths = TAIL_WIDTHS if widths is None else widths
        if len(widths) != len(TAIL_WIDTHS):
            raise OptionError(f"{len(widths)} widths of the trunk", expected=f"{len(TAIL_WIDTHS)}")
        channels, stages, expanded = ENTRY_BLOCK[1], [], iter(widths)
        for blocks in TAIL_BLOCKS:
            stage = nn.Sequential()
            for _, out, stride in blocks:
                stage.append(InvertedResidual(channels, next(expanded), out, stride))
                channels = out
            stages.append(stage)
        self.stages = nn.ModuleList(stages)
        self.top = nn.Conv2d(channels, widths[-1], 1)

    def forward(self, stride8: Float[Tensor, "B 48 h8 w8"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute 48 channels at stride 8, 96 and 144 at stride 16, 1280 (or fewer) at stride 32."""
        c8 = self.stages[0](stride8)
        c16 = self.stages[1](c8)
        d16 = self.stages[2](c16)
        return c8, c16, d16, F.relu6(self.top(self.stages[3](d16)))


def upsampled_onto(x: Tensor, lateral: Tensor) -> Tensor:
    """Return ``x`` upsampled bilinearly (half-pixel) to twice its size, plus a map of that size or one cell less."""
    # Exactly twice, then cut: an odd map keeps its alignment where resizing to the lateral's size would stretch it.
    doubled = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    return doubled[:, :, : lateral.shape[2], : lateral.shape[3]] + lateral


class Pyramid(nn.Module):
    """Top-down pyramid from stride 32 to 4: upsample, add the lateral 1x1, depthwise 3x3, 1x1, ReLU."""

    def __init__(self, top: int = _TOP) -> None:
        super().__init__()
        self.top = nn.Conv2d(top, 64, 1)
        self.laterals = nn.ModuleList((nn.Conv2d(96, 64, 1), nn.Conv2d(48, 32, 1), nn.Conv2d(40, 24, 1)))
        self.depthwise = nn.ModuleList(nn.Conv2d(c, c, 3, 1, 1, groups=c) for c in (64, 32, 24))
        self.pointwise = nn.ModuleList(nn.Conv2d(i, o, 1) for i, o in ((64, 32), (32, 24), (24, 24)))

    def forward(self, c4: Tensor, c8: Tensor, c16: Tensor, c32: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute 32 channels at stride 16, 24 at stride 8, 24 at stride 4."""
        x, levels = self.top(c32), []
        for lateral, depthwise, pointwise, features in zip(
            self.laterals, self.depthwise, self.pointwise, (c16, c8, c4), strict=True
        ):
            x = F.relu(pointwise(depthwise(upsampled_onto(x, lateral(features)))))
            levels.append(x)
        return levels[0], levels[1], levels[2]


class KeypointHead(nn.Module):
    """Heatmap logits at stride 4: depthwise 3x3, 1x1 to a hidden layer, ReLU, 1x1."""

    def __init__(self, keypoints: int, hidden: int = 96) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(24, 24, 3, 1, 1, groups=24)
        self.hidden = nn.Conv2d(24, hidden, 1)
        self.out = nn.Conv2d(hidden, keypoints, 1)

    def forward(self, x: Float[Tensor, "B 24 h w"]) -> Float[Tensor, "B K h w"]:
        """Compute logits of the heatmaps."""
        logits: Tensor = self.out(F.relu(self.hidden(self.depthwise(x))))
        return logits


class MoveNetTrunk(nn.Module):
    """The public network up to its keypoint heatmaps, COCO order, stride 4.

    Raises:
        ModelError: By `read_movenet`, if a file does not hold these layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.front = MoveNetFront()
        self.tail = TrunkTail()
        self.pyramid = Pyramid()
        self.keypoints = KeypointHead(17)

    def forward(self, bgr: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 17 h w"]:
        """Compute heatmaps in 0..1 of BGR images, 0..255."""
        front = self.front(bgr)
        c8, c16, _, c32 = self.tail(front.stride8)
        return torch.sigmoid(self.keypoints(self.pyramid(front.stride4, c8, c16, c32)[2]))


def _layers_in_file_order(net: MoveNetTrunk) -> list[nn.Conv2d]:
    front, pyramid, head = net.front, net.pyramid, net.keypoints
    layers = [m for m in front.modules() if isinstance(m, nn.Conv2d)]
    layers += [m for m in net.tail.modules() if isinstance(m, nn.Conv2d)]
    layers.append(pyramid.top)
    for parts in zip(pyramid.laterals, pyramid.depthwise, pyramid.pointwise, strict=True):
        layers += [m for m in parts if isinstance(m, nn.Conv2d)]
    return [*layers, head.depthwise, head.hidden, head.out]


def read_movenet(path: str | Path) -> MoveNetTrunk:
    """Read the published ``.tflite`` file.

    Layers are addressed by their order in the graph: names of automatic nodes change from process to process.

    Raises:
        ModelError: If the file cannot be read or holds another network.
        MissingExtraError: If the engine that reads the file is not installed.
    """
    try:
        import openvino as ov
    except ImportError as error:
        raise MissingExtraError("reading a TensorFlow Lite file", "train") from error
    if not Path(path).is_file():
        raise ModelError(f"{path} is not a file", expected="movenet-multipose-lightning.tflite")
    try:
        graph = ov.Core().read_model(str(path))
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be read as a TensorFlow Lite network", expected="MoveNet MultiPose") from error
    net = MoveNetTrunk()
    wanted = _layers_in_file_order(net)
    nodes = [n for n in graph.get_ordered_ops() if n.get_type_name() in ("Convolution", "GroupConvolution")]
    if len(nodes) < len(wanted):
        raise ModelError(
            f"{path} has {len(nodes)} convolutions", expected=f"at least {len(wanted)}, as MoveNet MultiPose"
        )
    with torch.no_grad():
        for conv, node in zip(wanted, nodes, strict=False):
            weight = _constant(node.input_value(1).get_node())
            (consumer,) = node.output(0).get_target_inputs()
            add = consumer.get_node()
            bias = _constant(add.input_value(1).get_node()).reshape(-1)
            if conv.groups > 1 and weight.shape[0] == 1:
                weight = weight.transpose(3, 0, 1, 2)
            if tuple(weight.shape) != tuple(conv.weight.shape) or conv.bias is None or bias.shape != conv.bias.shape:
                raise ModelError(
                    f"{path} has a layer of shape {weight.shape}",
                    expected=f"{tuple(conv.weight.shape)}, as MoveNet MultiPose",
                )
            conv.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight, np.float32)))
            conv.bias.copy_(torch.from_numpy(np.ascontiguousarray(bias, np.float32)))
    _log.info("read %d layers from %s", len(wanted), path)
    return net


def _constant(node: object) -> np.ndarray:
    # Weights arrive as FP16 constants behind Convert, Transpose, Unsqueeze or Reshape; only the values matter here.
    current = node
    while current.get_type_name() != "Constant":  # type: ignore[attr-defined]
        current = current.input_value(0).get_node()  # type: ignore[attr-defined]
    return np.asarray(current.data)  # type: ignore[attr-defined]
