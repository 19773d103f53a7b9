"""One network in every number format that this machine computes natively."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from featherpose.runtime.backend import EngineOptions, ModelSpec, Precision
from featherpose.runtime.openvino.graphs import is_quantized, write_float_copy
from featherpose.runtime.processor import processor
from featherpose.zoo.resolve import ResolvedModel

__all__ = ["Variant", "expand_precisions"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A network in one number format.

    Attributes:
        name: The network's name.
        path: The file to run; for a quantized model in floating point a copy without its quantization.
        spec: Facts of the network.
        precision: Precision to ask of the engine.
        trained: Whether its weights are trained; if not, only its time is meaningful.
    """

    name: str
    path: Path
    spec: ModelSpec
    precision: Precision
    trained: bool = True

    @property
    def label(self) -> str:
        """Return name and number format."""
        formats = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16", "int8": "INT8"}
        return f"{self.name} {formats.get(self.precision, self.precision)}{'' if self.trained else ' (untrained)'}"

    def engine(self, *, threads: int = 0, device: str = "CPU", num_streams: int = 0) -> EngineOptions:
        """Return the engine options: on OpenVINO for every file, so that one engine is compared with itself."""
        return EngineOptions(
            precision=self.precision, threads=threads, device=device, num_streams=num_streams, engine="openvino"
        )


def expand_precisions(model: ResolvedModel, folder: Path, *, device: str = "CPU") -> list[Variant]:
    """Return the number formats that a model file allows here, the most exact first.

    A quantized file is also run without its quantization, from a copy in ``folder``. On a processor bf16 is only
    tried where it is native; on another device FP16 stands in its place.

    Raises:
        ModelError: If the file cannot be read.
    """
    name = model.spec.name.removesuffix("-int8")
    quantized = is_quantized(model.path)
    path = model.path
    if quantized:
        path = folder / f"{model.path.stem}-float.xml"
        write_float_copy(model.path, path)
    half: tuple[Precision, ...] = ("bf16",) if processor().bf16 else ()
    if not device.upper().startswith("CPU"):
        half = ("fp16",)
    exact = Variant(name, path, model.spec, "fp32")
    variants = [exact, *(replace(exact, precision=precision) for precision in half)]
    if quantized:
        variants.append(Variant(name, model.path, model.spec, "int8"))
    return variants
