"""Disks and offsets: G-RMI's dense classification and regression (Papandreou et al. 2017, arXiv 1701.01779).

Section 3.2: for each keypoint a disk map (1 within R pixels of it) and a field of offsets to it; both are fused by
Hough voting into an activation map whose maximum is the keypoint. Section 3.3: the person's score is the mean over the
keypoints of those maxima's heights, which rescores the box that a detector gave. A height also tells how closely the
offsets agree, so it stays far below 1 for keypoints that are certainly there: the score of a keypoint, which is
compared with other methods', is therefore the disk's probability at that place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ConfigError
from featherpose.geometry import Letterbox
from featherpose.methods.declared import (
    DeclaredDecoder,
    DeclaredMethod,
    check_arrays,
    keypoint_output,
    map_shape,
    vector_output,
)
from featherpose.methods.disks.voting import find_voted, values_at, vote
from featherpose.methods.gaussians import ignore_boxes
from featherpose.methods.method import Arrays, Output, Target
from featherpose.methods.single_person import one_person
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DISKS", "DiskDecoder", "DiskMethod", "DiskOptions", "DiskTargets"]

_STRIDE = 4
# The paper's 25 pixels of a crop 353 pixels high, on one of 224.
_RADIUS_PX = 16.0
# Weights of disks and offsets in the loss (section 3.2).
_DISK_WEIGHT, _OFFSET_WEIGHT = 4.0, 1.0
_TURN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskOptions:
    """Rules by which disks and offsets become a person.

    Attributes:
        min_score: A keypoint whose votes are nowhere higher is missing.
        min_keypoints: People with fewer keypoints are dropped.
        radius_px: Radius of the disks that the network was trained with, in input pixels.
        voting: Whether offsets vote; without, a keypoint is the center of its disk map's highest cells.

    Raises:
        OptionError: If a value is outside its range.
    """

    min_score: float = 0.1
    min_keypoints: int = 1
    radius_px: float = _RADIUS_PX
    voting: bool = True

    def __post_init__(self) -> None:
        check_within("min_score", self.min_score, 0, 1)
        check_within("min_keypoints", self.min_keypoints, 1, 1000)
        check_within("radius_px", self.radius_px, 1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskTargets:
    """Form of the training targets.

    Attributes:
        radius_px: Of the disks, in view pixels.

    Raises:
        ConfigError: If it is under a pixel.
    """

    radius_px: float = _RADIUS_PX

    def __post_init__(self) -> None:
        if not self.radius_px >= 1:
            raise ConfigError(f"targets {self} are impossible", expected="a radius_px of at least 1")


class DiskDecoder(DeclaredDecoder[DiskOptions]):
    """Decodes disks and offsets into one person or none."""

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output], options: DiskOptions) -> None:
        super().__init__(skeleton, outputs, options)
        self._stride = self._outputs[0].stride

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find the person in one image, in pixels of the source image.

        Raises:
            ModelError: If there are fewer channels than keypoints need.
        """
        check_arrays(outputs, self._outputs, self._skeleton)
        k, radius = self._skeleton.num_keypoints, self._options.radius_px / self._stride
        disks = outputs["disks"][:k]
        if self._options.voting:
            cells, heights = find_voted(vote(disks, outputs["offsets"][: 2 * k], radius))
            scores = values_at(disks, cells)
        else:
            # The disk's cells are about equally high, so its middle is found over the whole disk.
            cells, heights = find_voted(disks, reach=max(1, round(radius)))
            scores = heights
        found = heights >= max(self._options.min_score, 1e-6)
        pixels = cells * np.float32(self._stride) + np.float32((self._stride - 1) / 2)
        # Ranked over all keypoints: who lacks some is less certain (section 3.3).
        rank = float(np.where(found, np.minimum(heights, 1), 0).mean())
        return one_person(
            pixels, scores, found, self._skeleton, letterbox, min_keypoints=self._options.min_keypoints, rank=rank
        )

    def warm_up(self) -> None:
        """Compile the kernels, or load them from disk."""
        k = self._skeleton.num_keypoints
        arrays = {"disks": np.zeros((k, 4, 4), np.float32), "offsets": np.zeros((2 * k, 4, 4), np.float32)}
        self(arrays, Letterbox.fit((16, 16), height=16, multiple=8))


class DiskMethod(DeclaredMethod):
    """Disks and offsets of one person."""

    name = "disks"
    title = "Disks and offsets with Hough voting (Papandreou et al. 2017, G-RMI)"
    Options = DiskOptions
    Decoder = DiskDecoder
    Targets = DiskTargets
    kernel_modules = ("featherpose.methods.disks.voting",)
    search_space: Mapping[str, Sequence[Any]] = {
        "min_score": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
        "voting": (True, False),
    }

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``disks`` and ``offsets``.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> [(o.name, o.channels, o.stride) for o in DISKS.outputs(COCO_17)]
            [('disks', 17, 4), ('offsets', 34, 4)]
        """
        return keypoint_output("disks", skeleton, _STRIDE), vector_output("offsets", skeleton, _STRIDE)

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: DiskTargets,
    ) -> Target:
        """Draw the first person's disks, and in them the offsets to the keypoint; elsewhere offsets are NaN.

        The other people are background, as in a crop they must be.
        """
        output = self.by_name(outputs)["disks"]
        rows, columns = map_shape(size, output.stride)
        center = np.float32((output.stride - 1) / 2)
        x = np.arange(columns, dtype=np.float32) * output.stride + center
        y = np.arange(rows, dtype=np.float32) * output.stride + center
        k = skeleton.num_keypoints
        person = people[0] if len(people) else np.full((k, 2), np.nan, np.float32)
        dx = (person[:, 0, None, None] - x[None, None]) / np.float32(targets.radius_px)
        dy = (person[:, 1, None, None] - y[None, :, None]) / np.float32(targets.radius_px)
        offsets = np.stack(np.broadcast_arrays(dx, dy), 1).astype(np.float32)
        inside = np.square(offsets).sum(axis=1) <= 1  # False for NaN
        offsets = np.where(inside[:, None], offsets, np.float32(np.nan)).reshape(2 * k, rows, columns)
        known = np.ones((rows, columns), np.float32) if len(people) else ignore_boxes(ignore, size, output.stride)
        return Target(
            {"disks": inside.astype(np.float32), "offsets": offsets}, {"disks": known, "offsets": np.ones_like(known)}
        )

    def loss(
        self,
        stages: Sequence[Mapping[str, Tensor]],
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        config: Any,
        skeleton: Skeleton,
        *,
        probabilities: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of disks, and smooth absolute error of offsets within them, weighted 4 to 1 (section 3.2).

        Disks are summed over keypoints and averaged over cells; offsets are averaged over the cells of disks and summed
        over keypoints' channels, so that neither depends on the size of the map.
        """
        import torch
        from torch.nn import functional as F

        from featherpose.methods.losses import cross_entropy

        truth, mask = values["disks"], masks["disks"]
        known = torch.isfinite(values["offsets"])
        wanted = torch.where(known, values["offsets"], 0.0)
        total, parts = torch.zeros((), device=truth.device), {}
        for number, stage in enumerate(stages):
            disks = (cross_entropy(stage["disks"], truth) * mask).sum(dim=1).mean()
            found = torch.where(known, stage["offsets"].float(), 0.0)
            error = F.smooth_l1_loss(found, wanted, beta=_TURN, reduction="sum")
            offsets = error / known.sum().clamp(min=1)
            parts[f"disks_{number}"], parts[f"offsets_{number}"] = disks.detach(), offsets.detach()
            total = total + _DISK_WEIGHT * disks + _OFFSET_WEIGHT * offsets
        return total, parts


DISKS = DiskMethod()
"""The method, as a value."""
