"""Options that every command with a model shares, named and explained once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from cyclopts import Parameter

from featherpose.errors import OptionError
from featherpose.preprocess import MAX_HEIGHT_PX, MIN_HEIGHT_PX
from featherpose.quality import Quality, QualityName, model_of, quality_named
from featherpose.runtime.backend import EngineOptions, Precision
from featherpose.runtime.engines import ENGINES
from featherpose.runtime.processor import available_cores
from featherpose.topdown.topdown_options import RefineMode, RefineOptions, Suppression

__all__ = ["ModelOptions"]


@Parameter(name="*", group="Model")
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Model, input height and engine options.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> ModelOptions(height=368).engine
        EngineOptions(precision='auto', threads=0, device='CPU', num_streams=0, engine='auto')
    """

    model_name: Annotated[
        str | None,
        Parameter(
            name="--model",
            help="Model: a .xml or .onnx file, or a name of `featherpose models list`. By --quality if left out: "
            "feather, or accurate for best; both come with the package.",
        ),
    ] = None
    quality_name: Annotated[
        QualityName,
        Parameter(
            name="--quality",
            help="fast: one look at each image. balanced: the people who gain most are looked at again, one at a time. "
            "best: a larger network, several scales, the mirrored image, everyone looked at again; seconds an image.",
        ),
    ] = "balanced"
    height: Annotated[
        int | None,
        Parameter(
            help="Network input height in pixels; the width follows the image. "
            "Higher finds smaller people and takes longer. By --quality if left out."
        ),
    ] = None
    refine_mode: Annotated[
        RefineMode | None,
        Parameter(
            name="--refine",
            help="Who is looked at again by a single-person network: off, auto (those who gain most, within a budget), "
            "all. By --quality if left out.",
        ),
    ] = None
    budget_crops: Annotated[
        int | None, Parameter(help="People an image whom --refine auto looks at; 10 if left out.")
    ] = None
    budget_ms: Annotated[
        float | None,
        Parameter(
            help="The same budget in milliseconds an image, counted in crops of the time that the model's card states: "
            "results do not depend on the machine."
        ),
    ] = None
    suppression: Annotated[
        Suppression,
        Parameter(
            help="How several refined poses of one person are told: oks, or pose (RMPE's parametric suppression)."
        ),
    ] = "oks"
    refiner: Annotated[str, Parameter(help="The single-person network: a model file or a name.")] = "refiner"
    precision: Annotated[
        Precision,
        Parameter(help="auto takes the fastest that this processor runs natively and the file allows."),
    ] = "auto"
    threads: Annotated[int, Parameter(help="Inference threads; 0 takes all cores.")] = 0
    device: Annotated[str, Parameter(help="CPU or GPU.")] = "CPU"
    engine_name: Annotated[
        str,
        Parameter(
            name="--engine",
            help=f"Inference engine: {', '.join(engine.name for engine in ENGINES)}, or auto for what suits the file.",
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        _ = self.engine, self.refine  # the other values are judged where they are used
        if self.height is None:
            return
        if self.height < MIN_HEIGHT_PX:
            raise OptionError(
                f"--height {self.height} is too small", expected=f"at least {MIN_HEIGHT_PX} pixels", hint="try 256"
            )
        if self.height > MAX_HEIGHT_PX:
            raise OptionError(
                f"--height {self.height} is too large", expected=f"at most {MAX_HEIGHT_PX} pixels", hint="try 512"
            )

    @property
    def quality(self) -> Quality:
        """Return the level, with the height of ``--height``."""
        level = quality_named(self.quality_name)
        return level if self.height is None else replace(level, height=self.height)

    @property
    def model(self) -> str | None:
        """Return the model that was named, else that of ``--quality``; None for the bundled default."""
        return model_of(self.model_name, self.quality_name)

    @property
    def refine(self) -> RefineOptions | None:
        """Return which people are refined; None for the level's own rule."""
        budgeted = self.budget_crops is not None or self.budget_ms is not None
        if self.refine_mode is None and not budgeted and self.refiner == "refiner" and self.suppression == "oks":
            return None
        mode = self.refine_mode or ("auto" if budgeted else quality_named(self.quality_name).refine.mode)
        return RefineOptions(
            mode=mode,
            budget_crops=self.budget_crops,
            budget_ms=self.budget_ms,
            model=self.refiner,
            suppression=self.suppression,
        )

    @property
    def engine(self) -> EngineOptions:
        """Return the engine options for the shortest time of each image."""
        return EngineOptions(
            precision=self.precision, threads=self.threads, device=self.device, engine=self.engine_name
        )

    @property
    def throughput_engine(self) -> EngineOptions:
        """Return the engine options for files: run images in parallel, with higher latency and higher throughput.

        Two inferences on two cores give about a tenth more images a second than one after the other on both.
        """
        side_by_side = min(8, max(2, self.threads or available_cores()))
        return replace(self.engine, num_streams=side_by_side if self.device.upper().startswith("CPU") else 0)
