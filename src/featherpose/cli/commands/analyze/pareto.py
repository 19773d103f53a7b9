"""``featherpose analyze pareto``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from featherpose.cli.options.validators import check_at_least, check_heights, check_outputs
from featherpose.cli.report import print_table, write_json
from featherpose.runtime.backend import Precision

if TYPE_CHECKING:
    from featherpose.evaluation.performance.pareto import CostPoint

__all__ = ["pareto"]


def pareto(
    dataset: Path,
    *,
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    heights: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (128, 192, 256, 320, 368, 448),
    limit: int | None = None,
    rounds: int = 12,
    preset: Literal["default", "paper"] = "default",
    precision: Precision = "auto",
    threads: int = 0,
    device: str = "CPU",
    quick: bool = False,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Plot AP against the time of the network and against multiply-accumulates, for several models and input heights.

    Args:
        dataset: Annotated photographs: annotations.json (COCO keypoints) and images/.
        models: .xml or .onnx files, or names; the bundled one if left out.
        heights: Network input heights in pixels.
        limit: Only the first N images.
        rounds: Turns in which the networks are timed.
        preset: Decoding rules: the better ones, or the papers'.
        precision: Number format; auto takes the fastest that the processor runs natively and the file allows.
        threads: Inference threads; 0 takes all cores.
        device: CPU or GPU.
        quick: Two heights, 20 images.
        json: Also write the figures to this file.
        plot: Also draw them, as PNG and SVG of this name.
    """
    from featherpose.evaluation.keypoints.dataset import read_coco_dataset
    from featherpose.evaluation.performance.machine import machine_facts
    from featherpose.evaluation.performance.pareto import measure_pareto, pareto_front
    from featherpose.methods.method import preset_of
    from featherpose.runtime.backend import EngineOptions
    from featherpose.zoo.resolve import resolve_model

    if limit is not None:
        check_at_least("--limit", limit, 1)
    check_heights("--heights", *heights)
    check_at_least("--rounds", rounds, 1)
    engine = EngineOptions(precision=precision, threads=threads, device=device)
    check_outputs(json, plot)
    if quick:
        heights, limit = heights[:2], min(limit or 20, 20)
    data = read_coco_dataset(dataset)
    if limit is not None:
        data = data.first(limit)
    resolved = [resolve_model(model) for model in models] or [resolve_model(None)]
    points = measure_pareto(
        resolved,
        data,
        heights,
        engine=engine,
        options=preset_of(resolved[0].spec.method, preset) if preset != "default" else None,
        rounds=rounds,
        progress=lambda message: print(message, file=sys.stderr),
    )
    best = {id(point) for point in pareto_front(points, lambda p: p.network.median_ms)}
    print_table(
        ["model", "height", "input", "precision", "AP", "network ms", "p95 ms", "GMAC", "on the front"],
        [
            [p.model, p.height, f"{p.size[0]}x{p.size[1]}", p.precision, f"{p.AP:.4f}", f"{p.network.median_ms:.2f}",
             f"{p.network.p95_ms:.2f}", f"{p.macs / 1e9:.2f}", "yes" if id(p) in best else "no"]
            for p in sorted(points, key=lambda p: (p.model, p.height))
        ],
        title=f"{data.name}: {len(data.images)} images, {preset} rules",
    )  # fmt: skip
    if json is not None:
        write_json(
            json,
            {
                "dataset": data.name,
                "images": len(data.images),
                "preset": preset,
                "threads": threads,
                "device": device,
                "points": [point.as_dict() for point in points],
                "machine": machine_facts(),
            },
        )
    if plot is not None:
        _draw(points, plot)


def _draw(points: Sequence[CostPoint], path: Path) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure

    figure, left = new_figure(9.0, 4.5)
    from matplotlib.ticker import LogLocator  # after new_figure, which says what to install if it is missing

    left.remove()
    axes = figure.subplots(1, 2, sharey=True)
    costs: tuple[tuple[str, Callable[[CostPoint], float]], ...] = (
        ("network ms (median)", lambda p: p.network.median_ms),
        ("giga multiply-accumulates", lambda p: p.macs / 1e9),
    )
    for panel, (label, cost) in zip(axes, costs, strict=True):
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.3, linewidth=0.6)
        # Heights are labeled under the first line and above the second, so that labels of neighboring lines do not
        # collide.
        places: tuple[tuple[tuple[int, int], str], ...] = (((4, -12), "left"), ((-4, 6), "right"))
        for number, model in enumerate(dict.fromkeys(p.model for p in points)):
            line = sorted((p for p in points if p.model == model), key=lambda p: p.height)
            color = COLORS[number % len(COLORS)]
            place, side = places[number % 2]
            name = f"{model.removesuffix('-int8')}, {line[0].precision.upper()}"
            panel.plot([cost(p) for p in line], [p.AP for p in line], "o-", color=color, linewidth=2,
                       label=name if panel is axes[0] else None)  # fmt: skip
            for p in line:
                panel.annotate(str(p.height), (cost(p), p.AP), xytext=place, ha=side, textcoords="offset points",
                               fontsize=9, color=color)  # fmt: skip
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.xaxis.set_minor_formatter("")
        panel.set_xlabel(label)
        panel.margins(x=0.12, y=0.1)
    axes[0].set_ylabel(f"AP, {points[0].images} images")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path)
