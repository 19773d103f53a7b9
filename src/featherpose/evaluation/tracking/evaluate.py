"""Trackers side by side, on rendered scenes and on videos: the same detections for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from featherpose.evaluation.tracking.baselines import BoxTracker, PreviousFrameTracker, Tracker
from featherpose.evaluation.tracking.detector_noise import DetectorErrors, released_errors
from featherpose.evaluation.tracking.metrics import TrackingScores, combine_scores, score_tracking
from featherpose.evaluation.tracking.scenes import FAMILIES, SceneFamily, render_scene
from featherpose.evaluation.tracking.simulate import detect
from featherpose.poses import Poses
from featherpose.tracking.tracker import PoseTracker

__all__ = ["SCENE_PEOPLE", "TRACKERS", "compare_on_scenes", "count_ids", "track_all"]

# How many people the scenes of each family have: 2 to 30.
SCENE_PEOPLE: Mapping[SceneFamily, tuple[int, ...]] = {
    "crossing": (2, 4, 8),
    "occlusion": (3, 6, 12),
    "returning": (2, 4, 8),
    "crowd": (10, 20, 30),
    "dropped": (2, 4, 8),
}

TRACKERS: Mapping[str, Callable[[], Tracker]] = {
    "featherpose": PoseTracker,
    "previous frame": PreviousFrameTracker,
    "ByteTrack": BoxTracker,
}


def track_all(tracker: Tracker, frames: Iterable[tuple[float, Poses]]) -> list[Poses]:
    """Track the people of every frame (time in seconds, people)."""
    return [tracker.update(poses, timestamp_s) for timestamp_s, poses in frames]


def count_ids(tracked: Iterable[Poses]) -> int:
    """Return how many different ids were given."""
    return len({int(i) for poses in tracked if poses.track_ids is not None for i in poses.track_ids if i >= 0})


def compare_on_scenes(
    trackers: Mapping[str, Callable[[], Tracker]] = TRACKERS,
    *,
    families: Sequence[SceneFamily] = FAMILIES,
    seeds: Sequence[int] = tuple(range(4)),
    seconds: float = 10.0,
    errors: DetectorErrors | None = None,
    people: Mapping[SceneFamily, Sequence[int]] = SCENE_PEOPLE,
) -> dict[SceneFamily, dict[str, TrackingScores]]:
    """Return scores by scene family and tracker, all scenes of a family taken together.

    Args:
        trackers: Name -> function that makes a new one.
        families: The scene families.
        seeds: One scene of each size for each seed. Seeds under 1000 are for reporting; the defaults of
            `TrackOptions` were chosen on seeds from 1000 on.
        seconds: Length of each scene.
        errors: Error statistics of the detector; the released network's unless given.
        people: Sizes of the scenes.

    Raises:
        OptionError: If a scene is impossible.
        FeatherposeError: If TrackEval is not installed.
    """
    errors = errors or released_errors()
    out: dict[SceneFamily, dict[str, TrackingScores]] = {}
    for family in families:
        scores: dict[str, list[TrackingScores]] = {name: [] for name in trackers}
        for count in people[family]:
            for seed in seeds:
                scene = render_scene(family, count, seed=seed, seconds=seconds)
                truth = [scene.truth(t) for t in range(len(scene.timestamps_s))]
                found = list(zip(scene.timestamps_s.tolist(), detect(scene, errors, seed=seed), strict=True))
                for name, make in trackers.items():
                    scores[name].append(score_tracking(truth, track_all(make(), found)))
        out[family] = {name: combine_scores(some) for name, some in scores.items()}
    return out
