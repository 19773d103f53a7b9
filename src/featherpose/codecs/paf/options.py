"""The thresholds of decoding: what each one trades, and the two presets."""

from __future__ import annotations

from dataclasses import dataclass

from featherpose.errors import OptionError

__all__ = ["DecodeOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOptions:
    """Rules by which maps become people.

    ``DecodeOptions()`` are the better rules, chosen on COCO training photographs alone (``featherpose tune-decoder``
    repeats the search); `published` are the rules of Cao et al. 2017, section 3, and Osokin 2018.

    Attributes:
        peak_threshold: A heatmap maximum under this is no keypoint. Lower finds fainter people and more ghosts.
        suppression_radius_px: Of two maxima of one keypoint nearer than this, in network pixels, the stronger stays.
            Lower keeps people apart who stand close, higher removes double detections of one joint.
        limb_samples: Points along a limb at which the part affinity field is read. More is slower and steadier.
        limb_threshold: A sample supports the limb when the field, projected on the limb's direction, exceeds this.
            Lower accepts fainter, bent and occluded limbs, and more false ones.
        limb_min_part: A limb stands when more than this part of its samples support it. Lower accepts limbs that are
            partly hidden, and more false ones.
        limb_every_cell: Whether a limb that passes and is longer than its samples reach is read again at every cell.
            Without it a limb across a row of people can pass when its few samples happen to fall on others' limbs.
        max_limb_length: Longest limb, as a fraction of the longer side of the network input. Lower is faster in
            crowds and forbids limbs across the picture; too low cuts the limbs of people close to the camera.
        near_first: In crowds, settle clear limbs between near keypoints before far pairs are tried. Much faster from
            some twenty people on; a longer limb that would score higher can lose.
        redundant_limbs_join: Whether limbs that close loops (ear to shoulder) start and join people like the
            others; if not, they only lend a missing keypoint to a person.
        weak_peak_threshold: In a second pass a person without some keypoint is given the best free maximum over this
            that a supported limb connects to it; such keypoints carry their low score. Lower completes more
            people with less certain joints; None switches the second pass off.
        weak_limb_threshold: Mean of the projected field that such a limb must exceed, and each supporting sample.
        weak_limb_min_part: Part of the samples that must support such a limb.
        weak_limb_reach: How many times as long as the person's longest limb such a limb may be. Lower keeps joints of
            strangers away, higher completes people of whom only the face was sure.
        min_keypoints: People with fewer keypoints are dropped. Higher removes fragments and mostly hidden people.
        min_mean_score: People whose (sum of keypoint and limb scores) / (number of keypoints) is lower are dropped.
        rank_exponent: People are ranked by mean score times a power of the number of keypoints: higher puts complete
            people first, lower the sharply seen. None ranks by the published sum x (n - 1).

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> DecodeOptions.published().peak_threshold, DecodeOptions(peak_threshold=0.2).peak_threshold
        (0.1, 0.2)
    """

    peak_threshold: float = 0.15
    suppression_radius_px: float = 10.0
    limb_samples: int = 10
    limb_threshold: float = 0.03
    limb_min_part: float = 0.7
    limb_every_cell: bool = True
    max_limb_length: float = 1.0
    near_first: bool = True
    redundant_limbs_join: bool = True
    weak_peak_threshold: float | None = 0.03
    weak_limb_threshold: float = 0.01
    weak_limb_min_part: float = 0.3
    weak_limb_reach: float = 2.0
    min_keypoints: int = 3
    min_mean_score: float = 0.2
    rank_exponent: float | None = 0.25

    def __post_init__(self) -> None:
        self._within("peak_threshold", self.peak_threshold, 0, 1)
        self._within("limb_threshold", self.limb_threshold, -1, 1)
        self._within("weak_limb_threshold", self.weak_limb_threshold, -1, 1)
        self._within("min_mean_score", self.min_mean_score, 0, 2)
        self._within("suppression_radius_px", self.suppression_radius_px, 0, float("inf"))
        self._within("max_limb_length", self.max_limb_length, 0, float("inf"))
        self._within("limb_samples", self.limb_samples, 2, 1000)
        self._within("limb_min_part", self.limb_min_part, 0, 1)
        self._within("weak_limb_min_part", self.weak_limb_min_part, 0, 1)
        self._within("weak_limb_reach", self.weak_limb_reach, 0, float("inf"))
        self._within("min_keypoints", self.min_keypoints, 1, 1000)
        if self.weak_peak_threshold is not None:
            self._within("weak_peak_threshold", self.weak_peak_threshold, 0, self.peak_threshold)
        if self.rank_exponent is not None:
            self._within("rank_exponent", self.rank_exponent, -10, 10)

    @staticmethod
    def _within(name: str, value: float, low: float, high: float) -> None:
        # A comparison with NaN is false, so NaN is refused as well.
        if not low <= value <= high:
            raise OptionError(f"{name} is {value}", expected=f"a number from {low:g} to {high:g}")

    @classmethod
    def published(cls) -> DecodeOptions:
        """The papers' rules: what the published accuracy was measured with.

        Peaks over 0.1; more than 80 % of 10 samples over 0.05; loops start and join nothing; no second pass; people
        under 3 keypoints or 0.2 mean score dropped; ranked by sum x (n - 1).
        """
        return cls(
            peak_threshold=0.1,
            suppression_radius_px=6.0,
            limb_samples=10,
            limb_threshold=0.05,
            limb_min_part=0.8,
            limb_every_cell=False,
            max_limb_length=float("inf"),
            near_first=False,
            redundant_limbs_join=False,
            weak_peak_threshold=None,
            min_keypoints=3,
            min_mean_score=0.2,
            rank_exponent=None,
        )
