"""The seam between featherpose and an inference engine: what a model is, what a backend does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from jaxtyping import UInt8

from featherpose.codecs.paf.maps import Maps
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import OptionError
from featherpose.skeleton import Skeleton

__all__ = ["SETTLED_AFTER", "Backend", "EngineInfo", "EngineName", "EngineOptions", "ModelSpec", "Pending", "Precision"]

Precision = Literal["auto", "f32", "bf16", "f16", "int8"]
EngineName = Literal["auto", "openvino", "onnxruntime"]
# Inferences of one size in a row after which a backend is as fast as it will be: what times an engine begins then.
SETTLED_AFTER = 24
_PRECISIONS = ("auto", "f32", "bf16", "f16", "int8")
_ENGINES = ("auto", "openvino", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What the pipeline must know of a model file besides its weights.

    Attributes:
        name: Name for people.
        skeleton: What the heatmap channels and PAFs are.
        heatmap_stride: Input pixels per heatmap cell.
        paf_stride: Input pixels per PAF cell.
        size_multiple: Input width and height must be multiples of this.
        heatmap_output: Name of the graph's heatmap output.
        paf_output: Name of the graph's PAF output.
        mean: Value subtracted from each BGR channel if the file's graph does not normalise itself, else None.
        scale: Value each BGR channel is divided by after that, else None.
        rgb: True if the file's graph expects RGB; the backend then swaps channels inside the graph.
        pad_value: Grey value of the padding around the picture.
        decode: Decoding rules that suit the network; a sharper or fainter heatmap wants other thresholds.
    """

    name: str
    skeleton: Skeleton
    heatmap_stride: int = 8
    paf_stride: int = 8
    size_multiple: int = 8
    heatmap_output: str = "heatmaps"
    paf_output: str = "pafs"
    mean: tuple[float, float, float] | None = None
    scale: tuple[float, float, float] | None = None
    rgb: bool = False
    pad_value: int = 128
    decode: DecodeOptions = field(default_factory=DecodeOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How to run a model.

    Attributes:
        precision: ``auto`` takes the fastest that this processor runs natively and the model file allows; ``int8``
            demands a quantised file; ``bf16`` and ``f16`` demand that the processor has them. Layers that the file
            quantised run in INT8 whatever is asked; ``f32``, ``bf16`` and ``f16`` then speak of the others.
        threads: Inference threads, 0 for all cores.
        device: ``CPU``, or another device that the engine knows, such as ``GPU``.
        requests: Inferences that run side by side, each on its share of the threads: more pictures a second, each
            picture later. 0 is for the shortest latency: one at a time on all threads, the next one waiting.
        engine: ``auto`` runs ``.xml`` and ``.tflite`` on OpenVINO, ``.onnx`` on ONNX Runtime where that is installed
            and otherwise on OpenVINO, which reads it too.

    Raises:
        OptionError: If a value is outside its range.
    """

    precision: Precision = "auto"
    threads: int = 0
    device: str = "CPU"
    requests: int = 0
    engine: EngineName = "auto"

    def __post_init__(self) -> None:
        if self.engine not in _ENGINES:
            raise OptionError(f"engine {self.engine!r} is unknown", expected=f"one of {', '.join(_ENGINES)}")
        if self.precision not in _PRECISIONS:
            raise OptionError(f"precision {self.precision!r} is unknown", expected=f"one of {', '.join(_PRECISIONS)}")
        if self.threads < 0:
            raise OptionError(f"{self.threads} threads", expected="0 (all cores) or a positive number")
        if self.requests < 0:
            raise OptionError(f"{self.requests} requests", expected="0 (shortest latency) or a positive number")
        if not self.device:
            raise OptionError("the device has no name", expected="CPU, GPU or another device of the engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What really runs, as the engine reports it.

    Attributes:
        engine: Engine name and version, such as ``openvino 2026.4``.
        device: Device name as the engine gives it.
        precision: ``f32``, ``bf16``, ``f16`` or ``int8`` (the last: quantised layers in INT8, the rest as stated in
            ``float_precision``).
        float_precision: Precision of layers that are not quantised.
        threads: Inference threads.
        model: Path of the model file, or its name.
    """

    engine: str
    device: str
    precision: str
    float_precision: str
    threads: int
    model: str


class Pending(Protocol):
    """An inference under way."""

    def result(self) -> list[Maps]:
        """Wait, then return one `Maps` per picture of the batch, valid for as long as the caller holds them.

        Raises:
            ModelError: If the engine failed.
        """
        ...


class Backend(Protocol):
    """One loaded model on one engine. Thread-safe: any thread may submit, any thread may wait."""

    @property
    def spec(self) -> ModelSpec:
        """What the model is."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What really runs."""
        ...

    def infer(self, images: UInt8[np.ndarray, "B H W 3"]) -> list[Maps]:
        """Run the network now.

        Args:
            images: uint8[B, H, W, 3], BGR, H and W multiples of ``spec.size_multiple``; any size, any batch.

        Returns:
            One `Maps` per picture, valid for as long as the caller holds them.

        Raises:
            ModelError: If the engine failed.
        """
        ...

    def submit(self, images: UInt8[np.ndarray, "B H W 3"]) -> Pending:
        """Start the network and return at once; blocks only while all requests are busy.

        The caller must not change ``images`` before ``result()`` returned.
        """
        ...

    def close(self) -> None:
        """Release the engine's memory; the backend cannot be used afterwards."""
        ...
