"""The thresholds of tracking and smoothing: what each one trades.

Lengths are measured in *sizes*: a person's size is 0.4 times the diagonal of the box around the keypoints, which is
the square root of COCO's area for somebody standing upright, yet does not collapse when the person is seen from the
side. So one set of numbers serves a face that fills the picture and a passer-by of 60 pixels; an adult's size is
about 0.7 m, and walking pace about two sizes a second. Times are seconds, never frames: a dropped frame changes
nothing but the uncertainty.
"""

from __future__ import annotations

from dataclasses import dataclass

from featherpose.errors import OptionError

__all__ = ["SmoothOptions", "TrackOptions"]


def _within(name: str, value: float, low: float, high: float) -> None:
    # A comparison with NaN is false, so NaN is refused as well.
    if not low <= value <= high:
        raise OptionError(f"{name} is {value}", expected=f"a number from {low:g} to {high:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackOptions:
    """When two poses are the same person, and how long somebody unseen is remembered.

    The *certainty* of a detection is the mean score of its keypoints times sqrt(found / K), 0..1: a faint person and
    a fragment are both uncertain.

    Attributes:
        strong_certainty: Detections at least this certain choose their person first and may start a new one; weaker
            ones only continue somebody already known. Lower starts people sooner, and more false ones.
        weak_certainty: Detections below this are ignored (id -1). Higher loses people who are half hidden.
        min_similarity: Least similarity (OKS after the most probable shift, 0..1) at which a strong detection
            continues a person. Lower survives sudden movement, and mixes up people who stand close together.
        weak_min_similarity: The same for weak detections; higher, because less speaks for them.
        birth_evidence: A new person gets an id once the certainties of its detections add up to this. Lower gives ids
            sooner and to more false people; 0 gives everyone an id at once.
        fragment_similarity: A detection that starts nobody: it lies this close to where somebody who has just been
            found is known to have those joints, so it is a torn-off part of that person. Lower hides real people
            right behind others; 1 switches this off.
        memory_s: How long somebody unseen is remembered. Longer bridges longer occlusions and risks giving the id to
            a newcomer.
        birth_memory_s: The same before the id was given; short, because false people come and go.
        lost_penalty: Share of the similarity that somebody loses who has been unseen for all of ``memory_s``; people
            unseen for less lose less. Higher keeps a returning id from being taken from the person in front.
        agility: Growth of velocity variance, sizes² / s³. Higher follows sport, lower predicts walking better
            through an occlusion.
        coast_s: Time in which a velocity that is no longer observed decays to a third. Longer trusts straight paths.
        limb_agility: Growth of the variance of a joint about the body, sizes² / s. Higher forgives fast limbs.
        jitter: Standard deviation of a detected keypoint in units of its OKS constant times size. Higher follows the
            detections more slowly.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> TrackOptions(memory_s=5).memory_s
        5
        >>> TrackOptions(memory_s=-1)
        Traceback (most recent call last):
        featherpose.errors.OptionError: memory_s is -1; expected a number from 0 to 3600
    """

    strong_certainty: float = 0.3
    weak_certainty: float = 0.08
    min_similarity: float = 0.15
    weak_min_similarity: float = 0.2
    birth_evidence: float = 1.5
    fragment_similarity: float = 0.5
    memory_s: float = 3.0
    birth_memory_s: float = 0.2
    lost_penalty: float = 0.5
    agility: float = 2.0
    coast_s: float = 2.0
    limb_agility: float = 0.1
    jitter: float = 1.0

    def __post_init__(self) -> None:
        _within("strong_certainty", self.strong_certainty, 0, 1)
        _within("weak_certainty", self.weak_certainty, 0, self.strong_certainty)
        _within("min_similarity", self.min_similarity, 1e-6, 1)
        _within("weak_min_similarity", self.weak_min_similarity, 1e-6, 1)
        _within("birth_evidence", self.birth_evidence, 0, 1000)
        _within("fragment_similarity", self.fragment_similarity, 0, 1)
        _within("memory_s", self.memory_s, 0, 3600)
        _within("birth_memory_s", self.birth_memory_s, 0, 3600)
        _within("lost_penalty", self.lost_penalty, 0, 1)
        _within("agility", self.agility, 1e-6, 1e6)
        _within("coast_s", self.coast_s, 1e-3, 1e6)
        _within("limb_agility", self.limb_agility, 1e-6, 1e6)
        _within("jitter", self.jitter, 1e-3, 1e3)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmoothOptions:
    """How much trembling is traded for how much delay: the One-Euro filter of Casiez, Roussel and Vogel (CHI 2012).

    Speeds are measured in sizes a second, so that one setting suits near and far people and every resolution.

    Attributes:
        min_cutoff_hz: Cut-off frequency of a joint at rest. Lower trembles less and starts to move later.
        beta: Growth of the cut-off with speed, Hz per (size / s). Higher follows fast movement with less delay.
        derivative_cutoff_hz: Cut-off frequency of the speed estimate; 1 Hz as in the paper.
        max_gap_s: A joint or person unseen for longer starts afresh, unsmoothed; the filter would otherwise draw a
            line from where it was to where it is.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_cutoff_hz: float = 1.5
    beta: float = 2.0
    derivative_cutoff_hz: float = 1.0
    max_gap_s: float = 0.3

    def __post_init__(self) -> None:
        _within("min_cutoff_hz", self.min_cutoff_hz, 1e-6, 1e6)
        _within("beta", self.beta, 0, 1e6)
        _within("derivative_cutoff_hz", self.derivative_cutoff_hz, 1e-6, 1e6)
        _within("max_gap_s", self.max_gap_s, 0, 3600)
