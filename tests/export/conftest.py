"""A real network to convert: the released one where the data folder is, else a small fresh one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def released_weights(shared: Path) -> Path:
    """The released Lightweight OpenPose network's weights."""
    return shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-fp16.safetensors"


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory, grace_hopper: Path, astronaut: np.ndarray) -> Path:
    """A folder with the photographs that packages ship."""
    from featherpose.media.images import write_image

    folder = tmp_path_factory.mktemp("photographs")
    (folder / "hopper.jpg").write_bytes(grace_hopper.read_bytes())
    write_image(folder / "astronaut.png", astronaut)
    return folder
