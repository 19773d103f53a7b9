"""From a single-person network's outputs to one pose a crop, in pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64

from featherpose.crops import CropShape, to_image
from featherpose.errors import ModelError
from featherpose.geometry import Letterbox
from featherpose.methods.method import Arrays
from featherpose.poses import Poses
from featherpose.runtime.backend import ModelSpec

__all__ = ["PersonDecoder"]

_CORNER_CELLS = 1.5


class PersonDecoder:
    """Decodes the outputs for crops. Any thread may call it.

    Args:
        spec: Facts of a network that sees one person at a time: ``spec.crop`` is set.
        options: Decoding options instead of the model's own.

    Attributes:
        crop: The crops.

    Raises:
        ModelError: If the network sees whole images.
        OptionError: If the options belong to another method.

    Example:
        >>> from featherpose.zoo.resolve import resolve_model
        >>> spec = resolve_model("refiner").spec
        >>> heatmaps = np.zeros((17, 56, 40), np.float32)
        >>> heatmaps[0, 28, 20] = 1  # the nose
        >>> matrices = spec.crop.matrices(np.array([[0, 0, 160, 224]], np.float32))
        >>> PersonDecoder(spec)([{"heatmaps": heatmaps}], matrices, (160, 224)).keypoints[0, 0].round().tolist()
        [81.0, 113.0]
    """

    def __init__(self, spec: ModelSpec, options: Any | None = None) -> None:
        if spec.crop is None:
            raise ModelError(
                f"model {spec.name} sees whole images", expected="a network that takes crops of one person"
            )
        self.crop: CropShape = spec.crop
        self._skeleton = spec.skeleton
        self._decoder = spec.decoder(options)
        size = (self.crop.width, self.crop.height)
        self._letterbox = Letterbox(size, size, (0, 0), size)
        self._corner_px = _CORNER_CELLS * max(spec.outputs[0].stride, 1)

    def warm_up(self) -> None:
        """Load and compile everything that the first call needs."""
        self._decoder.warm_up()

    def __call__(
        self, outputs: Sequence[Arrays], matrices: Float64[np.ndarray, "P 2 3"], image_size: tuple[int, int]
    ) -> Poses:
        """Decode one pose a crop.

        Args:
            outputs: Of the P crops.
            matrices: From crop pixels to image pixels, of `featherpose.crops.CropShape.matrices`.
            image_size: (width, height).

        Returns:
            P people in the order of the crops. Keypoints outside of the image or in a corner of the crop are missing.
            Where nothing was found all keypoints are missing and the score is 0.
        """
        keypoints = np.full((len(outputs), self._skeleton.num_keypoints, 2), np.nan, np.float32)
        keypoint_scores = np.zeros(keypoints.shape[:2], np.float32)
        scores = np.zeros(len(outputs), np.float32)
        for i, maps in enumerate(outputs):
            poses = self._decoder(maps, self._letterbox)
            if len(poses):
                keypoints[i], keypoint_scores[i] = poses.keypoints[0], poses.keypoint_scores[0]
                scores[i] = poses.scores[0]
        corner = self._in_corner(keypoints)
        keypoints = to_image(keypoints, matrices)
        last = np.array(image_size, np.float32) - np.float32(0.5)
        with np.errstate(invalid="ignore"):  # NaN where missing
            outside = ((keypoints < -0.5) | (keypoints > last)).any(axis=2)
        keypoints[corner | outside] = np.nan
        keypoint_scores[corner | outside] = 0
        return Poses(keypoints, keypoint_scores, scores, self._skeleton, image_size)

    def _in_corner(self, points: Float32[np.ndarray, "P K 2"]) -> Bool[np.ndarray, "P K"]:
        """Find keypoints in the corners of their crop, where no part of a person lies.

        Convolutions that see the padding on two sides answer there for joints that are not in the image.
        """
        far = np.array([self.crop.width, self.crop.height], np.float32) - 1
        with np.errstate(invalid="ignore"):
            return np.asarray((np.minimum(points, far - points) < self._corner_px).all(axis=2), np.bool_)
