"""Where a person is cut out of an image: boxes to crops of one size, and keypoints back to the image.

A crop shows a box, padded to the aspect ratio of the crop and widened by a margin, at one scale along both axes. Pixel
centers are at integers in image and crop, as everywhere (`featherpose.geometry`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from featherpose.errors import OptionError

__all__ = ["PRIOR_STRIDE", "CropShape", "to_image"]

PRIOR_STRIDE = 8
"""Pixels of the crop a cell of the keypoints under it."""
_MIN_SCALE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class CropShape:
    """Size and margin of the crops that a single-person network takes.

    Attributes:
        width: Of the crop, in pixels.
        height: Of the crop, in pixels.
        margin: What the box is multiplied by on each side of its center; 1.25 in most papers (Xiao et al. 2018, "Simple
            Baselines", section 3.1). Larger shows more of the surroundings, and the person smaller.
        prior: Keypoints of another network that the input carries in rows under the crop, see
            `featherpose.crop_prior`; 0 if it is the crop alone.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> CropShape(width=160, height=224, margin=1.1).height
        224
    """

    width: int
    height: int
    margin: float = 1.25
    prior: int = 0

    def __post_init__(self) -> None:
        if not (8 <= self.width <= 4096 and 8 <= self.height <= 4096):
            raise OptionError(f"a crop of {self.width}x{self.height} pixels", expected="8 to 4096 each")
        if not 0.5 <= self.margin <= 4:
            raise OptionError(f"a crop margin of {self.margin}", expected="0.5 to 4")
        if self.prior < 0 or (self.prior and (self.width % PRIOR_STRIDE or self.height % PRIOR_STRIDE)):
            raise OptionError(
                f"{self.prior} keypoints under a crop of {self.width}x{self.height} pixels",
                expected=f"0 or more, under a crop whose sides are multiples of {PRIOR_STRIDE}",
            )

    @property
    def rows(self) -> int:
        """Return the height of the network's input: of the crop and of the rows under it.

        Example:
            >>> CropShape(width=128, height=192, prior=17).rows
            209
        """
        # A cell of 8x8 pixels is a byte, and a pixel has three.
        return self.height + -(-self.prior * self.height // (3 * PRIOR_STRIDE * PRIOR_STRIDE))

    def matrices(self, boxes: Float32[np.ndarray, "P 4"]) -> Float64[np.ndarray, "P 2 3"]:
        """Return the affine maps from crop pixels to image pixels.

        Args:
            boxes: (left, top, right, bottom) in image pixels. Boxes may reach out of the image; a box without extent
                gives a crop of one magnified point.

        Example:
            >>> shape = CropShape(width=160, height=224, margin=1.0)
            >>> matrix = shape.matrices(np.array([[10, 20, 90, 132]], np.float32))[0]
            >>> (matrix @ [79.5, 111.5, 1]).tolist()  # the center of the crop is the center of the box
            [50.0, 76.0]
        """
        left, top, right, bottom = np.asarray(boxes, np.float64).T
        scale = np.maximum(np.maximum((right - left) / self.width, (bottom - top) / self.height), _MIN_SCALE)
        scale = scale * self.margin
        matrices = np.zeros((len(boxes), 2, 3))
        matrices[:, 0, 0] = matrices[:, 1, 1] = scale
        matrices[:, 0, 2] = (left + right) / 2 - scale * (self.width - 1) / 2
        matrices[:, 1, 2] = (top + bottom) / 2 - scale * (self.height - 1) / 2
        return matrices


def to_image(
    points: Float32[np.ndarray, "P K 2"], matrices: Float64[np.ndarray, "P 2 3"]
) -> Float32[np.ndarray, "P K 2"]:
    """Take points of each crop to image pixels; NaN stays NaN.

    Example:
        >>> matrices = CropShape(width=8, height=8, margin=1).matrices(np.array([[0, 0, 16, 16]], np.float32))
        >>> to_image(np.array([[[3.5, 3.5], [4.5, 3.5]]], np.float32), matrices).tolist()
        [[[8.0, 8.0], [10.0, 8.0]]]
    """
    moved = np.einsum("pij,pkj->pki", matrices[:, :, :2], points) + matrices[:, None, :, 2]
    return np.asarray(moved, np.float32)
