"""The pixels that annotations refer to: an image as it is stored, or the region of a sample."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.data.coco import AnnotatedImage
from featherpose.errors import DatasetError, SourceError
from featherpose.media.decoding import check_size
from featherpose.media.headers import read_header
from featherpose.media.images import MAX_PIXELS

__all__ = ["read_image", "read_sample"]


def read_image(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """Read an image as BGR.

    Raises:
        DatasetError: If the file is missing, no image, or has more pixels than any image that is read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})", hint="run: featherpose data check") from error
    header = read_header(data) if data else None
    if header is not None and header.size is not None:
        try:
            check_size(str(path), header.size, MAX_PIXELS)
        except SourceError as error:
            raise DatasetError(str(error)) from error
    # Annotations of COCO refer to the stored pixels: an orientation tag is not applied.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    if image is None:
        raise DatasetError(f"{path} is not a readable image", hint="run: featherpose data check")
    return np.asarray(image, np.uint8)


def read_sample(sample: AnnotatedImage) -> UInt8[np.ndarray, "H W 3"]:
    """Read the image of a sample, or its region of the image, as BGR.

    Raises:
        DatasetError: If the file is missing, no image, or smaller than annotated.
    """
    image = read_image(sample.path)
    if sample.region is None:
        return image
    left, top, right, bottom = sample.region
    part = image[top:bottom, left:right]
    if not part.size:
        raise DatasetError(f"{sample.path} is smaller than annotated", hint="run: featherpose data check")
    return part
