"""Known people seen with the tremble that the bundled network has from frame to frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from featherpose.errors import DatasetError
from featherpose.evaluation.motion.known_people import squatting, walking
from featherpose.evaluation.motion.noise import KeypointNoise, bundled_noise, measure_keypoint_noise, see_with_noise
from featherpose.motion.analysis import MotionOptions, analyze_motion
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


@pytest.mark.parametrize("rate_hz", [30, 60])
def test_uncertainties_of_repetitions_are_those_of_their_errors(rate_hz: int) -> None:
    """Depth and turning point of known squats, to a factor of two; times are never said to be better than a frame."""
    known = squatting(5, depth_deg=110, rate_hz=rate_hz)
    errors, stated = [], []
    for seed in range(6):
        found = analyze_motion(see_with_noise(known, OPENPOSE_18, tremble(), seed=seed)).people[0].repetitions
        assert found is not None
        turns = [r.turn_s for r in found.found]
        errors += [(r.depth_deg - 110, t - k) for r, t, k in zip(found.found, turns, known.events["turn"], strict=True)]
        stated += [(r.uncertainty.depth_deg, r.uncertainty.turn_s) for r in found.found]
        assert found.tempo.value == pytest.approx(found.tempo_s)
        assert 0 < found.tempo.uncertainty < stated[-1][1]
    depth, turn = np.sqrt(np.mean(np.square(errors), 0))
    said_depth, said_turn = np.median(stated, 0)
    assert 0.5 < said_depth / depth < 2
    assert turn < said_turn
    assert said_turn >= 1 / rate_hz / np.sqrt(12)


def test_a_repetition_with_a_doubtful_knee_is_less_certain() -> None:
    seen = see_with_noise(squatting(3), OPENPOSE_18, tremble(), seed=1)
    scores = seen.scores.copy()
    turn = squatting(3).events["turn"][1]
    rows = np.abs(seen.timestamps_s - turn) < 0.3
    for side in ("left", "right"):
        scores[rows, 0, OPENPOSE_18.index(f"{side}_knee")] *= 0.4
    found = analyze_motion(replace(seen, scores=scores)).people[0].repetitions
    assert found is not None
    first, second, third = (r.uncertainty.depth_deg for r in found.found)
    assert second > 1.15 * max(first, third)
    assert first == pytest.approx(third, rel=0.3)


def test_nothing_is_said_of_a_repetition_that_is_not_known() -> None:
    """One squat has no tempo."""
    found = analyze_motion(squatting(1).sequence, MotionOptions(exercise="squat")).people[0].repetitions
    assert found is not None
    assert np.isnan(found.tempo.value)
    assert str(found.tempo) == "unknown"


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
