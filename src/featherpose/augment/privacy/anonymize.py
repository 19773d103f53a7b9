"""Hide heads: blurred, in coarse blocks, or under a plain shape; and a record of what was hidden."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TextIO, TypeVar, get_args

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from featherpose.augment.privacy.heads import HeadOptions, Heads, find_heads
from featherpose.errors import OptionError
from featherpose.geometry import box_overlaps
from featherpose.poses import Poses

__all__ = ["Anonymizer", "AuditFile", "HeadMemory", "HideMethod", "hidden_area", "hide_heads"]

HideMethod = Literal["blur", "pixelate", "box"]

_T = TypeVar("_T")
# Blocks along the height of a head: five keep light and dark areas, and nothing that distinguishes faces.
_BLOCKS = 5
_FILL = (48, 48, 48)
_HOLD_S = 0.35
_SAME_HEAD = 0.1  # intersection over union


def hide_heads(image: UInt8[np.ndarray, "H W 3"], heads: Heads, method: HideMethod = "blur") -> None:
    """Hide heads in an image, in place.

    Every method discards information: ``pixelate`` keeps the means of about 5 x 4 blocks, ``blur`` the same values
    interpolated, ``box`` nothing.

    Args:
        image: uint8[H, W, 3], BGR, writable.
        heads: Where they are.
        method: How.

    Raises:
        OptionError: If there is no such method.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        >>> one = Heads(np.array([[16, 16, 48, 48]], np.float32), np.ones(1, np.float32), ("person",))
        >>> hide_heads(image, one, "box")
        >>> image[32, 32].tolist()
        [48, 48, 48]
    """
    if method not in get_args(HideMethod):
        raise OptionError(f"heads hidden by {method!r}", expected=f"one of {', '.join(get_args(HideMethod))}")
    height, width = image.shape[:2]
    for left, top, right, bottom in heads.boxes.tolist():
        x0, y0 = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
        x1, y1 = min(width, int(np.ceil(right)) + 1), min(height, int(np.ceil(bottom)) + 1)
        if x0 >= x1 or y0 >= y1:
            continue
        part = image[y0:y1, x0:x1]
        inside = _disc(part.shape[:2], (left - x0, top - y0, right - x0, bottom - y0))
        if method == "box":
            part[inside] = _FILL
            continue
        rows = max(1, min(part.shape[0], round(_BLOCKS * part.shape[0] / max(bottom - top, 1))))
        columns = max(1, min(part.shape[1], round(_BLOCKS * part.shape[1] / max(bottom - top, 1))))
        small = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
        way = cv2.INTER_NEAREST if method == "pixelate" else cv2.INTER_CUBIC
        coarse = cv2.resize(small, (part.shape[1], part.shape[0]), interpolation=way)
        cv2.copyTo(coarse, inside.view(np.uint8), part)


def hidden_area(heads: Heads, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Return bool[H, W]: the pixels of an image of ``size`` (width, height) that `hide_heads` changes."""
    area = np.zeros((size[1], size[0]), bool)
    for left, top, right, bottom in heads.boxes.tolist():
        x0, y0 = max(0, int(np.floor(left))), max(0, int(np.floor(top)))
        x1, y1 = min(size[0], int(np.ceil(right)) + 1), min(size[1], int(np.ceil(bottom)) + 1)
        if x0 < x1 and y0 < y1:
            part = area[y0:y1, x0:x1]
            part |= _disc(part.shape, (left - x0, top - y0, right - x0, bottom - y0))
    return area


def _disc(shape: tuple[int, ...], box: tuple[float, float, float, float]) -> Bool[np.ndarray, "h w"]:
    left, top, right, bottom = box
    x = (np.arange(shape[1], dtype=np.float32) - (left + right) / 2) / max((right - left) / 2, 0.5)
    y = (np.arange(shape[0], dtype=np.float32) - (top + bottom) / 2) / max((bottom - top) / 2, 0.5)
    return np.asarray(np.square(x)[None, :] + np.square(y)[:, None] <= 1)


class HeadMemory:
    """Keeps heads for a short time after their last detection, so that a head that one frame misses stays hidden.

    Args:
        hold_s: How long.
    """

    def __init__(self, hold_s: float = _HOLD_S) -> None:
        self._hold_s = hold_s
        self._seen: deque[tuple[float, Heads]] = deque()

    def update(self, heads: Heads, timestamp_s: float) -> Heads:
        """Return the heads of the next frame and those of the last moment that it lacks."""
        if self._seen and timestamp_s < self._seen[-1][0]:
            self._seen.clear()  # the source began again
        while self._seen and timestamp_s - self._seen[0][0] > self._hold_s:
            self._seen.popleft()
        held = heads
        for _, before in reversed(self._seen):
            held = _with_missing(held, before)
        self._seen.append((timestamp_s, heads))
        return held


class Anonymizer:
    """Finds and hides the heads in the frames of one source.

    Args:
        method: How heads are hidden.
        options: Thresholds for accepting a head.
        video: Whether frames follow each other in time: heads are then kept for a short time.

    Raises:
        OptionError: If there is no such method.
    """

    def __init__(self, method: HideMethod = "blur", options: HeadOptions | None = None, *, video: bool = True) -> None:
        if method not in get_args(HideMethod):
            raise OptionError(f"heads hidden by {method!r}", expected=f"one of {', '.join(get_args(HideMethod))}")
        self.method: HideMethod = method
        self.options = options or HeadOptions()
        self._memory = HeadMemory() if video else None

    def find(self, poses: Poses, timestamp_s: float = 0.0) -> Heads:
        """Return the heads of the next frame."""
        heads = find_heads(poses, self.options)
        return heads if self._memory is None else self._memory.update(heads, timestamp_s)

    def hide(self, image: UInt8[np.ndarray, "H W 3"], poses: Poses, timestamp_s: float = 0.0) -> Heads:
        """Hide the heads of the next frame in place, and return them."""
        heads = self.find(poses, timestamp_s)
        self.cover(image, heads)
        return heads

    def cover(self, image: UInt8[np.ndarray, "H W 3"], heads: Heads) -> None:
        """Hide these heads in place."""
        hide_heads(image, heads, self.method)


@dataclass(slots=True)
class _Waiting(Generic[_T]):
    item: _T
    timestamp_s: float
    heads: Heads


class LookAhead(Generic[_T]):
    """Delays frames for a short time, so that a head is also hidden shortly before its first detection.

    Args:
        hold_s: How long a head is hidden before.
        most: Frames held back at once.
    """

    def __init__(self, hold_s: float = _HOLD_S, most: int = 12) -> None:
        self._hold_s, self._most = hold_s, most
        self._waiting: deque[_Waiting[_T]] = deque()

    def push(self, item: _T, timestamp_s: float, heads: Heads) -> Iterator[tuple[_T, Heads]]:
        """Take the next frame and give those that are ready, in order."""
        for earlier in self._waiting:
            if timestamp_s - earlier.timestamp_s <= self._hold_s:
                earlier.heads = _with_missing(earlier.heads, heads)
        self._waiting.append(_Waiting(item, timestamp_s, heads))
        while len(self._waiting) > self._most or timestamp_s - self._waiting[0].timestamp_s > self._hold_s:
            ready = self._waiting.popleft()
            yield ready.item, ready.heads

    def rest(self) -> Iterator[tuple[_T, Heads]]:
        """Give the frames that are left."""
        while self._waiting:
            ready = self._waiting.popleft()
            yield ready.item, ready.heads


def _with_missing(heads: Heads, others: Heads) -> Heads:
    """Heads, and those of another frame that none of them overlaps."""
    if not len(others):
        return heads
    fresh = np.ones(len(others), bool)
    if len(heads):
        fresh = box_overlaps(others.boxes[:, None], heads.boxes[None]).max(1) < _SAME_HEAD
    if not fresh.any():
        return heads
    return heads.joined(Heads(others.boxes[fresh], others.scores[fresh], ("held",) * int(fresh.sum())))


class AuditFile:
    """JSON Lines of what was hidden: a first line with the settings, then one line a frame, before it is written.

    Args:
        file: Where to.
        method: How heads are hidden.
        options: Thresholds for accepting a head.
        facts: Model, height and whatever else the reader should know.
    """

    def __init__(self, file: TextIO, method: HideMethod, options: HeadOptions, facts: dict[str, Any]) -> None:
        self._file = file
        self._write({
            "featherpose": "anonymize", "method": method, "min_keypoint_score": options.min_keypoint_score,
            "min_peak_score": options.min_peak_score, "margin": options.margin, **facts,
        })  # fmt: skip

    def note(self, source: str, frame: int, timestamp_s: float, heads: Heads) -> None:
        """Note the heads that are hidden in a frame."""
        boxes = [[round(value, 1) for value in box] for box in heads.boxes.tolist()]
        hidden = [
            {"box": box, "score": round(score, 4), "because": source_}
            for box, score, source_ in zip(boxes, heads.scores.tolist(), heads.sources, strict=True)
        ]
        self._write({"source": source, "frame": frame, "timestamp_s": round(timestamp_s, 6), "hidden": hidden})

    def failed(self, source: str, frame: int, reason: str) -> None:
        """Note that a frame was left out because it could not be processed."""
        self._write({"source": source, "frame": frame, "left_out": reason})

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


def audit_path(output: Path) -> Path:
    """Name of the audit file beside an output.

    Example:
        >>> str(audit_path(Path("clip.mp4")))
        'clip.audit.jsonl'
    """
    return output.with_name(f"{output.stem}.audit.jsonl")
