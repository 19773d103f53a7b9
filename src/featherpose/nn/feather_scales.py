"""Equal scales for the channels of feather, without changing what the network computes.

INT8 gives a tensor 256 steps for all its channels, so channels much quieter than the loudest one vanish; in a network
whose batch norms are folded they differ a hundredfold, one level of the public pyramid reaches 400. Behind linear
layers and ReLUs a channel may be divided by any positive factor if everyone who reads it multiplies by it (Nagel et
al. 2019, section 4.1). Channels that are added to each other, as along residual blocks, share their
factor. Channels behind a ReLU6 all end at 6 already and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from featherpose.nn.feather import Feather
from featherpose.nn.movenet import InvertedResidual

__all__ = ["equalise_scales"]

# The part of a channel's values that counts as its range, and how quiet a channel may be before it is left alone.
_QUANTILE, _SILENT = 0.999, 1e-4


@dataclass(frozen=True, slots=True)
class _Channels:
    """Channels that share a scale: who writes them and who reads them."""

    writers: tuple[nn.Conv2d, ...]
    readers: tuple[nn.Conv2d, ...]


@torch.no_grad()
def equalise_scales(network: Feather, pictures: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
    """Rescale the channels of a network in place; its outputs stay equal up to rounding.

    Args:
        network: In evaluation mode.
        pictures: BGR, 0..255; a dozen is enough.
    """
    groups = list(_groups(network))
    ranges = _ranges(network, groups, pictures)
    for group, seen in zip(groups, ranges, strict=True):
        factor = torch.where(seen > _SILENT, seen, torch.ones_like(seen))
        for writer in group.writers:
            writer.weight.div_(factor[:, None, None, None])
            if writer.bias is not None:
                writer.bias.div_(factor)
        for reader in group.readers:
            depthwise = reader.groups > 1
            reader.weight.mul_(factor[:, None, None, None] if depthwise else factor[None, :, None, None])


def _ranges(
    network: Feather, groups: Sequence[_Channels], pictures: Sequence[Float[Tensor, "1 3 H W"]]
) -> list[Float[Tensor, " C"]]:
    """The range of each group's channels as its readers see them."""
    found: list[Tensor | None] = [None] * len(groups)

    def note(index: int, values: Tensor) -> None:
        flat = values[0].flatten(1).abs()
        kept = max(1, int(flat.shape[1] * (1 - _QUANTILE)))
        seen, before = flat.topk(kept, dim=1).values[:, -1], found[index]
        found[index] = seen if before is None else torch.maximum(before, seen)

    handles = []
    for i, group in enumerate(groups):
        listen = partial(_listen, note=partial(note, i))
        handles += [reader.register_forward_pre_hook(listen) for reader in group.readers]
    try:
        for picture in pictures:
            network(picture)
    finally:
        for handle in handles:
            handle.remove()
    missing = [i for i, seen in enumerate(found) if seen is None]
    if missing:
        raise RuntimeError(f"no values were seen of the channel groups {missing}")
    return [seen for seen in found if seen is not None]


def _listen(_: nn.Module, inputs: tuple[Tensor, ...], *, note: Callable[[Tensor], None]) -> None:
    note(inputs[0])


def _groups(network: Feather) -> Iterator[_Channels]:
    front, pyramid, head, pafs, context = (
        network.front, network.pyramid, network.keypoints, network.pafs, network.context
    )  # fmt: skip
    stages = [[_block(b) for b in stage.children()] for stage in network.tail.stages]
    top = network.tail.top
    laterals, depthwise, pointwise = ([_conv(m) for m in p] for p in (pyramid.laterals, pyramid.depthwise,
                                                                      pyramid.pointwise))  # fmt: skip
    yield _Channels((front.project,), (front.first.expand,))
    yield _Channels((front.first.project, front.block.project), (front.block.expand, front.entry.expand, laterals[2]))
    s8, s16, d16, s32 = stages
    yield _Channels(
        (front.entry.project, *(b.project for b in s8)),
        (*(b.expand for b in s8), s16[0].expand, laterals[1], pafs.from8),
    )
    yield _Channels(tuple(b.project for b in s16), (*(b.expand for b in s16[1:]), d16[0].expand, laterals[0]))
    yield _Channels(tuple(b.project for b in d16), (*(b.expand for b in d16[1:]), s32[0].expand, pafs.from16))
    yield _Channels(tuple(b.project for b in s32[:-1]), tuple(b.expand for b in s32[1:]))
    yield _Channels((s32[-1].project,), (top,))
    # Pyramid: what comes from above and from the side is added.
    above: tuple[nn.Conv2d, ...] = (pyramid.top,)
    for level in range(3):
        beside = (pafs.from_pyramid,) if level == 2 else ()
        yield _Channels((*above, laterals[level]), (depthwise[level], *beside))
        yield _Channels((depthwise[level],), (pointwise[level],))
        above = (pointwise[level],)
    yield _Channels(above, (head.depthwise,))
    yield _Channels((head.depthwise,), (head.hidden,))
    yield _Channels((head.hidden,), (head.out,))
    # PAF head: one sum from stride 32 to 8.
    blocks = [*pafs.blocks16, *pafs.blocks8]
    yield _Channels(
        (pafs.from32, pafs.from16, pafs.context, pafs.from8, pafs.from_pyramid, *(_conv(b.pointwise) for b in blocks)),
        (pafs.context, *(_conv(b.depthwise) for b in blocks), pafs.hidden, context.hidden),
    )
    for b in blocks:
        yield _Channels((_conv(b.depthwise),), (_conv(b.pointwise),))
    yield _Channels((pafs.hidden,), (pafs.out,))
    yield _Channels((context.hidden,), (context.out,))


def _conv(module: nn.Module | Tensor) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"{type(module).__name__} where a convolution is expected")
    return module


def _block(module: nn.Module) -> InvertedResidual:
    if not isinstance(module, InvertedResidual):
        raise TypeError(f"{type(module).__name__} where an inverted residual is expected")
    return module
