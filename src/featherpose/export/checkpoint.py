"""Export of a checkpoint to verified files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.export.calibration import sample_photographs
from featherpose.export.graph import card_of, export_network
from featherpose.export.graph_files import publish, working_folder
from featherpose.export.inputs import ModelInput, find_inputs, read_input
from featherpose.export.torch_backend import TorchBackend
from featherpose.export.verify import (
    ApComparison,
    Comparison,
    Limits,
    check,
    compare_ap,
    compare_on_images,
)
from featherpose.nn.checkpoints import Checkpoint, load_network, read_checkpoint
from featherpose.nn.outputs import PoseNetwork
from featherpose.preprocess import MAX_HEIGHT_PX, MIN_HEIGHT_PX
from featherpose.runtime.backend import EngineOptions, ModelSpec
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import load_skeleton
from featherpose.zoo.card import TrainingCard

__all__ = ["ExportRequest", "ExportResult", "export_checkpoint"]

_log = logging.getLogger(__name__)

_IMAGES = 8
_SCALE_IMAGES, _SCALE_CROPS = 12, 48


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """Options of an export.

    Attributes:
        checkpoint: The weights.
        output: Folder for the files.
        network: Name of the network; recognized if None.
        skeleton: Name or file of the skeleton; as stated in the checkpoint if None.
        name: Name of the files; the checkpoint's if None.
        stage: Stage whose outputs are exported, -1 for the last.
        fp16: Whether the IR's weights are stored in FP16.
        equalize: Folder of images for cross-layer equalization of feather or the refiner before it is written; its
            outputs do not change, and INT8 loses less. A network that takes crops needs a labeled folder
            (``annotations.json`` and ``images/``). None leaves the weights unchanged.
        hold_out_every: Over 1, people in images whose id is a multiple of this are left out of the equalization.
        images: Folder of images to verify with, labeled for a network that takes crops; a photograph that a dependency
            ships if None.
        labeled: Labeled folder for AP before and after.
        height: Network input height of the verification in pixels.
        license: For the card.
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
    equalize: Path | None = None
    hold_out_every: int = 1
    images: Path | None = None
    labeled: Path | None = None
    height: int = 256
    license: str = ""
    provenance: str = ""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not MIN_HEIGHT_PX <= self.height <= MAX_HEIGHT_PX:
            raise OptionError(f"height {self.height}", expected=f"{MIN_HEIGHT_PX} to {MAX_HEIGHT_PX} pixels")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Files and verification of an export.

    Attributes:
        network: Name of the network.
        files: In their place.
        verified: Each model file with its comparison.
    """

    network: str
    files: tuple[Path, ...]
    verified: tuple[tuple[Path, Comparison, ApComparison | None], ...]


def export_checkpoint(request: ExportRequest) -> ExportResult:
    """Export, verify, and only then publish the files.

    Where the outputs with FP16 weights differ from the network's - folded batch norms can leave layers that amplify
    rounding - weights are stored in FP32.

    Raises:
        CheckpointError: If the checkpoint cannot be read or is of another network.
        OptionError: If scales are to be equalized and the network cannot.
        ModelError: If the outputs of a file differ from the network's; then nothing is written.
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
    checkpoint = read_checkpoint(request.checkpoint)
    card = card_of(
        network, request.name or request.checkpoint.stem.replace(" ", "-"), request.network or checkpoint.network,
        precision="FP16" if request.fp16 else "FP32", license=request.license, provenance=request.provenance,
        training=_training(checkpoint),
    )  # fmt: skip
    dataset = None if request.labeled is None else read_coco_dataset(request.labeled)
    exact = EngineOptions(precision="fp32")
    written = network
    if request.equalize is not None:
        written = load_network(request.checkpoint, name=request.network, skeleton=skeleton)
        _equalize(written, card.spec(), request)
    with sample_photographs() as own, working_folder(request.output) as working:
        images: Sequence[ModelInput | Path] = own
        if request.images is not None:
            images = find_inputs(request.images, network.crop, _IMAGES)
        exported = export_network(written, card, working, fp16=request.fp16, stage=request.stage)
        reference = TorchBackend(network, exported.spec, stage=request.stage)
        verified = []
        for path in (exported.ir, exported.onnx):
            candidate = open_backend(path, exported.spec, exact)
            try:
                comparison = compare_on_images(reference, candidate, images, height=request.height)
                ap = None if dataset is None else compare_ap(reference, candidate, dataset, height=request.height)
            finally:
                candidate.close()
            check(comparison, request.limits, ap=ap)
            verified.append((request.output / path.name, comparison, ap))
        files = publish(working, request.output, card.name)
    return ExportResult(card.architecture, tuple(files), tuple(verified))


def _training(checkpoint: Checkpoint) -> TrainingCard | None:
    """Return what the checkpoint says of its training; None where that is nothing, or no numbers."""
    steps, minutes = checkpoint.facts.get("step"), checkpoint.facts.get("minutes")
    if steps is None or minutes is None:
        return None
    try:
        return TrainingCard(steps=int(steps), minutes=float(minutes))
    except ValueError:
        return None


def _equalize(network: PoseNetwork, spec: ModelSpec, request: ExportRequest) -> None:
    if request.equalize is None:
        raise AssertionError("a folder was given")
    count = _SCALE_IMAGES if network.crop is None else _SCALE_CROPS
    found = find_inputs(request.equalize, network.crop, count, leave_out_every=request.hold_out_every)
    images = [read_input(given, spec, request.height)[0] for given in found]
    network.equalize([torch.from_numpy(image).permute(0, 3, 1, 2).float() for image in images])
