"""Drawing with a generator that was trained on one person's video."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from featherpose.errors import CheckpointError
from featherpose.skeleton import Skeleton
from featherpose.transfer.footage import Footage, Window, nearest_frame, pose_maps
from featherpose.transfer.generator import Generator

__all__ = ["FOOTAGE_FILE", "MODEL_FILE", "GeneratorArtist", "as_picture", "as_tensor", "cut", "load_artist",
           "shifted_window"]  # fmt: skip

FOOTAGE_FILE, MODEL_FILE = "footage.npz", "generator.pt"


def cut(image: np.ndarray, window: Window, origin: tuple[int, int]) -> np.ndarray:
    """Return the window of an image, as a view."""
    return image[origin[1] : origin[1] + window.height, origin[0] : origin[0] + window.width]


def shifted_window(
    frame: UInt8[np.ndarray, "H W 3"], plate: UInt8[np.ndarray, "H W 3"], window: Window, origin: tuple[int, int],
    shift: tuple[int, int],
) -> UInt8[np.ndarray, "h w 3"]:  # fmt: skip
    """Cut the window out of a frame that was shifted; beyond its border the background shows."""
    moved = plate.copy()
    dx, dy = shift
    height, width = frame.shape[:2]
    x0, x1, y0, y1 = max(0, dx), min(width, width + dx), max(0, dy), min(height, height + dy)
    if x0 < x1 and y0 < y1:
        moved[y0:y1, x0:x1] = frame[y0 - dy : y1 - dy, x0 - dx : x1 - dx]
    return cut(moved, window, origin)


def as_tensor(images: list[np.ndarray]) -> Tensor:
    """Return images uint8[h, w, 3] as one tensor float32[B, 3, h, w], 0..1."""
    return (
        torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2))
        .to(torch.float32, memory_format=torch.channels_last)
        .div_(255)
    )


def as_picture(drawn: Tensor) -> UInt8[np.ndarray, "h w 3"]:
    """Return the first image of what a generator drew."""
    values = drawn[0].clamp(0, 1).mul(255).round().to(torch.uint8)
    return np.ascontiguousarray(values.numpy().transpose(1, 2, 0))


class GeneratorArtist:
    """Draws the person of a trained generator in poses that follow each other.

    Args:
        network: The trained network.
        footage: What it was trained on, for the nearest frames.
    """

    def __init__(self, network: Generator, footage: Footage) -> None:
        self._network = network.eval()
        self.footage = footage
        self._before: tuple[UInt8[np.ndarray, "H W 3"], tuple[int, int]] | None = None

    def reset(self) -> None:
        """Clear the previous frame."""
        self._before = None

    @torch.no_grad()
    def draw(self, pose: Float64[np.ndarray, "K 2"]) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the next frame.

        Args:
            pose: Keypoints in pixels of the training video, scaled to the height that was learned; NaN where missing.

        Returns:
            uint8[H, W, 3], BGR, before the background of that video; the background alone for a pose without keypoints.
        """
        footage = self.footage
        if not np.isfinite(pose[:, 0]).any():
            self.reset()
            return footage.plate.copy()
        near, shift = nearest_frame(pose, footage)
        origin = footage.window.origin(pose, footage.size)
        window = footage.window
        nearest = shifted_window(footage.frames[near], footage.plate, window, origin, shift)
        before = nearest
        if self._before is not None:
            before = cut(self._before[0], window, origin)
        maps: list[Float32[np.ndarray, "C h w"]] = [
            pose_maps(points - np.array(origin, float), footage.skeleton, (window.width, window.height))
            for points in (pose, footage.points[near] + shift)
        ]
        plate = cut(footage.plate, window, origin)
        drawn = self._network(
            as_tensor([nearest]),
            as_tensor([before]),
            as_tensor([plate]),
            *(torch.from_numpy(one)[None] for one in maps),
        )
        image = footage.plate.copy()
        cut(image, window, origin)[:] = as_picture(drawn)
        self._before = image, origin
        return image

    def draw_all(self, poses: Float64[np.ndarray, "T K 2"]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
        """Draw poses in order, from nothing."""
        self.reset()
        for pose in poses:
            yield self.draw(pose)


def load_artist(folder: str | Path) -> GeneratorArtist:
    """Read what `train_generator` wrote.

    Raises:
        CheckpointError: If the folder holds no finished run.
    """
    folder = Path(folder)
    if not (folder / MODEL_FILE).is_file() or not (folder / FOOTAGE_FILE).is_file():
        raise CheckpointError(
            f"{folder} holds no trained generator", hint=f"train one: featherpose transfer train VIDEO --out {folder}"
        )
    try:
        saved = torch.load(folder / MODEL_FILE, weights_only=True)
        about = json.loads(saved["about"])
        with np.load(folder / FOOTAGE_FILE, allow_pickle=False) as arrays:
            skeleton = Skeleton.from_dict(about["skeleton"])
            footage = Footage(arrays["frames"], arrays["points"], skeleton, arrays["plate"], Window(**about["window"]))
        network = Generator(skeleton.num_keypoints + skeleton.num_limbs)
        network.load_state_dict(saved["network"])
    except Exception as error:
        raise CheckpointError(f"{folder} cannot be read: {error}", hint="train it anew") from error
    return GeneratorArtist(network, footage)
