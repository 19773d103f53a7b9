"""Device and number format of training."""

from __future__ import annotations

import ctypes
import logging
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from featherpose.errors import ConfigError
from featherpose.runtime.processor import processor

__all__ = ["MixedPrecision", "keep_freed_memory", "return_freed_memory"]

_log = logging.getLogger(__name__)
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h of glibc
_USUAL_TRIM_THRESHOLD, _USUAL_MMAP_MAX = 2**26, 65536  # of glibc, the first one in processes that free large blocks


@dataclass(frozen=True, slots=True)
class MixedPrecision:
    """Device and number format of forward and backward passes; weights and losses stay in FP32.

    Attributes:
        device: Device of the network.
        half: Format of convolutions under autocast, or None for FP32.
        scaler: Scales gradients in FP16, which a GPU without bf16 uses; passes everything through otherwise.

    Example:
        >>> MixedPrecision.choose("cpu", "fp32").half is None
        True
    """

    device: torch.device
    half: torch.dtype | None
    scaler: torch.amp.GradScaler

    @classmethod
    def choose(cls, device: str, precision: str, *, rank: int = 0) -> MixedPrecision:
        """Choose device and format for this machine.

        Args:
            device: ``cpu``, ``cuda``, or ``auto``: a GPU where PyTorch finds one.
            precision: ``fp32``, ``bf16``, or ``auto``: bf16 where it is native, FP16 on older GPUs, else FP32.
            rank: Number of the process; each takes its own GPU.

        Raises:
            ConfigError: If there is no GPU and one is asked for.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("[run] device is cuda, and PyTorch finds no GPU", expected="cpu or auto")
        on_gpu = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        place = torch.device("cuda", rank % torch.cuda.device_count()) if on_gpu else torch.device("cpu")
        native = torch.cuda.is_bf16_supported() if on_gpu else processor().bf16
        half: torch.dtype | None = None
        if precision == "bf16" or (precision == "auto" and native):
            half = torch.bfloat16
        elif precision == "auto" and on_gpu:
            half = torch.float16
        if precision == "bf16" and not native:
            _log.warning("no native bf16 here: training in bf16 will be slower than in fp32")
        return cls(place, half, torch.amp.GradScaler(place.type, enabled=half is torch.float16))

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def place(self, network: nn.Module) -> nn.Module:
        """Move a network here, its weights in the layout that convolutions are fastest in."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def images(self, images: Tensor) -> Tensor:
        """Move uint8 images to the device and convert them to floats there."""
        return images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last).float()


def keep_freed_memory() -> bool:
    """Set the C library to keep large blocks for the next step instead of returning them to the system.

    A training step frees and asks again for hundreds of megabytes; without this each of its pages is mapped and
    cleared anew, 4 to 7 % of the time (measured on two cores). True where it worked: with glibc.
    """
    return _set_allocator(trim_threshold=2**31 - 1, mmap_max=0)


def return_freed_memory() -> None:
    """Give the C library its usual settings back after `keep_freed_memory`, and return what is free to the system.

    A process may go on for long after a training, and would keep up to a gigabyte that nothing uses.
    """
    if _set_allocator(trim_threshold=_USUAL_TRIM_THRESHOLD, mmap_max=_USUAL_MMAP_MAX):
        ctypes.CDLL(None).malloc_trim(0)


def _set_allocator(*, trim_threshold: int, mmap_max: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, mmap_max)) and bool(mallopt(_M_TRIM_THRESHOLD, trim_threshold))
