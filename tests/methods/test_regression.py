"""Direct regression: people to numbers and back, the loss, and refiners that look where they are told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherpose.errors import ConfigError, ModelError, OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.regression import REGRESSION, RegressionOptions, RegressionTargets
from featherpose.skeleton import COCO_17
from featherpose.training.config import LossConfig

_NO_BOXES = np.empty((0, 4), np.float32)
_SIZE = 192, 256


def _person(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform((4, 4), (187, 251), (1, 17, 2)).astype(np.float32)


def _encode(people: np.ndarray) -> dict[str, np.ndarray]:
    target = REGRESSION.encode(people, _NO_BOXES, COCO_17, _SIZE, REGRESSION.outputs(COCO_17), RegressionTargets())
    return dict(target.values)


def test_people_come_back() -> None:
    people = _person()
    people[0, 3] = np.nan
    people[0, 4] = -20, 300  # outside the view
    letterbox = Letterbox.fit((384, 512), height=256, multiple=8)
    poses = REGRESSION.decoder(COCO_17, REGRESSION.outputs(COCO_17))(_encode(people), letterbox)
    missing = np.isnan(poses.keypoints[0, :, 0])
    assert np.flatnonzero(missing).tolist() == [3, 4]
    np.testing.assert_allclose(letterbox.forward(poses.keypoints)[0, ~missing], people[0, ~missing], atol=1e-3)
    assert poses.image_size == (384, 512)


def test_nobody_is_found_where_nothing_is_present() -> None:
    decode = REGRESSION.decoder(COCO_17, REGRESSION.outputs(COCO_17), RegressionOptions(min_score=0.5))
    arrays = {"coordinates": np.full((34, 1, 1), np.nan, np.float32), "presence": np.ones((17, 1, 1), np.float32)}
    assert len(decode(arrays, Letterbox.fit(_SIZE, height=256, multiple=8))) == 0
    with pytest.raises(ModelError, match="at least 34 channels"):
        decode({**arrays, "coordinates": arrays["coordinates"][:30]}, Letterbox.fit(_SIZE, height=256, multiple=8))


@pytest.mark.parametrize("kind", ["l2", "soft"])
def test_loss_asks_only_for_known_coordinates(kind: str) -> None:
    people = _person(1)
    people[0, 5] = np.nan
    values = {name: torch.from_numpy(value)[None] for name, value in _encode(people).items()}
    masks = {name: torch.ones(1, 1, 1, 1) for name in values}
    answer = {"coordinates": torch.nan_to_num(values["coordinates"], nan=7.0), "presence": values["presence"].clone()}
    config = LossConfig(kind=kind)  # type: ignore[arg-type]
    loss, _ = REGRESSION.loss([answer], values, masks, config, COCO_17, probabilities=True)
    assert float(loss) == pytest.approx(0, abs=1e-3)
    worse = {**answer, "coordinates": answer["coordinates"] + 0.1}
    both, parts = REGRESSION.loss([answer, worse], values, masks, config, COCO_17, probabilities=True)
    assert float(both) > float(loss) + 1e-3
    assert float(parts["coordinates_1"]) > float(parts["coordinates_0"])


def test_refiners_look_around_each_joint() -> None:
    from featherpose.nn.trunk.deeppose import cut_around

    # Features that say where they are: the middle of each sub-image must be the joint's own place.
    y, x = torch.meshgrid((torch.arange(64) + 0.5) / 64 - 0.5, (torch.arange(48) + 0.5) / 48 - 0.5, indexing="ij")
    features = torch.stack((x, y))[None].repeat(2, 1, 1, 1)
    centers = torch.tensor([[[0.1, -0.2], [0.0, 0.3]], [[-0.3, 0.1], [0.2, 0.2]]])
    cut = cut_around(features, centers)
    torch.testing.assert_close(cut[:, :, :, 3, 3], centers, atol=1e-5, rtol=0)


def test_wrong_options_and_teachers_are_refused() -> None:
    with pytest.raises(OptionError, match="min_score is 2"):
        RegressionOptions(min_score=2)
    with pytest.raises(OptionError, match="coordinates, presence, for method regression"):
        REGRESSION.decoder(COCO_17, ())
    arrays = _encode(_person())
    with pytest.raises(ConfigError, match="teacher"):
        REGRESSION.merge(arrays, _person(), COCO_17, _SIZE, REGRESSION.outputs(COCO_17), RegressionTargets(), scale=1.0)
