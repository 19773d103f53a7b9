"""Features of a frozen part on disk: several heads that learn from the same views compute the trunk once.

A batch is known by its pixels and by the part that sees them, so nothing has to be declared: trainings of the same
seed, data and augmentation find each other's features, others do not.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.files import make_folder, write_bytes

__all__ = ["KeptFeatures"]

_Features = tuple[Float32[np.ndarray, "B h w C"], ...]


class KeptFeatures:
    """Reads features from a folder, and computes and writes those that it lacks.

    Args:
        folder: Made if there is none.
        part: Bytes that tell one frozen part from another, such as its file.

    Raises:
        OutputError: If the folder cannot be made.

    Example:
        >>> import tempfile
        >>> images, calls = np.zeros((1, 4, 4, 3), np.uint8), []
        >>> def compute(batch):
        ...     calls.append(len(batch))
        ...     return (np.ones((1, 2, 2, 5), np.float32),)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = KeptFeatures(Path(folder), b"trunk")
        ...     first, second = kept(images, compute), kept(images, compute)
        >>> len(calls), np.array_equal(first[0], second[0])
        (1, True)
    """

    def __init__(self, folder: Path, part: bytes) -> None:
        self._folder, self._part = folder, hashlib.blake2b(part, digest_size=16).digest()
        make_folder(folder)

    def __call__(
        self, images: UInt8[np.ndarray, "B H W 3"], compute: Callable[[UInt8[np.ndarray, "B H W 3"]], _Features]
    ) -> _Features:
        """Return the features of a batch; rounded to half precision, also where they are computed now.

        Args:
            images: The batch.
            compute: Computes the features.
        """
        key = hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=16, key=self._part).hexdigest()
        path = self._folder / f"{key}-{'x'.join(map(str, images.shape))}.npz"
        if path.is_file():
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    return tuple(arrays[f"arr_{i}"].astype(np.float32) for i in range(len(arrays.files)))
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                # Cut off by a crash or a full disk: computed again.
                path.unlink(missing_ok=True)
        # Half precision ends at 65504.
        halves = [np.clip(values, -6e4, 6e4).astype(np.float16) for values in compute(images)]
        data = io.BytesIO()
        np.savez(data, *halves)
        write_bytes(path, data.getvalue())
        return tuple(values.astype(np.float32) for values in halves)
