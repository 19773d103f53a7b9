"""Training samples of networks that take another network's pose, and inputs for calibration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from featherpose.export.inputs import find_inputs, read_input
from featherpose.nn.dense_refiner import DenseRefiner, split_prior
from featherpose.skeleton import COCO_17
from featherpose.training.config import TrainConfig, config_from_dict
from featherpose.training.loop import train
from featherpose.zoo.resolve import resolve_model


def test_a_network_learns_to_follow_the_pose(few: Path, tmp_path: Path) -> None:
    seen: list[float] = []
    for prior in (False, True):
        train(_config(few, prior), tmp_path / str(prior), on_step=lambda _, loss: seen.append(loss))
    without, along = np.mean(seen[32:40]), np.mean(seen[-8:])
    assert along < 0.95 * without


def test_weights_of_a_run_start_a_network_of_their_kind(few: Path, tmp_path: Path) -> None:
    train(_config(few, True, steps=1), tmp_path / "first")
    weights = str(tmp_path / "first/last.pt")
    train(_config(few, None, steps=1, init_from=weights), tmp_path / "second")
    tensors = torch.load(tmp_path / "second/last.pt", weights_only=True)["average"]
    assert tuple(tensors["prior.weight"].shape) == (16, 17, 3, 3)


def test_calibration_shows_annotated_poses(few: Path) -> None:
    network = DenseRefiner(prior=True)
    spec = replace(resolve_model("refiner-dense").spec, crop=network.crop)
    found = find_inputs(few, spec.crop)
    assert len(found) == 4
    for one in found:
        inputs, _ = read_input(one, spec, 256)
        _, maps = split_prior(torch.from_numpy(inputs).permute(0, 3, 1, 2).float(), 17)
        annotated = np.array(one.keypoints).reshape(17, 3)[:, 2] > 0
        seen = maps[0].amax(dim=(1, 2)).numpy() > 0.3
        assert not seen[~annotated].any()
        assert seen[annotated].mean() > 0.9  # others lie outside of the crop


def _config(folder: Path, prior: bool | None, steps: int = 40, init_from: str = "") -> TrainConfig:
    network: dict[str, object] = {
        "arch": "refiner-dense", "widths": [8, 16, 16, 16, 16], "depths": [1, 0, 0, 1], "crop_shape": [64, 96, 1.1],
        "init_from": init_from,
    }  # fmt: skip
    if prior is not None:
        network["prior"] = prior
    source = {"images": str(folder / "images"), "annotations": str(folder / "annotations.json")}
    return config_from_dict(
        {
            "network": network,
            "data": {"skeleton": COCO_17.name, "sources": [source], "crops": {"rotation_deg": 0.0}},
            "loss": {"kind": "soft"},
            "optimizer": {"kind": "muon", "lr": 2e-2},
            "run": {"steps": steps, "batch_size": 4, "validate_every": 0, "precision": "fp32"},
        }
    )
