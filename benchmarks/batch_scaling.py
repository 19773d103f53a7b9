"""Two workers of one core against one, and against plain ``predict`` on both cores, over the same photographs.

    python benchmarks/batch_scaling.py [--images 5168] [--data ../shared] [--out benchmarks/results]

coco-val is repeated by links. The rate of a batch run counts from the moment the first worker was ready to the end, and
once more the whole command; that of ``predict --parquet`` is what it prints and the whole command. All run on two
cores, which Ray's own processes share.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batch_inputs import linked_images, run
from reports import publish

_MODEL = ("--quality", "fast")


def batch(photos: Path, work: Path, workers: int, images: int) -> dict[str, Any]:
    """Run with so many workers."""
    began = time.perf_counter()
    code, talk, summary = run(
        photos, "--out", work / f"out-{workers}", "--workers", str(workers), *_MODEL, summary=work / "s.json"
    )
    assert code == 0, talk
    assert summary["units"] == images
    return {"images_per_s": summary["per_second"], "whole_s": round(time.perf_counter() - began, 1)}


def predict(photos: Path, work: Path) -> dict[str, Any]:
    """Run ``predict`` on all cores."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "featherpose.cli.main", "predict", f"{photos}/**/*.jpg", *_MODEL,
         "--parquet", str(work / "p.parquet"), "--summary", str(work / "p.json"), "-q"],
        check=True,
    )  # fmt: skip
    facts = json.loads((work / "p.json").read_text())
    return {"images_per_s": facts["fps"], "whole_s": round(time.perf_counter() - began, 1)}


def main() -> None:
    """Measure in turns and publish the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5168)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="featherpose-scaling-") as folder:
        work = Path(folder)
        photos = linked_images(options.data / "data/coco-val/images", work / "photos", options.images)
        two = batch(photos, work, 2, options.images)
        plain = predict(photos, work)
        one = batch(photos, work, 1, options.images)
    publish(
        {
            "images": options.images, "options": " ".join(_MODEL), "one worker": one, "two workers": two,
            "predict on both cores": plain,
            "two against one": round(two["images_per_s"] / one["images_per_s"], 3),
            "two against predict": round(two["images_per_s"] / plain["images_per_s"], 3),
        },
        options.out / "batch_scaling.json",
    )  # fmt: skip


if __name__ == "__main__":
    main()
