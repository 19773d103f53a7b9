"""The published checkpoint's names, the released network's outputs, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from featherpose.errors import CheckpointError, OutputError
from featherpose.media.images import read_image
from featherpose.nn.checkpoints import load_network, read_checkpoint, save_network
from featherpose.nn.networks import as_module, create_network, network_factory
from featherpose.preprocess import prepare
from featherpose.skeleton import COCO_17, LSP_14, OPENPOSE_18
from featherpose.training.networks import bundled_weights


def _published_tensors() -> dict[str, tuple[int, ...]]:
    """Names and shapes in checkpoint_iter_370000.pth, written down independently of our modules."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(prefix: str, channels: int) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{prefix}.{name}"] = (channels,)
        shapes[f"{prefix}.num_batches_tracked"] = ()

    def conv(prefix: str, out: int, channels: int, kernel: int, bias: bool = True) -> None:
        shapes[f"{prefix}.weight"] = (out, channels, kernel, kernel)
        if bias:
            shapes[f"{prefix}.bias"] = (out,)

    conv("model.0.0", 32, 3, 3, bias=False)
    norm("model.0.1", 32)
    widths = [32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512]
    for block in range(1, 12):
        before, after = widths[block - 1], widths[block]
        conv(f"model.{block}.0", before, 1, 3, bias=False)
        norm(f"model.{block}.1", before)
        conv(f"model.{block}.3", after, before, 1, bias=False)
        norm(f"model.{block}.4", after)
    conv("cpm.align.0", 128, 512, 1)
    for block in range(3):
        conv(f"cpm.trunk.{block}.0", 128, 1, 3, bias=False)
        conv(f"cpm.trunk.{block}.2", 128, 128, 1, bias=False)
    conv("cpm.conv.0", 128, 128, 3)
    for layer in range(3):
        conv(f"initial_stage.trunk.{layer}.0", 128, 128, 3)
    for branch, channels in (("heatmaps", 19), ("pafs", 38)):
        conv(f"initial_stage.{branch}.0.0", 512, 128, 1)
        conv(f"initial_stage.{branch}.1.0", channels, 512, 1)
        conv(f"refinement_stages.0.{branch}.0.0", 128, 128, 1)
        conv(f"refinement_stages.0.{branch}.1.0", channels, 128, 1)
    for block in range(5):
        prefix = f"refinement_stages.0.trunk.{block}"
        conv(f"{prefix}.initial.0", 128, 185 if block == 0 else 128, 1)
        for layer in range(2):
            conv(f"{prefix}.trunk.{layer}.0", 128, 128, 3)
            norm(f"{prefix}.trunk.{layer}.1", 128)
    return shapes


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """A file with the published names, shapes and nesting; its values are random."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {
        name: torch.rand(shape, generator=generator) * 0.1 if shape else torch.tensor(7)
        for name, shape in _published_tensors().items()
    }
    path = tmp_path / "checkpoint_iter_370000.pth"
    torch.save({"state_dict": tensors, "iter": 370000, "current_epoch": 1}, path)
    return path


def test_names_and_shapes_of_the_published_checkpoint() -> None:
    own = as_module(create_network("lightweight-openpose")).state_dict()
    assert {name: tuple(value.shape) for name, value in own.items()} == _published_tensors()


def test_published_checkpoint_is_recognized_and_loaded_unchanged(published: Path) -> None:
    checkpoint = read_checkpoint(published)
    assert checkpoint.network == "lightweight-openpose"
    assert network_factory(checkpoint.network).kind.options_of(checkpoint.tensors) == {"refinements": 1}
    network = load_network(published)
    assert network.skeleton == OPENPOSE_18
    for name, value in as_module(network).state_dict().items():
        torch.testing.assert_close(value, checkpoint.tensors[name], check_dtype=False)


@pytest.mark.parametrize("name", ["openpose", "feather", "lightweight-openpose", "human-pose-estimation-0001",
                                  "openpose-mobilenet-v1-conv4_1", "openpose-mobilenet-v2-conv6_3",
                                  "lightweight-mobilenet-v1-conv5_6", "single-person"])  # fmt: skip
def test_saved_networks_come_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    options = {"refinements": 1} if "openpose" in name else {}
    network = create_network(name, LSP_14, **options)
    path = tmp_path / "network.safetensors"
    save_network(path, network, name)
    again = load_network(path)
    assert again.skeleton == LSP_14
    for key, value in as_module(network).state_dict().items():
        torch.testing.assert_close(as_module(again).state_dict()[key], value)
    assert [p.name for p in tmp_path.iterdir()] == ["network.safetensors"]


def test_a_training_state_of_single_person_is_recognized(tmp_path: Path) -> None:
    network = create_network("single-person", COCO_17, channels=8, blocks=1)
    torch.save({"average": as_module(network).state_dict()}, tmp_path / "last.pt")
    checkpoint = read_checkpoint(tmp_path / "last.pt")
    assert (checkpoint.network, checkpoint.skeleton()) == ("single-person", COCO_17)
    assert load_network(tmp_path / "last.pt").outputs == network.outputs


def _without_activation_quantizers(path: Path) -> Any:
    """The released INT8 graph in which activations are passed on as they are; weights stay rounded."""
    import openvino as ov

    model = ov.Core().read_model(path)
    removed = 0
    for node in model.get_ops():
        if node.get_type_name() == "FakeQuantize":
            node.output(0).replace(node.input_value(0))
            removed += 1
    assert removed > 50
    model.validate_nodes_and_infer_types()
    return model


@pytest.mark.parametrize("height", [184, 256])
def test_released_network_equals_its_graph(
    height: int, shared: Path, released_int8: Path, astronaut: np.ndarray, coco_val: Path
) -> None:
    import openvino as ov

    network = load_network(released_int8.with_name("human-pose-estimation-0001-fp16.safetensors"))
    model = _without_activation_quantizers(released_int8)
    photographs = [astronaut, *(read_image(path) for path in sorted((coco_val / "images").iterdir())[:3])]
    strongest = []
    for photograph in photographs:
        images = prepare(photograph, height=height)[0]
        model.reshape([1, 3, *images.shape[1:3]])
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
        compiled = ov.Core().compile_model(model, "CPU", settings)
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
        expected = compiled(tensor.numpy().astype(np.float32))
        with torch.no_grad():
            maps = network(tensor)[-1]._asdict()
        for found, name in ((maps["heatmaps"], "Mconv7_stage2_L2"), (maps["pafs"], "Mconv7_stage2_L1")):
            # What is left (0.003 at most, seen) is FP16: the file holds the products of whole numbers and scales,
            # which the engine keeps in FP32.
            assert np.abs(found.numpy() - expected[name]).max() <= 0.01
        strongest.append(float(maps["heatmaps"][:, :-1].max()))
    # People stand large in three of the four; equal maps that show nobody would prove little.
    assert sum(value > 0.5 for value in strongest) >= 3


def test_truncated_files(published: Path, tmp_path: Path) -> None:
    data = published.read_bytes()
    for keep in (0, 100, len(data) // 2):
        published.write_bytes(data[:keep])
        with pytest.raises(CheckpointError, match="truncated, damaged or no checkpoint"):
            read_checkpoint(published)
    path = tmp_path / "network.safetensors"
    save_network(path, create_network("lightweight-openpose"), "lightweight-openpose")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="truncated, damaged or no checkpoint"):
        read_checkpoint(path)


def test_another_architecture(published: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is of another network than OpenPose"):
        load_network(published, name="openpose")
    other = tmp_path / "resnet.pth"
    torch.save({"layer1.0.conv1.weight": torch.zeros(4, 3, 3, 3)}, other)
    with pytest.raises(CheckpointError, match="the weights of another network"):
        load_network(other)
    nothing = tmp_path / "nothing.pth"
    torch.save([1, 2], nothing)
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_network(nothing)


def test_another_skeleton(published: Path) -> None:
    with pytest.raises(CheckpointError, match=r"of shape .* expected .* for skeleton 'coco_17'"):
        load_network(published, skeleton=COCO_17)


class _Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("code in a checkpoint was run",))


def test_code_in_a_checkpoint_is_never_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "harm.pth"
    torch.save({"state_dict": _Harm()}, path)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert "was run" not in capsys.readouterr().out


def test_failed_save_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_network("lightweight-openpose", refinements=0)
    path = tmp_path / "network.safetensors"
    save_network(path, network, "lightweight-openpose")
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left"):
            save_network(path, network, "lightweight-openpose")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["network.safetensors"]


def test_weights_too_large_for_16_bits_survive_a_compact_file(tmp_path: Path) -> None:
    network = create_network("single-person")
    bias = next(p for p in as_module(network).parameters() if p.dim() == 1)
    with torch.no_grad():
        bias[0] = 70_000.0
    save_network(tmp_path / "large.safetensors", network, "single-person", compact=True)
    tensors = read_checkpoint(tmp_path / "large.safetensors").tensors
    assert max(float(tensor.max()) for tensor in tensors.values()) == 70_000.0


def test_infinite_weights_are_refused(tmp_path: Path) -> None:
    network = create_network("single-person")
    with torch.no_grad():
        next(as_module(network).parameters()).view(-1)[3] = float("inf")
    save_network(tmp_path / "infinite.safetensors", network, "single-person")
    with pytest.raises(CheckpointError, match="infinite or no numbers"):
        load_network(tmp_path / "infinite.safetensors")


@pytest.mark.parametrize("family", ["feather", "refiner", "refiner-dense", "accurate"])
def test_bundled_weights_are_read(family: str) -> None:
    assert read_checkpoint(bundled_weights(family)).tensors
