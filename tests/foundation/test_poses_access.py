"""What a user does first with a result: iterate, index, convert."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

from featherpose.errors import FeatherposeError, MissingExtraError, SelectionError, SkeletonError
from featherpose.poses import Person, Poses
from featherpose.skeleton import COCO_17, OPENPOSE_18


def three_people() -> Poses:
    points = np.random.default_rng(3).uniform(0, 200, (3, 17, 2)).astype(np.float32)
    scores = np.full((3, 17), 0.5, np.float32)
    points[1, 0], scores[1, 0] = np.nan, 0
    people = Poses(points, scores, np.array([0.9, 0.4, 0.7], np.float32), COCO_17, (200, 100))
    return people.with_track_ids(np.array([4, -1, 7], np.int64))


def test_iteration_gives_each_person() -> None:
    poses = three_people()
    people = list(poses)
    assert [type(person) for person in people] == [Person] * 3
    assert [person.id for person in people] == [4, None, 7]
    assert [person.score for person in people] == pytest.approx([0.9, 0.4, 0.7])
    assert list(Poses.empty(COCO_17, (9, 9))) == []


def test_a_person_is_a_view() -> None:
    poses = three_people()
    assert np.shares_memory(poses[2].keypoints, poses.keypoints)
    assert np.array_equal(poses[2].box, poses.boxes()[2])
    assert np.array_equal(poses[1].detected, poses.detected[1])
    assert repr(poses[1]) == "Person(16 of 17 keypoints, coco_17, score 0.40)"
    assert repr(poses[-1]) == "Person(17 of 17 keypoints, coco_17, score 0.70, id 7)"


def test_integers_of_any_kind_select_a_person() -> None:
    poses = three_people()
    for index in (2, -1, np.int64(2), np.int32(-1)):
        assert np.array_equal(poses[index].keypoints, poses.keypoints[2])


def test_a_name_selects_a_keypoint() -> None:
    poses = three_people()
    noses = poses["nose"]
    assert noses.shape == (3, 2)
    assert noses.dtype == np.float32
    assert np.isnan(noses[1]).all()
    assert np.array_equal(poses[0]["nose"], noses[0])
    assert np.array_equal(poses[0][0], noses[0])
    assert np.array_equal(poses[0][-1], poses[0]["right_ankle"])
    assert Poses.empty(OPENPOSE_18, (9, 9))["neck"].shape == (0, 2)


def test_slices_masks_and_lists_select_people() -> None:
    poses = three_people()
    assert len(poses[1:]) == 2
    assert len(poses[poses.scores > 0.5]) == 2
    assert poses[[2, 0]].scores.tolist() == pytest.approx([0.7, 0.9])
    assert poses[[True, False, True]].scores.tolist() == pytest.approx([0.9, 0.7])
    assert len(poses[[]]) == 0


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("noze", SkeletonError, "did you mean 'nose'?"),
        (3, SelectionError, "no person 3 among 3 people; expected 0 to 2"),
        (-4, SelectionError, "no person -4"),
        (1.0, SelectionError, "cannot be indexed with float 1.0"),
        ((0, "nose"), SelectionError, 'poses[0]["nose"]'),
        (None, SelectionError, "NoneType"),
        (True, SelectionError, "bool"),
        ([0.5], SelectionError, "float64"),
        ([7], SelectionError, "does not fit 3 people"),
        ([True], SelectionError, "does not fit 3 people"),
        (["nose"], SelectionError, "a list of indices"),
    ],
)
def test_what_cannot_be_selected_is_said_clearly(key: Any, kind: type[FeatherposeError], words: str) -> None:
    with pytest.raises(kind) as caught:
        three_people()[key]
    assert words in str(caught.value)


def test_keypoints_of_a_person_that_do_not_exist() -> None:
    person = three_people()[0]
    with pytest.raises(SelectionError, match="no keypoint 17 among 17 keypoints"):
        person[17]
    with pytest.raises(SkeletonError, match="no keypoint 'tail'"):
        person["tail"]
    with pytest.raises(SelectionError, match="a name such as"):
        person[1.5]  # type: ignore[index]
    with pytest.raises(SelectionError, match="it is empty"):
        Poses.empty(COCO_17, (9, 9))[0]


def test_plain_data_is_json() -> None:
    poses = three_people()
    data = json.loads(json.dumps(poses.to_dict(), allow_nan=False))
    assert data["skeleton"] == "coco_17"
    assert data["image_size"] == [200, 100]
    assert [person["id"] for person in data["people"]] == [4, None, 7]
    assert data["people"][1]["keypoints"]["nose"] is None
    assert list(data["people"][0]["keypoints"]) == list(COCO_17.keypoints)
    x, y, score = data["people"][0]["keypoints"]["left_hip"]
    assert [x, y] == pytest.approx(poses[0]["left_hip"], abs=0.005)
    assert score == 0.5
    nobody_found = Poses(
        np.full((1, 17, 2), np.nan, np.float32),
        np.zeros((1, 17), np.float32),
        np.zeros(1, np.float32),
        COCO_17,
        (9, 9),
    )
    assert nobody_found.to_dict()["people"][0]["box"] is None


def test_data_frame_has_the_columns_of_the_tables() -> None:
    pytest.importorskip("pandas")
    from featherpose.formats.tables import table_columns

    poses = three_people()
    frame = poses.to_pandas()
    assert list(frame.columns) == table_columns(COCO_17)[3:]
    assert frame["id"].isna().tolist() == [False, True, False]
    assert np.array_equal(frame[["nose_x", "nose_y"]].to_numpy(), poses["nose"], equal_nan=True)
    assert Poses.empty(COCO_17, (9, 9)).to_pandas().shape == (0, 3 + 3 * 17)


def test_supervision_gets_the_same_people() -> None:
    sv = pytest.importorskip("supervision")
    poses = three_people()
    points = poses.to_supervision()
    assert isinstance(points, sv.KeyPoints)
    assert len(points) == 3
    assert points.xy[1, 0].tolist() == [0, 0]
    assert np.array_equal(points.xy[0], poses.keypoints[0])
    assert points.data["tracker_id"].tolist() == [4, -1, 7]
    drawn = sv.VertexAnnotator(radius=2).annotate(np.zeros((200, 200, 3), np.uint8), points)
    assert drawn.any()


@pytest.mark.parametrize(("method", "package"), [("to_pandas", "pandas"), ("to_supervision", "supervision")])
def test_a_missing_package_is_named(method: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"featherpose\[{package}\]"):
        getattr(three_people(), method)()


def test_reprs_are_short() -> None:
    assert repr(COCO_17) == "Skeleton(coco_17, 17 keypoints, 19 limbs)"
    assert repr(three_people()) == "Poses(3 people, coco_17, 200x100, tracked)"
