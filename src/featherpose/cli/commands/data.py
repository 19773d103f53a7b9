"""``featherpose data``: check a data set before training on it, and convert those of other tools."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from featherpose.cli.report import write_json
from featherpose.skeleton import load_skeleton

__all__ = ["data"]

data = App(
    name="data", help="Check a dataset before training on it; convert those of other tools.", help_format="plaintext"
)


@data.command
def check(
    dataset: Annotated[Path, Parameter(help="Folder with annotations.json and images/, or a COCO annotation file.")],
    *,
    images: Annotated[Path | None, Parameter(help="Folder of the images, if not beside the annotations.")] = None,
    skeleton: Annotated[str, Parameter(help="Built-in skeleton or a skeleton file.")] = "coco_17",
    sheet: Annotated[Path | None, Parameter(help="Write a contact sheet to this image.")] = None,
    json_: Annotated[Path | None, Parameter(name="--json", help="Write the report to this file.")] = None,
    show: Annotated[int, Parameter(help="Most findings to list of each kind.")] = 5,
) -> int:
    """Read every image and annotation, list faults, and draw a contact sheet.

    Exit code 1 if an image is missing or unreadable, or for annotations that train and evaluate refuse; doubtful
    annotations, which they accept, are listed but do not fail.
    """
    from featherpose.data.check import check_dataset, contact_sheet, write_contact_sheet
    from featherpose.data.coco import labeled_images
    from featherpose.data.coco_file import locate_coco, read_coco_file

    wanted = load_skeleton(skeleton)
    annotations, folder = locate_coco(dataset, images)
    file = read_coco_file(annotations, wanted, keep_faults=True)
    samples = labeled_images(file, folder, wanted)
    report = check_dataset(file, samples, wanted)
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{report.images} images, {report.people} people, {report.ignored} ignored boxes")
    table.add_column("keypoint")
    table.add_column("labeled", justify="right")
    for name, count in report.keypoint_counts.items():
        table.add_row(name, str(count))
    console.print(table)
    counts = Counter(f.kind for f in report.findings)
    shown: Counter[str] = Counter()
    for finding in report.findings:
        shown[finding.kind] += 1
        if shown[finding.kind] <= show:
            print(f"{finding.kind}: {finding.image.name}: {finding.detail}")
    for kind, count in sorted(counts.items()):
        print(f"{count} {kind}")
    if not counts:
        print("nothing looks wrong")
    if sheet is not None:
        write_contact_sheet(sheet, contact_sheet(samples, wanted))
    if json_ is not None:
        facts = asdict(report)
        facts["findings"] = [{**asdict(f), "image": str(f.image)} for f in report.findings]
        write_json(json_, facts)
    return 1 if report.broken else 0


@data.command
def convert(
    source: Annotated[
        Path,
        Parameter(
            help="What CVAT or Label Studio exported (zip, JSON or XML), LabelMe's files, a YOLO-pose folder or its "
            "data.yaml, the .mat file of MPII, FLIC or LSP, COCO keypoints, or poses that featherpose wrote (.jsonl)."
        ),
    ],
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="New folder for the result.")],
    to: Annotated[
        Literal["coco", "yolo-pose", "label-studio", "cvat"],
        Parameter(help="Format of the result; the last two are pre-annotations to be corrected there."),
    ] = "coco",
    from_: Annotated[
        Literal["cvat", "yolo-pose", "labelme", "label-studio", "matlab", "coco"] | None,
        Parameter(name="--from", help="Format of the source; recognized by its content unless given."),
    ] = None,
    images: Annotated[Path | None, Parameter(help="Folder of the images, if not beside the annotations.")] = None,
    skeleton: Annotated[
        str | None,
        Parameter(
            help="Built-in skeleton or a skeleton file: names keypoints where the source does not, and what people are "
            "brought to. coco_17 for the former, and for poses, unless given."
        ),
    ] = None,
    copy_images: Annotated[bool, Parameter(help="Copy the images beside COCO and YOLO-pose annotations.")] = True,
    image_prefix: Annotated[
        str, Parameter(help="What Label Studio finds the images under: an address, or its folder of local files.")
    ] = "/data/local-files/?d=",
    min_score: Annotated[float, Parameter(help="Leave out keypoints of poses below this score.")] = 0.1,
) -> None:
    """Convert annotations of other tools to COCO, which train and evaluate read, or to another tool's format.

    Keypoints and categories are matched by name. What the target cannot hold is listed.
    """
    from featherpose.cli.pose_annotations import annotations_of_poses
    from featherpose.data.exchange.annotations import as_skeleton
    from featherpose.data.exchange.archives import unpacked
    from featherpose.data.exchange.recognition import read_annotations
    from featherpose.data.exchange.writing import write_annotations

    wanted = load_skeleton(skeleton or "coco_17")
    with unpacked(source) as place:
        if source.suffix.lower() == ".jsonl":
            kind, found = "poses", annotations_of_poses(source, images, min_score)
        else:
            kind, found = read_annotations(place, wanted, images=images, kind=from_)
        if skeleton is not None or kind == "poses":
            found = as_skeleton(found, wanted)
        losses = write_annotations(found, output, to, copy_images=copy_images, prefix=image_prefix)
    for finding in (*found.findings, *losses):
        print(finding, file=sys.stderr)
    print(f"{kind} to {to}: {len(found.images)} images, {found.people} people with keypoints, in {output}")
