"""Model files that appear complete, with their card inside."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from featherpose.errors import ModelError, OutputError
from featherpose.files import make_folder, output_error
from featherpose.zoo.card import ModelCard

__all__ = ["card_text", "publish", "read_graph", "working_folder", "write_card", "write_ir", "write_onnx_card"]


_INDENTATION = re.compile(rb">\s+<")


def card_text(card: ModelCard) -> str:
    """Return the card as it is embedded."""
    return card.model_dump_json(exclude_defaults=True, exclude={"format"})


@contextlib.contextmanager
def working_folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder inside ``output``, on the same disk, removed at the end.

    Raises:
        OutputError: If ``output`` cannot be made or written to.
    """
    make_folder(output)
    try:
        folder = tempfile.TemporaryDirectory(prefix=".featherpose-", dir=output, ignore_cleanup_errors=True)
    except OSError as error:
        raise output_error(output, error) from error
    with folder as name:
        yield Path(name)


def publish(working: Path, output: Path, stem: str) -> list[Path]:
    """Move files to their final place; weights before their graph, so that a graph is never without them."""
    written = []
    order = {".bin": 0, ".json": 1, ".xml": 2, ".onnx": 3}
    files = [path for path in working.iterdir() if path.name.startswith(f"{stem}.")]
    try:
        for path in sorted(files, key=lambda p: order.get(p.suffix, 9)):
            written.append(path.replace(output / path.name))
    except OSError as error:
        raise output_error(output / path.name, error) from error
    return written


def write_card(card: ModelCard, folder: Path, stem: str) -> Path:
    """Write ``<stem>.card.json``, for tools that cannot read a graph."""
    path = folder / f"{stem}.card.json"
    path.write_text(card.model_dump_json(exclude_defaults=True, exclude={"format"}, indent=2) + "\n", encoding="utf-8")
    return path


def write_onnx_card(path: Path, card: ModelCard) -> None:
    """Put the card into an ONNX file's metadata."""
    import onnx

    model = onnx.load(path)
    for entry in list(model.metadata_props):
        if entry.key == "featherpose.card":
            model.metadata_props.remove(entry)
    entry = model.metadata_props.add()
    entry.key, entry.value = "featherpose.card", card_text(card)
    onnx.save(model, path)


def read_graph(path: Path) -> Any:
    """Read an IR, ONNX or TFLite file as ``openvino.Model``, with constants folded.

    The weights of an ONNX file's grouped convolutions are reshaped by a dozen small layers; quantized in that state
    they would run with slow memory layouts.

    Raises:
        ModelError: If it cannot be read.
    """
    from openvino.passes import ConstantFolding, Manager

    from featherpose.runtime.openvino.core import engine_core

    try:
        model = engine_core().read_model(path)
    except RuntimeError as error:
        raise ModelError(f"{path} cannot be read as a model", expected="a whole .xml, .onnx or .tflite file") from error
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    return model


def write_ir(model: Any, card: ModelCard, folder: Path, stem: str, *, fp16: bool) -> Path:
    """Write an OpenVINO IR with its card; with ``fp16`` floating-point weights take half the space.

    Raises:
        OutputError: If it cannot be written.
    """
    import openvino as ov

    model.set_rt_info(card_text(card), ["featherpose", "card"])
    path = folder / f"{stem}.xml"
    try:
        ov.save_model(model, path, compress_to_fp16=fp16)
        # Indentation is a sixth of the file; no text of an IR begins or ends with white space.
        path.write_bytes(_INDENTATION.sub(b"><", path.read_bytes()))
    except (RuntimeError, OSError) as error:
        raise OutputError(f"{path.name} cannot be written", hint="check the free space of the disk") from error
    return path
