"""Drawn characters and prepared people in files: an image, its mask and where its joints are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from jaxtyping import UInt8
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featherpose.errors import ConfigError, SourceError
from featherpose.media.images import read_file, read_image
from featherpose.media.opencv_logs import suppress_decoder_output
from featherpose.parsing import ParseError, parse_toml, read_document
from featherpose.transfer.puppet import Puppet

__all__ = ["load_character", "read_mask"]

_Place = Annotated[float, Field(ge=-1e5, le=1e5)]


class _CharacterRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    image: Annotated[str, Field(min_length=1, max_length=200)]
    mask: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    background: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    joints: dict[Annotated[str, Field(min_length=1, max_length=64)], tuple[_Place, _Place]]


def load_character(path: str | Path) -> Puppet:
    """Read a character file.

    TOML with ``image`` and optionally ``mask`` and ``background`` (names relative to its folder), and a table
    ``joints`` of name = [x, y] in pixels. Without a mask the alpha channel of the image counts,
    or the person is cut out.

    Raises:
        ConfigError: If the file says something impossible.
        SourceError: If an image cannot be read.
    """
    path = Path(path)
    try:
        record = _CharacterRecord.model_validate(parse_toml(read_document(path, 2**18)))
    except ParseError as error:
        raise ConfigError(f"the character {path} {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = " ".join(str(part)[:64] for part in first["loc"])
        raise ConfigError(f"the character {path} is wrong at {place}: {first['msg'][:200]}") from error
    image = read_image(path.parent / record.image)
    mask = read_mask(path.parent / record.mask) if record.mask is not None else _alpha(path.parent / record.image)
    background = None if record.background is None else read_image(path.parent / record.background)
    joints = {name: np.array(place, np.float64) for name, place in record.joints.items()}
    if "head" not in joints and "nose" in joints:
        joints["head"] = joints["nose"]
    return Puppet(image, joints, mask=mask, background=background)


def read_mask(path: str | Path) -> UInt8[np.ndarray, "H W"]:
    """Read a mask: the alpha channel of an image that has one, else its brightness; 255 is the person.

    Raises:
        SourceError: If it cannot be read.
    """
    image = read_image(path)  # first, because it holds the size to limits before anything is decoded
    alpha = _alpha(Path(path))
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8) if alpha is None else alpha


def _alpha(path: Path) -> UInt8[np.ndarray, "H W"] | None:
    """Return the alpha channel of an image that `read_image` has read, None if it has none or is opaque."""
    data = np.frombuffer(read_file(path), np.uint8)
    try:
        with suppress_decoder_output():
            image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise SourceError(f"{path} cannot be decoded", expected="a PNG, WebP or JPEG") from error
    if image is None:
        raise SourceError(f"{path} is no image that can be read", expected="a PNG, WebP or JPEG")
    if image.ndim != 3 or image.shape[2] != 4 or image.dtype != np.uint8 or bool((image[..., 3] == 255).all()):
        return None
    return np.ascontiguousarray(image[..., 3])
