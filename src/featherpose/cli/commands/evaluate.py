"""``featherpose evaluate``: COCO AP of a model, of keypoints or of a detector's boxes, with the conditions of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from featherpose.cli.options import ModelOptions
from featherpose.cli.report import print_table, write_json
from featherpose.errors import DatasetError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.box_ap import box_precision, box_results
from featherpose.evaluation.keypoints.annotated_boxes import estimate_in_boxes
from featherpose.evaluation.keypoints.coco_ap import CocoScores, average_precision, estimate_dataset
from featherpose.evaluation.keypoints.correct_keypoints import correct_keypoints
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.files import check_writable
from featherpose.methods.boxes.person_boxes import PERSON_BOX
from featherpose.methods.method import preset_of
from featherpose.option_ranges import check_within
from featherpose.parsing import ParseError, read_document
from featherpose.skeleton import load_skeleton
from featherpose.topdown.person_estimator import open_person_estimator
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import ResolvedModel, resolve_model

__all__ = ["evaluate"]

# Names of a detector's figures in the report.
_EVERYONE, _LABELED = "boxes", "boxes of people with keypoints"
_MAX_LIST_BYTES = 2**24


def evaluate(
    dataset: Path,
    *,
    images: Path | None = None,
    limit: Annotated[int | None, Parameter(help="Only the first N images.")] = None,
    only: Annotated[
        Path | None, Parameter(help="Only the images whose ids or file names this text file lists, one a line.")
    ] = None,
    preset: Annotated[
        Literal["default", "paper"], Parameter(help="Decoding options: the recommended ones, or the paper's.")
    ] = "default",
    save_results: Annotated[
        Path | None, Parameter(help="Write the people found, as COCO results, to this file.")
    ] = None,
    json: Annotated[
        Path | None, Parameter(help="Write AP, AP50, AR, ... and what they depend on to this file.")
    ] = None,
    skeleton: Annotated[
        str, Parameter(help="Keypoints to compare: a built-in skeleton (lsp_14, mpii_16, flic_11, ...) or a file.")
    ] = "coco_17",
    flip: Annotated[
        bool,
        Parameter(
            negative="", help="A network for one person sees each crop mirrored as well; the outputs' mean counts."
        ),
    ] = False,
    box_noise: Annotated[
        float,
        Parameter(
            help="Move and scale the boxes of a network for one person: standard deviation, as a part of their sides."
        ),
    ] = 0.0,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> None:
    """Measure a model's COCO keypoint AP, PCK and PCP on annotated images, or the AP of a detector's boxes.

    Behind a detector everyone is refined and keypoints are measured; with --refine off its boxes are.

    Args:
        dataset: A folder with annotations.json and images/, or a COCO person keypoint file.
        images: Folder of the images, where they are not in images/ beside the annotations.
        limit: Only the first N images.
        only: List of the images to measure on.
        preset: Decoding rules: those that suit the model, or the papers'.
        save_results: File for the people found.
        json: File for the result.
        skeleton: Keypoints of the annotations that are compared; those that the model does not have count for AP alone.
        flip: Whether each crop is seen mirrored as well.
        box_noise: How far off annotated boxes are made to be.
        model: Which model, and how it runs.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"--limit {limit}", expected="at least one image")
    check_within("--box-noise", box_noise, 0, 1)
    for file in (save_results, json):
        if file is not None:
            check_writable(file)
    data = read_coco_dataset(dataset, images, skeleton=load_skeleton(skeleton))
    if only is not None:
        data = data.only(_listed(only))
    if limit is not None:
        data = data.first(limit)
    resolved = resolve_model(model.model)
    if resolved.spec.crop is None and (flip or box_noise):
        raise OptionError("--flip or --box-noise for a network of whole images", expected="a network for one person")
    boxes = resolved.spec.skeleton == PERSON_BOX and (model.refine or model.quality.refine).mode == "off"
    started = time.perf_counter()
    if resolved.spec.crop is not None:
        results, facts = _annotated_boxes(resolved, data, preset, model, flip=flip, noise=box_noise)
    else:
        results, facts = _whole_images(resolved, data, preset, model, boxes=boxes)
    report: dict[str, Any] = {
        **(_box_figures(data, results) if boxes else _keypoint_figures(resolved, data, results)),
        **facts,
        "preset": preset,
        "seconds": round(time.perf_counter() - started, 2),
        "machine": machine_facts(),
    }
    if save_results is not None:
        named = [{**r, "category_id": data.file_category} for r in results] if boxes else data.results_for_file(results)
        write_json(save_results, named)
    if json is not None:
        write_json(json, report)
    (_show_boxes if boxes else _show)(report)


def _listed(path: Path) -> set[str]:
    try:
        names = {line.strip() for line in read_document(path, _MAX_LIST_BYTES).decode().splitlines()} - {""}
    except (ParseError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read as a list of images", expected="text, one image a line") from error
    if not names:
        raise DatasetError(f"{path} lists no images", expected="an id or file name a line")
    return names


def _whole_images(
    resolved: ResolvedModel, data: CocoDataset, preset: str, model: ModelOptions, *, boxes: bool = False
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Find everyone on each image, or with ``boxes`` what a detector answers alone."""
    options = preset_of(resolved.spec.method, preset) if preset != "default" else None
    engine = model.throughput_engine
    # The papers' figures are those of the network alone.
    alone = boxes or (preset == "paper" and model.refine is None)
    refine = RefineOptions(mode="off") if alone else model.refine
    with (
        PoseEstimator(resolved, quality=model.quality, refine=refine, engine=engine, options=options) as estimator,
        _progress(len(data.images)) as progress,
    ):
        estimator.warm_up()
        results = estimate_dataset(
            estimator, data, in_flight=engine.num_streams + 1, progress=progress,
            as_results=box_results if boxes else None,
        )  # fmt: skip
        decoding = {k: v if v != float("inf") else None for k, v in asdict(estimator.options).items()}
        return results, {**estimator.describe(), "num_streams": engine.num_streams, "options": decoding}


def _annotated_boxes(
    resolved: ResolvedModel, data: CocoDataset, preset: str, model: ModelOptions, *, flip: bool, noise: float
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Estimate the person in each annotated box: a network that sees one person at a time finds nobody by itself."""
    if preset != "default":
        raise OptionError(f"--preset {preset} for a network that sees one person", expected="default")
    estimator = open_person_estimator(resolved, model.engine, mirror=flip)
    with estimator, _progress(len(data.images)) as progress:
        estimator.warm_up()
        results = estimate_in_boxes(estimator, data, noise=noise, progress=progress)
        return results, {**estimator.describe(), "boxes": "annotated", "flip": flip, "box_noise": noise}


def _keypoint_figures(resolved: ResolvedModel, data: CocoDataset, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure the keypoints of everyone."""
    has = resolved.spec.skeleton if resolved.spec.skeleton != PERSON_BOX else data.skeleton
    known = [k for k, sources in enumerate(has.mapping_to(data.skeleton)) if sources]
    scores, accuracy = average_precision(data, results), correct_keypoints(data, results, known=known)
    return {
        **scores.as_dict(),
        **accuracy.as_dict(),
        "PCK by keypoint": {name: round(value, 5) for name, value in accuracy.pck_by_keypoint.items()},
        "skeleton": data.skeleton.name,
        "dataset": data.name,
        "images": len(data.images),
        "people": data.people,
        "people_found": len(results),
    }


def _box_figures(data: CocoDataset, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Measure a detector by the AP of its boxes."""
    ids = [image.image_id for image in data.images]
    chosen = set(ids)
    return {
        _EVERYONE: box_precision(data.annotations, results, ids).as_dict(),
        _LABELED: box_precision(data.annotations, results, ids, with_keypoints=True).as_dict(),
        "dataset": data.name,
        "images": len(ids),
        "people": sum(a["image_id"] in chosen and not a["iscrowd"] for a in data.annotations["annotations"]),
        "people with keypoints": data.people,
        "boxes_found": len(results),
    }


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, int], None] | None]:
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[people]:,} people"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total, people=0)
        yield lambda done, people: bar.update(task, completed=done, people=people)


def _show(report: dict[str, Any]) -> None:
    names = [*(field.name for field in fields(CocoScores)), "PCK@0.2", "PCKh@0.5", "PCP@0.5"]
    figures = {name: report[name] for name in names}
    rows = [(name, "-" if value is None or value < 0 else f"{value:.4f}") for name, value in figures.items()]
    print_table(["metric", "value"], rows)
    print(
        f"{report['model']} on {report['dataset']}: {report['images']} images, {report['people']} people; "
        f"{_seen(report)}, {report['precision']} ({report['float_precision']} elsewhere), "
        f"{report['preset']} rules, {report['engine']}, {report['seconds']:.1f} s",
        file=sys.stderr,
    )


def _show_boxes(report: dict[str, Any]) -> None:
    sides = report[_EVERYONE], report[_LABELED]
    shown = [[f"{value:.4f}" if value >= 0 else "-" for value in side.values()] for side in sides]
    print_table(["metric", "everyone", "with keypoints"], list(zip(sides[0], *shown, strict=True)))
    print(
        f"{report['model']} on {report['dataset']}: {report['images']} images, {report['people']} people, "
        f"{report['people with keypoints']} with keypoints; boxes, {_seen(report)}, {report['precision']}, "
        f"{report['preset']} rules, {report['engine']}, {report['seconds']:.1f} s",
        file=sys.stderr,
    )


def _seen(report: dict[str, Any]) -> str:
    """Describe what the network saw of each image."""
    if report.get("boxes") == "annotated":
        off = f" with noise of {report['box_noise']:g}" if report["box_noise"] else ""
        return f"annotated boxes{off}, crops of {report['crop'][0]}x{report['crop'][1]}{', flipped' * report['flip']}"
    crops = report["budget_crops"]
    refined = (
        "no refinement" if crops == 0 else "everyone refined" if crops is None else f"up to {crops} people refined"
    )
    scales = "" if report["scales"] == [1.0] else f" x {', '.join(f'{s:g}' for s in report['scales'])}"
    return f"height {report['height']}{scales}{', mirrored' if report['mirror'] else ''}, {refined}"
