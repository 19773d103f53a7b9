"""A person cut out of a picture: which pixels are the person, which limb each belongs to, and what lies behind."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float64, Int32, UInt8

from featherpose.errors import SourceError

__all__ = ["LIMB_CHAINS", "cut_out", "fill_background", "label_limbs", "layer_bones"]

LIMB_CHAINS: dict[str, tuple[str, str, str]] = {
    f"{side}_{limb}": (f"{side}_{a}", f"{side}_{b}", f"{side}_{c}")
    for side in ("left", "right")
    for limb, (a, b, c) in {"arm": ("shoulder", "elbow", "wrist"), "leg": ("hip", "knee", "ankle")}.items()
}
"""Layer -> the joints of its two bones, from the trunk outwards."""

_SIDE_PX = 480  # GrabCut works at this height
_ROUNDS = 4
# Bone -> half its width for a trunk of 1, and how far it reaches beyond its last joint.
_HALF_WIDTH = {"arm": (0.14, 0.11), "leg": (0.22, 0.15)}
_BEYOND = {"arm": 0.35, "leg": 0.18}


def layer_bones(
    joints: dict[str, Float64[np.ndarray, "2"]], unit: float
) -> dict[str, list[tuple[np.ndarray, np.ndarray, float]]]:
    """Return each layer's bones as capsules: (from, to, half width in pixels).

    Args:
        joints: Name -> (x, y) in pixels, with ``neck``, ``mid_hip`` and ``head``.
        unit: Length of the trunk in pixels.
    """
    layers: dict[str, list[tuple[np.ndarray, np.ndarray, float]]] = {}
    corners = [joints[n] for n in ("left_shoulder", "right_shoulder", "left_hip", "right_hip") if n in joints]
    middle = np.mean(corners, 0) if corners else joints["neck"]
    trunk = [(joints["neck"], joints["mid_hip"], 0.28 * unit)]
    trunk += [(corner * 0.75 + middle * 0.25, middle, 0.16 * unit) for corner in corners]
    for side in ("left", "right"):  # the flanks: what lies beside a hanging arm is no arm
        if f"{side}_shoulder" in joints and f"{side}_hip" in joints:
            ends = [0.8 * joints[f"{side}_{part}"] + 0.2 * middle for part in ("shoulder", "hip")]
            trunk.append((ends[0], ends[1], 0.13 * unit))
    layers["trunk"] = trunk
    if "head" in joints:
        layers["head"] = [(joints["neck"] * 0.45 + joints["head"] * 0.55, joints["head"], 0.26 * unit)]
    for layer, names in LIMB_CHAINS.items():
        if all(name in joints for name in names):
            a, b, c = (joints[name] for name in names)
            limb = layer.split("_")[1]
            upper, lower = _HALF_WIDTH[limb]
            beyond = c + (c - b) / max(float(np.hypot(*(c - b))), 1e-6) * _BEYOND[limb] * unit
            layers[layer] = [(a, b, upper * unit), (b, beyond, lower * unit)]
    return layers


def cut_out(
    image: UInt8[np.ndarray, "H W 3"], joints: dict[str, Float64[np.ndarray, "2"]], unit: float
) -> UInt8[np.ndarray, "H W"]:
    """Cut a person out by GrabCut (Rother et al. 2004, by OpenCV), which the skeleton tells where to begin.

    Args:
        image: uint8[H, W, 3], BGR.
        joints: Name -> (x, y) in pixels, with ``neck``, ``mid_hip`` and ``head``.
        unit: Length of the trunk in pixels.

    Returns:
        uint8[H, W], 255 on the person, soft at the edge.

    Raises:
        SourceError: If nothing can be told from the background.
    """
    scale = min(1.0, _SIDE_PX / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    seeds = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    for value, widen in ((cv2.GC_PR_BGD, 2.1), (cv2.GC_PR_FGD, 1.05), (cv2.GC_FGD, 0.4)):
        for bones in layer_bones(joints, unit).values():
            for start, end, half in bones:
                ends = np.rint(np.array([start, end]) * scale * 16).astype(np.int32)
                cv2.polylines(seeds, [ends], False, (value,), max(1, round(2 * half * widen * scale)), cv2.LINE_8, 4)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    try:
        cv2.grabCut(small, seeds, (0, 0, 1, 1), models[0], models[1], _ROUNDS, cv2.GC_INIT_WITH_MASK)
    except cv2.error as error:
        raise SourceError("the person cannot be cut out of the picture", hint="give a mask by --mask") from error
    person = ((seeds == cv2.GC_FGD) | (seeds == cv2.GC_PR_FGD)).astype(np.uint8)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(person)
    if count < 2:
        raise SourceError("the person cannot be told from the background", hint="give a mask by --mask")
    least = 0.04 * stats[1:, cv2.CC_STAT_AREA].max()
    kept = np.isin(labels, 1 + np.flatnonzero(stats[1:, cv2.CC_STAT_AREA] >= least)) & (labels > 0)
    whole = cv2.resize(kept.astype(np.float32), (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    soft = cv2.GaussianBlur(whole, (0, 0), max(0.6, 0.6 / scale))
    return np.asarray(np.clip((soft - 0.3) / 0.4 * 255, 0, 255), np.uint8)


def fill_background(image: UInt8[np.ndarray, "H W 3"], mask: UInt8[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Fill what a person covers from around it (Telea 2004, by OpenCV, at a quarter of the size, then smoothed)."""
    reach = max(2, round(0.006 * image.shape[0]))
    wide = cv2.dilate((mask > 8).astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8))
    scale = min(1.0, 200 / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    hole = cv2.resize(wide, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_NEAREST)
    hole = cv2.dilate(hole, np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(small, hole, 4, cv2.INPAINT_TELEA)
    back = cv2.resize(filled, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_CUBIC)
    share = cv2.GaussianBlur(wide.astype(np.float32), (0, 0), max(0.5, reach / 2))
    share = np.maximum(share, mask.astype(np.float32) / 255)[..., None]
    return np.asarray(np.rint(back * share + image * (1 - share)).clip(0, 255), np.uint8)


def label_limbs(
    mask: UInt8[np.ndarray, "H W"], joints: dict[str, Float64[np.ndarray, "2"]], unit: float
) -> tuple[Int32[np.ndarray, "H W"], list[str]]:
    """Say which layer each pixel of a person belongs to: that of the nearest bone, measured in its half widths.

    Returns:
        int32[H, W], the layer's number, -1 beside the person; and the layers' names.
    """
    layers = layer_bones(joints, unit)
    rows, columns = np.nonzero(mask > 0)
    points = np.stack((columns, rows), -1).astype(np.float64)
    distances = []
    for bones in layers.values():
        nearest = np.full(len(points), np.inf)
        for start, end, half in bones:
            along = end - start
            share = np.clip((points - start) @ along / max(float(along @ along), 1e-9), 0, 1)
            nearest = np.minimum(nearest, np.hypot(*(points - start - share[:, None] * along).T) / half)
        distances.append(nearest)
    labels = np.full(mask.shape, -1, np.int32)
    labels[rows, columns] = np.argmin(distances, 0)
    return labels, list(layers)
