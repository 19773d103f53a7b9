"""``featherpose evaluate``: COCO keypoint AP of a model, with everything that the figure depends on."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from featherpose.cli.options import ModelOptions
from featherpose.cli.report import print_table, write_json
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.errors import OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.coco import CocoDataset, read_coco_dataset
from featherpose.evaluation.coco_ap import CocoScores, average_precision, estimate_dataset
from featherpose.evaluation.machine import machine_facts
from featherpose.media.atomic import check_writable

__all__ = ["evaluate"]


def evaluate(
    dataset: Path,
    *,
    images: Path | None = None,
    limit: Annotated[int | None, Parameter(help="Only the first N pictures.")] = None,
    preset: Annotated[
        Literal["default", "published"], Parameter(help="Decoding rules: the better ones, or the papers'.")
    ] = "default",
    save_results: Annotated[
        Path | None, Parameter(help="Write the people found, as COCO results, to this file.")
    ] = None,
    json: Annotated[
        Path | None, Parameter(help="Write AP, AP50, AR, ... and what they depend on to this file.")
    ] = None,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> None:
    """Measure a model's COCO keypoint AP on annotated pictures.

    Args:
        dataset: A folder with annotations.json and images/, or a COCO person keypoint file.
        images: Folder of the pictures, where they are not in images/ beside the annotations.
        limit: Only the first N pictures.
        preset: Decoding rules: those that suit the model, or the papers'.
        save_results: File for the people found.
        json: File for the result.
        model: Which model, and how it runs.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"--limit {limit}", expected="at least one picture")
    for file in (save_results, json):
        if file is not None:
            check_writable(file)
    data = read_coco_dataset(dataset, images)
    if limit is not None:
        data = data.first(limit)
    decode = DecodeOptions.published() if preset == "published" else None
    engine = model.throughput_engine
    with PoseEstimator(model.model, height=model.height, engine=engine, decode=decode) as estimator:
        estimator.warm_up()
        started = time.perf_counter()
        results = _with_progress(estimator, data, engine.requests + 1)
        seconds = time.perf_counter() - started
        info = estimator.info
        scores = average_precision(data, results)
        report: dict[str, Any] = {
            **scores.as_dict(),
            "dataset": data.name,
            "pictures": len(data.pictures),
            "people": data.people,
            "people_found": len(results),
            "model": estimator.spec.name,
            "height": model.height,
            "precision": info.precision,
            "float_precision": info.float_precision,
            "engine": info.engine,
            "device": info.device,
            "threads": info.threads,
            "requests": engine.requests,
            "preset": preset,
            "decode": {k: v if v != float("inf") else None for k, v in asdict(estimator.decode_options).items()},
            "seconds": round(seconds, 2),
            "machine": machine_facts(),
        }
    if save_results is not None:
        write_json(save_results, results)
    if json is not None:
        write_json(json, report)
    _show(report, scores)


def _with_progress(estimator: PoseEstimator, data: CocoDataset, in_flight: int) -> list[dict[str, Any]]:
    if not sys.stderr.isatty():
        return estimate_dataset(estimator, data, in_flight=in_flight)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[people]:,} people"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=len(data.pictures), people=0)
        return estimate_dataset(
            estimator,
            data,
            in_flight=in_flight,
            progress=lambda done, people: bar.update(task, completed=done, people=people),
        )


def _show(report: dict[str, Any], scores: CocoScores) -> None:
    rows = [(name, f"{value:.4f}" if value >= 0 else "-") for name, value in scores.as_dict().items()]
    print_table(["metric", "value"], rows)
    print(
        f"{report['model']} on {report['dataset']}: {report['pictures']} pictures, {report['people']} people; "
        f"height {report['height']}, {report['precision']} ({report['float_precision']} elsewhere), "
        f"{report['preset']} rules, {report['engine']}, {report['seconds']:.1f} s",
        file=sys.stderr,
    )
