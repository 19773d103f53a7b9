"""Differences in AP and their intervals: the fast form against pycocotools on the data set that was really repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import DatasetError, OptionError
from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import CocoDataset, CocoImage, read_coco_dataset
from featherpose.evaluation.keypoints.paired_bootstrap import compare_paired, match_images, weighted_ap
from featherpose.evaluation.keypoints.results_file import read_results

pytest.importorskip("pycocotools")

_IMAGES = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """People, a crowd, and somebody without keypoints on a dozen images, one of them empty."""
    rng = np.random.default_rng(1)
    annotations: list[dict[str, Any]] = []
    for image in range(1, _IMAGES):
        for person in range(int(rng.integers(1, 4))):
            corner, side = rng.uniform(0, 200, 2), rng.uniform(40, 150)
            points = corner + rng.uniform(0, side, (17, 2))
            known = 2 * (rng.random(17) < (0.0 if person == 2 else 0.8))
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "iscrowd": 0, "area": float(side**2 * 0.5),
                "keypoints": np.column_stack([points * (known > 0)[:, None], known]).ravel().tolist(),
                "bbox": [*corner.tolist(), float(side), float(side)],
            })  # fmt: skip
    (tmp_path / "images").mkdir()
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(1, _IMAGES + 1)]
    (tmp_path / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return tmp_path


def _found(data: CocoDataset, noise_px: float, seed: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    results = []
    for annotation in data.annotations["annotations"]:
        points = np.array(annotation["keypoints"], np.float64).reshape(17, 3)
        if not points[:, 2].any() or rng.random() < 0.1:
            continue
        for _ in range(1 + (rng.random() < 0.2)):
            moved = np.column_stack([points[:, :2] + rng.normal(0, noise_px, (17, 2)), np.ones(17)])
            results.append({
                "image_id": annotation["image_id"], "category_id": 1, "keypoints": moved.ravel().tolist(),
                "score": float(rng.random()),
            })  # fmt: skip
    return results


def _repeated(data: CocoDataset, results: list[dict[str, Any]], counts: list[int]) -> float:
    """The plain reference: every image as often as it was drawn, under ids of its own."""
    images, annotations, found = [], [], []
    for image, count in zip(data.images, counts, strict=True):
        for copy in range(count):
            new = 1000 * image.image_id + copy
            images.append(CocoImage(new, image.path))
            annotations += [
                {**a, "image_id": new} for a in data.annotations["annotations"] if a["image_id"] == image.image_id
            ]
            found += [{**r, "image_id": new} for r in results if r["image_id"] == image.image_id]
    numbered = [{**a, "id": number} for number, a in enumerate(annotations, 1)]
    content = {**data.annotations, "images": [{"id": i.image_id} for i in images], "annotations": numbered}
    return average_precision(replace(data, images=tuple(images), annotations=content), found).AP


def test_weights_give_what_a_repeated_data_set_gives(folder: Path) -> None:
    data = read_coco_dataset(folder)
    results = _found(data, 4.0, 0)
    matches = match_images(data, results)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(_IMAGES, np.full(_IMAGES, 1 / _IMAGES), size=6)
    weights[0] = 1
    expected = [_repeated(data, results, row.tolist()) for row in weights]
    assert 0.05 < expected[0] < 0.95
    np.testing.assert_allclose(weighted_ap(matches, weights), expected, atol=1e-9)
    assert expected[0] == pytest.approx(average_precision(data, results).AP)


def test_interval_contains_the_difference_and_equal_systems_tie(folder: Path) -> None:
    data = read_coco_dataset(folder)
    better, worse = _found(data, 1.0, 0), _found(data, 12.0, 0)
    found = compare_paired(data, better, worse, resamples=200)
    assert found.low < found.difference < found.high
    assert found.difference > 0
    assert not found.tie
    same = compare_paired(data, better, better, resamples=100)
    assert (same.difference, same.low, same.high, same.tie) == (0, 0, 0, True)
    assert compare_paired(data, [], worse, resamples=100).difference < 0
    with pytest.raises(OptionError, match="resamples"):
        compare_paired(data, better, worse, resamples=0)


def test_command_reads_saved_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = read_coco_dataset(folder)
    for name, noise in (("with", 1.0), ("without", 12.0)):
        (folder / f"{name}.json").write_text(json.dumps(data.results_for_file(_found(data, noise, 0))))
    report = folder / "report.json"
    arguments = ["analyze", "difference", str(folder), str(folder / "with.json"), str(folder / "without.json")]
    assert run([*arguments, "--resamples", "100", "--json", str(report)]) == 0
    printed = capsys.readouterr().out
    assert "difference\t+0." in printed
    facts = json.loads(report.read_text())
    assert facts["names"] == ["with", "without"]
    assert facts["images"] == _IMAGES
    assert not facts["tie"]


@pytest.mark.parametrize(
    "text", ["{}", "[", "[1]", '[{"image_id": 1, "score": 1, "keypoints": [1, 2]}]', '[{"image_id": "a"}]']
)
def test_other_files_are_refused(folder: Path, text: str) -> None:
    data = read_coco_dataset(folder)
    path = folder / "found.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"found\.json"):
        read_results(path, data)
    with pytest.raises(DatasetError, match=r"absent\.json"):
        read_results(folder / "absent.json", data)
