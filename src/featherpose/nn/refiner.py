"""The project's single-person network: the keypoints of one person in a crop of 224x160 pixels, as heatmaps.

`featherpose.nn.crop_network` states the convention of its input and output. All layers but the last are those of
`featherpose.nn.trunk.person`, by the same names, so the light networks start from a refiner's weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from jaxtyping import Float, Num
from torch import Tensor, nn

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.nn.crop_network import CropNetwork
from featherpose.nn.equalization.refiner_equalization import cross_layer_equalization
from featherpose.nn.outputs import Split
from featherpose.nn.single_person import SinglePersonMaps
from featherpose.nn.trunk.person import PERSON_CHANNELS, PERSON_EXCHANGES, PersonFeatures, PersonLayers
from featherpose.skeleton import COCO_17, Skeleton

__all__ = ["Refiner"]

_MOST_EXCHANGES = 16


class Refiner(CropNetwork, PersonLayers):
    """Heatmaps of the person in a crop.

    Args:
        skeleton: Keypoints of the outputs; limbs are not used.
        exchanges: Exchanges with two, three and four branches; fewer are faster.
        far: Whether branches exchange features over several strides at once.
        gated: Whether units have gates; without them they are plain residual blocks, which engines run faster.
        crop_shape: Width, height and margin of the crops, if they are others than 160, 224 and 1.1.

    Raises:
        OptionError: If there are not three numbers of exchanges from 1 to 16, or a crop is impossible.

    Example:
        >>> import torch
        >>> ((heatmaps,),) = Refiner().eval()(torch.zeros(1, 3, 224, 160))
        >>> tuple(heatmaps.shape)
        (1, 17, 56, 40)
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ("exchanges", "far", "gated", "crop_shape")
    MARK: ClassVar[str] = "widen.0.steps.0.0.weight"

    crop: CropShape | None = CropShape(width=160, height=224, margin=1.1)

    def __init__(self, skeleton: Skeleton = COCO_17, *, exchanges: Sequence[int] = PERSON_EXCHANGES,
                 far: bool = True, gated: bool = True, crop_shape: Sequence[float] | None = None) -> None:  # fmt: skip
        if len(exchanges) != len(PERSON_EXCHANGES) or not all(1 <= n <= _MOST_EXCHANGES for n in exchanges):
            raise OptionError(f"exchanges {list(exchanges)}", expected=f"three numbers from 1 to {_MOST_EXCHANGES}")
        super().__init__(skeleton, crop_shape, exchanges=exchanges, far=far, gated=gated)
        self.heatmaps = nn.Conv2d(PERSON_CHANNELS[0], skeleton.num_keypoints, 1)

    def forward(self, images: Num[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute heatmaps of BGR crops, 0..255; one stage."""
        return self._behind_trunk(self.features(images.to(self.heatmaps.weight.dtype)))

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[SinglePersonMaps, ...]:
        """Compute the one stage."""
        return self._behind_trunk(self.features(images))

    def splits(self) -> tuple[Split, ...]:
        """Split in front of the last layer."""
        parts = tuple(name for name, _ in self.named_children() if name != "heatmaps")
        return (Split(parts, PersonFeatures._fields, self.features, self._behind_trunk),)

    def equalize(self, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Equalize the ranges of all channels in place; outputs stay equal up to rounding.

        Args:
            images: BGR crops, 0..255; a few dozen are enough.
        """
        cross_layer_equalization(self, images)

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints by the width of the last layer."""
        last = tensors.get("heatmaps.weight")
        return (len(last), None) if last is not None and cls.MARK in tensors else None

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the options of these weights; none if they are of another network."""
        found = {(int(match[1]), int(match[2])) for n in tensors if (match := re.match(r"stages\.(\d)\.(\d+)\.", n))}
        if not found:
            return {}
        counts = tuple(sum(stage == k for stage, _ in found) for k in range(len(PERSON_EXCHANGES)))
        far, gated = (f"stages.1.0.{name}" in tensors for name in ("up.20.weight", "units.0.0.gate"))
        return {"exchanges": counts, "far": far, "gated": gated, "crop_shape": cls.crop_shape_of(tensors)}

    def _behind_trunk(self, seen: Sequence[Tensor]) -> tuple[SinglePersonMaps, ...]:
        return (SinglePersonMaps(self.heatmaps(seen[0])),)
