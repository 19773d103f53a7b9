"""Build dataclasses from the plain values of a configuration file."""

from __future__ import annotations

import dataclasses
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from featherpose.errors import ConfigError
from featherpose.parsing import is_finite, shown

__all__ = ["build"]


def build(kind: Any, value: Any, where: str) -> Any:
    """Build a value of a declared type from TOML's plain values.

    Args:
        kind: A dataclass, a tuple of types, a literal, or a plain type.
        value: What the file says.
        where: Dotted key of the value, for messages.

    Raises:
        ConfigError: If the value, or one inside it, is of another kind.
    """
    if kind is Any:  # checked by the owner of its type
        return value
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        choices = [c for c in get_args(kind) if c is not type(None)]
        return None if value is None else build(choices[0], value, where)
    if origin is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{where} is {shown(value)}", expected=f"one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where} is {shown(value)}", expected="a list")
        parts = get_args(kind)
        if len(parts) == 2 and parts[1] is Ellipsis:
            return tuple(build(parts[0], v, f"{where}[{i}]") for i, v in enumerate(value))
        if len(parts) != len(value):
            raise ConfigError(f"{where} has {len(value)} entries", expected=f"{len(parts)}")
        return tuple(build(p, v, where) for p, v in zip(parts, value, strict=True))
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where or 'the configuration'} is {shown(value)}", expected="a table")
        hints, fields = get_type_hints(kind), {f.name: f for f in dataclasses.fields(kind)}
        prefix = f"{where}." if where else ""
        if unknown := sorted(set(value) - set(fields)):
            name = unknown[0] if len(unknown[0]) <= 60 else f"{unknown[0][:57]}..."
            raise ConfigError(f"{prefix}{name} is unknown", expected=f"one of {', '.join(sorted(fields))}")
        missing = [
            name
            for name, f in fields.items()
            if name not in value and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            raise ConfigError(f"{prefix}{missing[0]} is missing")
        return kind(**{name: build(hints[name], v, f"{prefix}{name}") for name, v in value.items()})
    if isinstance(value, str) and "\0" in value:
        raise ConfigError(f"{where} is {shown(value)}", expected="a text without NUL characters")
    if kind is float and is_finite(value, sys.float_info.max):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, kind) or kind is float or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {shown(value)}", expected=f"a value of kind {kind.__name__}")
    return value
