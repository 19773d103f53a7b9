"""Quantization-aware training (Jacob et al. 2018, section 3, "training with simulated quantization").

While this context is active, the inputs of convolutions are rounded to 256 steps, their weights to 255 steps a filter,
and the operands of sums are rounded too: where `featherpose quantize` inserts FakeQuantize. Gradients pass unchanged.
The weights themselves stay in full precision; the network is exported and quantized like any other and loses less.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from featherpose.errors import ConfigError
from featherpose.training.config import QatConfig

__all__ = ["QuantizationAware"]

_STEPS = 255
_SUMS = (torch.add, Tensor.add, Tensor.__add__)
# Images of a batch whose extremes are measured, and the weight of a batch in the running ranges.
_LOOKED_AT, _SHARE = 4, 0.02
_PROBE_PX = 64


class _ToSteps(torch.autograd.Function):
    """Round values to a grid of 256 steps from ``low`` to ``high`` that contains 0; gradients pass unchanged."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        """Four passes in place: rounding is bound by memory."""
        step = max(high - low, 1e-12) / _STEPS
        bottom = round(low / step)
        on_grid = values * (1 / step)
        return on_grid.round_().clamp_(bottom, bottom + _STEPS).mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Pass gradients unchanged (straight-through estimate)."""
        return gradients[0], None, None


class _Watch(TorchFunctionMode):
    """Replaces every convolution and every sum of two maps while it is active."""

    def __init__(self, convolve: Callable[..., Tensor], add: Callable[..., Tensor]) -> None:
        super().__init__()
        self._convolve, self._add = convolve, add

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace each of PyTorch's functions when it is called."""
        given = dict(kwargs or {})
        if func is torch.conv2d:
            return self._convolve(*args, **given)
        if func in _SUMS and len(args) == 2 and all(isinstance(a, Tensor) and a.dim() == 4 for a in args):
            return self._add(*args)
        return func(*args, **given)


class QuantizationAware(nn.Module):
    """Simulated INT8 rounding of one network; its ranges are running means over training images.

    Args:
        config: The layers that stay in floating point.
        network: Must call its convolutions in the same order every time.

    Raises:
        ConfigError: If a pattern matches no layer.

    Example:
        >>> network = nn.Conv2d(3, 4, 3).eval()
        >>> rounding = QuantizationAware(QatConfig(), network)
        >>> image = torch.rand(1, 3, 64, 64)
        >>> with rounding.watching(network):
        ...     rounded = network(image)
        >>> 0 < (rounded - network(image)).abs().max().item() < 0.02
        True
    """

    ranges: Tensor
    _limits: list[list[float]]

    def __init__(self, config: QatConfig, network: nn.Module) -> None:
        super().__init__()
        named = [*network.named_parameters(), *network.named_buffers()]
        layers = [name.rpartition(".")[0] for name, value in named if value.dim() == 4]
        for pattern in config.keep:
            if not any(re.search(pattern, layer) for layer in layers):
                raise ConfigError(f"[qat] no layer matches {pattern!r}", expected=f"part of {layers[0]!r}, …")
        self._keep = config.keep
        self._kept: frozenset[int] = frozenset()
        self._place, self._limits, self._learning = 0, [], False
        self.register_buffer("ranges", torch.full((0, 2), torch.nan))
        # An empty image reveals how many places there are.
        was_training = network.training
        device = next(network.parameters()).device
        with torch.no_grad(), self.watching(network.eval()):
            network(torch.zeros(1, 3, _PROBE_PX, _PROBE_PX, device=device))
        network.train(was_training)
        self.ranges = torch.full((self._place, 2), torch.nan)

    def watching(self, network: nn.Module, *, learn: bool = True) -> TorchFunctionMode:
        """Return the context of a forward pass of this network, or of an equal one such as its running mean.

        Args:
            network: The network to call.
            learn: Whether ranges follow the images. If so, a context serves one pass only.
        """
        named = [*network.named_parameters(), *network.named_buffers()]
        self._kept = frozenset(
            id(value) for name, value in named if any(re.search(p, name.rpartition(".")[0]) for p in self._keep)
        )
        self._place, self._limits = 0, self.ranges.tolist()
        self._learning = learn
        return _Watch(self._convolve, self._add)

    def _convolve(self, images: Tensor, weight: Tensor, *rest: Any, **named: Any) -> Tensor:
        if id(weight) in self._kept:
            return torch.conv2d(images, weight, *rest, **named)
        return torch.conv2d(self._rounded(images), _weights_to_steps(weight), *rest, **named)

    def _add(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.add(self._rounded(one), self._rounded(other))

    def _rounded(self, values: Tensor) -> Tensor:
        place = self._place % max(1, len(self._limits))
        self._place += 1
        low, high = self._limits[place] if self._limits else (math.nan, math.nan)
        if self._learning or math.isnan(low):
            least, most = _extremes(values)
            if math.isnan(low):
                low, high = least, most
            low, high = low + _SHARE * (least - low), high + _SHARE * (most - high)
            if self._limits:
                self.ranges[place, 0], self.ranges[place, 1] = low, high
        rounded: Tensor = _ToSteps.apply(values, low, high)  # type: ignore[no-untyped-call]
        return rounded


def _extremes(values: Float[Tensor, "B C h w"]) -> tuple[float, float]:
    """Return the means of some images' smallest and largest values; 0 is always inside, as it must be a step."""
    looked_at = values.detach()[:_LOOKED_AT]
    low, high = looked_at.amin(dim=(1, 2, 3)).float().mean(), looked_at.amax(dim=(1, 2, 3)).float().mean()
    return min(0.0, float(low)), max(0.0, float(high))


def _weights_to_steps(weight: Float[Tensor, "D C k k"]) -> Tensor:
    """Round each filter to 255 steps of its own, symmetric about 0."""
    step = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) / 127
    return weight + ((weight / step).round() * step - weight).detach()
