"""The processes of one run that torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from featherpose.data.dataset import EpochSampler, share_of_batch
from featherpose.errors import ConfigError

__all__ = ["Distributed"]


@dataclass(frozen=True, slots=True)
class Distributed:
    """This process among those that share the run.

    Attributes:
        rank: Number of this process, 0 writes files.
        world: Number of processes.
        node: Number of this process's machine.
        local_rank: Number of this process on its machine.
        local_world: Number of processes on its machine.

    Example:
        >>> Distributed(rank=0, world=1).close()
    """

    rank: int
    world: int
    node: int = 0
    local_rank: int = 0
    local_world: int = 1

    @classmethod
    def init(cls) -> Distributed:
        """Initialize the process group; without torchrun there is one process.

        Raises:
            ConfigError: If torchrun's variables are set and are not numbers.
        """
        names = {"RANK": "0", "WORLD_SIZE": "1", "GROUP_RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
        try:
            rank, world, node, local_rank, local_world = (int(os.environ.get(name, names[name])) for name in names)
        except ValueError as error:
            raise ConfigError(
                f"one of {', '.join(names)} is no number ({error})", hint="start with torchrun"
            ) from error
        if world > 1 and not dist.is_initialized():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        return cls(rank, world, node, local_rank, local_world)

    def batches(self, size: int, batch: int, *, seed: int, start: int, stop: int, own_images: bool) -> EpochSampler:
        """Return this process's share of every batch.

        Args:
            size: Images that this process knows.
            batch: Images of a step, over all processes.
            seed: Of the run.
            start: First step.
            stop: Step behind the last.
            own_images: Whether each machine has images of its own. Then its processes share its part of the batch;
                otherwise all processes know the same images and share all of them.

        Raises:
            ConfigError: If the batch does not divide among the processes.

        Example:
            >>> second = Distributed(rank=1, world=2, node=1)
            >>> share = second.batches(3, 4, seed=1, start=0, stop=1, own_images=True)
            >>> len(list(share))  # two of the four images, all from those of the second machine
            2
        """
        share = share_of_batch(batch, self.world)
        rank, world = (self.local_rank, self.local_world) if own_images else (self.rank, self.world)
        own_seed = seed + self.node if own_images else seed
        return EpochSampler(size, batch=share * world, seed=own_seed, start=start, stop=stop, rank=rank, world=world)

    @torch.no_grad()
    def share_weights(self, network: nn.Module) -> None:
        """Replace all tensors by those of the first process: layers may have been fitted to its images."""
        if self.world > 1:
            for tensor in network.state_dict().values():
                dist.broadcast(tensor, 0)

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
