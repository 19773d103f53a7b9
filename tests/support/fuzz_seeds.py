"""Small, valid files of every kind that featherpose reads, made here: what fuzzing starts from."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from featherpose.skeleton import COCO_17, OPENPOSE_18

__all__ = ["a_card", "a_coco_file", "a_config", "a_frame", "image_seeds", "model_seeds", "scene", "video_seeds"]


def scene(width: int = 96, height: int = 72) -> np.ndarray:
    """A picture with edges, slopes and noise: something for every part of a decoder."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 2, y * 3, (x + y) * 1.5], axis=2) % 256
    image[20:50, 30:60] = rng.integers(0, 256, (30, 30, 3))
    return image.astype(np.uint8)


def image_seeds() -> dict[str, bytes]:
    """One image of each format, by name."""
    from PIL import Image

    image = Image.fromarray(scene()[..., ::-1])
    seeds: dict[str, bytes] = {}
    for name, mode, options in (
        ("jpeg", "RGB", {"format": "JPEG", "quality": 80}),
        ("jpeg-progressive", "RGB", {"format": "JPEG", "progressive": True}),
        ("jpeg-cmyk", "CMYK", {"format": "JPEG"}),
        ("jpeg-gray", "L", {"format": "JPEG"}),
        ("png", "RGB", {"format": "PNG"}),
        ("png-rgba", "RGBA", {"format": "PNG"}),
        ("png-palette", "P", {"format": "PNG"}),
        ("png-16", "I;16", {"format": "PNG"}),
        ("webp", "RGB", {"format": "WEBP", "quality": 60}),
        ("webp-lossless", "RGBA", {"format": "WEBP", "lossless": True}),
        ("gif", "P", {"format": "GIF"}),
        ("bmp", "RGB", {"format": "BMP"}),
        ("bmp-palette", "P", {"format": "BMP"}),
        ("tiff", "RGB", {"format": "TIFF", "compression": "tiff_lzw"}),
        ("tiff-raw", "L", {"format": "TIFF"}),
        ("jp2", "RGB", {"format": "JPEG2000"}),
        ("avif", "RGB", {"format": "AVIF"}),
        ("ppm", "RGB", {"format": "PPM"}),
        ("pgm", "L", {"format": "PPM"}),
    ):
        buffer = io.BytesIO()
        converted = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
        try:
            converted.save(buffer, **options)
        except (OSError, KeyError, ValueError):  # a format that this build of Pillow cannot write
            continue
        seeds[name] = buffer.getvalue()
    frames = [Image.fromarray(np.roll(scene(), 9 * i, axis=1)[..., ::-1]) for i in range(3)]
    for name, kind in (("apng", "PNG"), ("gif-animated", "GIF"), ("webp-animated", "WEBP")):
        buffer = io.BytesIO()
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=40)
        seeds[name] = buffer.getvalue()
    for name, suffix in (("hdr", ".hdr"), ("sun", ".ras"), ("pam", ".pam"), ("pfm", ".pfm")):
        pixels = scene().astype(np.float32) / 255 if suffix in (".hdr", ".pfm") else scene()
        try:
            whole, data = cv2.imencode(suffix, pixels)
        except cv2.error:
            continue
        if whole:
            seeds[name] = data.tobytes()
    return seeds


def a_coco_file() -> dict[str, Any]:
    """Two images, four people: the smallest file with all that the format has."""
    rng = np.random.default_rng(0)

    def person(number: int, image: int) -> dict[str, Any]:
        keypoints = np.concatenate((rng.integers(2, 60, (17, 2)), rng.integers(0, 3, (17, 1))), 1)
        return {
            "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 900.0, "bbox": [1, 2, 60, 60],
            "num_keypoints": int((keypoints[:, 2] > 0).sum()), "keypoints": keypoints.ravel().tolist(),
        }  # fmt: skip

    ignored = {"id": 5, "image_id": 2, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 9, 9], "area": 81}
    return {
        "info": {"year": 2017},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 64, "height": 64} for i in (1, 2)],
        "annotations": [person(1, 1), person(2, 1), person(3, 2), ignored],
        "categories": [
            {"id": 1, "name": "person", "keypoints": list(COCO_17.keypoints), "skeleton": [[16, 14]]},
            {"id": 3, "name": "car"},
        ],
    }


def a_config() -> str:
    """A training configuration with every table."""
    return """
[data]
skeleton = "openpose_18"
workers = 0
[[data.sources]]
images = "images"
annotations = "annotations.json"
hold_out_every = 10
[data.augment]
size_px = 224
[network]
channels = 128
[loss]
kind = "l2"
[run]
steps = 100
seed = 1
"""


def a_card() -> dict[str, Any]:
    """A model card with most of its keys."""
    return {
        "format": 1, "name": "tiny", "title": "A network", "skeleton": COCO_17.to_dict(),
        "files": [{"name": "a.xml", "url": "https://example.org/a.xml", "size": 10, "sha256": "0" * 64}],
        "mean": [1.0, 2.0, 3.0], "scale": [1.0, 1.0, 1.0], "rgb": True, "license": "Apache-2.0",
        "metrics": [{"dataset": "COCO val2017", "AP": 0.4, "images": 272, "height": 256}], "limits": ["none"],
    }  # fmt: skip


def a_frame() -> dict[str, Any]:
    """One line of JSON Lines."""
    people = [{"id": 3, "score": 0.5, "keypoints": [[1.0, 2.0, 0.5]] * 17 + [None]}] * 2
    return {"frame": 0, "timestamp_s": 0.0, "people": people, "source": "a.mp4"}


def a_header() -> dict[str, Any]:
    """The first line of JSON Lines that names its skeleton."""
    return {"featherpose": 1, "skeleton": OPENPOSE_18.to_dict()}


def video_seeds(folder: Path) -> dict[str, bytes]:
    """Short videos of several containers and codecs, by suffix."""
    seeds: dict[str, bytes] = {}
    for suffix, codec in ((".mp4", "mp4v"), (".avi", "MJPG"), (".avi", "XVID"), (".mkv", "mp4v"), (".mov", "mp4v"),
                          (".wmv", "WMV2"), (".ts", "mp2v")):  # fmt: skip
        path = folder / f"seed{len(seeds)}{suffix}"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 10, (96, 72))
        for i in range(12):
            writer.write(np.roll(scene(), 5 * i, axis=1))
        writer.release()
        if path.is_file() and path.stat().st_size > 500:
            seeds[path.name] = path.read_bytes()
    return seeds


@dataclass(frozen=True)
class ModelSeeds:
    """Tiny model files: one convolution to heatmaps and one to fields."""

    onnx: bytes
    xml: bytes
    bin: bytes
    safetensors: bytes
    checkpoint: bytes


def model_seeds(folder: Path) -> ModelSeeds:
    """A network of two convolutions in all forms that featherpose reads."""
    import onnx
    import openvino as ov
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from safetensors.torch import save

    rng = np.random.default_rng(0)
    card = json.dumps({**a_card(), "files": [], "skeleton": "coco_17", "mean": None, "scale": None, "rgb": False})
    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "wh"], ["heatmaps"], strides=[8, 8], kernel_shape=[8, 8]),
        helper.make_node("Conv", ["t", "wp"], ["pafs"], strides=[8, 8], kernel_shape=[8, 8]),
    ]
    weights = [
        numpy_helper.from_array(rng.normal(0, 0.01, (channels, 3, 8, 8)).astype(np.float32), name)
        for name, channels in (("wh", 18), ("wp", 38))
    ]
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", "h", "w", 3])],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, "y", "x"])
            for n, c in (("heatmaps", 18), ("pafs", 38))
        ],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"featherpose.card": card})
    onnx.save(model, folder / "tiny.onnx")
    converted = ov.convert_model(folder / "tiny.onnx")
    converted.set_rt_info(card, ["featherpose", "card"])
    ov.save_model(converted, folder / "tiny.xml", compress_to_fp16=False)
    tensors = {
        "pyramid.top.weight": torch.zeros(4, 4, 1, 1), "pafs.out.weight": torch.zeros(38, 8, 1, 1),
        "keypoints.out.weight": torch.zeros(18, 8, 1, 1), "pafs.blocks8.0.x": torch.zeros(3),
    }  # fmt: skip
    header = {"network": "feather", "skeleton": json.dumps(OPENPOSE_18.to_dict())}
    buffer = io.BytesIO()
    torch.save({"state_dict": tensors, "iter": 3}, buffer)
    return ModelSeeds(
        (folder / "tiny.onnx").read_bytes(), (folder / "tiny.xml").read_bytes(), (folder / "tiny.bin").read_bytes(),
        save(tensors, header), buffer.getvalue(),
    )  # fmt: skip
