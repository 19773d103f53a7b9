"""A test run of a minute or two: overfit a few drawn scenes and find the people in them again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.errors import OutputError
from featherpose.skeleton import COCO_17, Skeleton
from featherpose.training.config import DataConfig, NetworkConfig, OptimizerConfig, RunConfig, TrainConfig
from featherpose.training.loop import TrainResult, train

__all__ = ["SMOKE_SKELETON", "draw_scenes", "smoke_config", "smoke_run"]

# Few keypoints and thick limbs: a network must learn directions and peaks in a minute, not anatomy.
SMOKE_SKELETON = Skeleton.create(
    "smoke",
    ["neck", "left_hip", "right_hip", "left_shoulder", "right_shoulder"],
    [("neck", "left_shoulder"), ("neck", "right_shoulder"), ("neck", "left_hip"), ("neck", "right_hip")],
)

_SIDE_PX = 128


def draw_scenes(folder: Path, *, count: int = 4, seed: int = 0) -> Path:
    """Draw images of one or two stick figures and their annotations in COCO format.

    Returns:
        The annotation file; images lie in ``images`` beside it.

    Raises:
        OutputError: If the folder cannot be written.
    """
    rng = np.random.default_rng(seed)
    names = COCO_17.keypoints
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for number in range(count):
            scene = np.asarray(rng.integers(90, 130, (_SIDE_PX, _SIDE_PX, 3)), np.uint8)
            scene = np.asarray(cv2.GaussianBlur(scene, (0, 0), 2), np.uint8)
            for position in range(1 + number % 2):
                neck = np.array([32 + 60 * position, 34]) + rng.uniform(-6, 6, 2)
                shape = np.array([[15, 7], [-15, 7], [10, 55], [-10, 55]]) + rng.uniform(-3, 3, (4, 2))
                left_shoulder, right_shoulder, left_hip, right_hip = neck + shape
                for end, color in (
                    (left_shoulder, (40, 40, 230)), (right_shoulder, (40, 230, 40)),
                    (left_hip, (230, 40, 40)), (right_hip, (40, 230, 230)),
                ):  # fmt: skip
                    ends = [(round(float(p[0])), round(float(p[1]))) for p in (neck, end)]
                    cv2.line(scene, ends[0], ends[1], color, 6, cv2.LINE_AA)
                values = np.zeros((len(names), 3))
                for name, point in (
                    ("left_shoulder", left_shoulder), ("right_shoulder", right_shoulder),
                    ("left_hip", left_hip), ("right_hip", right_hip),
                ):  # fmt: skip
                    values[names.index(name)] = [*point, 2]
                corner = np.min([left_shoulder, right_shoulder, left_hip, right_hip], axis=0)
                extent = np.ptp([left_shoulder, right_shoulder, left_hip, right_hip], axis=0)
                annotations.append({
                    "id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                    "keypoints": values.ravel().tolist(), "num_keypoints": 4,
                    "bbox": [*corner.tolist(), *extent.tolist()], "area": 0.6 * float(extent.prod()),
                })  # fmt: skip
            cv2.imwrite(str(folder / "images" / f"{number}.png"), scene)
            images.append({"id": number, "file_name": f"{number}.png", "width": _SIDE_PX, "height": _SIDE_PX})
        category = {"id": 1, "name": "person", "keypoints": list(names)}
        text = json.dumps({"images": images, "annotations": annotations, "categories": [category]})
        path = folder / "annotations.json"
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror})") from error
    return path


def smoke_config(annotations: Path, skeleton_file: Path, *, steps: int = 150) -> TrainConfig:
    """Return the configuration of a run that overfits the scenes: the published network, almost no variation."""
    source = ImageFolder(images=annotations.parent / "images", annotations=annotations)
    still = AugmentOptions(
        size_px=_SIDE_PX, base_px=_SIDE_PX, min_scale=1.0, max_scale=1.0, rotation_deg=0.0, flip=0.0,
        person_centered=0.0, photometric=0.0, blur=0.0, gray=0.0,
    )  # fmt: skip
    return TrainConfig(
        data=DataConfig(sources=(source,), skeleton=str(skeleton_file), validation=source, augment=still),
        network=NetworkConfig(arch="lightweight-openpose", refinements=0),
        optimizer=OptimizerConfig(kind="adamw", lr=1e-3, schedule="cosine", warmup=10, grad_clip=100.0),
        run=RunConfig(
            steps=steps,
            batch_size=4,
            log_every=10,
            save_every=steps,
            validation_height=_SIDE_PX,
            validation_metric="pck",
        ),
    )


def smoke_run(folder: Path, *, steps: int = 150, on_step: Callable[[int, float], None] | None = None) -> TrainResult:
    """Train for a minute or two and measure on the same scenes; a metric near 1 means that training works.

    Args:
        folder: Receives scenes, weights, log and images.
        steps: Batches of four.
        on_step: Called with (step, loss).
    """
    annotations = draw_scenes(folder / "scenes")
    skeleton_file = folder / "skeleton.json"
    skeleton_file.write_text(json.dumps(SMOKE_SKELETON.to_dict()), encoding="utf-8")
    return train(smoke_config(annotations, skeleton_file, steps=steps), folder, on_step=on_step)
