"""Repetitions and steps in real videos against counts by eye.

The numbers of the frames were read from contact sheets of the videos, frame by frame around each event.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from single_person import person_in

from featherpose.cli.main import run
from featherpose.motion.analysis import MotionOptions, MotionReport, PersonMotion, analyze_motion
from featherpose.motion.files.reading import read_poses
from featherpose.motion.sequence import PoseSequence

# jump-and-walk.mp4, 30 frames a second. A man on a wall does two jumping jacks: arms at the thighs in frames 4, 40
# and 76, overhead in 24 and 60. A woman walks by to the left; her foot meets the ground in these frames:
JACKS = (24, 60)
CONTACTS = (60, 79, 98, 116, 135, 153, 171, 189)

# Exercise videos: the frame in which the movement turns. Each also shows a part of a repetition that does not count.
EXERCISES = {
    # Two dips, with hips hardly above the knees between them (frame 94); a third descent begins in frame 186.
    "squat": ("squat", (76, 113)),
    # Down by frame 60, chest low until 95, up by 165; at the end the knees go down.
    "push_up": ("push-up", (78,)),
    # Up by frame 64, down by 96; a second one is at the top when the video ends.
    "bicep_curl": ("curl", (66,)),
    # It begins and ends at the bottom; between lie two whole ones.
    "bulgarian_split_squat": ("split-squat", (78, 168)),
}


@pytest.fixture(scope="module")
def walk_and_jacks(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> PoseSequence:
    """Everyone in the video, by the bundled network, as a user gets it."""
    folder = tmp_path_factory.mktemp("poses")
    video = shared / "data/videos/jump-and-walk.mp4"
    poses = folder / "poses.jsonl"
    assert run(["predict", str(video), "--height", "368", "-q", "--jsonl", str(poses), "--jsonl-header"]) == 0
    return read_poses(poses, image_size=(1768, 994))


@pytest.fixture(scope="module")
def report(walk_and_jacks: PoseSequence) -> MotionReport:
    return analyze_motion(walk_and_jacks, MotionOptions())


def who(report: MotionReport, *, walks: bool) -> PersonMotion:
    """The woman walks, the man faces the camera."""
    return next(p for p in report.people if (p.gait.steps >= 4) == walks and p.last_s - p.first_s > 3)


@pytest.mark.slow
def test_steps_equal_a_count_by_eye(report: MotionReport) -> None:
    woman = who(report, walks=True)
    assert woman.facing == "left"
    found = [int(report.sequence.frames[event.row]) for event in woman.gait.contacts]
    assert len(found) == len(CONTACTS)
    assert np.abs(np.array(found) - CONTACTS).max() <= 3  # where the foot meets the ground is seen to a frame or two
    assert [event.side for event in woman.gait.contacts] == ["right", "left"] * 4
    cadence = woman.gait.measures["cadence"]
    assert cadence.value == pytest.approx(60 * 30 * 7 / (CONTACTS[-1] - CONTACTS[0]), abs=2)


@pytest.mark.slow
def test_jumping_jacks_equal_a_count_by_eye(report: MotionReport) -> None:
    man = who(report, walks=False)
    assert man.facing == "front"
    assert man.repetitions is not None
    assert (man.repetitions.rule.name, man.guessed) == ("jumping-jack", True)
    found = [int(report.sequence.frames[r.turn]) for r in man.repetitions.found]
    assert len(found) == len(JACKS)
    assert np.abs(np.array(found) - JACKS).max() <= 3


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_repetitions_equal_a_count_by_eye(name: str, shared: Path) -> None:
    exercise, turns = EXERCISES[name]
    sequence = person_in(shared / f"data/videos/{name}.mp4", shared / "models")
    report = analyze_motion(sequence, MotionOptions(exercise=exercise, min_score=0.2))
    found = report.people[0].repetitions
    assert found is not None
    assert len(found) == len(turns), [r.turn for r in found.found]
    for repetition, turn in zip(found.found, turns, strict=True):
        assert repetition.start < turn < repetition.end
