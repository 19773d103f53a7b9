"""A small form of ``benchmarks/mixed_folder.py``: one folder of everything that people have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks/mixed_folder.py"


@pytest.mark.slow
def test_a_folder_of_mixed_files_ends_with_a_right_report(shared: Path) -> None:
    pytest.importorskip("av")
    pytest.importorskip("PIL")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--files", "90"], capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    result = json.loads(done.stdout)
    assert result["exit_code"] == 1, "some of the files are damaged"
    assert result["wrong"] == {}
    assert result["sources_with_frames"] > 45
