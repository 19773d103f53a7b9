"""``featherpose analyze complexity``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from featherpose.cli.options.validators import check_outputs
from featherpose.cli.report import print_table, write_json
from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.complexity.complexity import Complexity, network_complexity
from featherpose.evaluation.complexity.graph_complexity import graph_complexity
from featherpose.skeleton import load_skeleton

__all__ = ["complexity"]

_GRAPH_SUFFIXES = (".xml", ".onnx", ".tflite")


def complexity(
    network: str,
    *,
    size: str | None = None,
    skeleton: str | None = None,
    refinements: int | None = None,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Count multiply-accumulates and parameters by part, with running totals and the published figures.

    Args:
        network: Name of a network (openpose, lightweight-openpose, feather, ...) or a model file (.xml, .onnx,
            .tflite), which is counted from its own layers.
        size: Input width x height in pixels; 368x368 if left out, or the input of the published figures.
        skeleton: Skeleton of the outputs, built in or a file; that of the published figures if left out.
        refinements: Refinement stages; the published number if left out.
        json: Also write the table to this file.
        plot: Also draw it, as PNG and SVG of this name.
    """
    match = re.fullmatch(r"(\d+)[x×](\d+)", size.strip()) if size is not None else None
    if size is not None and not match:
        raise OptionError(f"--size {size!r}", expected="width x height, such as 456x256")
    wanted = (int(match[1]), int(match[2])) if match else None
    check_outputs(json, plot)
    file = Path(network)
    if file.suffix.lower() in _GRAPH_SUFFIXES:
        if not file.is_file():
            raise ModelError(f"there is no model file {file}", expected="a .xml, .onnx or .tflite file, or a name")
        counted = graph_complexity(file, wanted or (368, 368))
    elif len(file.parts) > 1 or file.suffix:
        raise ModelError(
            f"{file} is no model file whose layers can be counted",
            expected="a .xml, .onnx or .tflite file, or the name of a network such as lightweight-openpose",
        )
    else:
        chosen = None if skeleton is None else load_skeleton(skeleton)
        counted = network_complexity(network, wanted, skeleton=chosen, refinements=refinements)
    print_table(
        ["part", "GMAC", "published", "total GMAC", "published total", "M parameters"],
        [
            *(
                [
                    part.name, f"{part.macs / 1e9:.2f}", part.published_gmacs, f"{part.macs_total / 1e9:.2f}",
                    part.published_total_gmacs, f"{part.parameters / 1e6:.3f}",
                ]
                for part in counted.parts
            ),
            [
                "network", f"{counted.macs / 1e9:.2f}", counted.published_gmacs, None, None,
                f"{counted.parameters / 1e6:.3f}",
            ],
        ],
        title=f"{network} at {counted.size[0]}x{counted.size[1]}",
    )  # fmt: skip
    if counted.published_parameters is not None:
        print(f"published parameters: {counted.published_parameters} M")
    if counted.note:
        print(counted.note)
    if json is not None:
        write_json(json, counted.to_dict())
    if plot is not None:
        _draw(counted, plot)


def _draw(counted: Complexity, path: Path) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure

    figure, axes = new_figure()
    rows = range(len(counted.parts))
    axes.barh(rows, [part.macs / 1e9 for part in counted.parts], color=COLORS[0], label="counted")
    published = [(row, part.published_gmacs) for row, part in enumerate(counted.parts) if part.published_gmacs]
    if published:
        axes.plot([value for _, value in published], [row for row, _ in published], "D", color=COLORS[1],
                  label="published")  # fmt: skip
        axes.legend(frameon=False)
    for row, part in enumerate(counted.parts):
        end = max(part.macs / 1e9, part.published_gmacs or 0)
        axes.annotate(f"{part.macs / 1e9:.2f}", (end, row), xytext=(9, 0), textcoords="offset points", va="center",
                      fontsize=9)  # fmt: skip
    axes.set_yticks(rows, [part.name for part in counted.parts])
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("giga multiply-accumulates")
    width, height = counted.size
    axes.set_title(
        f"{Path(counted.network).name}, {width}x{height}: {counted.macs / 1e9:.2f} G, "
        f"{counted.parameters / 1e6:.2f} M parameters"
    )
    save_figure(figure, path)
