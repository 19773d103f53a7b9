"""Picture to network input: one resize, straight into the padded buffer."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.errors import OptionError, SourceError
from featherpose.geometry import Letterbox

__all__ = ["as_bgr", "fit", "prepare"]

# A picture eight times as wide as it is high still gets the full height; anything wider is scaled down to this, so
# that no picture can ask for an input without end.
_MAX_ASPECT = 8


def as_bgr(image: object) -> UInt8[np.ndarray, "H W 3"]:
    """A picture in the one form that everything behind this line takes: uint8[H, W, 3], BGR.

    Grey pictures get three equal channels; a fourth channel (transparency) is dropped.

    Raises:
        SourceError: If it is not a picture of 8 bits a channel.

    Example:
        >>> as_bgr(np.zeros((4, 6), np.uint8)).shape
        (4, 6, 3)
    """
    if not isinstance(image, np.ndarray):
        raise SourceError(
            f"a picture of type {type(image).__name__}",
            expected="a numpy array uint8[H, W, 3] in BGR order",
            hint="featherpose.media.images.read_image reads a file",
        )
    shape = image.shape
    if image.dtype != np.uint8:
        hint = "scale it to 0..255 first" if image.dtype.kind in "fui" else None
        raise SourceError(f"a picture of dtype {image.dtype}", expected="uint8, 0..255", hint=hint)
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise SourceError(f"a picture of shape {shape}", expected="(H, W, 3) in BGR order, (H, W) or (H, W, 4)")
    if 0 in shape:
        raise SourceError(f"an empty picture of shape {shape}", expected="at least 1x1 pixels")
    if image.ndim == 2 or shape[2] == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    if shape[2] == 4:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR), np.uint8)
    return image


def prepare(
    image: UInt8[np.ndarray, "H W 3"],
    *,
    height: int = 256,
    size_multiple: int = 8,
    pad_value: int = 128,
    out: UInt8[np.ndarray, "h w 3"] | None = None,
) -> tuple[UInt8[np.ndarray, "1 h w 3"], Letterbox]:
    """Resize a picture to the network's input height, keep its aspect ratio, pad right and bottom.

    Convention
        Pixel centres are at integers and a resize maps areas (see `featherpose.geometry`): source pixel x lands on
        ``(x + 0.5) * scale - 0.5``. Padding never moves the content.

    Args:
        image: uint8[H, W, 3], BGR.
        height: Input height in pixels; rounded up to ``size_multiple``.
        size_multiple: Width and height become multiples of it.
        pad_value: Grey value 0..255 of the padding.
        out: Buffer to write into instead of a new one, such as one picture of a batch; its size must fit.

    Returns:
        The input as uint8[1, h, w, 3], BGR, and how the picture was resized.

    Raises:
        OptionError: If the height is not positive, or ``out`` does not fit.

    Example:
        >>> network_input, letterbox = prepare(np.zeros((720, 1280, 3), np.uint8), height=256)
        >>> network_input.shape, letterbox.content_size
        ((1, 256, 456, 3), (455, 256))
    """
    letterbox = fit((image.shape[1], image.shape[0]), height=height, size_multiple=size_multiple)
    width, rows = letterbox.network_size
    if out is None:
        out = np.empty((rows, width, 3), np.uint8)
    elif out.shape != (rows, width, 3) or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise OptionError(
            f"a buffer of dtype {out.dtype} and shape {out.shape}", expected=f"contiguous uint8 of {(rows, width, 3)}"
        )
    content_width, content_rows = letterbox.content_size
    content = out[:content_rows, :content_width]
    # Linear, also when shrinking: area averaging takes fifteen times as long (4.0, not 0.25 ms, for 1280x720 to 256
    # rows) and its AP is half a point better or worse, by input height (``benchmarks/engines_interpolation.py``).
    cv2.resize(image, (content_width, content_rows), dst=content, interpolation=cv2.INTER_LINEAR)
    if content_width < width:
        out[:content_rows, content_width:] = pad_value
    if content_rows < rows:
        out[content_rows:] = pad_value
    return out[None], letterbox


def fit(source_size: tuple[int, int], *, height: int, size_multiple: int) -> Letterbox:
    """How `prepare` will resize a picture of this (width, height), without doing it.

    Example:
        >>> fit((20_000, 100), height=256, size_multiple=8).network_size
        (2048, 16)
    """
    rounded = -(-height // size_multiple) * size_multiple
    return Letterbox.fit(source_size, height=rounded, multiple=size_multiple, max_width=_MAX_ASPECT * rounded)
