"""Networks without trained weights as model files, for timing: time does not depend on the weights."""

from __future__ import annotations

from pathlib import Path

from featherpose.errors import MissingExtraError
from featherpose.evaluation.performance.variants import Variant

__all__ = ["untrained_variant"]


def untrained_variant(name: str, folder: Path) -> Variant:
    """Build a network with fresh weights and write it as a model file.

    Args:
        name: Name of a network, such as ``openpose``.
        folder: Where to write it.

    Raises:
        MissingExtraError: If PyTorch or the exporter is not installed.
        OptionError: If there is no such network.
    """
    try:
        from featherpose.export.graph import card_of, export_network
        from featherpose.nn.networks import create_network
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("featherpose"):
            raise
        raise MissingExtraError(f"the untrained network {name}", "train") from None
    network = create_network(name)
    exported = export_network(network, card_of(network, name, name, precision="FP32"), folder, fp16=False)
    return Variant(name, exported.ir, exported.spec, "fp32", trained=False)
