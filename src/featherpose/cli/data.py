"""``featherpose data check``: look a data set over before training on it."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from featherpose.cli.report import write_json
from featherpose.errors import DatasetError
from featherpose.skeleton import load_skeleton

__all__ = ["data"]

data = App(name="data", help="Check a dataset before training on it.", help_format="plaintext")


@data.command
def check(
    dataset: Annotated[Path, Parameter(help="Folder with annotations.json and images/, or a COCO annotation file.")],
    *,
    images: Annotated[Path | None, Parameter(help="Folder of the pictures, if not beside the annotations.")] = None,
    skeleton: Annotated[str, Parameter(help="Built-in skeleton or a skeleton file.")] = "coco_17",
    sheet: Annotated[Path | None, Parameter(help="Write a contact sheet to this picture.")] = None,
    json_: Annotated[Path | None, Parameter(name="--json", help="Write the report to this file.")] = None,
    show: Annotated[int, Parameter(help="Most findings to list of each kind.")] = 5,
) -> int:
    """Read every picture and annotation, list what looks wrong, and draw a contact sheet.

    Exit code 1 if a picture is missing or unreadable; doubtful labels are listed but do not fail.
    """
    from featherpose.data.check import check_pictures, contact_sheet, write_contact_sheet
    from featherpose.data.coco import read_coco

    annotations = dataset / "annotations.json" if dataset.is_dir() else dataset
    if not annotations.is_file():
        raise DatasetError(f"{annotations} does not exist", expected="a COCO keypoint file")
    wanted = load_skeleton(skeleton)
    pictures = read_coco(annotations, images or annotations.parent / "images", wanted)
    report = check_pictures(pictures, wanted)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{report.pictures} pictures, {report.people} people, {report.ignored} ignored boxes")
    table.add_column("keypoint")
    table.add_column("labelled", justify="right")
    for name, count in report.keypoint_counts.items():
        table.add_row(name, str(count))
    console.print(table)
    counts = Counter(f.kind for f in report.findings)
    shown: Counter[str] = Counter()
    for finding in report.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= show:
            print(f"{finding.kind}: {finding.picture.name}: {finding.detail}")
    for kind, count in sorted(counts.items()):
        print(f"{count} {kind}")
    if not counts:
        print("nothing looks wrong")
    if sheet is not None:
        write_contact_sheet(sheet, contact_sheet(pictures, wanted))
    if json_ is not None:
        facts = asdict(report)
        facts["findings"] = [{**asdict(f), "picture": str(f.picture)} for f in report.findings]
        write_json(json_, facts)
    return 1 if report.broken else 0
