"""What the checks of untrusted input cost a frame, in processor time, beside the same work without them.

    python benchmarks/check_cost.py --json benchmarks/results/check_cost.json

Four places where every frame passes: an image file, an upload to the server, a frame of a video, and a line of JSON
Lines. Each is done by featherpose and by the plainest code that gives the same (OpenCV's ``imdecode``, its
``VideoCapture``, ``json.dumps`` and ``write``), in turns. The difference is set against the time of the whole frame:
reading it and finding its people with the bundled network, one thread, at the default level of quality and at the
fastest. The difference holds more than checks (the orientation of a photograph, the time of a video frame), so it
bounds their cost from above. Times are those of the process, of single calls in turns, so that a busy machine counts
less.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from reports import publish

from featherpose.demo import PHOTOGRAPH
from featherpose.estimator import PoseEstimator
from featherpose.formats.jsonl import JsonlWriter, frame_to_dict
from featherpose.formats.record import FrameRecord, WriterOptions
from featherpose.media.images import MAX_PIXELS, decode_image
from featherpose.media.sources.find import open_source
from featherpose.server.http.uploads import decode_upload

_FRAMES = 250


def processor_ms(call: Callable[[], object], repeat: int) -> float:
    """Return the processor time of one call, the mean of a block."""
    started = time.process_time()
    for _ in range(repeat):
        call()
    return 1e3 * (time.process_time() - started) / repeat


def in_turns(ours: Callable[[], object], plain: Callable[[], object], rounds: int, repeat: int) -> dict[str, Any]:
    """Return medians and the difference with its 95 % interval (bootstrap of the median over rounds)."""
    for call in (ours, plain):
        call()
    pairs = np.array([[processor_ms(call, repeat) for call in (ours, plain)] for _ in range(rounds)])
    difference = pairs[:, 0] - pairs[:, 1]
    picks = np.random.default_rng(0).integers(0, rounds, (2000, rounds))
    low, high = np.percentile(np.median(difference[picks], axis=1), [2.5, 97.5])
    return {
        "ours_ms": round(float(np.median(pairs[:, 0])), 4), "plain_ms": round(float(np.median(pairs[:, 1])), 4),
        "difference_ms": round(float(np.median(difference)), 4),
        "interval_ms": [round(float(low), 4), round(float(high), 4)],
    }  # fmt: skip


def read_plainly(path: Path) -> None:
    """Read a video with OpenCV alone."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    while capture.read()[0]:
        pass
    capture.release()


def read_all(path: Path) -> None:
    """Read it as every command does."""
    with open_source(path) as source:
        for _ in source:
            pass


def measure(rounds: int, height: int) -> dict[str, Any]:
    """Return the cost of the checks for each kind of frame."""
    cv2.setNumThreads(1)
    image = np.asarray(cv2.resize(decode_image(PHOTOGRAPH.read_bytes(), "people"), (640, 480)), np.uint8)
    data = cv2.imencode(".jpg", image)[1].tobytes()
    rows: dict[str, dict[str, Any]] = {}
    frame_ms = {}
    for level in ("balanced", "fast"):
        with PoseEstimator(quality=level, height=height, threads=1) as estimator:
            poses, skeleton = estimator(image), estimator.skeleton
            samples = [processor_ms(lambda: estimator(image), 3) for _ in range(max(5, rounds // 3))]
            frame_ms[level] = float(np.median(samples))
    with tempfile.TemporaryDirectory() as name:

        def decode_plainly() -> object:
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)

        rows["image file"] = in_turns(lambda: decode_image(data, "a.jpg"), decode_plainly, 20 * rounds, 1)
        rows["upload"] = in_turns(
            lambda: decode_upload(data, "a.jpg", max_pixels=MAX_PIXELS), decode_plainly, 20 * rounds, 1
        )
        video = Path(name) / "a.mp4"
        writer = cv2.VideoWriter(str(video), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 480))
        for i in range(_FRAMES):
            writer.write(np.ascontiguousarray(np.roll(image, 3 * i, axis=1)))
        writer.release()
        one = in_turns(lambda: read_all(video), lambda: read_plainly(video), rounds, 1)
        rows["video frame"] = {key: np.round(np.array(value) / _FRAMES, 4).tolist() for key, value in one.items()}
        record = FrameRecord(0, 0.0, poses, "a.mp4")
        checked = JsonlWriter(Path(name) / "b.jsonl", skeleton, WriterOptions())
        with (Path(name) / "c.jsonl").open("w") as plain:

            def write_plainly() -> None:
                plain.write(json.dumps(frame_to_dict(record), separators=(",", ":")) + "\n")
                plain.flush()

            rows["line of JSON Lines"] = in_turns(lambda: checked.write(record), write_plainly, 20 * rounds, 1)
        checked.close()
    for kind, row in rows.items():
        reading = rows["image file"]["ours_ms"] if kind.startswith("line") else row["ours_ms"]
        row["share_percent"] = {k: round(100 * row["difference_ms"] / (reading + ms), 2) for k, ms in frame_ms.items()}
    return {
        "image": f"640x480 JPEG, {len(data)} bytes, {len(poses)} people", "height": height, "rounds": rounds,
        "network_and_decoding_ms": {k: round(ms, 2) for k, ms in frame_ms.items()}, "target_percent": 1.0, "rows": rows,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    publish(measure(options.rounds, options.height), options.json)


if __name__ == "__main__":
    main()
