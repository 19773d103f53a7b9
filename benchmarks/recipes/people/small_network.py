"""The training of small fully connected networks and the command line, which both fits share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

__all__ = ["linear_layers", "parse_arguments", "train"]

_RATE = 2e-3
_BATCH = 256


def train(
    network: nn.Module,
    examples: int,
    loss: Callable[[torch.Tensor], torch.Tensor],
    *,
    epochs: int,
    weight_decay: float,
) -> None:
    """Train by AdamW with a learning rate that falls linearly to zero.

    Args:
        network: Its parameters are changed.
        examples: How many there are.
        loss: From the indices of some examples to their loss.
        epochs: How often each example is seen.
        weight_decay: Of AdamW.
    """
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=weight_decay)
    for epoch in range(epochs):
        order = torch.randperm(examples)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - epoch / epochs)
        for start in range(0, examples, _BATCH):
            optimizer.zero_grad()
            loss(order[start : start + _BATCH]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def linear_layers(network: nn.Sequential) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return weights and biases of the linear layers, in order."""
    return [(layer.weight.detach(), layer.bias.detach()) for layer in network if isinstance(layer, nn.Linear)]


def parse_arguments(cache: str) -> argparse.Namespace:
    """Read the command line: data, out, cache and seed.

    Args:
        cache: Where collected people are kept unless the command line says so.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(cache))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()
