"""AP: exact on results made from the truth, and the whole command on real photographs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.errors import DatasetError
from featherpose.evaluation.keypoints.annotated_boxes import disturbed_boxes
from featherpose.evaluation.keypoints.coco_ap import average_precision
from featherpose.evaluation.keypoints.dataset import CocoDataset, read_coco_dataset

pytest.importorskip("pycocotools")


def truth_as_results(dataset: CocoDataset, shift_px: float = 0.0) -> list[dict[str, Any]]:
    results = []
    for annotation in dataset.annotations["annotations"]:
        if annotation["num_keypoints"]:
            points = [v + shift_px if i % 3 < 2 else 1.0 for i, v in enumerate(annotation["keypoints"])]
            results.append({"image_id": annotation["image_id"], "category_id": 1, "keypoints": points, "score": 1.0})
    return results


@pytest.fixture
def two_people(tmp_path: Path) -> CocoDataset:
    keypoints = [v for k in range(17) for v in (50.0 + 5 * k, 30.0 + 7 * k, 2)]
    (tmp_path / "images").mkdir()
    data = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"id": i, "image_id": i, "keypoints": keypoints, "bbox": [50, 30, 85, 119], "area": 10115.0} for i in (1, 2)
        ],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(data))
    return read_coco_dataset(tmp_path)


def test_truth_scores_one_and_nothing_scores_zero(two_people: CocoDataset, capsys: pytest.CaptureFixture[str]) -> None:
    perfect = average_precision(two_people, truth_as_results(two_people))
    assert pytest.approx([1, 1, 1, -1]) == [perfect.AP, perfect.AR, perfect.APL, perfect.APM]
    assert average_precision(two_people, []).AP == 0
    assert average_precision(two_people, truth_as_results(two_people, 500)).AP == 0
    assert capsys.readouterr().out == "", "pycocotools' chatter is not ours"


def test_half_of_the_people_found(two_people: CocoDataset) -> None:
    # precision 1 up to recall 0.5: 51 of the 101 recall points
    scores = average_precision(two_people, truth_as_results(two_people)[:1])
    assert pytest.approx([51 / 101, 0.5]) == [scores.AP, scores.AR]


def test_only_chosen_images_count(two_people: CocoDataset) -> None:
    first = two_people.first(1)
    assert average_precision(first, truth_as_results(two_people)).AP > 0.999


def test_annotations_are_not_changed(two_people: CocoDataset) -> None:
    before = json.dumps(two_people.annotations)
    average_precision(two_people, truth_as_results(two_people))
    assert json.dumps(two_people.annotations) == before


@pytest.mark.slow
def test_command_on_real_photographs(
    coco_val: Path, released_int8: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report, found = tmp_path / "report.json", tmp_path / "found.json"
    arguments = ["evaluate", str(coco_val), "--model", str(released_int8), "--height", "256", "--limit", "12"]
    assert run([*arguments, "--threads", "1", "--json", str(report), "--save-results", str(found)]) == 0
    data = json.loads(report.read_text())
    assert {"AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL"} <= set(data)
    assert data["AP"] > 0.25
    assert (data["images"], data["height"], data["precision"], data["preset"]) == (12, 256, "int8", "default")
    assert data["machine"]["cores"] >= 1
    captured = capsys.readouterr()
    assert f"AP\t{data['AP']:.4f}" in captured.out
    assert "12 images" in captured.err
    # Other tools come to the same figure from the saved results.
    results = json.loads(found.read_text())
    assert len(results) == data["people_found"]
    again = average_precision(read_coco_dataset(coco_val).first(12), results)
    assert again.as_dict() == {name: data[name] for name in again.as_dict()}


@pytest.mark.slow
def test_agrees_with_pycocotools_own_loader(coco_val: Path, tmp_path: Path) -> None:
    """Our loading of results is `COCO.loadRes`, which cannot take an empty list."""
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    dataset = read_coco_dataset(coco_val).first(60)
    results = [r for i, r in enumerate(truth_as_results(read_coco_dataset(coco_val), 2.0)) if i % 3]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(coco_val / "annotations.json"))
        evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
        evaluation.params.imgIds = [image.image_id for image in dataset.images]
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ours = average_precision(dataset, results)
    assert tuple(ours.as_dict().values()) == pytest.approx(tuple(evaluation.stats), abs=1e-5)


def test_failures_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(tmp_path / "nothing")]) == 1
    assert run(["evaluate", str(tmp_path), "--limit", "0"]) == 2
    assert run(["evaluate"]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert line.startswith("featherpose: ")


@pytest.mark.slow
def test_a_list_chooses_the_images(two_people: CocoDataset, coco_val: Path, tmp_path: Path) -> None:
    first = two_people.images[0]
    for name in (str(first.image_id), first.path.name, first.path.stem):
        assert two_people.only([name]).images[0] == first
    with pytest.raises(DatasetError, match="lacks 1 of 2 images"):
        two_people.only([first.path.name, "none.jpg"])
    listed = Path(__file__).parents[2] / "benchmarks/coco-val.txt"
    whole = read_coco_dataset(coco_val)
    assert whole.only(listed.read_text().split()).images == whole.images, "the figures' own images are listed"
    for text in ("", "\udcff"):
        (tmp_path / "list.txt").write_bytes(text.encode(errors="surrogateescape"))
        assert run(["evaluate", str(coco_val), "--only", str(tmp_path / "list.txt")]) == 1
    assert run(["evaluate", str(coco_val), "--only", str(tmp_path / "no.txt")]) == 1


@pytest.mark.slow
def test_single_person_networks_are_measured_flipped_and_in_boxes_that_are_off(
    coco_val: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(coco_val), "--model", "refiner", "--limit", "6", "--threads", "1", "--precision"]
    found = {}
    for name, more in (("plain", []), ("flipped", ["--flip"]), ("off", ["--box-noise", "0.3"])):
        report = tmp_path / f"{name}.json"
        assert run([*arguments, "fp32", *more, "--json", str(report)]) == 0
        found[name] = json.loads(report.read_text())
    assert found["plain"]["AP"] > 0.5
    assert found["flipped"]["AP"] != found["plain"]["AP"]
    assert found["off"]["AP"] < found["plain"]["AP"]
    assert (found["off"]["box_noise"], found["flipped"]["flip"], found["plain"]["flip"]) == (0.3, True, False)
    assert "with noise of 0.3" in capsys.readouterr().err
    assert run([*arguments[:2], "--model", "feather", "--flip"]) == 2
    assert run([*arguments, "fp32", "--box-noise", "2"]) == 2


def test_boxes_are_moved_by_the_same_noise_each_time() -> None:
    boxes = np.array([[0, 0, 30, 90], [50, 50, 60, 60]], np.float32)
    first, second = (disturbed_boxes(boxes, 0.2, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    ratios = (boxes[:, 2:] - boxes[:, :2]) / (first[:, 2:] - first[:, :2])
    np.testing.assert_allclose(ratios[:, 0], ratios[:, 1], rtol=1e-4)
    assert np.abs(first - boxes).max() > 1
