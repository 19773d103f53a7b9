"""Which keys have been seen, exactly enough and in 16 bytes a key."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["KnownKeys"]

_Digests = np.ndarray
_PENDING = 4096


class KnownKeys:
    """A set of keys that only grows: sorted arrays of 128-bit digests, merged when two are alike in size.

    A Python set of a million addresses takes 150 MB; this takes 16 MB, and its arrays are as few as the logarithm of
    their number.

    Example:
        >>> keys = KnownKeys()
        >>> [keys.add(name) for name in ("a.jpg", "b.jpg", "a.jpg")]
        [True, True, False]
        >>> len(keys)
        2
    """

    def __init__(self) -> None:
        self._sorted: list[_Digests] = []
        self._pending: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._pending) + sum(len(array) for array in self._sorted)

    def add(self, key: str) -> bool:
        """Take in a key; False if it was there."""
        digest = blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).digest()
        if digest in self._pending or self._holds(digest):
            return False
        self._pending.add(digest)
        if len(self._pending) >= _PENDING:
            self._merge()
        return True

    def _holds(self, digest: bytes) -> bool:
        high, low = np.frombuffer(digest, ">u8").astype(np.uint64)
        for array in self._sorted:
            place = int(np.searchsorted(array["high"], high))
            while place < len(array) and array["high"][place] == high:
                if array["low"][place] == low:
                    return True
                place += 1
        return False

    def _merge(self) -> None:
        words = np.frombuffer(b"".join(self._pending), ">u8").astype(np.uint64).reshape(-1, 2)
        new = np.empty(len(words), [("high", np.uint64), ("low", np.uint64)])
        new["high"], new["low"] = words[:, 0], words[:, 1]
        self._pending.clear()
        self._sorted.append(new[np.argsort(new["high"], kind="stable")])
        while len(self._sorted) > 1 and len(self._sorted[-1]) >= len(self._sorted[-2]):
            both = np.concatenate((self._sorted.pop(), self._sorted.pop()))
            self._sorted.append(both[np.argsort(both["high"], kind="stable")])
