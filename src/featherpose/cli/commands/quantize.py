"""``featherpose quantize``: quantize a model to INT8, and verify that it finds the same people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from featherpose.cli.report import print_table, write_json
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.export.quantization.nncf import QuantizeOptions
from featherpose.export.quantization.run import QuantizeRequest, QuantizeResult, quantize_model
from featherpose.export.verify import Limits
from featherpose.files import check_writable

__all__ = ["quantize"]


def quantize(
    model: str,
    *,
    calibration: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    height: int = 256,
    images: int = 200,
    keep: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    keep_depthwise: bool = False,
    keep_sensitive: int = 0,
    ranges: Literal["whole", "mean"] = "whole",
    range_quantile: float = 0.0,
    bias_correction: bool = True,
    weight_bits: Literal["auto", "7", "8"] = "auto",
    labeled: Path | None = None,
    tune: Path | None = None,
    hold_out_every: int = 1,
    max_drop: float = 0.005,
    min_agreement: float = 0.8,
    threads: int = 0,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Quantize a model to INT8 and verify it; a model that loses too much is rejected and not written.

    Args:
        model: A model in floating point: a .xml or .onnx file, or a name of `featherpose models list`.
        calibration: Folder of a few hundred images like those that the model will see; for a model that takes crops a
            labeled folder, whose people are cut out.
        output: File to write; <model>-int8.xml beside the model if left out.
        height: Network input height of calibration and verification in pixels.
        images: Calibration images.
        keep: Regular expression; layers whose name matches stay in floating point. May be given several times.
        keep_depthwise: Depthwise convolutions stay in floating point.
        keep_sensitive: This many of the most sensitive layers stay in floating point, too.
        ranges: Range of an activation: every value seen, or the mean of the images' extremes.
        range_quantile: Ranges leave out this share of the smallest and of the largest values, such as 0.0005.
        bias_correction: Correct biases by the mean error of quantized weights.
        weight_bits: 7 for a model that also runs on processors without VNNI; auto: what suits this processor.
        labeled: Labeled folder (annotations.json and images/): AP before and after, side by side.
        tune: Labeled folder, another one: sensitive layers are kept until its AP falls by no more than --max-drop.
        hold_out_every: Of --tune, only images whose id is a multiple of this (held-out images of a training folder);
            crops for calibration are of the other images.
        max_drop: Reject a larger loss of AP.
        min_agreement: Reject the model if both agree on fewer of the people than this share.
        threads: Threads of the verification; 0 takes all cores.
        json: Also write the result to this file.
    """
    target = output if output is not None else Path(f"{Path(model).with_suffix('')}-int8.xml")
    if json is not None:
        check_writable(json)
    result = quantize_model(
        QuantizeRequest(
            model=model, calibration=calibration, output=target, labeled=labeled, tune=tune,
            hold_out_every=hold_out_every,
            options=QuantizeOptions(height=height, images=images, keep=keep, keep_depthwise=keep_depthwise,
                                    keep_sensitive=keep_sensitive, ranges=ranges, range_quantile=range_quantile,
                                    bias_correction=bias_correction, weight_bits=weight_bits),
            limits=Limits(agreement=min_agreement, ap_drop=max_drop), threads=threads,
        )
    )  # fmt: skip
    _show(result)
    if json is not None:
        write_json(json, {**_facts(result), "height": height, "calibration_images": images,
                          "machine": machine_facts()})  # fmt: skip
    print(f"wrote {', '.join(str(path) for path in result.files)}", file=sys.stderr)


def _show(result: QuantizeResult) -> None:
    rows: list[list[object]] = [
        [
            f"{len(trial.kept)} layers kept, {trial.ap.dataset}",
            f"AP {trial.ap.before:.4f}",
            f"AP {trial.ap.after:.4f}",
            f"{-trial.ap.drop:+.4f}",
        ]
        for trial in result.trials
    ]
    c = result.comparison
    rows.append([f"people on {c.images} images", c.people_before, c.people_after,
                 f"{100 * c.agreement:.1f} % found by both"])  # fmt: skip
    if result.ap is not None:
        rows.append([f"AP, {result.ap.dataset}, {result.ap.images} images, height {result.ap.height}",
                     f"{result.ap.before:.4f}", f"{result.ap.after:.4f}", f"{-result.ap.drop:+.4f}"])  # fmt: skip
    print_table(["figure", "before", "after", "change"], rows)
    if result.kept:
        print(f"in floating point: {', '.join(result.kept)}", file=sys.stderr)


def _facts(result: QuantizeResult) -> dict[str, object]:
    return {
        "files": [str(path) for path in result.files],
        "comparison": result.comparison.to_dict(),
        "ap": result.ap.to_dict() if result.ap else None,
        "kept": list(result.kept),
        "trials": [{"kept": list(trial.kept), **trial.ap.to_dict()} for trial in result.trials],
        "ranking": [{"layer": entry.layer, "gain": round(entry.gain, 6)} for entry in result.ranking],
    }
