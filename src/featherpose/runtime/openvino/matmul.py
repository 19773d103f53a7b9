"""Peak of this machine: large matrix products on OpenVINO, in each number format."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal

import numpy as np
import openvino as ov
from openvino import opset13 as op

from featherpose.errors import ModelError, OptionError
from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.core import engine_core
from featherpose.runtime.processor import processor

__all__ = ["MatmulFormat", "MatmulPeak", "measure_matmul", "native_formats"]

MatmulFormat = Literal["fp32", "bf16", "int8"]
_PRODUCTS = 4  # in a row, so that quantizing the input is paid once for several products


@dataclass(frozen=True, slots=True)
class MatmulPeak:
    """Measured peak.

    Attributes:
        precision: Number format of the factors.
        gflops: Thousand million operations a second, two for each multiply-accumulate; the best run.
        median_gflops: The same of the median run.
        kernel: The engine's name of the kernel that ran.
        size: Rows and columns of the matrices.
    """

    precision: MatmulFormat
    gflops: float
    median_gflops: float
    kernel: str
    size: int


def native_formats() -> tuple[MatmulFormat, ...]:
    """Return the formats worth measuring here: bf16 only where the processor multiplies it natively.

    Example:
        >>> native_formats()[0]
        'fp32'
    """
    return ("fp32", "bf16", "int8") if processor().bf16 else ("fp32", "int8")


def measure_matmul(precision: MatmulFormat, *, size: int = 1536, threads: int = 0, seconds: float = 2.0) -> MatmulPeak:
    """Multiply large random matrices for a while.

    Args:
        precision: Number format of the factors; sums are kept in 32 bits.
        size: Rows and columns.
        threads: Threads of the engine, 0 for all cores.
        seconds: Duration.

    Raises:
        OptionError: If an argument is not positive.
        ModelError: If the engine cannot do it.
    """
    if size < 16 or seconds <= 0 or threads < 0:
        raise OptionError(f"size {size}, {seconds} s, {threads} threads", expected="a size from 16 and some time")
    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": ov.Type.bf16 if precision == "bf16" else ov.Type.f32,
    }
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    try:
        compiled = engine_core().compile_model(_products(precision, size), "CPU", settings)
        request = compiled.create_infer_request()
        factor = np.random.default_rng(0).standard_normal((size, size), np.float32)
        request.set_input_tensor(ov.Tensor(factor, shared_memory=True))
        request.infer()
        times: list[float] = []
        while len(times) < 3 or sum(times) < seconds:
            started = perf_counter()
            request.infer()
            times.append(perf_counter() - started)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot multiply matrices in {precision} here ({engine_message(error)})") from error
    operations = 2 * _PRODUCTS * size**3
    return MatmulPeak(
        precision, operations / min(times) / 1e9, operations / float(np.median(times)) / 1e9, _kernel(compiled), size
    )


def _products(precision: MatmulFormat, size: int) -> ov.Model:
    rng = np.random.default_rng(1)
    value = entry = op.parameter([size, size], ov.Type.f32)
    for _ in range(_PRODUCTS):
        # Scaled so that the values of every product have the spread of the first.
        weights = op.constant(rng.standard_normal((size, size), np.float32) / np.float32(size**0.5))
        if precision == "int8":
            bound, weight_bound = np.float32(4), np.float32(4 / size**0.5)
            value = op.fake_quantize(value, -bound, bound, -bound, bound, 256)
            weights = op.fake_quantize(weights, -weight_bound, weight_bound, -weight_bound, weight_bound, 255)
        value = op.matmul(value, weights, False, True)
    return ov.Model([op.result(value)], [entry], "products")


def _kernel(compiled: Any) -> str:
    facts = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    names = [
        str(fact["primitiveType"].value) for fact in facts if fact["layerType"].value in ("FullyConnected", "MatMul")
    ]
    return names[0] if names else "unknown"
