"""Which channels of feather share a factor in cross-layer equalization.

Channels that are added to each other, as along residual blocks, share it. Channels behind a ReLU6 all end at 6 already
and stay as they are. One level of the public pyramid differs in range by a factor of 400.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featherpose.nn.equalization.cross_layer import Channels, equalize_channels
from featherpose.nn.movenet import InvertedResidual

if TYPE_CHECKING:
    from featherpose.nn.feather import Feather

__all__ = ["cross_layer_equalization"]


@torch.no_grad()
def cross_layer_equalization(network: Feather, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
    """Rescale the channels of a network in place; its outputs stay equal up to rounding.

    Args:
        network: In evaluation mode.
        images: BGR, 0..255; a dozen is enough.
    """
    equalize_channels(network, list(_groups(network)), images)


def _groups(network: Feather) -> Iterator[Channels]:
    front, pyramid, head, pafs, context = (
        network.front, network.pyramid, network.keypoints, network.pafs, network.context
    )  # fmt: skip
    stages = [[_block(b) for b in stage.children()] for stage in network.tail.stages]
    top = network.tail.top
    laterals, depthwise, pointwise = ([_conv(m) for m in p] for p in (pyramid.laterals, pyramid.depthwise,
                                                                      pyramid.pointwise))  # fmt: skip
    yield Channels((front.project,), (front.first.expand,))
    yield Channels((front.first.project, front.block.project), (front.block.expand, front.entry.expand, laterals[2]))
    s8, s16, d16, s32 = stages
    yield Channels(
        (front.entry.project, *(b.project for b in s8)),
        (*(b.expand for b in s8), s16[0].expand, laterals[1], pafs.from8),
    )
    yield Channels(tuple(b.project for b in s16), (*(b.expand for b in s16[1:]), d16[0].expand, laterals[0]))
    yield Channels(tuple(b.project for b in d16), (*(b.expand for b in d16[1:]), s32[0].expand, pafs.from16))
    yield Channels(tuple(b.project for b in s32[:-1]), tuple(b.expand for b in s32[1:]))
    yield Channels((s32[-1].project,), (top,))
    # Pyramid: the upsampled and the lateral features are added.
    above: tuple[nn.Conv2d, ...] = (pyramid.top,)
    for level in range(3):
        beside = (pafs.from_pyramid,) if level == 2 else ()
        yield Channels((*above, laterals[level]), (depthwise[level], *beside))
        yield Channels((depthwise[level],), (pointwise[level],))
        above = (pointwise[level],)
    yield Channels(above, (head.depthwise,))
    yield Channels((head.depthwise,), (head.hidden,))
    yield Channels((head.hidden,), (head.out,))
    # PAF head: one sum from stride 32 to 8.
    blocks = [*pafs.blocks16, *pafs.blocks8]
    yield Channels(
        (pafs.from32, pafs.from16, pafs.context, pafs.from8, pafs.from_pyramid, *(_conv(b.pointwise) for b in blocks)),
        (pafs.context, *(_conv(b.depthwise) for b in blocks), pafs.hidden, context.hidden),
    )
    for b in blocks:
        yield Channels((_conv(b.depthwise),), (_conv(b.pointwise),))
    yield Channels((pafs.hidden,), (pafs.out,))
    residual = [_conv(block) for block in context.blocks]
    fine = () if context.fine is None else (context.fine,)
    yield Channels((context.hidden, *residual), (*residual, context.out, *fine))


def _conv(module: nn.Module | Tensor) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"{type(module).__name__} where a convolution is expected")
    return module


def _block(module: nn.Module) -> InvertedResidual:
    if not isinstance(module, InvertedResidual):
        raise TypeError(f"{type(module).__name__} where an inverted residual is expected")
    return module
