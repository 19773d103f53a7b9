"""What Stacked Hourglass, CPN and CFN change about single-person heatmaps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from featherpose.geometry import Letterbox
from featherpose.methods import method_named
from featherpose.methods.cascade import CASCADE, PLAIN_CASCADE, hardest
from featherpose.methods.coarse_fine import COARSE_FINE, widened
from featherpose.methods.heatmap import HEATMAP, HeatmapOptions, HeatmapTargets
from featherpose.methods.hourglass import HOURGLASS
from featherpose.nn.layers.transformer import axis_aligned, inverse_of, transformed
from featherpose.skeleton import COCO_17
from featherpose.training.config import LossConfig

_NO_BOXES = np.empty((0, 4), np.float32)
_SOFT = LossConfig(kind="soft")


def _target(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    person = np.random.default_rng(seed).uniform((10, 10), (180, 240), (1, 17, 2)).astype(np.float32)
    made = HEATMAP.encode(person, _NO_BOXES, COCO_17, (192, 256), HEATMAP.outputs(COCO_17), HeatmapTargets())
    return person, np.asarray(made.values["heatmaps"])


@pytest.mark.parametrize("name", ["hourglass", "cpn", "cpn-all-keypoints", "cfn"])
def test_people_come_back(name: str) -> None:
    method = method_named(name)
    person, heatmaps = _target()
    poses = method.decoder(COCO_17, method.outputs(COCO_17))(
        {"heatmaps": heatmaps}, Letterbox.fit((192, 256), height=256, multiple=8)
    )
    assert np.abs(poses.keypoints[0] - person[0]).max() < 1.5


def test_a_quarter_shift_beats_the_cell_and_is_a_quarter() -> None:
    person, heatmaps = _target(1)
    letterbox = Letterbox.fit((192, 256), height=256, multiple=8)
    errors = []
    for subcell in (True, False):
        decode = HOURGLASS.decoder(COCO_17, HOURGLASS.outputs(COCO_17), HeatmapOptions(subcell=subcell))
        poses = decode({"heatmaps": heatmaps}, letterbox)
        errors.append(np.abs(poses.keypoints[0] - person[0]).mean())
        cells = (poses.keypoints[0] - 1.5) / 4
        assert np.allclose(np.abs(cells - np.rint(cells)), 0.25 if subcell else 0, atol=1e-4)
    assert errors[0] < errors[1]


def _arguments(heatmaps: np.ndarray) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    values = {"heatmaps": torch.from_numpy(heatmaps)[None].clamp(0.001, 0.999)}
    return values, {"heatmaps": torch.ones(1, 1, 64, 48)}


def test_mining_counts_the_hardest_alone() -> None:
    assert float(hardest(torch.tensor([[1.0, 2.0, 3.0]]), 8)) == 6
    values, masks = _arguments(_target(2)[1])
    answer = values["heatmaps"].clone()
    answer[:, 12:] = 0.01  # five keypoints are missed
    stages = [{"heatmaps": values["heatmaps"]}, {"heatmaps": answer.requires_grad_()}]
    loss, parts = CASCADE.loss(stages, values, masks, _SOFT, COCO_17, probabilities=True)
    plain, _ = PLAIN_CASCADE.loss(stages, values, masks, _SOFT, COCO_17, probabilities=True)
    assert float(loss.detach()) == pytest.approx(float(plain.detach()), rel=0.02)  # the others had nothing to learn
    assert "hardest" in parts
    torch.autograd.backward(loss)
    assert answer.grad is not None
    assert (answer.grad.abs().amax(dim=(0, 2, 3)) > 0).sum() <= 8


def test_coarse_levels_learn_wider_labels() -> None:
    x = torch.linspace(-6, 6, 49)
    narrow = torch.exp(-x.square() / 2)
    torch.testing.assert_close(widened(narrow, 2.0), torch.exp(-x.square() / 8))
    values, masks = _arguments(_target(3)[1])
    wide = [{"heatmaps": widened(values["heatmaps"], factor).clamp(0.001, 0.999)} for factor in (2.0, 1.5)]
    exact, parts = COARSE_FINE.loss(
        [*wide, {"heatmaps": values["heatmaps"]}], values, masks, _SOFT, COCO_17, probabilities=True
    )
    assert set(parts) == {"heatmaps_fine", "heatmaps_coarse_0", "heatmaps_coarse_1"}
    narrow_everywhere, _ = COARSE_FINE.loss(
        [{"heatmaps": values["heatmaps"]}] * 3, values, masks, _SOFT, COCO_17, probabilities=True
    )
    assert float(exact) < 0.05 * float(narrow_everywhere)


def test_a_transformed_person_comes_back() -> None:
    _, heatmaps = _target(4)
    maps = torch.from_numpy(heatmaps)[None]
    region = axis_aligned(torch.tensor([[-0.2, -0.1, 0.1, -0.05]]))
    again = transformed(transformed(maps, region), inverse_of(region))
    inside = maps.amax(dim=(2, 3)) - again.amax(dim=(2, 3)) < 0.25
    assert inside.float().mean() > 0.7  # keypoints beyond the region are lost, the others stay
    k = int(inside[0].nonzero()[0])
    before, after = (int(m[0, k].argmax()) for m in (maps, again))
    assert abs(before // 48 - after // 48) <= 1
    assert abs(before % 48 - after % 48) <= 1
