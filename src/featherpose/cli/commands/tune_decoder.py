"""``featherpose tune-decoder``: search the decoding rules that suit a network, on training images."""

from __future__ import annotations

import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from featherpose.cli.options import ModelOptions
from featherpose.cli.report import print_table, write_json
from featherpose.errors import DatasetError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset
from featherpose.evaluation.keypoints.decoder_search import DecoderSearch, KeptMaps, Trial, keep_maps
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.runtime.backend import Backend
from featherpose.runtime.engines import open_backend
from featherpose.topdown.person_estimator import PersonEstimator
from featherpose.zoo.resolve import resolve_model

__all__ = ["tune_decoder"]

# Names of data sets for measuring: rules chosen on one would make every figure on it worthless.
_MEASURES = re.compile(r"(^|[^a-z])(val|valid|validation|test)([^a-z]|$)")


def tune_decoder(
    dataset: Path,
    *,
    images: Path | None = None,
    limit: Annotated[int | None, Parameter(help="Only the first N images.")] = None,
    hold_out_every: Annotated[
        int, Parameter(help="Images whose id is a multiple of this only confirm the result.")
    ] = 10,
    rounds: Annotated[int, Parameter(help="Passes over all rules at most.")] = 2,
    json: Annotated[Path | None, Parameter(help="Write every improvement with its AP to this file.")] = None,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
) -> None:
    """Search decoding rules by COCO keypoint AP, one rule after another, starting from the model's own.

    The network runs once over the images, a network that takes crops over the annotated boxes; its maps are kept in
    memory (about 0.3 MB an image at height 368). A data set named for measuring (val, test) is rejected.

    Args:
        dataset: A folder with annotations.json and images/, or a COCO person keypoint file; training images.
        images: Folder of the images, where they are not in images/ beside the annotations.
        limit: Only the first N images.
        hold_out_every: Images whose id is a multiple of this are not searched on.
        rounds: Passes over all rules at most.
        json: File for the result.
        model: Which model, and how it runs.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"--limit {limit}", expected="at least one image")
    if hold_out_every < 2:
        raise OptionError(f"--hold-out-every {hold_out_every}", expected="2 or more")
    if rounds < 1:
        raise OptionError(f"--rounds {rounds}", expected="1 or more")
    place = dataset.resolve()
    for part in (place.name, place.parent.name) if place.suffix == ".json" else (place.name,):
        if _MEASURES.search(part.lower().removesuffix(".json")):
            raise DatasetError(
                f"{dataset} is named like a data set that measures",
                expected="training images",
                hint="rules chosen on the images that measure them make the figures worthless",
            )
    data = read_coco_dataset(dataset, images)
    if limit is not None:
        data = data.first(limit)
    resolved = resolve_model(model.model)
    backend = open_backend(resolved.path, resolved.spec, model.engine)
    try:
        kept = _run_network(data, backend, model.quality.height)
        facts = (
            PoseEstimator.from_backend(backend, height=model.quality.height)
            if resolved.spec.crop is None
            else PersonEstimator(backend)
        ).describe()
    finally:
        backend.close()
    search = DecoderSearch([k for k in kept if k.image_id % hold_out_every], resolved.spec, data)
    confirm = DecoderSearch([k for k in kept if k.image_id % hold_out_every == 0], resolved.spec, data)

    def tried(rule: str, trial: Trial, better: bool) -> None:
        value = getattr(trial.options, rule)
        print(f"{rule} = {value}: AP {trial.average_precision:.4f}{' better' if better else ''}", file=sys.stderr)

    path = search.descend(resolved.spec.options or resolved.spec.method.Options(), rounds=rounds, tried=tried)
    confirmed = [confirm.average_precision(trial.options) for trial in (path[0], path[-1])]
    report: dict[str, Any] = {
        "dataset": data.name,
        "searched_on": len({k.image_id for k in kept if k.image_id % hold_out_every}),
        "confirmed_on": len({k.image_id for k in kept if k.image_id % hold_out_every == 0}),
        **facts,
        "AP_before": round(path[0].average_precision, 5),
        "AP_after": round(path[-1].average_precision, 5),
        "AP_confirmed_before": round(confirmed[0], 5),
        "AP_confirmed_after": round(confirmed[1], 5),
        "path": [trial.to_dict() for trial in path],
        "machine": machine_facts(),
    }
    if json is not None:
        write_json(json, report)
    looked_at = "annotated boxes" if resolved.spec.crop else f"height {model.quality.height}"
    first, last = path[0].options, path[-1].options
    print_table(
        ["rule", "before", "after"],
        [(f.name, getattr(first, f.name), getattr(last, f.name)) for f in fields(first)],
    )
    print(
        f"AP {path[0].average_precision:.4f} -> {path[-1].average_precision:.4f} on {report['searched_on']} images; "
        f"{confirmed[0]:.4f} -> {confirmed[1]:.4f} on {report['confirmed_on']} others ({looked_at}, "
        f"{facts['precision']}, {facts['float_precision']} elsewhere)",
        file=sys.stderr,
    )


def _run_network(data: CocoDataset, backend: Backend, height: int) -> list[KeptMaps]:
    kept = []
    inputs = "images" if backend.spec.crop is None else "people"
    for one in keep_maps(data, backend, height=height, failed=lambda message: print(message, file=sys.stderr)):
        kept.append(one)
        if len(kept) % 100 == 0:
            print(f"{len(kept)} {inputs} through the network", file=sys.stderr)
    if not kept:
        raise DatasetError(f"none of the {len(data.images)} images of {data.name} can be read, or none shows a person")
    return kept
