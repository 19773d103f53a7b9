"""``featherpose analyze roofline``."""

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

if TYPE_CHECKING:
    from featherpose.evaluation.performance.roofline import MachineLimits, NetworkPoint

__all__ = ["roofline"]


def roofline(
    image: Path,
    *,
    models: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    untrained: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    height: int = 256,
    threads: int = 0,
    rounds: int = 6,
    seconds: float = 2.0,
    quick: bool = False,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Measure what part of this machine's peak each network reaches, and how near decoding comes to reading its maps.

    Peaks are those of large matrix products on OpenVINO in FP32, BF16 (where the processor has it) and INT8.
    Operations are counted two for each multiply-accumulate.

    Args:
        image: A photograph with people.
        models: .xml or .onnx files, or names; the bundled one if left out. Quantized ones also run in FP32 and BF16.
        untrained: Networks to build with fresh weights, such as openpose.
        height: Network input height in pixels.
        threads: Inference threads; 0 takes all cores.
        rounds: Turns of five runs for each network.
        seconds: How long to multiply matrices in each number format.
        quick: Few runs.
        json: Also write the figures to this file.
        plot: Also draw them, as PNG and SVG of this name.
    """
    from featherpose.evaluation.performance.machine import machine_facts
    from featherpose.evaluation.performance.roofline import measure_decoding, measure_limits, measure_networks
    from featherpose.evaluation.performance.variants import expand_precisions
    from featherpose.media.images import read_image
    from featherpose.zoo.resolve import resolve_model

    check_heights("--height", height)
    check_at_least("--rounds", rounds, 1)
    check_at_least("--threads", threads, 0)
    check_outputs(json, plot)
    pixels = read_image(image)
    if quick:
        rounds, seconds = 2, min(seconds, 0.3)
    resolved = [resolve_model(model) for model in models] or [resolve_model(None)]
    with tempfile.TemporaryDirectory(prefix="featherpose-") as temporary:
        variants = [v for model in resolved for v in expand_precisions(model, Path(temporary))]
        decoded = variants[-1]
        for name in untrained:
            print(f"building {name}, untrained", file=sys.stderr)
            variants.append(untrained_variant(name, Path(temporary)))
        print("measuring the machine", file=sys.stderr)
        limits = measure_limits(threads=threads, seconds=seconds)
        print("measuring the networks", file=sys.stderr)
        points = measure_networks(variants, pixels, limits, height=height, rounds=rounds)
        decoding = measure_decoding(decoded, pixels, limits, height=height)
    print_table(
        ["limit", "value"],
        [
            *([f"matrix product {p.precision}, GFLOP/s ({p.kernel})", f"{p.gflops:.1f}"] for p in limits.peaks),
            ["memory, all threads, GB/s", f"{limits.bandwidth_gbs:.1f}"],
            ["memory, one thread, GB/s", f"{limits.bandwidth_1_gbs:.1f}"],
        ],
        title="This machine",
    )
    print_table(
        ["network", "GMAC", "MB moved", "operations/byte", "ms", "GFLOP/s", "% of peak"],
        [
            [p.label, f"{p.macs / 1e9:.3g}", f"{p.bytes / 1e6:.3g}", f"{p.intensity:.3g}", f"{p.time.median_ms:.4g}",
             f"{p.gflops:.4g}", None if p.fraction is None else f"{100 * p.fraction:.0f}"]
            for p in points
        ],
        title=f"Networks, input {points[0].size[0]}x{points[0].size[1]}",
    )  # fmt: skip
    print_table(
        ["decoding", "value"],
        [
            ["maps, KB", f"{decoding.map_bytes / 1e3:.0f}"],
            ["reading them from memory, ms", f"{decoding.floor_ms:.4f}"],
            [f"decoding {decoding.people} people, ms (median)", f"{decoding.decoding.median_ms:.4f}"],
        ],
        title="Decoding, one thread",
    )
    if json is not None:
        write_json(
            json,
            {
                "height": height,
                "limits": limits.as_dict(),
                "networks": [point.as_dict() for point in points],
                "decoding": decoding.as_dict(),
                "machine": machine_facts(),
            },
        )
    if plot is not None:
        _draw(limits, points, plot)


def _draw(limits: MachineLimits, points: Sequence[NetworkPoint], path: Path) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure

    figure, axes = new_figure(8.0, 5.0)
    colors = {"fp32": COLORS[3], "bf16": COLORS[1], "int8": COLORS[0]}
    low = min(2.0, 0.5 * min(p.intensity for p in points))
    high = 6 * max(p.intensity for p in points)
    for peak in limits.peaks:
        ridge = peak.gflops / limits.bandwidth_gbs
        left = min(low, 0.5 * ridge)
        axes.plot([left, ridge, high], [left * limits.bandwidth_gbs, peak.gflops, peak.gflops],
                  color=colors[peak.precision], linewidth=2)  # fmt: skip
        names = {"fp32": "FP32", "bf16": "BF16", "int8": "INT8"}
        axes.annotate(f"{names[peak.precision]} peak {peak.gflops:.0f}", (high, peak.gflops), xytext=(0, 4),
                      textcoords="offset points", ha="right", color=colors[peak.precision])  # fmt: skip
    markers = ("o", "s", "D", "^", "v", "P", "X")
    networks = list(dict.fromkeys(p.label.partition(" ")[0] for p in points))
    for network, marker in zip(networks, markers, strict=False):
        mine = [p for p in points if p.label.partition(" ")[0] == network]
        for p in mine:
            axes.plot([p.intensity], [p.gflops], marker, color=colors.get(p.precision, COLORS[6]), markersize=10,
                      markeredgecolor="white")  # fmt: skip
            part = "" if p.fraction is None else f"{100 * p.fraction:.0f} %"
            axes.annotate(part, (p.intensity, p.gflops), xytext=(0, -20), textcoords="offset points", ha="center")
        suffix = "" if "(untrained)" not in mine[0].label else " (untrained)"
        axes.plot([], [], marker, color="#444444", markersize=9, label=network + suffix)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_minor_formatter("")
    axes.margins(y=0.15)
    axes.set_xlabel("operations per byte moved (at least)")
    axes.set_ylabel("GFLOP/s (INT8: GOP/s)")
    axes.set_title(f"What part of the peak is reached; memory {limits.bandwidth_gbs:.0f} GB/s", loc="left")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    save_figure(figure, path)
