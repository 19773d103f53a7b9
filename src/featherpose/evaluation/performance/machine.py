"""Facts of the machine that a measurement ran on: times are meaningless without them."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from featherpose import __version__
from featherpose.runtime.processor import available_cores, processor

__all__ = ["machine_facts", "package_versions", "peak_memory_mb"]

_PACKAGES = ("numpy", "numba", "openvino", "onnxruntime", "opencv-python-headless", "torch", "pycocotools")
# Of the hundred features of a processor, those that decide how fast it multiplies.
_TELLING = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
    "bf16",
)


def package_versions(packages: tuple[str, ...] = _PACKAGES) -> dict[str, str | None]:
    """Return installed versions, None for missing packages; nothing is imported.

    Example:
        >>> package_versions(("numpy", "no-such-package"))["no-such-package"] is None
        True
    """
    versions: dict[str, str | None] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def machine_facts() -> dict[str, Any]:
    """Return processor, memory, system and versions, without anything that identifies the machine or its user.

    Example:
        >>> facts = machine_facts()
        >>> facts["cores"] >= 1, facts["featherpose"]
        (True, '0.1.0')
    """
    cpu = processor()
    memory = psutil.virtual_memory()
    return {
        "processor": cpu.name,
        "features": [feature for feature in _TELLING if feature in cpu.features],
        "cores": available_cores(),
        "logical_cores": os.cpu_count(),
        "physical_cores": psutil.cpu_count(logical=False),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "memory_gb": round(memory.total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "featherpose": __version__,
        "packages": package_versions(),
    }


def peak_memory_mb() -> float:
    """Return the peak memory of this process (resident set), in MB of 10⁶ bytes.

    Example:
        >>> peak_memory_mb() > 1
        True
    """
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes, macOS in bytes.
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
