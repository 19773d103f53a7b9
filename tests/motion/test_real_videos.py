"""Repetitions, steps and jumps in real videos, by the command with the bundled networks, against counts by eye.

The numbers of the frames were read from contact sheets of the videos, frame by frame around each event.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.cli.main import run

# jump-and-walk.mp4, 30 frames a second. A man on a wall does two jumping jacks: arms at the thighs in frames 4, 40
# and 76, overhead in 24 and 60. A woman walks by to the left; her foot meets the ground in these frames:
JACKS = (24, 60)
CONTACTS = (60, 79, 98, 116, 135, 153, 171, 189)

# Exercise videos: the frame in which the movement turns. Each also shows a part of a repetition that does not count.
# The people are painted over with muscles, a bar hides arms, and the network sees people in machines and one body
# twice.
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

# A burpee with one jump: in the air from frame 124 to 138.
FLIGHT = (124, 138)

# box_jump.mp4: last frame on the ground, first one back on it, and whether the landing is higher (1), lower (-1) or on
# the same level. Up on the box, backward down from it, up again, straight up on the box with head and hips out of the
# image; in frames 200 to 213 he steps down, one foot after the other, and walks away.
BOX_JUMPS = ((17, 30, 1), (43, 51, -1), (78, 90, 1), (108, 125, 0))


def analyze(video: Path, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run the command as a user would; returns its results."""
    size = [] if "--height" in arguments else ["--height", "368"]
    code = run(["motion", str(video), *size, "-o", str(folder), "--write", "json", "--quiet", *arguments])
    assert code == 0
    found: dict[str, Any] = json.loads((folder / f"{video.stem}.json").read_text())
    return found


# The heights that are looked at each time.
USUAL = {"squat": "192", "push_up": "256", "bicep_curl": "256", "bulgarian_split_squat": "256"}


@pytest.fixture(scope="module")
def walk_and_jacks(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Everyone who is seen for three seconds or longer."""
    found = analyze(shared / "data/videos/jump-and-walk.mp4", tmp_path_factory.mktemp("motion"))
    return [person for person in found["people"] if person["last_s"] - person["first_s"] > 3]


@pytest.mark.slow
def test_steps_equal_a_count_by_eye(walk_and_jacks: list[dict[str, Any]]) -> None:
    (woman,) = (person for person in walk_and_jacks if person["gait"]["steps"])
    assert woman["facing"] == "left"
    assert woman["repetitions"] is None
    contacts = [event for event in woman["gait"]["events"] if event["kind"] == "contact"]
    assert len(contacts) == len(CONTACTS)
    # Where the foot meets the ground is seen to a frame or two.
    assert np.abs(np.array([event["frame"] for event in contacts]) - CONTACTS).max() <= 3
    assert [event["side"] for event in contacts] == ["right", "left"] * 4
    cadence = woman["gait"]["measures"]["cadence"]["value"]
    assert cadence == pytest.approx(60 * 30 * 7 / (CONTACTS[-1] - CONTACTS[0]), abs=2)


@pytest.mark.slow
def test_jumping_jacks_equal_a_count_by_eye(walk_and_jacks: list[dict[str, Any]]) -> None:
    """Before he jumps off the wall he swings his arms to the front, which is not a third one."""
    (man,) = (person for person in walk_and_jacks if not person["gait"]["steps"])
    assert man["facing"] == "front"
    assert man["repetitions"] is not None
    assert (man["repetitions"]["exercise"], man["repetitions"]["guessed"]) == ("jumping-jack", True)
    found = [each["turn_frame"] for each in man["repetitions"]["each"]]
    assert len(found) == len(JACKS)
    assert np.abs(np.array(found) - JACKS).max() <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "height"),
    # All heights where they were counted wrong once, the default height and a large one for the others.
    [pytest.param(name, height, marks=() if height == USUAL[name] else pytest.mark.thorough)
     for name in EXERCISES for height in ("192", "256", "320", "368")
     if name in ("squat", "push_up") or height in ("256", "368")],
)  # fmt: skip
def test_repetitions_equal_a_count_by_eye(name: str, height: str, shared: Path, tmp_path: Path) -> None:
    """The smaller the image, the more often ankles lie on knees, and hidden arms elsewhere."""
    exercise, turns = EXERCISES[name]
    found = analyze(shared / f"data/videos/{name}.mp4", tmp_path, "--exercise", exercise, "--height", height)
    (person,) = found["people"]  # the fragments and what the network sees in machines are left out
    each = person["repetitions"]["each"]
    assert len(each) == len(turns), each
    for repetition, turn in zip(each, turns, strict=True):
        assert repetition["start_frame"] < turn < repetition["end_frame"]
    if name == "squat":
        assert np.abs(np.array([r["turn_frame"] for r in each]) - turns).max() <= 6
        assert all(70 <= r["depth_deg"] <= 115 for r in each)  # thighs level or nearly so


@pytest.mark.slow
def test_a_jump_is_told_from_feet_that_kick(shared: Path, tmp_path: Path) -> None:
    """The feet also leave the ground with the hands on it."""
    found = analyze(shared / "data/videos/burpee.mp4", tmp_path, "--exercise", "none")
    (person,) = found["people"]
    (jump,) = person["jumps"]
    assert abs(jump["takeoff_frame"] - FLIGHT[0]) <= 2
    assert abs(jump["landing_frame"] - FLIGHT[1]) <= 2
    assert person["gait"]["steps"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("height", ["256", pytest.param("368", marks=pytest.mark.thorough)])
def test_jumps_onto_a_box_and_down_equal_a_count_by_eye(height: str, shared: Path, tmp_path: Path) -> None:
    """At the default height the far foot trembles on the box."""
    found = analyze(shared / "data/videos/box_jump.mp4", tmp_path, "--exercise", "none", "--height", height)
    (person,) = found["people"]
    assert len(person["jumps"]) == len(BOX_JUMPS)
    for jump, (takeoff, landing, level) in zip(person["jumps"], BOX_JUMPS, strict=True):
        assert abs(jump["takeoff_frame"] - takeoff) <= 2
        assert abs(jump["landing_frame"] - landing) <= 2
        assert np.sign(jump["level"]["value"]) == level
        assert (jump["height"]["value"] is None) == (level != 0)
    assert any("no height by flight time" in limit for limit in person["limits"])
