"""Tracks that broke off, doubled or changed the person, and people who are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from featherpose.evaluation.motion.known_people import squatting, walking
from featherpose.motion.analysis import MotionOptions, analyze_motion
from featherpose.motion.people import choose_people
from featherpose.motion.sequence import PoseSequence
from featherpose.motion.tracks import join_tracks
from featherpose.skeleton import BODY_25


def several(points: list[np.ndarray], scores: Sequence[float | np.ndarray]) -> PoseSequence:
    """People of [T, K, 2] each, with a score each or [T, 1]."""
    stacked = np.stack(points, 1)
    t, p, k, _ = stacked.shape
    given = np.empty((t, p, k))
    for i, score in enumerate(scores):
        given[:, i] = score
    return PoseSequence.from_arrays(stacked, np.arange(t) / 30, BODY_25, scores=given)


def person() -> np.ndarray:
    return squatting(4).sequence.keypoints[:, 0]


def test_a_person_who_gets_a_new_id_is_one_person() -> None:
    first, second = person(), person()
    first[150:], second[:158] = np.nan, np.nan
    joined = join_tracks(several([first, second], [0.8, 0.8]))
    assert joined.track_ids == (1,)  # the longer one
    assert joined.steps[0].text == "joined 2 tracks of one person: 1 with 0"
    np.testing.assert_array_equal(joined.keypoints[:150, 0], first[:150])
    np.testing.assert_array_equal(joined.keypoints[158:, 0], second[158:])
    report = analyze_motion(joined)
    assert len(report.people) == 1
    assert report.people[0].repetitions is not None
    assert len(report.people[0].repetitions) == 4


def test_of_a_body_seen_twice_the_surer_pose_is_kept_whichever_id_it_has() -> None:
    """From frame 100 on the ids are exchanged, as a tracker does when two poses lie on one body."""
    true, poor = person(), person() + np.random.default_rng(0).normal(0, 15, (*person().shape[:2], 2))
    poor[:80] = np.nan
    sure, unsure = np.full((len(true), 1), 0.8), np.full((len(true), 1), 0.4)
    a, b = np.concatenate([true[:100], poor[100:]]), np.concatenate([poor[:100], true[100:]])
    scores = [np.concatenate([sure[:100], unsure[100:]]), np.concatenate([unsure[:100], sure[100:]])]
    joined = join_tracks(several([a, b], scores))
    assert joined.num_people == 1
    np.testing.assert_array_equal(joined.keypoints[:, 0], true)
    assert analyze_motion(several([a, b], scores), MotionOptions(join=False)).sequence.num_people == 2


def test_two_people_of_whom_one_passes_the_other_stay_two() -> None:
    there, back = walking(8).sequence.keypoints[:, 0], walking(8, facing="left").sequence.keypoints[:, 0]
    both = several([there, back], [0.8, 0.75])
    assert join_tracks(both) is both
    # Nor does somebody become one with the person in front, who hides them for a while.
    behind = person() + 20
    behind[100:130] = np.nan
    hidden = several([person(), behind], [0.8, 0.5])
    assert join_tracks(hidden) is hidden


def test_an_id_that_moves_on_to_somebody_else_is_parted() -> None:
    """Id 0 loses its person in frame 100 and turns up on a second one, whom id 1 had before."""
    left, right = person(), person() + np.array([1500, 0])
    a, b = np.concatenate([left[:100], right[100:]]), right.copy()
    b[100:] = np.nan
    c = left.copy()
    c[:100] = np.nan
    joined = join_tracks(several([a, b, c], [0.8, 0.8, 0.8]))
    assert joined.num_people == 2
    middles = np.nanmedian(joined.keypoints[..., 0], (0, 2))
    np.testing.assert_array_equal(joined.found.any(-1).sum(0), [len(left)] * 2)
    assert abs(middles[0] - middles[1]) > 1000
    assert np.ptp(joined.keypoints[:, 0, :, 0].mean(-1)) < 200


def test_an_id_that_comes_from_a_far_smaller_body_is_parted_and_joined() -> None:
    """Id 1 begins on a screw; by way of a pose that covers both it takes the person, of whom id 0 keeps poor poses."""
    true = person()
    screw = 30 + 0.05 * (true - true.mean((0, 1)))
    found = np.concatenate([screw[:100], true[100:]])
    found[100] = np.where(np.arange(25)[:, None] % 2, screw[100], true[100])
    lost = true.copy()
    lost[100:] += np.random.default_rng(0).normal(0, 15, lost[100:].shape)
    lost[160:] = np.nan
    scores = [np.where(np.arange(len(true))[:, None] < 100, sure, other) for sure, other in ((0.8, 0.35), (0.35, 0.8))]
    joined = join_tracks(several([lost, found], scores))
    kept = joined.keypoints[:, int(joined.found.any(-1).sum(0).argmax())]
    np.testing.assert_array_equal(np.delete(kept, 100, 0), np.delete(true, 100, 0))


def test_what_a_network_sees_in_a_machine_is_left_out_and_can_be_chosen() -> None:
    small = person() * 0.2 + 50
    seen = several([person(), small], [0.6, 0.3])
    kept = choose_people(seen, "all")
    assert kept.track_ids == (0,)
    assert kept.steps[-1].text == "left out 1 unsure and slight beside the others; --person chooses them: 1"
    assert choose_people(seen, 1).track_ids == (1,)
    # A small person whom the network is sure of stays, and so does an unsure one of the same size.
    assert choose_people(several([person(), small], [0.6, 0.5]), "all").num_people == 2
    assert choose_people(several([person(), person() + 400], [0.6, 0.3]), "all").num_people == 2
