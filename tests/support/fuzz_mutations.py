"""Mutations of files: bytes, texts and plain values, each a function of a random generator alone."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

__all__ = ["ODD_TEXTS", "mutated_bytes", "mutated_text", "mutated_value"]


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


ODD_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, -(2**63), 2**63, 10**40, 0.5, -0.0, 1e300, float("inf"), float("nan"), "", "x",
    "a" * 5000, "\0", "\ud800", "../../etc/passwd", "/etc/passwd", "\u202e", [], {}, [[]], [None], {"k": 1}, [1] * 500,
    _nested(40), _nested(300),
)  # fmt: skip
ODD_TEXTS: tuple[str, ...] = (
    "[" * 2000, "{" * 2000, '{"a":' * 900, "]", "}", ",", '"', "'", "\\", "\n", "\r", "\0", "9" * 5001, "1e999", "-",
    "0x" + "f" * 900, "NaN", "Infinity", "null", "true", "a." * 300, "[[a]]", "=", "#", '"""', "\\ud800", "\ufeff", "é",
    "x" * 3000, "1979-05-27T99:99:99",
)  # fmt: skip


def mutated_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a few bytes, cut out, double or move a piece, or lose the end; damage near the start more often."""
    bent = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        if len(bent) < 2:
            break
        at = int(rng.integers(0, min(len(bent), 64) if rng.random() < 0.4 else len(bent)))
        size = int(rng.integers(1, 40))
        match int(rng.integers(0, 9)):
            case 0 | 1:
                bent[at] = int(rng.integers(0, 256))
            case 2:
                bent[at] ^= 1 << int(rng.integers(0, 8))
            case 3:
                bent[at : at + 1] = bytes([int(rng.choice([0, 1, 127, 128, 255]))])
            case 4:  # the large numbers that lengths and sizes are made of
                bent[at : at + 4] = int(rng.choice([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])).to_bytes(
                    4, "big" if rng.random() < 0.5 else "little"
                )
            case 5:
                del bent[at : at + size]
            case 6:
                bent[at:at] = bent[at : at + size]
            case 7:
                other = int(rng.integers(0, len(bent)))
                bent[at : at + size] = bent[other : other + size]
            case _:
                if rng.random() < 0.4:
                    del bent[at:]
                else:
                    bent[at:at] = rng.bytes(size)
    return bytes(bent)


def mutated_text(text: str, rng: np.random.Generator) -> bytes:
    """Put an odd text somewhere, change bytes, or write in another encoding."""
    what = rng.random()
    if what < 0.4:
        odd, at = ODD_TEXTS[int(rng.integers(len(ODD_TEXTS)))], int(rng.integers(0, len(text) + 1))
        end = at + (int(rng.integers(0, 12)) if rng.random() < 0.5 else 0)
        return (text[:at] + odd + text[end:]).encode("utf-8", "surrogatepass")
    if what < 0.45:
        return text.encode(str(rng.choice(["utf-16", "utf-8-sig", "utf-32", "utf-16-be", "latin-1"])), "replace")
    return mutated_bytes(text.encode(), rng)


def mutated_value(value: Any, rng: np.random.Generator) -> Any:
    """Replace, remove, double, rename or move something inside, once to three times."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        node = value
        while isinstance(node, dict | list) and node:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[int(rng.integers(len(keys)))]
            child = node[key]
            if not isinstance(child, dict | list) or not child or rng.random() < 0.2:
                _change(node, key, child, rng)
                break
            node = child
    return value


def _change(node: Any, key: Any, child: Any, rng: np.random.Generator) -> None:
    what = rng.integers(0, 6)
    if what <= 2:
        node[key] = copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])
    elif what == 3:
        del node[key]
    elif what == 4 and isinstance(child, int | float) and abs(child) < 1e100:
        node[key] = child * float(rng.choice([-1, 0, 1e-3, 1e3, 1e30]))
    elif isinstance(node, list):
        node.extend(copy.deepcopy(child) for _ in range(int(rng.integers(1, 20))))
    else:
        node[f"{key}x"] = node.pop(key)
