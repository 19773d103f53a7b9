"""Optimizers: the published parameter groups, and a step that suits folded batch norms."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from featherpose.errors import ConfigError
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.training.config import OptimizerConfig
from featherpose.training.muon import Muon

__all__ = ["RelativeAdam", "build_optimizer", "interpolate_weights", "learning_rate_at", "update_ema"]


class RelativeAdam(torch.optim.Optimizer):
    """Adam whose steps are relative to the size of each filter.

    In a network with folded batch norms, filters differ in size by orders of magnitude: a step that refines one
    destroys another. Here every output channel's weights move by ``lr`` times their own initial root mean square
    (a bias by that of its layer's biases), which equals Adam on weights whose scales were split out.

    Args:
        groups: Parameter groups; ``lr`` may differ.
        lr: Step relative to a filter's size.
        betas: Decay of the running mean and mean square of gradients.
        clip: Largest single step, in units of the rate.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], lr: float, betas: tuple[float, float] = (0.9, 0.99), clip: float = 5.0
    ) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas, "clip": clip})

    @staticmethod
    def _size_of(parameter: Tensor) -> Tensor:
        whole = parameter.square().mean().sqrt()
        if parameter.dim() < 2:
            return whole + 1e-3
        own = parameter.square().mean(dim=tuple(range(1, parameter.dim())), keepdim=True).sqrt()
        if float(whole) < 1e-8:  # a layer that starts at zero moves as a small random one would
            return torch.full_like(own, 0.05 / math.sqrt(parameter[0].numel()))
        # A filter of zeros (of a new keypoint) has no size: it takes its neighbors' step.
        return torch.where(own > 1e-6, own, own.median()) + 1e-3 * whole + 1e-8

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        if closure is not None:
            raise ConfigError("RelativeAdam takes no closure")
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["mean"] = torch.zeros_like(parameter)
                    state["square"] = torch.zeros_like(parameter)
                    state["size"] = self._size_of(parameter)
                state["step"] += 1
                count = float(state["step"])
                state["mean"].lerp_(parameter.grad, 1 - first)
                state["square"].mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
                spread = (state["square"] / (1 - second**count)).sqrt_().add_(1e-12)
                move = (state["mean"] / (1 - first**count)).div_(spread).clamp_(-group["clip"], group["clip"])
                parameter.sub_(move.mul_(state["size"]), alpha=group["lr"])


def build_optimizer(
    network: nn.Module, config: OptimizerConfig, *, beside: nn.Module | None = None
) -> torch.optim.Optimizer:
    """Make the optimizer with its parameter groups; each group has its factor as ``factor``.

    The published recipe: weight decay on the weights of ordinary convolutions only (not on depthwise ones, batch
    norms and biases), biases at twice the rate of their group. ``relative_adam`` decays nothing.

    Args:
        network: Its parameter names are matched with the prefixes of ``lr_multipliers``.
        config: The optimizer.
        beside: Another module that is trained at the plain rate and without decay.

    Raises:
        ConfigError: If nothing is left to train.
    """
    published = config.kind == "adam"
    sets: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module_name, module in network.named_modules():
        ordinary = isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and getattr(module, "groups", 1) == 1
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            full_name = f"{module_name}.{name}" if module_name else name
            factor = next((f for start, f in reversed(config.lr_multipliers) if full_name.startswith(start)), 1.0)
            if published and name == "bias":
                factor *= 2
            decay = config.weight_decay if ordinary and name == "weight" else 0.0
            sets.setdefault((factor, decay), []).append(parameter)
    if not sets:
        raise ConfigError("every parameter is frozen", expected="something to train", hint="shorten [network] freeze")
    groups = [
        {"params": parameters, "lr": config.lr * factor, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in sets.items()
    ]
    if beside is not None and (extra := list(beside.parameters())):
        groups.append({"params": extra, "lr": config.lr, "factor": 1.0, "weight_decay": 0.0})
    if config.kind == "relative_adam":
        return RelativeAdam(groups, lr=config.lr)
    if config.kind == "muon":
        return Muon(groups, lr=config.lr)
    # Fused: one pass over each parameter and its moments instead of ten.
    if config.kind == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=True)
    return torch.optim.Adam(groups, lr=config.lr, fused=True)


def learning_rate_at(config: OptimizerConfig, step: int, steps: int) -> float:
    """Return the learning rate of an update, before group factors.

    Example:
        >>> config = OptimizerConfig(lr=1.0, schedule="steps", milestones=(0.5,))
        >>> [round(learning_rate_at(config, step, 10), 3) for step in (0, 4, 5, 9)]
        [1.0, 1.0, 0.333, 0.333]
    """
    done = step / max(1, steps)
    if config.schedule == "cosine":
        factor = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done)))
    else:
        factor = 0.333 ** sum(done >= milestone for milestone in config.milestones)
    if config.warmup:
        factor *= min(1.0, (step + 1) / config.warmup)
    return config.lr * factor


@torch.no_grad()
def interpolate_weights(network: PoseNetwork, initial: Mapping[str, Tensor], alpha: float) -> PoseNetwork:
    """Return a copy of a network with (1 - alpha) times the initial and alpha times its own weights (WiSE-FT)."""
    mixed = copy.deepcopy(network)
    for name, value in as_module(mixed).state_dict().items():
        if value.is_floating_point():
            value.lerp_(initial[name].to(value.device), 1 - alpha)
    return mixed


@torch.no_grad()
def update_ema(average: nn.Module, network: nn.Module, decay: float, updates: int) -> None:
    """Move averaged weights towards the network's; the first updates weigh more, so that the initial weights fade."""
    weight = 1 - min(decay, (updates + 1) / (updates + 10))
    for mean, value in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(value, weight)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)
