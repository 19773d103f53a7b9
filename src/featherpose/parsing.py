"""Parse JSON, JSON Lines, TOML and NumPy archives from untrusted files, within limits on size, depth, numbers and text.

Every reader of such files uses this module and turns `ParseError` into its own exception, so that no file causes a
`RecursionError`, an integer of a million digits, or memory out of proportion to its size.
"""

from __future__ import annotations

import json
import math
import reprlib
import tomllib
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

__all__ = [
    "Limits",
    "ParseError",
    "check_values",
    "decode_text",
    "is_file",
    "is_finite",
    "is_folder",
    "is_integer",
    "parse_json",
    "parse_toml",
    "read_arrays",
    "read_document",
    "read_lines",
    "reason_of",
    "shown",
]

_GZIP = b"\x1f\x8b"
# Annotations shrink to a tenth or a fifteenth; a thousandth means zeros or spaces made to fill memory.
_MAX_GZIP_RATIO, _ANY_RATIO_BYTES = 100, 16 * 2**20
# tomllib takes time in the square of the parts of one dotted key, and a key cannot span lines.
_MAX_DOTS_PER_LINE = 256


class ParseError(ValueError):
    """A document cannot be read or exceeds a limit; the message continues a sentence that begins with its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of a document; the defaults suit files that people write by hand.

    Attributes:
        max_bytes: Size of the document, after decompression.
        max_depth: Tables and lists inside each other.
        max_values: Values in all.
        max_text: Characters of one string.
    """

    max_bytes: int = 2**18
    max_depth: int = 16
    max_values: int = 100_000
    max_text: int = 4096


def read_document(path: Path, max_bytes: int) -> bytes:
    """Return a file's content, decompressed if it is gzip.

    Raises:
        ParseError: If it cannot be read, is damaged, or exceeds the limit before or after unpacking.
    """
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise ParseError(f"cannot be read ({error.strerror or error})") from error
    except ValueError as error:  # a NUL or a lone surrogate in the name
        raise ParseError("is not a possible file name") from error
    if len(data) > max_bytes:
        raise ParseError(f"is larger than {_size(max_bytes)}")
    return _unpacked(data, max_bytes) if data.startswith(_GZIP) else data


def _unpacked(data: bytes, max_bytes: int) -> bytes:
    limit = min(max_bytes, max(_ANY_RATIO_BYTES, _MAX_GZIP_RATIO * len(data)))
    parts: list[bytes] = []
    size = 0
    try:
        while data:
            stream = zlib.decompressobj(wbits=31)
            while not stream.eof:
                part = stream.decompress(data, limit + 1 - size)
                parts.append(part)
                size += len(part)
                if size > limit:
                    raise ParseError(f"unpacks to more than {_size(limit)}")
                if not part and not stream.eof:
                    raise ParseError("is a damaged gzip file: it is cut off")
                data = stream.unconsumed_tail
            data = stream.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise ParseError(f"is a damaged gzip file: {error}") from error
    return b"".join(parts)


def decode_text(data: bytes) -> str:
    r"""Return the text of UTF-8, UTF-16 or UTF-32, with or without a byte-order mark.

    Raises:
        ParseError: If it is none of them.

    Example:
        >>> decode_text("{}".encode("utf-16")), decode_text(b"\xef\xbb\xbf{}")
        ('{}', '{}')
    """
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError as error:
        raise ParseError(f"is not text: byte {error.start} is not {error.encoding.upper()}") from error


def parse_json(data: bytes | str, limits: Limits | None = None) -> Any:
    """Parse JSON; without limits only its own depth and the digits of integers are bounded.

    Args:
        data: The document.
        limits: None for large files whose reader checks each value that it takes and keeps nothing else.

    Raises:
        ParseError: If it is no JSON or exceeds a limit.

    Example:
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        featherpose.parsing.ParseError: is nested too deep
    """
    if limits is not None and len(data) > limits.max_bytes:
        raise ParseError(f"is larger than {_size(limits.max_bytes)}")
    text = decode_text(data) if isinstance(data, bytes) else data
    try:
        value = json.loads(text)
    except RecursionError:
        raise ParseError("is nested too deep") from None
    except ValueError as error:
        if not text.strip():
            raise ParseError("is no JSON, empty") from error
        raise ParseError(_digits(error) or f"is no JSON, cut off or damaged: {error}") from error
    if limits is not None:
        check_values(value, limits)
    return value


def parse_toml(data: bytes | str, limits: Limits = Limits()) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        ParseError: If it is no TOML or exceeds a limit.
    """
    if len(data) > limits.max_bytes:
        raise ParseError(f"is larger than {_size(limits.max_bytes)}")
    text = decode_text(data) if isinstance(data, bytes) else data
    if any(line.count(".") > _MAX_DOTS_PER_LINE for line in text.split("\n")):
        raise ParseError(f"has a line with more than {_MAX_DOTS_PER_LINE} dots; break it into several lines")
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise ParseError("is nested too deep") from None
    except (ValueError, OverflowError) as error:
        raise ParseError(_digits(error) or f"is not TOML: {reason_of(error)}") from error
    check_values(value, limits)
    return value


def check_values(value: object, limits: Limits) -> None:
    """Reject plain data that is too deep, too large, or holds numbers or strings too large to work with.

    Integers must fit 64 bits.

    Raises:
        ParseError: With the limit that is exceeded.
    """
    level: list[object] = [value]
    depth = count = 0
    while level:
        depth += 1
        deeper: list[object] = []
        for item in level:
            if isinstance(item, dict):
                deeper.extend(item)
                deeper.extend(item.values())
            elif isinstance(item, list):
                deeper.extend(item)
            elif isinstance(item, str):
                if len(item) > limits.max_text:
                    raise ParseError(f"has a text of {len(item)} characters; the limit is {limits.max_text}")
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                raise ParseError("has an integer of more than 64 bits")
        count += len(deeper)
        if count > limits.max_values:
            raise ParseError(f"has more than {limits.max_values} values")
        if depth > limits.max_depth + 1:
            raise ParseError(f"is nested more than {limits.max_depth} levels deep")
        level = deeper


def read_lines(path: Path, max_characters: int) -> Iterator[tuple[int, str, bool]]:
    """Yield (number, line without its end, whether it had an end) of a UTF-8 text file.

    Raises:
        ParseError: If the file cannot be read, is no text, or has a line of more than ``max_characters``.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            number = 0
            while line := file.readline(max_characters + 1):
                number += 1
                if len(line) > max_characters:
                    raise ParseError(f"line {number} has more than {max_characters} characters")
                yield number, line.removesuffix("\n"), line.endswith("\n")
    except OSError as error:
        raise ParseError(f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise ParseError(f"cannot be read: byte {error.start} is not UTF-8") from error


def read_arrays(path: Path, max_ratio: float = 1) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file by name; nothing is unpickled.

    Args:
        path: The file.
        max_ratio: How many times larger than the file the arrays may be; 1 for files that are not compressed.

    Raises:
        ParseError: If the file is damaged, or an array claims more than the file holds.
    """
    try:
        _check_archive(path, max_ratio)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            return {name: np.asarray(data[name]) for name in data.files}
    except (
        OSError, ValueError, KeyError, EOFError, TypeError, IndexError, OverflowError, RecursionError, RuntimeError,
        NotImplementedError, zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise ParseError(f"cannot be read as arrays ({reason_of(error)})") from error


def _check_archive(path: Path, max_ratio: float) -> None:
    """Reject an archive whose arrays declare more than it holds, before memory is allocated for them."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > max_ratio * path.stat().st_size:
            raise ValueError("its arrays are larger than the file")
        for entry in entries:
            with archive.open(entry) as stream:
                if np.lib.format.read_magic(stream) != (1, 0):
                    raise ValueError("its arrays are of another version")
                shape, _, kind = np.lib.format.read_array_header_1_0(stream)
            if math.prod(shape) * kind.itemsize > entry.file_size:
                raise ValueError("an array claims more values than it has")


def is_file(path: Path) -> bool:
    """Return whether there is a file of that name; False for a name that no file can have (too long, a NUL in it)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether there is a folder of that name; False for a name that no folder can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of 53 bits or less, which every other program can read; True is not."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53


def is_finite(value: object, most: float = 1e9) -> TypeGuard[float]:
    """Return whether a value is a number of a magnitude of at most ``most``; True is not."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= most and math.isfinite(value)


def shown(value: object, most: int = 60) -> str:
    """Return a short, one-line form of any parsed value for an error message.

    Example:
        >>> shown("x" * 1000), shown([1, [2, [3, [4, [5]]]]]), shown(10**5000)
        ("'xxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxx'", '[1, [2, [...]]]', 'an integer of 16610 bits')
    """
    if isinstance(value, int) and abs(value) >= 2**63:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = _SHORT.repr(value)
    except (RecursionError, ValueError):  # an integer too large to print, inside
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxdict, self.maxstring, self.maxlong = 3, 4, 4, 43, 30


_SHORT = _Short()


def _size(count: int) -> str:
    for unit, step in (("GB", 2**30), ("MB", 2**20), ("KB", 2**10)):
        if count >= step:
            return f"{count // step} {unit}"
    return f"{count} bytes"


def _digits(error: Exception) -> str:
    return "has an integer of too many digits" if "integer string conversion" in str(error) else ""


def reason_of(error: Exception) -> str:
    """Return the first line of an exception's message, at most 200 characters, for a message of our own.

    Example:
        >>> reason_of(ValueError("no number: " + "9" * 5000 + chr(10) + "more"))[:20]
        'no number: 999999999'
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
