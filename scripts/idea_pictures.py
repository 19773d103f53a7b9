"""Draw one picture for each idea of the slides' systems, from networks that were trained here.

    python scripts/idea_pictures.py runs docs/images

``runs`` holds the folders of `featherpose train`: hourglass, deeppose, g-rmi, rmpe, associative-embedding, paf
and multiposenet; a picture whose network is missing is left out. The photograph is that of ``featherpose demo``, in
the public domain.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from featherpose.crops import CropShape
from featherpose.nn.checkpoints import load_network
from featherpose.nn.networks import as_module
from featherpose.nn.outputs import PoseNetwork
from featherpose.nn.trunk.multiposenet import LightMultiPoseNet
from featherpose.nn.trunk.rmpe import LightRmpe
from featherpose.preprocess import cut_crop

PHOTOGRAPH = Path(__file__).resolve().parents[1] / "src/featherpose/demo/people.jpg"
_SHOULDER = "left_shoulder"
_BOX = np.array([[30, 0, 430, 512]], np.float32)
# The man in the middle, and the woman's shoulder beside him.
_SHARED = np.array([[250, 60, 880, 512]], np.float32)
_HEIGHT = 256


def _photograph() -> np.ndarray:
    image = cv2.imread(str(PHOTOGRAPH))
    assert image is not None
    return np.asarray(image)


def _people() -> np.ndarray:
    """Everyone, at the height and width that a network for whole images takes."""
    image = _photograph()
    size = round(image.shape[1] * _HEIGHT / image.shape[0]), _HEIGHT
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(np.pad(small, ((0, 0), (0, -size[0] % 32), (0, 0))))


def _crop(shape: CropShape | None) -> np.ndarray:
    assert shape is not None
    return np.asarray(cut_crop(_photograph(), shape.matrices(_BOX)[0], shape)[0])


@torch.no_grad()
def _stages(network: PoseNetwork, image: np.ndarray) -> list[dict[str, np.ndarray]]:
    as_module(network).eval()
    inputs = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return [{k: v[0].float().numpy() for k, v in stage._asdict().items()} for stage in network(inputs)]


def _over(axes: Any, image: np.ndarray, title: str) -> None:
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    axes.imshow(gray, cmap="gray", vmin=0, vmax=400, extent=(0, image.shape[1], image.shape[0], 0))
    axes.set_title(title, fontsize=9)
    axes.set_axis_off()


def _map(axes: Any, values: np.ndarray, image: np.ndarray, **look: Any) -> None:
    axes.imshow(values, extent=(0, image.shape[1], image.shape[0], 0), interpolation="nearest", **look)
    axes.set_xlim(0, image.shape[1])
    axes.set_ylim(image.shape[0], 0)


def _alpha(strength: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(strength, 0, 1) ** 0.7)


def heatmap(network: PoseNetwork) -> Figure:
    """Draw each stack's heatmap of a shoulder, and everyone's together."""
    image = _crop(network.crop)
    stages = _stages(network, image)
    k = network.skeleton.keypoints.index(_SHOULDER)
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, 3)):
        values = stages[min(number, 1)]["heatmaps"]
        shown = values[k] if number < 2 else values.max(axis=0)
        title = f"left shoulder, stack {number + 1}" if number < 2 else "all keypoints"
        _over(axes, image, title)
        _map(axes, shown, image, cmap="inferno", alpha=_alpha(shown / max(shown.max(), 1e-6)))
    return figure


def coordinates(network: PoseNetwork) -> Figure:
    """Draw coordinates of the first stage and where the refiners moved them."""
    image = _crop(network.crop)
    stages = _stages(network, image)
    size = np.array([image.shape[1], image.shape[0]])
    points = [(stage["coordinates"][:, 0, 0].reshape(-1, 2) + 0.5) * size for stage in stages]
    sure = stages[-1]["presence"][:, 0, 0] > 0.5
    figure = Figure(figsize=(3, 3.4), layout="constrained")
    axes = figure.subplots()
    _over(axes, image, "numbers, and two corrections")
    for first, last in zip(points[0][sure], points[-1][sure], strict=True):
        axes.annotate("", last, first, arrowprops={"arrowstyle": "->", "color": "#D55E00"})
    axes.plot(*points[0][sure].T, "o", color="#56B4E9", markersize=4)
    axes.plot(*points[-1][sure].T, "o", color="#009E73", markersize=4)
    return figure


def disk(network: PoseNetwork) -> Figure:
    """Draw the disk around a shoulder, and the offsets in it."""
    image = _crop(network.crop)
    answer = _stages(network, image)[-1]
    k = network.skeleton.keypoints.index(_SHOULDER)
    inside, offsets = answer["disks"][k], answer["offsets"][2 * k : 2 * k + 2]
    figure = Figure(figsize=(4.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _over(left, image, "disk: near the shoulder?")
    _map(left, inside, image, cmap="viridis", alpha=_alpha(inside))
    _over(right, image, "offsets: where from here?")
    rows, columns = np.nonzero(inside > 0.5)
    stride = image.shape[0] / inside.shape[0]
    right.quiver((columns + 0.5) * stride, (rows + 0.5) * stride, *offsets[:, rows, columns], color="#E69F00",
                 angles="xy", scale_units="xy", scale=1 / 16, width=0.008)  # fmt: skip
    return figure


def region(network: PoseNetwork) -> Figure:
    """Draw a crop that is off, and the region of it that the transformer chose."""
    transformer = as_module(network)
    assert isinstance(transformer, LightRmpe)
    assert network.crop is not None
    off = _BOX + np.array([[-90, 60, -90, 60]], np.float32)
    image = cut_crop(_photograph(), network.crop.matrices(off)[0], network.crop)[0]
    with torch.no_grad():
        transformer.eval()
        coarse = transformer.features(torch.from_numpy(image).permute(2, 0, 1)[None].float()).b32
        (sx, _, tx), (_, sy, ty) = transformer.localization(coarse)[0].tolist()
    height, width = image.shape[:2]
    figure = Figure(figsize=(3, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.imshow(image[:, :, ::-1], extent=(0, width, height, 0))
    corner = ((1 + tx - sx) * width / 2, (1 + ty - sy) * height / 2)
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, sx * width, sy * height, fill=False, color="#E69F00", linewidth=2))
    axes.set_title("a box that is off, and the region looked at", fontsize=9)
    axes.set_xlim(min(0, corner[0]), max(width, corner[0] + sx * width))
    axes.set_ylim(max(height, corner[1] + sy * height), min(0, corner[1]))
    axes.set_axis_off()
    return figure


def tags(network: PoseNetwork) -> Figure:
    """Draw everyone's heatmaps, and the tags where they are high."""
    image = _people()
    answer = _stages(network, image)[-1]
    high = answer["heatmaps"].max(axis=0)
    best = np.take_along_axis(answer["tags"], answer["heatmaps"].argmax(axis=0)[None], 0)[0]
    figure = Figure(figsize=(6.4, 1.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _over(left, image, "heatmaps: joints of everyone")
    _map(left, high, image, cmap="inferno", alpha=_alpha(high))
    _over(right, image, "tags where they are high: whose?")
    values = best[high > 0.2]
    low, top = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    _map(right, best, image, cmap="turbo", vmin=low, vmax=top, alpha=(high > 0.1).astype(float))
    return figure


def field(network: PoseNetwork) -> Figure:
    """Draw the field between the shoulders, and all of them."""
    image = _people()
    pafs = _stages(network, image)[-1]["pafs"]
    figure = Figure(figsize=(6.4, 1.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shoulders = network.skeleton.limbs.index(tuple(network.skeleton.keypoints.index(n)
                                                   for n in ("left_shoulder", "right_shoulder")))  # fmt: skip
    x, y = (pafs[c] for c in network.skeleton.paf_channels[shoulders])
    strength = np.hypot(x, y)
    _over(left, image, "field from shoulder to shoulder")
    # An arrow for every second cell, so that each is long enough to be seen.
    rows, columns = np.nonzero(strength[::2, ::2] > 0.25)
    rows, columns = 2 * rows, 2 * columns
    stride = image.shape[0] / strength.shape[0]
    left.quiver((columns + 0.5) * stride, (rows + 0.5) * stride, x[rows, columns], y[rows, columns], color="#009E73",
                angles="xy", scale_units="xy", scale=1 / 40, width=0.005)  # fmt: skip
    every = np.stack([np.hypot(pafs[a], pafs[b]) for a, b in network.skeleton.paf_channels]).max(axis=0)
    _over(right, image, "strength of all limbs' fields")
    _map(right, every, image, cmap="viridis", alpha=_alpha(every))
    return figure


@torch.no_grad()
def residual(network: PoseNetwork) -> Figure:
    """Draw what the Pose Residual Network is given in a box that two people share, and what it chooses."""
    multiposenet = as_module(network)
    assert isinstance(multiposenet, LightMultiPoseNet)
    image = _people()
    heatmaps = torch.from_numpy(_stages(network, image)[-1]["heatmaps"])[None]
    scale = image.shape[0] / _photograph().shape[0]
    boxes = torch.from_numpy(_SHARED * np.float32(scale))
    given, chosen = multiposenet.choices(heatmaps, boxes[None])
    left, top, right, bottom = boxes[0].round().int().tolist()
    inside = image[top:bottom, left:right]
    figure = Figure(figsize=(4.4, 1.9), layout="constrained")
    for axes, grids, title in zip(
        figure.subplots(1, 2), (given, chosen), ("in: everyone's peaks in the box", "out: one person's"), strict=True
    ):
        shown = grids[0, 0].numpy().max(axis=0)
        if grids is chosen:  # a softmax over all cells: where nothing is seen it is spread, and its root is still faint
            shown = np.sqrt(shown)
        _over(axes, inside, title)
        _map(axes, shown, inside, cmap="inferno", alpha=_alpha(shown / max(shown.max(), 1e-6)))
    return figure


_PICTURES: dict[str, tuple[str, Callable[[PoseNetwork], Figure]]] = {
    "heatmap": ("hourglass", heatmap),
    "coordinates": ("deeppose", coordinates),
    "disk": ("g-rmi", disk),
    "region": ("rmpe", region),
    "tags": ("associative-embedding", tags),
    "field": ("paf", field),
    "residual": ("multiposenet", residual),
}


def main() -> None:
    """Draw what the runs allow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("output", type=Path, help="folder for the pictures")
    arguments = parser.parse_args()
    for name, (run, draw) in _PICTURES.items():
        weights = arguments.runs / run / "best.safetensors"
        if not weights.is_file():
            print(f"{name}: left out, no {weights}")
            continue
        path = arguments.output / f"idea-{name}.png"
        draw(load_network(weights)).savefig(path, dpi=110)
        print(path)


if __name__ == "__main__":
    main()
