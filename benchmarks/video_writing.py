"""What it costs to write an annotated video of 1280x720, beside the inference of one frame.

    python benchmarks/video_writing.py VIDEO

Processor time, which other work on the machine disturbs least. The size is for the frames written; the error is the
peak signal-to-noise ratio of what comes back. Results: results/video_writing.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from featherpose import PoseEstimator
from featherpose.media.sinks.h264 import H264Sink
from featherpose.media.sinks.opencv_sink import OpenCVSink
from featherpose.media.sinks.packet_sink import PacketSink

RESULTS = Path(__file__).parent / "results/video_writing.json"
FRAMES = 100
WRITERS = {
    "VP9 in .mp4": (PacketSink, ".mp4"), "VP8 in .webm": (PacketSink, ".webm"),
    "Motion JPEG in .avi": (PacketSink, ".avi"), "H.264 by PyAV in .mp4": (H264Sink, ".mp4"),
    "MPEG-4 Part 2 by cv2.VideoWriter in .mp4": (OpenCVSink, ".mp4"),
    "VP8 by cv2.VideoWriter in .webm": (OpenCVSink, ".webm"),
}  # fmt: skip


def main() -> None:
    """Measure every writer and print a table."""
    capture = cv2.VideoCapture(sys.argv[1])
    frames: list[np.ndarray] = []
    while len(frames) < FRAMES and (read := capture.read())[0]:
        frames.append(cv2.resize(read[1], (1280, 720), interpolation=cv2.INTER_AREA))
    rows: dict[str, dict[str, float]] = {}
    with PoseEstimator() as estimator:
        estimator(frames[0])
        started = time.process_time()
        for frame in frames[:50]:
            estimator(frame)
        rows["inference, bundled network, height 256"] = {"cpu_ms": 1e3 * (time.process_time() - started) / 50}
    with tempfile.TemporaryDirectory() as folder:
        for name, (writer, suffix) in WRITERS.items():
            path = Path(folder) / f"out{suffix}"
            some = frames[:30] if "VideoWriter" in name else frames
            started = time.process_time()
            with writer(path, 25.0) as sink:
                for i, frame in enumerate(some):
                    sink.write(frame, i / 25)
            cpu_ms = 1e3 * (time.process_time() - started) / len(some)
            back = cv2.VideoCapture(str(path))
            errors = [float(np.mean((back.read()[1].astype(np.float32) - frame) ** 2)) for frame in some]
            rows[name] = {
                "cpu_ms": cpu_ms, "kb_a_frame": path.stat().st_size / len(some) / 1e3,
                "psnr_db": float(10 * np.log10(255**2 / np.mean(errors))),
            }  # fmt: skip
            path.unlink()
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
    print("| writer | processor ms a frame | KB a frame | PSNR dB |\n|---|---|---|---|")
    for name, row in rows.items():
        cells = [f"{row[key]:.1f}" if key in row else "" for key in ("cpu_ms", "kb_a_frame", "psnr_db")]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
