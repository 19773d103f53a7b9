"""Levels of quality: how much work goes into an image, by one word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar, get_args

from featherpose.errors import OptionError
from featherpose.topdown.topdown_options import RefineOptions

__all__ = ["QUALITIES", "Quality", "QualityName", "model_of", "quality_named"]

QualityName = Literal["fast", "balanced", "best"]

_Model = TypeVar("_Model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How much work goes into an image.

    Attributes:
        name: Of the level, for reports.
        height: Network input height in pixels.
        scales: Multiples of the height at which the network sees the image.
        mirror: Whether it sees the mirrored image as well.
        refine: Which people the single-person network looks at again.
        model: Name of the network that sees whole images, wherever none is named; None for the bundled default.
    """

    name: str
    height: int
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    refine: RefineOptions = RefineOptions(mode="off")  # noqa: RUF009 - frozen
    model: str | None = None


QUALITIES: Mapping[str, Quality] = MappingProxyType(
    {
        "fast": Quality(name="fast", height=256),
        "balanced": Quality(name="balanced", height=256, refine=RefineOptions(mode="auto")),
        "best": Quality(
            name="best",
            height=368,
            scales=(0.7, 1.0, 1.4),
            mirror=True,
            refine=RefineOptions(mode="all", mirror=True),
            model="accurate",
        ),
    }
)
"""The levels by name: ``fast`` for the most images a second, ``balanced`` for what most people want, ``best`` for
pictures that may take a second each."""


def quality_named(name: str | Quality) -> Quality:
    """Look a level up; a level is returned as it is.

    Raises:
        OptionError: If there is none of that name.

    Example:
        >>> quality_named("balanced").refine.mode
        'auto'
    """
    if isinstance(name, Quality):
        return name
    if name not in QUALITIES:
        raise OptionError(f"quality {name!r}", expected=f"one of {', '.join(get_args(QualityName))}")
    return QUALITIES[name]


def model_of(model: _Model | None, quality: QualityName | Quality) -> _Model | str | None:
    """Return the model that is meant: the one that was named, else that of the level; None for the bundled default.

    Example:
        >>> model_of(None, "best"), model_of("own.xml", "best"), model_of(None, "fast")
        ('accurate', 'own.xml', None)
    """
    level = quality_named(quality)
    return level.model if model is None else model
