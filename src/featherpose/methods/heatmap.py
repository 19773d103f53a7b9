"""Single-person heatmaps as a pose method: one heatmap for each keypoint, its highest cell, and a shift below the cell.

Positions and scores come from `featherpose.methods.maxima`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.crops import CropShape
from featherpose.errors import ConfigError, OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.declared import IMAGENET_MEAN, IMAGENET_STD, DeclaredDecoder, DeclaredMethod, check_arrays
from featherpose.methods.gaussians import SUPPRESSION_WIDTH, draw_gaussians, ignore_boxes, labels_over_teacher
from featherpose.methods.maxima import find_maxima
from featherpose.methods.method import Arrays, GraphShapes, Output, Recognized, Target
from featherpose.methods.single_person import one_person
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HEATMAP", "HeatmapDecoder", "HeatmapMethod", "HeatmapOptions", "HeatmapTargets"]

_STRIDE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatmapOptions:
    """Options of decoding heatmaps to a person.

    Attributes:
        min_score: A keypoint whose heatmap is nowhere higher is missing. Lower finds fainter keypoints and more false
            ones.
        min_keypoints: People with fewer keypoints are dropped. Higher removes fragments.
        subcell: Whether positions are refined below the cell.
        smoothing: Standard deviation in cells of the Gaussian that smooths the heatmap around its highest cell; the
            smoothed maximum is at most two cells away in x and in y. 0 for none. Higher suits maps that are less sure
            of the place.

    Raises:
        OptionError: If a value is outside its range.

    Example:
        >>> HeatmapOptions(min_score=0.4).min_score
        0.4
    """

    min_score: float = 0.2
    min_keypoints: int = 1
    subcell: bool = True
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_within("min_score", self.min_score, 0, 1)
        check_within("smoothing", self.smoothing, 0, 4)
        check_within("min_keypoints", self.min_keypoints, 1, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatmapTargets:
    """Form of the training targets.

    Attributes:
        sigma_px: Of the Gaussians, in view pixels; two cells of stride 4 unless given.

    Raises:
        ConfigError: If it is not positive.
    """

    sigma_px: float = 8.0

    def __post_init__(self) -> None:
        if not self.sigma_px > 0:
            raise ConfigError(f"targets {self} are impossible", expected="a positive sigma_px")


class HeatmapDecoder(DeclaredDecoder[HeatmapOptions]):
    """Decodes heatmaps into one person or none."""

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find the person in one image, in pixels of the source image.

        Raises:
            ModelError: If there are fewer heatmaps than keypoints.
        """
        skeleton = self._skeleton
        check_arrays(outputs, self._outputs, skeleton)
        cells, scores = self._find(outputs["heatmaps"])
        found = scores >= max(self._options.min_score, np.finfo(np.float32).tiny)
        output = self._outputs[0]
        pixels = cells * np.float32(output.stride) + np.float32(output.first_cell_px)
        return one_person(pixels, scores, found, skeleton, letterbox, min_keypoints=self._options.min_keypoints)

    def _find(
        self, heatmaps: Float32[np.ndarray, "C h w"]
    ) -> tuple[Float32[np.ndarray, "K 2"], Float32[np.ndarray, " K"]]:
        """Find (x, y) in cells and the score of each keypoint."""
        return find_maxima(
            heatmaps, self._skeleton.num_keypoints, subcell=self._options.subcell, smoothing=self._options.smoothing
        )

    def warm_up(self) -> None:
        """Compile the kernel, or load it from disk."""
        heatmaps = np.zeros((self._skeleton.num_keypoints, 4, 4), np.float32)
        self({"heatmaps": heatmaps}, Letterbox.fit((16, 16), height=16, multiple=8))


class HeatmapMethod(DeclaredMethod):
    """Single-person heatmaps."""

    name = "heatmap"
    title = "Single-person heatmaps (argmax with sub-pixel refinement)"
    Options = HeatmapOptions
    Decoder: type[DeclaredDecoder[Any]] = HeatmapDecoder
    Targets = HeatmapTargets
    kernel_modules = (find_maxima.__module__,)
    search_space: Mapping[str, Sequence[Any]] = MappingProxyType(
        {
            "min_score": (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4),
            "min_keypoints": (1, 2, 3, 4, 5),
            "smoothing": (0.0, 0.5, 1.0, 1.5, 2.0),
        }
    )

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State the one output: ``heatmaps``, one channel a keypoint, at stride 4.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> [(o.name, o.channels, o.stride) for o in HEATMAP.outputs(COCO_17)]
            [('heatmaps', 17, 4)]
        """
        return (
            Output(
                name="heatmaps", channels=skeleton.num_keypoints, stride=_STRIDE, more_channels=True,
                mirror=tuple(skeleton.flip_order), labels=tuple(skeleton.keypoints),
            ),
        )  # fmt: skip

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize networks of upright crops with 17 heatmaps at a quarter of the input, the keypoints of COCO.

        Published ones (PP-TinyPose, HRNet, Simple Baselines) want RGB with ImageNet's mean and standard deviation.
        """
        if shapes is None or shapes.fixed_size is None or self.name != "heatmap":
            return None
        width, height = shapes.fixed_size
        wanted = (COCO_17.num_keypoints, height // _STRIDE, width // _STRIDE)
        maps = [name for name, shape in shapes.outputs.items() if len(shape) == 4 and shape[1:] == wanted]
        if width >= height or len(maps) != 1:
            return None
        (output,) = self.outputs(COCO_17, names={"heatmaps": maps[0]})
        return Recognized(
            skeleton=COCO_17, outputs=(replace(output, origin_px=0),), rgb=True, mean=IMAGENET_MEAN, scale=IMAGENET_STD,
            crop=CropShape(width=width, height=height), options=HeatmapOptions(min_score=0.02),
        )  # fmt: skip

    def by_name(self, outputs: Sequence[Output]) -> dict[str, Output]:
        """Return the one output by name.

        Raises:
            OptionError: If the outputs are those of another method.
        """
        return {"heatmaps": _heatmaps_of(outputs)}

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: HeatmapTargets,
    ) -> Target:
        """Draw the Gaussians of the first person.

        The other people are background, not unknown: the network must learn to leave them out. For the same reason the
        boxes of unlabeled people are masked only where there is no labeled person.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> target = HEATMAP.encode(
            ...     np.full((2, 17, 2), 40, np.float32),
            ...     np.empty((0, 4), np.float32),
            ...     COCO_17,
            ...     (48, 64),
            ...     HEATMAP.outputs(COCO_17),
            ...     HeatmapTargets(),
            ... )
            >>> target.values["heatmaps"].shape, float(target.masks["heatmaps"].min())
            ((17, 16, 12), 1.0)
        """
        output = _heatmaps_of(outputs)
        maps = _draw(people[:1], size, output, targets.sigma_px)
        mask = np.ones(maps.shape[1:], np.float32) if len(people) else ignore_boxes(ignore, size, output.stride)
        return Target({output.name: maps}, {output.name: mask})

    def merge(
        self,
        teacher: Arrays,
        people: Float32[np.ndarray, "P K 2"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: HeatmapTargets,
        *,
        scale: float,
    ) -> Target:
        """Take the label where there is one, the teacher elsewhere; all Gaussians have the configured width."""
        output = _heatmaps_of(outputs)
        maps = teacher[output.name]
        if len(people):
            truth = _draw(people[:1], size, output, targets.sigma_px)
            wide = _draw(people[:1], size, output, SUPPRESSION_WIDTH * targets.sigma_px)
            maps = labels_over_teacher(maps, truth, wide)
        return Target({output.name: maps}, {output.name: np.ones(maps.shape[1:], np.float32)})

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
        """Compute ``l2``, the squared error of known cells, or ``soft``, with keypoints weighted up by ``foreground``.

        For probabilities ``soft`` is the cross-entropy above that of the target, whose gradient at a logit is the error
        itself. Both are summed over channels and averaged over cells.
        """
        target, mask = values["heatmaps"], masks["heatmaps"]
        total, parts = target.new_zeros(()), {}
        for number, stage in enumerate(stages):
            loss = self._errors(stage["heatmaps"], target, mask, config, probabilities).sum(dim=1).mean()
            parts[f"heatmaps_{number}"] = loss.detach()
            total = total + loss
        return total, parts

    @staticmethod
    def _errors(answer: Tensor, target: Tensor, mask: Tensor, config: Any, probabilities: bool) -> Tensor:
        """Compute the weighted error of each cell, float[B, K, h, w]."""
        from featherpose.methods.losses import binary_entropy, foreground_weights, heatmap_error

        soft = config.kind != "l2"
        weight = foreground_weights(target, mask, config.foreground) if soft else mask
        entropy = binary_entropy(target) if soft and probabilities else None
        return heatmap_error(answer, target, entropy) * weight


HEATMAP = HeatmapMethod()
"""The method, as a value."""


def _heatmaps_of(outputs: Sequence[Output]) -> Output:
    if [output.name for output in outputs] != ["heatmaps"]:
        raise OptionError(
            f"outputs {', '.join(o.name for o in outputs)}", expected="heatmaps alone, for method heatmap"
        )
    return outputs[0]


def _draw(
    people: Float32[np.ndarray, "P K 2"], size: tuple[int, int], output: Output, sigma_px: float
) -> Float32[np.ndarray, "K h w"]:
    maps = np.zeros((output.channels, -(-size[1] // output.stride), -(-size[0] // output.stride)), np.float32)
    # Drawn for cells whose first one is centered on the pixels that it covers.
    shift = (output.stride - 1) / 2 - output.first_cell_px
    draw_gaussians(np.ascontiguousarray(people + shift, np.float32), maps, False, output.stride, np.float32(sigma_px))
    return maps
