"""The options that every command with a model shares, so that they are named and explained once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import Parameter

from featherpose.errors import OptionError
from featherpose.runtime.backend import EngineOptions, Precision
from featherpose.runtime.processor import available_cores

__all__ = ["ModelOptions"]


@Parameter(name="*", group="Model")
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which network runs, at what resolution and how.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> ModelOptions(height=368).engine
        EngineOptions(precision='auto', threads=0, device='CPU', requests=0, engine='auto')
    """

    model: Annotated[
        str | None,
        Parameter(
            help="Model: a .xml or .onnx file, or a name of `featherpose models list`; the bundled one if left out."
        ),
    ] = None
    height: Annotated[
        int,
        Parameter(
            help="Network input height in pixels; the width follows the picture. "
            "Higher finds smaller people and takes longer."
        ),
    ] = 256
    precision: Annotated[
        Precision,
        Parameter(help="auto takes the fastest that this processor runs natively and the file allows."),
    ] = "auto"
    threads: Annotated[int, Parameter(help="Inference threads; 0 takes all cores.")] = 0
    device: Annotated[str, Parameter(help="CPU or GPU.")] = "CPU"

    def __post_init__(self) -> None:
        if self.height < 8:
            raise OptionError(f"--height {self.height} is too small", expected="at least 8 pixels", hint="try 256")
        if self.height > 8192:
            raise OptionError(f"--height {self.height} is too large", expected="at most 8192 pixels", hint="try 512")
        _ = self.engine  # the other values are judged where they are used

    @property
    def engine(self) -> EngineOptions:
        """The same choices as the runtime takes them, for the shortest time of each picture."""
        return EngineOptions(precision=self.precision, threads=self.threads, device=self.device)

    @property
    def throughput_engine(self) -> EngineOptions:
        """The same choices for files: several pictures side by side, each later, all of them sooner.

        Two inferences on two cores give about a tenth more pictures a second than one after the other on both.
        """
        side_by_side = min(8, max(2, self.threads or available_cores()))
        return replace(self.engine, requests=side_by_side if self.device.upper().startswith("CPU") else 0)
