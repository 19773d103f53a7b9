"""The pose prior: expectations, and the pass that completes people by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featherpose.estimator import PoseEstimator
from featherpose.evaluation.reference.expectation import complete_by_expectation_plainly, expected_keypoints
from featherpose.geometry import Letterbox
from featherpose.media.images import read_image
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_maps
from featherpose.methods.paf.expectation import complete_by_expectation
from featherpose.methods.paf.pose_prior import expect_keypoints, pose_prior
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton


def test_prior_is_matched_by_names() -> None:
    whole, part = pose_prior(OPENPOSE_18), pose_prior(COCO_17)
    assert whole is not None
    assert part is not None
    for name in COCO_17.keypoints:
        assert whole.rows[OPENPOSE_18.index(name)] == part.rows[COCO_17.index(name)]
    assert np.linalg.eigvalsh(whole.covariance).min() > 0
    toes = pose_prior(BODY_25)
    assert toes is not None
    assert (toes.rows < 0).any()
    assert pose_prior(Skeleton.create("tool", ["tip", "handle"], [("tip", "handle")])) is None


@pytest.mark.parametrize("seed", range(20))
def test_fast_pass_equals_plain_one(seed: int) -> None:
    prior, rng = pose_prior(OPENPOSE_18), np.random.default_rng(seed)
    assert prior is not None
    people = int(rng.integers(1, 7))
    poses = [rng.uniform(0, 300, 2) + rng.uniform(10, 60) * (prior.mean + rng.normal(0, 0.2, (18, 2)))
             for _ in range(people)]  # fmt: skip
    positions: list[np.ndarray] = []
    scores: list[float] = []
    starts = [0]
    members = np.full((2 * people, 18), -1, np.int32)
    for k in range(18):
        found = [(rng.uniform(0.05, 1), pose[k], p) for p, pose in enumerate(poses) if rng.random() < 0.9]
        found += [(rng.uniform(0.03, 0.3), rng.uniform(0, 300, 2), -1) for _ in range(int(rng.integers(0, 3)))]
        for score, at, p in sorted(found, key=lambda entry: -entry[0]):
            if p >= 0 and rng.random() < 0.7:  # a person is whole, or its legs are a person of their own
                members[p if rng.random() < 0.97 and k not in range(8, 14) else p + people, k] = len(positions)
            positions.append(at)
            scores.append(score)
        starts.append(len(positions))
    given = members, np.array(positions, np.float32), np.array(scores, np.float32), np.array(starts, np.int32), prior
    fast, plain = complete_by_expectation(*given), complete_by_expectation_plainly(*given)
    np.testing.assert_array_equal(fast, plain)
    owned = fast[fast >= 0]
    assert len(np.unique(owned)) == len(owned)
    assert set(members[members >= 0].tolist()) <= set(owned.tolist())


def test_expectation_equals_plain_one_and_moves_with_the_person() -> None:
    prior, rng = pose_prior(OPENPOSE_18), np.random.default_rng(3)
    assert prior is not None
    pose = 50 * (prior.mean + rng.normal(0, 0.1, (18, 2)))
    members = np.where(rng.random(18) < 0.6, np.arange(18), -1).astype(np.int32)
    for scale, shift in ((1.0, 0.0), (3.0, 100.0)):
        positions = (scale * pose + shift).astype(np.float32)
        expected, spread = np.zeros((18, 2)), np.zeros(18)
        assert expect_keypoints(members, positions, *prior, expected, spread)
        truth, deviation = expected_keypoints(np.where((members >= 0)[:, None], positions, np.nan).astype(float), prior)
        missing = members < 0
        np.testing.assert_allclose(expected[missing], truth[missing], rtol=1e-4)
        np.testing.assert_allclose(spread[missing], deviation[missing], rtol=1e-4)
        assert (spread[~missing] < 0).all()
    assert not expect_keypoints(np.full(18, -1, np.int32), positions, *prior, expected, spread)


def test_person_in_two_parts_becomes_one() -> None:
    prior = pose_prior(OPENPOSE_18)
    assert prior is not None
    person = (150 + 45 * prior.mean).astype(np.float32)[None]
    maps = encode_maps(person, OPENPOSE_18, (320, 320))
    for limb in ((1, 8), (1, 11)):  # no field leads from the neck to the hips
        maps.pafs[list(OPENPOSE_18.paf_channels[OPENPOSE_18.limbs.index(limb)])] = 0
    box = Letterbox.fit((320, 320), height=320, multiple=8)
    apart = PafDecoder(OPENPOSE_18, PafOptions(pose_prior=False, rate=False))(maps, box)
    assert len(apart) == 3
    (whole,) = PafDecoder(OPENPOSE_18)(maps, box)
    assert whole.detected.all()


@pytest.mark.slow
def test_real_photograph_gains_keypoints_and_loses_none(coco_val: Path) -> None:
    gained = 0
    with PoseEstimator(quality="fast", options=PafOptions(rank_size_px=0.0, correct=False)) as after, PoseEstimator(
        quality="fast", options=PafOptions(pose_prior=False, rank_size_px=0.0, correct=False)
    ) as before:  # fmt: skip
        for path in sorted((coco_val / "images").iterdir())[:12]:
            image = read_image(path)
            one, other = before(image), after(image)
            found = {tuple(point) for person in one for point in person.keypoints[person.detected].tolist()}
            kept = {tuple(point) for person in other for point in person.keypoints[person.detected].tolist()}
            assert found <= kept
            gained += len(kept) - len(found)
    assert gained > 10
