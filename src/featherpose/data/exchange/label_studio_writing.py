"""Write pre-annotations for Label Studio: tasks with predictions, and the labeling interface that shows them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from featherpose.data.exchange.annotations import Annotations, LabeledImage, LabeledPerson
from featherpose.skeleton import Skeleton

__all__ = ["LOCAL_FILES", "label_studio_config", "label_studio_tasks"]

LOCAL_FILES = "/data/local-files/?d="
"""Under which Label Studio serves files below its ``LOCAL_FILES_DOCUMENT_ROOT``."""


def label_studio_tasks(annotations: Annotations, prefix: str = LOCAL_FILES) -> str:
    """Return the tasks as JSON: one an image, with one prediction that a person corrects.

    Args:
        annotations: What is predicted.
        prefix: Put in front of the names of images to make their addresses.
    """
    tasks = [
        {
            "data": {"image": prefix + quote(image.file_name)},
            "predictions": [
                {
                    "model_version": "featherpose",
                    "score": _mean([p.score for p in image.people if p.score is not None]),
                    "result": [
                        region
                        for number, person in enumerate(image.people)
                        for region in _regions(f"person{number}", person, image, annotations.skeleton)
                    ],
                }
            ],
        }
        for image in annotations.images
    ]
    return json.dumps(tasks, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _mean(scores: list[float]) -> float | None:
    return round(float(np.mean(scores)), 4) if scores else None


def _regions(key: str, person: LabeledPerson, image: LabeledImage, skeleton: Skeleton) -> list[dict[str, Any]]:
    width, height = image.size
    left, top, across, down = person.outline
    frame = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": "image"}
    box = {
        "x": _percent(left, width), "y": _percent(top, height), "width": _percent(across, width),
        "height": _percent(down, height), "rotation": 0, "rectanglelabels": ["person"],
    }  # fmt: skip
    regions: list[dict[str, Any]] = [
        {"id": key, "type": "rectanglelabels", "from_name": "people", "value": box, **frame}
    ]
    for name, (x, y, visibility) in zip(skeleton.keypoints, person.keypoints.tolist(), strict=True):
        if visibility > 0:
            point = {"x": _percent(x, width), "y": _percent(y, height), "width": 0.4, "keypointlabels": [name]}
            region = {"id": f"{key}-{name}", "parentID": key, "type": "keypointlabels", "from_name": "keypoints"}
            meta = {"meta": {"text": ["hidden"]}} if visibility == 1 else {}
            regions.append({**region, "value": point, **frame, **meta})
    return regions


def _percent(pixels: float, of: int) -> float:
    return round(100 * pixels / of, 6)


def label_studio_config(skeleton: Skeleton) -> str:
    """Return the labeling interface (XML) with the keypoints and a box around each person.

    ``model_index`` states the order of the keypoints, without which Label Studio's own export to COCO and YOLO fails.

    Example:
        >>> "left_elbow" in label_studio_config(Skeleton.create("arm", ["left_elbow"], []))
        True
    """
    points = "\n".join(
        f'    <Label value={quoteattr(name)} model_index="{k}"/>' for k, name in enumerate(skeleton.keypoints)
    )
    return (
        '<View>\n  <Image name="image" value="$image" zoom="true"/>\n'
        '  <RectangleLabels name="people" toName="image">\n    <Label value="person"/>\n  </RectangleLabels>\n'
        f'  <KeyPointLabels name="keypoints" toName="image">\n{points}\n  </KeyPointLabels>\n</View>\n'
    )
