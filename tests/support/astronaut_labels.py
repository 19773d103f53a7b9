"""The keypoints of a photograph that scikit-image ships."""

from __future__ import annotations

__all__ = ["ASTRONAUT_KEYPOINTS"]

# The astronaut's keypoints as a person would click them, in pixels of the photograph.
ASTRONAUT_KEYPOINTS = {
    "nose": (224, 124), "left_eye": (247, 104), "right_eye": (203, 102), "left_ear": (268, 124),
    "right_ear": (183, 124), "left_shoulder": (330, 246), "right_shoulder": (100, 262),
}  # fmt: skip
