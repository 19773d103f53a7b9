"""From joints to the place of a graphic: one joint, two (similarity), three and more (affine)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

__all__ = ["affine", "similarity", "upright"]

_FLAT = 0.12  # a body seen on edge: the smaller of both stretches is under this part of the larger


def upright(
    point: Float64[np.ndarray, "2"], at: Float64[np.ndarray, "2"], scale: float, up: Float64[np.ndarray, "2"]
) -> Float64[np.ndarray, "2 3"]:
    """Return the matrix that puts a pixel of a graphic on one joint.

    Args:
        point: (x, y) in pixels of the graphic.
        at: (x, y) of the joint in the image.
        scale: Image pixels for each pixel of the graphic.
        up: Direction of the image that the graphic's top points to; of any length.

    Example:
        >>> upright(np.array([2.0, 3.0]), np.array([10.0, 10.0]), 2.0, np.array([0.0, -1.0]))
        array([[2., 0., 6.],
               [0., 2., 4.]])
    """
    x, y = up / max(float(np.hypot(*up)), 1e-9)
    turn = scale * np.array([[-y, -x], [x, -y]])
    return np.column_stack((turn, at - turn @ point)) + 0.0


def similarity(points: Float64[np.ndarray, "2 2"], at: Float64[np.ndarray, "2 2"]) -> Float64[np.ndarray, "2 3"] | None:
    """Return the turn, scale and shift that put two pixels of a graphic on two joints; None if they coincide.

    Example:
        >>> similarity(np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[5.0, 5.0], [5.0, 7.0]]))
        array([[ 0., -2.,  5.],
               [ 2.,  0.,  5.]])
    """
    (ax, ay), (bx, by) = points[1] - points[0], at[1] - at[0]
    length = ax * ax + ay * ay
    if not length > 0 or not bx * bx + by * by > 0:
        return None
    c, s = (ax * bx + ay * by) / length, (ax * by - ay * bx) / length
    turn = np.array([[c, -s], [s, c]])
    return np.column_stack((turn, at[0] - turn @ points[0]))


def affine(points: Float64[np.ndarray, "n 2"], at: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "2 3"] | None:
    """Return the affine map that puts three or more pixels of a graphic on joints, best in least squares.

    None where the joints lie nearly on a line, so that the map would be degenerate.

    Example:
        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> affine(square, 2 * square + 3).round(6) + 0
        array([[2., 0., 3.],
               [0., 2., 3.]])
    """
    rows = np.column_stack((points, np.ones(len(points))))
    matrix = np.linalg.lstsq(rows, at, rcond=None)[0].T
    stretches = np.linalg.svd(matrix[:, :2] * np.ptp(points, 0), compute_uv=False)
    if not stretches[1] > _FLAT * stretches[0]:
        return None
    return np.asarray(matrix + 0.0)
