"""MPII, FLIC and LSP: annotation files in the published layout, written here, are read and converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from featherpose.cli.main import run
from featherpose.data.coco import read_coco
from featherpose.data.exchange.image_files import ImageFiles
from featherpose.data.exchange.matlab_reading import find_matlab, read_matlab
from featherpose.errors import DatasetError
from featherpose.skeleton import COCO_17, load_skeleton


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("015601864.jpg", "2-fast-2-furious-00003571.jpg", "im0001.jpg", "im0002.jpg", "im00001.jpg"):
        cv2.imwrite(str(folder / name), np.full((120, 160, 3), 90, np.uint8))
    return folder


def _struct(**fields: Any) -> dict[str, Any]:
    return fields


def _mpii(path: Path) -> None:
    """One labeled image with two people, one with a head alone, and one without a file."""

    def points(shift: float) -> np.ndarray:
        return np.array(
            [_struct(x=10.0 + k + shift, y=20.0 + 2 * k, id=k, is_visible=str(k % 2)) for k in (0, 3, 9, 15)], object
        )

    people = np.array(
        [
            _struct(x1=1, y1=2, x2=20, y2=22, annopoints=_struct(point=points(0)), scale=1.2),
            _struct(x1=1, y1=2, x2=20, y2=22, annopoints=_struct(point=points(50)), scale=1.0),
            _struct(x1=1, y1=2, x2=20, y2=22),
        ],
        object,
    )
    annolist = np.array(
        [
            _struct(image=_struct(name="015601864.jpg"), annorect=people),
            _struct(image=_struct(name="absent.jpg"), annorect=people[:1]),
            _struct(image=_struct(name="im0001.jpg"), annorect=people[2:]),
        ],
        object,
    )
    savemat(path, {"RELEASE": _struct(annolist=annolist, img_train=np.array([1, 1, 0]))})


def test_mpii(tmp_path: Path, images: Path) -> None:
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    _mpii(path)
    found = read_matlab(path, ImageFiles(images))
    assert found.skeleton == load_skeleton("mpii_16")
    assert found.findings == ("1 images are not there, and are left out",)
    (image,) = found.images
    assert (image.file_name, image.size, len(image.people)) == ("015601864.jpg", (160, 120), 2)
    first = image.people[0].keypoints
    assert np.flatnonzero(first[:, 2]).tolist() == [0, 3, 9, 15]
    # MATLAB counts pixels from 1; id 0 is hidden, id 3 visible.
    assert first[0].tolist() == [9, 19, 1]
    assert first[3].tolist() == [12, 25, 2]
    assert found.skeleton.keypoints[9] == "head_top"


def test_flic(tmp_path: Path, images: Path) -> None:
    coords = np.full((2, 29), np.nan)
    coords[:, 0], coords[:, 16], coords[:, 9] = (30, 40), (50, 12), (44, 80)
    example = _struct(
        filepath="2-fast-2-furious-00003571.jpg", imgdims=[120, 160, 3], coords=coords, torsobox=[1.0, 2.0, 30.0, 40.0],
        istrain=1, istest=0,
    )  # fmt: skip
    savemat(tmp_path / "examples.mat", {"examples": np.array([example], object)})
    found = read_matlab(tmp_path / "examples.mat", ImageFiles(images))
    (person,) = found.images[0].people
    named = dict(zip(found.skeleton.keypoints, person.keypoints.tolist(), strict=True))
    assert named["left_shoulder"] == [29, 39, 2]
    assert named["nose"] == [49, 11, 2]
    assert named["right_hip"] == [43, 79, 2]
    assert named["left_eye"] == [0, 0, 0]


@pytest.mark.parametrize("extended", [False, True])
def test_lsp(extended: bool, tmp_path: Path, images: Path) -> None:
    points = np.random.default_rng(0).uniform(5, 100, (14, 3, 2))
    points[:, 2] = 1 if extended else 0  # visible
    points[4, 2] = 0 if extended else 1
    points[7, :2] = -1 if extended else 0
    savemat(tmp_path / "joints.mat", {"joints": points if extended else points.transpose(1, 0, 2)})
    found = read_matlab(tmp_path / "joints.mat", ImageFiles(images))
    names = [image.file_name for image in found.images]
    assert names == (["im00001.jpg"] if extended else ["im0001.jpg", "im0002.jpg"])
    keypoints = found.images[0].people[0].keypoints
    np.testing.assert_allclose(keypoints[0], [*(points[0, :2, 0] - 1), 2])
    assert keypoints[4, 2] == 1
    assert keypoints[7].tolist() == [0, 0, 0]


def test_command_converts_to_what_train_and_evaluate_read(
    tmp_path: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _mpii(tmp_path / "mpii.mat")
    out = tmp_path / "coco"
    assert run(["data", "convert", str(tmp_path / "mpii.mat"), "--images", str(images), "-o", str(out)]) == 0
    assert "matlab to coco: 1 images, 2 people" in capsys.readouterr().out
    (sample,) = read_coco(out / "annotations.json", out / "images", load_skeleton("mpii_16"))
    assert sample.keypoints.shape == (2, 16, 2)
    (sample,) = read_coco(out / "annotations.json", out / "images", COCO_17)
    names = [COCO_17.keypoints[k] for k in np.flatnonzero(np.isfinite(sample.keypoints[0, :, 0]))]
    assert names == ["left_wrist", "left_hip", "right_ankle"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    files = ImageFiles(tmp_path)
    damaged = tmp_path / "damaged.mat"
    damaged.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DatasetError, match="damaged"):
        read_matlab(damaged, files)
    savemat(tmp_path / "joints.mat", {"joints": np.ones((3, 14, 2))})
    damaged.write_bytes((tmp_path / "joints.mat").read_bytes()[:300])
    with pytest.raises(DatasetError, match="damaged"):
        read_matlab(damaged, files)
    savemat(tmp_path / "other.mat", {"weights": np.ones(3)})
    with pytest.raises(DatasetError, match="holds weights"):
        read_matlab(tmp_path / "other.mat", files)
    savemat(tmp_path / "joints.mat", {"joints": np.ones((3, 13, 2))})
    with pytest.raises(DatasetError, match="joints of shape"):
        read_matlab(tmp_path / "joints.mat", files)
    savemat(tmp_path / "flic.mat", {"examples": np.array([_struct(filepath="a.jpg", coords=np.ones((2, 7)))], object)})
    with pytest.raises(DatasetError, match="coords of shape"):
        read_matlab(tmp_path / "flic.mat", files)
    assert find_matlab(tmp_path) is None  # several
    assert find_matlab(tmp_path / "flic.mat") == tmp_path / "flic.mat"
