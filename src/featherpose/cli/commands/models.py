"""``featherpose models``: list, describe, fetch and verify models."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from featherpose.cli.report import print_table, write_json
from featherpose.errors import ModelError
from featherpose.zoo.card import Metric, ModelCard
from featherpose.zoo.catalog import cards, find_card, model_folder, state
from featherpose.zoo.checksums import verify_model
from featherpose.zoo.fetch import fetch_model

__all__ = ["models"]

models = App(name="models", help="List, describe, fetch and verify models.")

JsonOption = Annotated[Path | None, Parameter(name="--json")]


@models.command(name="list")
def list_models(*, json: JsonOption = None) -> None:
    """List every model known by name, and whether its files are installed.

    Args:
        json: Also write the cards to this file.
    """
    known = cards().values()
    if json is not None:
        write_json(json, [_facts(card) for card in known])
    print_table(
        ["name", "state", "size", "keypoints", "precision", "license", "AP"],
        [
            [
                card.name,
                state(card),
                _megabytes(card.size),
                card.spec().skeleton.num_keypoints,
                card.precision,
                card.license,
                _metric(card.metrics[0]) if card.metrics else "",
            ]
            for card in known
        ],
    )


@models.command
def info(model: str, *, json: JsonOption = None) -> None:
    """Show what a model is, its origin, its measured accuracy and its limits.

    Args:
        model: A name of `featherpose models list`, or the path of a model file.
        json: Also write the card to this file.
    """
    card, path = _card_of(model)
    if json is not None:
        write_json(json, {**_facts(card), "path": str(path)})
    spec = card.spec()
    normalization = "inside the graph" if card.mean is None else f"(x - {card.mean}) / {card.scale}"
    print(f"{card.name}: {card.title or card.architecture}")
    for label, text in (
        ("state", state(card) if card.name in cards() else "a file"),
        ("path", path),
        ("files", "\n".join(f"{f.name} ({_megabytes(f.size) or 'size not published'})" for f in card.files)),
        ("method", spec.method.title),
        ("network", card.architecture),
        (
            "input",
            f"{'RGB' if card.rgb else 'BGR'}, sides multiples of {card.size_multiple}; normalized {normalization}",
        ),
        (
            "outputs",
            ", ".join(f"{output.graph_name} (stride {output.stride})" for output in spec.outputs),
        ),
        ("skeleton", f"{spec.skeleton.name}: {spec.skeleton.num_keypoints} keypoints, {spec.skeleton.num_limbs} limbs"),
        ("precision", card.precision),
        ("license", card.license),
        ("provenance", card.provenance),
        ("measured", "\n".join(_metric(metric) for metric in card.metrics)),
        ("limits", "\n".join(card.limits)),
    ):
        for number, line in enumerate(str(text).splitlines()):
            print(f"  {label if number == 0 else '':<11}{line}")


@models.command
def fetch(
    name: str,
    *,
    base_url: str | None = None,
    offline: bool | None = None,
    force: bool = False,
    accept_unpinned: bool = False,
    json: JsonOption = None,
) -> None:
    """Download a model into the cache, resume interrupted downloads, and verify it.

    Args:
        name: A name of `featherpose models list`.
        base_url: A mirror that has the same paths as the official server; FEATHERPOSE_MIRROR if left out.
        offline: Use local files or fail; FEATHERPOSE_OFFLINE=1 does the same.
        force: Download even if the files are present.
        accept_unpinned: Accept files for which no hash is published.
        json: Also write the card and the path to this file.
    """
    card = find_card(name)
    with _Bar() as bar:
        path = fetch_model(
            card,
            base_url=base_url,
            offline=offline,
            force=force,
            accept_unpinned=accept_unpinned,
            progress=bar.update,
        )
    for file in card.files:
        if not file.has_hash and state(card) != "bundled":
            print(
                f"{file.name}: no hash is published for this file; the hash of what arrived was recorded",
                file=sys.stderr,
            )
    if json is not None:
        write_json(json, {**_facts(card), "path": str(path)})
    print(path)
    if card.kind == "graph":
        print(f"ready: featherpose predict SOURCE --model {card.name}", file=sys.stderr)


@models.command
def verify(*names: str, json: JsonOption = None) -> int:
    """Verify installed files against their hashes; exit code 1 if one is missing or damaged.

    Args:
        names: Names of `featherpose models list`; all installed ones if left out.
        json: Also write the verdicts to this file.
    """
    chosen = [find_card(name) for name in names] or [card for card in cards().values() if state(card) != "not fetched"]
    verdicts = {card.name: verify_model(card) for card in chosen}
    if json is not None:
        write_json(json, verdicts)
    rows = [(name, file, verdict) for name, files in verdicts.items() for file, verdict in files.items()]
    print_table(["model", "file", "verdict"], rows)
    bad = [row for row in rows if not row[2].startswith("ok")]
    for name in dict.fromkeys(row[0] for row in bad):
        print(f"featherpose: model {name!r} is not whole; run: featherpose models fetch {name}", file=sys.stderr)
    if not chosen:
        print("no model has been fetched yet", file=sys.stderr)
    return 1 if bad else 0


def _card_of(model: str) -> tuple[ModelCard, Path]:
    if model in cards():
        card = find_card(model)
        return card, model_folder(card) / (card.files[0].name if card.files else "")
    from featherpose.zoo.resolve import resolve_model

    resolved = resolve_model(model)
    if resolved.card is None:
        raise ModelError(
            f"{model} carries no card; it was recognized by its output names",
            hint="it is of the kind of human-pose-estimation-0001: featherpose models info human-pose-estimation-0001",
        )
    return resolved.card, resolved.path


def _facts(card: ModelCard) -> dict[str, Any]:
    return {**card.model_dump(mode="json"), "state": state(card), "size": card.size}


def _metric(metric: Metric) -> str:
    where = ", ".join(
        text
        for text in (
            metric.dataset,
            f"{metric.images} images" if metric.images else "",
            f"height {metric.height}" if metric.height else "",
            metric.precision or "",
            metric.source,
            metric.note,
        )
        if text
    )
    return f"{metric.AP:.3f} ({where})"


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f} MB"


class _Bar:
    """Progress bar on stderr that appears with the first byte."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True), disable=not sys.stderr.isatty(),
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}

    def update(self, name: str, here: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bar.add_task(name, total=total)
        self._bar.update(self._tasks[name], completed=here, total=total)

    def __enter__(self) -> _Bar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
