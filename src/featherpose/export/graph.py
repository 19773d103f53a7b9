"""From a PyTorch network to ONNX and OpenVINO IR that take images directly.

Layout, type and normalization are inside the graph: its input ``images`` is uint8[B, H, W, 3] in BGR order, any
batch, height and width; its outputs are those of the method, of the last stage (or of the stage asked for).
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from featherpose.errors import MissingExtraError, OptionError
from featherpose.export.graph_files import read_graph, write_card, write_ir, write_onnx_card
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.runtime.backend import ModelSpec
from featherpose.zoo.card import ModelCard, TrainingCard

__all__ = ["ExportedModel", "card_of", "export_network", "spec_of", "write_onnx"]

_OPSET = 17


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """Files of one network.

    Attributes:
        onnx: ONNX, float32.
        ir: OpenVINO IR (``.xml``, the ``.bin`` beside it).
        spec: Facts of both for the pipeline.
    """

    onnx: Path
    ir: Path
    spec: ModelSpec


class _Deployed(nn.Module):
    """The network with everything between an image in memory and its first layer."""

    def __init__(self, network: PoseNetwork, stage: int) -> None:
        super().__init__()
        self.network = as_module(network)
        self.stage = stage

    def forward(self, images: UInt8[Tensor, "B H W 3"]) -> tuple[Float[Tensor, "B C h w"], ...]:
        return tuple(self.network(images.permute(0, 3, 1, 2).float())[self.stage])


def card_of(
    network: PoseNetwork,
    name: str,
    architecture: str,
    *,
    precision: str,
    license: str = "",  # noqa: A002 - as in the card
    provenance: str = "",
    training: TrainingCard | None = None,
) -> ModelCard:
    """Return the card of an exported network.

    Example:
        >>> from featherpose.nn.networks import create_network
        >>> card_of(create_network("feather"), "mine", "feather", precision="FP16").outputs["heatmaps"].stride
        4
    """
    return ModelCard.of(
        spec_of(network, name), architecture=architecture, precision=precision, license=license, provenance=provenance,
        training=training,
    )  # fmt: skip


def spec_of(network: PoseNetwork, name: str) -> ModelSpec:
    """Describe a network as a `ModelSpec`."""
    return ModelSpec(
        name=name,
        skeleton=network.skeleton,
        method=network.method,
        outputs=tuple(
            replace(output, channels=standard.channels)
            for output, standard in zip(network.outputs, network.method.outputs(network.skeleton), strict=True)
        ),
        size_multiple=network.size_multiple,
        pad_value=network.pad_value,
        side_by_side=network.side_by_side,
        options=network.options,
        crop=network.crop,
    )


def export_network(
    network: PoseNetwork, card: ModelCard, folder: Path, *, fp16: bool = True, stage: int = -1
) -> ExportedModel:
    """Write ``<name>.onnx``, ``<name>.xml``, ``<name>.bin`` and ``<name>.card.json`` into a folder.

    Args:
        network: The network.
        card: Its card; ``card.name`` becomes the files' name.
        folder: Output folder; the caller publishes the files once they are verified.
        fp16: Whether the IR's weights are stored in FP16; the engine computes in the precision it is asked for.
        stage: The stage whose outputs are exported; an earlier one makes a smaller graph.

    Raises:
        MissingExtraError: If the ``onnx`` package is not installed.
        OptionError: If there is no such stage.
        OutputError: If a file cannot be written.
    """
    deployed = _Deployed(network, stage).eval()
    try:
        with torch.no_grad():
            deployed(torch.zeros(1, 8 * network.size_multiple, 8 * network.size_multiple, 3, dtype=torch.uint8))
    except IndexError as error:
        raise OptionError(f"there is no stage {stage}", expected="the number of a stage of this network") from error
    path = folder / f"{card.name}.onnx"
    crop = network.crop
    write_onnx(
        deployed, path, [output.name for output in network.outputs], size_multiple=network.size_multiple,
        size=(crop.rows, crop.width) if crop is not None and crop.prior else None,
    )  # fmt: skip
    model = read_graph(path)
    write_onnx_card(path, card.model_copy(update={"precision": "FP32"}))
    ir = write_ir(model, card, folder, card.name, fp16=fp16)
    write_card(card, folder, card.name)
    return ExportedModel(path, ir, card.spec())


def write_onnx(
    module: nn.Module, path: Path, outputs: Sequence[str], *, size_multiple: int, size: tuple[int, int] | None = None
) -> None:
    """Write an ONNX file of a module that takes uint8[B, H, W, 3] and gives maps, any batch, height and width.

    Args:
        module: In evaluation mode.
        path: The file.
        outputs: A name for each map.
        size_multiple: What heights and widths must be multiples of.
        size: The only height and width that it takes, if it takes one alone.

    Raises:
        MissingExtraError: If the ``onnx`` package is not installed.
    """
    try:
        import onnx  # noqa: F401 - torch needs it; better to say so now than deep in its exporter
    except ImportError as error:
        raise MissingExtraError("exporting", "onnx") from error
    # Odd numbers of cells, and batch, height and width that differ: a size that was traced as a constant is detected.
    height, width = size or (13 * size_multiple, 17 * size_multiple)
    example = torch.zeros(2, height, width, 3, dtype=torch.uint8)
    axes = {name: {0: "batch", 2: f"{name}_rows", 3: f"{name}_columns"} for name in outputs}
    sizes = {0: "batch"} if size else {0: "batch", 1: "height", 2: "width"}
    # Gradients would keep the outputs of all layers: up to a gigabyte.
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), torch.no_grad():
        # The tracing exporter is deprecated, and traced sizes are warned of; the sizes are verified later.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (example,), path, input_names=["images"], output_names=list(outputs),
            dynamic_axes={"images": sizes, **axes},
            opset_version=_OPSET, dynamo=False,
        )  # fmt: skip
