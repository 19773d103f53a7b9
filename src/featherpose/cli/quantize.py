"""``featherpose quantize``: a model in floating point becomes an INT8 file that is proven to find the same people."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from featherpose.cli.report import print_table, write_json
from featherpose.deploy.quantize import QuantizeOptions
from featherpose.deploy.quantizing import QuantizeRequest, QuantizeResult, quantize_model
from featherpose.deploy.verify import Limits
from featherpose.evaluation.machine import machine_facts
from featherpose.media.atomic import check_writable

__all__ = ["quantize"]


def quantize(
    model: str,
    *,
    calibration: Path,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    height: int = 256,
    pictures: int = 200,
    keep: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    keep_sensitive: int = 0,
    ranges: Literal["whole", "mean"] = "whole",
    bias_correction: bool = True,
    labelled: Path | None = None,
    tune: Path | None = None,
    tune_every: int = 1,
    max_drop: float = 0.005,
    min_agreement: float = 0.8,
    threads: int = 0,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Quantise a model to INT8 and verify it; a model that loses too much is refused and not written.

    Args:
        model: A model in floating point: a .xml or .onnx file, or a name of `featherpose models list`.
        calibration: Folder of a few hundred pictures like those that the model will see.
        output: File to write; <model>-int8.xml beside the model if left out.
        height: Network input height of calibration and verification in pixels.
        pictures: Calibration pictures.
        keep: Regular expression; layers whose name matches stay in floating point. May be given several times.
        keep_sensitive: So many of the most sensitive layers stay in floating point, too.
        ranges: What an activation's range spans: every value seen, or the mean of the pictures' extremes.
        bias_correction: Let biases make up for the mean error of rounded weights.
        labelled: Labelled folder (annotations.json and images/): AP before and after, side by side.
        tune: Labelled folder, another one: sensitive layers are kept until its AP falls by no more than --max-drop.
        tune_every: Of --tune, only pictures whose id is a multiple of this (held-out pictures of a training folder).
        max_drop: Refuse a larger loss of AP.
        min_agreement: Refuse if the models agree on fewer of the people than this share.
        threads: Threads of the verification; 0 takes all cores.
        json: Also write the result to this file.
    """
    target = output if output is not None else Path(f"{Path(model).with_suffix('')}-int8.xml")
    if json is not None:
        check_writable(json)
    result = quantize_model(
        QuantizeRequest(
            model=model, calibration=calibration, output=target, labelled=labelled, tune=tune, tune_every=tune_every,
            options=QuantizeOptions(height=height, pictures=pictures, keep=keep, keep_sensitive=keep_sensitive,
                                    ranges=ranges, bias_correction=bias_correction),
            limits=Limits(agreement=min_agreement, ap_drop=max_drop), threads=threads,
        )
    )  # fmt: skip
    _show(result)
    if json is not None:
        write_json(json, {**_facts(result), "height": height, "calibration_pictures": pictures,
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
    rows.append([f"people on {c.pictures} pictures", c.people_before, c.people_after,
                 f"{100 * c.agreement:.1f} % found by both"])  # fmt: skip
    if result.ap is not None:
        rows.append([f"AP, {result.ap.dataset}, {result.ap.pictures} pictures, height {result.ap.height}",
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
