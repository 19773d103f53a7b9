"""Refinement: who is looked at again, what comes of two poses of one person, and that it helps on real images."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from featherpose.errors import CheckpointError, ModelError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.coco_ap import average_precision, estimate_dataset
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.reference import fusion as reference_fusion
from featherpose.evaluation.reference import person_box as reference_box
from featherpose.oks import oks_matrix
from featherpose.poses import Poses
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton
from featherpose.topdown import boxes as topdown_boxes
from featherpose.topdown.boxes import person_boxes, read_box_layers
from featherpose.topdown.fusion import fuse
from featherpose.topdown.person_estimator import PersonEstimator, open_person_estimator
from featherpose.topdown.refinement import Refiner, open_refiner, refinable
from featherpose.topdown.suppression import suppress_duplicates
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import resolve_model

PAIR = Skeleton.create("pair", ["a", "b"], [(0, 1)])


def pair(points: list[list[float]], scores: list[float], score: float = 1.0) -> Poses:
    return Poses(
        np.array([points], np.float32), np.array([scores], np.float32), np.array([score], np.float32), PAIR, (99, 99)
    )


def some(scores: list[float], count: int = 17) -> Poses:
    points = np.random.default_rng(1).uniform(0, 400, (len(scores), count, 2)).astype(np.float32)
    skeleton = COCO_17 if count == 17 else OPENPOSE_18
    shape = (len(scores), count)
    return Poses(points, np.full(shape, 0.5, np.float32), np.array(scores, np.float32), skeleton, (400, 400))


class Recorded(PersonEstimator):
    """Returns the middle of each box for every keypoint, and counts."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    @property
    def spec(self):  # type: ignore[no-untyped-def]
        return resolve_model("refiner").spec

    def __call__(self, image: np.ndarray, boxes: np.ndarray, known: Poses | None = None) -> Poses:
        self.calls.append(len(boxes))
        middle = np.repeat(((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None], 17, axis=1).astype(np.float32)
        offsets = np.arange(34, dtype=np.float32).reshape(17, 2)
        shape = middle.shape[:2]
        size = (image.shape[1], image.shape[0])
        return Poses(middle + offsets, np.full(shape, 0.9, np.float32), np.full(len(boxes), 0.9, np.float32),
                     COCO_17, size)  # fmt: skip


def test_the_better_keypoint_of_two_stays() -> None:
    nan = float("nan")
    first = pair([[1, 1], [5, 5]], [0.5, 0.4])
    sure = fuse(first, pair([[2, 2], [7, 7]], [0.9, 0.05]), RefineOptions())
    assert sure.keypoints.tolist() == [[[2, 2], [5, 5]]]
    only_one = fuse(pair([[1, 1], [nan, nan]], [0.5, 0]), pair([[2, 2], [7, 7]], [0.05, 0.05]), RefineOptions())
    assert only_one.keypoints.tolist() == [[[1, 1], [7, 7]]]
    neither = fuse(pair([[1, 1], [nan, nan]], [0.5, 0]), pair([[2, 2], [7, 7]], [0.05, 0.01]), RefineOptions())
    assert np.isnan(neither.keypoints[0, 1]).all()
    assert neither.keypoint_scores[0, 1] == 0


def test_places_that_agree_are_averaged_by_score() -> None:
    """The first network counts the less the surer the other one is, and not at all far apart."""
    first = pair([[100, 100], [300, 500]], [0.4, 0.8])
    refined = pair([[101, 100], [700, 500]], [0.8, 0.4])
    assert np.array_equal(fuse(first, refined, RefineOptions()).keypoints, refined.keypoints)
    fused = fuse(first, refined, RefineOptions(average=True))
    np.testing.assert_allclose(fused.keypoints[0, 0], [100 + 0.8 / (0.8 + 0.4 * 0.2), 100], atol=0.01)
    np.testing.assert_allclose(fused.keypoints[0, 1], [700, 500], atol=0.5)
    assert fused.keypoint_scores.tolist() == refined.keypoint_scores.tolist()


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("skeleton", [COCO_17, OPENPOSE_18])
def test_fused_poses_are_those_of_the_reference(skeleton: Skeleton, average: bool) -> None:
    generator = np.random.default_rng(11)
    count = skeleton.num_keypoints
    base = generator.uniform(0, 400, (40, count, 2))
    poses = []
    for spread in (0.0, 12.0):
        points = (base + generator.normal(0, 1 + spread, base.shape)).astype(np.float32)
        scores = generator.uniform(0, 1, points.shape[:2]).astype(np.float32) ** 3
        missing = generator.random(scores.shape) < 0.2
        points[missing], scores[missing] = np.nan, 0
        ranks = generator.uniform(-0.1, 1, 40).astype(np.float32)
        poses.append(Poses(points, scores, ranks, skeleton, (400, 400)))
    options = RefineOptions(average=average)
    first, refined = poses
    found, expected = fuse(first, refined, options), reference_fusion.fuse(first, refined, options)
    np.testing.assert_allclose(found.keypoints, expected.keypoints, atol=2e-3)
    np.testing.assert_array_equal(found.keypoint_scores, expected.keypoint_scores)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    assert (found.keypoints != poses[1].keypoints).any()


@pytest.mark.parametrize("skeleton", [COCO_17, OPENPOSE_18, BODY_25])
def test_boxes_are_those_of_the_reference(skeleton: Skeleton) -> None:
    generator = np.random.default_rng(12)
    count = skeleton.num_keypoints
    sizes = generator.uniform(2, 300, (60, 1, 1))
    points = (generator.uniform(0, 400, (60, 1, 2)) + sizes * generator.random((60, count, 2))).astype(np.float32)
    points[generator.random((60, count)) < 0.4] = np.nan
    points[0, 1:] = np.nan
    points = points[~np.isnan(points).all(axis=(1, 2))]
    ones = np.ones(points.shape[:2], np.float32)
    poses = Poses(points, ones, ones[:, 0], skeleton, (500, 420))
    expected = reference_box.person_boxes(
        poses, read_box_layers(Path(topdown_boxes.__file__).with_name("person_box.npz"))
    )
    np.testing.assert_allclose(person_boxes(poses), expected, atol=0.01)


def test_duplicates_go_as_by_the_plain_rule() -> None:
    """Against the rule written as loops."""
    generator = np.random.default_rng(5)
    base = generator.uniform(0, 300, (6, 17, 2))
    points = np.concatenate([base + generator.normal(0, s, base.shape) for s in (0, 2, 8, 20)]).astype(np.float32)
    poses = Poses(
        points, np.ones(points.shape[:2], np.float32), generator.uniform(0, 1, 24).astype(np.float32), COCO_17,
        (300, 300),
    )  # fmt: skip
    similarity = np.maximum(oks_matrix(poses, poses), oks_matrix(poses, poses).T)
    for threshold in (0.3, 0.7, 0.95):
        expected: list[int] = []
        for i in sorted(range(24), key=lambda i: -poses.scores[i]):
            if all(similarity[i, j] < threshold for j in expected):
                expected.append(i)
        assert suppress_duplicates(poses, same_person_oks=threshold).tolist() == expected
    with pytest.raises(OptionError):
        suppress_duplicates(poses, same_person_oks=0)


def test_the_budget_bounds_the_crops() -> None:
    recorded = Recorded()
    image = np.zeros((400, 400, 3), np.uint8)
    people = some([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    refiner = Refiner(recorded, COCO_17, RefineOptions(), 2)
    found = refiner(image, people)
    assert recorded.calls == [2]
    assert refiner.choose(people).tolist() == [0, 1]  # equally unsure: the surest people
    assert np.allclose(sorted(found.scores)[:4], [0.12, 0.15, 0.18, 0.21])
    assert list(found.scores) == sorted(found.scores, reverse=True)
    crowd = some([0.5] * 9)
    assert refiner.choose(crowd).tolist() == []
    assert refiner(image, crowd) is crowd
    Refiner(recorded, COCO_17, RefineOptions(), None)(image, people)
    assert recorded.calls == [2, 6]
    empty = Poses.empty(COCO_17, (400, 400))
    assert len(refiner(image, empty)) == 0
    assert recorded.calls == [2, 6]  # nobody, no crop


@pytest.mark.parametrize(("name", "averaged"), [("refiner", False), ("refiner-fast", True), ("refiner-dense", True)])
@pytest.mark.parametrize("asked", [None, False, True])
def test_the_card_says_whether_places_are_averaged(name: str, averaged: bool, asked: bool | None) -> None:
    refiner = open_refiner(RefineOptions(mode="all", model=name, average=asked), OPENPOSE_18)
    assert refiner is not None
    with refiner:
        assert refiner._options.average is (averaged if asked is None else asked)


def test_milliseconds_are_a_number_of_crops() -> None:
    card = resolve_model("refiner").card
    assert card is not None
    assert card.crop is not None
    assert card.crop.reference_ms is not None
    with_three = open_refiner(RefineOptions(budget_ms=3.5 * card.crop.reference_ms), OPENPOSE_18)
    assert with_three is not None
    assert with_three.budget_crops == 3
    with_three.close()
    assert open_refiner(RefineOptions(budget_ms=0.1 * card.crop.reference_ms), OPENPOSE_18) is None
    assert open_refiner(RefineOptions(mode="off"), OPENPOSE_18) is None


@pytest.mark.parametrize("name", ["refiner-fast", "refiner-dense"])
def test_faster_refiners_see_smaller_crops_of_the_same_people(name: str, astronaut: np.ndarray) -> None:
    box = np.array([[90, 0, 400, 511]], np.float32)
    with open_person_estimator("refiner") as full, open_person_estimator(name) as fast:
        assert fast.describe()["crop"] == [128, 192]
        (whole,), (small,) = full(astronaut, box).keypoints, fast(astronaut, box).keypoints
    eyes = [COCO_17.keypoints.index(name) for name in ("left_eye", "right_eye")]
    assert np.abs(whole[eyes] - small[eyes]).max() < 8


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "some"}, {"budget_crops": -1}, {"budget_ms": float("nan")}, {"budget_crops": 1, "budget_ms": 1.0},
        {"mode": "all", "budget_crops": 3}, {"same_person_oks": 2.0},
    ],
)  # fmt: skip
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        RefineOptions(**wrong)  # type: ignore[arg-type]


def test_networks_that_do_not_fit_are_refused() -> None:
    hand = Skeleton.create("hand", [f"finger{i}" for i in range(5)], [])
    assert not refinable(hand, COCO_17)
    with pytest.raises(ModelError, match="cannot refine people of skeleton hand"):
        open_refiner(RefineOptions(), hand)
    with pytest.raises(ModelError, match="sees whole images"):
        open_person_estimator("feather")


def test_boxes_reach_beyond_the_keypoints_and_stay_inside() -> None:
    people = some([0.5, 0.4, 0.3])
    boxes = person_boxes(people)
    assert boxes.shape == (3, 4)
    assert boxes.min() >= 0
    assert boxes.max() <= 400
    one_by_one = np.concatenate([person_boxes(people[[i]]) for i in range(3)])
    assert np.array_equal(boxes, one_by_one)
    neck_only = np.full((1, 18, 2), np.nan, np.float32)
    neck_only[0, 1] = [50, 60]
    alone = Poses(neck_only, np.ones((1, 18), np.float32), np.ones(1, np.float32), OPENPOSE_18, (100, 100))
    assert person_boxes(alone).tolist() == [[50, 60, 50, 60]]


def test_a_person_alone_and_among_others_is_the_same(astronaut: np.ndarray) -> None:
    with open_person_estimator("refiner") as estimator:
        boxes = np.array([[100, 10, 400, 500], [0, 0, 200, 200], [220, 30, 330, 300]], np.float32)
        together = estimator(astronaut, boxes)
        again = estimator(astronaut, boxes)
        for i in range(3):
            alone = estimator(astronaut, boxes[i : i + 1])
            assert np.array_equal(alone.keypoints[0], together.keypoints[i], equal_nan=True)
        assert np.array_equal(together.keypoints, again.keypoints, equal_nan=True)


@pytest.mark.slow
def test_levels_of_quality(astronaut: np.ndarray) -> None:
    """Each level finds the astronaut; the refined face lies closer to that of the best level than the fast one's."""
    found = {}
    for quality in ("fast", "balanced", "best"):
        with PoseEstimator(quality=quality) as estimator:
            facts = estimator.describe()
            assert facts["quality"] == quality
            assert facts["model"] == ("accurate" if quality == "best" else "feather")
            found[quality] = estimator(astronaut)
            kept = astronaut.copy()
            pending = estimator.submit(kept)
            assert np.array_equal(pending.result().keypoints, found[quality].keypoints, equal_nan=True)
    assert all(len(poses) >= 1 for poses in found.values())
    best = found["best"][0]["nose"]
    assert np.linalg.norm(found["balanced"][0]["nose"] - best) < 8
    with pytest.raises(OptionError, match="quality"):
        PoseEstimator(quality="good")  # type: ignore[arg-type]


def test_an_image_whose_buffer_is_used_again(astronaut: np.ndarray) -> None:
    """`map` may be fed by a reader with one buffer."""
    other = np.full_like(astronaut, 90)
    buffer = np.empty_like(astronaut)

    def frames():  # type: ignore[no-untyped-def]
        for image in (astronaut, other, astronaut):
            buffer[...] = image
            yield buffer

    with PoseEstimator() as estimator:
        alone = estimator(astronaut)
        found = list(estimator.map(frames()))  # type: ignore[no-untyped-call]
    assert np.array_equal(found[0].keypoints, alone.keypoints, equal_nan=True)
    assert np.array_equal(found[2].keypoints, alone.keypoints, equal_nan=True)


@pytest.mark.slow
def test_refinement_helps(coco_train: Path) -> None:
    """On forty held-out images; the whole figures stand in benchmarks/results."""
    data = read_coco_dataset(coco_train)
    held = tuple(image for image in data.images if image.image_id % 10 == 0)[:40]
    data = replace(data, images=held)
    figures = {}
    for mode in ("off", "auto", "all"):
        with PoseEstimator(refine=mode) as estimator:
            figures[mode] = average_precision(data, estimate_dataset(estimator, data)).AP
    assert figures["all"] > figures["off"] + 0.08
    assert figures["off"] < figures["auto"] <= figures["all"] + 0.02


def test_options_are_values() -> None:
    assert dataclasses.replace(RefineOptions(), budget_crops=2).budget_crops == 2


def test_the_budget_is_recorded(astronaut: np.ndarray, tmp_path: Path) -> None:
    """In the summary and in the header of JSON Lines."""
    import json

    import cv2

    from featherpose.cli.main import run

    photo, summary, lines = tmp_path / "photo.png", tmp_path / "summary.json", tmp_path / "poses.jsonl"
    assert cv2.imwrite(str(photo), astronaut)
    options = ["--refine", "auto", "--budget-crops", "3", "--summary", str(summary), "--jsonl", str(lines)]
    assert run(["predict", str(photo), *options, "--jsonl-header", "-q"]) == 0
    assert json.loads(summary.read_text())["budget_crops"] == 3
    header = json.loads(lines.read_text().splitlines()[0])
    assert header["run"]["budget_crops"] == 3
    assert header["run"]["refiner"] == "refiner"


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([(np.zeros((8, 55)), np.zeros(8)), (np.zeros((4, 9)), np.zeros(4))], "a matrix with 8 columns"),
        ([(np.zeros((3, 55)), np.zeros(3))], "ends with 3 numbers"),
        ([(np.full((4, 55), np.inf), np.zeros(4))], "not finite"),
        ([(np.zeros((4, 55), np.int64), np.zeros(4))], "no floating-point numbers"),
        ([], "ends with 55 numbers"),
    ],
)
def test_a_wrong_box_network_is_refused(tmp_path: Path, layers: list[tuple[np.ndarray, np.ndarray]], said: str) -> None:
    arrays = {f"weight{i}": weight for i, (weight, _) in enumerate(layers)}
    arrays |= {f"bias{i}": bias for i, (_, bias) in enumerate(layers)}
    np.savez(tmp_path / "a.npz", allow_pickle=False, **arrays)
    with pytest.raises(CheckpointError, match=said):
        read_box_layers(tmp_path / "a.npz")


def test_people_of_faint_keypoints_are_dropped(astronaut: np.ndarray) -> None:
    with PoseEstimator(height=256, refine=RefineOptions(min_person_score=0.99)) as strict:
        assert len(strict(astronaut)) == 0
    with PoseEstimator(height=256) as estimator:
        poses = estimator(astronaut)
    assert len(poses) >= 1
    assert poses.scores.min() >= 0.15
