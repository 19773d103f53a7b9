"""How good the network is now, on pictures that it does not learn from."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from featherpose.codecs.paf.decoder import PafDecoder
from featherpose.codecs.paf.maps import Maps
from featherpose.data.coco import LabelledPicture
from featherpose.data.dataset import read_picture
from featherpose.geometry import Letterbox
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.poses import Poses
from featherpose.training.networks import evaluating

__all__ = ["average_precision", "pck", "predict_picture", "validate"]

_log = logging.getLogger(__name__)


@torch.no_grad()
def predict_picture(
    network: PoseNetwork, image: UInt8[np.ndarray, "H W 3"], decoder: PafDecoder, *, height: int
) -> Poses:
    """Everyone in a picture, as the exported network will find them.

    Args:
        network: In evaluation mode.
        image: BGR.
        decoder: Of the network's skeleton.
        height: Network input height in pixels.
    """
    size = (image.shape[1], image.shape[0])
    box = Letterbox.fit(size, height=height, multiple=32)
    (width, height_px), content = box.network_size, box.content_size
    padded = np.full((height_px, width, 3), 128, np.uint8)
    method = cv2.INTER_AREA if content[1] < size[1] else cv2.INTER_LINEAR
    padded[: content[1], : content[0]] = cv2.resize(image, content, interpolation=method)
    device = next(as_module(network).parameters()).device
    maps = network(torch.from_numpy(padded).permute(2, 0, 1)[None].to(device).float())[-1]
    found = Maps(
        np.ascontiguousarray(maps.heatmaps[0].float().cpu().numpy()),
        np.ascontiguousarray(maps.pafs[0].float().cpu().numpy()),
        network.heatmap_stride,
        network.paf_stride,
    )
    return decoder(found, box)


def average_precision(poses: Sequence[Poses], pictures: Sequence[LabelledPicture]) -> float:
    """COCO keypoint AP over the skeleton's own keypoints and sigmas, by pycocotools.

    The area of a person is that of the box around its keypoints, for annotations of any skeleton have those.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not poses:
        return 0.0
    skeleton = poses[0].skeleton
    truth: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "person"}]}
    results = []
    for number, (found, picture) in enumerate(zip(poses, pictures, strict=True)):
        truth["images"].append({"id": number})
        for person in picture.keypoints:
            truth["annotations"].append(_truth_record(person, number, len(truth["annotations"]) + 1))
        for box in picture.ignore_boxes:
            left, top, right, bottom = (float(v) for v in box)
            truth["annotations"].append({
                "id": len(truth["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                "keypoints": [0] * (3 * skeleton.num_keypoints), "num_keypoints": 0,
            })  # fmt: skip
        for person, score in zip(found.keypoints, found.scores, strict=True):
            values = np.nan_to_num(np.column_stack([person, np.isfinite(person[:, 0])])).ravel()
            results.append({"image_id": number, "category_id": 1, "keypoints": values.tolist(), "score": float(score)})
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return max(0.0, float(evaluation.stats[0]))


def _truth_record(person: Float32[np.ndarray, "K 2"], image_id: int, record_id: int) -> dict[str, Any]:
    seen = np.isfinite(person[:, 0])
    corner, opposite = person[seen].min(axis=0), person[seen].max(axis=0)
    extent = np.maximum(opposite - corner, 1)
    values = np.nan_to_num(np.column_stack([person, 2 * seen])).ravel()
    return {
        "id": record_id, "image_id": image_id, "category_id": 1, "iscrowd": 0, "num_keypoints": int(seen.sum()),
        "keypoints": values.tolist(), "bbox": [float(v) for v in (*corner, *extent)],
        "area": float(extent.prod()) * 0.6,
    }  # fmt: skip


def pck(poses: Sequence[Poses], pictures: Sequence[LabelledPicture], *, part: float = 0.2) -> float:
    """PCK: of the labelled keypoints, how many are found within ``part`` of the person's torso.

    The torso is the distance from a shoulder to the opposite hip (Yang and Ramanan 2013); where those are not
    labelled, half the diagonal of the box around the keypoints. Each labelled person is compared with the found
    person that has most of its keypoints right; a missing keypoint counts as wrong.
    """
    right = total = 0
    for found, picture in zip(poses, pictures, strict=True):
        for person in picture.keypoints:
            seen = np.isfinite(person[:, 0])
            total += int(seen.sum())
            reach = part * _torso(person, found.skeleton.keypoints)
            best = 0
            for candidate in found.keypoints:
                with np.errstate(invalid="ignore"):
                    near = np.linalg.norm(candidate - person, axis=1) <= reach
                best = max(best, int((near & seen).sum()))
            right += best
    return right / total if total else 0.0


def _torso(person: Float32[np.ndarray, "K 2"], names: Sequence[str]) -> float:
    lengths = []
    for shoulder, hip in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip")):
        if shoulder in names and hip in names:
            length = float(np.linalg.norm(person[names.index(shoulder)] - person[names.index(hip)]))
            if np.isfinite(length):
                lengths.append(length)
    if lengths:
        return max(lengths)
    seen = person[np.isfinite(person[:, 0])]
    return float(np.linalg.norm(seen.max(axis=0) - seen.min(axis=0))) / 2 if len(seen) else 0.0


def validate(
    network: PoseNetwork, pictures: Sequence[LabelledPicture], *, height: int, metric: str
) -> tuple[float, list[tuple[UInt8[np.ndarray, "H W 3"], Poses]]]:
    """The metric on a validation set, and the first eight pictures with what was found in them.

    Args:
        network: Any mode; restored afterwards.
        pictures: Labelled pictures.
        height: Network input height in pixels.
        metric: ``ap`` or ``pck``.
    """
    decoder = PafDecoder(network.skeleton)
    poses: list[Poses] = []
    shown: list[tuple[UInt8[np.ndarray, "H W 3"], Poses]] = []
    with evaluating(as_module(network)):
        for picture in pictures:
            image = read_picture(picture.path)
            found = predict_picture(network, image, decoder, height=height)
            poses.append(found)
            if len(shown) < 8:
                shown.append((image, found))
    value = average_precision(poses, pictures) if metric == "ap" else pck(poses, pictures)
    return value, shown
