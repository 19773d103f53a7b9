"""Pose systems that people use instead, each from its published file, behind one call: image in, people out.

They run on OpenVINO, as featherpose does, with the preprocessing and decoding that their authors publish. Nothing of
them is bundled; files are given by path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import openvino as ov

__all__ = ["System", "detect_then_pose", "movenet_multipose", "yolo_pose"]

MEAN = np.array([0.485, 0.456, 0.406], np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], np.float32) * 255
Find = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class System:
    """A pose system.

    Attributes:
        name: For tables.
        license: Of the weights.
        find: uint8[H, W, 3] BGR to keypoints float[P, 17, 2] in image pixels (COCO order) and scores float[P].
    """

    name: str
    license: str
    find: Find


def compiled(path: Path, shape: list[int] | None = None) -> Any:
    """Compile a model for the shortest latency on all cores."""
    core = ov.Core()
    model = core.read_model(path)
    if shape is not None:
        model.reshape(shape)
    return core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})


def suppressed(boxes: np.ndarray, scores: np.ndarray, overlap: float, least: float, most: int) -> np.ndarray:
    """Return the indices that stay, best first."""
    sizes = np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])
    kept = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), least, overlap)
    return np.asarray(kept, int).reshape(-1)[:most]


def yolo_pose(path: Path, name: str = "YOLOv8n-pose INT8, 640") -> System:
    """YOLO-pose of ultralytics (AGPL-3.0): output [1, 56, N], box, score and 17 keypoints a candidate."""
    network = compiled(path)
    request = network.create_infer_request()
    side = network.inputs[0].shape[2]

    def find(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = (round(width * scale), round(height * scale))
        left, top = (side - size[0]) // 2, (side - size[1]) // 2
        canvas = np.full((side, side, 3), 114, np.uint8)
        canvas[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        blob = canvas[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255
        rows = request.infer([blob])[0][0].T
        rows = rows[rows[:, 4] > 0.001]
        if not len(rows):
            return np.empty((0, 17, 2)), np.empty(0)
        centers, half = rows[:, :2], rows[:, 2:4] / 2
        kept = suppressed(np.column_stack([centers - half, centers + half]), rows[:, 4], 0.7, 0.001, 100)
        points = rows[kept, 5:].reshape(-1, 17, 3)[..., :2]
        return (points - [left, top]) / scale, rows[kept, 4]

    return System(name, "AGPL-3.0", find)


def detect_then_pose(detector: Path, pose: Path, name: str, *, least: float = 0.3) -> System:
    """PicoDet pedestrian boxes, then PP-TinyPose on each (PaddleDetection, Apache-2.0), all crops in one batch."""
    boxes_of = compiled(detector).create_infer_request()
    shape = ov.Core().read_model(pose).inputs[0].partial_shape
    height, width = shape[2].get_length(), shape[3].get_length()

    @cache  # a network that takes any number of crops needs a fifth more time
    def poses_of(count: int) -> Any:
        return compiled(pose, [count, 3, height, width]).create_infer_request()

    def find(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = image.shape[:2]
        blob = (cv2.resize(image, (320, 320))[:, :, ::-1].astype(np.float32) - MEAN) / STD
        answer = boxes_of.infer([np.ascontiguousarray(blob.transpose(2, 0, 1)[None])])
        boxes, scores = answer[0][0], answer[1][0, 0]
        kept = suppressed(boxes, scores, 0.5, least, 100)
        if not len(kept):
            return np.empty((0, 17, 2)), np.empty(0)
        boxes = boxes[kept] * [columns / 320, rows / 320, columns / 320, rows / 320]
        crops, matrices = [], []
        for left, top, right, bottom in boxes:
            scale = max((right - left) / width, (bottom - top) / height, 1e-3) * 1.25
            matrix = np.array([[scale, 0, (left + right) / 2 - scale * (width - 1) / 2],
                               [0, scale, (top + bottom) / 2 - scale * (height - 1) / 2]])  # fmt: skip
            crop = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            crops.append(((crop[:, :, ::-1].astype(np.float32) - MEAN) / STD).transpose(2, 0, 1))
            matrices.append(matrix)
        maps = poses_of(len(crops)).infer([np.ascontiguousarray(crops)])[0]
        points, heights = zip(*(peaks(one) for one in maps), strict=True)
        placed = [p * 4 @ m[:, :2].T + m[:, 2] for p, m in zip(points, matrices, strict=True)]
        means = [h[h > 0.2].mean() if (h > 0.2).any() else 0.0 for h in heights]
        return np.array(placed), np.array(means) * scores[kept]

    return System(name, "Apache-2.0", find)


def peaks(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DARK decoding (Zhang et al. 2020) along each axis: the highest cell and the shift of a parabola of logs."""
    count, rows, columns = maps.shape
    best = maps.reshape(count, -1).argmax(axis=1)
    y, x = best // columns, best % columns
    logs = np.log(np.maximum(maps, 1e-3))
    points = np.column_stack([x, y]).astype(np.float64)
    index = np.arange(count)
    for axis, (place, length) in enumerate(((x, columns), (y, rows))):
        inner = (place > 0) & (place < length - 1)
        low, high = np.clip(place - 1, 0, length - 1), np.clip(place + 1, 0, length - 1)
        before, after = (logs[index, y, p] if axis == 0 else logs[index, p, x] for p in (low, high))
        bend = before - 2 * logs[index, y, x] + after
        shift = np.where(inner & (bend < -1e-6), (before - after) / (2 * np.minimum(bend, -1e-6)), 0)
        points[:, axis] += np.clip(shift, -0.5, 0.5)
    return points, maps[index, y, x]


def movenet_multipose(path: Path, side: int = 256) -> System:
    """MoveNet MultiPose Lightning (Google, Apache-2.0): at most six people."""
    requests: dict[tuple[int, int], Any] = {}

    def find(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height, width = image.shape[:2]
        scale = side / max(height, width)
        size = (-(-round(width * scale) // 32) * 32, -(-round(height * scale) // 32) * 32)
        if size not in requests:
            requests[size] = compiled(path, [1, size[1], size[0], 3]).create_infer_request()
        canvas = np.zeros((size[1], size[0], 3), np.uint8)
        inner = (round(width * scale), round(height * scale))
        canvas[: inner[1], : inner[0]] = cv2.resize(image, inner)[:, :, ::-1]
        rows = requests[size].infer([canvas[None]])[0][0]
        rows = rows[rows[:, 55] > 0.05]
        points = rows[:, :51].reshape(-1, 17, 3)[..., 1::-1] * [size[0], size[1]]
        return points / scale, rows[:, 55]

    return System(f"MoveNet MultiPose, {side}", "Apache-2.0", find)
