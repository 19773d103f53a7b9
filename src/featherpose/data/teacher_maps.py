"""A teacher's outputs, computed once for every image and then warped by any view.

A teacher that runs on each augmented view costs more than the student's own training step. Its outputs transform with
the view as the image does: they are computed once on the whole image, larger than the student sees it and averaged with
the mirrored image, and warped by the same affine. Vectors turn with the view; left and right change places when it
mirrors.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.data.augment import View
from featherpose.errors import DatasetError
from featherpose.methods.method import Arrays, Output
from featherpose.methods.mirror import mirror_order, mirror_outputs
from featherpose.parsing import read_arrays, reason_of

__all__ = [
    "Teacher",
    "TeacherMaps",
    "compute_teacher_maps",
    "load_teacher_maps",
    "nearest_level",
    "save_teacher_maps",
    "warp_maps",
]

_log = logging.getLogger(__name__)

Teacher = Callable[[UInt8[np.ndarray, "H W 3"]], Arrays]
"""From a BGR image to outputs by name."""

_ZERO = 128  # the byte that stands for 0 in a vector; 127 steps on both sides


@dataclass(frozen=True, slots=True, eq=False)
class TeacherMaps:
    """Outputs for one whole image at one scale, in bytes.

    Attributes:
        values: uint8[C, h, w] by output name; 255 is 1, and in channels of vectors 128 is 0 and 255 is 1.
        strides: Teacher pixels per cell, by output name.
        image_size: (width, height) of the image in its own pixels.
    """

    values: Mapping[str, UInt8[np.ndarray, "C h w"]]
    strides: Mapping[str, int]
    image_size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Return the teacher pixels per image pixel (x; y differs by rounding only)."""
        name = next(iter(self.values))
        return float(self.values[name].shape[2] * self.strides[name] / self.image_size[0])


def _vector_channels(output: Output) -> list[int]:
    return [channel for pair in output.vectors for channel in pair]


def compute_teacher_maps(
    image: UInt8[np.ndarray, "H W 3"],
    teacher: Teacher,
    outputs: Sequence[Output],
    *,
    long_sides_px: Sequence[int],
    scales: Sequence[float] = (1.0,),
    mirror: bool = True,
    max_enlargement: float = math.inf,
    multiple: int = 8,
) -> list[TeacherMaps]:
    """Run the teacher on a whole image at several scales and on its mirror image.

    A level is the mean of what the teacher finds at ``scales`` times the level's own size, resampled onto the level's
    cells. Sizes that levels share are computed once.

    Args:
        image: BGR image.
        teacher: Takes images whose sides are multiples of ``multiple``.
        outputs: The teacher's outputs; channels beyond theirs are dropped.
        long_sides_px: For each level the longer side of the image.
        scales: Sizes that the teacher sees, relative to the level's; 1 is always among them.
        mirror: Whether the mirrored image is seen as well.
        max_enlargement: Sizes that enlarge the image more than this are left out, but for a level's own.
        multiple: Must be one of the teacher's strides.

    Returns:
        One value a level.

    Raises:
        DatasetError: If the skeleton has no mirror image.
    """
    height, width = image.shape[:2]

    def size_at(long_side_px: float) -> tuple[int, int]:
        factor = long_side_px / max(width, height)
        w, h = (max(multiple, round(side * factor / multiple) * multiple) for side in (width, height))
        return w, h

    found: dict[tuple[int, int], Arrays] = {}

    def outputs_at(size: tuple[int, int]) -> Arrays:
        if size not in found:
            found[size] = _outputs_at(image, teacher, outputs, size, mirror=mirror)
        return found[size]

    levels = []
    for side in long_sides_px:
        own = size_at(side)
        sizes = {size_at(side * scale) for scale in scales if side * scale <= max_enlargement * max(width, height)}
        seen = [outputs_at(size) for size in sorted(sizes | {own})]
        reference = found[own]
        values = {}
        for output in outputs:
            shape = reference[output.name].shape[1:]
            mean = np.mean([_resampled(maps[output.name], shape) for maps in seen], axis=0)
            stored = np.clip(np.rint(mean * 255), 0, 255).astype(np.uint8)
            vectors = _vector_channels(output)
            stored[vectors] = np.clip(np.rint(mean[vectors] * 127) + _ZERO, 1, 255).astype(np.uint8)
            values[output.name] = stored
        levels.append(TeacherMaps(values, {output.name: output.stride for output in outputs}, (width, height)))
    return levels


def _outputs_at(
    image: UInt8[np.ndarray, "H W 3"], teacher: Teacher, outputs: Sequence[Output], size: tuple[int, int], *,
    mirror: bool,
) -> dict[str, Float32[np.ndarray, "C h w"]]:  # fmt: skip
    """Run the teacher at one size, averaged with the mirrored image."""
    method = cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_LINEAR
    seen = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    found = teacher(seen)
    plain = {output.name: found[output.name][: output.channels] for output in outputs}
    if not mirror:
        return plain
    mirrored = mirror_outputs(teacher(np.ascontiguousarray(seen[:, ::-1])), outputs)
    return {name: (value + mirrored[name][: len(value)]) / 2 for name, value in plain.items()}


def _resampled(maps: Float32[np.ndarray, "C h w"], shape: tuple[int, ...]) -> Float32[np.ndarray, "C h w"]:
    """Resample maps to a grid of other cells; cells are areas, so centers stay where they are in the image."""
    if maps.shape[1:] == shape:
        return maps
    method = cv2.INTER_AREA if maps.shape[1] > shape[0] else cv2.INTER_CUBIC
    return np.stack([cv2.resize(channel, shape[::-1], interpolation=method) for channel in maps])


def save_teacher_maps(path: Path, levels: list[TeacherMaps]) -> None:
    """Write the outputs for one image at several scales; complete or not at all."""
    arrays: dict[str, np.ndarray] = {"levels": np.array(len(levels))}
    for i, level in enumerate(levels):
        arrays[f"size{i}"] = np.array(level.image_size)
        for name, value in level.values.items():
            arrays[f"value{i} {name}"], arrays[f"stride{i} {name}"] = value, np.array(level.strides[name])
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    partial.replace(path)


def load_teacher_maps(path: Path) -> list[TeacherMaps]:
    """Read what `save_teacher_maps` wrote.

    Raises:
        DatasetError: If the file is damaged.
    """
    try:
        data = read_arrays(path)
        levels = []
        for i in range(int(data["levels"])):
            width, height = (int(v) for v in data[f"size{i}"])
            prefix = f"value{i} "
            names = [key.removeprefix(prefix) for key in data if key.startswith(prefix)]
            if not names:
                raise ValueError("no outputs")
            values = {name: data[prefix + name] for name in names}
            strides = {name: int(data[f"stride{i} {name}"]) for name in names}
            levels.append(TeacherMaps(values, strides, (width, height)))
        return levels
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise DatasetError(
            f"{path} holds no teacher maps ({reason_of(error)})", hint="delete it; it is computed again"
        ) from error


def _warp(stack: np.ndarray, matrix: np.ndarray, size: tuple[int, int], method: int, border: int) -> np.ndarray:
    out = np.empty((stack.shape[0], size[1], size[0]), np.uint8)
    # OpenCV fills at most four channels beyond the border in one call.
    for first in range(0, stack.shape[0], 4):
        part = np.ascontiguousarray(stack[first : first + 4].transpose(1, 2, 0))
        warped = cv2.warpAffine(
            part, matrix, size, flags=method | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_CONSTANT,
            borderValue=(border,) * 4,
        )  # fmt: skip
        out[first : first + 4] = warped.reshape(size[1], size[0], -1).transpose(2, 0, 1)
    return out


def warp_maps(teacher: TeacherMaps, view: View, outputs: Sequence[Output]) -> dict[str, Float32[np.ndarray, "C h w"]]:
    """Warp a teacher's outputs by a view.

    Heatmaps are enlarged, so they are read with cubic interpolation, which keeps a peak's height; vectors are about
    the student's own size and read linearly.

    Args:
        teacher: Outputs for the whole image.
        view: From image to view pixels.
        outputs: The wanted outputs: the teacher's channels, strides in view pixels.

    Raises:
        DatasetError: If the view mirrors and the skeleton has no mirror image.
    """
    return {output.name: _warp_one(teacher, view, output) for output in outputs}


def _warp_one(teacher: TeacherMaps, view: View, output: Output) -> Float32[np.ndarray, "C h w"]:
    stored, stride = teacher.values[output.name], teacher.strides[output.name]
    width, height = teacher.image_size
    sx, sy = stored.shape[2] * stride / width, stored.shape[1] * stride / height
    center = (stride - 1) / 2
    to_cells = np.array(
        [
            [sx / stride, 0, (0.5 * sx - 0.5 - center) / stride],
            [0, sy / stride, (0.5 * sy - 0.5 - center) / stride],
            [0, 0, 1],
        ]
    )
    wanted = output.stride
    from_cells = np.array([[wanted, 0, (wanted - 1) / 2], [0, wanted, (wanted - 1) / 2], [0, 0, 1]])
    matrix = np.asarray((to_cells @ np.linalg.inv(view.matrix) @ from_cells)[:2])
    cells = -(-view.size[0] // wanted), -(-view.size[1] // wanted)
    vectors = _vector_channels(output)
    others = [channel for channel in range(len(stored)) if channel not in set(vectors)]
    values = np.empty((len(stored), cells[1], cells[0]), np.float32)
    values[others] = _warp(stored[others], matrix, cells, cv2.INTER_CUBIC, 0).astype(np.float32) / 255
    values[vectors] = (_warp(stored[vectors], matrix, cells, cv2.INTER_LINEAR, _ZERO).astype(np.float32) - _ZERO) / 127
    if view.flipped:
        values = values[mirror_order(output, len(values))]
    if vectors:
        turn = view.linear / view.scale
        xs, ys = (list(channels) for channels in zip(*output.vectors, strict=True))
        x, y = values[xs], values[ys]
        values[xs] = turn[0, 0] * x + turn[0, 1] * y
        values[ys] = turn[1, 0] * x + turn[1, 1] * y
    return values


def nearest_level(levels: list[TeacherMaps], view: View, *, larger: float = 1.45) -> TeacherMaps:
    """Choose the level on which the teacher saw the image about ``larger`` times as large as the student does.

    Then the teacher's Gaussians and limb widths, a fixed number of its pixels, are about as wide in the student's
    maps at every scale of the view.
    """
    return min(levels, key=lambda level: abs(np.log(level.scale / (view.scale * larger))))
