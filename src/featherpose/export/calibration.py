"""A real photograph for verification when the user gives none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from featherpose.errors import MissingExtraError

__all__ = ["sample_photographs"]


@contextlib.contextmanager
def sample_photographs() -> Iterator[list[Path]]:
    """Yield paths of photographs that are valid inside the block: the public-domain portrait that matplotlib ships.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib import cbook
    except ImportError as error:
        raise MissingExtraError("verifying without images of your own", "eval") from error
    yield [Path(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))]
