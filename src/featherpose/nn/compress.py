"""Compressed weights, a quarter to a half of their bytes, for files in a package.

Large convolutions keep 8 bits a weight and one scale for each output channel, as INT8 inference does anyway; what is
small keeps 16 bits, or 32 where a value is too large for 16. Such a file is an initialization for training and export,
not a state to resume from.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["compress", "decompress"]

_SCALE = ".scale"
# Below this size, 16 bits cost almost nothing.
_LARGE_ELEMENTS = 2**18


def compress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compress tensors: ``name`` as int8 with ``name.scale`` beside it, or as float16 (float32 where that overflows).

    Example:
        >>> weight = torch.randn(1024, 512, 1, 1, generator=torch.Generator().manual_seed(0))
        >>> stored = compress({"a.weight": weight, "a.bias": torch.ones(3)})
        >>> {name: str(value.dtype) for name, value in stored.items()}
        {'a.weight': 'torch.int8', 'a.weight.scale': 'torch.float16', 'a.bias': 'torch.float16'}
        >>> float((decompress(stored)["a.weight"] - weight).abs().max() / weight.abs().max()) < 1 / 200
        True
    """
    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not value.is_floating_point() or value.numel() < _LARGE_ELEMENTS:
            stored[name] = _shortened(value).contiguous()
            continue
        largest = value.abs().amax(dim=tuple(range(1, value.dim())), keepdim=True)
        scale = _shortened((largest / 127).clamp_min(1e-7))
        stored[name] = (value / scale.float()).round().clamp(-127, 127).to(torch.int8).contiguous()
        stored[name + _SCALE] = scale.flatten().contiguous()
    return stored


def _shortened(value: Tensor) -> Tensor:
    """Return floating-point values in 16 bits if all of them fit; everything else as it is."""
    if not value.is_floating_point():
        return value
    half = value.half()
    return half if torch.equal(torch.isfinite(half), torch.isfinite(value)) else value.float()


def decompress(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Decompress tensors to float32; those of any other file unchanged."""
    tensors: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(_SCALE) and name.removesuffix(_SCALE) in stored:
            continue
        scale = stored.get(name + _SCALE)
        if value.dtype == torch.int8 and scale is not None:
            tensors[name] = value.float() * scale.float().reshape(-1, *([1] * (value.dim() - 1)))
        else:
            tensors[name] = value
    return tensors
