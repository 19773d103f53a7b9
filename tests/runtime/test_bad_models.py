"""Damaged, hostile and foreign model files: one clear error each, and never a crash of the process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from featherpose.errors import ModelError, OptionError
from featherpose.runtime import EngineOptions, ModelSpec, open_backend

if TYPE_CHECKING:
    from tests.runtime.conftest import SmallNetwork

ENTITY_BOMB = """<?xml version="1.0"?>
<!DOCTYPE net [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">
<!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;"><!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;">
<!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;"><!ENTITY g "&f;&f;&f;&f;&f;&f;&f;&f;&f;&f;">]>
<net name="&g;" version="11"><layers>&g;</layers></net>"""


def copy_ir(source: Path, folder: Path) -> Path:
    for suffix in (".xml", ".bin"):
        (folder / f"copy{suffix}").write_bytes(source.with_suffix(suffix).read_bytes())
    return folder / "copy.xml"


def refused(path: Path, spec: ModelSpec, options: EngineOptions | None = None) -> str:
    with pytest.raises(ModelError) as caught:
        open_backend(path, spec, options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message


def test_missing_and_empty_files(tmp_path: Path, small_ir: Path, small_spec: ModelSpec) -> None:
    assert "no model file" in refused(tmp_path / "none.xml", small_spec)
    assert "no model file" in refused(tmp_path / "none.onnx", small_spec)
    assert "not a model file" in refused(tmp_path / "weights.pth", small_spec)
    (tmp_path / "empty.onnx").touch()
    assert "is empty" in refused(tmp_path / "empty.onnx", small_spec)
    copy = copy_ir(small_ir, tmp_path)
    copy.with_suffix(".bin").write_bytes(b"")
    assert "is empty" in refused(copy, small_spec)
    copy.with_suffix(".bin").unlink()
    assert "copy.bin" in refused(copy, small_spec)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_garbage(engine: str, tmp_path: Path, small_spec: ModelSpec) -> None:
    options = EngineOptions(engine=engine)
    for name, content in (
        ("noise.onnx", np.random.default_rng(0).bytes(5000)),
        ("text.onnx", b"hello, this is no model\n" * 50),
        ("page.onnx", b"<!DOCTYPE html><html>404</html>"),
    ):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, small_spec, options)
    if engine == "openvino":
        for name, text in (("noise.xml", "\x00\x01<<<"), ("page.xml", "<html/>"), ("bomb.xml", ENTITY_BOMB)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).with_suffix(".bin").write_bytes(b"\0" * 64)
            refused(tmp_path / name, small_spec)


def test_truncated_files(tmp_path: Path, small_ir: Path, small_onnx: Path, small_spec: ModelSpec) -> None:
    copy = copy_ir(small_ir, tmp_path)
    weights, graph = copy.with_suffix(".bin").read_bytes(), copy.read_bytes()
    for kept in (1, len(weights) // 2, len(weights) - 4):
        copy.with_suffix(".bin").write_bytes(weights[:kept])
        refused(copy, small_spec)
    copy.with_suffix(".bin").write_bytes(weights)
    for kept in (10, len(graph) // 3, len(graph) - 20):
        copy.write_bytes(graph[:kept])
        refused(copy, small_spec)
    whole = small_onnx.read_bytes()
    for engine in ("openvino", "onnxruntime"):
        for kept in (10, len(whole) // 2, len(whole) - 100):
            (tmp_path / "cut.onnx").write_bytes(whole[:kept])
            refused(tmp_path / "cut.onnx", small_spec, EngineOptions(engine=engine))


def test_truncated_released_network(tmp_path: Path, released_int8: Path, released_spec: ModelSpec) -> None:
    copy = copy_ir(released_int8, tmp_path)
    weights = copy.with_suffix(".bin").read_bytes()
    copy.with_suffix(".bin").write_bytes(weights[: len(weights) // 2])
    assert "copy.xml is not a model that OpenVINO can read" in refused(copy, released_spec)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_other_architectures(engine: str, tmp_path: Path, small: SmallNetwork, small_spec: ModelSpec) -> None:
    options = EngineOptions(engine=engine)
    path = tmp_path / "other.onnx"
    onnx.save(small.onnx(paf_channels=30), path)
    assert "B x 30 x".replace("B", "1") in refused(path, small_spec, options)
    onnx.save(small.onnx(stride=4), path)
    assert "one cell for 8 pixels" in refused(path, small_spec, options)
    graph = small.onnx()
    graph.graph.output[0].name = graph.graph.node[2].output[0] = "logits"
    onnx.save(graph, path)
    assert "no output 'heatmaps'" in refused(path, small_spec, options)
    graph = small.onnx()
    graph.graph.input.append(onnx.helper.make_tensor_value_info("second", onnx.TensorProto.FLOAT, [1]))
    graph.graph.node.append(onnx.helper.make_node("Identity", ["second"], ["third"]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("third", onnx.TensorProto.FLOAT, [1]))
    onnx.save(graph, path)
    assert "one input of four axes" in refused(path, small_spec, options)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_weights_outside_the_folder(engine: str, tmp_path: Path, small: SmallNetwork, small_spec: ModelSpec) -> None:
    """A model file must not read other files of this machine."""
    outside = tmp_path / "outside.bin"
    outside.write_bytes(b"\0" * 200_000)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.bin").symlink_to(outside)
    for location in ("../outside.bin", str(outside), "link.bin", "missing.bin"):
        graph = small.onnx()
        tensor = graph.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.ClearField("raw_data")
        for key, value in (("location", location), ("offset", "0"), ("length", "49152")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, value
        (inside / "model.onnx").write_bytes(graph.SerializeToString())
        refused(inside / "model.onnx", small_spec, EngineOptions(engine=engine))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_mutated_files_never_crash(engine: str, tmp_path: Path, small_ir: Path, small_onnx: Path) -> None:
    """Bytes of real model files are changed at random; a crash of native code would end the child process."""
    program = """
import sys
from pathlib import Path
import numpy as np
from featherpose.errors import FeatherposeError
from featherpose.methods.paf.method import PAF
from featherpose.runtime import EngineOptions, ModelSpec, open_backend
from featherpose.skeleton import OPENPOSE_18
source, folder, engine = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
rng = np.random.default_rng(0)
whole = np.frombuffer(source.read_bytes(), np.uint8)
target = folder / ("mutant" + source.suffix)
if source.suffix == ".xml":
    target.with_suffix(".bin").write_bytes(source.with_suffix(".bin").read_bytes())
else:
    whole = whole.copy()
opened = refused = 0
for trial in range(150):
    mutant = whole.copy()
    # The graph of an ONNX file lies at both ends of the weights.
    ends = np.concatenate((np.arange(min(600, len(mutant))), np.arange(max(0, len(mutant) - 600), len(mutant))))
    places = rng.choice(ends if source.suffix == ".onnx" else len(mutant), rng.integers(1, 6))
    mutant[places] = rng.integers(0, 256, len(places))
    target.write_bytes(mutant.tobytes())
    try:
        spec = ModelSpec(name="small", skeleton=OPENPOSE_18, method=PAF, outputs=PAF.outputs(OPENPOSE_18))
        options = EngineOptions(engine=engine, threads=1)
        backend = open_backend(target, spec, options)
        backend.infer(np.zeros((1, 64, 64, 3), np.uint8))
        backend.close()
        opened += 1
    except FeatherposeError as error:
        assert "\\n" not in str(error), str(error)
        refused += 1
print(opened, refused)
"""
    source = small_ir if engine == "openvino" else small_onnx
    done = subprocess.run(
        [sys.executable, "-c", program, str(source), str(tmp_path), engine], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    opened, refusals = map(int, done.stdout.split())
    assert opened + refusals == 150
    assert refusals > 10


def test_wrong_engine(small_ir: Path, small_spec: ModelSpec) -> None:
    with pytest.raises(OptionError, match="ONNX Runtime cannot read"):
        open_backend(small_ir, small_spec, EngineOptions(engine="onnxruntime"))
