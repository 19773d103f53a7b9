"""Image to network input: one resize, straight into the padded buffer."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

from featherpose.crops import CropShape
from featherpose.errors import OptionError, SourceError
from featherpose.geometry import Letterbox

__all__ = ["MAX_HEIGHT_PX", "MIN_HEIGHT_PX", "as_bgr", "cut_crop", "cut_crops", "fit", "prepare", "prepare_fixed"]

MIN_HEIGHT_PX, MAX_HEIGHT_PX = 8, 8192
"""Range of the network input height."""


# An image eight times as wide as it is high still gets the full height; anything wider is scaled down to this, so
# that the input is bounded.
_MAX_ASPECT = 8


def as_bgr(image: object) -> UInt8[np.ndarray, "H W 3"]:
    """Convert an image to uint8[H, W, 3] in BGR order.

    Grayscale images get three equal channels; a fourth channel (transparency) is dropped. PIL images, and other objects
    with a ``convert`` method like theirs, are converted from RGB.

    Raises:
        SourceError: If it is not an image of 8 bits a channel.

    Example:
        >>> as_bgr(np.zeros((4, 6), np.uint8)).shape
        (4, 6, 3)
    """
    if image is None:
        raise SourceError(
            "None instead of an image", expected="an image", hint="cv2.imread returns None for a file it cannot read"
        )
    if not isinstance(image, np.ndarray):
        convert = getattr(image, "convert", None)
        if not callable(convert):
            raise SourceError(
                f"an image of type {type(image).__name__}",
                expected="a numpy array uint8[H, W, 3] in BGR order, a path or a PIL image",
            )
        return np.ascontiguousarray(np.asarray(convert("RGB"), np.uint8)[..., ::-1])
    shape = image.shape
    if image.dtype != np.uint8:
        hint = "scale it to 0..255 and convert it: (255 * image).astype(np.uint8)" if image.dtype.kind == "f" else None
        raise SourceError(f"an image of dtype {image.dtype}", expected="uint8, 0..255", hint=hint)
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise SourceError(f"an image of shape {shape}", expected="(H, W, 3) in BGR order, (H, W) or (H, W, 4)")
    if 0 in shape:
        raise SourceError(f"an empty image of shape {shape}", expected="at least 1x1 pixels")
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
    """Resize an image to the network's input height, keep its aspect ratio, pad right and bottom.

    Convention
        Pixel centers are at integers and a resize maps areas (see `featherpose.geometry`): source pixel x lands on
        ``(x + 0.5) * scale - 0.5``. Padding never moves the content.

    Args:
        image: uint8[H, W, 3], BGR.
        height: Input height in pixels; rounded up to ``size_multiple``.
        size_multiple: Width and height become multiples of it.
        pad_value: Gray value 0..255 of the padding.
        out: Buffer to write into instead of a new one, such as one image of a batch; its size must fit.

    Returns:
        The input as uint8[1, h, w, 3], BGR, and how the image was resized.

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


def prepare_fixed(
    image: UInt8[np.ndarray, "H W 3"], size: tuple[int, int], *, pad_value: int = 128, squashed: bool = False
) -> tuple[UInt8[np.ndarray, "1 h w 3"], Letterbox]:
    """Resize an image into a network input of one size, keep its aspect ratio, pad right and bottom.

    Args:
        image: uint8[H, W, 3], BGR.
        size: (width, height) of the input.
        pad_value: Gray value 0..255 of the padding.
        squashed: Whether the image fills the input instead, whatever its aspect ratio is.

    Example:
        >>> network_input, letterbox = prepare_fixed(np.zeros((720, 1280, 3), np.uint8), (640, 640))
        >>> network_input.shape, letterbox.content_size
        ((1, 640, 640, 3), (640, 360))
    """
    rows, columns = image.shape[:2]
    scale = min(size[0] / columns, size[1] / rows)
    content = size if squashed else (max(1, round(columns * scale)), max(1, round(rows * scale)))
    letterbox = Letterbox((columns, rows), content, (0, 0), size)
    out = np.full((1, size[1], size[0], 3), pad_value, np.uint8)
    out[0, : content[1], : content[0]] = cv2.resize(image, content, interpolation=cv2.INTER_LINEAR)
    return out, letterbox


def fit(source_size: tuple[int, int], *, height: int, size_multiple: int) -> Letterbox:
    """Return how `prepare` will resize an image of this (width, height), without doing it.

    Example:
        >>> fit((20_000, 100), height=256, size_multiple=8).network_size
        (2048, 16)
    """
    rounded = -(-height // size_multiple) * size_multiple
    return Letterbox.fit(source_size, height=rounded, multiple=size_multiple, max_width=_MAX_ASPECT * rounded)


def cut_crop(
    image: UInt8[np.ndarray, "H W 3"], matrix: Float64[np.ndarray, "2 3"], shape: CropShape
) -> UInt8[np.ndarray, "1 rows w 3"]:
    """Cut one crop out of an image: bilinear, black where the crop reaches out of the image.

    Args:
        image: uint8[H, W, 3].
        matrix: From crop pixels to image pixels, of `featherpose.crops.CropShape.matrices`.
        shape: Size of the crop.

    Returns:
        uint8[1, rows, width, 3], an input of a single-person network. Its rows under the crop, if the shape has some,
        are black: nothing is known of the person.

    Example:
        >>> shape = CropShape(width=32, height=64, margin=1)
        >>> matrix = shape.matrices(np.array([[8, 8, 24, 40]], np.float32))[0]
        >>> cut_crop(np.full((48, 48, 3), 7, np.uint8), matrix, shape)[0, 32, 16].tolist()
        [7, 7, 7]
    """
    return cut_crops(image, matrix[None], shape)


def cut_crops(
    image: UInt8[np.ndarray, "H W 3"], matrices: Float64[np.ndarray, "P 2 3"], shape: CropShape
) -> UInt8[np.ndarray, "P rows w 3"]:
    """Cut several crops out of an image, as `cut_crop` does.

    Example:
        >>> shape = CropShape(width=32, height=64, margin=1)
        >>> matrices = shape.matrices(np.array([[8, 8, 24, 40], [0, 0, 8, 8]], np.float32))
        >>> cut_crops(np.zeros((48, 48, 3), np.uint8), matrices, shape).shape
        (2, 64, 32, 3)
    """
    size = (shape.width, shape.height)
    inputs = np.empty((len(matrices), shape.rows, shape.width, 3), np.uint8)
    inputs[:, shape.height :] = 0
    for crop, matrix in zip(inputs[:, : shape.height], matrices, strict=True):
        cv2.warpAffine(image, matrix, size, dst=crop, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return inputs
