"""Make the graphs of the bundled models smaller, without changing what they compute.

    python scripts/smaller_graphs.py [FOLDER]

OpenVINO computes the shapes of inner tensors anew when it reads a graph, and nobody asks for the names of constants and
inner tensors; together with indentation they are more than half of the file. Names of layers stay. Each file is written
if its outputs are those of the old one, bit for bit; size and SHA-256 in the cards follow.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openvino as ov

WEIGHTS = Path(__file__).parents[1] / "src/featherpose/zoo/weights"
_SIZE = (1, 256, 192, 3)
"""Of the input, where the graph takes any."""


def smaller(graph: bytes) -> bytes:
    """Return an IR without shapes and names that the engine does not need."""
    root = ElementTree.fromstring(graph)
    ends = {layer.get("id") for layer in root.iterfind("layers/layer") if layer.get("type") == "Result"}
    read = {(e.get("from-layer"), e.get("from-port")) for e in root.iterfind("edges/edge") if e.get("to-layer") in ends}
    for layer in root.iterfind("layers/layer"):
        kind = layer.get("type")
        if kind in ("Parameter", "Result"):
            continue
        if kind == "Const":
            layer.set("name", f"c{layer.get('id')}")
        for port in (*layer.iterfind("input/port"), *layer.iterfind("output/port")):
            for size in port.findall("dim"):
                port.remove(size)
            if (layer.get("id"), port.get("id")) not in read:
                port.attrib.pop("names", None)
    for element in root.iter():
        element.text = (element.text or "").strip() or None
        element.tail = None
    text: bytes = ElementTree.tostring(root, encoding="utf-8")
    return b'<?xml version="1.0"?>' + text


def same_outputs(before: Path, graph: bytes) -> bool:
    """Return whether a graph gives what the file gives, on a random input."""
    core, weights = ov.Core(), before.with_suffix(".bin").read_bytes()
    shape = core.read_model(before).inputs[0].partial_shape
    size = [known.get_length() if known.is_static else usual for known, usual in zip(shape, _SIZE, strict=True)]
    image = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    pairs = []
    for model in (core.read_model(before), core.read_model(graph, weights)):
        found = core.compile_model(model, "CPU")(image)
        pairs.append({port.get_any_name(): array.copy() for port, array in found.items()})
    first, second = pairs
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def main() -> None:
    """Rewrite the graphs of a folder and the cards beside them."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else WEIGHTS
    for path in sorted(folder.glob("*.xml")):
        old = path.read_bytes()
        new = smaller(old)
        if len(new) >= len(old):
            continue
        if not same_outputs(path, new):
            raise SystemExit(f"{path.name} would compute something else")
        path.write_bytes(new)
        print(f"{path.name}: {len(old)} to {len(new)} bytes")
        for card_path in sorted(folder.glob("*.card.json")):
            card = json.loads(card_path.read_text())
            for file in card["files"]:
                if file["name"] == path.name:
                    file.update(size=len(new), sha256=hashlib.sha256(new).hexdigest())
            card_path.write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
