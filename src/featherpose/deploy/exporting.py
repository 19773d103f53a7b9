"""The whole way from a checkpoint to verified files in their place."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from featherpose.deploy.export import card_of, export_network
from featherpose.deploy.graph_files import publish, working_folder
from featherpose.deploy.photographs import sample_photographs
from featherpose.deploy.torch_backend import TorchBackend
from featherpose.deploy.verify import (
    ApComparison,
    Comparison,
    Limits,
    check,
    compare_ap,
    compare_on_pictures,
    find_pictures,
)
from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.coco import read_coco_dataset
from featherpose.media.images import read_image
from featherpose.nn.checkpoints import load_network, read_checkpoint
from featherpose.nn.feather import Feather
from featherpose.nn.feather_scales import equalise_scales
from featherpose.nn.outputs import PoseNetwork
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.opening import open_backend
from featherpose.skeleton import load_skeleton

__all__ = ["ExportRequest", "ExportResult", "export_checkpoint"]

_log = logging.getLogger(__name__)

_PICTURES = 8
_SCALE_PICTURES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is exported, where to and how it is verified.

    Attributes:
        checkpoint: The weights.
        output: Folder for the files.
        network: Name of the network; recognised if None.
        skeleton: Name or file of the skeleton; as stated in the checkpoint if None.
        name: Name of the files; the checkpoint's if None.
        stage: Stage that answers, -1 for the last.
        fp16: Whether the IR's weights are stored in FP16.
        equalise: Folder of pictures on which the channels of a feather network get equal scales before it is written;
            its outputs stay what they were, and INT8 then loses less. None to leave the weights as they are.
        pictures: Folder of pictures to verify with; a photograph that a dependency ships if None.
        labelled: Labelled folder for AP before and after.
        height: Network input height of the verification in pixels.
        licence: For the card.
        provenance: For the card.
        limits: How far the files may differ from the checkpoint.
    """

    checkpoint: Path
    output: Path
    network: str | None = None
    skeleton: str | None = None
    name: str | None = None
    stage: int = -1
    fp16: bool = True
    equalise: Path | None = None
    pictures: Path | None = None
    labelled: Path | None = None
    height: int = 256
    licence: str = ""
    provenance: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not 8 <= self.height <= 4096:
            raise OptionError(f"height {self.height}", expected="8 to 4096 pixels")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was written and what the verification found.

    Attributes:
        network: Name of the network.
        files: In their place.
        verified: Each model file with its comparison.
    """

    network: str
    files: tuple[Path, ...]
    verified: tuple[tuple[Path, Comparison, ApComparison | None], ...]


def export_checkpoint(request: ExportRequest) -> ExportResult:
    """Export, verify, and only then put the files into their place.

    Where weights of 16 bits say something else than the network does - folded batch norms can leave layers that
    amplify their rounding - they are stored in 32.

    Raises:
        CheckpointError: If the checkpoint cannot be read or is of another network.
        OptionError: If scales are to be equalised and the network is not feather.
        ModelError: If a file does not say what the network says; then nothing is written.
        OutputError: If the folder cannot be written to.
    """
    try:
        return _export_verified(request)
    except ModelError as error:
        if not request.fp16:
            raise
        wide = replace(request, fp16=False)
        done = _export_verified(wide)
        _log.warning("the weights are stored in FP32, because in FP16 %s", error.given)
        return done


def _export_verified(request: ExportRequest) -> ExportResult:
    skeleton = None if request.skeleton is None else load_skeleton(request.skeleton)
    network = load_network(request.checkpoint, name=request.network, skeleton=skeleton)
    kind = request.network or read_checkpoint(request.checkpoint).network
    card = card_of(
        network, request.name or request.checkpoint.stem.replace(" ", "-"), kind,
        precision="FP16" if request.fp16 else "FP32", licence=request.licence, provenance=request.provenance,
    )  # fmt: skip
    dataset = None if request.labelled is None else read_coco_dataset(request.labelled)
    exact = EngineOptions(precision="f32")
    written = network
    if request.equalise is not None:
        written = load_network(request.checkpoint, name=request.network, skeleton=skeleton)
        _equalise(written, kind, request.equalise, request.height)
    with sample_photographs() as own, working_folder(request.output) as working:
        pictures = own if request.pictures is None else find_pictures(request.pictures, _PICTURES)
        exported = export_network(written, card, working, fp16=request.fp16, stage=request.stage)
        reference = TorchBackend(network, exported.spec, stage=request.stage)
        verified = []
        for path in (exported.ir, exported.onnx):
            candidate = open_backend(path, exported.spec, exact)
            try:
                comparison = compare_on_pictures(reference, candidate, pictures, height=request.height)
                ap = None if dataset is None else compare_ap(reference, candidate, dataset, height=request.height)
            finally:
                candidate.close()
            check(comparison, request.limits, ap=ap)
            verified.append((request.output / path.name, comparison, ap))
        files = publish(working, request.output, card.name)
    return ExportResult(kind, tuple(files), tuple(verified))


def _equalise(network: PoseNetwork, kind: str, folder: Path, height: int) -> None:
    if not isinstance(network, Feather):
        raise OptionError(f"scales of {kind} cannot be equalised", expected="a checkpoint of feather")
    pictures = [
        prepare(read_image(path), height=height, size_multiple=network.size_multiple)[0]
        for path in find_pictures(folder, _SCALE_PICTURES)
    ]
    equalise_scales(network, [torch.from_numpy(picture).permute(0, 3, 1, 2).float() for picture in pictures])
