"""``featherpose bench``: time of a frame by stage on this machine."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from featherpose.cli.options import ModelOptions
from featherpose.cli.report import print_table, write_json
from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.performance.benchmark import (
    BenchOptions,
    BenchReport,
    Image,
    bench_crowd,
    bench_frames,
    make_crowd,
)
from featherpose.files import check_writable
from featherpose.media.sources.find import open_source
from featherpose.runtime.backend import WARMUP_INFERENCES

__all__ = ["bench"]


def bench(
    source: str | None = None,
    /,
    *,
    people: int = 10,
    size: str = "1280x720",
    frames: int = 100,
    warmup: int = WARMUP_INFERENCES,
    in_flight: int = 4,
    num_streams: int = 0,
    json: Path | None = None,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> None:
    """Measure time by stage, throughput and memory on this machine.

    Args:
        source: Image, folder, video, camera or address; a synthetic scene if left out.
        people: People in the synthetic scene; decoding and drawing are timed on maps encoded from them.
        size: Width x height of the synthetic scene in pixels.
        frames: Frames to measure.
        warmup: Frames before that, not counted.
        in_flight: Frames under way at once while throughput is measured.
        num_streams: Inferences side by side, each on its share of the threads; 0 for one at a time on all of them.
        json: Write the figures and the machine they were taken on to this file.
        model: Which model, and how it runs.
    """
    options = BenchOptions(frames=frames, warmup=warmup, in_flight=in_flight)
    wanted = _parse_size(size)
    if people < 0:
        raise OptionError(f"--people {people}", expected="0 or more")
    if json is not None:
        check_writable(json)
    with PoseEstimator(
        model.model, quality=model.quality, refine=model.refine, engine=replace(model.engine, num_streams=num_streams)
    ) as estimator:
        if source is None:
            report = bench_crowd(estimator, make_crowd(estimator, people, wanted), options)
        else:
            with closing(_images(source)) as images:
                report = bench_frames(estimator, images, options)
        result = {**report.as_dict(estimator), "num_streams": num_streams}
    if json is not None:
        write_json(json, result)
    _show(report)
    info = estimator.info
    print(
        f"{result['model']}, height {result['height']}, {info.precision} ({info.float_precision} elsewhere), "
        f"{info.engine} on {result['machine']['processor']}, {info.threads} threads",
        file=sys.stderr,
    )
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)


def _images(source: str) -> Generator[Image, None, None]:
    with open_source(source) as frames:
        for frame in frames:
            yield frame.image


def _parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and 8 <= int(width) <= 16384 and 8 <= int(height) <= 16384):
        raise OptionError(f"--size {text!r}", expected="width x height in pixels, such as 1280x720")
    return int(width), int(height)


def _show(report: BenchReport) -> None:
    rows: list[tuple[str, str, str, str]] = [
        (stage, f"{f.p50_ms:.2f}", f"{f.p95_ms:.2f}", f"{f.mean_ms:.2f}") for stage, f in report.stages.items()
    ]
    width, height = report.size
    print_table(
        ["stage", "p50 ms", "p95 ms", "mean ms"],
        rows,
        title=f"{report.frames} frames of {width}x{height}, {report.people:.1f} people",
    )
    print_table(
        ["figure", "value"],
        [
            ("frames measured", report.frames),
            ("people found, mean", f"{report.people:.1f}"),
            (f"frames per second, {report.in_flight} in flight", f"{report.throughput_hz:.1f}"),
            ("peak memory, MB", f"{report.peak_memory_mb:.0f}"),
        ],
    )
