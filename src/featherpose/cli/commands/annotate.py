"""``featherpose annotate``: label a folder of images by a model, for training and for people who correct."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from featherpose.cli.options import ModelOptions
from featherpose.data.pseudo_annotations import AnnotationJournal, annotated_people, coco_file
from featherpose.errors import FeatherposeError, OptionError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.files import check_writable
from featherpose.formats.coco import stable_image_id
from featherpose.media.images import IMAGE_SUFFIXES, read_image
from featherpose.parsing import is_folder
from featherpose.skeleton import COCO_17
from featherpose.zoo.resolve import resolve_model

__all__ = ["annotate"]


def annotate(
    folder: Path,
    /,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    min_score: float = 0.3,
    min_person_score: float = 0.15,
    model: ModelOptions = ModelOptions(quality_name="best"),  # noqa: B008 - frozen
) -> None:
    """Write pseudo annotations of a folder of images: COCO keypoints with scores and ids.

    A run that was interrupted goes on when the same command is given again.

    Args:
        folder: Images; folders in it are searched, too.
        output: The COCO file; annotations.json beside the folder if left out.
        min_score: Keypoints of a lower score are not labeled; their scores stand in the file all the same.
        min_person_score: People whose mean score over all keypoints is lower become boxes without keypoints, which
            training leaves out as unknown.
        model: Model and engine.
    """
    for name, value in (("--min-score", min_score), ("--min-person-score", min_person_score)):
        if not 0 <= value <= 1:
            raise OptionError(f"{name} {value:g}", expected="0 to 1")
    if not is_folder(folder):
        raise SourceError(f"{folder} is not a folder", expected="a folder of images")
    images = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    if not images:
        raise SourceError(f"{folder} holds no images", expected="JPEG, PNG, WebP, BMP or TIFF files")
    target = output if output is not None else folder.resolve().parent / "annotations.json"
    if target.exists() and output is None:
        raise OptionError(f"{target} exists", hint="name the file with --output; it is then replaced")
    check_writable(target)
    resolved = resolve_model(model.model)
    with PoseEstimator(resolved, quality=model.quality, refine=model.refine, engine=model.engine) as estimator:
        known = set(estimator.skeleton.keypoints)
        skeleton = COCO_17 if known.issuperset(COCO_17.keypoints) else estimator.skeleton
        made_by = estimator.describe()
        facts = {
            "description": f"pseudo annotations by {made_by['model']}, not checked by people",
            "model": made_by["model"], "quality": model.quality_name, "height": estimator.height,
            "refine": str(model.refine or ""), "min_score": min_score, "min_person_score": min_person_score,
        }  # fmt: skip
        with AnnotationJournal(target, facts) as journal:
            failures = _annotate_all(folder, images, estimator, journal, skeleton, min_score, min_person_score)
            done = [
                journal.images[name] for p in images if (name := p.relative_to(folder).as_posix()) in journal.images
            ]
            journal.finish(coco_file(skeleton, _with_ids(done), facts))
    people = sum(person["num_keypoints"] > 0 for image in done for person in image["people"])
    print(f"{len(done)} images, {people} people with keypoints: {target}", file=sys.stderr)
    if failures:
        raise SourceError(
            f"{len(failures)} images could not be read: {failures[0]}", expected="images; the rest is done"
        )


def _annotate_all(
    folder: Path, images: list[Path], estimator: PoseEstimator, journal: AnnotationJournal, skeleton: Any,
    min_score: float, min_person_score: float,
) -> list[str]:  # fmt: skip
    """Annotate what the journal lacks; return what could not be read."""
    failures: list[str] = []
    with _progress(len(images)) as advance:
        for path in images:
            name = path.relative_to(folder).as_posix()
            if name not in journal.images:
                try:
                    image = read_image(path)
                except FeatherposeError as error:
                    failures.append(str(error))
                    advance()
                    continue
                people = annotated_people(
                    estimator(image).to_skeleton(skeleton), min_score=min_score, min_person_score=min_person_score
                )
                size = {"width": image.shape[1], "height": image.shape[0]}
                journal.add({"file_name": name, **size, "people": people})
            advance()
    return failures


def _with_ids(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give each image an id: its name if all are different numbers, as in COCO, else a digest of it."""
    stems = [Path(image["file_name"]).stem for image in images]
    numbers = [int(stem) if stem.isascii() and stem.isdigit() and len(stem) < 16 else -1 for stem in stems]
    if min(numbers, default=0) < 0 or len(set(numbers)) < len(numbers):
        numbers = [stable_image_id(image["file_name"]) for image in images]
    return [{"id": number, **image} for number, image in zip(numbers, images, strict=True)]


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("annotating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
