"""Fixtures: real pictures that packages ship, and the shared development data where it exists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Shapes and dtypes in signatures are enforced while tests run. Left out: modules with compiled kernels (their cache
# cannot hold wrapped functions), the command line (cyclopts reads its annotations itself), engines (objects without
# types), and Poses, whose own check of shapes is what the tests want to see.
install_import_hook(
    [
        "featherpose.geometry",
        "featherpose.similarity",
        "featherpose.codecs.paf.decoder",
        "featherpose.preprocess",
        "featherpose.evaluation.coco_ap",
    ],
    "shape_checking.checked",
)


def _shared_root() -> Path:
    return Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of development data beside the checkout; tests that need it are skipped without it."""
    root = _shared_root()
    if not (root / "data").is_dir():
        pytest.skip("the development data folder ../shared is not here")
    return root


@pytest.fixture(scope="session")
def released_int8(shared: Path) -> Path:
    """The released Lightweight OpenPose network, INT8 IR."""
    return shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"


@pytest.fixture(scope="session")
def coco_val(shared: Path) -> Path:
    """Evaluation folder: annotations.json and images/."""
    return shared / "data/coco-val"


@pytest.fixture(scope="session")
def coco_train(shared: Path) -> Path:
    """Training folder: annotations.json and images/."""
    return shared / "data/coco-train"


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """uint8[512, 512, 3] BGR, a public-domain photograph of one person, shipped by scikit-image."""
    import skimage.data

    picture: np.ndarray = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    picture = np.ascontiguousarray(picture[..., ::-1])
    picture.flags.writeable = False  # every test sees the same photograph
    return picture


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    """Path of a public-domain JPEG photograph of one person, shipped by matplotlib."""
    from matplotlib import cbook

    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
