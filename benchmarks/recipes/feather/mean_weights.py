"""Write the weighted mean of checkpoints of one network.

    python benchmarks/recipes/feather/mean_weights.py OUT 0.4 start.safetensors 0.2 runs/a/best.safetensors ...

Layers that a checkpoint lacks, such as those that a later step added, count as zero there: that is how they start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.networks import as_module


def average(out: str, *files: str, shares: Sequence[float]) -> None:
    """Write the mean of ``files``, each with its share; the shares add up to 1."""
    networks = [load_network(Path(file)) for file in files]
    whole = max(networks, key=lambda network: len(as_module(network).state_dict()))
    mean = {name: torch.zeros_like(value) for name, value in as_module(whole).state_dict().items()}
    for share, network in zip(shares, networks, strict=True):
        for name, value in as_module(network).state_dict().items():
            mean[name] += share * value
    as_module(whole).load_state_dict(mean)
    save_network(Path(out), whole, "feather")


if __name__ == "__main__":
    average(sys.argv[1], *sys.argv[3::2], shares=[float(share) for share in sys.argv[2::2]])
