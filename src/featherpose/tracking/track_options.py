"""Thresholds of tracking and smoothing, and the trade that each one makes.

Lengths are measured in *sizes*: a person's size is 0.4 times the diagonal of the box around the keypoints, which is
the square root of COCO's area for a person standing upright, but does not collapse when the person is seen from the
side. So one set of thresholds serves a face that fills the image and a passer-by of 60 pixels; an adult's size is about
0.7 m, and walking pace about two sizes a second. Times are seconds, never frames: a dropped frame changes only the
uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

from featherpose.option_ranges import check_within

__all__ = ["SmoothOptions", "TrackOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackOptions:
    """Options of `PoseTracker`: when two poses are the same person, and how long a lost person is remembered.

    The *certainty* of a detection is the mean score of its keypoints times sqrt(found / K), 0..1: a faint person and
    a fragment are both uncertain.

    Attributes:
        strong_certainty: Detections at least this certain choose their person first and may start a new one; weaker
            ones only continue a known person. Lower starts people sooner, and more false ones.
        weak_certainty: Detections below this are ignored (id -1). Higher loses people who are half hidden.
        min_similarity: Least similarity (OKS after the most probable shift, 0..1) at which a strong detection
            continues a person. Lower survives sudden movement, and confuses people who stand close together.
        weak_min_similarity: The same for weak detections; higher, because their evidence is weaker.
        min_init_score: A new person gets an id once the certainties of its detections add up to this. Lower gives ids
            sooner and to more false people; 0 gives everyone an id at once.
        fragment_similarity: Suppress a new track whose similarity to a matched person exceeds this: it is likely a
            fragment of that person. Lower hides real people right behind others; 1 switches this off.
        max_lost_s: How long a lost person is remembered. Longer bridges longer occlusions and risks giving the id to a
            newcomer.
        max_unconfirmed_s: The same before the id is given; short, because false people come and go.
        lost_penalty: Share of the similarity that is subtracted after ``max_lost_s`` without detection, and in
            proportion before. Higher keeps a returning id from being taken from the person in front.
        velocity_noise: Growth of velocity variance, sizes² / s³. Higher follows sport, lower predicts walking better
            through an occlusion.
        velocity_decay_s: Time in which a velocity that is no longer observed decays to a third. Longer trusts straight
            paths.
        limb_velocity_noise: Growth of the variance of a joint about the body, sizes² / s. Higher forgives fast limbs.
        measurement_noise: Standard deviation of a detected keypoint in units of its OKS constant times size. Higher
            follows the detections more slowly.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> TrackOptions(max_lost_s=5).max_lost_s
        5
        >>> TrackOptions(max_lost_s=-1)
        Traceback (most recent call last):
        featherpose.errors.OptionError: max_lost_s is -1; expected a number from 0 to 3600
    """

    strong_certainty: float = 0.3
    weak_certainty: float = 0.08
    min_similarity: float = 0.15
    weak_min_similarity: float = 0.2
    min_init_score: float = 1.5
    fragment_similarity: float = 0.5
    max_lost_s: float = 3.0
    max_unconfirmed_s: float = 0.2
    lost_penalty: float = 0.5
    velocity_noise: float = 2.0
    velocity_decay_s: float = 2.0
    limb_velocity_noise: float = 0.1
    measurement_noise: float = 1.0

    def __post_init__(self) -> None:
        check_within("strong_certainty", self.strong_certainty, 0, 1)
        check_within("weak_certainty", self.weak_certainty, 0, self.strong_certainty)
        check_within("min_similarity", self.min_similarity, 1e-6, 1)
        check_within("weak_min_similarity", self.weak_min_similarity, 1e-6, 1)
        check_within("min_init_score", self.min_init_score, 0, 1000)
        check_within("fragment_similarity", self.fragment_similarity, 0, 1)
        check_within("max_lost_s", self.max_lost_s, 0, 3600)
        check_within("max_unconfirmed_s", self.max_unconfirmed_s, 0, 3600)
        check_within("lost_penalty", self.lost_penalty, 0, 1)
        check_within("velocity_noise", self.velocity_noise, 1e-6, 1e6)
        check_within("velocity_decay_s", self.velocity_decay_s, 1e-3, 1e6)
        check_within("limb_velocity_noise", self.limb_velocity_noise, 1e-6, 1e6)
        check_within("measurement_noise", self.measurement_noise, 1e-3, 1e3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothOptions:
    """Options of `PoseSmoother`: the trade between jitter and delay in the One-Euro filter (Casiez et al., CHI 2012).

    Speeds are measured in sizes a second, so that one setting suits near and far people and every resolution.

    Attributes:
        min_cutoff_hz: Cut-off frequency of a joint at rest. Lower jitters less and starts to move later.
        beta: Growth of the cut-off with speed, Hz per (size / s). Higher follows fast movement with less delay.
        derivative_cutoff_hz: Cut-off frequency of the speed estimate; 1 Hz as in the paper.
        max_gap_s: A joint or person unseen for longer starts anew, unsmoothed; the filter would otherwise draw a line
            from the old position to the new one.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_cutoff_hz: float = 1.5
    beta: float = 2.0
    derivative_cutoff_hz: float = 1.0
    max_gap_s: float = 0.3

    def __post_init__(self) -> None:
        check_within("min_cutoff_hz", self.min_cutoff_hz, 1e-6, 1e6)
        check_within("beta", self.beta, 0, 1e6)
        check_within("derivative_cutoff_hz", self.derivative_cutoff_hz, 1e-6, 1e6)
        check_within("max_gap_s", self.max_gap_s, 0, 3600)
