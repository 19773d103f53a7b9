"""Effects on each frame of one source: heads are hidden, then a scene is drawn; the same for files and live sources."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from featherpose.augment.privacy.anonymize import Anonymizer, HideMethod
from featherpose.augment.privacy.heads import HeadOptions, Heads
from featherpose.augment.scene import Scene
from featherpose.errors import OptionError
from featherpose.poses import Poses

__all__ = ["CANDIDATE_SCORE", "EffectOptions", "FrameEffects"]

CANDIDATE_SCORE = 0.03
"""Least score of the candidates that the estimator must give where heads are hidden."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EffectOptions:
    """Effects on frames.

    Attributes:
        scene: What is drawn; None for nothing.
        anonymize: How heads are hidden; None leaves them.
        heads: Thresholds for accepting a head.

    Raises:
        OptionError: If there is neither a scene nor anonymization.
    """

    scene: Scene | None = None
    anonymize: HideMethod | None = None
    heads: HeadOptions = field(default_factory=HeadOptions)

    def __post_init__(self) -> None:
        if self.scene is None and self.anonymize is None:
            raise OptionError("nothing to do", expected="a scene, a way to anonymize, or both")

    @property
    def candidates(self) -> float | None:
        """What `featherpose.PoseEstimator` must be given as ``candidates``."""
        if self.anonymize is None or self.heads.min_peak_score is None:
            return None
        return min(CANDIDATE_SCORE, self.heads.min_peak_score)


class FrameEffects:
    """The effects on the frames of one source.

    Args:
        options: The effects.
        video: Whether frames follow each other in time.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> effects = FrameEffects(EffectOptions(anonymize="box"))
        >>> len(effects.apply(np.zeros((48, 64, 3), np.uint8), Poses.empty(COCO_17, (64, 48)), 0.0))
        0
    """

    def __init__(self, options: EffectOptions, *, video: bool = True) -> None:
        self._video = video
        self._player = None if options.scene is None else options.scene.player()
        method = options.anonymize
        self.anonymizer = None if method is None else Anonymizer(method, options.heads, video=video)

    def find_heads(self, poses: Poses, timestamp_s: float) -> Heads:
        """Return the heads to hide in the next frame; none where they are not hidden."""
        return Heads.none() if self.anonymizer is None else self.anonymizer.find(poses, timestamp_s)

    def draw(self, image: UInt8[np.ndarray, "H W 3"], poses: Poses, heads: Heads, timestamp_s: float) -> None:
        """Hide heads that were found before and draw the scene, in place."""
        if self.anonymizer is not None:
            self.anonymizer.cover(image, heads)
        if self._player is not None:
            self._player.render(image, poses, timestamp_s if self._video else None)

    def apply(self, image: UInt8[np.ndarray, "H W 3"], poses: Poses, timestamp_s: float) -> Heads:
        """Do everything to the next frame in place, and return the heads that were hidden."""
        heads = self.find_heads(poses, timestamp_s)
        self.draw(image, poses, heads, timestamp_s)
        return heads
