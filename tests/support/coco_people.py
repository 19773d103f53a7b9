"""A small COCO keypoint data set of drawn numbers, for conversions between formats."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

__all__ = ["write_coco"]


def write_coco(folder: Path, keypoints: tuple[str, ...], seed: int = 0) -> Path:
    """Three images of different shapes, in folders; five people, one without keypoints, some keypoints hidden."""
    rng = np.random.default_rng(seed)
    names = ("a.jpg", "day 2/ü.png", "day 2/c.jpg")
    images: list[dict[str, object]] = []
    people: list[dict[str, object]] = []
    for number, name in enumerate(names, 1):
        width, height = 64 + 40 * number, 90
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ok, data = cv2.imencode(path.suffix, rng.integers(0, 255, (height, width, 3), np.uint8))
        assert ok
        path.write_bytes(data.tobytes())
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for _ in range(2):
            rows = np.column_stack(
                (rng.uniform(8, 60, (len(keypoints), 2)).round(2), rng.integers(0, 3, len(keypoints)))
            )
            rows[0, 2] = 2
            rows[rows[:, 2] == 0] = 0
            if len(people) == 3:
                rows[:] = 0
            seen = rows[rows[:, 2] > 0, :2] if rows.any() else np.array([[9, 9], [40, 50.0]])
            low, high = seen.min(axis=0), seen.max(axis=0)
            people.append({
                "id": len(people) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [*low.tolist(), *np.maximum(high - low, 1).tolist()], "area": 100,
                "num_keypoints": int((rows[:, 2] > 0).sum()), "keypoints": rows.ravel().tolist(),
            })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(keypoints)}
    path = folder / "annotations.json"
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": [category]}))
    return folder
