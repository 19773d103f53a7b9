"""Views: random rotated, scaled and mirrored cuts of resident photographs, with targets of the teacher and of labels.

Everything is computed on the device of the photographs. Pixels and cells have their centers at whole numbers: cell j
of a map of stride s lies at pixel s j + (s - 1) / 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from colors import augment_colors
from jaxtyping import Float, Int
from network import SUB_PIXELS
from resident import FIELDS_X, FIELDS_Y, GRAY, LEVELS, MIRRORED_FIELDS, MIRRORED_HEATMAPS, STRIDE, Resident
from torch import Tensor
from torch.nn import functional as F

from featherpose.methods.gaussians import SUPPRESSION_WIDTH
from featherpose.skeleton import OPENPOSE_18

__all__ = ["Placement", "Views", "draw_labels", "place", "sample_views", "teacher_targets"]

FINE_STRIDE = STRIDE // SUB_PIXELS
SMALLEST, LARGEST = 0.52, 1.4
"""Scales of views whose canvas is as large as that of COCO's photographs, `REFERENCE_CANVAS`."""
REFERENCE_CANVAS = 480.0
MOST_DEGREES, ROTATED = 40, 0.6
"""Rotation either way, and the part of the views that is rotated."""
AIMED, SCATTER = 0.6, 0.7
"""The part of the views that is aimed at a person, and how far from the center, in halves of the view."""
INSIDE = 0.8
"""A view reaches over the image's edge by no more than the rest of its half, unless the image is smaller."""

TEACHER_LARGER = 1.45
"""The teacher's maps are of the level at which it saw the image about so many times as large as the view.

Its Gaussians and limbs have a fixed width in its own pixels; so they become narrower than it would draw them here.
"""
SIGMA = 5.0
"""Of the Gaussians of labels, in pixels of the view."""
HALF_LIMB = 8 / TEACHER_LARGER
"""Half the width of labeled limbs in pixels: that of the teacher, seen so much smaller."""

_LIMB_STARTS, _LIMB_ENDS = ([limb[end] for limb in OPENPOSE_18.limbs] for end in (0, 1))
_MIRRORED_KEYPOINTS = list(OPENPOSE_18.flip_order)


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """A batch.

    Attributes:
        images: BGR, 0..255.
        heatmaps: Targets at stride 4.
        fields: Targets at stride 8.
    """

    images: Float[Tensor, "B 3 S S"]
    heatmaps: Float[Tensor, "B K h w"]
    fields: Float[Tensor, "B D v u"]


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where views lie: view = scale linear (image - center) + (side - 1) / 2.

    Attributes:
        side: Of the views in pixels.
        index: The image of each view.
        scale: Pixels of the view for each of the canvas.
        mirrored: Which views are mirror images; they are mirrored before they are rotated.
        linear: Rotation and mirror.
        center: (x, y) on the canvas.
    """

    side: int
    index: Int[Tensor, "B"]
    scale: Float[Tensor, "B"]
    mirrored: Tensor
    linear: Float[Tensor, "B 2 2"]
    center: Float[Tensor, "B 2"]

    def cells(self, stride: int, canvas: int) -> Float[Tensor, "B h w 2"]:
        """Return where on the canvas the cells of a map lie, in the units of grid_sample."""
        number = self.side // stride
        line = torch.arange(number, device=self.center.device) * stride + (stride - 1) / 2 - (self.side - 1) / 2
        points = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).reshape(1, -1, 2)
        inverse = self.linear.transpose(1, 2) / self.scale[:, None, None]
        points = points @ inverse.transpose(1, 2) + self.center[:, None]
        return ((points + 0.5) * (2 / canvas) - 1).reshape(len(self.index), number, number, 2)

    def keypoints(self, people: Float[Tensor, "B P K 3"]) -> Float[Tensor, "B P K 3"]:
        """Return people on the canvas as the views show them: pixels of the view, left and right as mirrored."""
        matrix = self.linear * self.scale[:, None, None]
        points = torch.einsum("nij,npkj->npki", matrix, people[..., :2] - self.center[:, None, None])
        people = torch.cat((points + (self.side - 1) / 2, people[..., 2:]), -1)
        return torch.where(self.mirrored[:, None, None, None], people[:, :, _MIRRORED_KEYPOINTS], people)


def sample_views(data: Resident, number: int, side: int, generator: torch.Generator) -> Views:
    """Cut random views out of random training images.

    Args:
        data: Photographs with the teacher's maps.
        number: Views.
        side: Of a view in pixels, a multiple of 8.
        generator: Of the photographs' device.
    """
    placement = place(data, number, side, generator)
    grid = placement.cells(1, data.canvas)
    centered = data.images[placement.index].float() - GRAY
    images = F.grid_sample(centered, grid, mode="bilinear", align_corners=False)
    heatmaps, fields = teacher_targets(data, placement)
    people = placement.keypoints(data.people[placement.index])[:, : int(data.counts[placement.index].max())]
    heatmaps, fields = draw_labels(heatmaps, fields, people)
    return Views(augment_colors(images, generator) + GRAY, heatmaps, fields)


def place(data: Resident, number: int, side: int, generator: torch.Generator) -> Placement:
    """Choose images, and where in them views lie."""
    device = data.images.device

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, device=device, generator=generator)

    chosen = torch.randint(len(data.training), (number,), device=device, generator=generator)
    index = data.training[chosen]
    size, people, count = data.sizes[index], data.people[index], data.counts[index]
    logarithm = math.log(SMALLEST) + random(number) * (math.log(LARGEST) - math.log(SMALLEST))
    scale = REFERENCE_CANVAS / data.canvas * torch.exp(logarithm)
    angle = (random(number) * 2 - 1) * math.radians(MOST_DEGREES) * (random(number) < ROTATED)
    flip = torch.where(random(number) < 0.5, -1.0, 1.0)
    person = people[torch.arange(number, device=device), (random(number) * count.clamp(min=1)).long()]
    known = (person[..., 2] > 0).float()[..., None]
    middle = (person[..., :2] * known).sum(1) / known.sum(1).clamp(min=1)
    half = side / 2 / scale[:, None]
    anywhere = random(number, 2) * size
    aimed = (random(number) < AIMED)[:, None] & (count > 0)[:, None]
    center = torch.where(aimed, middle + (random(number, 2) * 2 - 1) * half * SCATTER, anywhere)
    lowest = torch.minimum(half * INSIDE, size / 2)
    highest = torch.maximum(size - half * INSIDE, size / 2)
    center = torch.minimum(torch.maximum(center, lowest), highest)
    cos, sin = torch.cos(angle), torch.sin(angle)
    linear = torch.stack((torch.stack((cos * flip, -sin), 1), torch.stack((sin * flip, cos), 1)), 1)
    return Placement(side, index, scale, flip < 0, linear, center)


def teacher_targets(data: Resident, placement: Placement) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B D v u"]]:
    """Cut the views out of the teacher's maps: heatmaps at stride 4, fields at stride 8."""
    number, side, device = len(placement.index), placement.side, data.images.device
    wanted = torch.log(placement.scale * TEACHER_LARGER * data.canvas)
    levels = torch.tensor([math.log(level) for level in LEVELS], device=device)
    nearest = (wanted[:, None] - levels).abs().argmin(1)
    keypoints, channels = OPENPOSE_18.num_keypoints, 2 * OPENPOSE_18.num_limbs
    heatmaps = torch.zeros(number, keypoints, side // FINE_STRIDE, side // FINE_STRIDE, device=device)
    fields = torch.zeros(number, channels, side // STRIDE, side // STRIDE, device=device)
    fine, coarse = placement.cells(FINE_STRIDE, data.canvas), placement.cells(STRIDE, data.canvas)
    for i, level in enumerate(data.maps):
        rows = (nearest == i).nonzero()[:, 0]
        if not len(rows):
            continue
        maps = level[placement.index[rows]].float()
        # As teachers' maps elsewhere: cubic where peaks matter, linear where the directions of limbs do.
        heatmaps[rows] = F.grid_sample(maps[:, :keypoints], fine[rows], mode="bicubic", align_corners=False)
        fields[rows] = F.grid_sample(maps[:, keypoints:], coarse[rows], mode="bilinear", align_corners=False)
    mirrored = placement.mirrored[:, None, None, None]
    heatmaps = torch.where(mirrored, heatmaps[:, MIRRORED_HEATMAPS], heatmaps)
    fields = torch.where(mirrored, fields[:, MIRRORED_FIELDS], fields)
    x, y = fields[:, FIELDS_X], fields[:, FIELDS_Y]
    turn = placement.linear[:, :, :, None, None, None]
    turned = torch.empty_like(fields)
    turned[:, FIELDS_X] = turn[:, 0, 0] * x + turn[:, 0, 1] * y
    turned[:, FIELDS_Y] = turn[:, 1, 0] * x + turn[:, 1, 1] * y
    return heatmaps.clamp(0, 1), turned


def draw_labels(
    heatmaps: Float[Tensor, "B K h w"], fields: Float[Tensor, "B D v u"], people: Float[Tensor, "B P K 3"]
) -> tuple[Float[Tensor, "B K h w"], Float[Tensor, "B D v u"]]:
    """Draw labeled people over the teacher's targets.

    Heatmaps are merged as in `featherpose.methods.gaussians.labels_over_teacher`, with Gaussians as high as the label
    is sure. Fields are replaced in the cells of labeled limbs (Cao et al. 2017, section 2.3).

    Args:
        heatmaps: Of the teacher, stride 4.
        fields: Of the teacher, stride 8.
        people: x, y in pixels of the view and confidence.
    """
    device = heatmaps.device
    fine = torch.arange(heatmaps.shape[-1], device=device) * FINE_STRIDE + (FINE_STRIDE - 1) / 2
    coarse = torch.arange(fields.shape[-1], device=device) * STRIDE + (STRIDE - 1) / 2
    labels, wide = torch.zeros_like(heatmaps), torch.zeros_like(heatmaps)
    limbs = torch.zeros_like(fields)
    drawn = torch.zeros_like(fields[:, FIELDS_X])
    for person in people.unbind(1):
        confidence = person[..., 2]
        x, y = ((fine - person[..., axis, None]) ** 2 / (2 * SIGMA**2) for axis in (0, 1))
        gaussians = torch.exp(-x)[:, :, None, :] * torch.exp(-y)[:, :, :, None]
        labels = torch.maximum(labels, confidence[..., None, None] * gaussians)
        # A power of a Gaussian is a wider Gaussian.
        known = (confidence > 0).float()[..., None, None]
        wide = torch.maximum(wide, known * gaussians ** (1 / SUPPRESSION_WIDTH**2))
        start, end = person[:, _LIMB_STARTS], person[:, _LIMB_ENDS]
        inside, direction = _limb_cells(start, end, coarse)
        drawn += inside
        limbs[:, FIELDS_X] += inside * direction[..., 0, None, None]
        limbs[:, FIELDS_Y] += inside * direction[..., 1, None, None]
    heatmaps = torch.maximum(heatmaps * (1 - wide), labels)
    merged = fields.clone()
    for channels in (FIELDS_X, FIELDS_Y):
        mean = limbs[:, channels] / drawn.clamp(min=1)
        merged[:, channels] = torch.where(drawn > 0, mean, fields[:, channels])
    return heatmaps, merged


def _limb_cells(start: Tensor, end: Tensor, line: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cells of each limb of one person a view, float[B, L, h, w] of 0 and 1, and its direction [B, L, 2]."""
    known = (start[..., 2] > 0) & (end[..., 2] > 0)
    along = (end - start)[..., :2]
    length = along.norm(dim=-1).clamp(min=1e-3)
    direction = along / length[..., None]
    x, y = direction[..., 0, None, None], direction[..., 1, None, None]
    columns, rows = (line - start[..., 0:1])[:, :, None, :], (line - start[..., 1:2])[:, :, :, None]
    forward, across = columns * x + rows * y, (columns * y - rows * x).abs()
    inside = (across <= HALF_LIMB) & (forward >= -HALF_LIMB) & (forward <= length[..., None, None] + HALF_LIMB)
    return (inside & known[..., None, None]).float(), direction
