"""Checks that every engine makes: of a graph against its `ModelSpec`, of an input, and of an engine's complaint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import ModelError, OptionError
from featherpose.runtime.backend import ModelSpec

__all__ = ["check_channels", "check_images", "check_strides", "engine_message"]


def check_channels(shape: Sequence[int | None], role: str, spec: ModelSpec, path: Path) -> None:
    """Hold an output's shape to the skeleton.

    Args:
        shape: B C h w, None where it depends on the input.
        role: ``heatmaps`` or ``pafs``.
        spec: What the model should be.
        path: For the message.

    Raises:
        ModelError: If the output cannot be what ``role`` says.
    """
    keypoints, limbs = spec.skeleton.num_keypoints, spec.skeleton.num_limbs
    expected = f"B x {keypoints} or more x h x w" if role == "heatmaps" else f"B x {2 * limbs} x h x w"
    channels = shape[1] if len(shape) == 4 else -1
    if channels is None:
        return
    if (role == "heatmaps" and channels < keypoints) or (role == "pafs" and channels != 2 * limbs):
        shown = " x ".join("?" if size is None else str(size) for size in shape)
        raise ModelError(
            f"{path} gives {role} of shape {shown}", expected=f"{expected} for skeleton {spec.skeleton.name!r}"
        )


def check_strides(
    shape: Sequence[int | None], network_shape: tuple[int, int], role: str, spec: ModelSpec, path: Path
) -> None:
    """Hold the size of an output to the strides of the spec.

    Args:
        shape: B C h w for an input of ``network_shape``, None where it depends on something else.
        network_shape: (height, width) of that input.
        role: ``heatmaps`` or ``pafs``.
        spec: What the model should be.
        path: For the message.

    Raises:
        ModelError: If the maps are larger or smaller than ``spec`` says.
    """
    stride = spec.heatmap_stride if role == "heatmaps" else spec.paf_stride
    expected = network_shape[0] // stride, network_shape[1] // stride
    found = tuple(shape[2:])
    if None not in found and found != expected:
        raise ModelError(
            f"{path} gives {role} of {found[0]} x {found[1]} cells for {network_shape[0]} x {network_shape[1]} pixels",
            expected=f"{expected[0]} x {expected[1]}, one cell for {stride} pixels",
        )


def check_images(images: UInt8[np.ndarray, "B H W 3"], spec: ModelSpec) -> UInt8[np.ndarray, "B H W 3"]:
    """The input in the memory layout that engines read in place; it is copied only if it has another one.

    Raises:
        OptionError: If type or shape are wrong.
    """
    multiple = spec.size_multiple
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
        or 0 in images.shape
        or images.shape[1] % multiple
        or images.shape[2] % multiple
    ):
        raise OptionError(
            f"a network input of type {images.dtype} and shape {images.shape}",
            expected=f"uint8[B, H, W, 3] with H and W multiples of {multiple}",
            hint="featherpose.preprocess.prepare makes one",
        )
    return np.ascontiguousarray(images)


def engine_message(error: BaseException) -> str:
    """The one line of an engine's exception that says what happened."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "[ GENERAL"))]
    message = (telling or [line for line in lines if line] or [type(error).__name__])[-1]
    return message if len(message) <= 200 else f"{message[:197]}..."
