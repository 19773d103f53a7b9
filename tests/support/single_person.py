"""Keypoints of one person in a video by a detector and a top-down network of the shared folder.

A stand-in for whatever network a user brings: `featherpose.motion` takes its keypoints as arrays. The bundled network
does not see the people of the generated exercise videos, whose muscles are painted on, well enough to count them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from featherpose.motion.sequence import PoseSequence
from featherpose.skeleton import COCO_17

__all__ = ["person_in"]

_MEAN, _STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
_CROP = (192, 256)
_MIRRORED = list(COCO_17.flip_order)


def person_in(video: Path, models: Path) -> PoseSequence:
    """The surest person of every frame, in COCO order."""
    import openvino as ov

    core = ov.Core()
    # Counts must not depend on whether the processor has bfloat16.
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    detector = core.compile_model(_one(models / "picodet-s-320", ""), "CPU")
    network = core.compile_model(_one(models / "pp-tinypose", "256"), "CPU")
    capture = cv2.VideoCapture(str(video))
    fps = capture.get(cv2.CAP_PROP_FPS)
    points, scores = [], []
    while (read := capture.read())[0]:
        image = np.asarray(read[1])
        box = _detect(detector, image)
        if box is None:
            points.append(np.full((17, 2), np.nan))
            scores.append(np.zeros(17))
            continue
        found, sure = _keypoints(network, image, box)
        points.append(found)
        scores.append(sure)
    capture.release()
    size = (image.shape[1], image.shape[0])
    times = np.arange(len(points)) / fps
    return PoseSequence.from_arrays(np.array(points), times, COCO_17, scores=np.array(scores), image_size=size)


def _one(folder: Path, part: str) -> Path:
    return next(path for path in sorted(folder.glob("*.xml")) if part in path.name)


def _prepared(image: np.ndarray) -> np.ndarray:
    scaled: np.ndarray = (image[..., ::-1].astype(np.float32) / 255 - _MEAN) / _STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _detect(detector: Any, image: np.ndarray) -> np.ndarray | None:
    outputs = [np.asarray(value) for value in detector(_prepared(np.asarray(cv2.resize(image, (320, 320))))).values()]
    boxes = next(o for o in outputs if o.shape[-1] == 4)[0]
    scores = next(o for o in outputs if o.shape[-1] != 4).reshape(-1)
    best = int(scores.argmax())
    height, width = image.shape[:2]
    return boxes[best] * np.array([width, height] * 2) / 320 if scores[best] >= 0.4 else None


def _keypoints(network: Any, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    left, top, right, bottom = box
    scale = min(_CROP[0] / (1.25 * (right - left)), _CROP[1] / (1.25 * (bottom - top)))
    center = np.array([left + right, top + bottom]) / 2
    shift = np.array(_CROP) / 2 - scale * center
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    crop = np.asarray(cv2.warpAffine(image, matrix, _CROP))
    maps, mirrored = (
        np.asarray(next(iter(network(_prepared(np.ascontiguousarray(c))).values())))[0] for c in (crop, crop[:, ::-1])
    )
    maps = (maps + mirrored[_MIRRORED][:, :, ::-1]) / 2
    k, height, width = maps.shape
    flat = maps.reshape(k, -1).argmax(1)
    rows, columns = np.divmod(flat, width)
    # The top of a parabola through the logarithms, along each axis.
    logs = np.pad(np.log(np.maximum(maps, 1e-6)), ((0, 0), (1, 1), (1, 1)), mode="edge")
    i, r, c = np.arange(k), rows + 1, columns + 1
    dx = _vertex(logs[i, r, c - 1], logs[i, r, c], logs[i, r, c + 1])
    dy = _vertex(logs[i, r - 1, c], logs[i, r, c], logs[i, r + 1, c])
    inside = (columns > 0) & (columns < width - 1) & (rows > 0) & (rows < height - 1)
    cells = np.stack([columns + np.where(inside, dx, 0), rows + np.where(inside, dy, 0)], -1)
    in_crop = (cells + 0.5) * np.array(_CROP) / (width, height) - 0.5
    return (in_crop - shift) / scale, maps.reshape(k, -1).max(1)


def _vertex(before: np.ndarray, top: np.ndarray, after: np.ndarray) -> np.ndarray:
    bend = before - 2 * top + after
    safe = np.where(bend < 0, bend, -1.0)
    return np.where(bend < 0, np.clip((before - after) / (2 * safe), -0.5, 0.5), 0.0)
