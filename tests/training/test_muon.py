"""Muon: singular values of dense convolutions' steps, AdamW for the rest, and a training run with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from featherpose.nn.checkpoints import read_checkpoint
from featherpose.training.config import config_from_dict
from featherpose.training.loop import train
from featherpose.training.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(16, 144), (144, 16), (32, 32)])
def test_singular_values_become_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -1.5, shape[1]))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found, exact = orthogonalized(matrix).float(), u @ v
    assert torch.linalg.svdvals(found).max() < 1.3
    assert torch.nn.functional.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.9


def test_steps_have_the_size_of_adams() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(32, 16, 3, 3))
    weight.grad = 1e-4 * torch.randn_like(weight)
    Muon([{"params": [weight]}], lr=0.01).step()
    assert weight.detach().square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.2)


def test_biases_norms_and_depthwise_filters_move_as_with_adamw() -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in ((7,), (12, 1, 3, 3), (24, 3, 3, 3))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    muon = Muon([{"params": ours, "weight_decay": 0.1}], lr=0.01)
    adamw = torch.optim.AdamW(theirs, lr=0.004, weight_decay=0.1)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        muon.step()
        adamw.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_a_dense_refiner_learns_crops_with_it(few: Path, tmp_path: Path) -> None:
    source = {"images": str(few / "images"), "annotations": str(few / "annotations.json")}
    losses: list[float] = []
    config = config_from_dict(
        {
            "network": {"arch": "refiner-dense", "widths": [8, 16, 16, 16, 16], "depths": [1, 0, 0, 1],
                        "crop_shape": [64, 96, 1.1]},
            "data": {"skeleton": "coco_17", "sources": [source], "crops": {"rotation_deg": 0.0}},
            "loss": {"kind": "soft"},
            "optimizer": {"kind": "muon", "lr": 2e-2},
            "run": {"steps": 30, "batch_size": 4, "validate_every": 0, "precision": "fp32"},
        }
    )  # fmt: skip
    train(config, tmp_path / "run", on_step=lambda _, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
    assert read_checkpoint(tmp_path / "run/last.pt").network == "refiner-dense"
