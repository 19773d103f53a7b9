"""The whole way from a model in floating point to a verified INT8 file in its place."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featherpose.deploy.graph_files import publish, working_folder, write_card, write_ir
from featherpose.deploy.quantize import (
    QuantizeOptions,
    Sensitivity,
    calibration_inputs,
    quantize_graph,
    sensitive_layers,
)
from featherpose.deploy.verify import (
    ApComparison,
    Comparison,
    Limits,
    check,
    compare_ap,
    compare_on_pictures,
    find_pictures,
)
from featherpose.errors import OptionError
from featherpose.evaluation.coco import CocoDataset, read_coco_dataset
from featherpose.evaluation.stages import held_out
from featherpose.runtime.backend import EngineOptions, ModelSpec
from featherpose.runtime.opening import open_backend
from featherpose.skeleton import builtin_skeletons
from featherpose.zoo.card import ModelCard
from featherpose.zoo.resolving import ResolvedModel, resolve_model

__all__ = ["QuantizeRequest", "QuantizeResult", "Trial", "quantize_model"]

_log = logging.getLogger(__name__)
_COMPARED, _RANKED = 16, 8
# Layers kept in floating point by successive trials of the accuracy control.
_LADDER = (0, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeRequest:
    """What is quantised, with what, where to and how it is verified.

    Attributes:
        model: A name or path, as everywhere.
        calibration: Folder of pictures.
        output: File to write (``.xml``).
        options: How.
        labelled: Labelled folder whose AP before and after is reported and limited.
        tune: Labelled folder by which the accuracy control chooses how many sensitive layers stay; it must be
            another one than ``labelled`` for the report to mean anything.
        tune_every: Of ``tune``, only pictures whose id is a multiple of this.
        limits: How far the INT8 model may differ.
        threads: Threads of the verification, 0 for all.
    """

    model: str | Path
    calibration: Path
    output: Path
    options: QuantizeOptions = field(default_factory=QuantizeOptions)
    labelled: Path | None = None
    tune: Path | None = None
    tune_every: int = 1
    limits: Limits = field(default_factory=lambda: Limits(agreement=0.8))
    threads: int = 0

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".xml":
            raise OptionError(f"output {self.output}", expected="a file ending in .xml")
        if self.tune_every < 1:
            raise OptionError(f"every {self.tune_every}th picture", expected="at least 1")


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of the accuracy control: so many sensitive layers kept, and the AP that followed."""

    kept: tuple[str, ...]
    ap: ApComparison


@dataclass(frozen=True, slots=True)
class QuantizeResult:
    """What was written and what the verification found.

    Attributes:
        files: In their place.
        comparison: Both models on calibration pictures.
        ap: Both models on the labelled folder, if one was given.
        kept: Sensitive layers that stayed in floating point.
        ranking: Every layer's sensitivity, if it was asked for.
        trials: Steps of the accuracy control.
    """

    files: tuple[Path, ...]
    comparison: Comparison
    ap: ApComparison | None
    kept: tuple[str, ...]
    ranking: tuple[Sensitivity, ...] = ()
    trials: tuple[Trial, ...] = field(default=())


def quantize_model(request: QuantizeRequest) -> QuantizeResult:
    """Quantise, verify, and only then put the file into its place.

    Raises:
        ModelError: If the model cannot be used, or differs too much once quantised; then nothing is written.
        SourceError: If the calibration folder holds no pictures.
        OutputError: If the output cannot be written.
    """
    pictures = find_pictures(request.calibration, request.options.pictures)
    resolved = resolve_model(request.model)
    labelled = None if request.labelled is None else read_coco_dataset(request.labelled)
    tune = None if request.tune is None else held_out(read_coco_dataset(request.tune), request.tune_every)
    stem = request.output.stem
    card = _card(resolved, stem)
    with working_folder(request.output.parent) as working:
        model, kept, ranking, trials = _quantised(request, resolved, pictures, tune, working)
        path = write_ir(model, card, working, stem, fp16=True)
        write_card(card, working, stem)
        compared = find_pictures(request.calibration, _COMPARED)
        comparison, ap = _compare(request, resolved, path, card.spec(), compared, labelled)
        if comparison is None:
            raise AssertionError("pictures were given")
        check(comparison, request.limits, ap=ap, maps=False)
        files = publish(working, request.output.parent, stem)
    return QuantizeResult(tuple(files), comparison, ap, kept, ranking, trials)


def _quantised(
    request: QuantizeRequest, resolved: ResolvedModel, pictures: Sequence[Path], tune: CocoDataset | None, working: Path
) -> tuple[Any, tuple[str, ...], tuple[Sensitivity, ...], tuple[Trial, ...]]:
    """The quantised graph, what stayed in floating point, why, and the steps there."""
    options, spec = request.options, resolved.spec
    model = quantize_graph(resolved.path, spec, pictures, options)
    ranking: tuple[Sensitivity, ...] = ()
    if options.keep_sensitive:
        ranking = _ranked(resolved, model, pictures, options)
        model = quantize_graph(resolved.path, spec, pictures, options, kept=_first(ranking, options.keep_sensitive))
    trials: list[Trial] = []
    for count in () if tune is None else (options.keep_sensitive, *(c for c in _LADDER if c > options.keep_sensitive)):
        if count and not ranking:
            ranking = _ranked(resolved, model, pictures, options)
        if trials:
            model = quantize_graph(resolved.path, spec, pictures, options, kept=_first(ranking, count))
        path = write_ir(model, _card(resolved, f"trial-{count}"), working, f"trial-{count}", fp16=True)
        known = trials[0].ap.before if trials else None
        ap = _compare(request, resolved, path, spec, (), tune, known_before=known)[1]
        if ap is None:
            raise AssertionError("a labelled folder was given")
        trials.append(Trial(_first(ranking, count), ap))
        _log.info("%d layers kept: AP %.4f, before %.4f", count, ap.after, ap.before)
        if ap.drop <= request.limits.ap_drop:
            break
    if not trials:
        return model, _first(ranking, options.keep_sensitive), ranking, ()
    best = min(trials, key=lambda trial: trial.ap.drop)
    if best is not trials[-1]:
        model = quantize_graph(resolved.path, spec, pictures, options, kept=best.kept)
    return model, best.kept, ranking, tuple(trials)


def _ranked(
    resolved: ResolvedModel, quantised: Any, pictures: Sequence[Path], options: QuantizeOptions
) -> tuple[Sensitivity, ...]:
    few = pictures[:: max(1, len(pictures) // _RANKED)][:_RANKED]
    inputs = list(calibration_inputs(few, resolved.spec, options.height))
    return tuple(sensitive_layers(resolved.path, quantised, resolved.spec, inputs))


def _first(ranking: Sequence[Sensitivity], count: int) -> tuple[str, ...]:
    return tuple(entry.layer for entry in ranking[:count])


def _compare(
    request: QuantizeRequest,
    resolved: ResolvedModel,
    path: Path,
    spec: ModelSpec,
    pictures: Sequence[Path],
    dataset: CocoDataset | None,
    *,
    known_before: float | None = None,
) -> tuple[Comparison | None, ApComparison | None]:
    """The model in exact floating point against the quantised one as it will run."""
    before = open_backend(resolved.path, resolved.spec, EngineOptions(precision="f32", threads=request.threads))
    try:
        after = open_backend(path, spec, EngineOptions(threads=request.threads))
        try:
            height = request.options.height
            comparison = compare_on_pictures(before, after, pictures, height=height) if pictures else None
            if dataset is None:
                return comparison, None
            return comparison, compare_ap(before, after, dataset, height=height, known_before=known_before)
        finally:
            after.close()
    finally:
        before.close()


def _card(resolved: ResolvedModel, name: str) -> ModelCard:
    """The model's card with its new name; metrics of the old precision do not carry over."""
    if resolved.card is not None:
        return resolved.card.model_copy(update={"name": name, "precision": "INT8", "files": (), "metrics": ()})
    spec = resolved.spec
    known = builtin_skeletons().get(spec.skeleton.name) == spec.skeleton
    return ModelCard(
        name=name, skeleton=spec.skeleton.name if known else spec.skeleton.to_dict(),
        heatmap_stride=spec.heatmap_stride, paf_stride=spec.paf_stride, size_multiple=spec.size_multiple,
        heatmap_output=spec.heatmap_output, paf_output=spec.paf_output, mean=spec.mean, scale=spec.scale, rgb=spec.rgb,
        pad_value=spec.pad_value, precision="INT8",
    )  # fmt: skip
