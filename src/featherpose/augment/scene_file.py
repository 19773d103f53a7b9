"""Scenes in files: ``scene.toml`` with the images beside it, and the scenes that come with the package."""

from __future__ import annotations

from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featherpose.augment.scene import ItemKind, Scene, SceneItem
from featherpose.augment.sprites import read_sprite
from featherpose.drawing.palette import Color
from featherpose.errors import ConfigError, OptionError
from featherpose.parsing import ParseError, parse_toml, read_document

__all__ = ["builtin_scenes", "load_scene"]

_FOLDER = Path(__file__).parent / "scenes"
_MAX_BYTES = 2**18

_Share = Annotated[float, Field(ge=-20, le=20)]
_Unit = Annotated[float, Field(ge=0, le=20)]
_Name = Annotated[str, Field(min_length=1, max_length=64)]


class _ItemRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: ItemKind
    joints: Annotated[list[_Name], Field(min_length=1, max_length=20)]
    image: Annotated[str, Field(max_length=200)] | None = None
    text: Annotated[str, Field(max_length=80)] = ""
    points: list[tuple[_Share, _Share]] = []
    size: _Unit = 1.0
    width: _Unit = 0.04
    offset: tuple[_Share, _Share] = (0.0, 0.0)
    up: tuple[_Name, _Name] | None = None
    color: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")] = "#ffffff"
    opacity: Annotated[float, Field(ge=0, le=1)] = 1.0
    order: Literal["before", "behind"] = "before"
    people: Literal["all", "largest"] | list[Annotated[int, Field(ge=0)]] = "all"
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.15
    seconds: Annotated[float, Field(gt=0, le=30)] = 0.8
    back: Literal["show", "unmirror", "hide"] = "show"


class _SceneRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: _Name = "scene"
    fade_s: Annotated[float, Field(ge=0, le=10)] = 0.2
    smoothing: bool = True
    items: Annotated[list[_ItemRecord], Field(min_length=1, max_length=100)]


def builtin_scenes() -> tuple[str, ...]:
    """Return the names of the scenes that come with the package.

    Example:
        >>> "glasses" in builtin_scenes()
        True
    """
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_scene(source: str | Path) -> Scene:
    """Read a scene.

    Args:
        source: Name of a scene that comes with the package (`builtin_scenes`), or a TOML file; images in it are named
            relative to its folder.

    Raises:
        ConfigError: If there is no such scene, or the file says something impossible.
        SourceError: If an image cannot be read or has no transparency.

    Example:
        >>> [item.kind for item in load_scene("glasses").items]
        ['sprite']
    """
    path = Path(source)
    if str(source) in builtin_scenes() and not path.exists():
        path = _FOLDER / f"{source}.toml"
    elif not path.is_file():
        raise ConfigError(
            f"there is no scene {source}", expected=f"a TOML file, or one of {', '.join(builtin_scenes())}"
        )
    try:
        data = parse_toml(read_document(path, _MAX_BYTES))
        record = _SceneRecord.model_validate(data)
    except ParseError as error:
        raise ConfigError(f"the scene {path} {error}") from error
    except ValidationError as error:
        raise ConfigError(f"the scene {path} is wrong{_first_problem(error, data)}") from error
    items = tuple(_item(path, number, one) for number, one in enumerate(record.items, 1))
    return Scene(name=record.name, items=items, fade_s=record.fade_s, smoothing=record.smoothing)


def _first_problem(error: ValidationError, data: Any) -> str:
    first = error.errors()[0]
    place = [str(part + 1 if isinstance(part, int) else part)[:64] for part in first["loc"]]
    where = f" at {' '.join(place)}" if place else ""
    return f"{where}: {first['msg'][:200]}"


def _item(path: Path, number: int, record: _ItemRecord) -> SceneItem:
    if (record.kind == "sprite") != (record.image is not None):
        raise ConfigError(
            f"item {number} of the scene {path} is a {record.kind} {'without' if record.image is None else 'with'} "
            "an image", expected="an image for a sprite, and for a sprite only",
        )  # fmt: skip
    sprite = None
    if record.image is not None:
        sprite = read_sprite(path.parent / record.image)
    try:
        return SceneItem(
            kind=record.kind, joints=tuple(record.joints), sprite=sprite, text=_checked_text(record.text),
            points=tuple(record.points), size=record.size, width=record.width, offset=record.offset, up=record.up,
            color=_color(record.color), opacity=record.opacity, behind=record.order == "behind",
            people=record.people if isinstance(record.people, str) else tuple(record.people),
            min_score=record.min_score, seconds=record.seconds, back=record.back,
        )  # fmt: skip
    except OptionError as error:
        raise ConfigError(f"item {number} of the scene {path}: {error}") from error


def _checked_text(text: str) -> str:
    # Only the two names: a format such as {id:>999999999} makes a string of any length.
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise OptionError(
            f"the text {text!r} cannot be filled in ({error})", expected="text with {id} or {score}"
        ) from error
    for name, spec, conversion in fields:
        if name not in ("id", "score") or spec or conversion:
            raise OptionError(f"the text {text!r} cannot be filled in", expected="text with {id} or {score}")
    return text


def _color(text: str) -> Color:
    red, green, blue = (int(text[i : i + 2], 16) for i in (1, 3, 5))
    return blue, green, red
