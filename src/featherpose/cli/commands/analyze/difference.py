"""``featherpose analyze difference``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from featherpose.cli.options.validators import check_at_least, check_outputs
from featherpose.cli.report import print_table, write_json

__all__ = ["difference"]


def difference(
    dataset: Path,
    first: Path,
    second: Path,
    *,
    images: Path | None = None,
    limit: int | None = None,
    resamples: int = 2000,
    seed: int = 0,
    json: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Compare two systems on the same images: the difference in AP, and a paired bootstrap 95 % interval over images.

    Args:
        dataset: A folder with annotations.json and images/, or a COCO person keypoint file.
        first: People found by one system, as evaluate --save-results writes them.
        second: Those found by the other.
        images: Folder of the images, where they are not in images/ beside the annotations.
        limit: Only the first N images, as the results were made.
        resamples: Draws of images.
        seed: Of the draws.
        json: Also write the figures to this file.
    """
    from featherpose.evaluation.keypoints.dataset import read_coco_dataset
    from featherpose.evaluation.keypoints.paired_bootstrap import compare_paired
    from featherpose.evaluation.keypoints.results_file import read_results

    if limit is not None:
        check_at_least("--limit", limit, 1)
    check_at_least("--resamples", resamples, 100)
    check_outputs(json, None)
    data = read_coco_dataset(dataset, images)
    if limit is not None:
        data = data.first(limit)
    found = compare_paired(
        data, read_results(first, data), read_results(second, data), resamples=resamples, seed=seed
    )  # fmt: skip
    print_table(
        ["", "AP"],
        [
            [first.stem, f"{found.first:.4f}"],
            [second.stem, f"{found.second:.4f}"],
            ["difference", f"{found.difference:+.4f}"],
            ["95 % interval", f"{found.low:+.4f} to {found.high:+.4f}{', a tie' if found.tie else ''}"],
        ],
        title=f"{data.name}: {found.images} images, {found.resamples} paired draws",
    )
    if json is not None:
        write_json(json, {"dataset": data.name, "names": [first.stem, second.stem], "tie": found.tie, **asdict(found)})
