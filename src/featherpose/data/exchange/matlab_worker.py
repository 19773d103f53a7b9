"""Turn a MATLAB file into JSON on the standard output: ``python -m featherpose.data.exchange.matlab_worker FILE``.

scipy's reader is compiled and ends the process on some damaged files. So `featherpose.data.exchange.matlab_reading`
runs it in a process of its own, with bounded memory, and takes plain text from it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

_MAX_ENTRIES = 50_000_000
_MAX_MEMORY_BYTES = 4 * 2**30


def _plain(value: Any) -> Any:
    """Return structs as objects, arrays as lists, and everything else that is no number or text as None."""
    if hasattr(value, "_fieldnames"):
        return {str(name): _plain(getattr(value, name)) for name in value._fieldnames}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "fiub":
            return value.tolist()
        if value.dtype.kind == "O":
            return [_plain(entry) for entry in value.ravel()]
        return [str(entry) for entry in value.ravel()] if value.dtype.kind == "U" else None
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, str | int | float | bool) else None


def main(path: Path) -> None:
    """Print a JSON object of the file's variables.

    Raises:
        Exception: Whatever scipy's reader raises.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on Windows

        resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    from scipy.io import loadmat, whosmat

    if any(prod(shape) > _MAX_ENTRIES for _, shape, _ in whosmat(path)):
        raise ValueError(f"it claims more than {_MAX_ENTRIES:,} entries")
    content = loadmat(path, squeeze_me=True, struct_as_record=False)
    json.dump({name: _plain(value) for name, value in content.items() if not name.startswith("__")}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
