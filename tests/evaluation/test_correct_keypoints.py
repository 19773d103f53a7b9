"""PCK, PCKh and PCP: by hand, on a whole data set, and from the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featherpose.evaluation.keypoints.correct_keypoints import body_parts, correct_keypoints
from featherpose.evaluation.keypoints.dataset import CocoDataset, CocoImage
from featherpose.skeleton import COCO_17, LSP_14, load_skeleton


def _person(skeleton: Any, points: np.ndarray, image_id: int = 1) -> dict[str, Any]:
    flat = np.column_stack([np.nan_to_num(points), 2.0 * np.isfinite(points[:, 0])])
    return {
        "image_id": image_id, "keypoints": flat.ravel().tolist(), "iscrowd": 0,
        "num_keypoints": int((flat[:, 2] > 0).sum()), "score": 1.0,
    }  # fmt: skip


def _upright(skeleton: Any) -> np.ndarray:
    """A person 200 pixels high: torso 60, arms 30 each, legs 40 each, head 25."""
    places = {
        "head_top": (0, -35), "upper_neck": (0, -10), "neck": (0, -5), "shoulder": (20, 0), "elbow": (20, 30),
        "wrist": (20, 60), "hip": (12, 52), "knee": (12, 92), "ankle": (12, 132), "mid_hip": (0, 52),
    }  # fmt: skip
    points = np.full((skeleton.num_keypoints, 2), np.nan)
    for k, name in enumerate(skeleton.keypoints):
        part = name.removeprefix("left_").removeprefix("right_")
        if part in places:
            side = -1 if name.startswith("left_") else 1
            points[k] = 100 + side * places[part][0], 100 + places[part][1]
    return points


def _data(skeleton: Any, *people: dict[str, Any]) -> CocoDataset:
    return CocoDataset("drawn", (CocoImage(1, Path("1.jpg")),), {"annotations": list(people)}, skeleton)


def test_every_measure_counts_what_its_paper_says() -> None:
    points = _upright(LSP_14)
    truth = _person(LSP_14, points)
    assert correct_keypoints(_data(LSP_14, truth), [truth]).as_dict() == {"PCK@0.2": 1, "PCKh@0.5": 1, "PCP@0.5": 1}
    torso = float(np.hypot(32, 52))
    wrist = LSP_14.keypoints.index("left_wrist")
    for shift, pck, pckh, pcp in (
        (0.19 * torso, 14, 14, 8),  # 11.6 px: under half of the forearm (15) and of the head (15)
        (0.21 * torso, 13, 14, 8),  # 12.8
        (15.5, 13, 13, 7),
    ):
        moved = points.copy()
        moved[wrist, 0] += shift
        found = correct_keypoints(_data(LSP_14, truth), [_person(LSP_14, moved)])
        assert found.pck == pytest.approx(pck / 14)
        assert found.pckh == pytest.approx(pckh / 14)
        assert found.pcp == pytest.approx(pcp / 8)
        assert found.pck_by_keypoint["left_wrist"] == (pck == 14)


def test_missing_people_and_keypoints_are_wrong_and_the_best_candidate_counts() -> None:
    points = _upright(COCO_17)
    truth = _person(COCO_17, points)
    nothing = correct_keypoints(_data(COCO_17, truth), [])
    assert (nothing.pck, nothing.pckh, nothing.pcp) == (0, None, 0)
    half = points.copy()
    half[[COCO_17.keypoints.index(f"left_{name}") for name in ("knee", "ankle")]] = np.nan
    results = [_person(COCO_17, points + 500), _person(COCO_17, half)]
    found = correct_keypoints(_data(COCO_17, truth), results)
    assert found.pck == pytest.approx(10 / 12)
    assert found.pcp == pytest.approx(6 / 8)
    crowd = {**truth, "iscrowd": 1}
    assert correct_keypoints(_data(COCO_17, crowd), results).pck is None
    known = [k for k, name in enumerate(COCO_17.keypoints) if "ankle" not in name]
    assert correct_keypoints(_data(COCO_17, truth), results, known=known).pck == pytest.approx(9 / 10)


def test_parts_of_skeletons() -> None:
    assert [len(body_parts(load_skeleton(name))) for name in ("coco_17", "lsp_14", "mpii_16", "flic_11")] == [
        8,
        8,
        8,
        4,
    ]


@pytest.mark.slow
def test_command_prints_pck_and_pcp_on_lsp(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from featherpose.cli.main import run

    out = tmp_path / "lsp.json"
    folder = shared / "data/lsp-extended"
    assert run(["evaluate", str(folder), "--limit", "12", "--refine", "off", "--json", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "PCK@0.2" in printed
    assert "PCP@0.5" in printed
    report = json.loads(out.read_text())
    assert 0.2 < report["PCK@0.2"] <= 1
    assert 0 < report["PCP@0.5"] <= 1
    assert report["PCKh@0.5"] is None  # no head is labeled there
    assert report["PCK by keypoint"]["left_hip"] > 0
