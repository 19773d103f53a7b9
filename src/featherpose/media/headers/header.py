"""The header of an image file as one value."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CUT_OFF", "ImageHeader"]

CUT_OFF = "it is cut off"
"""The damage of a file whose end is missing."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """The header of an image file.

    Attributes:
        format: Name for people.
        size: (width, height) in pixels as stored, before any rotation; None where it cannot be found.
        alpha: True if the pixels carry transparency.
        damage: What is wrong with the file as a whole, or None.
        depth: Bits of a stored sample.
        maximum: The largest value that a sample may have, where the file states one.
        bytes_per_pixel: What decoding allocates at its peak for each pixel, the result included, as measured.
        orientation: EXIF orientation, 1 to 8, that the decoder leaves to its caller; 1 is upright.
        scans: How often the file describes all its pixels; a progressive JPEG does so about ten times.
        frames: Images in the file: frames of an animation, pages of a TIFF; counted up to a limit.
    """

    format: str
    size: tuple[int, int] | None
    alpha: bool = False
    damage: str | None = None
    depth: int = 8
    maximum: int | None = None
    bytes_per_pixel: float = 6.0
    orientation: int = 1
    scans: int = 1
    frames: int = 1
