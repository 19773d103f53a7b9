"""Images in, people out: alone, in lists, in flight and from many threads, with the released network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from paf_models import paf_spec

from featherpose.errors import FeatherposeError, ModelError, OptionError, SourceError
from featherpose.estimator import PoseEstimator, StageTimes
from featherpose.methods.method import Arrays
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.encode import encode_maps
from featherpose.poses import Poses
from featherpose.runtime import EngineInfo, EngineOptions
from featherpose.runtime.backend import Pending
from featherpose.skeleton import OPENPOSE_18

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERSON = np.array(
    [[60, 20], [60, 40], [45, 42], [38, 65], [35, 85], [75, 42], [82, 65], [85, 85], [52, 90], [50, 120], [49, 150],
     [68, 90], [70, 120], [71, 150], [56, 15], [64, 15], [51, 18], [69, 18]],
    np.float32,
)  # fmt: skip


class _Done:
    def __init__(self, maps: list[Arrays]) -> None:
        self._maps = maps

    def result(self) -> list[Arrays]:
        return self._maps


class DrawnPeople:
    """A backend without an engine: whatever the image, the maps show one person (nobody in a black image)."""

    spec = paf_spec(name="drawn", skeleton=OPENPOSE_18)
    info = EngineInfo(engine="none", device="none", precision="fp32", float_precision="fp32", threads=1, model="drawn")

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.closed = False

    def infer(self, images: NDArray[np.uint8]) -> list[Arrays]:
        self.batches.append(len(images))
        size = (images.shape[2], images.shape[1])
        people = [PERSON[None] if image[0, 0].any() else PERSON[None][:0] for image in images]
        drawn = [encode_maps(keypoints, OPENPOSE_18, size) for keypoints in people]
        return [{"heatmaps": maps.heatmaps, "pafs": maps.pafs} for maps in drawn]

    def submit(self, images: NDArray[np.uint8]) -> Pending:
        return _Done(self.infer(images))

    def close(self) -> None:
        self.closed = True


def same(one: Poses, other: Poses, tolerance_px: float = 1e-3) -> None:
    assert len(one) == len(other)
    np.testing.assert_allclose(one.keypoints, other.keypoints, atol=tolerance_px)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
    assert one.image_size == other.image_size


# Without a model file.


def test_person_comes_out_in_source_pixels() -> None:
    estimator = PoseEstimator.from_backend(DrawnPeople(), height=256)
    poses = estimator(np.full((512, 640, 3), 128, np.uint8))  # twice the size of the network input
    assert (len(poses), poses.image_size) == (1, (640, 512))
    np.testing.assert_allclose(poses.keypoints[0], 2 * PERSON + 0.5, atol=2)


def test_nobody() -> None:
    estimator = PoseEstimator.from_backend(DrawnPeople())
    for poses in (estimator(np.zeros((300, 200, 3), np.uint8)), *estimator([np.zeros((300, 200, 3), np.uint8)])):
        assert len(poses) == 0
        assert poses.keypoints.shape == (0, 18, 2)
        assert poses.image_size == (200, 300)


def test_lists_keep_their_order() -> None:
    backend = DrawnPeople()
    estimator = PoseEstimator.from_backend(backend)
    sizes = [(512, 640), (256, 320), (300, 300), (1024, 1280)] * 3
    found = estimator([np.full((*size, 3), 99, np.uint8) for size in sizes])
    assert backend.batches == [1] * 12
    assert [poses.image_size for poses in found] == [size[::-1] for size in sizes]
    assert estimator([]) == []
    assert len(estimator((np.full((64, 64, 3), 9, np.uint8),))) == 1


def test_times_and_properties() -> None:
    backend = DrawnPeople()
    options = PafOptions(peak_threshold=0.2)
    with PoseEstimator.from_backend(backend, height=184, options=options) as estimator:
        estimator.warm_up()
        poses, times = estimator.timed(np.full((480, 640), 128, np.uint8))
        assert isinstance(times, StageTimes)
        assert times.total_ms == times.preprocess_ms + times.inference_ms + times.postprocess_ms > 0
        pending = estimator.submit(np.full((480, 640, 3), 128, np.uint8))
        same(pending.result(), poses)
        assert pending.result() is pending.result()
        assert pending.timed_result()[1].inference_ms >= 0
        assert (estimator.height, estimator.skeleton, estimator.spec.name) == (184, OPENPOSE_18, "drawn")
        assert estimator.options is options
        assert estimator.info.engine == "none"
        assert "drawn" in repr(estimator)
    assert backend.closed


@pytest.mark.parametrize("height", [0, -8, 4, 10_000, 256.0, "256"])
def test_wrong_heights(height: object) -> None:
    with pytest.raises(OptionError, match="height"):
        PoseEstimator.from_backend(DrawnPeople(), height=height)  # type: ignore[arg-type]


def test_wrong_images() -> None:
    estimator = PoseEstimator.from_backend(DrawnPeople())
    good = np.full((64, 64, 3), 9, np.uint8)
    for bad in (np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)):
        with pytest.raises(SourceError):
            estimator(bad)
        with pytest.raises(SourceError):
            estimator.submit(bad)
        with pytest.raises(SourceError, match="image 1"):
            estimator([good, bad])


def test_missing_model() -> None:
    with pytest.raises(ModelError):
        PoseEstimator("no-such-model")
    with pytest.raises(FeatherposeError, match="fp8"):
        PoseEstimator("no-such-model", precision="fp8")  # type: ignore[arg-type]


# With the released network.


@pytest.fixture(scope="module")
def estimator(released_int8: Path) -> Iterator[PoseEstimator]:
    with PoseEstimator(released_int8, precision="int8", threads=2, engine=EngineOptions(num_streams=2)) as opened:
        yield opened


@pytest.fixture(scope="module")
def photographs(coco_val: Path) -> list[np.ndarray]:
    paths = sorted((coco_val / "images").glob("*.jpg"))[:24]
    return [np.asarray(cv2.imread(str(path)), np.uint8) for path in paths]


def test_astronaut(estimator: PoseEstimator, astronaut: np.ndarray) -> None:
    poses = estimator(astronaut)
    assert len(poses) == 1
    nose = poses.keypoints[0, 0]
    assert np.hypot(*(nose - (224, 125))) < 8  # read off the photograph, in which the nose is 20 px wide
    # The ankles are outside. The refiner reports unsure keypoints with low scores; those under 0.2 are not drawn.
    assert poses.keypoint_scores[0, 10] < 0.2


@pytest.mark.slow
def test_lists_equal_one_by_one(estimator: PoseEstimator, photographs: list[np.ndarray]) -> None:
    alone = [estimator(image) for image in photographs]
    assert sum(map(len, alone)) > 30
    for one, together in zip(alone, estimator(photographs), strict=True):
        same(one, together)
    for one, pending in zip(alone, [estimator.submit(image) for image in photographs], strict=True):
        same(one, pending.result())


@pytest.mark.slow
def test_lists_of_one_size(estimator: PoseEstimator, photographs: list[np.ndarray]) -> None:
    """Poses equal those of single images."""
    cut = [image[:400, :400] for image in photographs if min(image.shape[:2]) >= 400]
    assert len(cut) > 8
    for one, together in zip([estimator(image) for image in cut], estimator(cut), strict=True):
        same(one, together)


@pytest.mark.slow
def test_threads(estimator: PoseEstimator, photographs: list[np.ndarray]) -> None:
    alone = [estimator(image) for image in photographs[:8]]

    def estimate(image: np.ndarray) -> Poses:
        return estimator.timed(image)[0]

    with ThreadPoolExecutor(4) as threads:
        for one, found in zip(alone, threads.map(estimate, photographs[:8]), strict=True):
            same(one, found)


def test_submitting_does_not_wait_for_the_network(estimator: PoseEstimator, photographs: list[np.ndarray]) -> None:
    estimator(photographs[0])
    started = time.perf_counter()
    pending = estimator.submit(photographs[0])
    submitted = time.perf_counter()
    pending.result()
    assert submitted - started < time.perf_counter() - started


def test_two_people_in_the_video(estimator: PoseEstimator, shared: Path) -> None:
    capture = cv2.VideoCapture(str(shared / "data/videos/two-people.mp4"))
    counts = []
    for _ in range(3):
        found, frame = capture.read()
        assert found
        counts.append(len(estimator(np.asarray(frame, np.uint8))))
    capture.release()
    assert all(2 <= count <= 4 for count in counts), counts
