"""Write YOLO-pose data sets: ``data.yaml`` and one text file an image, beside its image."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np
import yaml

from featherpose.data.exchange.annotations import Annotations, LabeledImage
from featherpose.skeleton import Skeleton

__all__ = ["label_name", "yolo_data", "yolo_labels"]


def yolo_data(skeleton: Skeleton) -> str:
    """Return ``data.yaml``, for one part that serves for training and validation until it is divided.

    Example:
        >>> print(yolo_data(Skeleton.create("arm", ["left_wrist", "right_wrist"], [])).splitlines()[-1])
        flip_idx: [1, 0]
    """
    data = {
        "train": "images", "val": "images", "names": {0: "person"}, "kpt_shape": [skeleton.num_keypoints, 3],
        "kpt_names": {0: list(skeleton.keypoints)}, "flip_idx": list(skeleton.flip_order),
    }  # fmt: skip
    text: str = yaml.safe_dump(data, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100)
    return text


def label_name(file_name: str) -> str:
    """Return the name of an image's label file, below ``labels``.

    Example:
        >>> label_name("street/a.jpg")
        'street/a.txt'
    """
    return PurePosixPath(file_name).with_suffix(".txt").as_posix()


def yolo_labels(image: LabeledImage, annotations: Annotations) -> str:
    """Return the label file: class, box and keypoints of each person, in parts of the image's width and height.

    Boxes and keypoints are brought inside the image, outside which the format has no numbers. Crowds are left out.
    """
    width, height = image.size
    lines = []
    for person in image.people:
        if person.is_crowd:
            continue
        left, top, across, down = person.outline
        corners = np.clip([left / width, top / height, (left + across) / width, (top + down) / height], 0, 1)
        box = [*(corners[:2] + corners[2:]) / 2, *(corners[2:] - corners[:2])]
        points = person.keypoints / (width, height, 1)
        points[:, :2] = np.clip(points[:, :2], 0, 1)
        numbers = [f"{value:.6f}" for value in box]
        for x, y, visibility in points.tolist():
            numbers += [f"{x:.6f}", f"{y:.6f}", str(int(visibility))]
        lines.append(" ".join(["0", *numbers]) + "\n")
    return "".join(lines)
