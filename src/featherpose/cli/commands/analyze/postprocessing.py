"""``featherpose analyze postprocessing``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from featherpose.cli.options.validators import check_at_least, check_heights, check_outputs
from featherpose.cli.report import print_table, write_json

if TYPE_CHECKING:
    from featherpose.evaluation.performance.postprocessing import StageProfile
    from featherpose.evaluation.performance.timing import Timing

__all__ = ["postprocessing"]


def postprocessing(
    folder: Path,
    *,
    model: str | None = None,
    height: int = 368,
    people: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (1, 10, 20, 50, 100),
    repeats: int = 20,
    threads: int = 0,
    quick: bool = False,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Time post-processing by step against the number of people: the slides' way, a smaller resize, and ours.

    All decode the same maps: a trained network's on real photographs, composed to as many people as it finds.

    Args:
        folder: Photographs of people: annotations.json (COCO keypoints) and images/.
        model: The network whose maps are decoded: a .xml or .onnx file, or a name; the bundled one if left out.
        height: Network input height in pixels.
        people: Sizes of the crowds.
        repeats: Runs of each method; the slow ones are run three times.
        threads: Threads of the network and of the resizing; 0 takes all cores.
        quick: Small crowds and few repeats only.
        json: Also write the figures to this file.
        plot: Also draw them, as PNG and SVG of this name.
    """
    import cv2

    from featherpose.evaluation.performance.machine import machine_facts
    from featherpose.evaluation.performance.postprocessing import PUBLISHED_FPS, crowd_maps, profile_decoding
    from featherpose.runtime.backend import EngineOptions
    from featherpose.runtime.engines import open_backend
    from featherpose.zoo.resolve import resolve_model

    check_heights("--height", height)
    check_at_least("--repeats", repeats, 1)
    check_outputs(json, plot)
    if quick:
        people, repeats = tuple(p for p in people if p <= 20) or people[:1], min(repeats, 5)
    resolved = resolve_model(model)
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(threads=threads))
    try:
        info = backend.info
        crowds = crowd_maps(backend, folder, people, height=height)
    finally:
        backend.close()
    before = cv2.getNumThreads()
    if threads:
        cv2.setNumThreads(threads)
    profiles: list[StageProfile] = []
    try:
        for crowd in crowds:
            print(f"{crowd.people} people ({crowd.wanted} asked for)", file=sys.stderr)
            profiles += profile_decoding(crowd, resolved.spec.skeleton, rules=resolved.spec.options, repeats=repeats)
    finally:
        cv2.setNumThreads(before)
    network = crowds[0].letterbox.network_size
    print_table(
        ["people", "method", "resize ms", "extract ms", "group ms", "total ms", "fps", "resize fps", "extract fps",
         "group fps", "found"],
        [
            [p.people, p.method, _ms(p.resize), _ms(p.extract), _ms(p.group), _ms(p.total), f"{p.total.fps:.3g}",
             p.resize and f"{p.resize.fps:.3g}", f"{p.extract.fps:.3g}", f"{p.group.fps:.3g}", p.found]
            for p in profiles
        ] + [
            [">20", "slides: resize to image", *(f"{1e3 / PUBLISHED_FPS[s]:.1f}" for s in PUBLISHED_FPS),
             f"{PUBLISHED_FPS['total']:g}", *(f"{PUBLISHED_FPS[s]:g}" for s in ("resize", "extract", "group")), None],
        ],
        title=f"Post-processing, medians; image 1280x720, network input {network[0]}x{network[1]}",
    )  # fmt: skip
    if json is not None:
        write_json(
            json,
            {
                "model": resolved.spec.name,
                "precision": info.precision,
                "image": [1280, 720],
                "network_input": list(network),
                "repeats": repeats,
                "profiles": [profile.as_dict() for profile in profiles],
                "published_fps": dict(PUBLISHED_FPS),
                "machine": machine_facts(),
            },
        )
    if plot is not None:
        _draw(profiles, network, plot)


def _ms(timing: Timing | None) -> str | None:
    return None if timing is None else f"{timing.median_ms:.3g}"


def _draw(profiles: Sequence[StageProfile], network: tuple[int, int], path: Path) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure
    from featherpose.evaluation.performance.postprocessing import METHODS, PUBLISHED_FPS

    figure, axes = new_figure()
    colors = dict(zip(METHODS, (COLORS[3], COLORS[1], COLORS[5], COLORS[0]), strict=True))
    for method in METHODS:
        line = sorted((p.people, p.total.median_ms) for p in profiles if p.method == method)
        axes.plot(*zip(*line, strict=True), "o-", color=colors[method], linewidth=2)
        # Two pairs of lines end close to each other: their labels move apart.
        shift = 6 if METHODS.index(method) % 2 == 0 else -6
        axes.annotate(
            method, line[-1], xytext=(8, shift), textcoords="offset points", va="center", color=colors[method]
        )
    published = 1e3 / PUBLISHED_FPS["total"]
    axes.plot([20], [published], "D", color=COLORS[6])
    axes.annotate("slides' baseline", (20, published), xytext=(-9, -4),
                  textcoords="offset points", ha="right", color="#555555", fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks = sorted({p.people for p in profiles})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlim(ticks[0] * 0.85, ticks[-1] * 3.2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("people found")
    axes.set_ylabel("post-processing, ms (median)")
    axes.set_title(f"Maps to people: network input {network[0]}x{network[1]}, image 1280x720")
    save_figure(figure, path)
