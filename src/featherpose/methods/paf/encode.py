"""People to maps: the training targets of one image.

Heatmaps: a Gaussian of sigma 7 network pixels around each keypoint, the highest where people overlap (Cao et al. 2017,
equation 7), cut where it falls under 0.01. Part affinity fields: the limb's unit vector in every cell no further than
half the limb's width from it, the mean where limbs of several people overlap (equations 9 and 10).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float32, Int32

from featherpose.errors import OptionError, SkeletonError
from featherpose.jit import kernel
from featherpose.methods.gaussians import draw_gaussians
from featherpose.methods.paf.maps import Maps
from featherpose.skeleton import Skeleton

__all__ = ["encode_into", "encode_maps"]


@kernel
def _draw_fields(keypoints, limbs, pafs, stride, half_width):  # type: ignore[no-untyped-def]
    people = keypoints.shape[0]
    height, width = pafs.shape[1:]
    center = np.float32((stride - 1) / 2)
    # Limbs already drawn on each cell; the count of limb i starts at i * people, so that it need not be cleared.
    overlaps = np.zeros((height, width), np.int64)
    for i in range(limbs.shape[0]):
        field_x = pafs[limbs[i, 2]]
        field_y = pafs[limbs[i, 3]]
        for p in range(people):
            xa = (keypoints[p, limbs[i, 0], 0] - center) / stride
            ya = (keypoints[p, limbs[i, 0], 1] - center) / stride
            xb = (keypoints[p, limbs[i, 1], 0] - center) / stride
            yb = (keypoints[p, limbs[i, 1], 1] - center) / stride
            length = np.sqrt((xb - xa) * (xb - xa) + (yb - ya) * (yb - ya))
            if not (length > np.float32(1e-6) and np.isfinite(length)):
                continue
            ux = (xb - xa) / length
            uy = (yb - ya) / length
            corner = half_width * (abs(ux) + abs(uy))  # how far the drawn rectangle reaches beyond its keypoints
            lowest = max(np.ceil(min(ya, yb) - corner), np.float32(0))
            highest = min(np.floor(max(ya, yb) + corner), np.float32(height - 1))
            if lowest > highest:
                continue
            for row in range(int(lowest), int(highest) + 1):
                dy = np.float32(row) - ya
                left = min(xa, xb) - corner
                right = max(xa, xb) + corner
                if abs(uy) > np.float32(1e-3):
                    # Where this row crosses the two borders of the limb: only the cells between them are visited.
                    middle = xa + dy * ux / uy
                    reach = half_width / abs(uy) + np.float32(1e-3)
                    left = max(left, middle - reach)
                    right = min(right, middle + reach)
                left = max(np.ceil(left), np.float32(0))
                right = min(np.floor(right), np.float32(width - 1))
                if left > right:
                    continue
                for column in range(int(left), int(right) + 1):
                    dx = np.float32(column) - xa
                    along = dx * ux + dy * uy
                    if abs(dx * uy - dy * ux) <= half_width and along >= -half_width and along <= length + half_width:
                        before = max(overlaps[row, column], i * people)
                        overlaps[row, column] = before + 1
                        n = before + 1 - i * people
                        field_x[row, column] += (ux - field_x[row, column]) / np.float32(n)
                        field_y[row, column] += (uy - field_y[row, column]) / np.float32(n)


@lru_cache(maxsize=64)
def _limb_table(skeleton: Skeleton) -> Int32[np.ndarray, "L 4"]:
    rows = [(*ends, *channels) for ends, channels in zip(skeleton.limbs, skeleton.paf_channels, strict=True)]
    table = np.array(rows, np.int32).reshape(-1, 4)
    table.flags.writeable = False
    return table


def encode_into(
    keypoints: Float32[np.ndarray, "P K 2"],
    skeleton: Skeleton,
    heatmaps: Float32[np.ndarray, "C h w"],
    pafs: Float32[np.ndarray, "D v u"],
    *,
    heatmap_stride: int = 8,
    paf_stride: int = 8,
    sigma_px: float = 7.0,
    paf_half_width: float = 1.0,
) -> None:
    """Draw people into maps that exist already, such as one image's place in a training batch.

    Args:
        keypoints: float32[P, K, 2] (x, y) in network pixels; NaN where missing. Keypoints outside the image count.
        skeleton: K keypoints, L limbs.
        heatmaps: float32[C, h, w], C-contiguous, overwritten; C = K, or K + 1 for a background, which is 1 minus the
            highest heatmap.
        pafs: float32[2L, v, u], C-contiguous, overwritten.
        heatmap_stride: Network pixels per heatmap cell.
        paf_stride: Network pixels per PAF cell.
        sigma_px: Of the Gaussians, in network pixels.
        paf_half_width: Half the width of a limb, in PAF cells; the limb's ends are drawn as far beyond its keypoints.

    Raises:
        SkeletonError: If the arrays do not fit the skeleton.
        OptionError: If a stride, sigma or width is not positive.

    Example:
        >>> from featherpose.skeleton import OPENPOSE_18
        >>> heatmaps, pafs = np.empty((19, 46, 46), np.float32), np.empty((38, 46, 46), np.float32)
        >>> encode_into(np.full((1, 18, 2), 184, np.float32), OPENPOSE_18, heatmaps, pafs)
        >>> round(float(heatmaps[:18].max()), 2), float(heatmaps[18].max())
        (0.78, 1.0)
    """
    k, channels = skeleton.num_keypoints, 2 * skeleton.num_limbs
    if keypoints.ndim != 3 or keypoints.shape[1:] != (k, 2):
        raise SkeletonError(
            f"keypoints of shape {keypoints.shape}", expected=f"(people, {k}, 2) for skeleton {skeleton.name!r}"
        )
    if heatmaps.ndim != 3 or heatmaps.shape[0] not in (k, k + 1) or pafs.ndim != 3 or pafs.shape[0] != channels:
        raise SkeletonError(
            f"heatmaps of shape {heatmaps.shape} and PAFs of shape {pafs.shape}",
            expected=f"({k} or {k + 1}, h, w) and ({channels}, v, u) for skeleton {skeleton.name!r}",
        )
    for name, value in (
        ("heatmap_stride", heatmap_stride),
        ("paf_stride", paf_stride),
        ("sigma_px", sigma_px),
        ("paf_half_width", paf_half_width),
    ):
        if not value > 0:
            raise OptionError(f"{name} is {value}", expected="a positive number")
    for name, array in (("heatmaps", heatmaps), ("PAFs", pafs)):
        if array.dtype != np.float32 or not array.flags.c_contiguous:
            raise SkeletonError(f"{name} of type {array.dtype}", expected="C-contiguous float32")
    points = np.ascontiguousarray(keypoints, np.float32)
    heatmaps[:k] = 0
    heatmaps[k:] = 1
    pafs[:] = 0
    draw_gaussians(points, heatmaps, heatmaps.shape[0] > k, heatmap_stride, np.float32(sigma_px))
    _draw_fields(points, _limb_table(skeleton), pafs, paf_stride, np.float32(paf_half_width))


def encode_maps(
    keypoints: Float32[np.ndarray, "P K 2"],
    skeleton: Skeleton,
    size: tuple[int, int],
    *,
    heatmap_stride: int = 8,
    paf_stride: int = 8,
    sigma_px: float = 7.0,
    paf_half_width: float = 1.0,
    background: bool = True,
) -> Maps:
    """Draw people into new maps.

    Args:
        keypoints: float32[P, K, 2] (x, y) in network pixels; NaN where missing.
        skeleton: K keypoints, L limbs.
        size: (width, height) of the network input; rounded up to whole cells.
        heatmap_stride: Network pixels per heatmap cell.
        paf_stride: Network pixels per PAF cell.
        sigma_px: Of the Gaussians, in network pixels.
        paf_half_width: Half the width of a limb, in PAF cells.
        background: Whether a last heatmap holds 1 minus the highest of the others.

    Raises:
        SkeletonError: If the keypoints do not fit the skeleton.
        OptionError: If a stride, sigma, width or size is not positive.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> encode_maps(np.empty((0, 17, 2), np.float32), COCO_17, (456, 256))
        Maps(heatmaps (18, 32, 57) /8, pafs (38, 32, 57) /8)
    """
    width, height = size
    if width < 1 or height < 1 or heatmap_stride < 1 or paf_stride < 1:
        raise OptionError(
            f"size {width}x{height} with strides {heatmap_stride} and {paf_stride}", expected="positive numbers"
        )
    channels = skeleton.num_keypoints + int(background)
    heatmaps = np.empty((channels, -(-height // heatmap_stride), -(-width // heatmap_stride)), np.float32)
    pafs = np.empty((2 * skeleton.num_limbs, -(-height // paf_stride), -(-width // paf_stride)), np.float32)
    encode_into(
        keypoints, skeleton, heatmaps, pafs,
        heatmap_stride=heatmap_stride, paf_stride=paf_stride, sigma_px=sigma_px, paf_half_width=paf_half_width,
    )  # fmt: skip
    return Maps(heatmaps, pafs, heatmap_stride, paf_stride)
