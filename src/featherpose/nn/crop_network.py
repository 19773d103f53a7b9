"""What networks for the person in a crop have in common: heatmaps at stride 4, and the crop's shape in the weights.

Convention
    Input: BGR crops, 0..255, black where they reach out of the image; `featherpose.crops.CropShape` says where a crop
    lies. Output: Gaussians of one person's keypoints, about 0..1, at stride 4. Cell (i, j) stands for crop pixel
    (4i, 4j), not for the center of 4x4 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.methods.heatmap import HEATMAP, HeatmapOptions
from featherpose.methods.method import Method
from featherpose.nn.outputs import PoseModule
from featherpose.skeleton import Skeleton

__all__ = ["CropNetwork"]

_CROP_SHAPE = "crop_shape"


class CropNetwork(PoseModule):
    """Base class of networks that take crops.

    A subclass defines the crop that it takes unless another one is given.

    Args:
        skeleton: Keypoints of the outputs; limbs are not used.
        crop_shape: Width, height and margin of the crops, if they are others than the class's.
        layers: Arguments of a second base class, which holds the layers.

    Raises:
        OptionError: If the crop is impossible.
    """

    START: ClassVar[str] = "refiner"
    STATED: ClassVar[tuple[str, ...]] = (_CROP_SHAPE,)

    method: Method = HEATMAP
    size_multiple = 32
    pad_value = 0
    # Every keypoint gets a place; who uses the pose decides by its score.
    options: Any | None = HeatmapOptions(min_score=0.02)

    def __init__(self, skeleton: Skeleton, crop_shape: Sequence[float] | None, **layers: Any) -> None:
        outputs = [replace(output, origin_px=0.0) for output in HEATMAP.outputs(skeleton)]
        super().__init__(skeleton, outputs, **layers)
        if crop_shape is None:
            return
        if len(crop_shape) != 3 or any(size % self.size_multiple for size in crop_shape[:2]):
            raise OptionError(
                f"crop shape {list(crop_shape)}", expected="width and height, multiples of 32, and a margin"
            )
        width, height, margin = crop_shape
        self.crop = CropShape(width=int(width), height=int(height), margin=margin)
        # Among the weights, because they are good for crops of this size alone.
        self.register_buffer(_CROP_SHAPE, torch.tensor([width, height, margin]))

    @staticmethod
    def crop_shape_of(tensors: Mapping[str, Tensor]) -> tuple[float, ...] | None:
        """Return the crop's shape that these weights state; None if it is the class's."""
        found = tensors.get(_CROP_SHAPE)
        return None if found is None else tuple(round(value, 2) for value in found.tolist())
