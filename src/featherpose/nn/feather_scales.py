"""Equal scales for every channel of the pyramid and the keypoint head, without changing what the network computes.

One level of the pose-trained pyramid reaches 400 where others stay under 1. INT8 gives a tensor 256 steps for all
its channels, so the quiet ones vanish. Between linear layers and ReLUs a channel may be divided by any positive
factor if its consumers multiply by it (Nagel et al. 2019, section 4.1); here every channel is brought to the same
99.9th percentile on real pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.nn.feather import Feather
from featherpose.nn.movenet import upsampled_onto

__all__ = ["equalise_scales"]

# The channel's part that counts as its range, and how quiet a channel may be before it is left alone.
_QUANTILE, _SILENT = 0.999, 1e-4


@torch.no_grad()
def equalise_scales(network: Feather, pictures: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
    """Rescale the channels of the pyramid and the keypoint head in place; outputs stay equal up to rounding.

    Args:
        network: In evaluation mode.
        pictures: BGR, 0..255; a dozen is enough.
    """
    pyramid, head = network.pyramid, network.keypoints
    seen = []
    for picture in pictures:
        front = network.front(picture)
        c8, c16, _, c32 = network.tail(front.stride8)
        seen.append((c32, (c16, c8, front.stride4)))
    above = [pyramid.top(c32) for c32, _ in seen]
    sources: list[nn.Conv2d] = [_conv(pyramid.top)]
    for level in range(3):
        lateral, depthwise, pointwise = (
            _conv(part[level]) for part in (pyramid.laterals, pyramid.depthwise, pyramid.pointwise)
        )
        sums = [upsampled_onto(x, lateral(features[level])) for x, (_, features) in zip(above, seen, strict=True)]
        # What comes from above and from the side is added, so both are divided alike.
        factor = _range(sums)
        for source in (*sources, lateral):
            _divide_outputs(source, factor)
        _multiply_depthwise(depthwise, factor)
        if level == 2:
            _multiply_inputs(network.pafs.from_pyramid, factor)
        sums = [x / factor[:, None, None] for x in sums]
        factor = _range([depthwise(x) for x in sums])
        _divide_outputs(depthwise, factor)
        _multiply_inputs(pointwise, factor)
        above = [F.relu(pointwise(depthwise(x))) for x in sums]
        sources = [pointwise]
    factor = _range(above)
    _divide_outputs(sources[0], factor)
    _multiply_depthwise(head.depthwise, factor)
    above = [x / factor[:, None, None] for x in above]
    for layer, following, activation in (
        (head.depthwise, head.hidden, _linear),
        (head.hidden, head.out, F.relu),
    ):
        factor = _range([activation(layer(x)) for x in above])
        _divide_outputs(layer, factor)
        _multiply_inputs(following, factor)
        above = [activation(layer(x)) for x in above]


def _linear(x: Tensor) -> Tensor:
    return x


def _conv(module: nn.Module) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"{type(module).__name__} where a convolution is expected")
    return module


def _range(values: Sequence[Tensor]) -> Float[Tensor, " C"]:
    """Range of each channel; 1 for channels that are silent on all pictures."""
    flat = torch.cat([v.transpose(0, 1).flatten(1) for v in values], dim=1).abs()
    keep = max(1, int(flat.shape[1] * (1 - _QUANTILE)))
    factor = flat.topk(keep, dim=1).values[:, -1]
    return torch.where(factor > _SILENT, factor, torch.ones_like(factor))


def _divide_outputs(conv: nn.Conv2d, factor: Tensor) -> None:
    conv.weight.div_(factor[:, None, None, None])
    if conv.bias is not None:
        conv.bias.div_(factor)


def _multiply_inputs(conv: nn.Conv2d, factor: Tensor) -> None:
    conv.weight.mul_(factor[None, :, None, None])


def _multiply_depthwise(conv: nn.Conv2d, factor: Tensor) -> None:
    conv.weight.mul_(factor[:, None, None, None])
