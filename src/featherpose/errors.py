"""The exceptions of featherpose: every message says what was given, what was expected and what to do.

All derive from `FeatherposeError`, so one ``except`` catches whatever a user can cause; anything else
that escapes is a defect of ours.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "ConfigError",
    "DatasetError",
    "DownloadError",
    "FeatherposeError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutputError",
    "SkeletonError",
    "SourceError",
    "TrainingError",
]


class FeatherposeError(Exception):
    """Something a user gave cannot be used.

    Args:
        given: What was given and what is wrong with it, one clause without a final full stop.
        expected: What would have been right, if that is not obvious.
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
        super().__init__("; ".join(parts))


class OptionError(FeatherposeError, ValueError):
    """An option has a value outside its range; the command line ends with exit code 2."""


class SkeletonError(FeatherposeError, ValueError):
    """A skeleton contradicts itself, or two skeletons do not fit together."""


class SourceError(FeatherposeError):
    """A picture, video, camera or stream cannot be read."""


class OutputError(FeatherposeError):
    """A result cannot be written."""


class ModelError(FeatherposeError):
    """A model file is missing, damaged, of an unknown architecture, or unusable on this machine."""


class DownloadError(FeatherposeError):
    """A download failed, was refused, or arrived with the wrong hash."""


class DatasetError(FeatherposeError):
    """An annotation file or a folder of pictures is not what its name says."""


class ConfigError(FeatherposeError, ValueError):
    """A configuration file has an unknown key, a missing key or a value of the wrong kind."""


class CheckpointError(FeatherposeError):
    """A checkpoint is damaged, incomplete or belongs to another network."""


class TrainingError(FeatherposeError):
    """Training cannot go on, for instance because the loss is no longer a number."""


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
