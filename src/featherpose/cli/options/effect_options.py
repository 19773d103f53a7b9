"""The options of scenes and of hidden heads, shared by ``overlay``, ``live`` and ``serve``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from featherpose.augment.effects import EffectOptions
from featherpose.augment.privacy.heads import HeadOptions
from featherpose.augment.scene_file import builtin_scenes, load_scene
from featherpose.errors import OptionError

__all__ = ["EffectArguments"]


@Parameter(name="*", group="Effects")
@dataclass(frozen=True, slots=True, kw_only=True)
class EffectArguments:
    """What is drawn over people, and whether heads are hidden."""

    scene: Annotated[
        str | None,
        Parameter(help=f"Graphics that follow people: a scene file (TOML), or one of {', '.join(builtin_scenes())}."),
    ] = None
    anonymize: Annotated[
        Literal["blur", "pixelate", "box"] | None,
        Parameter(help="Hide every head, also of people of whom little more than the head is found."),
    ] = None
    head_score: Annotated[
        float,
        Parameter(
            help="Keypoints of heads that belong to nobody count from this score on; lower hides more that is no head."
        ),
    ] = 0.03
    head_margin: Annotated[float, Parameter(help="Hide so much more or less around each head; 1 is usual.")] = 1.0

    def __post_init__(self) -> None:
        _ = self._heads

    @property
    def _heads(self) -> HeadOptions:
        return HeadOptions(min_peak_score=self.head_score, margin=self.head_margin)

    def options(self) -> EffectOptions | None:
        """Return the choices as the effects take them, None if there is nothing to do.

        Raises:
            ConfigError: If there is no such scene, or it is wrong.
            SourceError: If an image of it cannot be read.
        """
        if self.scene is None and self.anonymize is None:
            return None
        scene = None if self.scene is None else load_scene(self.scene)
        return EffectOptions(scene=scene, anonymize=self.anonymize, heads=self._heads)

    def wanted(self) -> EffectOptions:
        """Return the choices of a command that does nothing else.

        Raises:
            OptionError: If there is nothing to do.
        """
        options = self.options()
        if options is None:
            raise OptionError("nothing to draw", expected="--scene, --anonymize, or both")
        return options
