"""Importing featherpose must cost next to nothing."""

from __future__ import annotations

import json
import subprocess
import sys

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
    import featherpose

    for name in featherpose.__all__:
        assert getattr(featherpose, name) is not None
    assert set(featherpose.__all__) <= set(dir(featherpose))
