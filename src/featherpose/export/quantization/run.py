"""Quantization of a model to a verified INT8 file."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherpose.errors import OptionError
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset
from featherpose.evaluation.performance.stages import held_out
from featherpose.export.graph_files import publish, working_folder, write_card, write_ir
from featherpose.export.inputs import ModelInput, find_inputs
from featherpose.export.quantization.nncf import (
    QuantizeOptions,
    Sensitivity,
    calibration_inputs,
    quantize_graph,
    sensitive_layers,
)
from featherpose.export.verify import (
    ApComparison,
    Comparison,
    Limits,
    check,
    compare_ap,
    compare_on_images,
)
from featherpose.runtime.backend import EngineOptions, ModelSpec
from featherpose.runtime.engines import open_backend
from featherpose.zoo.card import ModelCard
from featherpose.zoo.resolve import ResolvedModel, resolve_model

__all__ = ["QuantizeRequest", "QuantizeResult", "Trial", "quantize_model"]

_log = logging.getLogger(__name__)
_COMPARED, _RANKED = 16, 8
# Layers kept in floating point by successive trials of the accuracy control.
_LADDER = (0, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest:
    """Options of a quantization run.

    Attributes:
        model: A name or path.
        calibration: Folder of images; for a model that takes crops a labeled folder (``annotations.json`` and
            ``images/``), of which the annotated people are cut out.
        output: File to write (``.xml``).
        options: Options of quantization.
        labeled: Labeled folder whose AP before and after is reported and limited.
        tune: Labeled folder by which the accuracy control chooses how many sensitive layers stay; it must differ from
            ``labeled`` for a meaningful report.
        hold_out_every: Of ``tune``, only images whose id is a multiple of this; crops for calibration
            are of the others.
        limits: How far the INT8 model may differ.
        threads: Threads of the verification, 0 for all.
    """

    model: str | Path
    calibration: Path
    output: Path
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    labeled: Path | None = None
    tune: Path | None = None
    hold_out_every: int = 1
    limits: Limits = field(default_factory=lambda: Limits(agreement=0.8))
    threads: int = 0

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".xml":
            raise OptionError(f"output {self.output}", expected="a file ending in .xml")
        if self.hold_out_every < 1:
            raise OptionError(f"every {self.hold_out_every}th image", expected="at least 1")


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of the accuracy control: the number of sensitive layers kept, and the resulting AP."""

    kept: tuple[str, ...]
    ap: ApComparison


@dataclass(frozen=True, slots=True)
class QuantizeResult:
    """Files and verification of a quantization run.

    Attributes:
        files: In their place.
        comparison: Both models on calibration images.
        ap: Both models on the labeled folder, if one was given.
        kept: Sensitive layers that stayed in floating point.
        ranking: Every layer's sensitivity, if requested.
        trials: Steps of the accuracy control.
    """

    files: tuple[Path, ...]
    comparison: Comparison
    ap: ApComparison | None
    kept: tuple[str, ...]
    ranking: tuple[Sensitivity, ...] = ()
    trials: tuple[Trial, ...] = field(default=())


def quantize_model(request: QuantizeRequest) -> QuantizeResult:
    """Quantize, verify, and only then publish the file.

    Raises:
        ModelError: If the model cannot be used, or differs too much once quantized; then nothing is written.
        SourceError: If the calibration folder holds no images.
        OutputError: If the output cannot be written.
    """
    resolved = resolve_model(request.model)
    images = _inputs(request, resolved, request.options.images)
    labeled = None if request.labeled is None else read_coco_dataset(request.labeled)
    tune = None if request.tune is None else held_out(read_coco_dataset(request.tune), request.hold_out_every)
    stem = request.output.stem
    card = _card(resolved, stem)
    with working_folder(request.output.parent) as working:
        model, kept, ranking, trials = _quantized(request, resolved, images, tune, working)
        path = write_ir(model, card, working, stem, fp16=True)
        write_card(card, working, stem)
        compared = _inputs(request, resolved, _COMPARED)
        comparison, ap = _compare(request, resolved, path, card.spec(), compared, labeled)
        if comparison is None:
            raise AssertionError("images were given")
        check(comparison, request.limits, ap=ap, maps=False)
        files = publish(working, request.output.parent, stem)
    return QuantizeResult(tuple(files), comparison, ap, kept, ranking, trials)


def _inputs(request: QuantizeRequest, resolved: ResolvedModel, limit: int) -> list[ModelInput]:
    return find_inputs(request.calibration, resolved.spec.crop, limit, leave_out_every=request.hold_out_every)


def _quantized(
    request: QuantizeRequest,
    resolved: ResolvedModel,
    images: Sequence[ModelInput],
    tune: CocoDataset | None,
    working: Path,
) -> tuple[Any, tuple[str, ...], tuple[Sensitivity, ...], tuple[Trial, ...]]:
    """Return the quantized graph, the layers in floating point, the ranking and the trials."""
    options, spec = request.options, resolved.spec
    model = quantize_graph(resolved.path, spec, images, options)
    ranking: tuple[Sensitivity, ...] = ()
    if options.keep_sensitive:
        ranking = _ranked(resolved, model, images, options)
        model = quantize_graph(resolved.path, spec, images, options, kept=_first(ranking, options.keep_sensitive))
    trials: list[Trial] = []
    for count in () if tune is None else (options.keep_sensitive, *(c for c in _LADDER if c > options.keep_sensitive)):
        if count and not ranking:
            ranking = _ranked(resolved, model, images, options)
        if trials:
            model = quantize_graph(resolved.path, spec, images, options, kept=_first(ranking, count))
        path = write_ir(model, _card(resolved, f"trial-{count}"), working, f"trial-{count}", fp16=True)
        known = trials[0].ap.before if trials else None
        ap = _compare(request, resolved, path, spec, (), tune, known_before=known)[1]
        if ap is None:
            raise AssertionError("a labeled folder was given")
        trials.append(Trial(_first(ranking, count), ap))
        _log.info("%d layers kept: AP %.4f, before %.4f", count, ap.after, ap.before)
        if ap.drop <= request.limits.ap_drop:
            break
    if not trials:
        return model, _first(ranking, options.keep_sensitive), ranking, ()
    best = min(trials, key=lambda trial: trial.ap.drop)
    if best is not trials[-1]:
        model = quantize_graph(resolved.path, spec, images, options, kept=best.kept)
    return model, best.kept, ranking, tuple(trials)


def _ranked(
    resolved: ResolvedModel, quantized: Any, images: Sequence[ModelInput], options: QuantizeOptions
) -> tuple[Sensitivity, ...]:
    few = images[:: max(1, len(images) // _RANKED)][:_RANKED]
    inputs = list(calibration_inputs(few, resolved.spec, options.height))
    return tuple(sensitive_layers(resolved.path, quantized, resolved.spec, inputs))


def _first(ranking: Sequence[Sensitivity], count: int) -> tuple[str, ...]:
    return tuple(entry.layer for entry in ranking[:count])


def _compare(
    request: QuantizeRequest,
    resolved: ResolvedModel,
    path: Path,
    spec: ModelSpec,
    images: Sequence[ModelInput],
    dataset: CocoDataset | None,
    *,
    known_before: float | None = None,
) -> tuple[Comparison | None, ApComparison | None]:
    """Compare the model in exact floating point with the quantized one as it will run."""
    before = open_backend(resolved.path, resolved.spec, EngineOptions(precision="fp32", threads=request.threads))
    try:
        after = open_backend(path, spec, EngineOptions(threads=request.threads))
        try:
            height = request.options.height
            comparison = compare_on_images(before, after, images, height=height) if images else None
            if dataset is None:
                return comparison, None
            return comparison, compare_ap(before, after, dataset, height=height, known_before=known_before)
        finally:
            after.close()
    finally:
        before.close()


def _card(resolved: ResolvedModel, name: str) -> ModelCard:
    """Return the model's card with its new name, without the metrics of the old precision."""
    if resolved.card is not None:
        return resolved.card.model_copy(update={"name": name, "precision": "INT8", "files": (), "metrics": ()})
    return ModelCard.of(resolved.spec, name=name, precision="INT8")
