"""Importing featherpose must cost next to nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import featherpose

HEAVY = ("torch", "openvino", "onnxruntime", "cv2", "numba", "scipy", "fastapi", "matplotlib", "pydantic", "numpy")

PROBE = f"""
import json, sys, time
start = time.perf_counter()
import featherpose
seconds = time.perf_counter() - start
print(json.dumps({{"seconds": seconds, "loaded": [m for m in {HEAVY!r} if m in sys.modules]}}))
"""


def probe() -> dict[str, object]:
    out = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout
    result: dict[str, object] = json.loads(out)
    return result


def test_import_is_light() -> None:
    runs = [probe() for _ in range(3)]
    assert all(run["loaded"] == [] for run in runs)
    # The best of three: a busy machine may delay any single start.
    assert min(float(str(run["seconds"])) for run in runs) < 0.15


def test_public_names_exist() -> None:
    for name in featherpose.__all__:
        assert getattr(featherpose, name) is not None
    assert set(featherpose.__all__) <= set(dir(featherpose))


def test_a_public_name_comes_from_where_its_module_says() -> None:
    """One list for type checkers and for the program: each line of the stub is a name that its module exports."""
    stub = Path(featherpose.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    imports = [line for line in stub.splitlines() if line.startswith("from ")]
    names = []
    for line in imports:
        match = re.fullmatch(r"from (featherpose[\w.]+) import (\w+) as (\w+)", line)
        assert match, line
        module, name, public = match.groups()
        assert name == public, line
        assert name in import_module(module).__all__, line
        assert getattr(featherpose, name) is getattr(import_module(module), name)
        names.append(name)
    assert sorted(names) == [name for name in featherpose.__all__ if name != "__version__"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'oks_matrix'"):
        getattr(featherpose, "oks_matrix")  # noqa: B009 - a name that the type checker would refuse


def test_checking_annotations_loads_neither_pytorch_nor_an_engine(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    program = (
        "import sys\nfrom featherpose.cli.main import run\n"
        f"run(['data', 'check', {str(tmp_path / 'a.json')!r}, '--images', {str(tmp_path)!r}])\n"
        "print([name for name in ('torch', 'openvino', 'onnxruntime') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
