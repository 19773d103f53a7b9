"""Cross-layer equalization (Nagel et al. 2019): equal channel ranges, same outputs.

INT8 has 256 steps for all channels of a tensor, so channels with much smaller values than the largest are lost. In a
network with folded batch norms they differ a hundredfold. Behind linear layers and ReLUs a channel may be divided by
any positive factor if all its readers multiply by it (section 4.1). Each network states which channels share a factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["Channels", "equalize_channels"]

# The quantile of a channel's values that counts as its range; channels with a smaller range stay as they are.
_QUANTILE, _SILENT = 0.999, 1e-4


@dataclass(frozen=True, slots=True)
class Channels:
    """Channels that share a factor.

    Attributes:
        writers: Layers that write them.
        readers: Layers that read them.
        gates_in: Factors by which they are multiplied on a way around layers, float[1, C, 1, 1].
        gates_out: Factors whose products are added to what the writers write.
    """

    writers: tuple[nn.Conv2d, ...]
    readers: tuple[nn.Conv2d, ...]
    gates_in: tuple[Tensor, ...] = ()
    gates_out: tuple[Tensor, ...] = ()


@torch.no_grad()
def equalize_channels(
    network: nn.Module, groups: Sequence[Channels], images: Sequence[Float[Tensor, "1 3 H W"]]
) -> None:
    """Divide each channel by its range, in place; the network's outputs stay equal up to rounding.

    Args:
        network: In evaluation mode.
        groups: All channels to rescale.
        images: BGR, 0..255.
    """
    ranges = _ranges(network, groups, images)
    for group, seen in zip(groups, ranges, strict=True):
        factor = torch.where(seen > _SILENT, seen, torch.ones_like(seen))
        for writer in group.writers:
            writer.weight.div_(factor[:, None, None, None])
            if writer.bias is not None:
                writer.bias.div_(factor)
        for reader in group.readers:
            depthwise = reader.groups > 1
            reader.weight.mul_(factor[:, None, None, None] if depthwise else factor[None, :, None, None])
        for gate in group.gates_in:
            gate.mul_(factor[None, :, None, None])
        for gate in group.gates_out:
            gate.div_(factor[None, :, None, None])


def _ranges(
    network: nn.Module, groups: Sequence[Channels], images: Sequence[Float[Tensor, "1 3 H W"]]
) -> list[Float[Tensor, " C"]]:
    """Return the range of each group's channels as the layers that read them see it."""
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
        for image in images:
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    missing = [i for i, seen in enumerate(found) if seen is None]
    if missing:
        raise RuntimeError(f"no values were seen of the channel groups {missing}")
    return [seen for seen in found if seen is not None]


def _listen(_: nn.Module, inputs: tuple[Tensor, ...], *, note: Callable[[Tensor], None]) -> None:
    note(inputs[0])
