"""The options of ``featherpose predict``, grouped as its help shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import OptionError
from featherpose.media.draw import DrawOptions
from featherpose.media.frames import Span
from featherpose.tiles import TileOptions

__all__ = ["DrawingOptions", "FileOptions", "PartOptions", "PeopleOptions", "parse_time"]


@Parameter(name="*", group="Outputs")
@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Which files are written; any combination. Without one of them annotated pictures and videos are."""

    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Annotated picture or video: a file name for one source, a folder for several. Without any output "
            "option photo.jpg becomes photo.poses.jpg in the current folder.",
        ),
    ] = None
    jsonl: Annotated[
        str | None, Parameter(allow_leading_hyphen=True, help="JSON Lines, one line a frame; - for standard output.")
    ] = None
    jsonl_header: Annotated[
        bool, Parameter(negative="", help="Name the skeleton in a first line of the JSON Lines.")
    ] = False
    coco: Annotated[Path | None, Parameter(help="COCO keypoint results (JSON).")] = None
    openpose: Annotated[Path | None, Parameter(help="Folder for OpenPose JSON 1.3, one file a frame.")] = None
    csv: Annotated[Path | None, Parameter(help="CSV table, one row a person.")] = None
    parquet: Annotated[Path | None, Parameter(help="Parquet table, one row a person.")] = None
    summary: Annotated[Path | None, Parameter(name="--json", help="Summary of the run (JSON).")] = None

    @property
    def annotates(self) -> bool:
        """Whether pictures or videos are written."""
        return self.output is not None or not any((self.jsonl, self.coco, self.openpose, self.csv, self.parquet))


@Parameter(name="*", group="Sources")
@dataclass(frozen=True, slots=True, kw_only=True)
class PartOptions:
    """Which part of the sources is read, and how patiently."""

    start: Annotated[str | None, Parameter(help="Begin at this time of a video: seconds, or minutes:seconds.")] = None
    end: Annotated[str | None, Parameter(help="End before this time of a video.")] = None
    every: Annotated[int, Parameter(help="Take one frame of so many.")] = 1
    strict: Annotated[
        bool,
        Parameter(negative="", help="Stop at the first file that cannot be read instead of going on with the rest."),
    ] = False
    timeout: Annotated[float, Parameter(help="Patience with an address that does not answer, seconds.")] = 10.0
    reconnect: Annotated[
        float,
        Parameter(help="Wait so long for a camera, stream or film that was lost to come back, seconds; inf for ever."),
    ] = 60.0
    max_megapixels: Annotated[float, Parameter(help="Refuse larger pictures before they fill the memory.")] = 200.0

    def __post_init__(self) -> None:
        _ = self.span
        if not 0 < self.timeout <= 3600:
            raise OptionError(f"--timeout {self.timeout:g} is impossible", expected="up to 3600 seconds")
        if not self.reconnect >= 0:
            raise OptionError(f"--reconnect {self.reconnect:g} is impossible", expected="seconds, 0 or more")
        if not 0 < self.max_megapixels <= 100_000:
            raise OptionError(f"--max-megapixels {self.max_megapixels:g} is impossible", expected="a positive number")

    @property
    def span(self) -> Span:
        """The part as the sources take it."""
        start = None if self.start is None else parse_time(self.start)
        end = None if self.end is None else parse_time(self.end)
        return Span(start_s=start, end_s=end, every=self.every)


@Parameter(name="*", group="People")
@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleOptions:
    """By which rules people are found, and whether they are followed."""

    published: Annotated[
        bool,
        Parameter(
            negative="", help="Decode by the papers' rules instead of the better ones chosen on COCO training pictures."
        ),
    ] = False
    peak_threshold: Annotated[
        float | None, Parameter(help="Weakest keypoint, 0 to 1. Lower finds fainter people and more ghosts.")
    ] = None
    limb_threshold: Annotated[
        float | None,
        Parameter(help="Weakest support of a limb, -1 to 1. Lower joins bent and hidden limbs, and strangers."),
    ] = None
    min_keypoints: Annotated[
        int | None,
        Parameter(help="Drop people with fewer keypoints. Higher removes fragments and mostly hidden people."),
    ] = None
    min_person_score: Annotated[
        float | None,
        Parameter(help="Drop people whose mean score, 0 to 2, is lower. Higher removes ghosts and faint people."),
    ] = None
    tiles: Annotated[
        str | None,
        Parameter(
            help="For small and far people: look at overlapping tiles, columns x rows such as 2x2. Costs as much time."
        ),
    ] = None
    track: Annotated[
        bool, Parameter(help="Give the people of videos, cameras and streams ids that they keep from frame to frame.")
    ] = True
    smooth: Annotated[
        bool | None,
        Parameter(
            help="Calm trembling joints by a One-Euro filter on real frame times; implies --track. By default cameras "
            "and live streams are smoothed, files are not."
        ),
    ] = None

    def __post_init__(self) -> None:
        _ = self.decode(DecodeOptions())
        _ = self.tile_options

    @property
    def followed(self) -> bool:
        """Whether people are to have ids."""
        return self.track or bool(self.smooth)

    @property
    def tile_options(self) -> TileOptions | None:
        """The tiles as the estimator takes them."""
        if self.tiles is None:
            return None
        match = re.fullmatch(r"(\d{1,3})(?:[x×](\d{1,3}))?", self.tiles.strip().lower())
        if match is None:
            raise OptionError(
                f"--tiles {self.tiles} cannot be understood", expected="columns x rows, such as 2x2 or 3x1"
            )
        return TileOptions(columns=int(match[1]), rows=int(match[2] or match[1]))

    def decode(self, suited: DecodeOptions) -> DecodeOptions:
        """The rules as the decoder takes them: those that suit the model, changed as asked."""
        rules = DecodeOptions.published() if self.published else suited
        given: dict[str, float | int | None] = {
            "peak_threshold": self.peak_threshold,
            "limb_threshold": self.limb_threshold,
            "min_keypoints": self.min_keypoints,
            "min_mean_score": self.min_person_score,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        weak = rules.weak_peak_threshold
        if self.peak_threshold is not None and weak is not None and 0 <= self.peak_threshold < weak:
            changes["weak_peak_threshold"] = self.peak_threshold  # it cannot lie above the first one
        return _replace(rules, changes)


def _replace(rules: DecodeOptions, changes: dict[str, float | int]) -> DecodeOptions:
    return replace(rules, **changes)  # type: ignore[arg-type]


@Parameter(name="*", group="Drawing")
@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingOptions:
    """How people are drawn."""

    colour: Annotated[
        Literal["limb", "person"],
        Parameter(name=["--colour", "--color"], help="Colours by limb (left cool, right warm) or by person."),
    ] = "limb"
    thickness: Annotated[int | None, Parameter(help="Line width in pixels; by each person's size if left out.")] = None
    boxes: Annotated[bool, Parameter(negative="", help="Draw the box around each person.")] = False
    ids: Annotated[bool | None, Parameter(help="Draw each person's id; unless --no-ids or --no-track.")] = None
    scores: Annotated[bool, Parameter(negative="", help="Draw each person's score.")] = False
    joints: Annotated[bool, Parameter(help="Mark keypoints with dots.")] = True
    black: Annotated[bool, Parameter(negative="", help="Draw the skeletons alone, on black.")] = False
    min_keypoint_score: Annotated[float, Parameter(help="Do not draw keypoints below this score; files keep them.")] = (
        0.1
    )

    def __post_init__(self) -> None:
        _ = self.options(tracked=False)

    def options(self, *, tracked: bool) -> DrawOptions:
        """The choices as the drawing takes them."""
        return DrawOptions(
            colour=self.colour,
            thickness=self.thickness,
            joints=self.joints,
            boxes=self.boxes,
            ids=tracked if self.ids is None else self.ids,
            scores=self.scores,
            on_black=self.black,
            min_keypoint_score=self.min_keypoint_score,
        )


def parse_time(text: str) -> float:
    """Seconds from ``12.5``, ``1:30`` or ``1:02:03.5``.

    Raises:
        OptionError: If it is neither.

    Example:
        >>> parse_time("12.5"), parse_time("1:30"), parse_time("1:02:03.5")
        (12.5, 90.0, 3723.5)
    """
    seconds = 0.0
    parts = text.strip().removesuffix("s").split(":")
    try:
        for part in parts:
            seconds = seconds * 60 + float(part)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < float("inf") or len(parts) > 3:
        raise OptionError(
            f"the time {text!r} cannot be understood", expected="seconds, or minutes:seconds such as 1:30"
        )
    return seconds
