"""``featherpose analyze pipeline``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from featherpose.cli.options.validators import check_at_least, check_heights, check_outputs
from featherpose.cli.report import print_table, write_json
from featherpose.cli.untrained import untrained_variant
from featherpose.errors import ModelError, OptionError, SourceError

if TYPE_CHECKING:
    from featherpose.evaluation.performance.pipeline import System, SystemTimes
    from featherpose.runtime.backend import Precision

__all__ = ["pipeline"]


def pipeline(
    videos: Annotated[tuple[Path, ...], Parameter(name="VIDEOS")],
    /,
    *,
    model: str = "human-pose-estimation-0001",
    height: int = 256,
    people: int = 20,
    frames: int = 30,
    cores: Annotated[tuple[int, ...], Parameter(consume_multiple=True)] = (1, 2),
    device: str = "CPU",
    baseline: bool = True,
    quick: bool = False,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Time network and post-processing together: OpenPose as in the slides, Lightweight OpenPose, and ours.

    The videos are shown side by side until the network finds more than --people in the median frame. OpenPose has no
    trained weights here: its network is timed alone, and its post-processing (maps resized to the image) works on
    the maps of --model. A quantized --model also runs without its quantization, in FP32 and, where the processor has
    it, BF16.

    Args:
        videos: Real videos with people.
        model: Lightweight OpenPose: a .xml or .onnx file, or a name.
        height: Network input height in pixels; a 1280x720 image at 256 gives the slides' 456x256.
        people: The mosaic shows more people than this.
        frames: Frames measured of each system; a tenth of it of the baseline.
        cores: Numbers of processor cores to measure on.
        device: CPU or GPU.
        baseline: Measure OpenPose too, which takes most of the time.
        quick: Few frames.
        json: Also write the figures to this file.
        plot: Also draw them, as PNG and SVG of this name.
    """
    from featherpose.evaluation.performance.cores import can_pin, core_numbers
    from featherpose.evaluation.performance.machine import machine_facts
    from featherpose.evaluation.performance.pipeline import PUBLISHED, System, fill_mosaic, measure_systems
    from featherpose.evaluation.performance.variants import Variant, expand_precisions
    from featherpose.runtime.openvino.graphs import is_quantized
    from featherpose.zoo.resolve import resolve_model

    if not videos:
        raise OptionError("no video was given", expected="one or more videos with people")
    for video in videos:
        if not video.is_file():
            raise SourceError(f"there is no video {video}", expected="one or more video files with people")
    check_heights("--height", height)
    check_at_least("--frames", frames, 2)
    check_at_least("--people", people, 0)
    check_at_least("--cores", min(cores, default=0), 1)
    check_outputs(json, plot)
    available = len(core_numbers())
    cores = tuple(sorted({count for count in cores if count <= available})) or (available,)
    frames = min(frames, 8) if quick else frames
    resolved = resolve_model(model)
    with tempfile.TemporaryDirectory(prefix="featherpose-") as temporary:
        folder = Path(temporary)
        variants = expand_precisions(resolved, folder, device=device)
        mosaic, shown = fill_mosaic(videos, variants[-1], height=height, people=people, frames=frames, device=device)
        _say(f"{mosaic.tiles} tiles show {shown:g} people")
        systems: list[System] = []
        if baseline:
            _say("building OpenPose (VGG-19, five refinement stages), untrained")
            systems.append(System(untrained_variant("openpose", folder), "resize to image", slow=True))
        systems += [System(variant) for variant in variants]
        try:
            ours = resolve_model(None)
        except ModelError:
            _say("no bundled network is installed: ours is left out")
        else:
            precision: Precision = "int8" if is_quantized(ours.path) else "fp32"
            if ours.path != resolved.path:  # else it is among the variants
                systems.append(System(Variant(ours.spec.name, ours.path, ours.spec, precision)))
        times: list[SystemTimes] = []
        for count in cores:
            _say(f"measuring on {count} core{'s' if count > 1 else ''}")
            times += measure_systems(systems, mosaic, height=height, cores=count, device=device)
    print_table(
        ["system", "cores", "fps", "network fps", "post-processing fps", "throughput fps", "frame ms", "p95 ms",
         "network ms", "post-processing ms", "people", "times baseline"],
        [_row(t, times) for t in times]
        + [
            [f"slides: {name}", None, f"{fps:g}", f"{network:g}", f"{post:g}", *[None] * 5, ">20",
             f"{fps / PUBLISHED['baseline' + name[8:]][0]:.0f}"]
            for name, (fps, network, post) in PUBLISHED.items()
        ],
        title=f"Network and post-processing, input height {height}, device {device}",
    )  # fmt: skip
    if json is not None:
        write_json(
            json,
            {
                "model": resolved.spec.name,
                "height": height,
                "device": device,
                "videos": [video.name for video in videos],
                "tiles": mosaic.tiles,
                "frames": frames,
                "pinned_cores": can_pin(),
                "systems": [{**t.as_dict(), "times_baseline": _ratio(t, times)} for t in times],
                "published": {
                    name: {"fps": fps, "network_fps": network, "postprocessing_fps": post}
                    for name, (fps, network, post) in PUBLISHED.items()
                },
                "machine": machine_facts(),
            },
        )
    if plot is not None:
        _draw(times, height, plot)


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _ratio(one: SystemTimes, times: Sequence[SystemTimes]) -> float | None:
    """Return how many times the frames per second of the untrained baseline on the same cores are reached."""
    rival = next((t for t in times if not t.trained and t.cores == one.cores), None)
    return None if rival is None else round(one.fps / rival.fps, 2)


def _row(one: SystemTimes, times: Sequence[SystemTimes]) -> list[object]:
    return [
        one.system, one.cores, f"{one.fps:.3g}", f"{one.network.fps:.3g}", f"{one.postprocessing.fps:.3g}",
        f"{one.throughput_fps:.3g}", f"{one.frame.median_ms:.4g}", f"{one.frame.p95_ms:.4g}",
        f"{one.network.median_ms:.4g}", f"{one.postprocessing.median_ms:.3g}", f"{one.people:g}", _ratio(one, times),
    ]  # fmt: skip


def _draw(times: Sequence[SystemTimes], height: int, path: Path) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure
    from featherpose.evaluation.performance.pipeline import PUBLISHED

    most = max(t.cores for t in times)
    rows = [(t.system, t.fps, t.network.fps, t.postprocessing.fps) for t in times if t.cores == most]
    slides = [(f"slides, 6 cores: {name.partition(',')[0]}", *PUBLISHED[name]) for name in list(PUBLISHED)[:2]]
    entries = [*rows, *slides]
    figure, axes = new_figure(8.0, 1.6 + 0.75 * len(entries))
    bars = (("network", 2, COLORS[5]), ("post-processing", 3, COLORS[1]), ("both", 1, COLORS[0]))
    for place, (label, column, color) in enumerate(bars):
        for row, entry in enumerate(entries):
            value = entry[column]
            assert isinstance(value, float)
            faded = 0.45 if row >= len(rows) else 1.0
            axes.barh(row + 0.27 * (place - 1), value, 0.25, color=color, alpha=faded,
                      label=label if row == 0 else None)  # fmt: skip
            axes.annotate(f"{value:.3g}", (value, row + 0.27 * (place - 1)), xytext=(4, 0), va="center",
                          textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(entries)), [str(entry[0]).replace(" (untrained)", "\n(untrained)") for entry in entries])
    axes.invert_yaxis()
    axes.set_xlabel("frames per second")
    people = next(t.people for t in times if t.trained)
    axes.set_title(f"Input height {height}, {people:g} people, {most} core{'s' if most > 1 else ''}", loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path)
