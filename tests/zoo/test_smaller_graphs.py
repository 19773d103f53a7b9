"""Graphs of bundled models lose what the engine does not need, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import openvino as ov
import pytest
from script_modules import load_script

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "src/featherpose/zoo/weights"


@pytest.fixture(scope="module")
def smaller_graphs() -> ModuleType:
    """The script."""
    return load_script("scripts/smaller_graphs.py")


def test_a_graph_gets_smaller_and_its_card_follows(
    smaller_graphs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Written anew, with all names and shapes.
    model = ov.Core().read_model(WEIGHTS / "feather.xml")
    ov.save_model(model, tmp_path / "feather.xml", compress_to_fp16=False)
    shutil.copy(WEIGHTS / "default.card.json", tmp_path)
    before = (tmp_path / "feather.xml").read_bytes()
    monkeypatch.setattr("sys.argv", ["smaller_graphs.py", str(tmp_path)])
    smaller_graphs.main()
    after = (tmp_path / "feather.xml").read_bytes()
    assert len(after) < 0.7 * len(before)
    files = json.loads((tmp_path / "default.card.json").read_text())["files"]
    graph = next(file for file in files if file["name"] == "feather.xml")
    assert (graph["size"], graph["sha256"]) == (len(after), hashlib.sha256(after).hexdigest())
    layers = [op.get_friendly_name() for op in ov.Core().read_model(tmp_path / "feather.xml").get_ops()]
    kept = [
        op.get_friendly_name() for op in model.get_ops() if op.get_type_name() in ("Convolution", "GroupConvolution")
    ]
    assert set(kept) <= set(layers)


def test_bundled_graphs_are_small(smaller_graphs: ModuleType) -> None:
    for path in WEIGHTS.glob("*.xml"):
        assert smaller_graphs.smaller(path.read_bytes()) == path.read_bytes(), "run: python scripts/smaller_graphs.py"


def test_bundled_files_take_sixteen_megabytes_at_most() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir() if path.is_file()) <= 16 * 2**20
