"""Thresholds of decoding with their trade-offs, and the two presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from featherpose.option_ranges import check_within

__all__ = ["SEARCH_SPACE", "PafOptions"]

# Values of each rule, in the order in which they are tried. Values that only AP favors are left out: AP tolerates
# false people that rank low, people who look at the result do not.
SEARCH_SPACE: Mapping[str, tuple[float | int | bool | None, ...]] = {
    "peak_threshold": (0.07, 0.1, 0.12, 0.15, 0.18, 0.2, 0.25, 0.3),
    "rank_exponent": (None, 0.0, 0.25, 0.5, 0.75, 1.0),
    "rank_size_px": (0.0, 8.0, 15.0, 30.0),
    "correct": (False, True),
    "rate": (False, True),
    "min_rating": (0.0, 0.01, 0.02, 0.03),
    "pose_prior": (False, True),
    "weak_peak_threshold": (None, 0.01, 0.02, 0.03, 0.04, 0.06),
    "weak_limb_threshold": (-0.02, 0.0, 0.01, 0.02, 0.03, 0.05),
    "min_weak_limb_support": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "max_weak_limb_ratio": (1.0, 1.5, 2.0, 3.0, 100.0),
    "limb_threshold": (0.0, 0.01, 0.03, 0.05, 0.07),
    "min_limb_support": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    "limb_every_cell": (False, True),
    "loop_limbs_join": (False, True),
    "suppression_radius_px": (4.0, 6.0, 8.0, 10.0, 12.0, 16.0),
    "max_limb_length": (0.4, 0.5, 0.6, 0.8, 1.0),
    "min_mean_score": (0.15, 0.2, 0.25, 0.3, 0.35),
    "min_keypoints": (3, 4, 5),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PafOptions:
    """Options of decoding maps to people.

    ``PafOptions()`` are the better rules, chosen on COCO training photographs alone (``featherpose tune-decoder``
    repeats the search); `published` are the rules of Cao et al. 2017, section 3, and Osokin 2018.

    Attributes:
        peak_threshold: A heatmap maximum under this is no keypoint. Lower finds fainter and more false people.
        suppression_radius_px: Of two maxima of one keypoint nearer than this, in network pixels, the stronger stays.
            Lower keeps people apart who stand close, higher removes double detections of one joint.
        limb_samples: Points along a limb at which the part affinity field is read. More is slower and more robust.
        limb_threshold: A sample supports the limb when the field, projected on the limb's direction, exceeds this.
            Lower accepts fainter, bent and occluded limbs, and more false ones.
        min_limb_support: A limb is accepted when more than this part of its samples support it. Lower accepts partly
            hidden limbs, and more false ones.
        limb_every_cell: Whether a limb that passes and is longer than its samples reach is read again at every cell.
            Without it a limb across a row of people can pass when its few samples happen to fall on others' limbs.
        max_limb_length: Longest limb, as a fraction of the longer side of the network input. Lower is faster in
            crowds and forbids limbs across the image; too low cuts the limbs of people close to the camera.
        prefer_near_pairs: In crowds, settle clear limbs between near keypoints before far pairs are tried. Much faster
            from some twenty people on; a longer limb that would score higher can lose.
        loop_limbs_join: Whether limbs that close loops (ear to shoulder) start and join people like the
            others; if not, they only contribute a missing keypoint to a person.
        weak_peak_threshold: In a second pass a person without some keypoint is given the best free maximum over this
            that a supported limb connects to it; such keypoints carry their low score. Lower completes more people with
            less certain joints; None switches the second pass off. At most ``peak_threshold``.
        weak_limb_threshold: Mean of the projected field that such a limb must exceed, and each supporting sample.
        min_weak_limb_support: Part of the samples that must support such a limb.
        max_weak_limb_ratio: Greatest length of such a limb, in lengths of the person's longest limb. Lower excludes
            joints of other people, higher completes people of whom only the face was certain.
        pose_prior: Whether, in a third pass, people take over peaks that lie where the rest of their keypoints expects
            one, and two parts of one person are joined (`featherpose.methods.paf.expectation`). Keypoints found so
            carry their own score and do not change the person's.
        correct: Whether keypoints of people who have OPENPOSE_18's are moved from the maximum of their heatmap to where
            a small network, which sees the maps around it, expects the joint (`featherpose.methods.paf.correction`).
        min_keypoints: People with fewer keypoints are dropped. Higher removes fragments and mostly hidden people.
        min_mean_score: People whose (sum of keypoint and limb scores) / (number of keypoints) is lower are dropped.
        rank_exponent: People are ranked by mean score times a power of the number of keypoints: higher puts complete
            people first, lower those with high scores. None ranks by the published sum x (n - 1).
        rank_size_px: People rank by their size as well: times s / (s + this), s the square root of the area of the box
            around their keypoints in network pixels. The joints of small people are found less exactly. 0 ignores it.
        rate: Whether people of skeletons with COCO's keypoints are scored by the accuracy that is expected of them
            (`featherpose.rating.rate`), 0 to 1, instead of by their rank.
        min_rating: Rated people of lower score are dropped, unless they are refined. 0.01 drops half of the false
            people and hardly anybody else; higher removes more of both.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> PafOptions.published().peak_threshold, PafOptions(peak_threshold=0.2).peak_threshold
        (0.1, 0.2)
    """

    peak_threshold: float = 0.15
    suppression_radius_px: float = 10.0
    limb_samples: int = 10
    limb_threshold: float = 0.03
    min_limb_support: float = 0.7
    limb_every_cell: bool = True
    max_limb_length: float = 1.0
    prefer_near_pairs: bool = True
    loop_limbs_join: bool = True
    weak_peak_threshold: float | None = 0.03
    weak_limb_threshold: float = 0.01
    min_weak_limb_support: float = 0.3
    max_weak_limb_ratio: float = 2.0
    pose_prior: bool = True
    correct: bool = True
    min_keypoints: int = 3
    min_mean_score: float = 0.2
    rank_exponent: float | None = 0.25
    rank_size_px: float = 15.0
    rate: bool = True
    min_rating: float = 0.01

    def __post_init__(self) -> None:
        check_within("peak_threshold", self.peak_threshold, 0, 1)
        check_within("limb_threshold", self.limb_threshold, -1, 1)
        check_within("weak_limb_threshold", self.weak_limb_threshold, -1, 1)
        check_within("min_mean_score", self.min_mean_score, 0, 2)
        check_within("suppression_radius_px", self.suppression_radius_px, 0, float("inf"))
        check_within("max_limb_length", self.max_limb_length, 0, float("inf"))
        check_within("limb_samples", self.limb_samples, 2, 1000)
        check_within("min_limb_support", self.min_limb_support, 0, 1)
        check_within("min_weak_limb_support", self.min_weak_limb_support, 0, 1)
        check_within("max_weak_limb_ratio", self.max_weak_limb_ratio, 0, float("inf"))
        check_within("rank_size_px", self.rank_size_px, 0, float("inf"))
        check_within("min_rating", self.min_rating, 0, 1)
        check_within("min_keypoints", self.min_keypoints, 1, 1000)
        if self.weak_peak_threshold is not None:
            check_within("weak_peak_threshold", self.weak_peak_threshold, 0, self.peak_threshold)
        if self.rank_exponent is not None:
            check_within("rank_exponent", self.rank_exponent, -10, 10)

    def changed(self, **fields: Any) -> PafOptions:
        """Return these options with some fields changed; the weak threshold follows a strong one that falls below it.

        Example:
            >>> PafOptions().changed(peak_threshold=0.01).weak_peak_threshold
            0.01
        """
        weak, strong = self.weak_peak_threshold, fields.get("peak_threshold")
        if weak is not None and strong is not None and 0 <= strong < weak:
            fields.setdefault("weak_peak_threshold", strong)
        return replace(self, **fields)

    @classmethod
    def published(cls) -> PafOptions:
        """Return the papers' rules, with which the published accuracy was measured.

        Peaks over 0.1; more than 80 % of 10 samples over 0.05; loops start and join nothing; one pass; people
        under 3 keypoints or 0.2 mean score dropped; ranked by sum x (n - 1).
        """
        return cls(
            peak_threshold=0.1,
            suppression_radius_px=6.0,
            limb_samples=10,
            limb_threshold=0.05,
            min_limb_support=0.8,
            limb_every_cell=False,
            max_limb_length=float("inf"),
            prefer_near_pairs=False,
            loop_limbs_join=False,
            weak_peak_threshold=None,
            pose_prior=False,
            correct=False,
            min_keypoints=3,
            min_mean_score=0.2,
            rank_exponent=None,
            rank_size_px=0.0,
            rate=False,
        )
