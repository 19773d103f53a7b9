"""A part of a network on OpenVINO, from images to the features that the rest of the network reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from jaxtyping import Float32, UInt8
from openvino import preprocess as ov_preprocess
from openvino.passes import ConstantFolding, Manager

from featherpose.errors import ModelError
from featherpose.runtime.checks import engine_message
from featherpose.runtime.openvino.core import engine_core, locale_kept

__all__ = ["OpenVinoFeatures"]

_TYPES = {"fp32": ov.Type.f32, "bf16": ov.Type.bf16}


class OpenVinoFeatures:
    """One part on all its threads; a call returns when the engine is done and its threads are idle.

    Args:
        path: ONNX file or IR that takes uint8[B, H, W, 3] and gives maps [B, C, h, w].
        threads: Inference threads.
        precision: Number format of the computation; features are float32 in any case.

    Raises:
        ModelError: If the file cannot be read or run here.
    """

    def __init__(self, path: Path, *, threads: int, precision: Literal["fp32", "bf16"] = "fp32") -> None:
        core = engine_core()
        try:
            with locale_kept():
                model = core.read_model(path)
            # Grouped convolutions of ONNX files have their weights reshaped, which must not happen at every call.
            passes = Manager()
            passes.register_pass(ConstantFolding())
            passes.run_passes(model)
            settings = {
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False,
                "INFERENCE_PRECISION_HINT": _TYPES[precision],
            }  # fmt: skip
            with locale_kept():
                compiled = core.compile_model(_channels_last(model), "CPU", settings)
            self._request = compiled.create_infer_request()
        except Exception as error:  # the engine raises whatever its readers and layers raise
            raise ModelError(f"OpenVINO cannot prepare {path.name} ({engine_message(error)})") from error
        self._outputs = compiled.outputs
        self.precision = precision
        self.threads = threads

    def __call__(self, images: UInt8[np.ndarray, "B H W 3"]) -> tuple[Float32[np.ndarray, "B h w C"], ...]:
        """Return the features in the file's order, in the engine's own memory: the next call overwrites them.

        Args:
            images: Read in place.

        Raises:
            ModelError: If the engine fails.
        """
        try:
            self._request.set_input_tensor(ov.Tensor(images, shared_memory=True))
            self._request.infer()
        except Exception as error:
            raise ModelError(
                f"OpenVINO failed on an input of shape {images.shape} ({engine_message(error)})"
            ) from error
        return tuple(self._request.get_tensor(output).data for output in self._outputs)


def _channels_last(model: Any) -> Any:
    steps = ov_preprocess.PrePostProcessor(model)
    for index in range(len(model.outputs)):
        output = steps.output(index)
        output.model().set_layout(ov.Layout("NCHW"))
        output.tensor().set_layout(ov.Layout("NHWC")).set_element_type(ov.Type.f32)
    return steps.build()
