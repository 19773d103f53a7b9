"""From names and paths to models: what is recognized, and what a user is told otherwise."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import ModelError
from featherpose.skeleton import OPENPOSE_18
from featherpose.zoo import catalog
from featherpose.zoo import resolve as resolving
from featherpose.zoo.card import CardFile, ModelCard
from featherpose.zoo.graph_files import read_graph_file
from featherpose.zoo.resolve import resolve_model

CARD = ModelCard(name="tiny", title='quotes " < & é', skeleton="coco_17")


@pytest.fixture
def small_ir(tmp_path: Path) -> Path:
    """An IR with an embedded card, written by OpenVINO itself."""
    import openvino as ov
    from openvino import opset13 as ops

    data = ops.parameter([1, 3, 8, 8], np.float32, name="data")
    heat = ops.relu(data)
    heat.output(0).tensor.set_names({"heatmaps"})
    field = ops.sigmoid(data)
    field.output(0).tensor.set_names({"pafs"})
    model = ov.Model([heat, field], [data], "tiny")
    model.set_rt_info(CARD.model_dump_json(), ["featherpose", "card"])
    path = tmp_path / "tiny.xml"
    ov.save_model(model, path)
    return path


@pytest.fixture
def small_onnx(tmp_path: Path) -> Path:
    """An ONNX model with an embedded card, written by the onnx package."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    shape = [1, 3, 8, 8]
    weights = helper.make_tensor("w", TensorProto.FLOAT, [3000], np.ones(3000, np.float32))
    graph = helper.make_graph(
        [helper.make_node("Relu", ["data"], ["heatmaps"]), helper.make_node("Sigmoid", ["data"], ["pafs"])],
        "tiny",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("heatmaps", "pafs")],
        [weights],
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, {"other": "x", "featherpose.card": CARD.model_dump_json()})
    path = tmp_path / "tiny.onnx"
    onnx.save(model, str(path))
    return path


def test_released_network_is_recognized(released_int8: Path) -> None:
    resolved = resolve_model(released_int8)
    assert resolved.path == released_int8
    assert resolved.card is None
    assert resolved.spec.skeleton == OPENPOSE_18
    assert resolved.spec.outputs[0].graph_name == "Mconv7_stage2_L2"
    assert resolve_model(str(released_int8)) == resolved


def test_card_inside_an_ir(small_ir: Path) -> None:
    resolved = resolve_model(small_ir)
    assert resolved.card == CARD
    assert {"heatmaps", "pafs"} <= read_graph_file(small_ir).outputs


def test_card_inside_onnx(small_onnx: Path) -> None:
    assert resolve_model(small_onnx).card == CARD
    assert read_graph_file(small_onnx).outputs == {"heatmaps", "pafs"}


def test_card_beside_wins(small_onnx: Path) -> None:
    small_onnx.with_suffix(".card.json").write_text(CARD.model_copy(update={"name": "beside"}).model_dump_json())
    assert resolve_model(small_onnx).spec.name == "beside"


def test_every_truncation_of_onnx_is_one_clear_error_or_fine(small_onnx: Path) -> None:
    whole = small_onnx.read_bytes()
    for end in [1, 2, 7, 50, 200, len(whole) // 2, len(whole) - 3, len(whole) - 1]:
        small_onnx.write_bytes(whole[:end])
        with pytest.raises(ModelError) as caught:
            resolve_model(small_onnx)
        assert "\n" not in str(caught.value)


def test_mutated_models_never_escape_the_error_tree(small_ir: Path, small_onnx: Path) -> None:
    rng = np.random.default_rng(0)
    for path in (small_ir, small_onnx):
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(100):
            broken = whole.copy()
            places = rng.integers(0, len(broken), rng.integers(1, 6))
            broken[places] = rng.integers(0, 256, len(places))
            path.write_bytes(broken.tobytes())
            try:
                resolve_model(path)
            except ModelError as error:
                assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xml", b"", r"is empty \(0 bytes\)"),
        ("a.xml", b"<net><layers>", "damaged or no OpenVINO IR"),
        ("a.xml", b"<html/>", "XML of kind <html>"),
        ("a.xml", b"<net/>", "does not say what its outputs mean"),
        ("a.xml", b'<!DOCTYPE x [<!ENTITY a "aaaa">]><net>&a;</net>', "document type"),
        ("a.xml", '<!DOCTYPE x [<!ENTITY a "aaaa">]><net>&a;</net>'.encode("utf-16"), "is not UTF-8"),
        ("a.xml", b"<net>" + b"<a/>" * 2_000_001 + b"</net>", "has more than 2,000,000 tags"),
        ("a.onnx", b"\x00garbage", "damaged or no ONNX"),
        ("a.onnx", b"PK\x03\x04" * 20, "damaged or no ONNX|no ONNX graph"),
        ("a.pth", b"\x80\x04", "is a checkpoint; expected .* export"),
        ("a.bin", b"weights", r"expected the .xml file beside it; .*a\.xml"),
        ("a.tflite", b"x", "has no card beside it"),
        ("a.txt", b"x", "no model file that featherpose knows"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=message):
        resolve_model(path)


def test_a_file_of_tiny_fields_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "tiny-fields.onnx"
    path.write_bytes(b"\x08\x01" * 300_000)
    with pytest.raises(ModelError, match="more than 200000 fields"):
        resolve_model(path)


def test_missing_file_folder_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model file"):
        resolve_model(tmp_path / "no.xml")
    with pytest.raises(ModelError, match="is a folder"):
        resolve_model(tmp_path)
    with pytest.raises(ModelError, match=r"no model named 'nonsense'.*human-pose-estimation-0001"):
        resolve_model("nonsense")


def test_name_that_was_not_fetched(cache: Path) -> None:
    with pytest.raises(
        ModelError, match=r"has not been fetched .*featherpose models fetch human-pose-estimation-0001$"
    ):
        resolve_model("human-pose-estimation-0001")


def test_checkpoint_by_name(cache: Path) -> None:
    with pytest.raises(ModelError, match="is a PyTorch checkpoint"):
        resolve_model("lightweight-openpose-370000")


def test_without_a_bundled_model_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "bundled_card", lambda: None)
    with pytest.raises(
        ModelError, match=r"models fetch human-pose-estimation-0001.*--model human-pose-estimation-0001"
    ):
        resolve_model(None)


def bundle(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend that a model is bundled."""
    folder.mkdir()
    files = []
    for part in (model, model.with_suffix(".bin")):
        shutil.copy(part, folder)
        files.append(CardFile(name=part.name, sha256=hashlib.sha256(part.read_bytes()).hexdigest()))
    card = CARD.model_copy(update={"files": tuple(files)})
    (folder / "default.card.json").write_text(card.model_dump_json())
    monkeypatch.setattr(catalog, "_WEIGHTS", folder)
    monkeypatch.setattr(catalog.bundled_card, "__defaults__", (folder,))
    return folder / model.name


def test_bundled_model_is_the_default(tmp_path: Path, small_ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(tmp_path / "weights", small_ir, monkeypatch)
    assert resolve_model(None).path == path
    assert resolve_model("tiny").path == path
    assert catalog.state(catalog.find_card("tiny")) == "bundled"


def test_bundled_model_is_held_to_its_hash(tmp_path: Path, small_ir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bundle(tmp_path / "weights", small_ir, monkeypatch)
    path.write_bytes(path.read_bytes().replace(b"Relu", b"Tanh"))
    with pytest.raises(ModelError, match="not the file that was published"):
        resolve_model(None)
