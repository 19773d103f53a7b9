"""A graphic with transparency drawn over an image: sampled and blended in one pass, without a warped copy.

A texel holds its four channels in four parts of 16 bits of one number, so that each step of the arithmetic acts on all
of them at once: weights sum to 256, so no result leaves its part. `draw_texels` is held to `draw_slowly`.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8, UInt64

from featherpose.jit import kernel

__all__ = ["clear_around", "draw_slowly", "draw_texels", "make_texels"]

_ONE = 1 << 32  # positions are whole numbers of 2^-32 pixels
_FINE = 28  # of which the weights use sixteenths
_LANES = np.uint64(0x00FF00FF00FF00FF)
_HALF = np.uint64(0x0080008000800080)
_FOUR, _BYTE, _NEXT = np.uint64(4), np.uint64(8), np.uint64(1)


def make_texels(image: UInt8[np.ndarray, "h w 4"]) -> UInt64[np.ndarray, "h+2 w+2"]:
    """Return the texels of BGRA with multiplied colors, with a transparent border of one.

    Example:
        >>> hex(make_texels(np.array([[[1, 2, 3, 255]]], np.uint8))[1, 1])
        '0xff000300020001'
    """
    lanes = np.zeros((image.shape[0] + 2, image.shape[1] + 2, 4), "<u2")
    lanes[1:-1, 1:-1] = image
    return lanes.view("<u8")[..., 0].astype(np.uint64, copy=False)


def clear_around(texels: UInt64[np.ndarray, "h+2 w+2"]) -> UInt8[np.ndarray, "h+2 w+2"]:
    """Return how many texels away the next one is that shows anything: 0 where one does, 255 at most.

    Example:
        >>> clear_around(np.array([[0, 0, 0, 7]], np.uint64))
        array([[3, 2, 1, 0]], dtype=uint8)
    """
    # Counted in rows or columns, whichever are more: what is less far away forms a square.
    away = cv2.distanceTransform((texels == 0).astype(np.uint8), cv2.DIST_C, 3)
    return np.asarray(np.minimum(away, 255).astype(np.uint8))


@kernel
def _row_part(start, step, end, first, last):  # type: ignore[no-untyped-def]
    """Part of a row where 0 <= start + step * x < end, up to rounding."""
    if step > 0.0:
        first, last = max(first, np.floor(-start / step)), min(last, np.ceil((end - start) / step))
    elif step < 0.0:
        first, last = max(first, np.floor((end - start) / step)), min(last, np.ceil(-start / step))
    elif not 0.0 <= start < end:
        last = first - 1.0
    return first, last


@kernel
def draw_texels(image, texels, clear, back, window, strength, mask):  # type: ignore[no-untyped-def]
    """Draw a graphic into a window of an image, in place.

    Args:
        image: uint8[H, W, 3], BGR.
        texels: uint64[h + 2, w + 2], see `make_texels`.
        clear: uint8[h + 2, w + 2], see `clear_around`.
        back: Six numbers, from (x, y) in pixels of the image to those of the graphic; see `Affine`.
        window: Left, top, right and bottom, exclusive; inside the image.
        strength: Opacity, 0..256.
        mask: uint8[h, w] of the window, what lies before: 255 hides the graphic, 0 shows it. Of no rows where nothing
            does.
    """
    uxx, uxy, ux, vyx, vyy, vy = back
    left, top, right, bottom = window
    high, wide = texels.shape[0] - 1, texels.shape[1] - 1
    step_u, step_v = np.int64(np.floor(uxx * _ONE)), np.int64(np.floor(vyx * _ONE))
    # Transparent texels are passed in steps that stay within what is transparent around them.
    pace = 1.0 / max(abs(uxx), abs(vyx), 1e-6)
    end_u, end_v, masked = np.int64(wide) * _ONE, np.int64(high) * _ONE, mask.shape[0] > 0
    for y in range(top, bottom):
        # One more than the texel, for the border; half of a sixteenth more, for rounding to the nearest.
        u0, v0 = uxy * y + ux + 1.03125, vyy * y + vy + 1.03125
        from_x, to_x = _row_part(u0, uxx, float(wide), float(left), float(right - 1))
        from_x, to_x = _row_part(v0, vyx, float(high), from_x, to_x)
        if from_x > to_x:
            continue
        first, last = np.int64(from_x), np.int64(to_x)
        u, v = np.int64(np.floor((uxx * first + u0) * _ONE)), np.int64(np.floor((vyx * first + v0) * _ONE))
        # Exact at both ends, and therefore everywhere between them.
        while first <= last and not (0 <= u < end_u and 0 <= v < end_v):
            u, v, first = u + step_u, v + step_v, first + 1
        while first <= last:
            far_u, far_v = u + step_u * (last - first), v + step_v * (last - first)
            if 0 <= far_u < end_u and 0 <= far_v < end_v:
                break
            last -= 1
        # Unsigned, so that no index is asked whether it counts from the end.
        here, row, x, end = np.uint64(y), np.uint64(y - top), np.uint64(first), np.uint64(last + 1)
        while x < end:
            share = np.uint64(strength)
            if masked:
                before = np.uint64(mask[row, x - np.uint64(left)])
                if before == np.uint64(255):
                    u, v, x = u + step_u, v + step_v, x + _NEXT
                    continue
                if before != np.uint64(0):
                    share = (share * (np.uint64(255) - before) + np.uint64(127)) // np.uint64(255)
            i, j = np.uint64(v >> 32), np.uint64(u >> 32)
            p00, p01 = texels[i, j], texels[i, j + _NEXT]
            p10, p11 = texels[i + _NEXT, j], texels[i + _NEXT, j + _NEXT]
            if p00 | p01 | p10 | p11 == np.uint64(0):
                steps = np.int64(max(1.0, (float(clear[i, j]) - 2.0) * pace + 1.0))
                u, v, x = u + steps * step_u, v + steps * step_v, x + np.uint64(steps)
                continue
            fu, fv = np.uint64((u >> _FINE) & 15), np.uint64((v >> _FINE) & 15)
            u, v = u + step_u, v + step_v
            # A difference may borrow from the channel above, which its sum with the first gives back.
            upper = (p00 << _FOUR) + (p01 - p00) * fu
            lower = (p10 << _FOUR) + (p11 - p10) * fu
            value = (upper << _FOUR) + (lower - upper) * fv
            value = ((value + _HALF) >> _BYTE) & _LANES
            if share != np.uint64(256):
                value = ((value * share + _HALF) >> _BYTE) & _LANES
            alpha = value >> np.uint64(48)
            if alpha != np.uint64(255):
                under = (
                    np.uint64(image[here, x, 0]) | np.uint64(image[here, x, 1]) << np.uint64(16)
                    | np.uint64(image[here, x, 2]) << np.uint64(32)
                )  # fmt: skip
                rest = np.uint64(256) - alpha - (alpha >> np.uint64(7))
                value += ((under * rest + _HALF) >> _BYTE) & _LANES
            image[here, x, 0] = np.uint8(value)
            image[here, x, 1] = np.uint8(value >> np.uint64(16))
            image[here, x, 2] = np.uint8(value >> np.uint64(32))
            x += _NEXT


def draw_slowly(
    image: UInt8[np.ndarray, "H W 3"],
    graphic: UInt8[np.ndarray, "h w 4"],
    back: tuple[float, ...],
    strength: int,
    mask: UInt8[np.ndarray, "H W"] | None,
) -> np.ndarray:
    """Return what `draw_texels` makes of an image, by the definitions, as float64[H, W, 3].

    Bilinear sampling at positions in sixteenths of a pixel, then "over" (Porter and Duff 1984).
    """
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    u, v = back[0] * x + back[1] * y + back[2], back[3] * x + back[4] * y + back[5]
    u, v = np.floor(16 * u + 0.5) / 16, np.floor(16 * v + 0.5) / 16
    wide = np.pad(graphic.astype(np.float64), ((2, 2), (2, 2), (0, 0)))
    i, j = (np.clip(np.floor(p), -2, n).astype(int) + 2 for p, n in ((v, graphic.shape[0]), (u, graphic.shape[1])))
    fu, fv = (u - np.floor(u))[..., None], (v - np.floor(v))[..., None]
    upper, lower = (wide[i + k, j] * (1 - fu) + wide[i + k, j + 1] * fu for k in (0, 1))
    part = upper * (1 - fv) + lower * fv
    share = np.full(image.shape[:2], strength / 256)
    if mask is not None:
        share *= 1 - mask / 255
    return np.asarray(part[..., :3] * share[..., None] + image * (1 - part[..., 3:] / 255 * share[..., None]))
