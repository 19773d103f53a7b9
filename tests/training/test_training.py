"""Configuration, losses, optimizers, and the loop: resumption, guards, several processes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from featherpose.data.augment import AugmentOptions
from featherpose.data.coco import ImageFolder
from featherpose.data.dataset import Batch
from featherpose.errors import CheckpointError, ConfigError, OutputError, TrainingError
from featherpose.methods.paf.method import PAF
from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.feather import Feather
from featherpose.nn.outputs import StageMaps
from featherpose.skeleton import COCO_17, LSP_14, OPENPOSE_18, Skeleton, load_skeleton
from featherpose.training import config as configuration
from featherpose.training.checkpoint import load_state, save_state
from featherpose.training.config import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    config_from_dict,
    load_config,
)
from featherpose.training.distributed import Distributed
from featherpose.training.logs import RunLog, read_log
from featherpose.training.loop import train
from featherpose.training.networks import build_network
from featherpose.training.optimizer import RelativeAdam, build_optimizer, learning_rate_at
from featherpose.training.smoke import SMOKE_SKELETON, draw_scenes
from featherpose.training.validation import coco_scores, pck, predict_image

_CONFIGS = Path(configuration.__file__).parent / "configs"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    return draw_scenes(tmp_path / "scenes", count=4)


@pytest.fixture
def small(scenes: Path, tmp_path: Path) -> TrainConfig:
    """A run of four steps on a narrow network."""
    skeleton = tmp_path / "skeleton.json"
    skeleton.write_text(json.dumps(SMOKE_SKELETON.to_dict()))
    source = ImageFolder(images=scenes.parent / "images", annotations=scenes)
    return TrainConfig(
        data=DataConfig(sources=(source,), skeleton=str(skeleton), augment=AugmentOptions(size_px=64, base_px=64)),
        network=NetworkConfig(arch="feather", channels=8, blocks=1),
        loss=LossConfig(kind="soft"),
        optimizer=OptimizerConfig(kind="adamw", lr=1e-4, schedule="cosine", ema=0.9, grad_clip=1.0),
        run=RunConfig(
            steps=4, batch_size=2, save_every=2, log_every=1, precision="fp32", threads=1, validation_height=64
        ),
    )


@pytest.mark.parametrize("path", sorted(_CONFIGS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    if path.name.endswith(".skeleton.toml"):
        assert load_skeleton(path).num_limbs > 0
    else:
        assert load_config(path).data.sources


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "data is missing"),
        ({"data": {"sources": []}}, "no sources"),
        ({"data": {"sources": [{"images": "a"}]}, "speed": 1}, "speed is unknown"),
        ({"data": {"sources": [{"images": 3}]}}, r"data.sources\[0\].images is 3"),
        ({"data": {"sources": [{"images": "a"}]}, "run": {"steps": 0}}, "steps"),
        ({"data": {"sources": [{"images": "a"}]}, "run": {"steps": "many"}}, "run.steps is 'many'"),
        ({"data": {"sources": [{"images": "a"}]}, "network": {"arch": "hrnet"}}, "network.arch is 'hrnet'"),
        ({"data": {"sources": [{"images": "a"}], "augment": {"size_px": 100}}}, "size_px is 100"),
        ({"data": {"sources": [{"images": "a"}], "targets": {"sigma": 3}}}, "data.targets.sigma is unknown"),
        (
            {
                "data": {"sources": [{"images": "a"}], "targets": {"paf_half_width": 1}},
                "network": {"arch": "single-person"},
            },
            "data.targets.paf_half_width is unknown",
        ),
        ({"data": {"sources": [{"images": "a"}], "person_regions": 0.5}}, "person_regions 0.5"),
        ({"data": {"sources": [{"images": "a"}]}, "optimizer": {"wise_ft_alpha": 0}}, "wise_ft_alpha"),
    ],
)
def test_wrong_configurations_name_the_key(data: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from_dict(data)


def test_overrides_and_relative_paths(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[data]\nsources = [{ images = "photos", annotations = "a.json" }]\n')
    config = load_config(tmp_path / "c.toml", overrides={"run.steps": "7", "network.arch": "feather"})
    assert config.run.steps == 7
    assert config.network.arch == "feather"
    assert config.data.sources[0].images == tmp_path / "photos"
    (tmp_path / "c.toml").write_text("[data")
    with pytest.raises(ConfigError, match="not TOML"):
        load_config(tmp_path / "c.toml")


def _batch(skeleton: Skeleton) -> Batch:
    rng = torch.Generator().manual_seed(0)
    k, channels = skeleton.num_keypoints, 2 * skeleton.num_limbs
    mask = torch.ones(2, 1, 8, 8)
    mask[:, :, :4] = 0
    values = {
        "heatmaps": torch.rand(2, k, 8, 8, generator=rng),
        "pafs": torch.rand(2, channels, 8, 8, generator=rng) - 0.5,
    }
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    return Batch(images, values, {"heatmaps": mask, "pafs": mask}, ("a", "b"))


def _loss(
    stages: list[StageMaps], batch: Batch, config: LossConfig, *, probabilities: bool
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    named = [stage._asdict() for stage in stages]
    return PAF.loss(named, batch.values, batch.masks, config, OPENPOSE_18, probabilities=probabilities)


@pytest.mark.parametrize("kind", ["l2", "soft"])
def test_losses_vanish_at_the_truth_and_ignore_masked_cells(kind: str) -> None:
    batch = _batch(OPENPOSE_18)
    config = config_from_dict({"data": {"sources": [{"images": "a"}]}, "loss": {"kind": kind}}).loss
    probabilities = kind == "soft"
    heatmaps, pafs = batch.values["heatmaps"].clone(), batch.values["pafs"].clone()
    heatmaps[:, :, :4] += 3
    pafs[:, :, :4] -= 1
    loss, parts = _loss([StageMaps(heatmaps, pafs)], batch, config, probabilities=probabilities)
    assert float(loss) == pytest.approx(0, abs=1e-3)
    assert set(parts) == {"heatmaps_0", "pafs_0"}
    wrong, _ = _loss([StageMaps(heatmaps + 1, pafs)], batch, config, probabilities=probabilities)
    assert float(wrong) > 0.1


def test_published_loss_is_the_plain_sum(  # one cell, by hand
) -> None:
    batch = _batch(OPENPOSE_18)
    maps = StageMaps(batch.values["heatmaps"].clone(), batch.values["pafs"].clone())
    maps.heatmaps[0, 3, 6, 6] += 0.5
    config = LossConfig(kind="l2")
    loss, _ = _loss([maps, maps], batch, config, probabilities=False)
    assert float(loss) == pytest.approx(2 * 0.25 / (2 * 2))


def test_published_groups() -> None:
    network = build_network(NetworkConfig(arch="lightweight-openpose"), OPENPOSE_18)
    assert isinstance(network, torch.nn.Module)
    optimizer = build_optimizer(network, load_config(_CONFIGS / "lightweight-openpose-1.toml").optimizer)
    by_factor = {(g["factor"], g["weight_decay"] > 0) for g in optimizer.param_groups}
    assert {(1.0, True), (1.0, False), (2.0, False), (4.0, True), (8.0, False)} <= by_factor
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(network.parameters()))


def test_rate_falls_as_published() -> None:
    config = OptimizerConfig(lr=4e-5)
    assert [round(learning_rate_at(config, epoch, 280) / 4e-5, 3) for epoch in (0, 99, 100, 200, 260)] == [
        1, 1, 0.333, 0.111, 0.037,
    ]  # fmt: skip


def test_relative_steps_are_equal_for_loud_and_quiet_filters() -> None:
    conv = torch.nn.Conv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([100.0, 0.01]).reshape(2, 1, 1, 1)
    before = conv.weight.detach().clone()
    optimizer = RelativeAdam([{"params": [conv.weight]}], lr=0.01)
    conv(torch.ones(1, 1, 1, 1)).sum().backward()
    optimizer.step()
    moved = ((before - conv.weight) / before).detach().flatten()
    assert moved[0].item() == pytest.approx(0.01, rel=0.01)
    assert 0.01 <= moved[1].item() < 0.15


def test_interrupted_run_equals_an_uninterrupted_one(small: TrainConfig, tmp_path: Path) -> None:
    whole = train(small, tmp_path / "whole")

    class StopError(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise StopError

    with pytest.raises(StopError):
        train(small, tmp_path / "parts", on_step=stop)
    stopped = load_state(tmp_path / "parts/last.pt")
    assert stopped["step"] == 2
    resumed = train(small, tmp_path / "parts", resume=True)
    assert resumed.steps == whole.steps == 4
    first, second = (load_state(tmp_path / run / "last.pt") for run in ("whole", "parts"))
    for part in ("network", "average"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    assert second["seconds"] > stopped["seconds"] > 0  # both parts of the run count
    assert read_log(tmp_path / "whole/log.csv", "train", "loss") == read_log(
        tmp_path / "parts/log.csv", "train", "loss"
    )
    for name in ("best.safetensors", "curves.png"):
        assert (tmp_path / "parts" / name).is_file()
    assert load_network(tmp_path / "parts/best.safetensors").skeleton.name == "smoke"


def test_resuming_something_else_is_refused(small: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        train(small, tmp_path / "run", resume=True)
    one_step = replace(small, run=replace(small.run, steps=1))
    train(one_step, tmp_path / "run")
    with pytest.raises(ConfigError, match="another configuration"):
        train(replace(one_step, optimizer=replace(small.optimizer, lr=1e-5)), tmp_path / "run", resume=True)
    state = (tmp_path / "run/last.pt").read_bytes()
    (tmp_path / "run/last.pt").write_bytes(state[: len(state) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        train(one_step, tmp_path / "run", resume=True)


def test_a_loss_that_is_no_number_stops_and_keeps_the_batch(
    small: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Feather, features: object) -> StageMaps:
        return StageMaps(torch.full((2, 5, 16, 16), float("nan")), torch.zeros(2, 8, 8, 8))

    monkeypatch.setattr(Feather, "logits", broken)
    with pytest.raises(TrainingError, match=r"nan-batch\.pt"):
        train(small, tmp_path / "run")
    assert load_state(tmp_path / "run/nan-batch.pt")["images"].shape == (2, 3, 64, 64)


def test_a_full_disk_leaves_the_earlier_state(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"step": 1})
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / ".last.pt.partial").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="the disk is full; the earlier checkpoint is intact"):
        save_state(path, {"step": 2, "big": torch.zeros(1 << 20)})
    assert load_state(path)["step"] == 1


def test_a_log_on_a_full_disk_is_one_error(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "log.csv").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"log\.csv cannot be written: the disk is full"):
        RunLog(tmp_path)


def test_tensorboard_reads_a_resumed_run(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for begin, values in ((0, {1: 2.0, 2: 1.0}), (2, {3: 0.5})):
        with RunLog(tmp_path, resume_step=begin) as log:
            for step, loss in values.items():
                log.record(step, "train", {"loss": loss})
    events = reading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("train/loss")] == [(1, 2.0), (2, 1.0), (3, 0.5)]
    assert read_log(tmp_path / "log.csv", "train", "loss") == ([1, 2, 3], [2.0, 1.0, 0.5])


@pytest.mark.filterwarnings("error")
def test_a_state_that_holds_code_is_refused(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (os.symlink, (str(tmp_path), str(tmp_path / "ran")))

    path = tmp_path / "last.pt"
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps(Code(), protocol=protocol))
        with pytest.raises(CheckpointError, match="holds something else than tensors") as caught:
            load_state(path)
        assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "ran").exists()


def test_known_keypoints_and_limbs_are_taken_over(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = Feather(OPENPOSE_18, channels=8, blocks=1)
    save_network(tmp_path / "w.safetensors", source, "feather")
    config = NetworkConfig(
        arch="feather", init_from=str(tmp_path / "w.safetensors"), channels=8, blocks=1, freeze=("front",)
    )
    network = build_network(config, LSP_14)
    assert isinstance(network, Feather)
    wrist = "left_wrist"
    rows = LSP_14.keypoints.index(wrist), OPENPOSE_18.keypoints.index(wrist)
    assert torch.equal(network.keypoints.out.weight[rows[0]], source.keypoints.out.weight[rows[1]])
    assert torch.equal(network.tail.top.weight, source.tail.top.weight)
    assert not any(p.requires_grad for p in network.front.parameters())
    with pytest.raises(CheckpointError, match="same architecture"):
        build_network(NetworkConfig(init_from=str(tmp_path / "w.safetensors")), OPENPOSE_18)


def test_metrics_of_the_truth_are_one(coco_train: Path) -> None:
    from featherpose.data.coco import read_coco
    from featherpose.poses import Poses

    images = [p for p in read_coco(coco_train / "annotations.json", coco_train / "images", COCO_17) if len(p.keypoints)]
    images = images[:20]
    poses = [
        Poses(
            keypoints=p.keypoints, keypoint_scores=np.isfinite(p.keypoints[..., 0]).astype(np.float32),
            scores=np.ones(len(p.keypoints), np.float32), skeleton=COCO_17, image_size=p.size,
        )
        for p in images
    ]  # fmt: skip
    assert pytest.approx(1.0) == coco_scores(poses, images).AP
    assert pck(poses, images) == 1.0


def test_validation_prepares_images_as_the_runtime_does(coco_val: Path) -> None:
    from featherpose.media.images import read_image
    from featherpose.nn.networks import as_module, create_network
    from featherpose.preprocess import prepare

    network = create_network("lightweight-openpose", OPENPOSE_18, refinements=0)
    module, given = as_module(network).eval(), []
    module.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    for path in sorted((coco_val / "images").iterdir())[:6]:
        image = read_image(path)
        predict_image(network, image, PAF.decoder(OPENPOSE_18, network.outputs), height=200)
        expected, _ = prepare(image, height=200, size_multiple=network.size_multiple)
        assert np.array_equal(given[-1].permute(0, 2, 3, 1).numpy(), expected)


_WORKER = """
import sys, torch
from pathlib import Path
from featherpose.training.config import load_config
from featherpose.training.loop import train
train(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def _two_steps(source: str, *, own_images: bool = False) -> str:
    """Return the configuration of a run of two steps on one source, with ``skeleton.json`` beside it."""
    return f"""
[network]
arch = "feather"
channels = 8
blocks = 1
[data]
skeleton = "skeleton.json"
own_images = {str(own_images).lower()}
sources = [{source}]
augment = {{ size_px = 64, base_px = 64 }}
[loss]
kind = "soft"
[optimizer]
kind = "relative_adam"
lr = 1e-3
schedule = "cosine"
[run]
steps = 2
batch_size = 2
precision = "fp32"
threads = 1
"""


def test_two_processes_train_as_one(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "skeleton.json").write_text(json.dumps(SMOKE_SKELETON.to_dict()))
    source = f'{{ images = "{scenes.parent / "images"}", annotations = "{scenes}" }}'
    (tmp_path / "run.toml").write_text(_two_steps(source))
    (tmp_path / "worker.py").write_text(_WORKER)
    arguments = [str(tmp_path / "worker.py"), str(tmp_path / "run.toml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments, str(tmp_path / "one")], check=True, timeout=300, env=environment)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*torchrun, *arguments, str(tmp_path / "two")], check=True, timeout=300, env=environment)
    one, two = (load_state(tmp_path / run / "last.pt")["network"] for run in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=1e-5, rtol=1e-3)


@pytest.mark.thorough  # which images each machine takes is tested by itself
def test_two_machines_train_on_images_of_their_own(scenes: Path, tmp_path: Path) -> None:
    """Two nodes of one process: each has half of the images; the second one learns from none of the first's."""
    data = json.loads(scenes.read_text())
    images = sorted(data["images"], key=lambda image: image["id"])
    for node, own in enumerate((images[::2], images[1::2])):
        folder = tmp_path / f"node{node}"
        (folder / "images").mkdir(parents=True)
        (folder / "skeleton.json").write_text(json.dumps(SMOKE_SKELETON.to_dict()))
        ids = {image["id"] for image in own}
        part = {**data, "images": own, "annotations": [a for a in data["annotations"] if a["image_id"] in ids]}
        (folder / "annotations.json").write_text(json.dumps(part))
        for image in own:
            shutil.copy(scenes.parent / "images" / image["file_name"], folder / "images")
        source = '{ images = "images", annotations = "annotations.json" }'
        (folder / "run.toml").write_text(_two_steps(source, own_images=True))
        (folder / "worker.py").write_text(_WORKER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1",
              "--master-addr=127.0.0.1", f"--master-port={port}"]  # fmt: skip
    nodes = [
        subprocess.Popen(
            [*launch, f"--node-rank={node}", "worker.py", "run.toml", "run"],
            cwd=tmp_path / f"node{node}",
            env=environment,
        )
        for node in (0, 1)
    ]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    assert not (tmp_path / "node1/run/last.pt").exists()  # the first process writes
    alone = subprocess.run(
        [sys.executable, "worker.py", "run.toml", "alone"], cwd=tmp_path / "node0", env=environment, timeout=300
    )
    assert alone.returncode == 0
    together, without = (load_state(tmp_path / "node0" / run / "last.pt")["network"] for run in ("run", "alone"))
    assert any(not torch.allclose(value, without[name], atol=1e-6) for name, value in together.items())


def test_each_machine_takes_its_part_of_a_batch_from_its_own_images() -> None:
    places = [Distributed(rank=2 * n + r, world=4, node=n, local_rank=r, local_world=2) for n in (0, 1) for r in (0, 1)]
    shares = [list(p.batches(6, 8, seed=3, start=0, stop=3, own_images=True)) for p in places]
    assert [len(share) for share in shares] == [6, 6, 6, 6]
    for first, second in (shares[:2], shares[2:]):
        seen = sorted(first + second)
        assert seen[:6] == [(0, i) for i in range(6)]  # every own image once before any twice
    with pytest.raises(ConfigError, match="divide"):
        places[0].batches(6, 6, seed=3, start=0, stop=3, own_images=True)


def test_kept_weights_are_interpolated_with_the_initial_ones(small: TrainConfig, tmp_path: Path) -> None:
    torch.manual_seed(5)
    start = Feather(small.skeleton, channels=8, blocks=1)
    save_network(tmp_path / "start.safetensors", start, "feather")
    config = replace(
        small,
        network=replace(small.network, init_from=str(tmp_path / "start.safetensors")),
        optimizer=replace(small.optimizer, lr=1e-2, wise_ft_alpha=0.75),
    )
    train(config, tmp_path / "run")
    average = load_state(tmp_path / "run" / "last.pt")["average"]
    kept = load_network(tmp_path / "run" / "best.safetensors")
    assert isinstance(kept, Feather)
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, 0.25 * start.state_dict()[name] + 0.75 * average[name])
