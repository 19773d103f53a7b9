"""Exported files say what the network says, at any size, and are refused when they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from featherpose.cli.main import run
from featherpose.errors import CheckpointError, ModelError, OptionError, OutputError, SourceError
from featherpose.estimator import PoseEstimator
from featherpose.export import checkpoint as exporting
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.export.graph import export_network
from featherpose.export.verify import Limits
from featherpose.media.images import read_image
from featherpose.nn.checkpoints import load_network, save_network
from featherpose.nn.networks import as_module, create_network
from featherpose.skeleton import OPENPOSE_18, Skeleton
from featherpose.training.networks import bundled_weights
from featherpose.zoo.card import TrainingCard
from featherpose.zoo.resolve import resolve_model

_ARM = Skeleton.create("arm", ["shoulder", "elbow", "wrist"], [("shoulder", "elbow"), ("elbow", "wrist")])


def _fresh(path: Path, name: str, skeleton: Skeleton = _ARM, **facts: str) -> Path:
    """A checkpoint of a network with random weights whose batch norms have seen a photograph."""
    torch.manual_seed(0)
    network = create_network(name, skeleton)
    with torch.no_grad():
        as_module(network).train()(torch.rand(4, 3, 64, 64) * 255)
    save_network(path, network, name, facts=facts)
    return path


@pytest.mark.parametrize("name", ["lightweight-openpose", "feather"])
def test_every_size_of_both_files(name: str, tmp_path: Path, photographs: Path) -> None:
    from featherpose.runtime.backend import EngineOptions
    from featherpose.runtime.engines import open_backend

    checkpoint = _fresh(tmp_path / "arm.safetensors", name)
    result = export_checkpoint(
        ExportRequest(checkpoint=checkpoint, output=tmp_path / "out", images=photographs, height=128)
    )
    assert sorted(p.name for p in result.files) == ["arm.bin", "arm.card.json", "arm.onnx", "arm.xml"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(p.name for p in result.files)
    network = load_network(checkpoint)
    generator = np.random.default_rng(0)
    for suffix in (".xml", ".onnx"):
        resolved = resolve_model(tmp_path / "out" / f"arm{suffix}")
        assert resolved.spec.skeleton == _ARM
        assert [o.stride for o in resolved.spec.outputs] == [o.stride for o in network.outputs]
        backend = open_backend(resolved.path, resolved.spec, EngineOptions(precision="fp32", threads=1))
        for batch, height, width in ((1, 64, 64), (2, 72, 104), (1, 136, 40)):
            images = generator.integers(0, 256, (batch, height, width, 3), np.uint8)
            with torch.no_grad():
                wanted = network(torch.from_numpy(images).permute(0, 3, 1, 2))[-1]._asdict()
            for index, maps in enumerate(backend.infer(images)):
                for name, values in wanted.items():
                    scale = float(values.abs().max())
                    np.testing.assert_allclose(maps[name], values[index].numpy(), atol=0.02 * scale)
        backend.close()


def test_cards_are_inside_the_files_too(tmp_path: Path) -> None:
    checkpoint = _fresh(tmp_path / "arm.safetensors", "lightweight-openpose", step="12", minutes="1.5")
    export_checkpoint(
        ExportRequest(checkpoint=checkpoint, output=tmp_path, name="mine", height=64, license="MIT", provenance="made")
    )
    (tmp_path / "mine.card.json").unlink()
    for suffix in (".xml", ".onnx"):
        card = resolve_model(tmp_path / f"mine{suffix}").card
        assert card is not None
        assert (card.name, card.license, card.provenance) == ("mine", "MIT", "made")
        assert card.architecture == "lightweight-openpose"
        assert card.training == TrainingCard(steps=12, minutes=1.5)


def test_what_a_checkpoint_says_of_its_training_may_be_no_number(tmp_path: Path) -> None:
    checkpoint = _fresh(tmp_path / "arm.safetensors", "feather", step="12", minutes="nan")
    export_checkpoint(ExportRequest(checkpoint=checkpoint, output=tmp_path, height=64))
    card = resolve_model(tmp_path / "arm.xml").card
    assert card is not None
    assert card.training is None


def test_released_network_finds_the_same_people(released_weights: Path, tmp_path: Path, coco_val: Path) -> None:
    request = ExportRequest(checkpoint=released_weights, output=tmp_path, name="released", images=coco_val)
    result = export_checkpoint(request)
    for _, comparison, _ in result.verified:
        assert comparison.people_before == comparison.people_after > 5
        assert comparison.agreement == 1
    image = read_image(min((coco_val / "images").iterdir()))
    with PoseEstimator(tmp_path / "released.xml", precision="fp32", threads=1) as estimator:
        assert estimator.skeleton == OPENPOSE_18
        assert len(estimator(image).keypoints) >= 1


def test_a_file_that_says_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = _fresh(tmp_path / "arm.safetensors", "lightweight-openpose")

    def other_weights(network: object, *args: object, **kwargs: object) -> object:
        other = create_network("lightweight-openpose", _ARM)
        as_module(other).eval()
        return export_network(other, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(exporting, "export_network", other_weights)
    with pytest.raises(ModelError, match=r"the maps differ by .* nothing was written"):
        export_checkpoint(ExportRequest(checkpoint=checkpoint, output=tmp_path / "out", height=64))
    assert list((tmp_path / "out").iterdir()) == []


def test_equal_scales_say_the_same(tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verification compares with the checkpoint as it is, so it proves that rescaling changed nothing."""
    out = ["-o", str(tmp_path), "--name", "even", "--height", "128", "--images", str(photographs)]
    assert run(["export", str(bundled_weights()), *out, "--equalize", str(photographs), "--float-weights"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["even.bin", "even.card.json", "even.onnx", "even.xml"]
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert len(rows) == 2
    assert all(float(row[1]) < 1e-3 for row in rows)
    stored = [initializer.raw_data for initializer in onnx.load(tmp_path / "even.onnx").graph.initializer]
    weights = as_module(load_network(bundled_weights())).state_dict()["pafs.context.weight"].numpy()
    assert weights.tobytes() not in stored  # rescaled, not copied

    other = _fresh(tmp_path / "other.safetensors", "lightweight-openpose")
    for arguments, code, message in (
        ([str(other), "--equalize", str(photographs)], 2, "scales of LightweightOpenPose cannot be equalized"),
        ([str(bundled_weights()), "--equalize", str(tmp_path / "none")], 1, "none is no folder"),
    ):
        assert run(["export", *arguments, "-o", str(tmp_path / "new")]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_failed_export_leaves_earlier_files(tmp_path: Path) -> None:
    checkpoint = _fresh(tmp_path / "arm.safetensors", "lightweight-openpose")
    output = tmp_path / "out"
    output.mkdir()
    (output / "arm.xml").write_text("earlier")
    with pytest.raises(ModelError, match="maps differ"):
        export_checkpoint(ExportRequest(checkpoint=checkpoint, output=output, height=64, limits=Limits(map_error=0)))
    assert [p.name for p in output.iterdir()] == ["arm.xml"]
    assert (output / "arm.xml").read_text() == "earlier"


def test_bad_input_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FEATHERPOSE_DEBUG", raising=False)
    checkpoint = _fresh(tmp_path / "arm.safetensors", "lightweight-openpose")
    whole = checkpoint.read_bytes()
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(whole[: len(whole) // 2])
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ([str(truncated), "-o", str(tmp_path)], 1, "truncated, damaged or no checkpoint"),
        ([str(tmp_path / "none.pth"), "-o", str(tmp_path)], 1, "there is no checkpoint"),
        ([str(checkpoint), "-o", str(tmp_path), "--network", "openpose"], 1, "is of another network than OpenPose"),
        ([str(checkpoint), "-o", str(tmp_path), "--network", "no-such"], 2, "there is no network 'no-such'"),
        ([str(checkpoint), "-o", str(tmp_path), "--skeleton", "coco_17"], 1, "for skeleton 'coco_17'"),
        ([str(checkpoint), "-o", str(blocked / "inside")], 1, "blocked"),
        ([str(checkpoint), "-o", str(tmp_path), "--images", str(empty)], 1, "holds no images"),
        ([str(checkpoint), "-o", str(tmp_path), "--stage", "7", "--height", "64"], 2, "there is no stage 7"),
    ]
    for arguments, code, message in cases:
        assert run(["export", *arguments]) == code, arguments
        captured = capsys.readouterr()
        assert message in captured.err, captured.err
        assert len(captured.err.strip().splitlines()) == 1, captured.err
        assert captured.out == ""


def test_errors_have_their_kinds(tmp_path: Path) -> None:
    checkpoint = _fresh(tmp_path / "arm.safetensors", "lightweight-openpose")
    with pytest.raises(CheckpointError):
        export_checkpoint(ExportRequest(checkpoint=tmp_path / "none.pth", output=tmp_path))
    with pytest.raises(OutputError):
        export_checkpoint(ExportRequest(checkpoint=checkpoint, output=checkpoint / "x"))
    with pytest.raises(SourceError):
        export_checkpoint(ExportRequest(checkpoint=checkpoint, output=tmp_path, images=tmp_path / "nowhere"))
    with pytest.raises(OptionError):
        ExportRequest(checkpoint=checkpoint, output=tmp_path, height=0)
