"""A frozen part in the inference engine: its answers are wanted, its gradients are not.

What is before a cut of the network (`featherpose.training.cuts`) and frozen is exported as `featherpose export` does
it, and OpenVINO computes it in every step, in the number format of the run and on PyTorch's number of threads. The
two never compute at once: each step waits for the features, then goes on in PyTorch, which reads them where the
engine wrote them.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from featherpose.errors import ConfigError
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork, StageMaps
from featherpose.runtime.processor import processor
from featherpose.training.arithmetic import Arithmetic
from featherpose.training.config import NetworkConfig
from featherpose.training.cuts import Cut, cuts_of, frozen_cut
from featherpose.training.networks import evaluating

__all__ = ["FrozenPart", "frozen_part"]

_log = logging.getLogger(__name__)


class FrozenPart:
    """The frozen beginning of a network on OpenVINO, and the rest behind it.

    Args:
        network: With its weights; those before the cut must not change any more.
        arithmetic: Of the run.

    Raises:
        ConfigError: If a part before every cut is trained, or a package is missing.
        ModelError: If the engine cannot run the part.

    Example:
        >>> from featherpose.nn.feather import Feather
        >>> from featherpose.training.config import NetworkConfig
        >>> network = Feather(channels=16, blocks=1)
        >>> for name in ("front", "tail", "pyramid"):
        ...     _ = getattr(network, name).requires_grad_(False)
        >>> part = FrozenPart(network, Arithmetic.choose("cpu", "f32"))
        >>> ((heatmaps, pafs),) = part.stages(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        >>> tuple(pafs.shape), pafs.requires_grad
        ((1, 38, 8, 8), True)
    """

    def __init__(self, network: PoseNetwork, arithmetic: Arithmetic) -> None:
        cut = frozen_cut(network)
        if cut is None:
            parts = [" and ".join(cut.parts) for cut in cuts_of(network)]
            raise ConfigError(
                "[network] frozen_in_engine, and a part that feeds others is trained",
                expected=f"{' or '.join(reversed(parts))} in freeze",
            )
        self._cut = cut
        threads = torch.get_num_threads()
        bf16 = arithmetic.half is torch.bfloat16 and processor().bf16
        try:
            from featherpose.deploy.export import write_onnx
            from featherpose.runtime.openvino_features import OpenVinoFeatures

            with tempfile.TemporaryDirectory(prefix="featherpose-", ignore_cleanup_errors=True) as folder:
                path, before = Path(folder) / "frozen.onnx", _Before(as_module(network), cut)
                with evaluating(before):
                    write_onnx(before, path, cut.names, size_multiple=network.size_multiple)
                self._engine = OpenVinoFeatures(path, threads=threads, precision="bf16" if bf16 else "f32")
        except ImportError as error:
            raise ConfigError(
                f"[network] frozen_in_engine needs packages that are not installed ({error.name or error})",
                hint='run: pip install "featherpose[train]", or leave it out',
            ) from error
        _log.info("%s run in OpenVINO, %s, %d threads", ", ".join(cut.parts), self._engine.precision, threads)

    def features(self, pictures: UInt8[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """What passes the cut, channels last, without gradient; good until the next call.

        Args:
            pictures: BGR; read in place if they are channels last in memory, as batches are.
        """
        found = self._engine(pictures.permute(0, 2, 3, 1).contiguous().numpy())
        return tuple(torch.from_numpy(values).permute(0, 3, 1, 2) for values in found)

    def stages(self, pictures: UInt8[Tensor, "B 3 H W"]) -> tuple[StageMaps, ...]:
        """The maps of every stage, with gradients of what is behind the cut. Backward before the next call."""
        return self._cut.after(self.features(pictures))


def frozen_part(config: NetworkConfig, network: PoseNetwork, arithmetic: Arithmetic) -> FrozenPart | None:
    """The frozen part in the engine, if the configuration wants that and the run is on a processor.

    Raises:
        ConfigError: As `FrozenPart` says.
    """
    if not config.frozen_in_engine:
        return None
    if arithmetic.device.type != "cpu":
        _log.warning("[network] frozen_in_engine is for processors: on this GPU, what is frozen stays in PyTorch")
        return None
    return FrozenPart(network, arithmetic)


class _Before(nn.Module):
    """What is before a cut, from pictures as they lie in memory."""

    def __init__(self, network: nn.Module, cut: Cut) -> None:
        super().__init__()
        self.network = network
        self._before = cut.before

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> tuple[Tensor, ...]:
        return tuple(self._before(images.permute(0, 3, 1, 2).float()))
