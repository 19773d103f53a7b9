"""From what a user calls a model (nothing, a name, a path) to a file and what the pipeline must know of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featherpose.errors import ModelError
from featherpose.runtime.backend import ModelSpec
from featherpose.skeleton import OPENPOSE_18
from featherpose.zoo.card import ModelCard, read_card
from featherpose.zoo.catalogue import bundled_card, cards, model_folder
from featherpose.zoo.graph_files import read_graph_file
from featherpose.zoo.verifying import check_file

__all__ = ["ResolvedModel", "resolve_model"]

_GRAPHS = (".xml", ".onnx", ".tflite")
_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")

# Open Model Zoo files carry no card; their output names are as good as one.
_OMZ_PAFS, _OMZ_HEATMAPS = "Mconv7_stage2_L1", "Mconv7_stage2_L2"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model file that can be opened.

    Attributes:
        path: The file.
        spec: What the pipeline must know.
        card: The whole card, None for a file that was recognised by its outputs.
    """

    path: Path
    spec: ModelSpec
    card: ModelCard | None


def resolve_model(model: str | Path | None) -> ResolvedModel:
    """Find a model.

    Args:
        model: None for the bundled default; a name of ``featherpose models list``; or the path of a ``.xml`` or
            ``.onnx`` file with a card inside it, beside it (``<stem>.card.json``), or with the outputs of the Open
            Model Zoo's human-pose-estimation-0001.

    Raises:
        ModelError: If it is not here, damaged, or unknown; the message says what to do.
    """
    if model is None:
        card = bundled_card()
        if card is None:
            raise ModelError(
                "no model was named and this installation has no bundled one",
                hint="run `featherpose models fetch human-pose-estimation-0001` once, then "
                "add `--model human-pose-estimation-0001` (in Python: PoseEstimator('human-pose-estimation-0001'))",
            )
        return _from_card(card)
    path = Path(model).expanduser()
    looks_like_path = isinstance(model, Path) or path.suffix.lower() in _GRAPHS + _CHECKPOINTS or len(path.parts) > 1
    if not looks_like_path:
        known = cards()
        if str(model) in known:
            return _from_card(known[str(model)])
        if not path.exists():
            raise ModelError(
                f"there is no model named {str(model)!r}, nor a file of that name",
                expected=f"one of {', '.join(known)}, or the path of a .xml or .onnx file",
            )
    return _from_path(path)


def _from_card(card: ModelCard) -> ResolvedModel:
    folder = model_folder(card)
    if not card.files:
        raise ModelError(f"the card of model {card.name!r} lists no files")
    first = folder / card.files[0].name
    if card.kind == "checkpoint":
        raise ModelError(
            f"model {card.name!r} is a PyTorch checkpoint",
            expected="a .xml or .onnx model",
            hint=f"export it first: featherpose export {first}" if first.is_file() else "fetch it, then export it",
        )
    for file in card.files:
        path = folder / file.name
        if not path.is_file():
            raise ModelError(
                f"model {card.name!r} has not been fetched (there is no {path})",
                hint=f"run: featherpose models fetch {card.name}",
            )
        check_file(path, file, hint=f"run: featherpose models fetch {card.name}")
    return ResolvedModel(first, card.spec(), card)


def _from_path(path: Path) -> ResolvedModel:
    suffix = path.suffix.lower()
    if not path.exists():
        raise ModelError(
            f"there is no model file {path}",
            expected="a .xml or .onnx file, or a name of `featherpose models list`",
        )
    if path.is_dir():
        raise ModelError(f"{path} is a folder", expected="the path of a .xml or .onnx file")
    if suffix in _CHECKPOINTS:
        raise ModelError(
            f"{path} is a checkpoint", expected="a .xml or .onnx model", hint=f"export it: featherpose export {path}"
        )
    if suffix == ".bin":
        raise ModelError(
            f"{path} holds weights", expected="the .xml file beside it", hint=str(path.with_suffix(".xml"))
        )
    if suffix not in _GRAPHS:
        raise ModelError(f"{path} is no model file that featherpose knows", expected="a .xml or .onnx file")
    beside = path.with_suffix(".card.json")
    if beside.is_file():
        if beside.stat().st_size > 2**20:
            raise ModelError(f"{beside} is larger than 1 MB", expected="a model card")
        card = read_card(beside.read_bytes(), beside)
        if suffix != ".tflite":
            read_graph_file(path)  # a damaged file is reported in our words, not in an engine's
        return ResolvedModel(path, card.spec(), card)
    if suffix == ".tflite":
        raise ModelError(
            f"{path} has no card beside it", expected=f"{beside.name}, which names its skeleton and outputs"
        )
    facts = read_graph_file(path)
    if facts.card is not None:
        card = read_card(facts.card, f"inside {path}")
        return ResolvedModel(path, card.spec(), card)
    if {_OMZ_PAFS, _OMZ_HEATMAPS} <= facts.outputs:
        spec = ModelSpec(name=path.stem, skeleton=OPENPOSE_18, heatmap_output=_OMZ_HEATMAPS, paf_output=_OMZ_PAFS)
        return ResolvedModel(path, spec, None)
    raise ModelError(
        f"{path} does not say what its outputs mean",
        expected="a model exported by featherpose, one of the Open Model Zoo's human-pose-estimation-0001, "
        f"or a card {beside.name} beside it",
    )
