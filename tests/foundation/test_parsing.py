"""Limits on JSON and TOML: everything is a value or a `ParseError`, in time and memory that the size explains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.parsing import (
    Limits,
    ParseError,
    check_values,
    parse_json,
    parse_toml,
    read_arrays,
    read_document,
    read_lines,
    shown,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no JSON, empty"),
        ("{", "is no JSON, cut off or damaged"),
        ("[" * 900 + "]" * 900, "nested more than 16 levels"),
        ("[" * 200_000, "nested too deep"),
        ('{"a":' * 50_000, "nested too deep"),
        ("9" * 5001, "integer of too many digits"),
        ("9" * 30, "integer of more than 64 bits"),
        (json.dumps("x" * 5000), "text of 5000 characters"),
        (json.dumps({"k" * 5000: 1}), "text of 5000 characters"),
        ("[" + "[]," * 60_000 + "[]]", "more than 50000 values"),
        (" " * 300_000 + "1", "larger than 256 KB"),
    ],
)
def test_json_beyond_limits(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_json(text, Limits(max_values=50_000))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = ", "is not TOML"),
        ("a = " + "[" * 900 + "]" * 900, "nested more than 16 levels|nested too deep"),
        ("a = " + "[" * 100_000, "nested too deep"),
        ("a." * 20_000 + "a = 1", "more than 256 dots"),
        ("[" + "a." * 200 + "a]", "nested more than 16 levels"),
        ("a = 0x" + "f" * 5000, "integer of more than 64 bits"),
        ("a = " + "9" * 5001, "integer of too many digits"),
        ("a = 1\n" * 60_000, "larger than 256 KB"),
        ("a = 9999-99-99", "is not TOML"),
    ],
)
def test_toml_beyond_limits(text: str, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        parse_toml(text)


def test_values_inside_the_limits_pass() -> None:
    value = parse_json(b'\xff\xfe{\x00"\x00a\x00"\x00:\x001\x00}\x00', Limits())
    assert value == {"a": 1}
    check_values([[[1.5, None, True, "x"]], 2**63 - 1, -(2**63)], Limits(max_depth=3))
    with pytest.raises(ParseError, match="nested more than 2"):
        check_values([[[1]]], Limits(max_depth=2))


def test_documents(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_document(tmp_path / "a", 100) == b"x" * 100
    with pytest.raises(ParseError, match="larger than 99 bytes"):
        read_document(tmp_path / "a", 99)
    for name in ("missing", "a/b", "x" * 400, "nul\0", "\ud800"):
        with pytest.raises(ParseError):
            read_document(tmp_path / name, 99)
    with pytest.raises(ParseError, match="cannot be read"):
        read_document(tmp_path, 99)


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("ab\n\ncd")
    assert list(read_lines(path, 3)) == [(1, "ab", True), (2, "", True), (3, "cd", False)]
    with pytest.raises(ParseError, match="line 1 has more than 1 characters"):
        list(read_lines(path, 1))
    path.write_bytes(b"\xff\n")
    with pytest.raises(ParseError, match="byte 0 is not UTF-8"):
        list(read_lines(path, 100))


def test_shown_is_short_and_one_line() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    for value in (deep, "a\nb" * 1000, {"k" * 500: deep}, [10**5000], 10**5000, list(range(10**5)), None):
        assert len(shown(value)) <= 60
        assert "\n" not in shown(value)


def test_arrays_larger_than_their_file_are_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(3), allow_pickle=False)
    np.testing.assert_array_equal(read_arrays(path)["x"], np.arange(3))
    np.savez_compressed(path, x=np.zeros(10**6), allow_pickle=False)
    with pytest.raises(ParseError, match="larger than the file"):
        read_arrays(path, max_ratio=100)
    path.write_bytes(b"PK")
    with pytest.raises(ParseError, match="cannot be read as arrays"):
        read_arrays(path)
