"""What is fuzzed: each target makes mutated inputs and gives them to one reader of featherpose.

Input number i of a target depends on the seed, the target's name and i alone. A target that returns has read the
input; a `FeatherposeError` refuses it; anything else is a fault.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fuzz_seeds as seeds
import numpy as np
from fuzz_application_targets import (
    Pair,
    bent_calibration,
    bent_character,
    bent_markers,
    bent_people,
    bent_scene,
    bent_table,
    box_network,
    rating_network,
)
from fuzz_mutations import mutated_bytes, mutated_text, mutated_value

from featherpose.errors import DatasetError
from featherpose.skeleton import OPENPOSE_18

__all__ = ["TARGETS", "Target", "input_rng"]

MAX_PIXELS = 25_000_000


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        make: Input of a random generator.
        read: Gives it to the reader.
        close: Called at the end.
    """

    make: Callable[[np.random.Generator], bytes]
    read: Callable[[bytes], object]
    close: Callable[[], None] = lambda: None


def input_rng(seed: int, target: str, number: int) -> np.random.Generator:
    """The generator of one input."""
    return np.random.default_rng((seed, zlib.crc32(target.encode()), number))


def _structured(value: Any, rng: np.random.Generator) -> bytes:
    if rng.random() < 0.6:
        return json.dumps(mutated_value(value, rng)).encode()
    return mutated_text(json.dumps(value), rng)


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def images(folder: Path) -> Target:
    from featherpose.media.images import decode_image

    every = list(seeds.image_seeds().values())
    return Target(
        lambda rng: mutated_bytes(every[int(rng.integers(len(every)))], rng),
        lambda data: decode_image(data, "input", max_pixels=MAX_PIXELS),
    )


def coco(folder: Path) -> Target:
    from featherpose.data.coco import labeled_images
    from featherpose.data.coco_file import read_coco_file
    from featherpose.evaluation.keypoints.coco_ap import average_precision
    from featherpose.evaluation.keypoints.dataset import read_coco_dataset

    value = seeds.a_coco_file()
    (folder / "images").mkdir(exist_ok=True)
    results = [{"image_id": 1, "category_id": 1, "keypoints": [5.0, 9.0, 1.0] * 17, "score": 0.5}]

    def read(data: bytes) -> None:
        path = _file(folder, "annotations.json", data)
        labeled_images(read_coco_file(path, OPENPOSE_18, keep_faults=True), folder, OPENPOSE_18)
        average_precision(read_coco_dataset(path), results)

    return Target(lambda rng: _structured(value, rng), read)


def skeleton_json(folder: Path) -> Target:
    from featherpose.skeleton import load_skeleton

    value = OPENPOSE_18.to_dict()
    return Target(
        lambda rng: _structured(value, rng), lambda data: load_skeleton(_file(folder, "a.json", data)).to_dict()
    )


def skeleton_toml(folder: Path) -> Target:
    from featherpose.skeleton import load_skeleton

    text = "\n".join(f"{key} = {json.dumps(item)}" for key, item in OPENPOSE_18.to_dict().items())
    return Target(
        lambda rng: mutated_text(text, rng), lambda data: load_skeleton(_file(folder, "a.toml", data)).to_dict()
    )


def config(folder: Path) -> Target:
    from featherpose.training.config import load_config

    text = seeds.a_config()
    return Target(
        lambda rng: mutated_text(text, rng), lambda data: load_config(_file(folder, "a.toml", data)).data.skeleton
    )


def card(folder: Path) -> Target:
    from featherpose.zoo.card import read_card

    value = seeds.a_card()
    return Target(lambda rng: _structured(value, rng), lambda data: read_card(data, "input").spec())


def jsonl(folder: Path) -> Target:
    from featherpose.formats.jsonl import read_jsonl

    lines = [seeds.a_header(), seeds.a_frame(), seeds.a_frame()]

    def make(rng: np.random.Generator) -> bytes:
        which = int(rng.integers(len(lines)))
        parts = [_structured(v, rng) if i == which else json.dumps(v).encode() for i, v in enumerate(lines)]
        return b"\n".join(parts) + b"\n" * int(rng.integers(0, 2))

    return Target(make, lambda data: list(read_jsonl(_file(folder, "a.jsonl", data))))


def posetrack(folder: Path) -> Target:
    from featherpose.evaluation.tracking.posetrack import read_posetrack

    value = seeds.a_coco_file()
    for record in value["annotations"]:
        record["track_id"] = record["id"]
        record.setdefault("keypoints", [0] * 51)
    value["images"][0] |= {"frame_id": 0, "ignore_regions_x": [[1, 2, 3]], "ignore_regions_y": [[1, 2, 3]]}
    return Target(lambda rng: _structured(value, rng), lambda data: read_posetrack(_file(folder, "a.json", data)))


def teacher_maps(folder: Path) -> Target:
    from featherpose.data.teacher_maps import TeacherMaps, load_teacher_maps, save_teacher_maps

    values = {"heatmaps": np.full((2, 3, 4), 7, np.uint8), "pafs": np.full((2, 3, 4), 128, np.uint8)}
    level = TeacherMaps(values, {"heatmaps": 8, "pafs": 8}, (32, 24))
    save_teacher_maps(folder / "a.npz", [level])
    data = (folder / "a.npz").read_bytes()
    return Target(lambda rng: mutated_bytes(data, rng), lambda bent: load_teacher_maps(_file(folder, "b.npz", bent)))


def checkpoint(folder: Path) -> Target:
    from featherpose.nn.checkpoints import load_network, read_checkpoint
    from featherpose.nn.networks import network_factory

    found = seeds.model_seeds(folder)

    def make(rng: np.random.Generator) -> bytes:
        # The first byte tells the reader which suffix the file gets.
        kind = int(rng.integers(2))
        return bytes([kind]) + mutated_bytes((found.safetensors, found.checkpoint)[kind], rng)

    def read(data: bytes) -> None:
        path = _file(folder, ("a.safetensors", "a.pth")[data[0]], data[1:])
        state = read_checkpoint(path)
        state.skeleton()
        if zlib.crc32(data) % 20 == 0:  # builds the whole network
            load_network(path)
        elif state.network:
            _ = network_factory(state.network).kind.options_of(state.tensors)

    return Target(make, read)


def graph(folder: Path) -> Target:
    from featherpose.runtime.backend import EngineOptions
    from featherpose.runtime.engines import open_backend
    from featherpose.zoo.resolve import resolve_model

    found = seeds.model_seeds(folder)
    pixels = np.zeros((1, 64, 64, 3), np.uint8)

    def make(rng: np.random.Generator) -> bytes:
        kind = int(rng.choice(3, p=[0.5, 0.1, 0.4]))
        return bytes([kind]) + mutated_bytes((found.xml, found.bin, found.onnx)[kind], rng)

    def read(data: bytes) -> None:
        name = ("b.xml", "b.bin", "b.onnx")[data[0]]
        _file(folder, name, data[1:])
        if data[0] == 0:
            _file(folder, "b.bin", found.bin)
        elif data[0] == 1:
            _file(folder, "b.xml", found.xml)
        model = resolve_model(folder / ("b.onnx" if data[0] == 2 else "b.xml"))
        if zlib.crc32(data) % 4 == 0:
            backend = open_backend(model.path, model.spec, EngineOptions(threads=1))
            try:
                backend.infer(pixels)
            finally:
                backend.close()

    return Target(make, read)


def video(folder: Path) -> Target:
    from featherpose.media.sources.find import open_source

    every = list(seeds.video_seeds(folder).items())
    if not every:
        raise DatasetError("this OpenCV writes no videos")

    def make(rng: np.random.Generator) -> bytes:
        which = int(rng.integers(len(every)))
        return bytes([which]) + mutated_bytes(every[which][1], rng)

    def read(data: bytes) -> None:
        path = _file(folder, "bent" + Path(every[data[0]][0]).suffix, data[1:])
        with open_source(path, max_pixels=MAX_PIXELS) as source:
            for number, _ in enumerate(source):
                if number >= 100:
                    break

    return Target(make, read)


def exchange(folder: Path) -> Target:
    from featherpose.data.exchange.annotations import Annotations, LabeledImage, LabeledPerson
    from featherpose.data.exchange.archives import unpacked
    from featherpose.data.exchange.cvat_writing import cvat_annotations
    from featherpose.data.exchange.label_studio_writing import label_studio_tasks
    from featherpose.data.exchange.recognition import read_annotations
    from featherpose.data.exchange.yolo_pose_writing import yolo_data, yolo_labels
    from featherpose.skeleton import COCO_17

    rng = np.random.default_rng(0)
    rows = np.concatenate((rng.uniform(2, 60, (17, 2)), rng.integers(0, 3, (17, 1))), 1)
    image = LabeledImage(
        "a.png", (96, 72), (LabeledPerson(rows), LabeledPerson(rows[::-1].copy(), (1.0, 2.0, 3.0, 4.0)))
    )
    labels = Annotations(COCO_17, (image,))
    shapes = [
        {"label": n, "points": [[1, 2]], "group_id": g, "shape_type": "point"} for g in (1, 2) for n in ("a", "b")
    ]
    labelme = {"shapes": shapes, "imagePath": "a.png", "imageHeight": 72, "imageWidth": 96}
    packed = folder / "seed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", cvat_annotations(labels))
    yolo = folder / "yolo"
    for name in ("images", "labels"):
        (yolo / name).mkdir(parents=True, exist_ok=True)
    (yolo / "images/a.png").write_bytes(seeds.image_seeds()["png"])
    every: list[tuple[str, Callable[[np.random.Generator], bytes]]] = [
        ("a.xml", lambda rng: mutated_text(cvat_annotations(labels), rng)),
        ("a.json", lambda rng: _structured(json.loads(label_studio_tasks(labels)), rng)),
        ("a.json", lambda rng: _structured(labelme, rng)),
        ("a.zip", lambda rng: mutated_bytes(packed.read_bytes(), rng)),
        ("yolo/data.yaml", lambda rng: mutated_text(yolo_data(COCO_17), rng)),
        ("yolo/labels/a.txt", lambda rng: mutated_text(yolo_labels(image, labels), rng)),
    ]

    def make(rng: np.random.Generator) -> bytes:
        which = int(rng.integers(len(every)))
        return bytes([which]) + every[which][1](rng)

    def read(data: bytes) -> None:
        name = every[data[0]][0]
        for whole in ("data.yaml", "labels/a.txt"):
            text = yolo_data(COCO_17) if whole == "data.yaml" else yolo_labels(image, labels)
            (yolo / whole).write_text(text)
        path = _file(folder, name, data[1:])
        with unpacked(yolo if name.startswith("yolo") else path) as place:
            read_annotations(place, COCO_17)

    return Target(make, read)


def _of(pair: Callable[[Path], Pair]) -> Callable[[Path], Target]:
    return lambda folder: Target(*pair(folder))


def http(folder: Path) -> Target:
    from fuzz_server import http_target

    return Target(*http_target())


def websocket(folder: Path) -> Target:
    from fuzz_server import websocket_target

    return Target(*websocket_target())


TARGETS: dict[str, Callable[[Path], Target]] = {
    "images": images, "videos": video, "COCO annotations": coco, "skeletons (JSON)": skeleton_json,
    "skeletons (TOML)": skeleton_toml, "training configurations": config, "model cards": card, "JSON Lines": jsonl,
    "PoseTrack annotations": posetrack, "teacher maps": teacher_maps, "checkpoints": checkpoint,
    "model graphs": graph, "annotations of other tools": exchange,
    "scenes": _of(bent_scene), "characters": _of(bent_character), "poses in tables": _of(bent_table),
    "poses of other tools": _of(bent_people),
    "calibrations": _of(bent_calibration), "TRC and MOT": _of(bent_markers), "box networks": _of(box_network),
    "rating networks": _of(rating_network),
    "HTTP": http, "WebSocket": websocket,
}  # fmt: skip
