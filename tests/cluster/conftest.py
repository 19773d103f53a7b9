"""A batch run as a user starts it: in a process of its own, with Ray on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from batch_runs import RunBatch

from featherpose.media.images import write_image


@pytest.fixture(scope="session")
def ray_is_here() -> None:
    """Skip without Ray."""
    if find_spec("ray") is None:
        pytest.skip('Ray is not installed: pip install "featherpose[cluster]"')


@pytest.fixture
def batch(ray_is_here: None) -> RunBatch:
    """Run ``featherpose batch`` with small workers and return the finished process."""

    def run(*arguments: str | Path, timeout_s: float = 240.0) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        return subprocess.run(
            [sys.executable, "-m", "featherpose.cli.main", "batch", *words, "--height", "64"],
            capture_output=True, text=True, timeout=timeout_s, check=False, env=os.environ.copy(),
        )  # fmt: skip

    return run


@pytest.fixture
def photos(tmp_path: Path, grace_hopper: Path) -> Path:
    """Forty photographs, ten of them of a person, in two folders, and two files that are no images."""
    folder = tmp_path / "photos"
    (folder / "inner").mkdir(parents=True)
    for i in range(40):
        path = folder / ("inner" if i % 2 else "") / f"{i:02d}.jpg"
        if i % 4 == 0:
            shutil.copy(grace_hopper, path)
        else:
            write_image(path, np.full((48, 64, 3), 3 * i, np.uint8))
    (folder / "text.jpg").write_text("no image")
    (folder / "empty.png").touch()
    return folder
