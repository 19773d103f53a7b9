"""What a batch run costs beside the inference, from a thousand units to a million, and the memory of its driver.

    python benchmarks/batch_growth.py [--sizes 1000 10000 100000 1000000] [--out benchmarks/results]

The units are names in a Parquet list, without files; each worker answers with the recorded result of one photograph
(four people). What is left is plan, jobs, reports and files: all of it is counted as overhead.
Memory is that of the driver's process, twice a second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from reports import publish

from featherpose.cluster import BatchOptions, BatchProgress, DetectionOptions, run_batch
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.outputs.shards import Outcome
from featherpose.cluster.videos import Piece
from featherpose.formats.record import FrameRecord
from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18

_PEOPLE = 4


class Recorded:
    """Answers with one recorded result."""

    def __init__(self, options: DetectionOptions, patience_s: float) -> None:
        self.skeleton = OPENPOSE_18
        rng = np.random.default_rng(0)
        points = rng.uniform(0, 600, (_PEOPLE, 18, 2)).astype(np.float32)
        scores = np.full((_PEOPLE, 18), 0.7, np.float32)
        self._poses = Poses(points, scores, np.ones(_PEOPLE, np.float32), OPENPOSE_18, (640, 480))

    def facts(self) -> dict[str, Any]:
        """Tell what runs."""
        return {"model": "a recorded result"}

    def image(self, unit: Unit, data: bytes | None) -> Outcome:
        """Return the recorded people."""
        record = FrameRecord(0, 0.0, self._poses, unit.key, is_image=True)
        return Outcome(unit.key, frames=1, people=_PEOPLE, size=(640, 480), records=(record,))

    def piece(self, unit: Unit, advance: object) -> Piece:
        """Fail: there are no videos."""
        raise NotImplementedError


class Watch(threading.Thread):
    """Reads the memory of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, float]] = []
        self.ended = threading.Event()

    def run(self) -> None:
        """Read until it is told to end."""
        own, began = psutil.Process(), time.perf_counter()
        while not self.ended.wait(0.5):
            self.samples.append((round(time.perf_counter() - began, 1), round(own.memory_info().rss / 2**20, 1)))


def measure(units: int, work: Path) -> dict[str, Any]:
    """Run over so many units and return what it took."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = work / "units.parquet"
    pq.write_table(pa.table({"uri": [f"/archive/{i // 1000:06d}/{i:09d}.jpg" for i in range(units)]}), listed)
    watch = Watch()
    watch.start()
    ready: list[float] = []

    def progress(state: BatchProgress) -> None:
        if state.workers and not ready:
            ready.append(time.perf_counter())

    began = time.perf_counter()
    summary = run_batch([str(listed)], str(work / "out"), BatchOptions(workers=2), on_progress=progress,
                        make_detector=Recorded)  # fmt: skip
    ended = time.perf_counter()
    watch.ended.set()
    assert summary.counts.units == units
    memory = [value for _, value in watch.samples]
    shutil.rmtree(work / "out")
    return {
        "units": units, "shards": summary.shards, "seconds": round(ended - began, 2),
        "seconds_after_start": round(ended - ready[0], 2), "ms_a_unit": round(1e3 * (ended - ready[0]) / units, 4),
        "driver_mb_first_quarter": max(memory[: max(1, len(memory) // 4)]), "driver_mb_most": max(memory),
        "curve_s_mb": watch.samples[:: max(1, len(watch.samples) // 100)],
    }  # fmt: skip


def main() -> None:
    """Measure every size and publish the curve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    runs = []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="featherpose-growth-") as work:
            runs.append(measure(size, Path(work)))
        print(json.dumps({k: v for k, v in runs[-1].items() if k != "curve_s_mb"}), flush=True)
    publish({"runs": runs}, options.out / "batch_growth.json")


if __name__ == "__main__":
    main()
