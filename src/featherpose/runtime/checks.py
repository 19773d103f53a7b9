"""Checks that every engine makes: of a graph against its `ModelSpec`, of an input, and of an engine's error."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from featherpose.errors import ModelError, OptionError, OutOfMemoryError
from featherpose.methods.method import Output
from featherpose.runtime.backend import ModelSpec

__all__ = [
    "SMALLER",
    "check_address_space",
    "check_channels",
    "check_images",
    "check_quantized",
    "check_strides",
    "engine_message",
    "is_out_of_memory",
]

SMALLER = "close other programs, or try a smaller --height"
"""What to do where memory is short."""

_NO_MEMORY = re.compile(
    r"bad_alloc|out of memory|can't alloc|(?:failed to|cannot|could not) (?:map segment|alloc)|insufficient memory",
    re.IGNORECASE,
)


_LEAST_ADDRESS_SPACE = 1_600_000_000


def check_address_space() -> None:
    """Refuse to open a network where its libraries would hang or abort the process for want of address space.

    OpenBLAS asks for memory for ever, LLVM (numba) and OpenVINO abort: no message of ours could follow.

    Raises:
        OutOfMemoryError: If this process may have less than 1.6 GB of address space (``ulimit -v``).
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY and allowed < _LEAST_ADDRESS_SPACE:
        raise OutOfMemoryError(
            f"{allowed / 1e6:,.0f} MB of address space (ulimit -v) are not enough memory for a network",
            expected=f"at least {_LEAST_ADDRESS_SPACE / 1e6:,.0f} MB, and more with many cores",
            hint="to bound what is used, limit the memory instead of the address space (systemd, containers)",
        )


def check_channels(shape: Sequence[int | None], output: Output, spec: ModelSpec, path: Path) -> None:
    """Check the channels of an output against the skeleton.

    Args:
        shape: B C h w, None where it depends on the input.
        output: What the output should be.
        spec: What the model should be.
        path: For the message.

    Raises:
        ModelError: If the output has other channels.
    """
    channels = shape[1] if len(shape) == 4 else -1
    if channels is None:
        return
    if channels < output.channels or (channels > output.channels and not output.more_channels):
        shown = " x ".join("?" if size is None else str(size) for size in shape)
        more = " or more" if output.more_channels else ""
        raise ModelError(
            f"{path} gives {output.name} of shape {shown}",
            expected=f"B x {output.channels}{more} x h x w for skeleton {spec.skeleton.name!r}",
        )


def check_strides(
    shape: Sequence[int | None], network_shape: tuple[int, int], output: Output, spec: ModelSpec, path: Path
) -> None:
    """Check the size of an output against its stride.

    Args:
        shape: B C h w for an input of ``network_shape``, None where it depends on something else.
        network_shape: (height, width) of that input, rows under a crop included.
        output: What the output should be.
        spec: What the model should be.
        path: For the message.

    Raises:
        ModelError: If the maps are larger or smaller than the stride implies.
    """
    if output.stride < 1:
        return
    seen = network_shape[0] if spec.crop is None else spec.crop.height
    expected = seen // output.stride, network_shape[1] // output.stride
    found = tuple(shape[2:])
    if None not in found and found != expected:
        size = f"{network_shape[0]} x {network_shape[1]} pixels"
        raise ModelError(
            f"{path} gives {output.name} of {found[0]} x {found[1]} cells for {size}",
            expected=f"{expected[0]} x {expected[1]}, one cell for {output.stride} pixels",
        )


def check_quantized(path: Path, precision: str, *, quantized: bool) -> None:
    """Refuse INT8 for a file without quantized layers.

    Args:
        path: For the message.
        precision: What was asked for.
        quantized: Whether any layer of the file is quantized.

    Raises:
        ModelError: If INT8 was asked for and no layer is.
    """
    if precision == "int8" and not quantized:
        raise ModelError(
            f"{path} is not quantized, so it cannot run in INT8",
            expected="a file with quantized layers",
            hint="quantize it first, or choose another precision",
        )


def check_images(images: UInt8[np.ndarray, "B H W 3"], spec: ModelSpec) -> UInt8[np.ndarray, "B H W 3"]:
    """Return the input in the memory layout that engines read in place; copied only if it has another one.

    Raises:
        OptionError: If type or shape are wrong.
    """
    multiple = spec.size_multiple
    crop = spec.crop if spec.crop is not None and spec.crop.prior else None
    sizes = f"H and W multiples of {multiple}" if crop is None else f"H {crop.rows} and W {crop.width}"
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[3] != 3
        or 0 in images.shape
        or (crop is None and (images.shape[1] % multiple or images.shape[2] % multiple))
        or (crop is not None and images.shape[1:3] != (crop.rows, crop.width))
    ):
        raise OptionError(
            f"a network input of type {images.dtype} and shape {images.shape}",
            expected=f"uint8[B, H, W, 3] with {sizes}",
            hint=f"featherpose.preprocess.{'prepare' if crop is None else 'cut_crop'} makes one",
        )
    return np.ascontiguousarray(images)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an engine failed because memory ran out; engines raise RuntimeError for every cause.

    Example:
        >>> is_out_of_memory(RuntimeError("std::bad_alloc")), is_out_of_memory(RuntimeError("no such file"))
        (True, False)
    """
    return isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)[:4000]) is not None


def engine_message(error: BaseException) -> str:
    """Return the line of an engine's exception that states the cause."""
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [line for line in lines if line and not line.startswith(("Exception from", "Check '", "[ GENERAL"))]
    message = (telling or [line for line in lines if line] or [type(error).__name__])[-1]
    return message if len(message) <= 200 else f"{message[:197]}..."
