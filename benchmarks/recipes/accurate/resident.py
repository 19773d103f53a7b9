"""Photographs, labels and the teacher's maps, all resident in the memory of one device.

Decoding and augmenting images on the processor's cores would feed a few hundred views a second. 5,720 photographs and
their maps at four sizes take 16.6 GB in FP16, so they stay on the GPU, and a view of them is one call of grid_sample.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from featherpose.methods.mirror import mirror_order
from featherpose.methods.paf.method import PAF
from featherpose.skeleton import OPENPOSE_18

__all__ = ["FIELDS_X", "FIELDS_Y", "LEVELS", "MIRRORED_FIELDS", "MIRRORED_HEATMAPS", "STRIDE", "Resident", "load",
           "teacher_maps"]  # fmt: skip

LEVELS = (336, 464, 640, 848)
"""Sides of the square canvas in pixels at which maps of the teacher are kept, each about 1.38 times the last."""
SIZES = (240, *LEVELS)
"""Sides at which the teacher looks: a level is the mean of itself and its neighbors, 240 the one below the first."""
STRIDE = 8
"""Pixels of a cell of the teacher's maps, and of the fields of `FineOpenPose`."""
MOST_PEOPLE = 24
"""People of an image who are kept; the tensors have room for as many in each image."""
GRAY = 128
"""Around images: zero to the network."""

_KEYPOINTS, _FIELDS = OPENPOSE_18.num_keypoints, 2 * OPENPOSE_18.num_limbs
_OUTPUTS = {output.name: output for output in PAF.outputs(OPENPOSE_18)}
MIRRORED_HEATMAPS = mirror_order(_OUTPUTS["heatmaps"], _KEYPOINTS)
MIRRORED_FIELDS = mirror_order(_OUTPUTS["pafs"], _FIELDS)
FIELDS_X, FIELDS_Y = ([pair[axis] for pair in OPENPOSE_18.paf_channels] for axis in (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """A set of photographs on one device.

    Attributes:
        images: uint8, BGR, each in the upper left corner of a square gray canvas.
        sizes: (width, height) of each in pixels.
        people: x and y in canvas pixels and confidence in 0..1 of each keypoint; zeros behind the last person.
        counts: People of each image.
        training: Images that are not held out.
        maps: The teacher's heatmaps and fields at each of `LEVELS`, float[N, K + 2L, side / 8, side / 8].
    """

    images: UInt8[Tensor, "N 3 S S"]
    sizes: Float[Tensor, "N 2"]
    people: Float[Tensor, "N 24 K 3"]
    counts: Int[Tensor, "N"]
    training: Int[Tensor, "T"]
    maps: tuple[Tensor, ...] = ()

    @property
    def canvas(self) -> int:
        """Side of the canvas in pixels."""
        return self.images.shape[-1]


def load(path: Path, canvas: int, device: torch.device, limit: int | None = None) -> Resident:
    """Bring a file of `pack` to a device, without the teacher's maps.

    Args:
        path: The file.
        canvas: Side in pixels; no image of the file is larger.
        device: Where everything is kept.
        limit: Keep this many images, from the first; all if None.
    """
    with np.load(path) as file:
        packed = dict(file)
    blob, offsets = packed["blob"], packed["offsets"]
    number = min(len(offsets) - 1, limit or len(offsets))
    images = np.full((number, 3, canvas, canvas), GRAY, np.uint8)
    sizes = np.zeros((number, 2), np.float32)

    def decode(i: int) -> None:
        pixels = cv2.imdecode(blob[offsets[i] : offsets[i + 1]], cv2.IMREAD_COLOR)
        if pixels is None:
            raise SystemExit(f"image {i} of {path} cannot be read")
        height, width = pixels.shape[:2]
        images[i, :, :height, :width] = pixels.transpose(2, 0, 1)
        sizes[i] = width, height

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(number)))
    counts = np.zeros(number, np.int64)
    people = np.zeros((number, MOST_PEOPLE, _KEYPOINTS, 3), np.float32)
    for i, person in zip(packed["index"], packed["people"], strict=True):
        if i < number and counts[i] < MOST_PEOPLE:
            people[i, counts[i]] = person
            counts[i] += 1
    training = np.flatnonzero(~packed["held"][:number])

    def resident(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Resident(resident(images), resident(sizes), resident(people), resident(counts), resident(training))


@torch.no_grad()
def teacher_maps(images: UInt8[Tensor, "N 3 S S"], teacher: nn.Module, *, chunk: int = 32) -> tuple[Tensor, ...]:
    """Compute a teacher's maps of images at every level.

    Each level is the mean over its own and the neighboring sizes, of the image and its mirror image.

    Args:
        images: BGR on square canvases.
        teacher: A released network, or one with its outputs, whose type of numbers is that of the maps.
        chunk: Images that it sees at once.

    Returns:
        For each of `LEVELS`, heatmaps without background and fields in one tensor: float[N, K + 2L, h, w].
    """
    kind = next(teacher.parameters()).dtype
    channels = _KEYPOINTS + _FIELDS
    maps = tuple(
        torch.empty(len(images), channels, side // STRIDE, side // STRIDE, dtype=kind, device=images.device)
        for side in LEVELS
    )
    for first in range(0, len(images), chunk):
        part = images[first : first + chunk].to(kind)
        seen = [_both_ways(teacher, _resized(part, side, "bilinear")) for side in SIZES]
        for i, level in enumerate(maps):
            near = [_to_cells(each, level.shape[-1]) for each in seen[i : i + 3]]
            mean = torch.stack(near).mean(0)
            level[first : first + chunk] = mean.clamp(-1, 1).to(kind)
    return maps


def _both_ways(teacher: nn.Module, images: Tensor) -> Float[Tensor, "B C h w"]:
    """Compute the mean of the maps of images and of their mirror images, in FP32."""
    (heatmaps, fields), (mirrored_heatmaps, mirrored_fields) = (
        (maps.heatmaps[:, :_KEYPOINTS].float(), maps.pafs.float())
        for maps in (
            teacher(each.contiguous(memory_format=torch.channels_last))[-1] for each in (images, images.flip(3))
        )
    )
    heatmaps = (heatmaps + mirrored_heatmaps.flip(3)[:, MIRRORED_HEATMAPS]) / 2
    mirrored_fields = mirrored_fields.flip(3)[:, MIRRORED_FIELDS]
    mirrored_fields[:, FIELDS_X] *= -1
    return torch.cat((heatmaps, (fields + mirrored_fields) / 2), 1)


def _to_cells(maps: Tensor, cells: int) -> Tensor:
    if maps.shape[-1] == cells:
        return maps
    return _resized(maps, cells, "bicubic" if maps.shape[-1] < cells else "bilinear")


def _resized(images: Tensor, side: int, mode: str) -> Tensor:
    shrinks = images.shape[-1] > side
    return F.interpolate(images, (side, side), mode=mode, antialias=shrinks, align_corners=False)
