"""Live angles and repetitions: one frame in, the state of each person out.

The rules are those of `featherpose.motion.events.repetitions`, applied to past frames only: a repetition is counted
when the joint has come back by the rule's prominence and by two fifths of the movement: the slower the movement, the
more often errors of keypoints look like a smaller one. Angles have no sign here. What jumps away for a frame or two is
left out by a median over half of the shortest repetition, and the rest is smoothed over a tenth of a second. Half of
the median and the tenth are the delay.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Any

from featherpose.errors import OptionError
from featherpose.motion.angles import ANGLES
from featherpose.motion.events.exercise_rules import EXERCISES, ExerciseRule
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["LiveMotion"]

_SMOOTH_S = 0.1
_MOST_VALUES = 31  # in the median, of sources with many frames a second
_BACK = 0.4
_FORGET_S = 5.0
_SIDES = {"neck": ("left_shoulder", "right_shoulder"), "mid_hip": ("left_hip", "right_hip")}


@dataclass(slots=True)
class _Counter:
    """One person: the latest values, the smoothed signal, the last turning point and the count."""

    latest: deque[tuple[float, float]]
    seen_s: float
    value: float
    low: float
    high: float
    left_s: float
    bent: bool = False
    count: int = 0


class LiveMotion:
    """Counts repetitions of everyone in a live source.

    Args:
        exercise: Name of one of `featherpose.motion.events.exercise_rules.EXERCISES`, or a rule of your own for joint
            angles.
        skeleton: What the keypoints are.

    Raises:
        OptionError: If the exercise is unknown, or the skeleton lacks its keypoints.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> LiveMotion("squat", COCO_17).update(Poses.empty(COCO_17, (640, 480)), 0.0)
        {}
    """

    def __init__(self, exercise: str | ExerciseRule, skeleton: Skeleton) -> None:
        if isinstance(exercise, str):
            if exercise not in EXERCISES:
                raise OptionError(f"exercise {exercise!r} is unknown", expected=f"one of {', '.join(EXERCISES)}")
            exercise = EXERCISES[exercise]
        self.rule = exercise
        self._angles: list[tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = []
        for name in exercise.angles:
            angle = ANGLES[name]
            ends = [_indices(skeleton, end) for end in (*angle.first, *(angle.second or ()))]
            if len(ends) == 4 and all(ends):
                self._angles.append((ends[:2], ends[2:]))
        if not self._angles:
            raise OptionError(
                f"{exercise.name} needs {' or '.join(exercise.angles)}, which skeleton {skeleton.name} does not give",
                hint="name another exercise",
            )
        self._people: dict[int, _Counter] = {}

    def reset(self) -> None:
        """Forget all people."""
        self._people.clear()

    def update(self, poses: Poses, timestamp_s: float) -> dict[int, dict[str, Any]]:
        """Process the next frame.

        Args:
            poses: Tracked people.
            timestamp_s: Time of the frame in seconds.

        Returns:
            Track id -> ``{"exercise", "count", "angle_deg"}``; people without an id or without the joints are left out.
        """
        out: dict[int, dict[str, Any]] = {}
        if poses.track_ids is not None:
            for number, points in zip(poses.track_ids.tolist(), poses.keypoints.tolist(), strict=True):
                value = self._signal(points)
                if number < 0 or value is None:
                    continue
                counter = self._follow(number, value, timestamp_s)
                out[number] = {
                    "exercise": self.rule.name, "count": counter.count, "angle_deg": round(counter.value, 1)
                }  # fmt: skip
        for number in [n for n, c in self._people.items() if timestamp_s - c.seen_s > _FORGET_S]:
            del self._people[number]
        return out

    def _signal(self, points: list[list[float]]) -> float | None:
        values = []
        for first, second in self._angles:
            (ax, ay), (bx, by) = _vector(points, first), _vector(points, second)
            turn = abs(math.degrees(math.atan2(bx * ay - by * ax, bx * ax + by * ay)))
            if turn == turn:
                values.append(turn)
        if not values:
            return None
        if self.rule.combine == "mean":
            return sum(values) / len(values)
        if self.rule.combine == "max":
            return max(values)
        return min(values) if len(values) == len(self._angles) else None

    def _follow(self, number: int, value: float, now_s: float) -> _Counter:
        counter = self._people.get(number)
        if counter is None:
            latest = deque([(now_s, value)], maxlen=_MOST_VALUES)
            self._people[number] = counter = _Counter(latest, now_s, value, value, value, now_s)
            return counter
        counter.latest.append((now_s, value))
        while counter.latest[0][0] < now_s - self.rule.min_duration_s / 2:
            counter.latest.popleft()
        value = median(value for _, value in counter.latest)
        share = 1 - math.exp(-max(0.0, now_s - counter.seen_s) / _SMOOTH_S)
        counter.value += share * (value - counter.value)
        counter.seen_s = now_s
        if not counter.bent:
            if counter.value <= counter.low:
                counter.low, counter.left_s = counter.value, now_s
            elif counter.value - counter.low >= self.rule.prominence_deg:
                counter.bent, counter.high = True, counter.value
            return counter
        counter.high = max(counter.high, counter.value)
        if counter.high - counter.value >= max(self.rule.prominence_deg, _BACK * (counter.high - counter.low)):
            long = now_s - counter.left_s >= self.rule.min_duration_s
            counter.count += long and counter.high >= self.rule.least_deg
            counter.bent, counter.low, counter.left_s = False, counter.value, now_s
        return counter


def _indices(skeleton: Skeleton, name: str) -> tuple[int, ...]:
    names = skeleton.keypoints
    if name in names:
        return (names.index(name),)
    sides = _SIDES.get(name, ())
    return tuple(names.index(side) for side in sides) if sides and all(side in names for side in sides) else ()


def _vector(points: list[list[float]], ends: list[tuple[int, ...]]) -> tuple[float, float]:
    # Plain numbers: arrays of two cost twenty times as much.
    (x0, y0), (x1, y1) = (
        (sum(points[i][0] for i in which) / len(which), sum(points[i][1] for i in which) / len(which)) for which in ends
    )
    return x1 - x0, y1 - y0
