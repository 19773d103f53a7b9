"""The whole analysis in one call: clean, filter, angles, events and measures of the chosen people."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from featherpose.errors import OptionError
from featherpose.motion.angles import ANGLES, Angles, joint_angles
from featherpose.motion.cleaning.bones import reject_bones
from featherpose.motion.cleaning.filters import FilterOptions, filter_sequence
from featherpose.motion.cleaning.gaps import GapMethod, drop_doubtful, fill_gaps, resample
from featherpose.motion.cleaning.hampel import reject_outliers
from featherpose.motion.cleaning.swaps import repair_swaps
from featherpose.motion.events.exercise import guess_exercise
from featherpose.motion.events.exercise_rules import EXERCISES, ExerciseRule
from featherpose.motion.events.gait import Gait, find_gait, symmetry_index
from featherpose.motion.events.jumps import Jump, find_jumps
from featherpose.motion.events.repetition_uncertainty import with_uncertainty
from featherpose.motion.events.repetitions import Repetitions, find_repetitions
from featherpose.motion.events.speed import Travel, find_travel
from featherpose.motion.facing import FACINGS, Facing
from featherpose.motion.field import Field, FieldTrack, field_tracks
from featherpose.motion.limits import limits_of
from featherpose.motion.measures import Measure, angle_uncertainty, coordinate_uncertainty
from featherpose.motion.meters import Scale, floor_of, scale_from_height, to_meters
from featherpose.motion.people import choose_people
from featherpose.motion.sequence import PoseSequence
from featherpose.motion.tracks import join_tracks

__all__ = ["MotionOptions", "MotionReport", "PersonMotion", "analyze_motion"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionOptions:
    """Options of the analysis.

    Attributes:
        person: ``all``, ``largest``, ``central``, ``longest`` or an id.
        join: Join the tracks of one person first.
        min_score: Keypoints below this score count as missing.
        outliers: Reject outliers (Hampel), and let what lies far from the filtered curve count less.
        swaps: Undo left/right swaps.
        bones: Reject keypoints at the end of bones of impossible length.
        max_gap_s: Longest gap that is filled; 0 fills none.
        gap_method: How gaps are filled.
        resample_hz: Resample to this rate first; 0 for the median rate of the video, None for not at all.
        filter: Which filter; a Butterworth low pass of 6 Hz, and lower for keypoints that are unsteady.
        facing: Where the front of the body points; detected unless given.
        exercise: Name of an exercise, a rule of your own, ``auto`` or ``none``.
        scale: Meters per pixel, from `featherpose.motion.meters`; without it lengths are in pixels.
        person_height_m: The height of the (first) person, from which the scale follows.
        floor_deg: Angle of the floor; found from the feet unless given.
        origin_px: The origin; where a foot first stands unless given.
        field: Mapping to a field for the team view.
        camera_moves: Result of `featherpose.motion.camera`; None if it did not run.

    Raises:
        OptionError: If a value is outside its range.
    """

    person: str = "all"
    join: bool = True
    min_score: float = 0.1
    outliers: bool = True
    swaps: bool = True
    bones: bool = True
    max_gap_s: float = 0.25
    gap_method: GapMethod = "pchip"
    resample_hz: float | None = None
    filter: FilterOptions = field(default_factory=lambda: FilterOptions(name="adaptive"))
    facing: Facing | None = None
    exercise: str | ExerciseRule = "auto"
    scale: Scale | None = None
    person_height_m: float | None = None
    floor_deg: float | None = None
    origin_px: tuple[float, float] | None = None
    field: Field | None = None
    camera_moves: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.exercise, str) and self.exercise not in ("auto", "none", *EXERCISES):
            raise OptionError(f"exercise {self.exercise!r} is unknown", expected=f"auto, none, {', '.join(EXERCISES)}")
        if self.scale is not None and self.person_height_m is not None:
            raise OptionError("a scale and a person's height", expected="one of them")
        if not self.max_gap_s >= 0:
            raise OptionError(f"max_gap_s is {self.max_gap_s}", expected="seconds, 0 or more")


@dataclass(frozen=True, slots=True, eq=False)
class PersonMotion:
    """Results of one person.

    Attributes:
        track_id: Id of the person.
        first_s: First time seen.
        last_s: Last time seen.
        seen_share: Share of the frames between in which the person is seen.
        facing: In most frames.
        ranges: Angle -> (least, greatest, range of motion).
        symmetry: Joint -> symmetry index of the left and right range of motion, percent.
        repetitions: Of the exercise; None if there is no exercise.
        guessed: Whether the exercise was guessed.
        gait: Steps.
        jumps: Jumps.
        travel: Speeds.
        limits: Limits of this view, in words.
    """

    track_id: int
    first_s: float
    last_s: float
    seen_share: float
    facing: Facing
    ranges: dict[str, tuple[Measure, Measure, Measure]]
    symmetry: dict[str, Measure]
    repetitions: Repetitions | None
    guessed: bool
    gait: Gait
    jumps: tuple[Jump, ...]
    travel: Travel
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class MotionReport:
    """The analysis of a sequence.

    Attributes:
        sequence: The cleaned and filtered sequence in pixels; its ``raw`` is what was read.
        metric: The same in meters, if there is a scale.
        angles: Filtered angles of everyone.
        raw_angles: Angles of what was read, at the rows of ``angles``; None if it was resampled.
        people: One entry a person, in the order of ``sequence.track_ids``.
        scale: The scale that was used.
        tracks: People on the field, if there is one.
        options: Options of the analysis.
    """

    sequence: PoseSequence
    metric: PoseSequence | None
    angles: Angles
    raw_angles: Angles | None
    people: tuple[PersonMotion, ...]
    scale: Scale | None
    tracks: tuple[FieldTrack, ...]
    options: MotionOptions

    def person(self, track_id: int) -> PersonMotion:
        """Return one person's entry.

        Raises:
            OptionError: If no person has this id.
        """
        for person in self.people:
            if person.track_id == track_id:
                return person
        raise OptionError(f"there is no person {track_id}", expected=f"one of {[p.track_id for p in self.people]}")


_DEFAULT = MotionOptions()


def analyze_motion(sequence: PoseSequence, options: MotionOptions = _DEFAULT) -> MotionReport:
    """Analyze poses over time.

    Args:
        sequence: Poses in pixels as they were read.
        options: Options of the analysis.

    Returns:
        Angles, events and measures; an unknown measure is NaN or absent, never guessed.

    Raises:
        OptionError: If the options do not fit the sequence.

    Example:
        >>> from featherpose.evaluation.motion.known_people import squatting
        >>> report = analyze_motion(squatting(3).sequence)
        >>> person = report.people[0]
        >>> person.repetitions.rule.name, len(person.repetitions), person.facing
        ('squat', 3, 'right')
    """
    if sequence.unit != "px":
        raise OptionError("the sequence is in meters", expected="pixels")
    if options.join:
        sequence = join_tracks(sequence)
    clean = _clean(choose_people(sequence, options.person), options)
    metric, scale = _metric(clean, options)
    angles = joint_angles(clean, facing=options.facing)
    raw = clean.raw
    raw_angles = None
    if raw.keypoints.shape == clean.keypoints.shape:
        raw_angles = joint_angles(raw, angles.names, facing=options.facing).beside(angles)
    people = tuple(_person(clean, metric, angles, p, options) for p in range(clean.num_people))
    tracks = tuple(field_tracks(clean, options.field)) if options.field is not None else ()
    return MotionReport(clean, metric, angles, raw_angles, people, scale, tracks, options)


def _clean(sequence: PoseSequence, options: MotionOptions) -> PoseSequence:
    if options.min_score > 0:
        sequence = drop_doubtful(sequence, options.min_score)
    # Swaps first: to the Hampel identifier a swapped joint is an outlier.
    if options.swaps:
        sequence = repair_swaps(sequence)
    if options.bones:
        sequence = reject_bones(sequence)
    if options.outliers:
        sequence = reject_outliers(sequence)
    if options.max_gap_s > 0:
        sequence = fill_gaps(sequence, options.max_gap_s, options.gap_method)
    if options.resample_hz is not None and sequence.num_frames > 1:
        sequence = resample(sequence, options.resample_hz or None, max_gap_s=max(options.max_gap_s, 1e-3))
    if options.filter.name != "none":
        sequence = filter_sequence(sequence, options.filter, robust=options.outliers)
    return sequence


def _metric(clean: PoseSequence, options: MotionOptions) -> tuple[PoseSequence | None, Scale | None]:
    scale = options.scale
    if options.person_height_m is not None:
        scale = scale_from_height(clean, options.person_height_m)
    if scale is None or options.camera_moves:
        return None, None
    given = "calibration" in scale.source
    floor, origin = (scale.floor_deg, scale.origin_px) if given else floor_of(clean)
    scale = replace(
        scale,
        floor_deg=floor if options.floor_deg is None else options.floor_deg,
        origin_px=origin if options.origin_px is None else options.origin_px,
    )
    return to_meters(clean, scale), scale


def _person(
    clean: PoseSequence, metric: PoseSequence | None, angles: Angles, p: int, options: MotionOptions
) -> PersonMotion:
    one = clean.select([p])
    own = angles.select([p])
    placed = one if metric is None else metric.select([p])
    seen = np.flatnonzero(one.found.any((1, 2)))
    times = one.timestamps_s
    first, last = (int(seen[0]), int(seen[-1])) if len(seen) else (0, 0)
    faces = own.facing[seen, 0] if len(seen) else own.facing[:, 0]
    facing = FACINGS[int(np.bincount(faces, minlength=4).argmax())]
    noise = coordinate_uncertainty(one)
    placed_noise = noise[0] if metric is None else coordinate_uncertainty(placed)[0]
    ranges = _ranges(one, own, noise)
    gait = find_gait(placed, facing=own.facing[:, 0], noise=placed_noise)
    jumps = find_jumps(placed, noise=placed_noise)
    repetitions, guessed = _repetitions(own, facing, gait, options)
    if repetitions is not None:
        repetitions = with_uncertainty(repetitions, one, own, noise)
    return PersonMotion(
        clean.track_ids[p],
        float(times[first]),
        float(times[last]),
        len(seen) / max(1, last - first + 1),
        facing,
        ranges,
        _symmetry(ranges),
        repetitions,
        guessed,
        gait,
        jumps,
        find_travel(placed),
        limits_of(one, own, facing, has_scale=metric is not None, camera_moves=options.camera_moves, jumps=jumps),
    )


def _repetitions(own: Angles, facing: Facing, gait: Gait, options: MotionOptions) -> tuple[Repetitions | None, bool]:
    if options.exercise == "none":
        return None, False
    if options.exercise != "auto":
        return find_repetitions(own, options.exercise), False
    name = None if gait.overground and gait.steps >= 4 else guess_exercise(own, facing)
    found = None if name is None else find_repetitions(own, name)
    # What happens once is no exercise to be guessed: people bend and reach.
    return (found, True) if found is not None and len(found) > 1 else (None, False)


def _ranges(one: PoseSequence, own: Angles, noise: np.ndarray) -> dict[str, tuple[Measure, Measure, Measure]]:
    out = {}
    for name in own.names:
        values = own[name][:, 0]
        values = values[np.isfinite(values)]
        if len(values) < 2 or ANGLES[name].kind != "joint":
            continue
        sigma = float(angle_uncertainty(one, name, noise)[0])
        # Percentiles, because the extremes of a noisy curve are extremes of its noise.
        low, high = np.percentile(values, [1, 99])
        out[name] = (
            Measure(float(low), "deg", sigma),
            Measure(float(high), "deg", sigma),
            Measure(float(high - low), "deg", sigma * np.sqrt(2)),
        )
    return out


def _symmetry(ranges: dict[str, tuple[Measure, Measure, Measure]]) -> dict[str, Measure]:
    out = {}
    for name in ranges:
        joint = name.removeprefix("left_")
        if joint != name and f"right_{joint}" in ranges:
            out[joint] = symmetry_index(ranges[name][2], ranges[f"right_{joint}"][2])
    return out
