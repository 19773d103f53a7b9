"""A PyTorch network as a backend: the reference of every exported file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from featherpose.methods.method import Arrays
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.runtime.backend import EngineInfo, ModelSpec, Pending
from featherpose.runtime.checks import check_images

__all__ = ["TorchBackend"]


@dataclass(frozen=True, slots=True)
class _Done:
    outputs: list[Arrays]

    def result(self) -> list[Arrays]:
        return self.outputs


class TorchBackend:
    """Backend that runs one stage of a network in float32 on the CPU; slow and exact.

    Args:
        network: The network.
        spec: Facts of the model.
        stage: The stage whose outputs are returned; the last unless given.

    Example:
        >>> from featherpose.nn.networks import create_network
        >>> from featherpose.export.graph import spec_of
        >>> network = create_network("lightweight-openpose")
        >>> backend = TorchBackend(network, spec_of(network, "fresh"))
        >>> (outputs,) = backend.infer(np.zeros((1, 64, 96, 3), np.uint8))
        >>> {name: values.shape for name, values in outputs.items()}
        {'heatmaps': (19, 8, 12), 'pafs': (38, 8, 12)}
    """

    def __init__(self, network: PoseNetwork, spec: ModelSpec, *, stage: int = -1) -> None:
        self._network = network
        self._module: nn.Module = as_module(network).eval()
        self._spec = spec
        self._stage = stage

    @property
    def spec(self) -> ModelSpec:
        """Return the facts of the model."""
        return self._spec

    @property
    def info(self) -> EngineInfo:
        """Return the facts of the engine."""
        return EngineInfo(
            engine=f"torch {torch.__version__}", device="CPU", precision="fp32", float_precision="fp32",
            threads=torch.get_num_threads(), model=self._spec.name,
        )  # fmt: skip

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Arrays]:
        """Run the network now."""
        tensor = torch.from_numpy(check_images(images, self._spec)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            stage = self._network(tensor)[self._stage]
        outputs = {name: value.float().numpy() for name, value in stage._asdict().items()}
        return [{name: np.ascontiguousarray(value[i]) for name, value in outputs.items()} for i in range(len(images))]

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Pending:
        """Run the network now, and return its result later."""
        return _Done(self.infer(images))

    def close(self) -> None:
        """Do nothing: Python releases everything."""
