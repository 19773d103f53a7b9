"""What one frame costs besides the network: resize, decode and draw, one core, against the plain way.

A 1280x720 image of people cut out of photographs, as many as asked for
(`featherpose.evaluation.performance.mosaics`), goes through the network once; its maps are decoded and the people drawn
again and again. The plain way in the same run is
what the papers' Python code does: area resize, every map resized by 4, peaks and groups in Python, one OpenCV call
for each limb and joint.

    python benchmarks/frame_work.py --data ../shared --json benchmarks/results/frame_work.json
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from time import thread_time

import cv2
import numpy as np

from featherpose.drawing.draw import draw_poses
from featherpose.drawing.palette import limb_colors
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.performance.mosaics import find_cutouts, fit_crowd
from featherpose.evaluation.performance.timing import Timing, time_in_turns
from featherpose.evaluation.reference.paf import PlainPafDecoder
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.methods.paf.method import maps_of
from featherpose.poses import Poses
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.zoo.resolve import resolve_model

SIZE = (1280, 720)
HEIGHT = 256


def draw_plainly(image: np.ndarray, poses: Poses) -> None:
    """One call for each limb and each joint."""
    for person in poses.keypoints:
        for (a, b), color in zip(poses.skeleton.limbs, limb_colors(poses.skeleton), strict=True):
            if not np.isnan(person[[a, b]]).any():
                start, end = person[a].astype(int).tolist(), person[b].astype(int).tolist()
                cv2.line(image, start, end, color, 3, cv2.LINE_AA)
        for x, y in person[~np.isnan(person[:, 0])].astype(int).tolist():
            cv2.circle(image, (x, y), 4, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)


def median_cpu_ms(call: Callable[[], object], runs: int) -> float:
    """Median processor time of a call in this thread, milliseconds."""
    samples = []
    for _ in range(runs):
        started = thread_time()
        call()
        samples.append(1e3 * (thread_time() - started))
    return round(float(np.median(samples)), 3)


def measure(model: Path, data: Path, people: int, rounds: int) -> dict[str, object]:
    """Return the times of the stages and of all three together."""
    cv2.setNumThreads(1)
    resolved = resolve_model(model)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(threads=1))
    estimator = PoseEstimator.from_backend(backend, height=HEIGHT)
    image, found = fit_crowd(find_cutouts(data / "data/coco-val"), people, lambda p: len(estimator(p)), SIZE)
    network_input, letterbox = prepare(image, height=HEIGHT)
    maps = maps_of(backend.infer(network_input)[0], resolved.spec.outputs)
    decoder, plain = PafDecoder(estimator.skeleton), PlainPafDecoder(estimator.skeleton, ratio=4)
    poses, canvas = decoder(maps, letterbox), image.copy()

    def whole() -> None:
        prepare(canvas, height=HEIGHT)  # a frame is drawn into where it was read
        draw_poses(canvas, decoder(maps, letterbox))

    def whole_plain() -> None:
        cv2.resize(canvas, letterbox.content_size, interpolation=cv2.INTER_AREA)
        draw_plainly(canvas, plain(maps, letterbox))

    calls: dict[str, Callable[[], object]] = {
        "resize": lambda: prepare(image, height=HEIGHT),
        "decode": lambda: decoder(maps, letterbox),
        "draw": lambda: draw_poses(canvas, poses),
        "all three": whole,
        "plain: decode": lambda: plain(maps, letterbox),
        "plain: draw": lambda: draw_plainly(canvas, poses),
        "plain: all three": whole_plain,
    }
    cpu_ms = {name: median_cpu_ms(call, rounds * 2) for name, call in calls.items() if not name.startswith("plain")}
    times = time_in_turns(list(calls.values()), rounds=rounds, block=5, warm_up=5)
    ratios = np.array(times[6]) / np.array(times[3])
    estimator.close()
    return {
        "image": f"{SIZE[0]}x{SIZE[1]}, {found} people found",
        "input": f"{letterbox.network_size[0]}x{letterbox.network_size[1]}",
        "model": resolved.spec.name,
        "threads": 1,
        "target_ms": 3.0,
        "times": {name: Timing.of(samples).as_dict() for name, samples in zip(calls, times, strict=True)},
        # Processor time of the one thread that works: on a busy machine the clock on the wall counts others as well.
        "median_cpu_ms": cpu_ms,
        "plain_over_ours_median": round(float(np.median(ratios)), 2),
        "load_average_1_min": round(os.getloadavg()[0], 1),
        "machine": machine_facts(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of development data")
    parser.add_argument("--model", type=Path, help="the released INT8 network unless given")
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    released = arguments.data / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    result = measure(arguments.model or released, arguments.data, arguments.people, arguments.rounds)
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
