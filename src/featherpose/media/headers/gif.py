"""GIF: the number of complete images in a file."""

from __future__ import annotations

__all__ = ["gif_frame_count"]


def gif_frame_count(data: bytes, *, stop: int = 2) -> int:
    """Return the number of whole images in a GIF, counted up to ``stop``; one is a photograph, two are a video.

    Example:
        >>> gif_frame_count(b"GIF89a" + bytes(7) + b";")
        0
    """

    def skip_blocks(at: int) -> int:
        while data[at]:
            at += data[at] + 1
        return at + 1

    count = 0
    try:
        at = 13 + (3 * (2 << (data[10] & 7)) if data[10] & 0x80 else 0)
        while count < stop:
            if data[at] == 0x21:  # extension
                at = skip_blocks(at + 2)
            elif data[at] == 0x2C:  # image
                flags = data[at + 9]
                at = skip_blocks(at + 11 + (3 * (2 << (flags & 7)) if flags & 0x80 else 0))
                count += 1
            else:
                break
    except IndexError:
        pass
    return count
