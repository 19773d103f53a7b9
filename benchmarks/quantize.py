"""INT8 of the released network made by ``featherpose quantize`` against the official INT8 file: AP and time.

    python benchmarks/quantize.py --data ../shared --json benchmarks/results/quantize.json

Exports the released weights, quantizes them with images of coco-train, measures AP on coco-val (images that
nothing was chosen by) in FP32, our INT8 and the official INT8, and times both INT8 files in turns, image by image.
``--reuse`` takes the files that an earlier run left in the folder of ``--work``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.coco_ap import average_precision, estimate_dataset
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.export.quantization.nncf import QuantizeOptions
from featherpose.export.quantization.run import QuantizeRequest, quantize_model
from featherpose.media.images import read_image
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.zoo.resolve import resolve_model

_RELEASED = "models/human-pose-estimation-0001/human-pose-estimation-0001"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of development data")
    parser.add_argument("--json", type=Path, required=True)
    # Outside the checkout: these files are the released network's, and must never be taken for the project's.
    work = Path(tempfile.gettempdir()) / "featherpose-quantize"
    parser.add_argument("--work", type=Path, default=work, help="folder for the model files")
    parser.add_argument("--images", type=int, default=200, help="calibration images")
    parser.add_argument("--calibration-height", type=int, default=256)
    parser.add_argument("--heights", type=int, nargs="+", default=[256, 368])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--reuse", action="store_true", help="take the model files of an earlier run")
    parser.add_argument("--no-ap", action="store_true")
    arguments = parser.parse_args()
    official = arguments.data / f"{_RELEASED}-int8.xml"
    exact, ours = arguments.work / "released.xml", arguments.work / "released-int8.xml"
    if not arguments.reuse:
        weights = arguments.data / f"{_RELEASED}-fp16.safetensors"
        export_checkpoint(ExportRequest(checkpoint=weights, output=arguments.work, name="released"))
        options = QuantizeOptions(images=arguments.images, height=arguments.calibration_height)
        quantize_model(
            QuantizeRequest(model=exact, calibration=arguments.data / "data/coco-train", output=ours, options=options)
        )
    report: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.is_file() else {}
    report |= {"machine": machine_facts(), "calibration_images": arguments.images,
               "calibration_height": arguments.calibration_height}  # fmt: skip
    report["time"] = [
        _times(official, ours, arguments.data, threads, arguments.rounds) for threads in arguments.threads
    ]
    _write(arguments.json, report)
    if not arguments.no_ap:
        dataset = read_coco_dataset(arguments.data / "data/coco-val")
        report["AP"] = []
        for height in arguments.heights:
            row: dict[str, Any] = {"dataset": dataset.name, "images": len(dataset.images), "height": height}
            for name, path, precision in (("fp32", exact, "fp32"), ("int8", ours, "int8"),
                                          ("official_int8", official, "int8")):  # fmt: skip
                engine = EngineOptions(precision=precision)  # type: ignore[arg-type]
                with PoseEstimator(path, height=height, engine=engine) as estimator:
                    row[name] = round(average_precision(dataset, estimate_dataset(estimator, dataset)).AP, 5)
            row["drop"] = round(row["fp32"] - row["int8"], 5)
            print(row, flush=True)
            report["AP"].append(row)
            _write(arguments.json, report)


def _times(official: Path, ours: Path, data: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Both files in turns on the same input, 456x256; the ratio is the median of the turns' ratios."""
    image = read_image(min((data / "data/coco-val/images").iterdir()))
    images = np.ascontiguousarray(np.resize(prepare(image, height=256)[0], (1, 256, 456, 3)))
    backends = []
    for path in (official, ours):
        resolved = resolve_model(path)
        backends.append(open_backend(resolved.path, resolved.spec, EngineOptions(threads=threads)))
    for backend in backends * 10:
        backend.infer(images)
    times = np.empty((rounds, 2))
    for turn in range(rounds):
        for slot in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            backends[slot].infer(images)
            times[turn, slot] = 1e3 * (time.perf_counter() - started)
    row: dict[str, Any] = {"size": [456, 256], "threads": threads, "rounds": rounds}
    for slot, name in enumerate(("official_int8", "int8")):
        row[name] = {"median_ms": round(float(np.median(times[:, slot])), 3),
                     "p95_ms": round(float(np.percentile(times[:, slot], 95)), 3)}  # fmt: skip
    row["ratio"] = round(float(np.median(times[:, 1] / times[:, 0])), 4)
    print(row, flush=True)
    for backend in backends:
        backend.close()
    return row


def _write(path: Path, report: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report, indent=2) + "\n")
    part.replace(path)


if __name__ == "__main__":
    main()
