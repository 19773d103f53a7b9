"""SVG files to pixels, in a process of their own.

A few lines of SVG make any renderer work for hours, fill the memory or exhaust its stack, and no check of the text
finds all of them. So a file that did not come with the package is drawn by a child process with limits of time and
memory. References to other files are refused before.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from featherpose.errors import SourceError

__all__ = ["SVG_SIDE_PX", "draw_svg"]

SVG_SIDE_PX = 768
"""Pixels of the longer side of a drawn SVG."""

_PROCESSOR_S, _WAIT_S = 10, 60
_MEMORY_BYTES = 2**31
_MAX_BYTES = 2**23
_FOREIGN = re.compile(r"""\bhref\s*=\s*["']\s*(?!#|data:)([^"']{0,80})""")
# Arguments: the two sides are tried, since only the renderer knows how the file is shaped.
_CHILD = """
import contextlib, sys
with contextlib.suppress(ImportError, ValueError, OSError):
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[2]), int(sys.argv[2])))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), int(sys.argv[3])))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
import resvg_py
text, side = sys.stdin.buffer.read().decode(), int(sys.argv[1])
try:
    def draw(**sides):
        return bytes(resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True, **sides))
    small = draw(width=64)  # a PNG, whose header has the size at byte 16
    width, height = (int.from_bytes(small[i : i + 4]) for i in (16, 20))
    sys.stdout.buffer.write(draw(width=side) if width >= height else draw(height=side))
except ValueError as error:
    sys.exit(" ".join(str(error).split()))
"""


def draw_svg(path: Path, data: bytes) -> np.ndarray | None:
    """Draw an SVG with a longer side of 768 pixels.

    Args:
        path: What messages call it.
        data: The whole file.

    Returns:
        uint8[H, W, 4], BGRA; None if the renderer made nothing of it.

    Raises:
        SourceError: If it is damaged, too large, names other files, or takes too much time or memory.
    """
    if len(data) > _MAX_BYTES:
        raise SourceError(f"{path} has {len(data):,} bytes", expected=f"an SVG of at most {_MAX_BYTES:,}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is a damaged SVG: it is not UTF-8 text", hint="save it uncompressed") from error
    if "<!DOCTYPE" in text and "<!ENTITY" in text:
        raise SourceError(f"{path} declares entities", expected="a plain SVG")
    if (foreign := _FOREIGN.search(text)) is not None and _loads(text):
        raise SourceError(
            f"{path} refers to {foreign[1]!r}", expected="an SVG that is whole in itself", hint="embed its images"
        )
    # Not from the current folder (-P), where anybody may have put a module.
    command = [sys.executable, "-P", "-c", _CHILD, str(SVG_SIDE_PX), str(_PROCESSOR_S), str(_MEMORY_BYTES)]
    try:
        done = subprocess.run(command, input=text.encode(), capture_output=True, timeout=_WAIT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise _too_costly(path) from error
    except OSError as error:
        raise SourceError(f"{path} cannot be drawn: {error.strerror or error}") from error
    if done.returncode == 1 and (reason := done.stderr.decode(errors="replace").strip()):
        raise SourceError(f"{path} is a damaged SVG: {' '.join(reason.split())[-200:]}")
    if done.returncode != 0:
        raise _too_costly(path)
    image = cv2.imdecode(np.frombuffer(done.stdout, np.uint8), cv2.IMREAD_UNCHANGED) if done.stdout else None
    return None if image is None else np.asarray(image)


def _loads(text: str) -> bool:
    """Return whether an SVG has elements that load what they refer to; links and titles do not."""
    return re.search(r"<\s*(?:\w+:)?(?:image|feImage|use)\b", text) is not None


def _too_costly(path: Path) -> SourceError:
    return SourceError(
        f"{path} takes more than {_PROCESSOR_S} s or {_MEMORY_BYTES >> 30} GB to draw, or breaks the renderer",
        hint="simplify it, or save it as a PNG with transparency",
    )
