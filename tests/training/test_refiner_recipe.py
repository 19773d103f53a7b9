"""The recipe in ``benchmarks/recipes/refiner`` with one photograph and a few steps."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from people_crops import CropDraw, Person, found_people, read_people
from shorten import (
    KEPT,
    Outputs,
    Teacher,
    feature_loss,
    gates_of,
    heatmap_loss,
    shortened,
    update_average,
    without_gates,
)

from featherpose.crops import CropShape
from featherpose.nn.refiner import Refiner
from featherpose.skeleton import COCO_17

SHAPE = CropShape(width=160, height=224, margin=1.1)


@pytest.fixture(scope="module")
def full() -> Refiner:
    torch.manual_seed(0)
    return Refiner().eval()


def _folder(folder: Path, image: np.ndarray, ids: list[int]) -> Path:
    """Write a COCO folder with the same photograph for each id."""
    (folder / "images").mkdir(parents=True)
    points = np.linspace(100, 300, 17)
    keypoints = np.stack([points, points, np.full(17, 2)], axis=1).ravel().tolist()
    for i in ids:
        cv2.imwrite(str(folder / f"images/{i}.png"), image)
    person = {"category_id": 1, "iscrowd": 0, "keypoints": keypoints, "num_keypoints": 17, "area": 9e4}
    boxes = ([80.0, 80.0, 240.0, 240.0], [0.0, 0.0, 20.0, 20.0])
    annotations = [{**person, "id": 2 * i + k, "image_id": i, "bbox": box} for i in ids for k, box in enumerate(boxes)]
    height, width = image.shape[:2]
    images = [{"id": i, "file_name": f"{i}.png", "width": width, "height": height} for i in ids]
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": []}]
    data = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(data))
    return folder


def test_held_out_images_small_boxes_and_pseudo_keypoints_are_left_out(astronaut: np.ndarray, tmp_path: Path) -> None:
    train, people = _folder(tmp_path / "coco-train", astronaut, [10, 11]), _folder(tmp_path / "people", astronaut, [10])
    found = read_people([train, people])
    assert [person.path for person in found] == [train / "images/11.png", people / "images/10.png"]
    assert found[0].keypoints is not None
    assert found[1].keypoints is None


def test_people_without_a_box_are_taken_from_what_a_network_found(astronaut: np.ndarray, tmp_path: Path) -> None:
    known = read_people([_folder(tmp_path / "coco-train", astronaut, [10, 11])])  # 10 is held out
    boxes = {
        "the one that is known": ([90.0, 80.0, 230.0, 240.0], 0.9),
        "somebody else": ([300.0, 50.0, 100.0, 200.0], 0.5),
        "faint": ([300.0, 300.0, 100.0, 200.0], 0.1),
        "small": ([300.0, 300.0, 20.0, 20.0], 0.9),
    }
    found = {
        "images": [{"id": 7, "file_name": "10.png"}, {"id": 8, "file_name": "11.png"}],
        "annotations": [{"image_id": i, "bbox": box, "score": s} for i in (7, 8) for box, s in boxes.values()],
    }
    (tmp_path / "coco-train.json").write_text(json.dumps(found))
    (other,) = found_people([tmp_path / "coco-train.json"], known)
    assert other.path == tmp_path / "coco-train/images/11.png"
    assert other.box.tolist() == [300, 50, 400, 250]
    assert other.keypoints is None


def test_patches_hide_a_part_of_some_crops(astronaut: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photograph.png"), astronaut)
    person = Person(tmp_path / "photograph.png", np.array([80, 80, 320, 320], np.float32), None)

    def first_of(seed: int, hidden: float) -> np.ndarray:
        """Draw one crop; whether it is hidden is drawn last."""
        crop: np.ndarray = CropDraw([person], SHAPE, seed, hidden).batch(1).crops[0]
        return crop

    shares = [(first_of(seed, 1.0) != first_of(seed, 0.0)).any(axis=2).mean() for seed in range(8)]
    assert all(0.005 < share < 0.25 for share in shares)
    changed = [bool((first_of(seed, 0.5) != first_of(seed, 0.0)).any()) for seed in range(16)]
    assert 0 < sum(changed) < 16


def test_gaussians_lie_on_the_joints_of_the_crop(astronaut: np.ndarray, tmp_path: Path) -> None:
    """The same joint is marked in the crop and in its heatmap, mirrored or not."""
    image = np.zeros_like(astronaut)
    joints = np.array([[150, 120], [250, 260]])
    colors = np.array([[0, 0, 255], [0, 255, 0]])
    for (x, y), color in zip(joints, colors, strict=True):
        cv2.circle(image, (int(x), int(y)), 9, color.tolist(), -1)
    cv2.imwrite(str(tmp_path / "dots.png"), image)
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[[1, 2], :2], keypoints[[1, 2], 2] = joints, 2  # eyes: partners of each other in the mirror
    person = Person(tmp_path / "dots.png", np.array([80, 80, 320, 320], np.float32), keypoints)
    drawn = CropDraw([person], SHAPE, seed=3).batch(12)
    mirrored = compared = 0
    for crop, heatmaps in zip(drawn.crops, drawn.heatmaps, strict=True):
        seen = []
        for color in colors:
            amount = crop.astype(float) @ np.where(color, 1, -1)  # of this color more than of the others
            rows, columns = np.nonzero(amount > max(100, 0.8 * amount.max()))
            if not len(rows):  # the dot is beside the crop
                break
            seen.append((columns.mean() / 4, rows.mean() / 4))
        if len(seen) < 2:
            continue
        compared += 1
        peaks = [np.unravel_index(heatmaps[k].argmax(), heatmaps[k].shape) for k in (1, 2)]
        here = [(peak[1], peak[0]) for peak in peaks]
        straight, crossed = np.abs(np.subtract(here, seen)).max(), np.abs(np.subtract(here, seen[::-1])).max()
        assert min(straight, crossed) < 1.5
        mirrored += crossed < straight
    assert compared > 6
    assert 0 < mirrored < compared
    assert drawn.labeled.sum() == 24


def test_gaussians_beside_the_crop_and_hidden_joints_are_not_drawn(astronaut: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photograph.png"), astronaut)
    keypoints = np.zeros((17, 3), np.float32)
    keypoints[0] = 200, 200, 0  # in the box, and not annotated
    keypoints[5] = 5000, 200, 2
    person = Person(tmp_path / "photograph.png", np.array([80, 80, 320, 320], np.float32), keypoints)
    drawn = CropDraw([person], SHAPE, seed=0).batch(4)
    assert not drawn.heatmaps.any()
    assert drawn.labeled.sum() == 4


def test_a_shorter_network_has_the_full_ones_weights(full: Refiner) -> None:
    short = shortened(full, KEPT)
    own, known = short.state_dict(), full.state_dict()
    assert torch.equal(own["stages.1.0.units.0.0.gate"], known["stages.1.1.units.0.0.gate"])
    assert torch.equal(own["head.0.0.weight"], known["head.0.0.weight"])
    everything = shortened(full, ((0, 1), (0, 1, 2, 3), (0, 1)))
    assert all(torch.equal(value, known[name]) for name, value in everything.state_dict().items())


def test_gates_of_one_are_left_out(full: Refiner) -> None:
    short = shortened(full, KEPT).eval()
    plain = without_gates(short).eval()
    assert gates_of(short)
    assert not gates_of(plain)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        torch.testing.assert_close(plain(images)[0].heatmaps, short(images)[0].heatmaps)
        next(iter(gates_of(short).values())).mul_(0.5)
    assert without_gates(short) is short


def test_steps_come_closer_to_the_teacher(full: Refiner, astronaut: np.ndarray) -> None:
    teacher, short = Teacher(full, 2, 1), shortened(full, KEPT)
    crops = np.stack([astronaut[i : i + 224, 100:260] for i in (0, 60)])
    heatmaps, *branches = (tensor.clone() for tensor in teacher(crops))
    images = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        exact, *_ = Outputs(full)(images)
    assert (heatmaps - exact).abs().max() < 0.05 * exact.abs().max()
    average = shortened(full, KEPT)
    optimizer = torch.optim.AdamW(short.parameters(), lr=1e-3)
    losses = []
    for step in range(8):
        found, *features = Outputs(short)(images)
        loss = heatmap_loss(found, heatmaps) + feature_loss(features, branches)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        update_average(average.state_dict(), short.state_dict(), step + 1)
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    moved = [(a - b).abs().max() for a, b in zip(average.parameters(), short.parameters(), strict=True)]
    assert 0 < max(moved) < 0.02
