"""INT8 files find the same people, keep the layers they are told to keep, and are refused when they lose too many."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from featherpose.cli.main import run
from featherpose.crops import CropShape
from featherpose.errors import ModelError, OptionError, SourceError
from featherpose.export.checkpoint import ExportRequest, export_checkpoint
from featherpose.export.graph_files import read_graph
from featherpose.export.inputs import find_images
from featherpose.export.quantization import nncf as quantize
from featherpose.export.quantization import run as quantization_run
from featherpose.export.quantization.nncf import QuantizeOptions, layer_names, quantize_graph, sensitive_layers
from featherpose.export.quantization.run import QuantizeRequest, quantize_model
from featherpose.export.quantization.weights import quantized_layers
from featherpose.export.verify import ApComparison, Comparison, Limits, check
from featherpose.preprocess import prepare
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.training.networks import bundled_weights
from featherpose.zoo.resolve import resolve_model


@pytest.fixture(scope="module")
def released(released_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The released network as an IR in floating point."""
    folder = tmp_path_factory.mktemp("released")
    export_checkpoint(ExportRequest(checkpoint=released_weights, output=folder, name="released", height=128))
    return folder / "released.xml"


def test_quantized_network_finds_the_same_people(released: Path, coco_train: Path, tmp_path: Path) -> None:
    result = quantize_model(
        QuantizeRequest(
            model=released, calibration=coco_train, output=tmp_path / "int8.xml", threads=1,
            options=QuantizeOptions(images=24, height=184),
        )
    )  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["int8.bin", "int8.card.json", "int8.xml"]
    assert result.comparison.people_before > 5
    assert result.comparison.agreement > 0.8
    resolved = resolve_model(tmp_path / "int8.xml")
    assert resolved.card is not None
    assert resolved.card.precision == "INT8"
    assert b">\n" not in (tmp_path / "int8.xml").read_bytes().strip()  # indentation is a sixth of a graph
    backend = open_backend(resolved.path, resolved.spec, EngineOptions(precision="int8", threads=1))
    assert backend.info.precision == "int8"
    for height, width in ((64, 64), (72, 136)):
        assert backend.infer(np.zeros((1, height, width, 3), np.uint8))[0]["heatmaps"].shape == (
            19, height // 8, width // 8,
        )  # fmt: skip
    backend.close()
    assert (tmp_path / "int8.bin").stat().st_size < 0.6 * released.with_suffix(".bin").stat().st_size


def test_named_layers_stay_in_floating_point(released: Path, photographs: Path) -> None:
    spec = resolve_model(released).spec
    names = layer_names(read_graph(released))
    pattern = "initial_stage/heatmaps"
    options = QuantizeOptions(images=2, height=128, keep=(pattern,), bias_correction=False)
    model = quantize_graph(released, spec, find_images(photographs), options, kept=names[:1])
    floating = {
        node.get_friendly_name()
        for node in model.get_ops()
        if node.get_friendly_name() in names and node.input_value(0).get_node().get_type_name() != "FakeQuantize"
    }
    assert names[0] in floating
    assert {name for name in names if pattern in name} <= floating
    assert len(floating) < len(names) / 4
    with pytest.raises(OptionError, match="no layer matches 'no such layer'"):
        quantize_graph(released, spec, find_images(photographs), QuantizeOptions(keep=("no such layer",)))


@pytest.mark.thorough
def test_sensitive_layers_are_ranked(released: Path, photographs: Path) -> None:
    spec = resolve_model(released).spec
    images = find_images(photographs)
    from featherpose.media.images import read_image

    inputs = [prepare(read_image(path), height=64)[0] for path in images[:1]]
    model = quantize_graph(released, spec, images, QuantizeOptions(images=2, height=64, bias_correction=False))
    before = [node.get_type_name() for node in model.get_ordered_ops()]
    ranking = sensitive_layers(released, model, spec, inputs)
    assert len({entry.layer for entry in ranking}) == len(ranking) > 40
    assert [entry.gain for entry in ranking] == sorted((entry.gain for entry in ranking), reverse=True)
    assert all(entry.gain <= 1 for entry in ranking)
    assert [node.get_type_name() for node in model.get_ordered_ops()] == before


def test_blind_int8_is_refused(
    released: Path, coco_train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conversion that finds nobody: ranges measured on black images."""

    def blind(*args: object, **kwargs: object) -> object:
        monkeypatch.setattr(
            "featherpose.export.quantization.nncf.read_input",
            lambda given, spec, height: spec.prepare(np.zeros((64, 64, 3), np.uint8), height=height),
        )
        return quantize_graph(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(quantization_run, "quantize_graph", blind)
    options = QuantizeOptions(images=2, height=128, bias_correction=False)
    with pytest.raises(ModelError, match=r"agree on .* nothing was written"):
        quantize_model(
            QuantizeRequest(model=released, calibration=coco_train, output=tmp_path / "int8.xml", options=options)
        )
    assert list(tmp_path.iterdir()) == []


def _comparison(**changes: Any) -> Comparison:
    values: dict[str, Any] = {
        "images": 10, "height": 256, "errors": {"heatmaps": 0.001, "pafs": 0.001}, "largest_difference": 0.01,
        "people_before": 20, "people_after": 20, "agreement": 1.0,
    }  # fmt: skip
    return Comparison(**{**values, **changes})


def test_logging_of_others_stays_as_it_was() -> None:
    handler, logger = logging.NullHandler(), logging.getLogger("nncf")
    handler.setLevel(logging.WARNING)
    logger.addHandler(handler)
    before = logging.getLoggerClass()
    try:
        quantize._nncf()
    finally:
        logger.removeHandler(handler)
    assert handler.level == logging.WARNING
    assert logger.level == logging.ERROR
    assert logging.getLoggerClass() is before


def test_limits() -> None:
    ap = ApComparison(dataset="d", images=10, height=256, before=0.40, after=0.39)
    check(_comparison(), Limits())
    with pytest.raises(ModelError, match=r"maps differ by 5\.00 %"):
        check(_comparison(errors={"heatmaps": 0.001, "pafs": 0.05}), Limits())
    check(_comparison(errors={"heatmaps": 0.001, "pafs": 0.05}), Limits(), maps=False)
    with pytest.raises(ModelError, match=r"agree on 50.0 % of the people \(20 before, 3 after\)"):
        check(_comparison(agreement=0.5, people_after=3), Limits())
    with pytest.raises(ModelError, match=r"AP falls by 0.0100 \(0.4000 before, 0.3900 after\)"):
        check(_comparison(), Limits(), ap=ap)
    check(_comparison(), Limits(ap_drop=0.02), ap=ap)
    for broken in (float("nan"), float("inf")):
        with pytest.raises(ModelError):
            check(
                _comparison(largest_difference=broken, errors={"heatmaps": broken, "pafs": 0.001}), Limits(), maps=False
            )
        with pytest.raises(ModelError):
            check(_comparison(errors={"heatmaps": broken, "pafs": 0.001}), Limits())
    with pytest.raises(OptionError):
        Limits(agreement=1.5)


def test_images_are_spread_over_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(10):
        (tmp_path / "images" / f"{number}.jpg").write_bytes(b"")
    assert [p.stem for p in find_images(tmp_path, 4)] == ["0", "3", "6", "9"]
    assert len(find_images(tmp_path, 100)) == 10
    assert [p.stem for p in find_images(tmp_path, 1)] == ["0"]
    with pytest.raises(SourceError, match="holds no images"):
        find_images(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_bad_input_is_one_clear_line(
    tmp_path: Path, photographs: Path, released_int8: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = _empty(tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    out = str(tmp_path / "out.xml")
    cases = [
        ([str(released_int8), "--calibration", str(empty), "-o", out], 1, "holds no images"),
        ([str(released_int8), "--calibration", str(tmp_path / "nowhere"), "-o", out], 1, "is no folder"),
        ([str(released_int8), "--calibration", str(photographs), "-o", out], 1, "is quantized already"),
        ([str(released_int8), "--calibration", str(photographs), "-o", str(tmp_path / "out.onnx")], 2, ".xml"),
        ([str(broken), "--calibration", str(photographs), "-o", out], 1, "broken.onnx"),
        ([str(released_int8), "--calibration", str(photographs), "-o", out, "--keep", "("], 2, "regular expression"),
    ]
    for arguments, code, message in cases:
        assert run(["quantize", *arguments]) == code, arguments
        captured = capsys.readouterr()
        assert message in captured.err, captured.err
        assert len(captured.err.strip().splitlines()) == 1, captured.err
        assert captured.out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken.onnx", "empty"]


@pytest.mark.slow
def test_network_for_crops_is_calibrated_on_people(coco_train: Path, tmp_path: Path) -> None:
    labeled = _people(coco_train, tmp_path / "data", 3)
    export_checkpoint(
        ExportRequest(
            checkpoint=bundled_weights("refiner"), output=tmp_path, name="crops", fp16=False, equalize=labeled,
            images=labeled,
        )
    )  # fmt: skip
    result = quantize_model(
        QuantizeRequest(
            model=tmp_path / "crops.xml", calibration=labeled, output=tmp_path / "crops-int8.xml", threads=1,
            options=QuantizeOptions(images=4, keep_depthwise=True, range_quantile=0.0005, weight_bits="7",
                                    keep=("network/stem", "network/head", "network/heatmaps")),
        )
    )  # fmt: skip
    assert result.comparison.agreement > 0.8
    resolved = resolve_model(tmp_path / "crops-int8.xml")
    assert resolved.spec.crop == CropShape(width=160, height=224, margin=1.1)
    # As stored: read_graph folds constants, integers among them.
    quantized, original = openvino.Core().read_model(resolved.path), read_graph(tmp_path / "crops.xml")
    layers = list(quantized_layers(quantized, original))
    assert layers
    assert all(layer.node.get_type_name() == "Convolution" for layer in layers)
    assert max(np.abs(layer.steps.astype(int)).max() for layer in layers) <= 64


def _people(coco_train: Path, folder: Path, count: int) -> Path:
    """A labeled folder of the first images in which people are annotated."""
    data = json.loads((coco_train / "annotations.json").read_text())
    seen = {a["image_id"] for a in data["annotations"] if a["num_keypoints"] > 8 and not a["iscrowd"]}
    images = [image for image in data["images"] if image["id"] in seen][:count]
    ids = {image["id"] for image in images}
    folder.mkdir()
    (folder / "images").symlink_to(coco_train / "images", target_is_directory=True)
    people = [a for a in data["annotations"] if a["image_id"] in ids]
    (folder / "annotations.json").write_text(json.dumps({**data, "images": images, "annotations": people}))
    return folder
