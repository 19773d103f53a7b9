"""Fixtures: real images that packages ship, and the shared development data where it exists."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook
from xdist.scheduler import LoadFileScheduling

# Shapes and dtypes in signatures are enforced while tests run. Left out: modules with compiled kernels (their cache
# cannot hold wrapped functions), the command line (cyclopts reads its annotations itself), engines (objects without
# types), and Poses, whose own check of shapes is what the tests want to see.
install_import_hook(
    [
        "featherpose.geometry",
        "featherpose.oks",
        "featherpose.methods.paf.decoder",
        "featherpose.preprocess",
        "featherpose.evaluation.keypoints.coco_ap",
    ],
    "shape_checking.checked",
)

from kept_networks import KeptNetworks  # noqa: E402 - after the hook

from featherpose.runtime.engines import open_backend  # noqa: E402
from featherpose.server.http.memory import trim  # noqa: E402

# Slow as a whole: they start browsers, servers, trainings and other processes, build networks and wheels, quantize,
# export, measure, run the pages of the docs, or read thousands of files. Without them (``scripts/task test-fast``) some
# 2,200 tests are left: 57 s on two idle cores with AVX2 alone, 31 s with AVX-512 (the aim is 90 s).
SLOW = (
    "augment/test_anonymize.py",
    "cli/test_analyze.py",
    "cli/test_annotate.py",
    "cli/test_demo.py",
    "cli/test_field_siblings.py",
    "cli/test_inputs.py",
    "cli/test_outputs.py",
    "cli/test_predict_live.py",
    "cli/test_supervision.py",
    "cluster/test_batch.py",
    "cluster/test_videos.py",
    "data/test_matlab.py",
    "docs/test_code_blocks.py",
    "evaluation/test_baselines.py",
    "evaluation/test_benchmark.py",
    "evaluation/test_complexity.py",
    "evaluation/test_pareto.py",
    "evaluation/test_pipeline.py",
    "evaluation/test_published_sizes.py",
    "evaluation/test_postprocessing.py",
    "evaluation/test_roofline.py",
    "evaluation/test_stages.py",
    "evaluation/test_tracking.py",
    "evaluation/test_tune_decoder.py",
    "export/",
    "fuzz/",
    "media/test_browser.py",
    "media/test_reconnect.py",
    "methods/test_round_trip.py",
    "motion/test_command.py",
    "motion/test_pose_files.py",
    "motion/test_report_page.py",
    "nn/test_checkpoints.py",
    "nn/test_depthwise.py",
    "nn/test_feather.py",
    "nn/test_networks.py",
    "nn/test_refiner.py",
    "runtime/test_compiled_cache.py",
    "runtime/test_contract.py",
    "runtime/test_forking.py",
    "runtime/test_no_telemetry.py",
    "runtime/test_precision.py",
    "runtime/test_static_shapes.py",
    "server/",
    "test_extensions.py",
    "test_prediction.py",
    "test_stream.py",
    "topdown/test_detect_every.py",
    "tracking/test_predict_video.py",
    "tracking/test_warm_up.py",
    "training/",
    "transfer/test_puppet.py",
    "zoo/test_fetching.py",
)
SLOW_EXAMPLES = (
    "augment/several_heights.py",
    "estimator.py",
    "nn/published/",
    "prediction.py",
    "server/app.py",
    "stream/detect_every.py",
    "topdown/person_estimator.py",
    "training/",
)


# Slow tests begin with the longest files, so that no process is left with one at the end.
LONGEST = (
    "motion/test_real_videos.py",
    "cluster/test_batch.py",
    "foundation/test_container.py",
    "training/test_commands.py",
    "server/",
    "training/test_training.py",
    "cli/test_mixed_folder.py",
)
# Tests of these files share nothing that takes long to make: each may run in any process.
SPREAD = (
    "docs/test_code_blocks.py",
    "export/test_quantize.py",
    "training/test_light_systems.py",
)


def _is_slow(file: Path) -> bool:
    tests = Path(__file__).parent
    return any(
        file.is_relative_to(folder) and file.relative_to(folder).as_posix().startswith(names)
        for folder, names in ((tests, SLOW), (tests.parent / "src/featherpose", SLOW_EXAMPLES))
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files without a fast test unread when fast tests run: to read them takes every process several seconds."""
    return True if config.option.markexpr == "not slow" and _is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the files above, and the examples that build large networks; the longest files come first."""
    for item in items:
        if _is_slow(item.path):
            item.add_marker(pytest.mark.slow)

    def rank_of(item: pytest.Item) -> int:
        file = item.nodeid.removeprefix("tests/")
        return next((i for i, name in enumerate(LONGEST) if file.startswith(name)), len(LONGEST))

    items.sort(key=rank_of)


class _FilesAndSpread(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.removeprefix("tests/").startswith(SPREAD) else nodeid.split("::", 1)[0]


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is nothing to send
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _FilesAndSpread | None:
    """Send each file to one process, but for those whose tests may run anywhere."""
    return _FilesAndSpread(config, log) if config.getoption("dist") == "loadfile" else None


# What these test is opened or closed anew in each of them.
OWN_NETWORKS = ("cluster/", "export/", "foundation/", "fuzz/", "runtime/", "server/", "training/")
_KEPT = KeptNetworks(open_backend)


@pytest.fixture(autouse=True)
def _networks_stay_open(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open each network once a process for tests that are about something else."""
    if not request.path.relative_to(Path(__file__).parent).as_posix().startswith(OWN_NETWORKS):
        for module in ("featherpose.opening", "featherpose.topdown.person_estimator"):
            if module in sys.modules:
                monkeypatch.setattr(f"{module}.open_backend", _KEPT)
    else:
        _KEPT.close()  # trainings and servers need the memory; whole files run at once, so this is rare


_GROWTH = 100 * 2**20  # bytes by which a process may grow before it is asked to give back what it no longer uses
_resident = 0


def _resident_bytes() -> int:
    """Return the memory of this process that is in use now; 0 where the system is not Linux."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if pages.is_file() else 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Give memory back after tests that took much of it: a process runs hundreds, and several run at once.

    Training tells the allocator to keep what is freed, because its steps take the same blocks again and again.
    """
    global _resident
    now = _resident_bytes()
    if now > _resident + _GROWTH:
        trim()
        now = _resident = _resident_bytes()
    _resident = min(_resident, now)


def pytest_sessionfinish() -> None:
    """Release the networks."""
    _KEPT.close()


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

    image: np.ndarray = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    image = np.ascontiguousarray(image[..., ::-1])
    image.flags.writeable = False  # every test sees the same photograph
    return image


@pytest.fixture(scope="session")
def grace_hopper() -> Path:
    """Path of a public-domain JPEG photograph of one person, shipped by matplotlib."""
    from matplotlib import cbook

    return Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
