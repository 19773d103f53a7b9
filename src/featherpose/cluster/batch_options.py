"""Options of a batch run, and which of them determine its results."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, is_dataclass
from typing import Any, Literal, get_args

from featherpose.errors import OptionError
from featherpose.media.images import MAX_PIXELS
from featherpose.quality import Quality, QualityName, model_of, quality_named
from featherpose.runtime.backend import EngineOptions
from featherpose.tiling import TileOptions
from featherpose.topdown.topdown_options import RefineOptions

__all__ = ["BatchFormat", "BatchOptions", "DetectionOptions"]

BatchFormat = Literal["parquet", "coco", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionOptions:
    """Options that determine the poses; one output holds results of equal options only.

    Attributes:
        model: Name or file of the model; None for the bundled one.
        quality: Level of quality, as `PoseEstimator` takes it.
        height: Network input height in pixels; None for that of ``quality``.
        refine: Which people are refined; None for the rule of ``quality``.
        engine: How each worker runs the network; its ``threads`` are those of one worker.
        decoding: Decoding options of the model's method; None for those that suit the model.
        tiles: Overlapping views of each image.
        track: Give the people of videos ids.
        smooth: Smooth the joints of videos by these ids.
        frame_step: Take every n-th frame of videos.
        segment_s: Length of the pieces that videos are split into at key frames, seconds; 0 leaves them whole.
        max_pixels: Limit for one image.

    Raises:
        OptionError: If a value is outside its range.
    """

    model: str | None = None
    quality: QualityName | Quality = "balanced"
    height: int | None = None
    refine: RefineOptions | None = None
    engine: EngineOptions = field(default_factory=lambda: EngineOptions(threads=1))
    decoding: Any | None = None
    tiles: TileOptions | None = None
    track: bool = True
    smooth: bool = False
    frame_step: int = 1
    segment_s: float = 30.0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.frame_step < 1:
            raise OptionError(f"frame step {self.frame_step}", expected="1 or more")
        if not 0 <= self.segment_s < 1e6:
            raise OptionError(f"segments of {self.segment_s:g} s", expected="0 (whole videos) or more")
        if self.max_pixels < 1:
            raise OptionError(f"images of at most {self.max_pixels} pixels", expected="1 or more")

    @property
    def meant_model(self) -> str | None:
        """Return the model that was named, else that of the quality; None for the bundled default."""
        return model_of(self.model, self.quality)

    def identity(self) -> dict[str, Any]:
        """Return plain data that is equal for options which give equal poses; threads are not part of it."""
        values: dict[str, Any] = {}
        values["model"] = self.meant_model
        for name in ("track", "smooth", "frame_step", "max_pixels"):
            values[name] = getattr(self, name)
        quality = quality_named(self.quality)
        values["quality"] = _plain(quality)
        values["height"] = quality.height if self.height is None else self.height
        values["refine"] = _plain(self.refine)
        values["precision"], values["engine"] = self.engine.precision, self.engine.engine
        values["device"] = self.engine.device
        values["decoding"] = _plain(self.decoding)
        values["tiles"] = _plain(self.tiles)
        return values


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a run is executed.

    Attributes:
        detection: Options that determine the poses.
        formats: What the results are written as.
        workers: Processes that infer; None for one on each core of the cluster.
        address: The Ray cluster to join; None starts Ray on this machine and ends it.
        tries: How many workers an input may crash before it is recorded as failed.
        unit_timeout_s: How long a worker may be at one input, seconds.
        patience_s: How long a store that does not answer is waited for, seconds.
        stall_s: After how long without progress that is reported, seconds.
        shard_units: Images in each shard; None begins with 16 and doubles up to 1,024, so that few images use all
            workers and many make few files.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> BatchOptions(workers=0)
        Traceback (most recent call last):
        featherpose.errors.OptionError: 0 workers; expected 1 or more
    """

    detection: DetectionOptions = field(default_factory=DetectionOptions)
    formats: tuple[BatchFormat, ...] = ("parquet",)
    workers: int | None = None
    address: str | None = None
    tries: int = 3
    unit_timeout_s: float = 300.0
    patience_s: float = 60.0
    stall_s: float = 60.0
    shard_units: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise OptionError(f"{self.workers} workers", expected="1 or more")
        if not self.formats or any(name not in get_args(BatchFormat) for name in self.formats):
            raise OptionError(f"formats {', '.join(self.formats) or 'none'}", expected="parquet, coco or jsonl")
        if self.tries < 1:
            raise OptionError(f"{self.tries} tries", expected="1 or more")
        if self.shard_units is not None and not 1 <= self.shard_units <= 1_000_000:
            raise OptionError(f"shards of {self.shard_units} images", expected="1 to 1,000,000")
        for name in ("unit_timeout_s", "patience_s", "stall_s"):
            if not getattr(self, name) > 0:
                raise OptionError(f"{name} {getattr(self, name):g}", expected="a positive number of seconds")


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
