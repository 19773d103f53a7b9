"""One network in every number format that this machine computes natively."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from featherpose.runtime.backend import EngineOptions, ModelSpec, Precision
from featherpose.runtime.openvino_graphs import is_quantised, write_float_copy
from featherpose.runtime.processor import processor
from featherpose.zoo.resolving import ResolvedModel

__all__ = ["Variant", "expand_precisions"]


@dataclass(frozen=True, slots=True)
class Variant:
    """A network in one number format.

    Attributes:
        name: The network's name.
        path: The file to run; for a quantised model in floating point a copy without its quantisation.
        spec: What the pipeline must know of it.
        precision: What to ask of the engine.
        trained: Whether its weights are those of a training; if not, only its time means anything.
    """

    name: str
    path: Path
    spec: ModelSpec
    precision: Precision
    trained: bool = True

    @property
    def label(self) -> str:
        """Name and number format for people."""
        formats = {"f32": "FP32", "f16": "FP16", "bf16": "BF16", "int8": "INT8"}
        return f"{self.name} {formats.get(self.precision, self.precision)}{'' if self.trained else ' (untrained)'}"

    def engine(self, *, threads: int = 0, device: str = "CPU", requests: int = 0) -> EngineOptions:
        """How to run it: on OpenVINO, whatever the file, so that one engine is compared with itself."""
        return EngineOptions(
            precision=self.precision, threads=threads, device=device, requests=requests, engine="openvino"
        )


def expand_precisions(model: ResolvedModel, folder: Path, *, device: str = "CPU") -> list[Variant]:
    """The number formats that a model file allows here, the most exact first.

    A quantised file is also run without its quantisation, from a copy in ``folder``. On a processor bf16 is only
    tried where it is native; on another device FP16 stands in its place.

    Raises:
        ModelError: If the file cannot be read.
    """
    name = model.spec.name.removesuffix("-int8")
    quantised = is_quantised(model.path)
    path = model.path
    if quantised:
        path = folder / f"{model.path.stem}-float.xml"
        write_float_copy(model.path, path)
    half: tuple[Precision, ...] = ("bf16",) if processor().bf16 else ()
    if not device.upper().startswith("CPU"):
        half = ("f16",)
    exact = Variant(name, path, model.spec, "f32")
    variants = [exact, *(replace(exact, precision=precision) for precision in half)]
    if quantised:
        variants.append(Variant(name, model.path, model.spec, "int8"))
    return variants
