"""From a model argument (nothing, a name, a path) to a file and its spec."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featherpose.errors import ModelError
from featherpose.methods import METHODS
from featherpose.parsing import is_file, is_folder
from featherpose.runtime.backend import ModelSpec
from featherpose.runtime.engines import MODEL_SUFFIXES
from featherpose.zoo.card import ModelCard, read_card
from featherpose.zoo.catalog import bundled_card, cards, model_folder
from featherpose.zoo.checksums import check_file
from featherpose.zoo.graph_files import GRAPH_SUFFIXES, read_graph_file

__all__ = ["ResolvedModel", "resolve_model"]

_CHECKPOINTS = (".pth", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model file that can be opened.

    Attributes:
        path: The file.
        spec: Facts for the pipeline.
        card: The whole card, None for a file that was recognized by its outputs.
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
        ModelError: If it is missing, damaged, or unknown; the message says what to do.
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
    looks_like_path = (
        isinstance(model, Path) or path.suffix.lower() in MODEL_SUFFIXES + _CHECKPOINTS or len(path.parts) > 1
    )
    if not looks_like_path:
        known = cards()
        if str(model) in known:
            return _from_card(known[str(model)])
        if not is_file(path) and not is_folder(path):
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
    if not is_file(path) and not is_folder(path):
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
    if suffix not in MODEL_SUFFIXES:
        raise ModelError(f"{path} is no model file that featherpose knows", expected="a .xml or .onnx file")
    beside = path.with_suffix(".card.json")
    if is_file(beside):
        if beside.stat().st_size > 2**20:
            raise ModelError(f"{beside} is larger than 1 MB", expected="a model card")
        card = read_card(beside.read_bytes(), beside)
        if suffix in GRAPH_SUFFIXES:
            read_graph_file(path)  # a damaged file is reported in our words, not in an engine's
        return ResolvedModel(path, card.spec(), card)
    if suffix not in GRAPH_SUFFIXES:
        raise ModelError(
            f"{path} has no card beside it", expected=f"{beside.name}, which names its skeleton and outputs"
        )
    facts = read_graph_file(path)
    if facts.card is not None:
        card = read_card(facts.card, f"inside {path}")
        return ResolvedModel(path, card.spec(), card)
    for method in METHODS:
        known = method.recognize(facts.outputs, facts.shapes)
        if known is not None:
            spec = ModelSpec(
                name=path.stem, skeleton=known.skeleton, method=method, outputs=known.outputs,
                size_multiple=known.size_multiple, rgb=known.rgb, mean=known.mean, scale=known.scale,
                pad_value=known.pad_value, fixed_size=known.fixed_size, crop=known.crop,
                squashed=known.squashed, options=known.options,
            )  # fmt: skip
            return ResolvedModel(path, spec, None)
    raise ModelError(
        f"{path} does not say what its outputs mean",
        expected="a model exported by featherpose, one of the Open Model Zoo's human-pose-estimation-0001, "
        f"or a card {beside.name} beside it",
    )
