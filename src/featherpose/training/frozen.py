"""Runs the frozen layers in OpenVINO (inference only).

The frozen first half of a network (`frozen_split`) is exported as `featherpose export` does it. OpenVINO
computes it in every step, in the number format of the run and on PyTorch's number of threads. The two never compute at
once: each step waits for the features, then continues in PyTorch, which reads them where the engine wrote them.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from featherpose.errors import ConfigError
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork, Split, Stage
from featherpose.runtime.processor import processor
from featherpose.training.config import NetworkConfig
from featherpose.training.kept_features import KeptFeatures
from featherpose.training.networks import evaluating
from featherpose.training.precision import MixedPrecision

__all__ = ["FrozenPart", "frozen_part", "frozen_split"]

_log = logging.getLogger(__name__)


class FrozenPart:
    """The frozen first part of a network on OpenVINO, and the rest in PyTorch.

    Args:
        network: With its weights; those of the frozen half must not change any more.
        precision: Of the run.
        kept_in: Folder of features that were computed before; None computes all.

    Raises:
        ConfigError: If part of every first half is trained, or a package is missing.
        ModelError: If the engine cannot run the part.

    Example:
        >>> from featherpose.nn.feather import Feather
        >>> from featherpose.training.config import NetworkConfig
        >>> network = Feather(channels=16, blocks=1)
        >>> for name in ("front", "tail", "pyramid"):
        ...     _ = getattr(network, name).requires_grad_(False)
        >>> part = FrozenPart(network, MixedPrecision.choose("cpu", "fp32"))
        >>> ((heatmaps, pafs),) = part.stages(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
        >>> tuple(pafs.shape), pafs.requires_grad
        ((1, 38, 8, 8), True)
    """

    def __init__(self, network: PoseNetwork, precision: MixedPrecision, kept_in: Path | None = None) -> None:
        split = frozen_split(network)
        if split is None:
            parts = [" and ".join(split.parts) for split in network.splits()]
            raise ConfigError(
                "[network] frozen_in_engine, and a part that feeds others is trained",
                expected=f"{' or '.join(reversed(parts))} in freeze" if parts else "false, this network has no split",
            )
        self._split = split
        threads = torch.get_num_threads()
        bf16 = precision.half is torch.bfloat16 and processor().bf16
        try:
            from featherpose.export.graph import write_onnx
            from featherpose.runtime.openvino.features import OpenVinoFeatures

            with tempfile.TemporaryDirectory(prefix="featherpose-", ignore_cleanup_errors=True) as folder:
                path, before = Path(folder) / "frozen.onnx", _Before(as_module(network), split)
                with evaluating(before):
                    write_onnx(before, path, split.names, size_multiple=network.size_multiple)
                self._engine = OpenVinoFeatures(path, threads=threads, precision="bf16" if bf16 else "fp32")
                part = path.read_bytes() + self._engine.precision.encode()
                self._kept = None if kept_in is None else KeptFeatures(kept_in, part)
        except ImportError as error:
            raise ConfigError(
                f"[network] frozen_in_engine needs packages that are not installed ({error.name or error})",
                hint='run: pip install "featherpose[train]", or leave it out',
            ) from error
        _log.info("%s run in OpenVINO, %s, %d threads", ", ".join(split.parts), self._engine.precision, threads)

    def features(self, images: UInt8[Tensor, "B 3 H W"]) -> tuple[Tensor, ...]:
        """Compute the features of the frozen half, channels last, without gradient; valid until the next call.

        Args:
            images: BGR; read in place if they are channels last in memory, as batches are.
        """
        values = images.permute(0, 2, 3, 1).contiguous().numpy()
        found = self._engine(values) if self._kept is None else self._kept(values, self._engine)
        return tuple(torch.from_numpy(values).permute(0, 3, 1, 2) for values in found)

    def stages(self, images: UInt8[Tensor, "B 3 H W"], *guides: Mapping[str, Tensor]) -> tuple[Stage, ...]:
        """Compute every stage, with gradients of the second half. Call backward before the next call.

        Args:
            images: BGR.
            guides: Targets, for a `GuidedNetwork`.
        """
        return self._split.after(self.features(images), *guides)


def frozen_part(config: NetworkConfig, network: PoseNetwork, precision: MixedPrecision) -> FrozenPart | None:
    """Make the frozen part if the configuration asks for it and the run is on a processor.

    Raises:
        ConfigError: As for `FrozenPart`.
    """
    if not config.frozen_in_engine:
        return None
    if precision.device.type != "cpu":
        _log.warning("[network] frozen_in_engine is for processors: on this GPU the frozen part stays in PyTorch")
        return None
    return FrozenPart(network, precision, Path(config.features_folder) if config.features_folder else None)


class _Before(nn.Module):
    """The first half of a network, from images as they are in memory."""

    def __init__(self, network: nn.Module, split: Split) -> None:
        super().__init__()
        self.network = network
        self._before = split.before

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> tuple[Tensor, ...]:
        return tuple(self._before(images.permute(0, 3, 1, 2).float()))


def frozen_split(network: PoseNetwork) -> Split | None:
    """Return the split with the largest first half that is frozen entirely; None if there is none.

    Example:
        >>> from featherpose.nn.networks import create_network
        >>> network = create_network("lightweight-openpose")
        >>> _ = as_module(network).get_submodule("model").requires_grad_(False)
        >>> split = frozen_split(network)
        >>> split and split.parts
        ('model',)
    """
    trained = [name for name, value in as_module(network).named_parameters() if value.requires_grad]
    for split in network.splits():
        if not any(name.startswith(tuple(f"{part}." for part in split.parts)) for name in trained):
            return split
    return None
