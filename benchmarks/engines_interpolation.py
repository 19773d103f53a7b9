"""Which interpolation shrinks an image for the network: time on one core, and what it does to the AP.

The AP is of the released INT8 network on every fifth training photograph (nothing is chosen on coco-val).

    python benchmarks/engines_interpolation.py --model MODEL.xml --data ../shared/data/coco-train --json FILE
"""

from __future__ import annotations

import argparse
import contextlib
import io
from pathlib import Path
from time import thread_time
from typing import Any

import cv2
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from reports import publish, spread

from featherpose.preprocess import fit
from featherpose.runtime import EngineOptions, open_backend
from featherpose.skeleton import COCO_17
from featherpose.zoo.resolve import resolve_model

KINDS = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


def resize(image: np.ndarray, height: int, kind: int) -> tuple[np.ndarray, Any]:
    box = fit((image.shape[1], image.shape[0]), height=height, size_multiple=8)
    out = np.full((1, box.network_size[1], box.network_size[0], 3), 128, np.uint8)
    cv2.resize(image, box.content_size, dst=out[0, : box.content_size[1], : box.content_size[0]], interpolation=kind)
    return out, box


def time_of(size: tuple[int, int], kind: int) -> dict[str, float]:
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    times = []
    for _ in range(60):
        started = thread_time()
        resize(image, 256, kind)
        times.append(1e3 * (thread_time() - started))
    return spread(times, 3)


def ap_of(model: Path, data: Path, height: int, kind: int, limit: int) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "annotations.json"))
    ids = sorted(truth.getImgIds())[::5][:limit]
    resolved = resolve_model(model)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(precision="int8"))
    decode = resolved.spec.decoder()
    results = []
    for image_id in ids:
        image = cv2.imread(str(data / "images" / truth.imgs[image_id]["file_name"]))
        assert image is not None
        network_input, box = resize(np.asarray(image), height, kind)
        poses = decode(backend.infer(network_input)[0], box).to_skeleton(COCO_17)
        for keypoints, found, score in zip(poses.keypoints, poses.detected, poses.scores, strict=True):
            flat = np.concatenate((np.nan_to_num(keypoints), found[:, None]), axis=1).ravel().tolist()
            results.append({"image_id": image_id, "category_id": 1, "keypoints": flat, "score": float(score)})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.imgIds = ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {
        "images": len(ids),
        "AP": round(float(evaluation.stats[0]), 4),
        "AR": round(float(evaluation.stats[5]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=250)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sizes = ((640, 480), (1280, 720), (1920, 1080), (3840, 2160))
    report = {
        "benchmark": "engines_interpolation",
        "model": options.model.name,
        "resize_to_256_rows_processor_ms": {
            f"{width}x{height}": {name: time_of((width, height), kind) for name, kind in KINDS.items()}
            for width, height in sizes
        },
        "coco_train_int8": {
            f"height {height}": {
                name: ap_of(options.model, options.data, height, kind, options.limit) for name, kind in KINDS.items()
            }
            for height in (128, 256)
        },
    }
    publish(report, options.json)


if __name__ == "__main__":
    main()
