"""Known people seen with the tremble that the bundled network has from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest

from featherpose.errors import DatasetError
from featherpose.evaluation.motion.known_people import squatting, walking
from featherpose.evaluation.motion.noise import KeypointNoise, bundled_noise, measure_keypoint_noise, see_with_noise
from featherpose.motion.analysis import analyze_motion
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, OPENPOSE_18


def tremble() -> KeypointNoise:
    """The part of the measured error that is new in each frame: 15 % of its deviation, as videos show."""
    noise = bundled_noise()
    nothing = dict.fromkeys(noise.jitter, 0.0)
    jitter = {name: 0.15 * sigma for name, sigma in noise.jitter.items()}
    return KeypointNoise(provenance="", people=noise.people, jitter=jitter, missed=nothing, outliers=nothing)


def test_angles_and_repetitions_with_tremble() -> None:
    known = squatting(5)
    for seed in range(4):
        report = analyze_motion(see_with_noise(known, OPENPOSE_18, tremble(), seed=seed))
        for name, truth in known.angles.items():
            if name in report.angles:
                assert np.sqrt(np.nanmean((report.angles[name][:, 0] - truth) ** 2)) <= 6, name
        found = report.people[0].repetitions
        assert found is not None
        assert len(found) == 5
        assert np.abs(np.array([r.turn_s for r in found.found]) - known.events["turn"]).max() <= 2 / 30 + 0.01


@pytest.mark.slow
def test_steps_with_tremble() -> None:
    known = walking(12)
    counted = [analyze_motion(see_with_noise(known, OPENPOSE_18, tremble(), seed=seed)) for seed in range(4)]
    for report in counted:
        gait = report.people[0].gait
        assert gait.steps == 12
        for event in gait.events:
            assert np.abs(known.events[f"{event.side}_{event.kind}"] - event.time_s).min() <= 2 / 30


def test_noise_is_measured_as_it_was_made() -> None:
    rng = np.random.default_rng(0)
    box = rng.uniform(0, 300, (200, 17, 2)).astype(np.float32)
    ones = np.ones((1, 17), np.float32)

    def poses(points: np.ndarray) -> Poses:
        return Poses(points[None].astype(np.float32), ones, np.ones(1, np.float32), COCO_17, (300, 300))

    size = float(np.mean(np.hypot(*np.ptp(box, axis=1).T)))
    pairs = [(poses(p), poses(p + rng.normal(0, 0.01 * size, p.shape))) for p in box]
    noise = measure_keypoint_noise(pairs, COCO_17, provenance="made")
    assert noise.people == 200
    for sigma in noise.jitter.values():
        assert sigma == pytest.approx(0.01, rel=0.25)
    with pytest.raises(DatasetError, match="nobody large was found"):
        measure_keypoint_noise([], COCO_17, provenance="none")
