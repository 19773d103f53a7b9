"""The pose of a bottom-up network as an input of the single-person network: Gaussians in rows under the crop.

A network that sees where another one places the joints, and not the pixels alone, corrects that pose (Moon et al. 2019,
"PoseFix"; Zhou et al. 2023, "Rethinking Pose Estimation in Crowds", conditions a top-down network in this way). Maps of
one byte for each 8x8 pixels of the crop fill whole rows of its width, so that the input remains one image and every
engine takes it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from featherpose.crops import PRIOR_STRIDE, CropShape
from featherpose.errors import OptionError
from featherpose.jit import kernel

__all__ = ["draw_prior"]

_REACH_CELLS = 2
_LEAST = 0.3  # height of the Gaussian of a keypoint whose score is 0


@kernel
def _draw(keypoints, scores, matrix, width, height, rows):  # type: ignore[no-untyped-def]
    across, down = width // PRIOR_STRIDE, height // PRIOR_STRIDE
    plane = rows.shape[0] * rows.shape[1]
    rows[:] = 0
    for k in range(keypoints.shape[0]):
        x = (keypoints[k, 0] - matrix[0, 2]) / matrix[0, 0] / PRIOR_STRIDE
        y = (keypoints[k, 1] - matrix[1, 2]) / matrix[1, 1] / PRIOR_STRIDE
        # Compared as floats: a coordinate far outside does not fit an integer. NaN is not inside.
        if not (-1.0 <= x <= across and -1.0 <= y <= down):
            continue
        top = 255.0 * (_LEAST + (1.0 - _LEAST) * min(max(scores[k], 0.0), 1.0))
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        for j in range(max(row - _REACH_CELLS, 0), min(row + _REACH_CELLS + 1, down)):
            for i in range(max(column - _REACH_CELLS, 0), min(column + _REACH_CELLS + 1, across)):
                square = (i - x) ** 2 + (j - y) ** 2  # in cells, as is the Gaussian's width of one
                index = (k * down + j) * across + i
                channel, pixel = index // plane, index % plane
                rows[pixel // width, pixel % width, channel] = np.uint8(top * np.exp(-square / 2) + 0.5)


def draw_prior(
    keypoints: Float32[np.ndarray, "K 2"],
    scores: Float32[np.ndarray, " K"],
    matrix: Float64[np.ndarray, "2 3"],
    shape: CropShape,
    crop: UInt8[np.ndarray, "R W 3"],
) -> None:
    """Draw a pose into the rows under a crop.

    Each keypoint is a Gaussian of one cell, whose height grows with the keypoint's score; a keypoint that is missing or
    outside of the crop leaves its map black.

    Args:
        keypoints: In image pixels, NaN where missing.
        scores: In 0..1.
        matrix: From crop pixels to image pixels, of `featherpose.crops.CropShape.matrices`.
        shape: Of the crop; ``shape.prior`` keypoints are drawn.
        crop: The network's input, ``shape.rows`` high; its rows from ``shape.height`` on are overwritten.

    Raises:
        OptionError: If the number of keypoints or the size of the input is not that of the shape.

    Example:
        >>> shape = CropShape(width=32, height=64, margin=1, prior=2)
        >>> crop = np.zeros((shape.rows, 32, 3), np.uint8)
        >>> points = np.array([[8, 16], [np.nan, np.nan]], np.float32)
        >>> draw_prior(points, np.ones(2, np.float32), np.eye(3)[:2], shape, crop)
        >>> maps = crop[64:].transpose(2, 0, 1).reshape(-1)[: 2 * 8 * 4].reshape(2, 8, 4)
        >>> int(maps[0].argmax()), int(maps[0].max()), int(maps[1].max())
        (9, 255, 0)
    """
    if len(keypoints) != shape.prior or crop.shape != (shape.rows, shape.width, 3):
        raise OptionError(
            f"{len(keypoints)} keypoints and an input of shape {crop.shape}",
            expected=f"{shape.prior} keypoints and shape {(shape.rows, shape.width, 3)}",
        )
    _draw(keypoints, scores, matrix, shape.width, shape.height, crop[shape.height :])
