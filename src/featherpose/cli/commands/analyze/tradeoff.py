"""``featherpose analyze tradeoff``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from featherpose.cli.options.validators import check_at_least, check_heights, check_outputs
from featherpose.cli.report import print_table, write_json

if TYPE_CHECKING:
    from featherpose.evaluation.performance.tradeoff import SystemTrade

__all__ = ["tradeoff"]

# Systems of one color differ by these.
_MARKERS = "osD^"


def tradeoff(
    dataset: Path,
    *,
    systems: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    people: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (1, 3, 10, 30),
    height: int = 256,
    limit: int | None = None,
    rounds: int = 7,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Compare systems that find people in different ways: AP, and time by the number of people; the slides' beside.

    Args:
        dataset: Annotated photographs: annotations.json (COCO keypoints) and images/.
        systems: NAME=MODEL; NAME=MODEL@DETECTOR for a network for one person behind a detector, without @ behind the
            bundled network; NAME=MODEL+REFINER for a network for one person behind a network for whole images. A NAME
            of the slides' (cpn, g-rmi, ...) gets their row. The bundled network, alone and refined, if left out.
        people: Numbers of people that are timed.
        height: Input height of networks for whole images that take any.
        limit: Only the first N images for AP.
        rounds: Turns of timing.
        json: Also write the figures to this file.
        plot: Also draw them, as PNG and SVG of this name.
    """
    from featherpose.evaluation.keypoints.dataset import read_coco_dataset
    from featherpose.evaluation.performance.machine import machine_facts
    from featherpose.evaluation.performance.tradeoff import SLIDES, measure_tradeoff, parse_system

    if limit is not None:
        check_at_least("--limit", limit, 1)
    for count in people:
        check_at_least("--people", count, 1)
    check_heights("--height", height)
    check_at_least("--rounds", rounds, 1)
    check_outputs(json, plot)
    chosen = [parse_system(text) for text in systems or ("feather=feather", "refined=feather+refiner")]
    data = read_coco_dataset(dataset)
    if limit is not None:
        data = data.first(limit)
    found = measure_tradeoff(
        chosen, data, dataset, people=people, height=height, rounds=rounds,
        progress=lambda message: print(message, file=sys.stderr),
    )  # fmt: skip
    rows = [
        [
            trade.name, f"{trade.ap:.3f}", f"{trade.ap50:.3f}", f"{trade.ap75:.3f}",
            *(f"{trade.times[count].median_ms:.1f}" for count in people),
            None if trade.parameters is None else f"{trade.parameters / 1e6:.2f}",
            None if trade.minutes is None else f"{trade.minutes:.0f}",
            *_slides(trade),
        ]
        for trade in found
    ]  # fmt: skip
    named = {trade.name for trade in found}
    empty = [None] * (5 + len(people))
    rows += [
        [p.system, *empty, f"{p.ap:.1f}", f"{p.ap50:.1f}", f"{p.ap75:.1f}", None if p.fps is None else f"{p.fps:g}"]
        for name, p in SLIDES.items()
        if name not in named
    ]
    print_table(
        ["system", "AP", "AP50", "AP75", *(f"ms, {count} people" for count in people), "M parameters", "training, min",
         "slides' AP", "AP50", "AP75", "FPS"],
        rows,
        title=f"{data.name}: {len(data.images)} images, {data.people} people",
    )  # fmt: skip
    if json is not None:
        facts = {
            "dataset": data.name, "images": len(data.images), "people": data.people, "height": height,
            "rounds": rounds, "systems": [trade.as_dict() for trade in found], "machine": machine_facts(),
        }  # fmt: skip
        write_json(json, facts)
    if plot is not None:
        _draw(found, plot)


def _slides(trade: SystemTrade) -> list[str | None]:
    row = trade.published
    if row is None:
        return [None] * 4
    return [f"{row.ap:.1f}", f"{row.ap50:.1f}", f"{row.ap75:.1f}", None if row.fps is None else f"{row.fps:g}"]


def _draw(found: Sequence[SystemTrade], path: Path) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure

    figure, axes = new_figure()
    for number, trade in enumerate(found):
        times = [timing.median_ms for timing in trade.times.values()]
        color = COLORS[number % len(COLORS)]
        marker = _MARKERS[number // len(COLORS) % len(_MARKERS)]
        axes.plot(times, [trade.ap] * len(times), f"{marker}-", color=color, label=trade.name)
        for count, time in zip(trade.times, times, strict=True):
            axes.annotate(str(count), (time, trade.ap), xytext=(0, 6), textcoords="offset points", ha="center",
                          fontsize=8, color=color)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds an image; numbers at the points: people in it")
    axes.set_ylabel("AP")
    # Beside the axes: lines of many systems cover all of them.
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    save_figure(figure, path)
