"""The single-person network is trained on crops as they are cut in use, from its own weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.crops import CropShape
from featherpose.data.crops import CropOptions, CropViews
from featherpose.errors import ConfigError
from featherpose.skeleton import COCO_17
from featherpose.training.boxes import person_box
from featherpose.training.config import config_from_dict, load_config
from featherpose.training.loop import train

_CONFIG = Path(__file__).parents[2] / "src/featherpose/training/configs/refiner.toml"


@pytest.fixture(scope="module")
def people(coco_train: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few labeled images; some have ids that are multiples of ten."""
    folder = tmp_path_factory.mktemp("data") / "coco"
    folder.mkdir()
    (folder / "images").symlink_to(coco_train / "images", target_is_directory=True)
    data = json.loads((coco_train / "annotations.json").read_text())
    images = [i for i in data["images"] if i["id"] % 10][:6] + [i for i in data["images"] if i["id"] % 10 == 0][:4]
    ids = {image["id"] for image in images}
    kept = [a for a in data["annotations"] if a["image_id"] in ids]
    (folder / "annotations.json").write_text(json.dumps({**data, "images": images, "annotations": kept}))
    return folder.parent


def test_training_starts_from_the_weights_and_keeps_what_they_know(people: Path, tmp_path: Path) -> None:
    overrides = {"run.steps": "2", "run.batch_size": "4", "run.validate_every": "0", "run.precision": "fp32"}
    result = train(load_config(_CONFIG, overrides=overrides, folder=people), tmp_path)
    assert (tmp_path / "best.safetensors").exists()
    assert result.metric is not None
    assert result.metric > 0.3  # AP on the held-out people, of whom a random network finds none


def test_crops_are_where_boxes_in_use_are() -> None:
    person = np.stack([np.linspace(80, 120, 17), np.linspace(40, 200, 17)], axis=1).astype(np.float32)
    shape = CropShape(width=160, height=224, margin=1.1)

    def box_of(found: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return person_box(found, size, COCO_17)

    still = CropOptions(missed=0, shift=0, scale=0, rotation_deg=0, flip=0)
    view = CropViews(shape=shape, box_of=box_of, options=still).draw(person, (300, 300), np.random.default_rng(1))
    (matrix,) = shape.matrices(box_of(person, (300, 300))[None])
    back = np.linalg.inv(view.matrix)[:2]
    np.testing.assert_allclose(back, matrix, atol=1e-3)

    moved = CropViews(shape=shape, box_of=box_of, options=CropOptions(missed=1))
    views = [moved.draw(person, (300, 300), np.random.default_rng(seed)) for seed in range(50)]
    inside = [((v.points(person) >= 0) & (v.points(person) < (160, 224))).all(axis=1).mean() for v in views]
    assert np.mean(inside) > 0.7  # most of the person, though it was told from a part
    assert np.mean(inside) < 1
    again = moved.draw(person, (300, 300), np.random.default_rng(7))
    np.testing.assert_array_equal(again.matrix, views[7].matrix)


def test_crops_are_for_networks_that_take_them() -> None:
    data = {"sources": [{"images": "a", "annotations": "b.json"}], "crops": {}}
    with pytest.raises(ConfigError, match="takes crops"):
        config_from_dict({"network": {"arch": "feather"}, "data": data})
    with pytest.raises(ConfigError, match="person_regions"):
        config_from_dict({"network": {"arch": "refiner"}, "data": {**data, "person_regions": 1.5}})
    with pytest.raises(ConfigError, match="chances"):
        CropOptions(missed=2)
