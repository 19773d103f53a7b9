"""Which number format runs, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.errors import ModelError, OptionError
from featherpose.runtime import EngineOptions, ModelSpec, open_backend
from featherpose.runtime.openvino import backend as openvino
from featherpose.runtime.processor import Processor, available_cores, processor

XEON_WITHOUT_BF16 = Processor("Xeon", frozenset({"avx2", "avx512f", "avx512_vnni"}))
WITH_BF16 = Processor("Zen 4", frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16"}))


def on(monkeypatch: pytest.MonkeyPatch, processor: Processor) -> None:
    monkeypatch.setattr(openvino, "processor", lambda: processor)


def test_auto_never_takes_bf16_where_it_is_emulated(
    monkeypatch: pytest.MonkeyPatch, small_ir: Path, small_spec: ModelSpec
) -> None:
    """OpenVINO lists BF16 wherever it can emulate it, and then runs it several times slower than float32."""
    on(monkeypatch, XEON_WITHOUT_BF16)
    info = open_backend(small_ir, small_spec).info
    assert (info.precision, info.float_precision) == ("fp32", "fp32")
    with pytest.raises(ModelError, match=r"Xeon does not compute in bf16 natively; expected one of fp32"):
        open_backend(small_ir, small_spec, EngineOptions(precision="bf16"))


def test_auto_takes_bf16_where_it_is_native(small_ir: Path, small_spec: ModelSpec) -> None:
    if not processor().bf16:
        pytest.skip("this processor has no bfloat16")
    assert open_backend(small_ir, small_spec).info.precision == "bf16"
    assert open_backend(small_ir, small_spec, EngineOptions(precision="bf16")).info.float_precision == "bf16"
    assert open_backend(small_ir, small_spec, EngineOptions(precision="fp32")).info.precision == "fp32"


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_int8_demands_a_quantized_file(engine: Any, small_onnx: Path, small_spec: ModelSpec) -> None:
    with pytest.raises(ModelError, match="is not quantized"):
        open_backend(small_onnx, small_spec, EngineOptions(precision="int8", engine=engine))


def test_onnx_runtime_keeps_the_files_format(small_onnx: Path, small_spec: ModelSpec) -> None:
    options = EngineOptions(engine="onnxruntime", precision="bf16")
    with pytest.raises(ModelError, match="expected auto or fp32"):
        open_backend(small_onnx, small_spec, options)
    assert open_backend(small_onnx, small_spec, EngineOptions(engine="onnxruntime")).info.precision == "fp32"


def test_released_network_runs_in_int8(
    monkeypatch: pytest.MonkeyPatch, released_int8: Path, released_spec: ModelSpec
) -> None:
    """All its convolutions are quantized: the rest stays in float32, with and without native bfloat16."""
    for facts in (WITH_BF16, XEON_WITHOUT_BF16):
        on(monkeypatch, facts)
        for precision in ("auto", "int8"):
            backend = open_backend(released_int8, released_spec, EngineOptions(precision=precision))
            assert (backend.info.precision, backend.info.float_precision) == ("int8", "fp32")


def test_the_engine_agrees(monkeypatch: pytest.MonkeyPatch, released_int8: Path, released_spec: ModelSpec) -> None:
    """The compiled graph itself says which kernels it runs."""
    import openvino as ov

    graphs: list[Any] = []
    compile_model = ov.Core.compile_model

    def keep(*given: Any, **named: Any) -> Any:
        graphs.append(compile_model(*given, **named))
        return graphs[-1]

    monkeypatch.setattr(ov.Core, "compile_model", keep)
    backend = open_backend(released_int8, released_spec)
    backend.infer(np.zeros((1, 64, 64, 3), np.uint8))
    operations = graphs[0].get_runtime_model().get_ordered_ops()
    convolutions = [
        operation.get_rt_info()["primitiveType"].astype(str)
        for operation in operations
        if operation.get_rt_info()["layerType"].astype(str) == "Convolution"
    ]
    assert len(convolutions) == 58
    assert all(kind.endswith("I8") for kind in convolutions), convolutions
    assert str(graphs[0].get_property("INFERENCE_PRECISION_HINT").to_string()) in ("f32", "float32")


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_threads_and_device(engine: Any, small_onnx: Path, small_spec: ModelSpec) -> None:
    info = open_backend(small_onnx, small_spec, EngineOptions(engine=engine, threads=1)).info
    assert info.threads == 1
    assert info.engine.startswith(f"{engine} ")
    assert info.device
    assert info.model.endswith("small.onnx")
    assert open_backend(small_onnx, small_spec, EngineOptions(engine=engine, device="cpu")).info.threads >= 1
    with pytest.raises(ModelError, match=r"no device 'NPU9' .* expected one of .*CPU"):
        open_backend(small_onnx, small_spec, EngineOptions(engine=engine, device="NPU9"))


@pytest.mark.parametrize(
    "values",
    [{"precision": "fp8"}, {"threads": -1}, {"num_streams": -1}, {"device": ""}, {"engine": "tensorrt"}],
)
def test_options_are_checked(values: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        EngineOptions(**values)


def test_auto_engine(small_ir: Path, small_onnx: Path, small_spec: ModelSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_backend(small_ir, small_spec).info.engine.startswith("openvino")
    assert open_backend(small_onnx, small_spec).info.engine.startswith("onnxruntime")
    monkeypatch.setattr("featherpose.runtime.engines.find_spec", lambda name: None)
    assert open_backend(small_onnx, small_spec).info.engine.startswith("openvino")
    with pytest.raises(ImportError, match=r"featherpose\[onnx\]"):
        open_backend(small_onnx, small_spec, EngineOptions(engine="onnxruntime"))


# Real /proc/cpuinfo texts, shortened to what is read.
ZEN_4 = "processor\t: 0\nmodel name\t: AMD EPYC 9R14\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 avx512_vnni\n\n"
CASCADE_LAKE = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) Platinum 8275CL\nflags\t\t: sse2 avx512f avx512_vnni\n\n"
SAPPHIRE_RAPIDS = "model name\t: Intel(R) Xeon(R)\nflags\t\t: avx512f avx512_bf16 amx_bf16 avx512_fp16 amx_int8\n"
GRAVITON_3 = "processor\t: 0\nBogoMIPS\t: 2100.00\nFeatures\t: fp asimd fphp asimdhp asimddp sve i8mm bf16\n"


@pytest.mark.parametrize(
    ("text", "bf16", "fp16", "int8"),
    [
        (ZEN_4, True, False, True),
        (CASCADE_LAKE, False, False, True),
        (SAPPHIRE_RAPIDS, True, True, True),
        (GRAVITON_3, True, True, True),
        ("", False, False, False),
    ],
)
def test_processor_facts(text: str, bf16: bool, fp16: bool, int8: bool) -> None:
    facts = Processor.from_cpuinfo(text)
    assert (facts.bf16, facts.fp16, facts.int8_dot) == (bf16, fp16, int8)
    assert facts.name


def test_container_quota(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    everything = available_cores(tmp_path / "none")
    for text, cores in (("max 100000", everything), ("50000 100000", 1), ("100000 100000", 1), ("junk", everything)):
        quota.write_text(text + "\n")
        assert available_cores(quota) == cores
