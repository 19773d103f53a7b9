"""featherpose: real-time multi-person 2D human pose estimation that runs well on an ordinary CPU.

Public names are loaded when they are first used, so that ``import featherpose`` costs next to nothing.

Example:
    >>> import featherpose
    >>> featherpose.COCO_17.num_keypoints
    17
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

__version__ = "0.1.0"

# OpenVINO and NNCF tell an analytics host of each import and write into the home folder if they find this package.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: "not installed" to an import

# OpenCV's threads would spin when their part of a resize is done, on a core that the inference engine wants next: 1 to
# 6 % of an image's time on two cores. OpenCV reads this once, when it is loaded.
os.environ.setdefault("OPENCV_THREAD_POOL_ACTIVE_WAIT_WORKER", "0")


def _public_names() -> dict[str, str]:
    """Return public name -> module that defines it, as ``__init__.pyi`` lists them for type checkers."""
    assert __spec__ is not None
    assert __spec__.loader is not None
    stub = __spec__.loader.get_data(__file__ + "i")  # type: ignore[attr-defined] # every loader of files has it
    imports = [line.split() for line in stub.decode().splitlines() if line.startswith("from ")]
    return {words[3]: words[1] for words in imports}


_PUBLIC = _public_names()

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        value: object = getattr(import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'featherpose' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
