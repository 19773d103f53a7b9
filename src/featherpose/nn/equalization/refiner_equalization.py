"""Which channels of the refiner share a factor in cross-layer equalization.

A unit adds its input, times a gate, to what it computes. The gate takes the ratio of both factors, so that the channels
in front of a unit and behind it need not share theirs; without a gate they do, through the whole branch. What branches
exchange is added, and shares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from featherpose.nn.equalization.cross_layer import Channels, equalize_channels
from featherpose.nn.trunk.person import Down, Exchange, Unit

if TYPE_CHECKING:
    from featherpose.nn.refiner import Refiner

__all__ = ["cross_layer_equalization"]


def cross_layer_equalization(network: Refiner, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
    """Rescale the channels of a network in place; its outputs stay equal up to rounding.

    Args:
        network: In evaluation mode.
        images: BGR crops, 0..255; a few dozen are enough.
    """
    equalize_channels(network, list(_groups(network)), images)


def _groups(network: Refiner) -> Iterator[Channels]:
    stem, heads = network.stem, [_convs(head) for head in network.head]
    near, far, first = _convs(stem.near), _convs(stem.far), _convs(network.first)
    widen = [_convs(down) for down in network.widen]
    for layers in (near, far, first, *heads, *widen):
        yield Channels((layers[0],), (layers[1],))
    yield Channels((stem.stem,), (near[0], stem.enter))
    yield Channels((stem.enter,), (far[0],))
    yield Channels((near[1], far[1]), (first[0], widen[0][0]))
    yield Channels((heads[-1][-1],), (network.heatmaps,))

    # Layers that write what a branch holds so far, and the gate of the unit that wrote it, if one did.
    branches: list[tuple[tuple[nn.Conv2d, ...], tuple[Tensor, ...], tuple[nn.Conv2d, ...]]] = [((first[1],), (), ())]
    for number, stage in enumerate(network.stages):
        if number:
            writers, gates, readers = branches[-1]
            branches[-1] = writers, gates, (*readers, widen[number][0])
        branches.append(((widen[number][1],), (), ()))
        for exchange in stage.children():
            assert isinstance(exchange, Exchange)
            yield from _exchanged(exchange, branches)
    for i, (writers, gates, readers) in enumerate(branches):
        level = len(branches) - 1 - i  # the head goes from the coarsest to the finest
        above = (heads[level - 1][-1],) if level else ()
        yield Channels((*writers, *above), (*readers, heads[level][0]), gates_out=gates)


def _exchanged(
    exchange: Exchange, branches: list[tuple[tuple[nn.Conv2d, ...], tuple[Tensor, ...], tuple[nn.Conv2d, ...]]]
) -> Iterator[Channels]:
    """Yield the channels in front of an exchange and inside it; ``branches`` then holds those behind it."""
    ups = {(name[0], name[1]): _conv(up) for name, up in exchange.up.items()}
    downs = {(name[0], name[1]): _convs(down) for name, down in exchange.down.items()}
    for layers in downs.values():
        for a, b in pairwise(layers):
            yield Channels((a,), (b,))
    for i, pair in enumerate(exchange.units):
        before, after = pair.children()
        assert isinstance(before, Unit)
        assert isinstance(after, Unit)
        for unit in (before, after):
            yield Channels((unit.enter,), (unit.spatial,))
            yield Channels((unit.spatial,), (unit.leave,))
        writers, gates, readers = branches[i]
        me = str(i)
        into = [layer for (_, to), layer in ups.items() if to == me]
        into += [layers[-1] for (_, to), layers in downs.items() if to == me]
        out = [layer for (origin, _), layer in ups.items() if origin == me]
        out += [layers[0] for (origin, _), layers in downs.items() if origin == me]
        if before.gate is None or after.gate is None:
            everyone = (*writers, before.leave, after.leave, *into)
            branches[i] = everyone, (), (*readers, before.enter, after.enter, *out)
            continue
        yield Channels(writers, (*readers, before.enter), gates_in=(before.gate,), gates_out=gates)
        yield Channels((before.leave,), (after.enter,), gates_in=(after.gate,), gates_out=(before.gate,))
        branches[i] = (after.leave, *into), (after.gate,), tuple(out)


def _convs(module: nn.Module) -> list[nn.Conv2d]:
    if isinstance(module, Down):
        return [_conv(layer) for step in module.steps for layer in step.children()]
    return [_conv(layer) for layer in module.children()]


def _conv(module: nn.Module) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"{type(module).__name__} where a convolution is expected")
    return module
