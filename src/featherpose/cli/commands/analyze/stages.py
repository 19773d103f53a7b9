"""``featherpose analyze stages``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from featherpose.cli.options.validators import check_at_least, check_heights, check_outputs
from featherpose.cli.report import print_table, write_json
from featherpose.errors import MissingExtraError, OptionError
from featherpose.evaluation.complexity.complexity import network_complexity
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.performance.stages import StageScore, score_stage
from featherpose.methods.method import preset_of
from featherpose.runtime.backend import EngineOptions, Precision
from featherpose.runtime.engines import open_backend

if TYPE_CHECKING:
    from featherpose.nn.outputs import PoseNetwork

__all__ = ["stages"]


def stages(
    dataset: Path,
    *,
    checkpoint: Path,
    network: str | None = None,
    images: Path | None = None,
    limit: int | None = None,
    height: int = 368,
    preset: Literal["default", "paper"] = "paper",
    precision: Precision = "fp32",
    threads: int = 0,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
    plot: Path | None = None,
) -> None:
    """Measure AP after the initial and after every refinement stage, beside the published figures.

    The published figures were measured on another subset of COCO; compare the gain of a stage, not the level.

    Args:
        dataset: A folder with annotations.json and images/, or a COCO person keypoint file.
        checkpoint: Weights of a network with stages, such as Lightweight OpenPose's published checkpoint.
        network: Name of the network; recognized if left out.
        images: Folder of the images, where they are not in images/ beside the annotations.
        limit: Only the first N images.
        height: Network input height in pixels.
        preset: Decoding rules: the papers', or the better ones.
        precision: Number format of the network.
        threads: Inference threads; 0 takes all cores.
        json: Also write the table to this file.
        plot: Also draw it, as PNG and SVG of this name.
    """
    try:
        from featherpose.export.graph import card_of, export_network
        from featherpose.nn.checkpoints import load_network, read_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("looking at the stages of a checkpoint", "train") from error
    if limit is not None:
        check_at_least("--limit", limit, 1)
    check_heights("--height", height)
    if precision == "int8":
        raise OptionError(
            "--precision int8, but a checkpoint has floating-point weights", expected="auto, fp32, bf16 or fp16"
        )
    engine = EngineOptions(precision=precision, threads=threads)
    check_outputs(json, plot)
    data = read_coco_dataset(dataset, images)
    data = data if limit is None else data.first(limit)
    found = read_checkpoint(checkpoint)
    kind = network or found.network
    built = load_network(checkpoint, name=kind)
    refinements = _count_stages(built) - 1
    costs = network_complexity(kind, skeleton=built.skeleton, refinements=refinements or None).parts
    options = preset_of(built.method, preset)
    rows: list[StageScore] = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(refinements + 1):
            card = card_of(built, f"stage-{index}", kind, precision="FP16")
            exported = export_network(built, card, Path(folder), stage=index)
            backend = open_backend(exported.ir, exported.spec, engine)
            cost = costs[len(costs) - 1 - refinements + index].macs_total / 1e9
            try:
                rows.append(score_stage(kind, index, backend, data, height=height, options=options, gmacs=cost))
            finally:
                backend.close()
            print(f"{rows[-1].stage}: AP {rows[-1].AP:.4f}", file=sys.stderr)
    print_table(
        ["stage", "AP", "published AP", "AP50", "GMAC so far at 368x368"],
        [
            [row.stage, f"{row.AP:.4f}", row.published, f"{row.AP50:.4f}",
             None if row.gmacs is None else f"{row.gmacs:.2f}"]
            for row in rows
        ],
        title=f"{kind}, {data.name}: {len(data.images)} images, height {height}, {precision}, {preset} rules",
    )  # fmt: skip
    if json is not None:
        write_json(
            json,
            {
                "network": kind, "dataset": data.name, "images": len(data.images), "height": height,
                "precision": precision, "preset": preset, "stages": [row.to_dict() for row in rows],
                "machine": machine_facts(),
            },
        )  # fmt: skip
    if plot is not None:
        _draw(rows, plot, f"{kind}: {len(data.images)} images of {data.name}, height {height}")


def _draw(rows: list[StageScore], path: Path, title: str) -> None:
    from featherpose.evaluation.performance.figures import COLORS, new_figure, save_figure

    figure, axes = new_figure(6.5, 4)
    axes.plot([row.stage for row in rows], [row.AP for row in rows], "o-", color=COLORS[0], label="measured")
    published = [(row.stage, row.published) for row in rows if row.published is not None]
    if published:
        axes.plot([name for name, _ in published], [value for _, value in published], "D--", color=COLORS[1],
                  label="published (another subset)")  # fmt: skip
    for row in rows:
        below = row.published is not None and row.published > row.AP  # the other mark is above
        axes.annotate(f"{row.AP:.3f}", (row.stage, row.AP), xytext=(0, -10 if below else 8), ha="center",
                      va="top" if below else "bottom", textcoords="offset points")  # fmt: skip
    axes.set_ylim(0, 1.15 * max(value for row in rows for value in (row.AP, row.published or 0, 0.01)))
    axes.margins(x=0.15)
    axes.set_ylabel("AP")
    axes.legend(frameon=False, loc="lower right")
    axes.set_title(title)
    save_figure(figure, path)


def _count_stages(network: PoseNetwork) -> int:
    import torch

    side = 8 * network.size_multiple
    with torch.no_grad():
        return len(network(torch.zeros(1, 3, side, side)))
