"""The processes of one run that torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from featherpose.errors import ConfigError

__all__ = ["Distributed"]


@dataclass(frozen=True, slots=True)
class Distributed:
    """This process among those that share the run.

    Attributes:
        rank: Number of this process, 0 writes files.
        world: Number of processes.

    Example:
        >>> Distributed(rank=0, world=1).close()
    """

    rank: int
    world: int

    @classmethod
    def init(cls) -> Distributed:
        """Initialize the process group; without torchrun there is one process.

        Raises:
            ConfigError: If torchrun's variables are set and are not numbers.
        """
        try:
            rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        except ValueError as error:
            raise ConfigError(f"RANK or WORLD_SIZE is no number ({error})", hint="start with torchrun") from error
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return cls(rank, world)

    @torch.no_grad()
    def average_gradients(self, network: nn.Module) -> None:
        """Replace every gradient by the mean over all processes, in one message."""
        if self.world == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        position = 0
        for gradient in gradients:
            gradient.copy_(flat[position : position + gradient.numel()].view_as(gradient))
            position += gradient.numel()

    def close(self) -> None:
        """Wait for the other processes, then shut the group down."""
        if self.world > 1:
            dist.barrier()
            dist.destroy_process_group()
