"""Checkpoints that claim too much or contradict themselves are refused in one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from featherpose.errors import CheckpointError
from featherpose.nn.checkpoints import load_network, read_checkpoint


@pytest.mark.parametrize(
    "stated",
    ["[" * 5000, "5", '"x"', "{}", '{"name": "a", "keypoints": 5, "limbs": []}', json.dumps({"name": "a" * 10**5})],
)
def test_skeletons_in_the_header(tmp_path: Path, stated: str) -> None:
    save_file({"pyramid.top.weight": torch.zeros(1)}, tmp_path / "a.safetensors", {"skeleton": stated})
    with pytest.raises(CheckpointError, match="states a skeleton that is none"):
        read_checkpoint(tmp_path / "a.safetensors").skeleton()


def test_the_older_name_of_loop_limbs_is_read(tmp_path: Path) -> None:
    fields = {"name": "a", "keypoints": ["x", "y"], "limbs": [["x", "y"]], "redundant_limbs": [0]}
    save_file({"pyramid.top.weight": torch.zeros(1)}, tmp_path / "a.safetensors", {"skeleton": json.dumps(fields)})
    assert read_checkpoint(tmp_path / "a.safetensors").skeleton().loop_limbs == (0,)


def test_a_small_file_does_not_become_large_tensors(tmp_path: Path) -> None:
    torch.save({"stem.weight": torch.zeros(1, dtype=torch.float16).expand(10**12)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="claims 1000000000000 weights"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensors",
    [
        {"pyramid.top.weight": torch.zeros(1)},
        {"pyramid.top.weight": torch.zeros(1), "pafs.out.weight": torch.zeros(())},
        {"pafs.out.weight": torch.zeros(38, 20_000), "pyramid.top.weight": torch.zeros(1)},
        {"cpm.align.0.weight": torch.zeros(3)},
        {f"refinement_stages.{i}.x": torch.zeros(1) for i in range(200)} | {"backbone.conv1_1.weight": torch.zeros(1)},
        {"x": torch.zeros(1)},
        {},
    ],
)
def test_tensors_of_no_network(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    skeleton = json.dumps({"name": "a", "keypoints": ["x", "y"], "limbs": [["x", "y"]]})
    save_file(tensors, tmp_path / "a.safetensors", {"skeleton": skeleton})
    with pytest.raises(CheckpointError) as caught:
        load_network(tmp_path / "a.safetensors")
    assert "\n" not in str(caught.value)
