"""The message that the first run on a machine compiles kernels."""

from __future__ import annotations

import sys

from featherpose.jit import kernels_are_cached
from featherpose.methods.method import Method

__all__ = ["note_compilation"]


def note_compilation(method: Method, *, quiet: bool = False) -> bool:
    """Print a message on stderr if the kernels of a method and of tracking have to be compiled.

    Args:
        method: The method whose decoder will run.
        quiet: Print nothing.

    Returns:
        Whether they are compiled already.
    """
    compiled = kernels_are_cached(*method.kernel_modules, "featherpose.tracking")
    if not compiled and not quiet:
        print("featherpose: compiling the decoder for this processor, once; takes some seconds", file=sys.stderr)
    return compiled
