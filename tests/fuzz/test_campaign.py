"""A short form of ``benchmarks/fuzz.py``: some hundred mutated inputs for every reader, from a seed of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fuzz_seeds as seeds
import pytest
from fuzz_mutations import mutated_bytes, mutated_text, mutated_value
from fuzz_targets import TARGETS, Target, input_rng

from featherpose.errors import FeatherposeError
from featherpose.skeleton import OPENPOSE_18, load_skeleton

INPUTS = {"images": 500, "videos": 60, "model graphs": 60, "HTTP": 60, "WebSocket": 15}
NEEDS = {"images": ("PIL",), "COCO annotations": ("pycocotools",), "training configurations": ("torch",),
         "teacher maps": ("torch",), "checkpoints": ("torch", "safetensors", "onnx"), "HTTP": ("fastapi",),
         "model graphs": ("torch", "safetensors", "onnx"), "WebSocket": ("fastapi", "websockets"),
         "poses in tables": ("pyarrow",)}  # fmt: skip


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    for package in NEEDS.get(request.param, ()):
        pytest.importorskip(package)
    made = TARGETS[request.param](tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(("target", "name"), [(name, name) for name in TARGETS], indirect=["target"])
def test_every_input_is_read_or_refused(target: Target, name: str) -> None:
    read = refused = 0
    for number in range(INPUTS.get(name, 300)):
        data = target.make(input_rng(0, name, number))
        try:
            target.read(data)
            read += 1
        except FeatherposeError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right
            assert len(str(error)) < 2000  # noqa: PT017
    assert read
    assert refused


# (target, seed, number) of inputs at which the campaign found a fault once.
FOUND = [
    ("skeletons (TOML)", 1, 2214), ("model cards", 1, 847), ("videos", 1, 3123), ("videos", 2, 9), ("videos", 2, 41),
    ("videos", 2, 51), ("videos", 2, 126), ("annotations of other tools", 4, 273),
    ("skeletons (JSON)", 6, 422), ("poses in tables", 6, 740),
]  # fmt: skip


@pytest.mark.parametrize(("target", "name", "seed", "number"), [(f[0], *f) for f in FOUND], indirect=["target"])
def test_what_was_found_stays_mended(target: Target, name: str, seed: int, number: int) -> None:
    try:
        target.read(target.make(input_rng(seed, name, number)))
    except FeatherposeError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) < 2000  # noqa: PT017


def test_the_seeds_are_right(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from featherpose.data.coco_file import read_coco_file
    from featherpose.formats.jsonl import read_jsonl
    from featherpose.media.images import decode_image
    from featherpose.training.config import load_config
    from featherpose.zoo.card import read_card

    (tmp_path / "coco.json").write_text(json.dumps(seeds.a_coco_file()))
    assert len(read_coco_file(tmp_path / "coco.json", OPENPOSE_18).people) == 4
    (tmp_path / "config.toml").write_text(seeds.a_config())
    assert load_config(tmp_path / "config.toml").run.steps == 100
    assert read_card(json.dumps(seeds.a_card()), "card").name == "tiny"
    lines = [seeds.a_header(), seeds.a_frame()]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert len(list(read_jsonl(tmp_path / "a.jsonl"))) == 1
    (tmp_path / "skeleton.json").write_text(json.dumps(OPENPOSE_18.to_dict()))
    assert load_skeleton(tmp_path / "skeleton.json") == OPENPOSE_18
    pytest.importorskip("PIL")
    found = seeds.image_seeds()
    assert {"jpeg", "png", "webp", "gif", "bmp", "tiff"} <= set(found)
    for name in ("jpeg", "png", "gif", "tiff"):
        assert decode_image(found[name], name).shape == (72, 96, 3)


def test_mutations_depend_on_the_generator_alone() -> None:
    for number in range(50):
        first, again = (input_rng(7, "a", number) for _ in range(2))
        assert mutated_bytes(b"some bytes" * 9, first) == mutated_bytes(b"some bytes" * 9, again)
        assert mutated_text('{"a": [1, 2]}', first) == mutated_text('{"a": [1, 2]}', again)
        value = {"a": [1, 2, {"b": "c"}], "d": None}
        assert repr(mutated_value(value, first)) == repr(mutated_value(value, again))
    assert value == {"a": [1, 2, {"b": "c"}], "d": None}
