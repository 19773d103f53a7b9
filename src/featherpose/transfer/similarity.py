"""Similarity of two images: PSNR and SSIM (Wang et al. 2004, Gaussian window of 11 pixels, on BT.601 luma)."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float64, UInt8

__all__ = ["psnr", "ssim"]

_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(one: UInt8[np.ndarray, "h w 3"], other: UInt8[np.ndarray, "h w 3"], where: np.ndarray | None = None) -> float:
    """Peak signal to noise ratio in decibels, over the pixels of a mask; infinite for equal pictures.

    Example:
        >>> gray = np.full((4, 4, 3), 100, np.uint8)
        >>> round(psnr(gray, gray + 5), 2)
        34.15
    """
    error = np.square(one.astype(np.float64) - other)
    mean = float(error.mean() if where is None else error[where].mean())
    return float("inf") if mean == 0 else float(10 * np.log10(255**2 / mean))


def ssim(
    one: UInt8[np.ndarray, "h w 3"], other: UInt8[np.ndarray, "h w 3"], where: Bool[np.ndarray, "h w"] | None = None
) -> float:
    """Mean structural similarity over the pixels of a mask.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        >>> ssim(image, image)
        1.0
    """
    values = _ssim_map(_luma(one), _luma(other))
    return round(float(values.mean() if where is None else values[where].mean()), 6)


def _luma(image: UInt8[np.ndarray, "h w 3"]) -> Float64[np.ndarray, "h w"]:
    return np.asarray(image.astype(np.float64) @ np.array([0.114, 0.587, 0.299]))


def _ssim_map(a: Float64[np.ndarray, "h w"], b: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, "h w"]:
    def blur(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    cov = blur(a * b) - mean_a * mean_b
    return np.asarray(
        (2 * mean_a * mean_b + _C1) * (2 * cov + _C2) / ((mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2))
    )
