"""AP of the fast decoder and of the plain full-resize decoders on the same maps: the network runs once.

python benchmarks/decode_accuracy.py DATASET --model MODEL.xml --out benchmarks/results/decode_accuracy.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2

from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.keypoints.decoder_search import keep_maps
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.reference.paf import PlainPafDecoder
from featherpose.formats.coco import coco_results
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.method import maps_of
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.zoo.resolve import resolve_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--height", type=int, default=368)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    data = read_coco_dataset(options.dataset)
    data = data.first(options.limit) if options.limit else data
    resolved = resolve_model(options.model)
    skeleton = resolved.spec.skeleton
    backend = open_backend(resolved.path, resolved.spec, EngineOptions())
    kept = list(keep_maps(data, backend, height=options.height, failed=print))
    info = backend.info
    backend.close()
    decoders: dict[str, PafDecoder | PlainPafDecoder] = {
        "default": PafDecoder(skeleton),
        "published": PafDecoder(skeleton, PafOptions.published()),
        "plain, maps x8, maxima of cells below the pixel": PlainPafDecoder(skeleton, ratio=8, refined=True),
        "plain, maps x8": PlainPafDecoder(skeleton, ratio=8),
        "plain, maps x4": PlainPafDecoder(skeleton, ratio=4),
        "plain, maps at image size": PlainPafDecoder(skeleton),
    }
    rows: dict[str, Any] = {}
    for name, decoder in decoders.items():
        results: list[dict[str, Any]] = []
        seconds = 0.0
        for one in kept:
            maps = maps_of(one.arrays(), resolved.spec.outputs)
            started = perf_counter()
            poses = decoder(maps, one.letterbox)
            seconds += perf_counter() - started
            results += coco_results(poses, one.image_id)
        rows[name] = {
            **average_precision(data, results).as_dict(),
            "people_found": len(results),
            "mean_ms": round(1e3 * seconds / len(kept), 3),
        }
        print(name, rows[name], flush=True)
    report = {
        "dataset": data.name,
        "images": len(kept),
        "height": options.height,
        "model": resolved.spec.name,
        "precision": info.precision,
        "float_precision": info.float_precision,
        "engine": info.engine,
        "maps_kept_in": "float16",
        "decoders": rows,
        "machine": machine_facts(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
