"""A PyTorch network behind the engines' interface: what every exported file is held to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from featherpose.codecs.paf.maps import Maps
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.runtime.backend import EngineInfo, ModelSpec, Pending
from featherpose.runtime.validation import check_images

__all__ = ["TorchBackend"]


@dataclass(frozen=True, slots=True)
class _Done:
    maps: list[Maps]

    def result(self) -> list[Maps]:
        return self.maps


class TorchBackend:
    """Runs a network in float32 on the CPU; slow, exact, and only the answer of one stage.

    Args:
        network: The network.
        spec: What it is.
        stage: Which stage answers; the last unless given.

    Example:
        >>> from featherpose.nn.networks import create_network
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> network = create_network("lightweight-openpose")
        >>> backend = TorchBackend(network, ModelSpec(name="fresh", skeleton=OPENPOSE_18))
        >>> backend.infer(np.zeros((1, 64, 96, 3), np.uint8))
        [Maps(heatmaps (19, 8, 12) /8, pafs (38, 8, 12) /8)]
    """

    def __init__(self, network: PoseNetwork, spec: ModelSpec, *, stage: int = -1) -> None:
        self._network = network
        self._module: nn.Module = as_module(network).eval()
        self._spec = spec
        self._stage = stage

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        return self._spec

    @property
    def info(self) -> EngineInfo:
        """What runs."""
        return EngineInfo(
            engine=f"torch {torch.__version__}", device="CPU", precision="f32", float_precision="f32",
            threads=torch.get_num_threads(), model=self._spec.name,
        )  # fmt: skip

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Maps]:
        """Run the network now."""
        tensor = torch.from_numpy(check_images(images, self._spec)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            maps = self._network(tensor)[self._stage]
        heatmaps, pafs = maps.heatmaps.float().numpy(), maps.pafs.float().numpy()
        strides = self._spec.heatmap_stride, self._spec.paf_stride
        return [
            Maps(np.ascontiguousarray(h), np.ascontiguousarray(p), *strides)
            for h, p in zip(heatmaps, pafs, strict=True)
        ]

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Pending:
        """Run the network now, and hand over the result later."""
        return _Done(self.infer(images))

    def close(self) -> None:
        """Nothing is held that Python would not release."""
