"""The options of ``featherpose motion``, grouped as its help shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from featherpose.errors import OptionError
from featherpose.motion.analysis import MotionOptions
from featherpose.motion.cleaning.filters import FilterName, FilterOptions
from featherpose.motion.events.exercise_rules import ExerciseRule
from featherpose.motion.field import Field, parse_field
from featherpose.motion.meters import Scale, read_calibration, scale_from_length

__all__ = ["CleaningOptions", "MeterOptions", "MovementOptions"]


@Parameter(name="*", group="Movement")
@dataclass(frozen=True, slots=True, kw_only=True)
class MovementOptions:
    """Who is analyzed, and what the movement is."""

    person: Annotated[
        str, Parameter(help="all, largest, central, longest, or an id (the report shows ids; click on somebody).")
    ] = "all"
    join: Annotated[bool, Parameter(help="Join the tracks of one person whom the tracker lost or saw twice.")] = True
    exercise: Annotated[
        str,
        Parameter(
            help="squat, split-squat, push-up, pull-up, curl, jumping-jack, sit-up, deadlift; auto guesses, none "
            "counts nothing."
        ),
    ] = "auto"
    signal: Annotated[
        str | None,
        Parameter(
            help="Count by angles of your own instead: names and the least movement in degrees, such as "
            "left_knee,right_knee:30."
        ),
    ] = None
    facing: Annotated[
        Literal["auto", "right", "left", "front", "back"],
        Parameter(help="Where the front of the body points in the image."),
    ] = "auto"

    def __post_init__(self) -> None:
        _ = self.rule

    @property
    def rule(self) -> str | ExerciseRule:
        """Return the exercise as the analysis takes it."""
        if self.signal is None:
            return self.exercise
        names, _, degrees = self.signal.partition(":")
        try:
            least = float(degrees) if degrees else 35.0
        except ValueError:
            raise OptionError(f"--signal {self.signal}", expected="angles and degrees, such as left_knee:30") from None
        return ExerciseRule(name="own", angles=tuple(n.strip() for n in names.split(",")), prominence_deg=least)


@Parameter(name="*", group="Cleaning")
@dataclass(frozen=True, slots=True, kw_only=True)
class CleaningOptions:
    """Cleaning of the keypoints before angles are computed; the files name every step."""

    min_score: Annotated[float, Parameter(help="Keypoints below this score are taken for missing.")] = 0.1
    outliers: Annotated[bool, Parameter(help="Reject keypoints that jump away for some frames (Hampel).")] = True
    swaps: Annotated[bool, Parameter(help="Exchange left and right back where the network mixed them up.")] = True
    bones: Annotated[bool, Parameter(help="Reject keypoints that make a bone too long, or let it collapse.")] = True
    max_gap: Annotated[float, Parameter(help="Fill gaps up to so many seconds; longer ones stay gaps.")] = 0.25
    filter: Annotated[FilterName, Parameter(help="The filter; without delay.")] = "adaptive"
    cutoff: Annotated[float, Parameter(help="Its cut-off in Hz (butterworth, one-euro); the highest (adaptive).")] = 6.0
    width: Annotated[float, Parameter(help="Its half width in seconds (gaussian, median, loess).")] = 0.05
    resample: Annotated[
        float | None,
        Parameter(help="Put a video of variable rate on so many even frames a second; 0: its median rate."),
    ] = None

    def __post_init__(self) -> None:
        _ = self.filter_options
        if not 0 <= self.min_score <= 1:
            raise OptionError(f"--min-score {self.min_score:g} is impossible", expected="0 to 1")

    @property
    def filter_options(self) -> FilterOptions:
        """Return the filter as the analysis takes it."""
        return FilterOptions(name=self.filter, cutoff_hz=self.cutoff, width_s=self.width)


@Parameter(name="*", group="Meters")
@dataclass(frozen=True, slots=True, kw_only=True)
class MeterOptions:
    """Calibration in meters; without it lengths are in pixels."""

    person_height: Annotated[float | None, Parameter(help="Height of the (first) person in meters, such as 1.75.")] = (
        None
    )
    known_length: Annotated[
        str | None, Parameter(help="Two points of the image and their distance, such as 120,600,840,600=2.5 (meters).")
    ] = None
    calibration: Annotated[Path | None, Parameter(help="Pose2Sim calibration file (TOML).")] = None
    camera: Annotated[
        str | None, Parameter(help="Name of this camera in the calibration file, if that holds several.")
    ] = None
    floor_angle: Annotated[
        float | None,
        Parameter(help="Slant of the floor in the image, degrees counterclockwise; from the feet if left out."),
    ] = None
    origin: Annotated[str | None, Parameter(help="Origin x,y in pixels; where a foot first stands if left out.")] = None
    field: Annotated[
        str | None,
        Parameter(
            help="Team view: four or more points of the image and where they are on the field in meters, such as "
            "'120,450=0,0 900,440=40,0 1100,700=40,20 60,720=0,20'."
        ),
    ] = None

    def __post_init__(self) -> None:
        given = [v for v in (self.person_height, self.known_length, self.calibration) if v is not None]
        if len(given) > 1:
            raise OptionError("several sources of the scale", expected="a height, a known length or a calibration")
        _ = self.origin_px, self.field_mapping
        if self.camera is not None and self.calibration is None:
            raise OptionError(f"--camera {self.camera} without a calibration", expected="--calibration as well")
        if self.known_length is not None:
            self.scale()

    def scale(self, image_size: tuple[int, int] | None = None) -> Scale | None:
        """Return the scale in images of a size, if it does not depend on the person."""
        if self.calibration is not None:
            return read_calibration(self.calibration, self.camera, image_size=image_size)
        if self.known_length is None:
            return None
        points, _, length = self.known_length.partition("=")
        try:
            x1, y1, x2, y2 = (float(v) for v in points.split(","))
            return scale_from_length((x1, y1), (x2, y2), float(length))
        except ValueError as error:
            if isinstance(error, OptionError):
                raise
            raise OptionError(
                f"--known-length {self.known_length} cannot be understood", expected="x,y,x,y=meters"
            ) from None

    @property
    def origin_px(self) -> tuple[float, float] | None:
        """Return the origin, if it is given."""
        if self.origin is None:
            return None
        try:
            x, y = (float(v) for v in self.origin.split(","))
        except ValueError:
            raise OptionError(f"--origin {self.origin} cannot be understood", expected="x,y in pixels") from None
        return x, y

    @property
    def field_mapping(self) -> Field | None:
        """Return the field, if it is given."""
        return None if self.field is None else parse_field(self.field)


def motion_options(
    movement: MovementOptions,
    cleaning: CleaningOptions,
    meters: MeterOptions,
    camera_moves: bool | None,
    image_size: tuple[int, int],
) -> MotionOptions:
    """Return all options as the analysis takes them, for images of a size."""
    return MotionOptions(
        person=movement.person,
        join=movement.join,
        min_score=cleaning.min_score,
        outliers=cleaning.outliers,
        swaps=cleaning.swaps,
        bones=cleaning.bones,
        max_gap_s=cleaning.max_gap,
        resample_hz=cleaning.resample,
        filter=cleaning.filter_options,
        facing=None if movement.facing == "auto" else movement.facing,
        exercise=movement.rule,
        scale=meters.scale(image_size if all(image_size) else None),
        person_height_m=meters.person_height,
        floor_deg=meters.floor_angle,
        origin_px=meters.origin_px,
        field=meters.field_mapping,
        camera_moves=camera_moves,
    )
