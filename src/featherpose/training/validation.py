"""Validation on held-out images, with the preprocessing of the runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from featherpose.crops import to_image
from featherpose.data.coco import AnnotatedImage
from featherpose.data.labeled_pixels import read_sample
from featherpose.errors import ConfigError
from featherpose.evaluation.box_ap import box_scores
from featherpose.evaluation.keypoints.coco_ap import CocoScores, average_precision, poses_as_results
from featherpose.evaluation.keypoints.dataset import dataset_of
from featherpose.geometry import Letterbox
from featherpose.methods.method import Decoder
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.poses import Poses
from featherpose.preprocess import cut_crop, prepare
from featherpose.training.boxes import person_box
from featherpose.training.networks import evaluating

__all__ = ["coco_scores", "pck", "predict_image", "predict_person", "validate"]


@torch.no_grad()
def predict_image(network: PoseNetwork, image: UInt8[np.ndarray, "H W 3"], decoder: Decoder, *, height: int) -> Poses:
    """Find everyone in an image, resized and padded as in front of the exported network.

    Args:
        network: In evaluation mode.
        image: BGR.
        decoder: Of the network's method, skeleton and outputs.
        height: Network input height in pixels.
    """
    inputs, box = prepare(image, height=height, size_multiple=network.size_multiple, pad_value=network.pad_value)
    return decoder(_outputs(network, inputs), box)


@torch.no_grad()
def predict_person(
    network: PoseNetwork, image: UInt8[np.ndarray, "H W 3"], person: Float32[np.ndarray, "K 2"], decoder: Decoder
) -> Poses:
    """Find one person in a crop around the box of their keypoints, cut as in front of the exported network.

    Args:
        network: In evaluation mode; it takes crops.
        image: BGR.
        person: Keypoints in image pixels, NaN where unknown.
        decoder: Of the network's method, skeleton and outputs.

    Raises:
        ConfigError: If the network takes whole images.
    """
    shape, size = network.crop, (image.shape[1], image.shape[0])
    if shape is None:
        raise ConfigError(f"a crop for {type(network).__name__}", expected="a network that takes crops")
    matrices = shape.matrices(person_box(person, size, network.skeleton)[None])
    crop = shape.width, shape.height
    found = decoder(_outputs(network, cut_crop(image, matrices[0], shape)), Letterbox(crop, crop, (0, 0), crop))
    return dataclasses.replace(found, keypoints=to_image(found.keypoints, matrices[: len(found)]), image_size=size)


def _outputs(network: PoseNetwork, inputs: UInt8[np.ndarray, "1 h w 3"]) -> dict[str, np.ndarray]:
    device = next(as_module(network).parameters()).device
    stage = network(torch.from_numpy(inputs).permute(0, 3, 1, 2).to(device).float())[-1]
    return {name: np.ascontiguousarray(v[0].float().cpu().numpy()) for name, v in stage._asdict().items()}


def coco_scores(poses: Sequence[Poses], images: Sequence[AnnotatedImage]) -> CocoScores:
    """Compute the COCO keypoint AP over the skeleton's own keypoints and sigmas.

    Args:
        poses: People found in each image.
        images: The annotated images, at least one.

    Raises:
        MissingExtraError: If pycocotools is not installed.
    """
    dataset = dataset_of(images, poses[0].skeleton)
    return average_precision(dataset, [r for i, found in enumerate(poses) for r in poses_as_results(found, i)])


def pck(poses: Sequence[Poses], images: Sequence[AnnotatedImage], *, part: float = 0.2) -> float:
    """Compute PCK: the share of labeled keypoints found within ``part`` of the person's torso.

    The torso is the distance from a shoulder to the opposite hip (Yang and Ramanan 2013); where those are not
    labeled, half the diagonal of the box around the keypoints. Each labeled person is compared with the found
    person that has most of its keypoints right; a missing keypoint counts as wrong.
    """
    right = total = 0
    for found, sample in zip(poses, images, strict=True):
        for person in sample.keypoints:
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
    network: PoseNetwork, images: Sequence[AnnotatedImage], *, height: int, metric: str, in_boxes: bool = False
) -> tuple[float, list[tuple[UInt8[np.ndarray, "H W 3"], Poses]]]:
    """Return the metric on a validation set, and the first eight images with the people found in them.

    Args:
        network: Any mode; decompress afterwards.
        images: Labeled images.
        height: Network input height in pixels.
        metric: ``ap``, ``pck`` or ``box_ap50``.
        in_boxes: Whether each sample is a person, seen in a crop around their box.
    """
    decoder = network.method.decoder(network.skeleton, network.outputs, network.options)
    poses: list[Poses] = []
    shown: list[tuple[UInt8[np.ndarray, "H W 3"], Poses]] = []
    with evaluating(as_module(network)):
        for sample in images:
            image = read_sample(sample)
            if not in_boxes:
                found = predict_image(network, image, decoder, height=height)
            else:
                found = predict_person(network, image, sample.keypoints[0], decoder)
            poses.append(found)
            if len(shown) < 8:
                shown.append((image, found))
    if metric == "box_ap50":
        return (max(0.0, box_scores(poses, images).AP50) if poses else 0.0), shown
    if metric == "pck":
        return pck(poses, images), shown
    return (max(0.0, coco_scores(poses, images).AP) if poses else 0.0), shown
