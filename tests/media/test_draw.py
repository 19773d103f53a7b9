"""Drawing: what is missing stays invisible, and the fast calls paint what plain ones would."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from featherpose.drawing.draw import DrawOptions, draw_poses
from featherpose.drawing.palette import limb_colors
from featherpose.errors import OptionError
from featherpose.poses import Poses
from featherpose.skeleton import BODY_25, COCO_17, LSP_14, OPENPOSE_18, Skeleton

PLAIN = DrawOptions(thickness=3, outline=False, joints=False)


def some_people(count: int, skeleton: Skeleton = OPENPOSE_18, seed: int = 0) -> Poses:
    rng = np.random.default_rng(seed)
    k = skeleton.num_keypoints
    centers = rng.uniform(60, 260, (count, 1, 2))
    points = (centers + rng.normal(0, 25, (count, k, 2))).astype(np.float32)
    scores = np.ones((count, k), np.float32)
    gone = rng.random((count, k)) < 0.25
    points[gone], scores[gone] = np.nan, 0
    return Poses(points, scores, np.ones(count, np.float32), skeleton, (320, 320))


def test_same_as_one_plain_line_after_the_other() -> None:
    poses = some_people(7)
    fast = np.zeros((320, 320, 3), np.uint8)
    draw_poses(fast, poses, PLAIN)
    plain = np.zeros_like(fast)
    for limb, (a, b) in enumerate(OPENPOSE_18.limbs):
        if limb in OPENPOSE_18.loop_limbs:
            continue
        for person in poses.keypoints:
            if np.isnan(person[[a, b]]).any():
                continue
            start, end = np.rint(person[[a, b]] * 16).astype(int).tolist()
            cv2.line(plain, start, end, limb_colors(OPENPOSE_18)[limb], 3, cv2.LINE_AA, 4)
    assert fast.any()
    assert np.array_equal(fast, plain)


def test_a_missing_joint_draws_nothing_in_the_corner() -> None:
    points = np.full((1, 18, 2), np.nan, np.float32)
    points[0, [1, 2, 3]] = [[150, 100], [120, 100], [110, 150]]
    scores = np.where(np.isnan(points[..., 0]), 0, 1).astype(np.float32)
    canvas = np.zeros((300, 300, 3), np.uint8)
    draw_poses(canvas, Poses(points, scores, np.ones(1, np.float32), OPENPOSE_18, (300, 300)))
    ys, xs = np.nonzero(canvas.any(-1))
    assert xs.min() > 95
    assert ys.min() > 85


def test_sub_pixel_positions() -> None:
    line = Skeleton.create("line", ["a", "b"], [("a", "b")])

    def drawn(x: float) -> np.ndarray:
        points = np.array([[[x, 5], [x, 25]]], np.float32)
        canvas = np.zeros((32, 32, 3), np.uint8)
        draw_poses(canvas, Poses(points, np.ones((1, 2), np.float32), np.ones(1, np.float32), line, (32, 32)), PLAIN)
        return canvas[15, :, 2].astype(float)

    centers = [float((drawn(x) * np.arange(32)).sum() / drawn(x).sum()) for x in (10.0, 10.25, 10.5, 11.0)]
    assert centers == sorted(centers)
    assert centers[3] - centers[0] == pytest.approx(1.0, abs=0.1)
    assert centers[2] - centers[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("skeleton", [OPENPOSE_18, COCO_17, BODY_25, LSP_14])
@pytest.mark.parametrize("color", ["limb", "person"])
def test_every_skeleton_and_option(skeleton: Skeleton, color: str) -> None:
    poses = some_people(3, skeleton).with_track_ids(np.array([4, -1, 7]))
    canvas = np.full((320, 320, 3), 90, np.uint8)
    draw_poses(canvas, poses, DrawOptions(color=color, boxes=True, ids=True, scores=True))  # type: ignore[arg-type]
    assert (canvas != 90).any()


def test_alone_on_black(astronaut: np.ndarray) -> None:
    canvas = astronaut.copy()
    draw_poses(canvas, Poses.empty(COCO_17, (512, 512)), DrawOptions(on_black=True))
    assert not canvas.any()


def test_uncertain_keypoints_are_left_out() -> None:
    poses = some_people(1)
    faint = Poses(poses.keypoints, poses.keypoint_scores * 0.05, poses.scores, poses.skeleton, poses.image_size)
    canvas = np.zeros((320, 320, 3), np.uint8)
    draw_poses(canvas, faint)
    assert not canvas.any()
    draw_poses(canvas, faint, DrawOptions(min_keypoint_score=0))
    assert canvas.any()


def test_far_outside_and_infinite() -> None:
    points = np.array([[[1e30, 5], [5, -1e30], [np.inf, 3], [3, 3]]], np.float32)
    chain = Skeleton.create("chain", list("abcd"), [(0, 1), (1, 2), (2, 3)])
    canvas = np.zeros((32, 32, 3), np.uint8)
    draw_poses(canvas, Poses(points, np.ones((1, 4), np.float32), np.ones(1, np.float32), chain, (32, 32)))


def test_images_that_cannot_be_drawn_into() -> None:
    poses = some_people(1)
    frozen = np.zeros((8, 8, 3), np.uint8)
    frozen.flags.writeable = False
    for image in (frozen, np.zeros((8, 16, 3), np.uint8)[:, ::2]):
        with pytest.raises(OptionError, match="cannot be drawn into"):
            draw_poses(image, poses)


@pytest.mark.parametrize("options", [{"color": "rainbow"}, {"thickness": 0}, {"min_keypoint_score": 2.0}])
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        DrawOptions(**options)  # type: ignore[arg-type]
