"""Files of the applications: scenes, characters, tables of poses, calibrations, TRC and MOT, box networks."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import fuzz_seeds as seeds
import numpy as np
from fuzz_mutations import mutated_bytes, mutated_text

from featherpose.skeleton import COCO_17

__all__ = [
    "Pair",
    "bent_calibration",
    "bent_character",
    "bent_markers",
    "bent_people",
    "bent_scene",
    "bent_table",
    "box_network",
    "rating_network",
]

Pair = tuple[Callable[[np.random.Generator], bytes], Callable[[bytes], object]]

_SCENE = """
name = "party"
fade_s = 0.1
[[items]]
kind = "sprite"
image = "hat.png"
joints = ["right_eye", "left_eye"]
points = [[0.4, 1.1], [0.6, 1.1]]
up = ["neck", "nose"]
order = "behind"
back = "hide"
[[items]]
kind = "text"
text = "{id}: {score}"
joints = ["nose"]
color = "#ff8800"
people = [0, 2]
[[items]]
kind = "trail"
joints = ["left_wrist"]
seconds = 1.5
[[items]]
kind = "gauge"
joints = ["left_hip", "left_knee", "left_ankle"]
size = 0.3
"""

_CALIBRATION = """
[cam_01]
name = "cam_01"
size = [1920.0, 1080.0]
matrix = [[1500.0, 0.0, 960.0], [0.0, 1500.0, 540.0], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0]
rotation = [1.2, 0.1, -0.1]
translation = [0.2, 0.9, 5.0]
fisheye = false
[metadata]
error = 0.0
"""


def _rgba(folder: Path, name: str) -> bytes:
    alpha = np.zeros((72, 96), np.uint8)
    alpha[4:70, 20:80] = 255
    image = np.dstack((seeds.scene(), alpha))
    cv2.imwrite(str(folder / name), image)
    return (folder / name).read_bytes()


def bent_scene(folder: Path) -> Pair:
    """A scene file with a damaged text, or with a damaged image beside it."""
    from featherpose.augment.scene_file import load_scene

    sprite = _rgba(folder, "hat.png")

    def make(rng: np.random.Generator) -> bytes:
        return b"i" + mutated_bytes(sprite, rng) if rng.random() < 0.3 else b"t" + mutated_text(_SCENE, rng)

    def read(data: bytes) -> object:
        (folder / "hat.png").write_bytes(data[1:] if data[:1] == b"i" else sprite)
        (folder / "scene.toml").write_bytes(data[1:] if data[:1] == b"t" else _SCENE.encode())
        return load_scene(folder / "scene.toml")

    return make, read


def bent_character(folder: Path) -> Pair:
    """A character file with a damaged text, image or mask."""
    from featherpose.transfer.character import load_character

    parts = {"image.png": seeds.image_seeds()["png"], "mask.png": _rgba(folder, "mask.png")}
    joints = {
        "nose": (48, 8), "left_shoulder": (60, 20), "right_shoulder": (36, 20), "left_elbow": (66, 32),
        "right_elbow": (30, 32), "left_wrist": (70, 44), "right_wrist": (26, 44), "left_hip": (56, 44),
        "right_hip": (40, 44), "left_knee": (57, 56), "right_knee": (39, 56), "left_ankle": (57, 68),
        "right_ankle": (39, 68),
    }  # fmt: skip
    lines = [
        'image = "image.png"',
        'mask = "mask.png"',
        "[joints]",
        *(f"{n} = [{x}, {y}]" for n, (x, y) in joints.items()),
    ]
    parts["a.toml"] = "\n".join(lines).encode()
    names = list(parts)

    def make(rng: np.random.Generator) -> bytes:
        which = int(rng.choice(3, p=[0.15, 0.25, 0.6]))
        data = parts[names[which]]
        return bytes([which]) + (mutated_text(data.decode(), rng) if which == 2 else mutated_bytes(data, rng))

    def read(data: bytes) -> object:
        for name, whole in parts.items():
            (folder / name).write_bytes(data[1:] if name == names[data[0]] else whole)
        return load_character(folder / "a.toml")

    return make, read


def bent_table(folder: Path) -> Pair:
    """A table of poses as CSV or Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featherpose.motion.files.reading import read_poses

    parts = [f"{n}_{part}" for n in COCO_17.keypoints for part in ("x", "y", "score")]
    rng = np.random.default_rng(0)
    rows = [["a.mp4", frame, frame / 25, 0, 1, 0.5, *rng.uniform(1, 90, 51).round(2).tolist()] for frame in range(5)]
    columns = ["source", "frame", "timestamp_s", "person", "id", "score", *parts]
    text = "\n".join(",".join(map(str, row)) for row in [columns, *rows])
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))), buffer)
    whole = buffer.getvalue()

    def make(rng: np.random.Generator) -> bytes:
        return b"c" + mutated_text(text, rng) if rng.random() < 0.7 else b"p" + mutated_bytes(whole, rng)

    def read(data: bytes) -> object:
        path = folder / ("a.csv" if data[:1] == b"c" else "a.parquet")
        path.write_bytes(data[1:])
        return read_poses(path)

    return make, read


def bent_people(folder: Path) -> Pair:
    """COCO results, a file of COCO annotations, or one file of OpenPose JSON."""
    from featherpose.motion.files.reading import read_poses

    rng = np.random.default_rng(0)
    (folder / "json").mkdir(exist_ok=True)
    bodies = [rng.uniform(1, 90, 51).round(2).tolist() for _ in range(3)]
    results = [
        {"image_id": 7, "frame": i, "file_name": "a.mp4", "keypoints": b, "score": 1} for i, b in enumerate(bodies)
    ]
    annotations = {
        "images": [{"id": i, "file_name": f"a/{i}.jpg"} for i in range(3)],
        "annotations": [{"image_id": i, "track_id": 1, "keypoints": body} for i, body in enumerate(bodies)],
    }
    openpose = {"version": 1.3, "people": [{"person_id": [-1], "pose_keypoints_2d": body} for body in bodies]}
    texts = [json.dumps(data) for data in (results, annotations, openpose)]

    def make(rng: np.random.Generator) -> bytes:
        which = int(rng.integers(3))
        return bytes([which]) + mutated_text(texts[which], rng)

    def read(data: bytes) -> object:
        path = folder / ("a.json", "a.json", "json/a_1.json")[data[0]]
        path.write_bytes(data[1:])
        return read_poses(folder / "json" if data[0] == 2 else path, fps=25)

    return make, read


def bent_calibration(folder: Path) -> Pair:
    """A calibration of Pose2Sim."""
    from featherpose.motion.meters import read_calibration

    def read(data: bytes) -> object:
        (folder / "a.toml").write_bytes(data)
        return read_calibration(folder / "a.toml")

    return lambda rng: mutated_text(_CALIBRATION, rng), read


def bent_markers(folder: Path) -> Pair:
    """Markers (TRC) and angles (MOT) of OpenSim."""
    from featherpose.motion.files.opensim import read_mot, read_trc

    names = ("nose", "neck")
    trc = ["PathFileType\t4", "DataRate", "25\t25", "Frame#\tTime\t" + "\t\t\t".join(names) + "\t\t", "\t\tX1\tY1\tZ1"]
    trc += [f"{i}\t{i / 25}\t" + "\t".join(["1.5", "2.5", "0"] * 2) for i in range(4)]
    mot = ["angles", "version=1", "endheader", "time\tknee\thip", *(f"{i / 25}\t10.5\tnan" for i in range(4))]
    texts = ("\n".join(trc), "\n".join(mot))

    def make(rng: np.random.Generator) -> bytes:
        which = int(rng.integers(2))
        return bytes([which]) + mutated_text(texts[which], rng)

    def read(data: bytes) -> object:
        path = folder / ("a.trc", "a.mot")[data[0]]
        path.write_bytes(data[1:])
        return (read_trc, read_mot)[data[0]](path)

    return make, read


def box_network(folder: Path) -> Pair:
    """The weights from which refinement estimates the box of a person."""
    from featherpose.rating.shape import SHAPE_FEATURES
    from featherpose.topdown.boxes import read_box_layers

    return _small_network(folder, (SHAPE_FEATURES, 8, 8, 4), read_box_layers)


def rating_network(folder: Path) -> Pair:
    """The weights by which people are rated."""
    from featherpose.rating.rate import RATING_FEATURES, read_rating

    return _small_network(folder, (RATING_FEATURES, 8, 8, 1), read_rating)


def _small_network(folder: Path, widths: tuple[int, ...], reader: Callable[[Path], object]) -> Pair:
    rng = np.random.default_rng(0)
    arrays = {}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        arrays[f"weight{i}"] = rng.normal(size=(outputs, inputs)).astype(np.float16)
        arrays[f"bias{i}"] = np.zeros(outputs, np.float16)
    wholes = []
    for save in (np.savez, np.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, allow_pickle=False, **arrays)
        wholes.append(buffer.getvalue())

    def read(data: bytes) -> object:
        (folder / "a.npz").write_bytes(data)
        return reader(folder / "a.npz")

    return lambda rng: mutated_bytes(wholes[int(rng.integers(2))], rng), read
