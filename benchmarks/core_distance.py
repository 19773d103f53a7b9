"""How long a value takes from one core to another and back.

    python benchmarks/core_distance.py

A network of many small layers, each shared by all cores, hands its values from core to core hundreds of times an image.
On one chip a round trip takes some 50 ns. A virtual machine whose cores lie on different chips, which may change by the
minute, takes 300 to 900 ns, and feather then needs a quarter more time. So each benchmark states it.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from threading import Thread
from time import perf_counter

import numba
import numpy as np

from featherpose.runtime.processor import available_cores

__all__ = ["core_round_trip_ns"]

TURNS, TRIES = 20_000, 5
_absolute = ctypes.CDLL(ctypes.util.find_library("c")).labs
_absolute.argtypes, _absolute.restype = [ctypes.c_long], ctypes.c_long


@numba.njit(nogil=True)
def _turns(cell: np.ndarray, first: int, count: int) -> None:
    for i in range(count):
        while cell[0] != 2 * i + first:
            _absolute(1)  # a foreign call: the compiler must read the cell again
        cell[0] += 1


def core_round_trip_ns() -> int | None:
    """Return the shortest of a few measurements, in nanoseconds; None where only one core may be used."""
    if available_cores() < 2:
        return None
    _turns(np.zeros(1, np.int64), 0, 1)  # compiles
    found = []
    for _ in range(TRIES):
        cell = np.zeros(8, np.int64)
        other = Thread(target=_turns, args=(cell, 1, TURNS))
        other.start()
        _turns(cell, 0, 1)  # until both are there
        started = perf_counter()
        _turns(cell, 2, TURNS - 1)
        found.append(1e9 * (perf_counter() - started) / (TURNS - 1))
        other.join()
    return round(min(found))


if __name__ == "__main__":
    print(core_round_trip_ns(), "ns")
