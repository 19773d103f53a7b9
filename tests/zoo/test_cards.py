"""Model cards: the catalog's are right, damaged ones are refused in one line."""

from __future__ import annotations

import json

import pytest

from featherpose.errors import ModelError
from featherpose.skeleton import COCO_17, OPENPOSE_18, Skeleton
from featherpose.zoo.card import ModelCard, read_card
from featherpose.zoo.catalog import cards


def test_official_downloads_are_complete() -> None:
    card = cards()["human-pose-estimation-0001"]
    assert [(f.name, f.size) for f in card.files] == [
        ("human-pose-estimation-0001.xml", 152_120),
        ("human-pose-estimation-0001.bin", 16_394_708),
    ]
    assert all(f.sha384 and f.url and f"/FP32/{f.name}" in f.url for f in card.files)
    assert card.license == "Apache-2.0"
    assert card.spec().skeleton == OPENPOSE_18
    assert [output.graph_name for output in card.spec().outputs] == ["Mconv7_stage2_L2", "Mconv7_stage2_L1"]
    half = cards()["human-pose-estimation-0001-fp16"]
    assert [f.size for f in half.files] == [218_215, 8_197_354]
    checkpoint = cards()["lightweight-openpose-370000"]
    assert checkpoint.kind == "checkpoint"
    assert not checkpoint.files[0].has_hash


def test_every_metric_names_resolution_and_source() -> None:
    for card in cards().values():
        for metric in card.metrics:
            assert metric.height is not None, card.name
            assert metric.source in ("published", "measured")


def test_round_trip_with_own_skeleton() -> None:
    arm = Skeleton.create("arm", ["shoulder", "elbow"], [("shoulder", "elbow")])
    card = ModelCard(name="arm-net", skeleton=arm.to_dict(), mean=(128, 128, 128), scale=(256, 256, 256), rgb=True)
    again = read_card(card.model_dump_json(), "card")
    assert again == card
    assert again.spec().skeleton == arm
    assert again.spec().mean == (128, 128, 128)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../etc"}, "'name'"),
        ({"skeleton": "skeleton.toml"}, "'skeleton': skeleton 'skeleton.toml' is unknown"),
        ({"skeleton": {"name": "x"}}, "lacks 'keypoints'"),
        ({"skeleton": {"name": "x", "keypoints": ["a"], "limbs": [["a", "b"]]}}, "no keypoint 'b'"),
        ({"outputs": {"heatmaps": {"stride": 0}}}, "'outputs.heatmaps.stride'"),
        ({"outputs": {"heatmaps": {"stride": 3}}}, "not a multiple of the stride 3 of heatmaps"),
        ({"outputs": {"tags": {"stride": 8}}}, "no output 'tags'"),
        ({"method": "magic"}, "no pose method 'magic'"),
        ({"options": {"sharpness": 1}}, "no option 'sharpness'"),
        ({"scale": [0, 1, 1]}, "must be positive"),
        ({"files": [{"name": "../../x"}]}, "'files.0.name'"),
        ({"files": [{"name": "x", "url": "file:///etc/passwd"}]}, "'files.0.url'"),
        ({"files": [{"name": "x", "sha256": "abc"}]}, "'files.0.sha256'"),
        ({"surprise": 1}, "'surprise'"),
        ({"format": 2}, "later featherpose"),
        ({"metrics": [{"dataset": "COCO", "AP": 43.0}]}, "'metrics.0.AP'"),
    ],
)
def test_wrong_cards(change: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        read_card(json.dumps({"name": "x", "skeleton": "coco_17", **change}), "x.card.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", '{"name": "x"}', "[" * 100_000])
def test_damaged_json(text: str) -> None:
    with pytest.raises(ModelError, match=r"the model card x\.card\.json (is|has)"):
        read_card(text, "x.card.json")


def test_defaults_are_the_published_recipe() -> None:
    spec = ModelCard(name="x", skeleton="coco_17").spec()
    assert [output.stride for output in spec.outputs] == [8, 8]
    assert (spec.method.name, spec.size_multiple, spec.pad_value) == ("paf", 8, 128)
    assert spec.skeleton == COCO_17
