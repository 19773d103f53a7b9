"""Part affinity fields as a pose method: heatmaps and fields of a whole image, grouped into people.

Cao et al. 2017, "Realtime Multi-Person 2D Pose Estimation using Part Affinity Fields" (arXiv 1611.08050), and Osokin
2018, "Real-time 2D Multi-Person Pose Estimation on CPU: Lightweight OpenPose" (arXiv 1811.12004).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from featherpose.errors import ConfigError, OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.gaussians import SUPPRESSION_WIDTH, ignore_boxes, labels_over_teacher
from featherpose.methods.method import Arrays, GraphShapes, Output, Recognized, Target
from featherpose.methods.paf.decode_options import SEARCH_SPACE, PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.encode import encode_into
from featherpose.methods.paf.maps import Maps
from featherpose.poses import Candidates, Poses
from featherpose.skeleton import OPENPOSE_18, Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PAF", "BoundPafDecoder", "PafMethod", "PafTargets", "maps_of", "with_background"]

# Outputs of the Open Model Zoo's human-pose-estimation-0001, whose files carry no card.
_OMZ = {"heatmaps": "Mconv7_stage2_L2", "pafs": "Mconv7_stage2_L1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PafTargets:
    """Form of the training targets.

    Attributes:
        sigma_px: Of the Gaussians, in view pixels.
        paf_half_width: Half the width of a limb in PAF cells.

    Raises:
        ConfigError: If a value is not positive.
    """

    sigma_px: float = 7.0
    paf_half_width: float = 1.0

    def __post_init__(self) -> None:
        if not self.sigma_px > 0 or not self.paf_half_width > 0:
            raise ConfigError(f"targets {self} are impossible", expected="positive sigma_px and paf_half_width")


class BoundPafDecoder:
    """A `PafDecoder` with the strides of a network's outputs."""

    def __init__(self, decoder: PafDecoder, heatmap_stride: int, paf_stride: int) -> None:
        self._decoder = decoder
        self._strides = heatmap_stride, paf_stride

    @property
    def options(self) -> PafOptions:
        """Return the options."""
        return self._decoder.options

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone in one image, best first, in pixels of the source image."""
        return self._decoder(Maps(outputs["heatmaps"], outputs["pafs"], *self._strides), letterbox)

    def candidates(self, outputs: Arrays, letterbox: Letterbox, min_score: float) -> Candidates:
        """Find every peak over a score, in pixels of the source image."""
        return self._decoder.candidates(
            Maps(outputs["heatmaps"], outputs["pafs"], *self._strides), letterbox, min_score
        )

    def warm_up(self) -> None:
        """Compile every kernel, or load it from disk."""
        self._decoder.warm_up()


class PafMethod:
    """Part affinity fields."""

    name = "paf"
    title = "Part affinity fields (Cao et al. 2017; Osokin 2018)"
    Options = PafOptions
    Targets = PafTargets
    kernel_modules = (
        *(
            f"featherpose.methods.paf.{stage}"
            for stage in ("peaks", "limbs", "grouping", "pose_prior", "expectation", "correction", "ranked")
        ),
        "featherpose.rating.rate",
    )
    presets: Mapping[str, PafOptions] = MappingProxyType({"default": PafOptions(), "paper": PafOptions.published()})
    search_space = SEARCH_SPACE

    def outputs(
        self, skeleton: Skeleton, *, strides: Mapping[str, int] | None = None, names: Mapping[str, str] | None = None
    ) -> tuple[Output, ...]:
        """State the outputs: ``heatmaps``, one channel a keypoint, and ``pafs``, two channels a limb.

        Args:
            skeleton: Keypoints and limbs.
            strides: Strides where they differ from 8.
            names: Graph names where they differ.

        Raises:
            OptionError: If there is no such output.

        Example:
            >>> [(o.name, o.channels, o.stride) for o in PAF.outputs(OPENPOSE_18, strides={"heatmaps": 4})]
            [('heatmaps', 18, 4), ('pafs', 38, 8)]
        """
        strides, names = dict(strides or {}), dict(names or {})
        for given in (*strides, *names):
            if given not in _OMZ:
                raise OptionError(f"method paf has no output {given!r}", expected="heatmaps or pafs")
        limbs = 2 * skeleton.num_limbs
        return (
            Output(
                name="heatmaps", channels=skeleton.num_keypoints, stride=strides.get("heatmaps", 8),
                graph_name=names.get("heatmaps", ""), more_channels=True, mirror=tuple(skeleton.flip_order),
                labels=tuple(skeleton.keypoints),
            ),
            Output(
                name="pafs", channels=limbs, stride=strides.get("pafs", 8), graph_name=names.get("pafs", ""),
                mirror=_mirrored_fields(skeleton), vectors=tuple(skeleton.paf_channels), labels=_field_labels(skeleton),
            ),
        )  # fmt: skip

    def recognize(self, outputs: Collection[str], shapes: GraphShapes | None = None) -> Recognized | None:
        """Recognize the Open Model Zoo's human-pose-estimation-0001."""
        if not set(_OMZ.values()) <= set(outputs):
            return None
        return Recognized(skeleton=OPENPOSE_18, outputs=self.outputs(OPENPOSE_18, names=_OMZ))

    def decoder(
        self, skeleton: Skeleton, outputs: Sequence[Output], options: PafOptions | None = None
    ) -> BoundPafDecoder:
        """Make a decoder for a network with these outputs.

        Raises:
            OptionError: If the options belong to another method.
        """
        if options is not None and not isinstance(options, PafOptions):
            raise OptionError(f"decoding options of type {type(options).__name__}", expected="PafOptions")
        heatmaps, pafs = _by_name(outputs)
        return BoundPafDecoder(PafDecoder(skeleton, options), heatmaps.stride, pafs.stride)

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: PafTargets,
    ) -> Target:
        """Draw Gaussians and fields of all people; ``ignore`` is unknown unless a label covers it.

        Example:
            >>> target = PAF.encode(
            ...     np.full((1, 18, 2), 40, np.float32),
            ...     np.empty((0, 4), np.float32),
            ...     OPENPOSE_18,
            ...     (64, 64),
            ...     PAF.outputs(OPENPOSE_18),
            ...     PafTargets(),
            ... )
            >>> target.values["heatmaps"].shape, target.masks["pafs"].shape
            ((18, 8, 8), (8, 8))
        """
        heatmaps, pafs = _by_name(outputs)
        maps = _draw(people, skeleton, size, outputs, targets.sigma_px, targets.paf_half_width, heatmaps.channels)
        heatmap_mask = ignore_boxes(ignore, size, heatmaps.stride)
        paf_mask = ignore_boxes(ignore, size, pafs.stride)
        # A labeled person in front of an unlabeled one is known.
        heatmap_mask = np.maximum(heatmap_mask, maps["heatmaps"][: skeleton.num_keypoints].max(axis=0) > 0.05)
        paf_mask = np.maximum(paf_mask, np.abs(maps["pafs"]).max(axis=0) > 0)
        return Target(maps, {"heatmaps": heatmap_mask.astype(np.float32), "pafs": paf_mask.astype(np.float32)})

    def merge(
        self,
        teacher: Arrays,
        people: Float32[np.ndarray, "P K 2"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: PafTargets,
        *,
        scale: float,
    ) -> Target:
        """Merge labels and teacher: the label where there is one, the teacher elsewhere.

        Labels are drawn as wide as the teacher draws: a fixed number of its pixels.
        """
        heatmaps, pafs = _by_name(outputs)
        k = skeleton.num_keypoints
        heat, fields = teacher["heatmaps"], teacher["pafs"]
        if len(people):
            sigma, half_width = 7 * scale, 8 * scale / pafs.stride
            truth = _draw(people, skeleton, size, outputs, sigma, half_width, k)
            wide = _draw(people, skeleton, size, outputs, SUPPRESSION_WIDTH * sigma, half_width, k)
            heat = labels_over_teacher(heat, truth["heatmaps"], wide["heatmaps"])
            fields = np.where(truth["pafs"] != 0, truth["pafs"], fields)
        if heatmaps.channels > k:
            heat = np.concatenate([heat, 1 - heat.max(axis=0, keepdims=True)])
        values = {"heatmaps": np.asarray(heat, np.float32), "pafs": np.asarray(fields, np.float32)}
        return Target(values, {name: np.ones(value.shape[1:], np.float32) for name, value in values.items()})

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
        """Compute ``l2``, the papers' loss, or ``soft``, the weighted one; see `featherpose.methods.paf.loss`."""
        from featherpose.methods.paf.loss import squared_error, weighted_loss

        if config.kind == "l2":
            return squared_error(stages, values, masks)
        return weighted_loss(stages, values, masks, config, skeleton, probabilities=probabilities)


PAF = PafMethod()
"""The method, as a value."""


def maps_of(outputs: Arrays, described: Sequence[Output]) -> Maps:
    """Return the outputs of a network as the value that the stages of PAF decoding take."""
    heatmaps, pafs = _by_name(described)
    return Maps(outputs["heatmaps"], outputs["pafs"], heatmaps.stride, pafs.stride)


def _by_name(outputs: Sequence[Output]) -> tuple[Output, Output]:
    found = {output.name: output for output in outputs}
    if set(found) != set(_OMZ):
        raise OptionError(f"outputs {', '.join(found)}", expected="heatmaps and pafs, as method paf has them")
    return found["heatmaps"], found["pafs"]


def _draw(
    people: Float32[np.ndarray, "P K 2"],
    skeleton: Skeleton,
    size: tuple[int, int],
    outputs: Sequence[Output],
    sigma_px: float,
    half_width: float,
    heatmap_channels: int,
) -> dict[str, Float32[np.ndarray, "C h w"]]:
    heatmaps, pafs = _by_name(outputs)
    cells = {o.name: (-(-size[1] // o.stride), -(-size[0] // o.stride)) for o in (heatmaps, pafs)}
    maps = {
        "heatmaps": np.empty((heatmap_channels, *cells["heatmaps"]), np.float32),
        "pafs": np.empty((2 * skeleton.num_limbs, *cells["pafs"]), np.float32),
    }
    encode_into(
        people, skeleton, maps["heatmaps"], maps["pafs"], heatmap_stride=heatmaps.stride, paf_stride=pafs.stride,
        sigma_px=sigma_px, paf_half_width=half_width,
    )  # fmt: skip
    return maps


def _mirrored_fields(skeleton: Skeleton) -> tuple[int, ...] | None:
    """Return the order of the fields' channels in a mirrored image; None if a limb has no mirrored counterpart."""
    flip, limbs = skeleton.flip_order, {limb: i for i, limb in enumerate(skeleton.limbs)}
    order = [0] * (2 * skeleton.num_limbs)
    for i, (a, b) in enumerate(skeleton.limbs):
        mirrored = limbs.get((flip[a], flip[b]))
        if mirrored is None:
            return None
        for axis in (0, 1):
            order[skeleton.paf_channels[i][axis]] = skeleton.paf_channels[mirrored][axis]
    return tuple(order)


def _field_labels(skeleton: Skeleton) -> tuple[str, ...]:
    labels = [""] * (2 * skeleton.num_limbs)
    for (a, b), channels in zip(skeleton.limbs, skeleton.paf_channels, strict=True):
        for axis, channel in zip("xy", channels, strict=True):
            labels[channel] = f"{skeleton.keypoints[a]} to {skeleton.keypoints[b]} {axis}"
    return tuple(labels)


def with_background(outputs: Sequence[Output]) -> tuple[Output, ...]:
    """Return the same outputs for a network whose last heatmap is the background."""
    heatmaps, pafs = _by_name(outputs)
    return replace(heatmaps, channels=heatmaps.channels + 1), pafs
