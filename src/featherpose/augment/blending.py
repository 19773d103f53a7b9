"""One thing drawn over another: sprites with transparency, and one color where a sheet covers.

The compiled kernels compute in whole numbers; `blend` is held to `blend_slowly`.
"""

from __future__ import annotations

import numpy as np

from featherpose.jit import kernel

__all__ = ["blend", "blend_slowly", "paint"]


@kernel
def _divided(value):  # type: ignore[no-untyped-def]
    """Divide by 65280, rounded, without a division: by 256, then by 255, which is exact up to 65534."""
    high = (value + np.uint32(32640)) >> np.uint32(8)
    return (high + np.uint32(1) + (high >> np.uint32(8))) >> np.uint32(8)


@kernel
def blend(region, part, strength, before):  # type: ignore[no-untyped-def]
    """Blend premultiplied BGRA into BGR in place; ``strength`` 0..256, ``before`` hides where it is 255."""
    masked = before.shape[0] > 0
    for y in range(region.shape[0]):
        for x in range(region.shape[1]):
            alpha = np.uint32(part[y, x, 3])
            if alpha == 0:
                continue
            share = np.uint32(strength)
            if masked:
                if before[y, x] == 255:
                    continue
                share = np.uint32((share * np.uint32(255 - before[y, x]) + np.uint32(127)) // np.uint32(255))
            rest = np.uint32(65280) - alpha * share  # 255 * 256
            scale = share * np.uint32(255)
            for c in range(3):
                region[y, x, c] = _divided(np.uint32(part[y, x, c]) * scale + np.uint32(region[y, x, c]) * rest)


def blend_slowly(region: np.ndarray, part: np.ndarray, strength: int, before: np.ndarray) -> np.ndarray:
    """Return what `blend` makes of a region, by the definition of "over" in float64 (Porter and Duff 1984)."""
    share = strength / 256 * (1 - before / 255 if before.size else np.ones(region.shape[:2]))[..., None]
    value = part[..., :3] * share + region * (1 - part[..., 3:] / 255 * share)
    return np.asarray(np.clip(value, 0, 255))


@kernel
def paint(region, sheet, blue, green, red, strength):  # type: ignore[no-untyped-def]
    """Paint a color where a sheet uint8[h, w] covers a region uint8[h, w, 3], in place; ``strength`` 0..256."""
    colors = (np.uint32(blue), np.uint32(green), np.uint32(red))
    for y in range(region.shape[0]):
        for x in range(region.shape[1]):
            cover = np.uint32(sheet[y, x])
            if cover == 0:
                continue
            share = cover * np.uint32(strength)  # of 255 * 256
            rest = np.uint32(65280) - share
            for c in range(3):
                region[y, x, c] = _divided(colors[c] * share + np.uint32(region[y, x, c]) * rest)
