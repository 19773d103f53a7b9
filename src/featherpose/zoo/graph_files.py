"""What a model file says about itself, read without any engine: its outputs and the card inside it.

The files may come from anywhere, so nothing in them is trusted: sizes are capped, XML with a document type is refused
(entities expand without end), and of an ONNX file only a few small fields are read, by the lengths they state.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

from featherpose.errors import ModelError

__all__ = ["GraphFile", "read_graph_file"]

_MAX_XML_BYTES = 64 * 2**20
_MAX_ONNX_BYTES = 2 * 2**30  # the format's own limit
_MAX_FIELD_BYTES = 4 * 2**20
_MAX_FIELDS = 200_000  # a graph has thousands; a file of nothing but tiny fields would be read for hours


@dataclass(frozen=True, slots=True)
class GraphFile:
    """Facts from a model file.

    Attributes:
        outputs: Names of the graph's outputs; for an IR also those of inner tensors.
        card: Text of the embedded model card, None if there is none.
    """

    outputs: frozenset[str]
    card: str | None


def read_graph_file(path: Path) -> GraphFile:
    """Read outputs and card of an OpenVINO IR (``.xml``) or an ONNX model (``.onnx``).

    Raises:
        ModelError: If the file is missing, damaged, too large or of another kind.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"{path} is a folder", expected="a model file (.xml or .onnx)")
        if size == 0:
            raise ModelError(f"{path} is empty (0 bytes)", expected="a model file", hint="get the file again")
        return _read_ir(path, size) if path.suffix.lower() == ".xml" else _read_onnx(path, size)
    except FileNotFoundError:
        raise ModelError(f"there is no model file {path}", expected="a .xml or .onnx file") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error


def _read_ir(path: Path, size: int) -> GraphFile:
    if size > _MAX_XML_BYTES:
        raise ModelError(f"{path} is {size / 2**20:.0f} MB of XML", expected=f"at most {_MAX_XML_BYTES / 2**20:.0f} MB")
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise ModelError(f"{path} declares a document type, which no OpenVINO IR does", hint="do not trust this file")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ModelError(
            f"{path} is damaged or no OpenVINO IR: {error}", expected="a whole .xml file", hint="get the file again"
        ) from error
    if root.tag != "net":
        raise ModelError(f"{path} is XML of kind <{root.tag[:40]}>", expected="an OpenVINO IR, <net>")
    outputs: set[str] = set()
    for layer in root.iterfind("layers/layer"):
        if layer.get("type") == "Result":
            outputs.add(layer.get("name", "").split("/sink_port_")[0])
        for port in layer.iterfind("output/port"):
            outputs.update(port.get("names", "").split(","))
    card = root.find("rt_info/featherpose/card")
    return GraphFile(frozenset(outputs - {""}), None if card is None else card.get("value"))


def _read_onnx(path: Path, size: int) -> GraphFile:
    # ONNX is a protocol buffer: ModelProto.graph = 7, .metadata_props = 14 (key = 1, value = 2); GraphProto.output = 12
    # with ValueInfoProto.name = 1. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    if size > _MAX_ONNX_BYTES:
        raise ModelError(f"{path} is {size / 2**30:.1f} GB", expected="at most 2 GB")
    outputs: set[str] = set()
    card: str | None = None
    has_graph = False
    try:
        with path.open("rb") as file:
            for number, start, length in _fields(file, 0, size):
                if number == 7:
                    has_graph = True
                    for inner, inner_start, inner_length in _fields(file, start, start + length):
                        if inner == 12:
                            outputs.add(_strings(file, inner_start, inner_length).get(1, ""))
                elif number == 14:
                    entry = _strings(file, start, length)
                    if entry.get(1) == "featherpose.card":
                        card = entry.get(2)
    except (ValueError, IndexError) as error:
        raise ModelError(
            f"{path} is damaged or no ONNX model: {error}", expected="a whole .onnx file", hint="get the file again"
        ) from error
    if not has_graph:
        raise ModelError(f"{path} holds no ONNX graph", expected="a whole .onnx file", hint="get the file again")
    return GraphFile(frozenset(outputs), card)


def _fields(file: BinaryIO, start: int, end: int) -> list[tuple[int, int, int]]:
    """(number, start, length) of the length-delimited fields between two positions; the others are skipped."""
    found: list[tuple[int, int, int]] = []
    position = start
    for _ in range(_MAX_FIELDS):
        if position >= end:
            return found
        file.seek(position)
        head = file.read(min(20, end - position))
        tag, used = _varint(head, 0)
        kind = tag & 7
        if kind == 0:
            _, used = _varint(head, used)
            position += used
        elif kind == 1:
            position += used + 8
        elif kind == 5:
            position += used + 4
        elif kind == 2:
            length, used = _varint(head, used)
            found.append((tag >> 3, position + used, length))
            position += used + length
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        if position > end:
            raise ValueError(f"a field ends {position - end} bytes behind its container")
    raise ValueError(f"more than {_MAX_FIELDS} fields")


def _strings(file: BinaryIO, start: int, length: int) -> dict[int, str]:
    strings = {}
    for number, field_start, field_length in _fields(file, start, start + length):
        if number in (1, 2):
            if field_length > _MAX_FIELD_BYTES:
                raise ValueError(f"a text of {field_length} bytes")
            file.seek(field_start, os.SEEK_SET)
            raw = file.read(field_length)
            try:
                strings[number] = raw.decode("utf-8")
            except UnicodeDecodeError:
                continue  # field 2 of an output is its type, not a text
    return strings


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
