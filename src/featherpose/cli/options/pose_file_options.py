"""What a file of poses does not say itself, for the commands that read poses instead of a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from featherpose.errors import OptionError

__all__ = ["PoseFileOptions"]


@Parameter(name="*", group="Files of poses")
@dataclass(frozen=True, slots=True, kw_only=True)
class PoseFileOptions:
    """What a file of poses leaves open."""

    fps: Annotated[
        float | None,
        Parameter(help="Frames a second of COCO results and OpenPose JSON, which number frames and hold no times."),
    ] = None
    source: Annotated[str | None, Parameter(help="Which video, if the poses of several are in one file.")] = None

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps <= 1e6:
            raise OptionError(f"--fps {self.fps:g} is impossible", expected="a positive number")

    def refuse_for(self, video: str) -> None:
        """Raise if an option is given although a video is read.

        Raises:
            OptionError: Naming the option.
        """
        if self.fps is not None or self.source is not None:
            given = f"--fps {self.fps:g}" if self.fps is not None else f"--source {self.source}"
            raise OptionError(f"{given} with the video {video}", expected="a file of poses, or no such option")
