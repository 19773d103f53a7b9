"""Frames in, JSON Lines out: featherpose against the pipeline of the slides, in the same run.

The slides' pipeline: Lightweight OpenPose in PyTorch FP32, every map resized by cubic interpolation, keypoints and
people found in plain Python (`featherpose.evaluation.reference.paf`), one frame after the other. It is timed in two
variants: maps resized to the image, as the slides' table of stages times them, and by a factor of 4, as in their
optimized table. featherpose: the same network in INT8 on OpenVINO, several frames in flight.

Both get the same frames in memory (1280x720) and write the same kind of file; reading a video is
in neither. Rounds alternate, the ratio is taken round by round, its median is reported.

    python benchmarks/end_to_end.py vtest.avi --data ../shared --json benchmarks/results/end_to_end.json

``vtest.avi`` (pedestrians) comes with Debian's package opencv-doc. Figures of a busy machine are worth little: the
threads of PyTorch spin while they wait for each other, so it loses more than OpenVINO when others want the cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from featherpose.estimator import PendingPoses, PoseEstimator
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.reference.paf import PlainPafDecoder
from featherpose.formats.jsonl import JsonlWriter
from featherpose.formats.record import FrameRecord
from featherpose.media.sources.find import open_source
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.maps import Maps
from featherpose.poses import Poses
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.processor import available_cores
from featherpose.skeleton import OPENPOSE_18

SIZE = (1280, 720)
HEIGHT = 256


def fill(image: np.ndarray) -> np.ndarray:
    """Resize to cover 1280x720 and cut off what hangs over, top and bottom or left and right alike."""
    scale = max(SIZE[0] / image.shape[1], SIZE[1] / image.shape[0])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    left, top = (width - SIZE[0]) // 2, (height - SIZE[1]) // 2
    return np.ascontiguousarray(resized[top : top + SIZE[1], left : left + SIZE[0]])


def read_frames(video: Path, count: int, columns: int) -> list[np.ndarray]:
    """Frames of 1280x720: a cut of the video, or several of its moments side by side at full height."""
    with open_source(video) as source:
        images = [frame.image for frame in itertools.islice(source, count)]
    if columns == 1:
        return [fill(image) for image in images]
    height = SIZE[1]
    width = min(SIZE[0] // columns, round(images[0].shape[1] * height / images[0].shape[0]))
    small = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
    frames = []
    for index in range(len(small)):
        frame = np.full((height, SIZE[0], 3), 128, np.uint8)
        for column in range(columns):
            moment = (index + column * len(small) // columns) % len(small)
            frame[:, column * width : (column + 1) * width] = small[moment]
        frames.append(frame)
    return frames


def slides_network(shared: Path, threads: int) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return the released network in PyTorch FP32: uint8[1, h, w, 3] -> heatmaps, pafs."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(threads)
    spec = importlib.util.spec_from_file_location("teacher_net", shared / "tools/teacher_net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.TeacherNet()
    weights = load_file(shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-fp16.safetensors")
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    network.eval()

    def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            heatmaps, pafs = network(torch.from_numpy(image).permute(0, 3, 1, 2).float())
        return heatmaps[0].numpy(), pafs[0].numpy()

    return run


def run_slides(frames: list[np.ndarray], network: Any, decode: PlainPafDecoder, out: Path) -> dict[str, float]:
    """One frame after the other; milliseconds a frame by stage, and people."""
    spent = dict.fromkeys(("prepare", "infer", "decode", "write"), 0.0)
    people = 0
    writer = JsonlWriter(out, OPENPOSE_18)
    for index, frame in enumerate(frames):
        t0 = perf_counter()
        network_input, box = prepare(frame, height=HEIGHT, size_multiple=8, pad_value=128)
        t1 = perf_counter()
        heatmaps, pafs = network(network_input)
        t2 = perf_counter()
        poses = decode(Maps(heatmaps, pafs), box)
        t3 = perf_counter()
        writer.write(FrameRecord(index, index / 25, poses, "frames", None))
        t4 = perf_counter()
        people += len(poses)
        for stage, ms in zip(spent, (t1 - t0, t2 - t1, t3 - t2, t4 - t3), strict=True):
            spent[stage] += 1e3 * ms / len(frames)
    writer.close()
    return {**spent, "total": sum(spent.values()), "people": people / len(frames)}


def run_featherpose(frames: list[np.ndarray], estimator: PoseEstimator, in_flight: int, out: Path) -> dict[str, float]:
    """Several frames in flight; milliseconds a frame in all, and people."""
    running: deque[PendingPoses] = deque()
    people = written = 0
    writer = JsonlWriter(out, estimator.skeleton)

    def finish_oldest() -> None:
        nonlocal people, written
        poses: Poses = running.popleft().result()
        writer.write(FrameRecord(written, written / 25, poses, "frames", None))
        written += 1
        people += len(poses)

    started = perf_counter()
    for frame in frames:
        running.append(estimator.submit(frame))
        if len(running) >= in_flight:
            finish_oldest()
    while running:
        finish_oldest()
    writer.close()
    return {"total": 1e3 * (perf_counter() - started) / len(frames), "people": people / len(frames)}


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 3),
        "p95": round(float(np.percentile(values, 95)), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("--columns", type=int, default=1, help="moments of the video side by side, for more people")
    parser.add_argument("--data", type=Path, required=True, help="the folder with models/ and tools/")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=60, help="frames of featherpose in a round")
    parser.add_argument("--slides-frames", type=int, default=10, help="of them, frames of the slides' pipelines")
    parser.add_argument("--requests", type=int, default=2, help="featherpose: inferences side by side")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    frames = read_frames(options.video, options.frames, options.columns)
    some = [frames[i] for i in np.linspace(0, len(frames) - 1, options.slides_frames).astype(int)]
    model = options.data / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    network = slides_network(options.data, options.threads)
    published = PafOptions.published()
    slides = {
        "slides, maps resized to the image": PlainPafDecoder(OPENPOSE_18, published),
        "slides, maps resized by 4": PlainPafDecoder(OPENPOSE_18, published, ratio=4),
    }
    in_flight = options.num_streams + 1
    ours = "featherpose, INT8"
    times: dict[str, list[float]] = {ours: [], **{name: [] for name in slides}}
    people: dict[str, float] = {}
    stages: dict[str, list[dict[str, float]]] = {name: [] for name in slides}
    with (
        PoseEstimator(
            model, height=HEIGHT, engine=EngineOptions(threads=options.threads, num_streams=options.num_streams)
        ) as estimator,
        tempfile.TemporaryDirectory() as folder,
    ):
        out = Path(folder) / "poses.jsonl"
        info = estimator.info
        estimator.warm_up()
        run_featherpose(frames[:10], estimator, in_flight, out)
        for decode in slides.values():
            run_slides(some[:2], network, decode, out)
        for _ in range(options.rounds):
            figures = run_featherpose(frames, estimator, in_flight, out)
            times[ours].append(figures["total"])
            people[ours] = figures["people"]
            for name, decode in slides.items():
                figures = run_slides(some, network, decode, out)
                times[name].append(figures["total"])
                people[name] = figures["people"]
                stages[name].append(figures)
    result = {
        "what": "milliseconds a frame of 1280x720, in memory to JSON Lines, input height 256",
        "video": options.video.name,
        "columns": options.columns,
        "frames": {ours: len(frames), **{name: len(some) for name in slides}},
        "rounds": options.rounds,
        "threads": options.threads,
        "requests": options.num_streams,
        "in_flight": in_flight,
        "engine": info.engine,
        "precision": info.precision,
        "people_per_frame": {name: round(value, 2) for name, value in people.items()},
        "frame_ms": {name: spread(values) for name, values in times.items()},
        "fps": {name: round(1e3 / float(np.median(values)), 2) for name, values in times.items()},
        "stage_ms": {
            name: {
                stage: round(float(np.median([r[stage] for r in rounds])), 2)
                for stage in ("prepare", "infer", "decode", "write")
            }
            for name, rounds in stages.items()
        },
        "speedup": {
            name: spread([slow / fast for slow, fast in zip(times[name], times[ours], strict=True)]) for name in slides
        },
        "machine": machine_facts(),
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.json:
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
