"""The options of ``featherpose predict``, grouped as its help shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from featherpose.drawing.draw import DrawOptions
from featherpose.errors import OptionError
from featherpose.formats import WRITERS
from featherpose.formats.record import PoseWriter
from featherpose.media.sources.source import Span
from featherpose.methods.method import change_options, preset_of
from featherpose.runtime.backend import ModelSpec
from featherpose.tiling import TileOptions

__all__ = [
    "DrawingOptions",
    "FileOptions",
    "FormatTargets",
    "PeopleOptions",
    "SourceOptions",
    "Targets",
    "parse_time",
    "targets_of",
]  # fmt: skip


@Parameter(name="*", group="Outputs")
@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Files that are written beside those of `FormatTargets`, and how."""

    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"],
            help="Annotated image or video: a file name for one source, a folder for several. Without any output "
            "option photo.jpg becomes photo.poses.jpg in the current folder, and video.mp4 video.poses.mp4.",
        ),
    ] = None
    jsonl_header: Annotated[
        bool,
        Parameter(negative="", help="Name skeleton and facts of the run in a first line of the JSON Lines."),
    ] = False
    coco_ids: Annotated[
        Path | None,
        Parameter(
            help="COCO annotation file that says each image's id by its file name; without it ids are the numbers that "
            "the names are, or digests of the names."
        ),
    ] = None
    summary: Annotated[
        Path | None,
        Parameter(allow_leading_hyphen=True, help="Summary of the run as JSON; - for standard output."),
    ] = None
    resume: Annotated[
        bool,
        Parameter(
            negative="",
            help="Continue a run that was interrupted or killed: the same command with --resume added. What its "
            "outputs hold is not computed again.",
        ),
    ] = False


if TYPE_CHECKING:

    class FormatTargets:
        """Target of each data format: one attribute for each of `WRITERS`, named by its ``OPTION``."""

else:
    FormatTargets = Parameter(name="*", group="Outputs")(
        make_dataclass(
            "FormatTargets",
            [
                (
                    writer.OPTION,
                    Annotated[
                        str | None,
                        Parameter(
                            allow_leading_hyphen=True,
                            help=f"{writer.HELP}{'; - for standard output' if writer.STREAMS else ''}.",
                        ),
                    ],
                    field(default=None),
                )
                for writer in WRITERS
            ],
            namespace={"__module__": __name__},
            frozen=True,
            kw_only=True,
        )
    )


Targets = Mapping[type[PoseWriter], str]
"""Name of the file or folder, or ``-``, of each format that was asked for."""


def targets_of(formats: FormatTargets) -> dict[type[PoseWriter], str]:
    """Return the requested formats.

    Example:
        >>> {writer.OPTION: name for writer, name in targets_of(FormatTargets(csv="poses.csv")).items()}
        {'csv': 'poses.csv'}
    """
    named = {writer: getattr(formats, writer.OPTION) for writer in WRITERS}
    return {writer: name for writer, name in named.items() if name is not None}


@Parameter(name="*", group="Sources")
@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Part of the sources that is read, and the limits of reading."""

    start: Annotated[str | None, Parameter(help="Begin at this time of a video: seconds, or minutes:seconds.")] = None
    end: Annotated[str | None, Parameter(help="End before this time of a video.")] = None
    frame_step: Annotated[int, Parameter(help="Take every n-th frame.")] = 1
    strict: Annotated[
        bool,
        Parameter(negative="", help="Stop at the first file that cannot be read instead of going on with the rest."),
    ] = False
    timeout: Annotated[float, Parameter(help="Patience with an address that does not answer, seconds.")] = 10.0
    reconnect: Annotated[
        float,
        Parameter(help="Wait so long for a camera, stream or video that was lost to come back, seconds; inf for ever."),
    ] = 60.0
    max_megapixels: Annotated[float, Parameter(help="Refuse larger images before they fill the memory.")] = 200.0

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
        """Return the part as the sources take it."""
        start = None if self.start is None else parse_time(self.start)
        end = None if self.end is None else parse_time(self.end)
        return Span(start_s=start, end_s=end, frame_step=self.frame_step)


@Parameter(name="*", group="People")
@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleOptions:
    """Rules of decoding, tracking and tiling."""

    paper_rules: Annotated[
        bool,
        Parameter(
            negative="", help="Decode by the papers' rules instead of the better ones chosen on COCO training images."
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

    detect_every: Annotated[
        int,
        Parameter(
            help="In videos, look at the whole image on every n-th frame only; between them the refiner follows "
            "known people. Much faster while people are few; who comes in is found a little later."
        ),
    ] = 1

    def __post_init__(self) -> None:
        _ = self.tile_options
        if not 1 <= self.detect_every <= 1000:
            raise OptionError(f"--detect-every {self.detect_every}", expected="1 to 1000")

    @property
    def followed(self) -> bool:
        """Return whether people get ids."""
        return self.track or bool(self.smooth)

    @property
    def tile_options(self) -> TileOptions | None:
        """Return the tiles as the estimator takes them."""
        if self.tiles is None:
            return None
        match = re.fullmatch(r"(\d{1,3})(?:[x×](\d{1,3}))?", self.tiles.strip().lower())
        if match is None:
            raise OptionError(
                f"--tiles {self.tiles} cannot be understood", expected="columns x rows, such as 2x2 or 3x1"
            )
        return TileOptions(columns=int(match[1]), rows=int(match[2] or match[1]))

    def decoding(self, spec: ModelSpec) -> Any:
        """Return the model's decoding options with the given changes.

        Raises:
            OptionError: If the model's method has no such option, or a value is outside its range.
        """
        if self.paper_rules:
            options = preset_of(spec.method, "paper")
        else:
            options = spec.method.Options() if spec.options is None else spec.options
        return change_options(
            options,
            {
                "peak_threshold": self.peak_threshold,
                "limb_threshold": self.limb_threshold,
                "min_keypoints": self.min_keypoints,
                "min_mean_score": self.min_person_score,
            },
        )


@Parameter(name="*", group="Drawing")
@dataclass(frozen=True, slots=True, kw_only=True)
class DrawingOptions:
    """Options of drawing."""

    color: Annotated[
        Literal["limb", "person"],
        Parameter(name="--color", help="Colors by limb (left cool, right warm) or by person."),
    ] = "limb"
    thickness: Annotated[int | None, Parameter(help="Line width in pixels; by each person's size if left out.")] = None
    boxes: Annotated[bool, Parameter(negative="", help="Draw the box around each person.")] = False
    ids: Annotated[bool | None, Parameter(help="Draw each person's id; unless --no-ids or --no-track.")] = None
    scores: Annotated[bool, Parameter(negative="", help="Draw each person's score.")] = False
    joints: Annotated[bool, Parameter(help="Mark keypoints with dots.")] = True
    on_black: Annotated[bool, Parameter(negative="", help="Draw the skeletons alone, on black.")] = False
    min_keypoint_score: Annotated[float, Parameter(help="Do not draw keypoints below this score; files keep them.")] = (
        0.2
    )

    def __post_init__(self) -> None:
        _ = self.options(tracked=False)

    def options(self, *, tracked: bool) -> DrawOptions:
        """Return the options as the drawing takes them."""
        return DrawOptions(
            color=self.color,
            thickness=self.thickness,
            joints=self.joints,
            boxes=self.boxes,
            ids=tracked if self.ids is None else self.ids,
            scores=self.scores,
            on_black=self.on_black,
            min_keypoint_score=self.min_keypoint_score,
        )


def parse_time(text: str) -> float:
    """Parse seconds from ``12.5``, ``1:30`` or ``1:02:03.5``.

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
