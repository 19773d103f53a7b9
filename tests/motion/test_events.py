"""Repetitions, steps, jumps, speeds and places on people and paths that are known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from featherpose.errors import OptionError
from featherpose.evaluation.motion.known_people import jumping, jumping_jacks, pendulum_arms, squatting, walking
from featherpose.motion.analysis import MotionOptions, analyze_motion
from featherpose.motion.angles import Angles, joint_angles
from featherpose.motion.events.exercise_rules import ExerciseRule
from featherpose.motion.events.gait import FootEvent, Gait, find_gait
from featherpose.motion.events.jumps import GRAVITY_M_S2, find_jumps
from featherpose.motion.events.repetitions import find_repetitions
from featherpose.motion.events.speed import find_travel
from featherpose.motion.events.supports import feet_off
from featherpose.motion.field import Field, field_tracks, heat_map, parse_field
from featherpose.motion.meters import floor_of, scale_from_height, stature_px, to_meters
from featherpose.motion.people import choose_people, person_at
from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton

SKELETONS = pytest.mark.parametrize("skeleton", [BODY_25, COCO_17, OPENPOSE_18], ids=lambda s: s.name)


@SKELETONS
@pytest.mark.parametrize("rate_hz", [24, 30, 60, 120])
def test_squats_are_counted_with_depth_and_time(skeleton: Skeleton, rate_hz: float) -> None:
    known = squatting(7, depth_deg=100, rate_hz=rate_hz)
    report = analyze_motion(known.in_skeleton(skeleton))
    found = report.people[0].repetitions
    assert found is not None
    assert found.rule.name == "squat"
    assert len(found) == 7
    for repetition, turn in zip(found.found, known.events["turn"], strict=True):
        assert repetition.turn_s == pytest.approx(turn, abs=1 / rate_hz)
        assert repetition.depth_deg == pytest.approx(100, abs=1)
        assert repetition.out_s == pytest.approx(repetition.back_s, abs=2.1 / rate_hz)
    assert found.tempo_s == pytest.approx(2.5, abs=0.01)


def test_jumping_jacks_are_counted() -> None:
    report = analyze_motion(jumping_jacks(9).in_skeleton(OPENPOSE_18))
    found = report.people[0].repetitions
    assert found is not None
    assert (found.rule.name, len(found)) == ("jumping-jack", 9)
    assert not report.people[0].gait.steps


def test_a_movement_that_is_cut_off_is_not_counted() -> None:
    known = squatting(4, lead_s=0.5)
    from_the_bottom = np.flatnonzero(known.sequence.timestamps_s >= known.events["turn"][0])
    rows = from_the_bottom[from_the_bottom < len(known.sequence.timestamps_s) - 55]  # ends in the last one's descent
    cut = PoseSequence.from_arrays(known.sequence.keypoints[rows], known.sequence.timestamps_s[rows], BODY_25)
    assert len(find_repetitions(joint_angles(cut), "squat")) == 2


def test_a_bounce_at_the_bottom_is_one_repetition() -> None:
    times = np.arange(0, 4, 1 / 30)
    knee = np.interp(times, [0, 1, 1.6, 1.9, 2.2, 3, 4], [5, 5, 100, 85, 100, 5, 5])
    assert len(find_repetitions(one_angle("left_knee", knee, times), "squat")) == 1


@pytest.mark.parametrize(
    ("valley", "apart_s", "count"), [(70, 1.5, 2), (70, 0.5, 1), (88, 1.5, 1), (30, 0.7, 2)],
    ids=["partly up", "too soon", "a wobble", "up"],
)  # fmt: skip
def test_who_does_not_stand_up_between_two_squats_comes_back_far_and_long_enough(
    valley: float, apart_s: float, count: int
) -> None:
    times = np.arange(0, 6, 1 / 30)
    knee = np.interp(times, [0, 1, 2, 2 + apart_s / 2, 2 + apart_s, 3 + apart_s, 6], [5, 5, 100, valley, 95, 5, 5])
    found = find_repetitions(one_angle("left_knee", knee, times), "squat").found
    assert len(found) == count
    assert abs(found[0].turn_s - 2) < 0.05
    if count == 2:
        assert abs(found[1].turn_s - 2 - apart_s) < 0.05


def test_the_arm_that_the_body_hides_does_not_say_when_a_push_up_turns() -> None:
    times = np.arange(0, 6, 1 / 30)
    near = 50 - 45 * np.cos(2 * np.pi * (times - 0.5) / 5)
    far = near + 50 * np.sign(np.sin(2 * np.pi * times / 0.8))
    names = ("left_elbow", "right_elbow")
    both = Angles(np.stack([near, far], -1)[:, None], names, times, (0,), np.zeros((len(times), 1), int))
    (push_up,) = find_repetitions(both, "push-up").found
    assert abs(push_up.turn_s - 3) < 0.3


def test_an_arm_that_disappears_at_the_top_has_not_come_back() -> None:
    """The other arm hangs down, so the larger of both angles falls as in a repetition."""
    times = np.arange(0, 4, 1 / 30)
    lifted = np.interp(times, [0, 1, 2, 3, 4], [5, 5, 100, 5, 5])
    hanging = np.full_like(times, 5.0)
    names = ("left_elbow", "right_elbow")

    def curls(arm: np.ndarray) -> int:
        angles = np.stack([hanging, arm], -1)[:, None]
        return len(find_repetitions(Angles(angles, names, times, (0,), np.zeros((len(times), 1), int)), "curl"))

    assert curls(lifted) == 1
    assert curls(np.where((times > 2.05) & (times < 3.5), np.nan, lifted)) == 0


def test_the_larger_of_angles_without_a_side() -> None:
    times = np.arange(0, 4, 1 / 30)
    lean = np.interp(times, [0, 1, 2, 3, 4], [5, 5, 60, 5, 5])
    rule = ExerciseRule(name="bow", angles=("trunk_lean",), combine="max", prominence_deg=30)
    assert len(find_repetitions(one_angle("trunk_lean", lean, times), rule)) == 1


def test_a_misplaced_ankle_does_not_say_when_a_squat_turns() -> None:
    """Half a second before the turn the knees bend far for a moment, and the hips do not."""
    times = np.arange(0, 4, 1 / 30)
    bend = np.interp(times, [0, 0.5, 2, 3.5, 4], [0, 0, 100, 0, 0])
    knee = bend + np.interp(times, [1.3, 1.5, 1.7], [0, 90, 0], 0, 0)
    names = ("left_knee", "right_knee", "left_hip", "right_hip")
    angles = Angles(np.stack([knee, knee, bend, bend], -1)[:, None], names, times, (0,), np.zeros((len(times), 1), int))
    (squat,) = find_repetitions(angles, "squat").found
    assert abs(squat.turn_s - 2) < 0.1


def one_angle(name: str, values: np.ndarray, times: np.ndarray) -> Angles:
    """A person who faces right, of whom one angle is seen."""
    return Angles(values[:, None, None], (name,), times, (0,), np.zeros((len(times), 1), int))


def test_a_signal_of_ones_own() -> None:
    known = pendulum_arms(seconds=6, frequency_hz=1.0)
    rule = ExerciseRule(name="swing", angles=("left_shoulder",), prominence_deg=60)
    # Six swings to the front, of which the first begins half way up.
    assert len(find_repetitions(joint_angles(known.sequence), rule)) == 5
    with pytest.raises(OptionError, match="exercise 'dance' is unknown"):
        find_repetitions(joint_angles(known.sequence), "dance")
    with pytest.raises(OptionError, match="no angle 'knee'"):
        ExerciseRule(name="own", angles=("knee",))


@SKELETONS
@pytest.mark.parametrize("facing", ["right", "left"])
@pytest.mark.parametrize("rate_hz", [30, 60])
def test_steps_are_found_on_the_frame(skeleton: Skeleton, facing: str, rate_hz: float) -> None:
    known = walking(13, facing=facing, rate_hz=rate_hz)
    report = analyze_motion(known.in_skeleton(skeleton), MotionOptions(person_height_m=1.75))
    gait = report.people[0].gait
    assert gait.method == ("heel_toe" if skeleton is BODY_25 else "ankle")
    assert gait.steps == 13
    assert gait.overground
    for side in ("left", "right"):
        contacts = times_of(gait, side, "contact")
        assert len(contacts) == len(known.events[f"{side}_contact"])
        # By definition of the method contact is where the foot is farthest in front, 30 ms before it is loaded.
        assert np.abs(contacts - known.events[f"{side}_contact"]).max() <= 1 / 30
        inside = times_of(gait, side, "release")
        apart = np.abs(inside[:, None] - known.events[f"{side}_release"]).min(1)
        assert apart.max() <= 0.5 / 30
    measures = gait.measures
    assert measures["cadence"].value == pytest.approx(110, abs=0.5)
    assert measures["speed"].value == pytest.approx(known.values["speed_m_s"], rel=0.01)
    assert abs(measures["step_time_symmetry"].value) < 2
    assert measures["left_stance_share"].value == pytest.approx(62, abs=3)


def times_of(gait: Gait, side: str, kind: str) -> np.ndarray:
    return np.array([e.time_s for e in gait.events if e.side == side and e.kind == kind])


def test_walking_on_a_treadmill() -> None:
    gait = find_gait(walking(10, treadmill=True).sequence)
    assert gait.steps == 10
    assert not gait.overground
    assert "speed" not in gait.measures


def test_nobody_who_stands_or_squats_walks() -> None:
    for known in (squatting(4), pendulum_arms(), jumping_jacks(5)):
        assert find_gait(known.sequence).steps == 0


def test_events_carry_an_uncertainty_that_grows_with_the_frame_interval() -> None:
    slow, fast = (find_gait(walking(6, rate_hz=rate).sequence).events[0] for rate in (30, 120))
    assert isinstance(slow, FootEvent)
    assert slow.uncertainty_s == pytest.approx(1 / 30 / np.sqrt(12), rel=0.2)
    assert fast.uncertainty_s < slow.uncertainty_s / 3


@SKELETONS
@pytest.mark.parametrize("height_m", [0.2, 0.35, 0.5])
def test_jumps_are_found_with_flight_time_and_height(skeleton: Skeleton, height_m: float) -> None:
    known = jumping(3, height_m=height_m, rate_hz=60)
    report = analyze_motion(known.in_skeleton(skeleton), MotionOptions(person_height_m=1.75))
    jumps = report.people[0].jumps
    assert len(jumps) == 3
    for jump, takeoff, landing in zip(jumps, known.events["takeoff"], known.events["landing"], strict=True):
        assert jump.takeoff_s == pytest.approx(takeoff, abs=1 / 60)
        assert jump.landing_s == pytest.approx(landing, abs=1 / 60)
        assert jump.height.value == pytest.approx(height_m, abs=0.04)
        assert jump.rise.value == pytest.approx(height_m, abs=0.04)
    assert jumps[0].method == ("toe" if skeleton is BODY_25 else "ankle")


@pytest.mark.parametrize("skeleton", [BODY_25, COCO_17])
@pytest.mark.parametrize("level_m", [0.5, -0.4])
def test_a_landing_on_another_level_has_a_flight_and_no_height(skeleton: Skeleton, level_m: float) -> None:
    known = jumping(1, height_m=0.3 + max(0.0, level_m), rate_hz=60)
    meter = 400 / 1.75
    takeoff, landing = (float(known.events[name][0]) for name in ("takeoff", "landing"))
    # The same flight is cut short by a box, or goes on below the place of the takeoff.
    speed = 9.80665 * (landing - takeoff) / 2
    end = takeoff + (speed + np.sqrt(speed**2 - 2 * 9.80665 * level_m)) / 9.80665
    times = known.sequence.timestamps_s
    since = times - takeoff
    path = np.where(times < takeoff, 0.0, np.where(times < end, speed * since - 9.80665 / 2 * since**2, level_m))
    flown = np.where((times < takeoff) | (times > landing), 0.0, speed * since - 9.80665 / 2 * since**2)
    points = known.in_skeleton(skeleton).keypoints.copy()
    points[..., 1] -= meter * (path - flown)[:, None, None]
    # Straight legs until the landing; the known landing bends them where this one has not come yet, or has.
    late = times >= min(end, landing)
    points[late] = points[times < 0.5][-1]
    points[late, ..., 1] -= meter * path[late][:, None, None]
    report = analyze_motion(PoseSequence.from_arrays(points, times, skeleton), MotionOptions(person_height_m=1.75))
    (jump,) = report.people[0].jumps
    assert jump.takeoff_s == pytest.approx(takeoff, abs=2 / 60)
    assert jump.landing_s == pytest.approx(end, abs=2 / 60)
    assert not jump.same_level
    assert jump.level.value == pytest.approx(level_m, abs=0.06)
    assert np.isnan(jump.height.value)
    assert any("no height by flight time" in limit for limit in report.people[0].limits)


def test_nobody_jumps_in_a_squat_or_walking() -> None:
    for known in (squatting(4), walking(8), pendulum_arms()):
        assert find_jumps(known.sequence) == ()


@SKELETONS
def test_the_scale_from_a_persons_height(skeleton: Skeleton) -> None:
    for known in (squatting(2), walking(6)):
        sequence = known.in_skeleton(skeleton)
        assert stature_px(sequence) == pytest.approx(400, rel=0.01)
        assert scale_from_height(sequence, 1.75).meters_per_px == pytest.approx(1 / known.pixels_per_m, rel=0.01)


@pytest.mark.parametrize("tilt_deg", [-6.0, 0.0, 8.0])
def test_the_floor_is_found_from_the_feet(tilt_deg: float) -> None:
    sequence = walking(10).sequence
    angle = np.radians(tilt_deg)
    x, y = sequence.keypoints[..., 0], sequence.keypoints[..., 1]
    turned = np.stack([x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)], -1)
    tilted = PoseSequence.from_arrays(turned, sequence.timestamps_s, BODY_25)
    found, origin = floor_of(tilted)
    assert found == pytest.approx(tilt_deg, abs=1.0)
    metric = to_meters(tilted, type(scale_from_height(tilted, 1.75))(1 / 228.6, 0.0, floor_deg=found, origin_px=origin))
    feet = metric.point("left_big_toe")[:, 0, 1]
    assert abs(np.percentile(feet, 5)) < 0.05  # the floor is at y = 0 all along the way


def test_a_sprint_has_splits_and_a_top_speed() -> None:
    times = np.arange(0, 7, 1 / 50)
    top, tau = 8.0, 1.2
    way = top * (times - tau * (1 - np.exp(-times / tau)))
    points = np.full((len(times), 17, 2), np.nan)
    points[:, [11, 12]] = np.stack([way, 0 * way + 1], -1)[:, None]
    sequence = PoseSequence.from_arrays(points, times, COCO_17)
    metric = to_meters(sequence, type(scale_from_height(walking(4).sequence, 1.75))(1.0, 0.0))
    travel = find_travel(metric)
    assert travel.measures["top_speed"].value == pytest.approx(top, rel=0.02)
    for distance in (5.0, 10.0, 20.0, 30.0):
        truth = np.interp(distance, way, times)
        assert travel.splits[distance].value == pytest.approx(truth, abs=0.25)
    steps = [travel.splits[d].value for d in (5.0, 10.0, 20.0, 30.0)]
    assert all(a < b for a, b in pairwise(steps))


def test_the_field_gives_back_places_distances_and_speeds() -> None:
    """A camera in the stands: somebody runs 30 m along a field of 40 by 20."""
    homography = np.array([[14.0, 3.0, 200.0], [0.5, -7.0, 500.0], [0.0004, 0.012, 1.0]])

    def seen(places: np.ndarray) -> np.ndarray:
        image = np.c_[places, np.ones(len(places))] @ homography.T
        return np.asarray(image[:, :2] / image[:, 2:])

    corners = np.array([[0.0, 0], [40, 0], [40, 20], [0, 20], [20, 10]])
    field = Field.from_points([tuple(p) for p in seen(corners).tolist()], [tuple(p) for p in corners.tolist()])
    assert field.error_m < 1e-6
    times = np.arange(0, 10, 1 / 25)
    truth = np.stack([5 + 3 * times, 4 + 0 * times], -1)
    points = np.full((len(times), 17, 2), np.nan)
    points[:, [15, 16]] = seen(truth)[:, None]
    (track,) = field_tracks(PoseSequence.from_arrays(points, times, COCO_17), field)
    assert np.abs(track.positions_m - truth).max() < 0.05
    assert track.distance.value == pytest.approx(29.88, abs=0.1)
    assert track.top_speed.value == pytest.approx(3.0, abs=0.05)
    assert track.top_speed.uncertainty > 0
    grid, corner = heat_map([track])
    assert grid.sum() == pytest.approx(10.0, rel=0.02)  # seconds
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert corner[1] + row == pytest.approx(4, abs=1)
    assert 5 <= corner[0] + column <= 35


def test_bad_fields_are_refused() -> None:
    with pytest.raises(OptionError, match="four or more"):
        parse_field("0,0=0,0 1,0=1,0 1,1=1,1")
    with pytest.raises(OptionError, match="lie on a line"):
        parse_field("0,0=0,0 1,1=1,1 2,2=2,2 3,3=3,3")
    with pytest.raises(OptionError, match=r"the point '0;0=0,0'"):
        parse_field("0;0=0,0 1,0=1,0 1,1=1,1 0,1=0,1")


def test_people_are_chosen_by_id_size_place_and_time() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (60, 3, 17, 2)) * np.array([20, 60, 30])[:, None, None]
    points += np.array([[100, 100], [300, 150], [320, 240]])[:, None]
    points[10:, 1] = np.nan
    points[30:, 2] = np.nan
    sequence = PoseSequence.from_arrays(points, np.arange(60) / 30, COCO_17, image_size=(640, 480), track_ids=[4, 7, 9])
    assert choose_people(sequence, "all").track_ids == (4, 9)  # 7 is seen for a third of a second only
    assert choose_people(sequence, "longest").track_ids == (4,)
    assert choose_people(sequence, "central").track_ids == (9,)
    assert choose_people(sequence, 7).track_ids == (7,)
    assert choose_people(sequence, "7").track_ids == (7,)
    assert person_at(sequence, 320, 230) == 9
    with pytest.raises(OptionError, match="there is no person 5; expected one of 4, 7, 9"):
        choose_people(sequence, 5)
    with pytest.raises(OptionError, match="person 'tallest'"):
        choose_people(sequence, "tallest")


def test_what_the_view_cannot_tell_is_said() -> None:
    front = analyze_motion(jumping_jacks(3).in_skeleton(COCO_17)).people[0].limits
    assert any("Seen from the front" in limit for limit in front)
    assert any("no heel and toe" in limit for limit in front)
    assert any("pixels" in limit for limit in front)
    side = analyze_motion(walking(4).sequence, MotionOptions(person_height_m=1.75, camera_moves=True)).people[0]
    assert any("The camera moves" in limit for limit in side.limits)
    assert side.travel.measures["top_speed"].unit == "px/s"  # no meters with a moving camera


def test_feet_that_stand_on_a_box_are_not_a_jump_of_a_second() -> None:
    """Onto a box in a third of a second, one second on it, and down again."""
    sequence = jumping(1, rate_hz=60).sequence
    times = np.arange(300) / 60
    box = 100 * (np.clip((times - 1.5) / 0.3, 0, 1) - np.clip((times - 2.6) / 0.3, 0, 1))
    points = np.repeat(sequence.keypoints[:1], 300, axis=0)
    points[..., 1] -= box[:, None, None]
    assert find_jumps(PoseSequence.from_arrays(points, times, BODY_25)) == ()


def test_a_foot_that_trembles_on_a_box_rests_there() -> None:
    """Half hidden, it is never slow for 0.15 s, but stays longer within 6 % of a leg than anybody in the air could."""
    times = np.arange(90) / 30
    flight = np.clip(4.0 * (times - 1) - 5 * (times - 1) ** 2, 0, None)
    onto_a_box = np.where(times < 1.65, flight, 0.5)
    trembles = onto_a_box + 0.027 * np.sin(2 * np.pi * 3.4 * times)
    (off,) = feet_off(np.stack([onto_a_box, trembles]), times, 0.9, 0.08)
    assert (off.first, off.last) == (31, 49)
    assert off.after == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("rate_hz", [24, 60, 120])
@pytest.mark.parametrize("leg_m", [0.4, 0.9, 1.4])
def test_nothing_rests_at_the_top_of_a_jump(leg_m: float, rate_hz: int) -> None:
    """Not though the network's tremble parts the moment in which the feet are slow."""
    times = np.arange(4 * rate_hz) / rate_hz
    flight = np.clip(3.0 * (times - 1) - GRAVITY_M_S2 / 2 * (times - 1) ** 2, 0, None)
    height = flight / leg_m + 0.01 * np.sin(2 * np.pi * 7 * times) * (flight > 0)
    (off,) = feet_off(np.stack([height, height]), times, 1.0, 0.11)
    assert off.ends_s - off.begins_s == pytest.approx(6 / GRAVITY_M_S2, abs=0.2)


def test_feet_that_are_drawn_under_rising_hips_do_not_jump() -> None:
    """Out of a push-up: the feet come down in the image while the hips rise ever slower, as in free fall."""
    times = np.arange(180) / 60
    since = np.clip(times - 1.5, 0, 0.17)
    names = BODY_25.keypoints
    low = [k for k, name in enumerate(names) if name.endswith(("ankle", "toe", "heel"))]
    points = np.repeat(jumping(1, rate_hz=60).sequence.keypoints[:1], 180, axis=0)
    points[:, 0, :, 1] -= (228 * (GRAVITY_M_S2 * 0.17 * since - GRAVITY_M_S2 / 2 * since**2))[:, None]
    points[:, 0, low, 1] = points[0, 0, low, 1] + (60 * since / 0.17)[:, None]
    sequence = PoseSequence.from_arrays(points, times, BODY_25)
    assert find_jumps(sequence) == ()


def test_feet_that_are_kicked_forward_under_rising_hips_do_not_jump() -> None:
    """With the hands on the ground: the hips slow down as in free fall, but rise far more than a flight so short."""
    times = np.arange(180) / 60
    since = np.clip(times - 1.5, 0, 0.22)
    low = [k for k, name in enumerate(BODY_25.keypoints) if name.endswith(("ankle", "toe", "heel"))]
    points = np.repeat(jumping(1, rate_hz=60).sequence.keypoints[:1], 180, axis=0)
    points[:, 0, :, 1] -= (228 * (4 * since - GRAVITY_M_S2 / 2 * since**2))[:, None]
    points[:, 0, low, 1] = points[0, 0, low, 1] - (80 * np.sin(np.pi * since / 0.22))[:, None]
    assert find_jumps(PoseSequence.from_arrays(points, times, BODY_25)) == ()


def test_landing_on_both_feet_is_no_step() -> None:
    """Feet that swing forward and back together, as in jumps over the ground."""
    times = np.arange(0, 6, 1 / 30)
    points = np.repeat(walking(4).sequence.keypoints[:1], len(times), axis=0)
    swing = 60 * np.sin(2 * np.pi * times)
    for side in ("left", "right"):
        for part, share in (("knee", 0.5), ("ankle", 1.0), ("heel", 1.0), ("big_toe", 1.0), ("small_toe", 1.0)):
            points[:, 0, BODY_25.index(f"{side}_{part}"), 0] = 400 + share * swing
    points[..., 0] += (50 * times)[:, None, None]
    assert find_gait(PoseSequence.from_arrays(points, times, BODY_25)).steps == 0


def test_the_trunk_tells_a_push_up_from_arms_that_bend() -> None:
    known = squatting(3)
    elbow = ExerciseRule(name="upright", angles=("left_knee",), level=False, prominence_deg=30)
    angles = joint_angles(known.sequence)
    assert len(find_repetitions(angles, elbow)) == 3
    level = ExerciseRule(name="level", angles=("left_knee",), level=True, prominence_deg=30)
    assert len(find_repetitions(angles, level)) == 0


def test_arms_that_swing_forward_are_no_jumping_jack() -> None:
    rule = ExerciseRule(name="jack", angles=("left_shoulder",), prominence_deg=60, least_deg=120)
    swings = joint_angles(pendulum_arms(seconds=6, frequency_hz=1.0).sequence)
    assert len(find_repetitions(swings, rule)) == 0


def test_a_jumping_jack_takes_both_arms() -> None:
    times = np.arange(0, 4, 1 / 30)
    up = np.interp(times, [0.5, 1, 1.5, 2.5, 3, 3.5], [10, 170, 10, 10, 170, 10])
    once = np.where(times < 2, up, np.minimum(up, 100))  # the second time the left arm stays level
    names = ("left_shoulder", "right_shoulder")
    for right, count in ((up, 2), (once, 1)):
        angles = Angles(np.stack([up, right], -1)[:, None], names, times, (0,), np.full((len(times), 1), 2))
        found = find_repetitions(angles, "jumping-jack")
        assert len(found) == count
        assert found.found[0].depth_deg == pytest.approx(170, abs=3)
    hidden = np.where((times > 2.7) & (times < 3.3), np.nan, up)  # nobody sees whether the right arm goes up
    angles = Angles(np.stack([up, hidden], -1)[:, None], names, times, (0,), np.full((len(times), 1), 2))
    assert len(find_repetitions(angles, "jumping-jack")) == 1


def test_squats_are_counted_though_the_ankles_are_elsewhere_for_a_while() -> None:
    """On the way down the knees alone show a repetition too many; the hips do not bend twice."""
    times = np.arange(0, 4, 1 / 30)
    bend = np.interp(times, [0, 0.5, 2, 3.5, 4], [0, 0, 100, 0, 0])
    knee = bend + np.interp(times, [0.6, 0.8, 1.1, 1.3], [0, 70, 70, 0], 0, 0)
    names = ("left_knee", "right_knee", "left_hip", "right_hip")
    angles = Angles(np.stack([knee, knee, bend, bend], -1)[:, None], names, times, (0,), np.zeros((len(times), 1), int))
    knees = ExerciseRule(name="knees", angles=("left_knee", "right_knee"), prominence_deg=30)
    assert len(find_repetitions(angles, knees)) == 2
    squats = find_repetitions(angles, "squat")
    assert len(squats) == 1
    assert squats.found[0].depth_deg == pytest.approx(100, abs=1)
    # Face on the bending of hips is not seen: the knees alone decide.
    face_on = replace(angles, facing=np.full((len(times), 1), 2))
    assert len(find_repetitions(face_on, "squat")) == 2


def test_a_knee_of_160_degrees_does_not_turn_a_squat() -> None:
    """One knee is not seen for a while and the other one's ankle lies on the thigh, as in a video of 192 rows."""
    times = np.arange(0, 4, 1 / 30)
    bend = np.interp(times, [0, 0.5, 2, 3.5, 4], [0, 0, 100, 0, 0])
    left = np.where((times > 1.75) & (times < 1.9), 160.0, bend)
    right = np.where((times > 1.5) & (times < 1.95), np.nan, bend)
    names = ("left_knee", "right_knee", "left_hip", "right_hip")
    values = np.stack([left, right, bend, bend], -1)[:, None]
    (squat,) = find_repetitions(Angles(values, names, times, (0,), np.zeros((len(times), 1), int)), "squat").found
    assert squat.turn_s == pytest.approx(2, abs=0.05)
    assert squat.depth_deg == pytest.approx(100, abs=3)


def test_a_side_that_comes_and_goes_does_not_move_the_signal() -> None:
    """The left knee bends ten degrees farther and is seen at rest and between two dips alone."""
    times = np.arange(0, 6, 1 / 30)
    bend = np.interp(times, [0, 0.5, 2, 3, 4, 5.5, 6], [0, 0, 100, 71, 100, 0, 0])
    gone = (np.abs(times - 2) < 0.25) | (np.abs(times - 4) < 0.25)
    left = np.where(gone, np.nan, bend + np.interp(times, [0.5, 1, 5, 5.5], [0, 10, 10, 0]))
    angles = Angles(
        np.stack([left, bend], -1)[:, None], ("left_hip", "right_hip"), times, (0,), np.zeros((len(times), 1), int)
    )
    rule = ExerciseRule(name="hips", angles=("left_hip", "right_hip"), prominence_deg=35)
    signal = find_repetitions(angles, rule).signal
    rows = [int(np.searchsorted(times, at)) for at in (2, 3, 4)]
    assert signal[rows] == pytest.approx([105, 76, 105], abs=1)
    assert len(find_repetitions(angles, rule)) == 2
