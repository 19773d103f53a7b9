"""Native number formats of the processor, and the number of cores that this process may use.

Engines accept formats that a processor only emulates. A bfloat16 graph on a processor without bfloat16 instructions is
several times slower than float32, so the processor's own flags decide.
"""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Processor", "available_cores", "has_native_bf16", "processor"]

# Instructions that multiply the format, as Linux (x86, then Arm) and LLVM spell them.
_BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16", "avx512bf16", "amx-bf16"})
_F16 = frozenset({"avx512_fp16", "amx_fp16", "asimdhp", "avx512fp16", "amx-fp16", "fullfp16"})
_INT8 = frozenset(
    {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "avx512vnni", "avxvnni", "amx-int8", "dotprod"}
)


@dataclass(frozen=True, slots=True)
class Processor:
    """Facts of a processor for inference.

    Attributes:
        name: Model name.
        features: Instruction set names in the operating system's spelling.
    """

    name: str
    features: frozenset[str]

    @property
    def bf16(self) -> bool:
        """Return whether it multiplies bfloat16 natively."""
        return not self.features.isdisjoint(_BF16)

    @property
    def fp16(self) -> bool:
        """Return whether it multiplies float16 natively."""
        return not self.features.isdisjoint(_F16)

    @property
    def int8_dot(self) -> bool:
        """Return whether it has INT8 dot products (VNNI, AMX or Arm's); INT8 works without, but gains less."""
        return not self.features.isdisjoint(_INT8)

    @property
    def amx(self) -> bool:
        """Return whether it has AMX, the matrix instructions of Intel's servers."""
        return "amx_tile" in self.features

    @classmethod
    def from_cpuinfo(cls, text: str) -> Processor:
        r"""Read Linux's ``/proc/cpuinfo``: x86 lists ``flags``, Arm lists ``Features``.

        Example:
            >>> Processor.from_cpuinfo("model name : AMD EPYC\nflags : fpu avx512_bf16 avx512_vnni\n").bf16
            True
        """
        fields: dict[str, str] = {}
        for line in text.splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
        name = fields.get("model name") or fields.get("hardware") or platform.machine()
        return cls(name, frozenset((fields.get("flags") or fields.get("features") or "").split()))


@cache
def processor() -> Processor:
    """Return the processor of this machine; unknown systems report no features, so no special format is chosen."""
    try:
        return Processor.from_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return Processor(_name_elsewhere(), _features_elsewhere())


def has_native_bf16() -> bool:
    """Return whether bfloat16 is worth choosing on this machine."""
    return processor().bf16


def _name_elsewhere() -> str:
    if sys.platform == "darwin":
        try:
            found = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=True
            )
            return found.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return platform.processor() or platform.machine()


def _features_elsewhere() -> frozenset[str]:
    """Return LLVM's name and features, which numba includes; the same names on Windows and macOS."""
    try:
        from llvmlite import binding  # type: ignore[import-untyped]  # it carries no types

        return frozenset(name for name, present in binding.get_host_cpu_features().items() if present)
    except (ImportError, RuntimeError):
        return frozenset()


def available_cores(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the cores that this process may use: its affinity, and a container's quota (rounded up) if there is one.

    Engines see the whole machine and start a thread for each core, which leads to throttling in a container with a
    quota of two.

    Example:
        >>> 1 <= available_cores() <= (os.cpu_count() or 1)
        True
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota = re.fullmatch(r"(\d+) (\d+)", cpu_max.read_text().strip())
    except OSError:
        quota = None
    if quota and int(quota[2]):
        cores = min(cores, max(1, math.ceil(int(quota[1]) / int(quota[2]))))
    return cores
