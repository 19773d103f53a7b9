"""Netpbm: PBM, PGM, PPM and PAM."""

from __future__ import annotations

from featherpose.media.headers.header import ImageHeader

__all__ = ["PNM_SPACE", "plain_pnm", "read_pam", "read_pnm"]

PNM_SPACE = (b" ", b"\t", b"\n", b"\r", b"#")
"""What may follow the magic number."""

_TEXT_HEADER_BYTES = 4096  # comments included
_PNM_DIGITS = 9


def read_pnm(data: bytes) -> ImageHeader:
    """Read the header of a PBM, PGM or PPM.

    Raises:
        ValueError: If there are no numbers within the first bytes.
    """
    numbers, _ = _numbers(data)
    maximum = numbers[2] if len(numbers) > 2 else 1
    if not 0 < maximum < 65536:
        return ImageHeader("PNM", (numbers[0], numbers[1]), damage=f"its largest value is {maximum}")
    deep = maximum > 255
    return ImageHeader(
        "PNM", (numbers[0], numbers[1]), depth=16 if deep else 8, maximum=maximum if len(numbers) > 2 else None,
        bytes_per_pixel=12 if deep else 6,
    )  # fmt: skip


def plain_pnm(data: bytes) -> bytes:
    """Return the same image with its numbers in one place: OpenCV does not read a comment right behind a number."""
    numbers, end = _numbers(data)
    if b"#" not in data[:end]:
        return data
    return data[:2] + b"\n" + b" ".join(str(number).encode() for number in numbers) + b"\n" + data[end + 1 :]


def _numbers(data: bytes) -> tuple[list[int], int]:
    """Return the numbers behind the magic one, past white space and comments, and where they end, in one pass.

    Raises:
        ValueError: If they are not within the first bytes.
    """
    head = data[2:_TEXT_HEADER_BYTES]
    count = 2 if data[1:2] in b"14" else 3
    numbers: list[int] = []
    at = 0
    while len(numbers) < count:
        if head[at : at + 1] == b"#":
            at = head.index(b"\n", at)
        elif head[at : at + 1].isspace():
            at += 1
        else:
            start = at
            while head[at : at + 1].isdigit():
                at += 1
            if not 0 < at - start <= _PNM_DIGITS:
                raise ValueError("not a number")
            numbers.append(int(head[start:at]))
    return numbers, at + 2


def read_pam(data: bytes) -> ImageHeader:
    """Read the header of a PAM.

    Raises:
        ValueError: If it does not end within the first bytes.
    """
    head, end, _ = data[:_TEXT_HEADER_BYTES].partition(b"\nENDHDR\n")
    fields = {}
    for line in head.split(b"\n")[1:]:
        name, _, value = line.strip().partition(b" ")
        if not name.startswith(b"#") and value.strip().isdigit() and len(value.strip()) <= _PNM_DIGITS:
            if name in fields:
                raise ValueError("a field twice")
            fields[name] = int(value)
    if not end:
        raise ValueError("no end of the header")
    maximum, depth = fields.get(b"MAXVAL", 0), fields.get(b"DEPTH", 0)
    damage = None if 0 < maximum < 65536 and 1 <= depth <= 4 else "its header is damaged"
    samples = 2 if maximum > 255 else 1
    return ImageHeader(
        "PAM", (fields.get(b"WIDTH", 0), fields.get(b"HEIGHT", 0)), damage=damage, alpha=depth == 4,
        depth=8 * samples, maximum=maximum, bytes_per_pixel=samples * (8 if depth == 4 else 6),
    )  # fmt: skip
