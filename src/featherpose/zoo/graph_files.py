"""Outputs and embedded card of a model file, read without any engine.

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
from featherpose.methods.method import GraphShapes

__all__ = ["GRAPH_SUFFIXES", "GraphFile", "read_graph_file"]

GRAPH_SUFFIXES = (".xml", ".onnx")
"""Model files that are read here; others need a card beside them."""

_MAX_XML_BYTES = 64 * 2**20
_MAX_XML_TAGS = 2_000_000  # an element takes some 200 bytes of memory; large graphs have some hundred thousand
_MAX_ONNX_BYTES = 2 * 2**30  # the format's own limit
_MAX_FIELD_BYTES = 4 * 2**20
_MAX_FIELDS = 200_000  # a graph has thousands; a file of tiny fields alone would take hours


@dataclass(frozen=True, slots=True)
class GraphFile:
    """Facts from a model file.

    Attributes:
        outputs: Names of the graph's outputs; for an IR also those of inner tensors.
        card: Text of the embedded model card, None if there is none.
        shapes: Shapes of inputs and outputs, as far as the file states them.
    """

    outputs: frozenset[str]
    card: str | None
    shapes: GraphShapes


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
    if b"\0" in data[:256]:  # UTF-16 or UTF-32, in which the next check would find nothing
        raise ModelError(f"{path} is no OpenVINO IR: it is not UTF-8", hint="get the file again")
    if data.count(b"<") > _MAX_XML_TAGS:
        raise ModelError(f"{path} has more than {_MAX_XML_TAGS:,} tags", expected="an OpenVINO IR")
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
    inputs: list[tuple[int | None, ...]] = []
    results: dict[str, tuple[int | None, ...]] = {}
    names = _tensor_names(root)
    for layer in root.iterfind("layers/layer"):
        if layer.get("type") == "Parameter":
            facts = layer.find("data")
            text = "" if facts is None else facts.get("shape", "")
            inputs.append(tuple(_size(size) for size in text.split(",") if size.strip()))
        if layer.get("type") == "Result":
            name = layer.get("name", "").split("/sink_port_")[0]
            outputs.add(name)
            shape = tuple(_size(dim.text or "") for dim in layer.iterfind("input/port/dim"))
            results[names.get(layer.get("id", ""), name)] = shape
        for port in layer.iterfind("output/port"):
            outputs.update(port.get("names", "").split(","))
    card = root.find("rt_info/featherpose/card")
    shapes = GraphShapes(tuple(inputs), results)
    return GraphFile(frozenset(outputs - {""}), None if card is None else card.get("value"), shapes)


def _tensor_names(root: ElementTree.Element) -> dict[str, str]:
    """Name of the tensor that each result reads, by the id of the result's layer; those without one are left out."""
    named = {
        (layer.get("id"), port.get("id")): port.get("names", "").split(",")[0]
        for layer in root.iterfind("layers/layer")
        for port in layer.iterfind("output/port")
    }
    found = {}
    for edge in root.iterfind("edges/edge"):
        name = named.get((edge.get("from-layer"), edge.get("from-port")), "")
        if name:
            found[edge.get("to-layer", "")] = name
    return found


def _size(text: str) -> int | None:
    """Read the size of an axis; None where it is open or no number that an axis can have."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) > 0 else None


def _read_onnx(path: Path, size: int) -> GraphFile:
    # ONNX is a protocol buffer: ModelProto.graph = 7, .metadata_props = 14 (key = 1, value = 2); GraphProto.output = 12
    # with ValueInfoProto.name = 1. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
    if size > _MAX_ONNX_BYTES:
        raise ModelError(f"{path} is {size / 2**30:.1f} GB", expected="at most 2 GB")
    outputs: set[str] = set()
    inputs: list[tuple[int | None, ...]] = []
    shapes: dict[str, tuple[int | None, ...]] = {}
    card: str | None = None
    has_graph = False
    try:
        with path.open("rb") as file:
            for number, start, length in _fields(file, 0, size):
                if number == 7:
                    has_graph = True
                    for inner, inner_start, inner_length in _fields(file, start, start + length):
                        if inner == 12:
                            name = _strings(file, inner_start, inner_length).get(1, "")
                            outputs.add(name)
                            shapes[name] = _shape(file, inner_start, inner_length)
                        elif inner == 11:
                            inputs.append(_shape(file, inner_start, inner_length))
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
    return GraphFile(frozenset(outputs), card, GraphShapes(tuple(inputs), shapes))


def _shape(file: BinaryIO, start: int, length: int) -> tuple[int | None, ...]:
    """Read the shape of a value: ValueInfoProto.type = 2, .tensor_type = 1, .shape = 2, .dim = 1, .dim_value = 1."""
    spans = [(start, start + length)]
    for wanted in (2, 1, 2):
        spans = [
            (inner, inner + size)
            for first, end in spans
            for number, inner, size in _fields(file, first, end)
            if number == wanted
        ]
    dims = [
        (inner, size) for first, end in spans for number, inner, size in _fields(file, first, end) if number == 1
    ]  # fmt: skip
    return tuple(_dim(file, inner, size) for inner, size in dims[:8])


def _dim(file: BinaryIO, start: int, length: int) -> int | None:
    """Read the size of one axis; None where it has a name instead of a number."""
    if not 1 < length <= 11:
        return None
    file.seek(start)
    data = file.read(length)
    if data[0] != 8:  # field 1, a number
        return None
    value, _ = _varint(data, 1)
    return value if 0 < value < 2**31 else None


def _fields(file: BinaryIO, start: int, end: int) -> list[tuple[int, int, int]]:
    """Yield (number, start, length) of the length-delimited fields between two positions; the others are skipped."""
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
