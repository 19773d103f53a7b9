"""Muon: momentum with equal singular values for dense convolutions, AdamW for everything else.

Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". A filter bank's momentum is
replaced by the nearest matrix whose singular values are about 1, so that rare directions are learned as fast as common
ones. Fresh weights need fewer images than with Adam (benchmarks/recipes/refiner).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from featherpose.errors import ConfigError

__all__ = ["Muon", "orthogonalized"]

_MOMENTUM = 0.95
_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
# Rates of AdamW that suit a network are about this part of Muon's.
_ADAM_PART = 0.4
# As large as the steps of Adam: the root mean square of an update (Liu et al. 2025, "Muon is scalable", section 2.2).
_STEP_SIZE = 0.2
_ITERATIONS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
# Depthwise and first layers have too few inputs a filter for singular values to mean anything.
_LEAST_INPUTS = 8


def orthogonalized(matrix: Tensor) -> Tensor:
    """Move all singular values of a matrix near 1 (0.7 to 1.2), by five Newton-Schulz iterations in bfloat16.

    Args:
        matrix: float[M, N].

    Returns:
        bfloat16[M, N].

    Example:
        >>> values = torch.linalg.svdvals(orthogonalized(torch.diag(torch.tensor([9.0, 3.0, 1.0]))).float())
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    a, b, c = _QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """The optimizer.

    Args:
        groups: Parameter groups; ``lr`` and ``weight_decay`` may differ.
        lr: Rate of dense convolutions; other parameters move at 0.4 times this rate, by AdamW.

    Example:
        >>> layer = torch.nn.Conv2d(8, 8, 3)
        >>> optimizer = Muon([{"params": list(layer.parameters()), "weight_decay": 0.02}], lr=5e-3)
        >>> layer(torch.ones(1, 8, 4, 4)).sum().backward()
        >>> optimizer.step()
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise ConfigError("Muon takes no closure")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if parameter.dim() == 4 and parameter.shape[1] >= _LEAST_INPUTS:
                    self._move_matrix(parameter, group["lr"], group["weight_decay"])
                else:
                    self._move_values(parameter, _ADAM_PART * group["lr"], group["weight_decay"])

    def _move_matrix(self, parameter: Tensor, lr: float, decay: float) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["mean"] = torch.zeros_like(parameter)
        mean = state["mean"].lerp_(gradient, 1 - _MOMENTUM)
        ahead = gradient.lerp(mean, _MOMENTUM)  # Nesterov
        update = orthogonalized(ahead.reshape(len(parameter), -1))
        size = _STEP_SIZE * max(update.shape) ** 0.5
        parameter.mul_(1 - lr * decay).add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-lr * size)

    def _move_values(self, parameter: Tensor, lr: float, decay: float) -> None:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        count, (first, second) = float(state["step"]), _BETAS
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (state["square"] / (1 - second**count)).sqrt_().add_(_EPSILON)
        parameter.mul_(1 - lr * decay).addcdiv_(state["mean"], spread, value=-lr / (1 - first**count))
