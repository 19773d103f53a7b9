"""The exceptions of featherpose: every message says what was given, what was expected and what to do.

All derive from `FeatherposeError`, so one ``except`` catches every error that a user can cause; any other
exception is a defect of featherpose.
"""

from __future__ import annotations

import copyreg
from pathlib import Path
from typing import Any

__all__ = [
    "CheckpointError",
    "ClusterError",
    "ConfigError",
    "DatasetError",
    "DownloadError",
    "FeatherposeError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutOfMemoryError",
    "OutputError",
    "SelectionError",
    "SkeletonError",
    "SourceError",
    "StoreError",
    "TrainingError",
]


class FeatherposeError(Exception):
    """Base class of errors that a user's input causes.

    Args:
        given: What was given and what is wrong with it, one clause without a final full stop.
        expected: What would be right, if that is not obvious.
        hint: What to do now.

    Example:
        >>> raise FeatherposeError("height 0 is not positive", expected="a multiple of 8", hint="try --height 256")
        Traceback (most recent call last):
        featherpose.errors.FeatherposeError: height 0 is not positive; expected a multiple of 8; try --height 256
    """

    def __init__(self, given: str, *, expected: str | None = None, hint: str | None = None) -> None:
        self.given = given
        self.expected = expected
        self.hint = hint
        parts = [given]
        if expected:
            parts.append(f"expected {expected}")
        if hint:
            parts.append(hint)
        super().__init__("; ".join(map(_shortened, parts)))

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what pickle rebuilds the error from, without `__init__`: subclasses differ in its arguments."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


# What was given may be a list of thousands of numbers or a name of a megabyte; both ends of it say what it is.
_MAX_PART = 600


def _shortened(part: str) -> str:
    return part if len(part) <= _MAX_PART else f"{part[: _MAX_PART * 2 // 3]} ... {part[-_MAX_PART // 3 :]}"


class OptionError(FeatherposeError, ValueError):
    """An option has a value outside its range; the command line ends with exit code 2."""


class SkeletonError(FeatherposeError, ValueError):
    """A skeleton contradicts itself, or two skeletons do not fit together."""


class SelectionError(FeatherposeError, IndexError):
    """A person or keypoint was selected that does not exist."""


class SourceError(FeatherposeError):
    """An image, video, camera or stream cannot be read.

    Attributes:
        path: The file, where one of several is meant.
    """

    path: Path | None = None


class OutputError(FeatherposeError):
    """A result cannot be written."""


class ModelError(FeatherposeError):
    """A model file is missing, damaged, of an unknown architecture, or unusable on this machine."""


class OutOfMemoryError(SourceError, ModelError, MemoryError):
    """There is not enough memory for an image, a video or a network; nothing is wrong with the files."""


class DownloadError(FeatherposeError):
    """A download failed, was refused, or arrived with the wrong hash."""


class DatasetError(FeatherposeError):
    """An annotation file or a folder of images is not of the stated kind."""


class ConfigError(FeatherposeError, ValueError):
    """A configuration file has an unknown key, a missing key or a value of the wrong kind."""


class CheckpointError(FeatherposeError):
    """A checkpoint is damaged, incomplete or belongs to another network."""


class TrainingError(FeatherposeError):
    """Training cannot continue, for instance because the loss is no longer a number."""


class StoreError(FeatherposeError):
    """A store of files cannot be reached, or refuses; nothing is wrong with the single file."""


class ClusterError(FeatherposeError):
    """Ray cannot be started or reached, or it ended."""


class MissingExtraError(FeatherposeError, ImportError):
    """A feature needs a package that is not installed.

    Args:
        feature: What the user asked for.
        extra: The name of the extra that brings the package.

    Example:
        >>> raise MissingExtraError("Parquet output", "parquet")
        Traceback (most recent call last):
        featherpose.errors.MissingExtraError: Parquet output needs ... run: pip install "featherpose[parquet]"
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.extra = extra
        super().__init__(
            f"{feature} needs packages that are not installed", hint=f'run: pip install "featherpose[{extra}]"'
        )
