"""Interface of networks for training, export and analysis.

Convention
    Input: BGR images as float or uint8 values 0..255, [B 3 H W], H and W multiples of ``size_multiple``.
    Normalization is inside the network, so that it is defined only once.
    Output: one NamedTuple for each stage, in order; its fields have the names of the method's outputs. The last stage
    is the result, the earlier ones are for intermediate supervision and analysis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Num
from torch import Tensor, nn

from featherpose.crops import CropShape
from featherpose.errors import OptionError
from featherpose.methods.method import Method, Output
from featherpose.skeleton import Skeleton

__all__ = [
    "BoxRows",
    "Coordinates",
    "DiskMaps",
    "GuidedNetwork",
    "PoseModule",
    "PoseNetwork",
    "Split",
    "Stage",
    "StageMaps",
    "TagMaps",
    "normalized",
]


class Stage(Protocol):
    """Outputs of one stage for a batch: a NamedTuple of float[B, C, h, w] by output name."""

    def _asdict(self) -> dict[str, Any]: ...


class StageMaps(NamedTuple):
    """Outputs of one stage of a network for part affinity fields.

    Attributes:
        heatmaps: float[B, C, h, w], C = K, or K + 1 with the background last.
        pafs: float[B, 2L, h', w'], channels as in `Skeleton.paf_channels`.
    """

    heatmaps: Float[Tensor, "B C h w"]
    pafs: Float[Tensor, "B D v u"]


class TagMaps(NamedTuple):
    """The outputs of one stage of a network for associative embedding.

    Attributes:
        heatmaps: float[B, K, h, w].
        tags: float[B, K, h, w], any number; equal for the keypoints of one person.
    """

    heatmaps: Float[Tensor, "B K h w"]
    tags: Float[Tensor, "B K h w"]


class DiskMaps(NamedTuple):
    """The outputs of one stage of a network for disks and offsets.

    Attributes:
        disks: float[B, K, h, w] in 0..1.
        offsets: float[B, 2K, h, w], x and y for each keypoint, in units of the disk's radius.
    """

    disks: Float[Tensor, "B K h w"]
    offsets: Float[Tensor, "B D h w"]


class BoxRows(NamedTuple):
    """The outputs of one stage of a detector: a row for each of its cells.

    Attributes:
        boxes: float[B, 1, N, 4]: left, top, right, bottom in input pixels, counted from the edge of the first one.
        scores: float[B, 1, N, 1] in 0..1.
    """

    boxes: Float[Tensor, "B 1 N 4"]
    scores: Float[Tensor, "B 1 N 1"]


class Coordinates(NamedTuple):
    """The outputs of one stage of a network that regresses coordinates.

    Attributes:
        coordinates: float[B, 2K, 1, 1], x and y for each keypoint: 0 at the center of the input, 0.5 at its edge.
        presence: float[B, K, 1, 1] in 0..1.
    """

    coordinates: Float[Tensor, "B D 1 1"]
    presence: Float[Tensor, "B K 1 1"]


@dataclass(frozen=True, slots=True)
class Split:
    """A network in two halves.

    Attributes:
        parts: Modules of the first half, by name.
        names: The features between the halves.
        before: From float[B, 3, H, W] images to those features.
        after: From those features to `PoseNetwork.training_stages`.
    """

    parts: tuple[str, ...]
    names: tuple[str, ...]
    before: Callable[[Tensor], Sequence[Tensor]]
    after: Callable[..., tuple[Stage, ...]]


@runtime_checkable
class GuidedNetwork(Protocol):
    """A network that looks into regions: in training it is told them.

    Its ``training_stages``, and the second halves of its splits, take a second argument: the targets of these names.
    """

    guides: tuple[str, ...]


@runtime_checkable
class PoseNetwork(Protocol):
    """A `torch.nn.Module` whose outputs are those of a pose method.

    Attributes:
        method: The pose method.
        outputs: The outputs with the channels that the network really has (a background is counted) and strides.
        skeleton: Keypoints and limbs.
        size_multiple: Input width and height must be multiples of this.
        probabilities: Whether heatmaps are strictly between 0 and 1.
        crop: The crops that the network takes if it sees one person at a time; None if it sees whole images.
        pad_value: Gray value of the padding around images, or around those that a crop reaches out of.
        side_by_side: Whether several inputs are faster with a core each than with all cores together: so are
            chains of many small layers.
        options: Decoding options that suit the network; None for the method's defaults.
    """

    method: Method
    outputs: tuple[Output, ...]
    skeleton: Skeleton
    size_multiple: int
    probabilities: bool
    crop: CropShape | None
    pad_value: int
    side_by_side: bool
    options: Any | None

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Return a readable name of each part, in the order of the data, and the modules that make it up."""
        ...

    def splits(self) -> tuple[Split, ...]:
        """Return the places where the network can be split, the one with the largest first half first."""
        ...

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute the stages that the loss compares with the targets; call it under the run's autocast."""
        ...

    def equalize(self, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Equalize the ranges of all channels in place, without changing the outputs (better INT8).

        Args:
            images: BGR, 0..255; a dozen is enough.

        Raises:
            OptionError: If this network cannot be equalized.
        """
        ...

    def __call__(self, images: Num[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute the outputs of every stage; the last one is the result."""
        ...


class PoseModule(nn.Module):
    """Base class of networks with the defaults of a `PoseNetwork`.

    A subclass defines ``method`` and ``forward``, and overrides what differs.

    Args:
        skeleton: Keypoints and limbs.
        outputs: The method's outputs with real channels and strides.
        layers: Arguments of a second base class, which holds the layers.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    """Keyword arguments of the constructor that a configuration may set."""
    START: ClassVar[str] = "feather"
    """How the names of the weights begin that ``init_from = "bundled"`` stands for."""
    MARK: ClassVar[str] = ""
    """Name of a tensor that only this network has; recognizes weights without facts."""
    FROM_WEIGHTS: ClassVar[tuple[str, ...]] = ()
    """Options of the constructor in which a network equals the weights that it starts from."""
    STATED: ClassVar[tuple[str, ...]] = ()
    """Tensors that state an option of the constructor: initial weights do not replace them."""

    method: Method
    size_multiple: int = 8
    probabilities: bool = False
    crop: CropShape | None = None
    pad_value: int = 128
    side_by_side: bool = True
    options: Any | None = None

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output], **layers: Any) -> None:
        super().__init__(**layers)
        self.skeleton = skeleton
        self.outputs = tuple(outputs)

    @property
    def parts(self) -> Mapping[str, tuple[str, ...]]:
        """Return a readable name of each part, and the modules that make it up."""
        return {name: (name,) for name, _ in self.named_children()}

    def splits(self) -> tuple[Split, ...]:
        """Return the places where the network can be split; none unless overridden."""
        return ()

    def training_stages(self, images: Float[Tensor, "B 3 H W"]) -> tuple[Stage, ...]:
        """Compute the stages that the loss compares with the targets: all."""
        stages: tuple[Stage, ...] = self(images)
        return stages

    def equalize(self, images: Sequence[Float[Tensor, "1 3 H W"]]) -> None:
        """Raise an error: the order of scales is unknown.

        Raises:
            OptionError: Always.
        """
        raise OptionError(f"scales of {type(self).__name__} cannot be equalized", expected="a checkpoint of feather")

    @classmethod
    def options_of(cls, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor for which these weights were made."""
        return {}

    @classmethod
    def counts_of(cls, tensors: Mapping[str, Tensor]) -> tuple[int, int | None] | None:
        """Return keypoints and limbs by the widths of the last layers; limbs are None where no output has them."""
        return None

    @classmethod
    def from_published(
        cls, path: Path, images: Callable[[], Sequence[Float[Tensor, "1 3 H W"]]], skeleton: Skeleton, **options: Any
    ) -> PoseModule | None:
        """Start from a public file of another format; None if this network has no such start.

        Args:
            path: The file.
            images: Reads photographs, BGR, 0..255, for layers that are fitted.
            skeleton: Keypoints and limbs.
            options: Of the constructor.
        """
        return None


def normalized(images: Num[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Return (x - 128) / 256, the range that Lightweight OpenPose and OpenPose are trained on.

    Example:
        >>> import torch
        >>> normalized(torch.tensor([[[[0, 128]]]], dtype=torch.uint8)).flatten().tolist()
        [-0.5, 0.0]
    """
    return (images - 128.0) * (1.0 / 256.0)
