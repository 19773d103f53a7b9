"""One self-contained HTML file: video, angle curves linked to the frame, events, tables, limits.

It loads nothing: script, style, data and video are in the file, and its content security policy forbids the rest.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.files import write_bytes
from featherpose.motion.analysis import MotionReport
from featherpose.motion.files.results import report_to_dict
from featherpose.motion.report.rendering import Clip

__all__ = ["report_page", "write_report_page"]


def write_report_page(path: str | Path, report: MotionReport, *, title: str, clip: Clip | None = None) -> None:
    """Write the page.

    Args:
        path: Name ending in ``.html``.
        report: The analysis.
        title: Readable name of the video.
        clip: The video; without one the page draws skeletons on gray.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_bytes(Path(path), report_page(report, title=title, clip=clip).encode())


def report_page(report: MotionReport, *, title: str, clip: Clip | None = None) -> str:
    """Return the page as text."""
    folder = files("featherpose.motion.report") / "page"
    page, script, style = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.js", "report.css")
    )
    data = json.dumps(_data(report, title, clip), separators=(",", ":"), allow_nan=False)
    video = clip.data_url() if clip is not None else ""
    parts = {
        "TITLE": html.escape(title),
        "STYLE": style,
        "SCRIPT": script,
        # Inside a script element only its own end tag could end the data early.
        "DATA": data.replace("</", "<\\/"),
        "VIDEO": video,
    }
    for name, text in parts.items():
        page = page.replace(f"@@{name}@@", text)
    return page


def _data(report: MotionReport, title: str, clip: Clip | None) -> dict[str, Any]:
    sequence, angles = report.sequence, report.angles
    size = sequence.image_size
    if not size[0]:
        known = sequence.keypoints[np.isfinite(sequence.keypoints).all(-1)]
        size = tuple(int(v) + 20 for v in known.max(0)) if len(known) else (640, 480)  # type: ignore[assignment]
    return {
        "title": title,
        "report": report_to_dict(report),
        "times": _list(sequence.timestamps_s, 4),
        "frames": sequence.frames.tolist(),
        "size": list(size),
        "limbs": [
            list(limb) for i, limb in enumerate(sequence.skeleton.limbs) if i not in sequence.skeleton.loop_limbs
        ],
        "keypoints": [
            _list(sequence.keypoints[:, p].reshape(sequence.num_frames, -1), 1) for p in range(sequence.num_people)
        ],
        "angles": [{name: _list(angles[name][:, p], 1) for name in angles.names} for p in range(sequence.num_people)],
        "raw_angles": None
        if report.raw_angles is None
        else [
            {name: _list(report.raw_angles[name][:, p], 1) for name in angles.names} for p in range(sequence.num_people)
        ],
        "clip": None if clip is None else {"fps": clip.fps, "rows": clip.rows.tolist()},
    }


def _list(values: np.ndarray, digits: int) -> list[Any]:
    """Replace NaN by None, since JSON has no NaN."""
    rounded = np.round(values, digits)
    if np.isfinite(rounded).all():
        return list(rounded.tolist())
    plain = rounded.astype(object)
    plain[~np.isfinite(rounded)] = None
    return list(plain.tolist())
