"""A teacher's maps, computed once for every picture and then seen through any view.

A teacher that runs on each augmented view costs more than the student's own training step. Its maps change with a
view as the picture does: they can be computed once on the whole picture, larger than the student will see it and
averaged with the mirrored picture, and be warped by the same affine. Vectors of part affinity fields turn with the
view; left and right change places when it mirrors.
"""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.codecs.paf.maps import Maps
from featherpose.data.augment import View
from featherpose.errors import DatasetError
from featherpose.skeleton import Skeleton

__all__ = [
    "TeacherMaps",
    "compute_teacher_maps",
    "load_teacher_maps",
    "merge_ground_truth",
    "mirror_maps",
    "nearest_level",
    "save_teacher_maps",
    "warp_maps",
]

_log = logging.getLogger(__name__)

Teacher = Callable[[UInt8[np.ndarray, "H W 3"]], Maps]
_ZERO = 128  # the byte that stands for 0 in a field; 127 steps on both sides


@dataclass(frozen=True, slots=True, eq=False)
class TeacherMaps:
    """Maps of one whole picture at one scale, in bytes.

    Attributes:
        heatmaps: uint8[K, h, w], 255 is 1.
        pafs: uint8[2L, h, w], 128 is 0 and 255 is 1.
        stride: Teacher pixels per cell.
        picture_size: (width, height) of the picture in its own pixels.
    """

    heatmaps: UInt8[np.ndarray, "K h w"]
    pafs: UInt8[np.ndarray, "D h w"]
    stride: int
    picture_size: tuple[int, int]

    @property
    def scale(self) -> float:
        """Teacher pixels per picture pixel (x; y differs by rounding only)."""
        return float(self.heatmaps.shape[2] * self.stride / self.picture_size[0])


def _paf_flip_order(skeleton: Skeleton) -> list[int]:
    """Channel c of a mirrored picture's fields is channel ``order[c]`` of the original's."""
    flip, limbs = skeleton.flip_order, {limb: i for i, limb in enumerate(skeleton.limbs)}
    order = [0] * (2 * skeleton.num_limbs)
    for i, (a, b) in enumerate(skeleton.limbs):
        mirrored = limbs.get((flip[a], flip[b]))
        if mirrored is None:
            raise DatasetError(
                f"skeleton {skeleton.name!r}: limb {skeleton.keypoints[a]}-{skeleton.keypoints[b]} has no mirror",
                expected="limbs that come in mirrored pairs with one direction",
            )
        for axis in (0, 1):
            order[skeleton.paf_channels[i][axis]] = skeleton.paf_channels[mirrored][axis]
    return order


def mirror_maps(maps: Maps, skeleton: Skeleton) -> Maps:
    """What the maps of a mirrored picture say about the original.

    Raises:
        DatasetError: If the skeleton's limbs have no mirrored counterparts.
    """
    heatmaps = maps.heatmaps[list(skeleton.flip_order), :, ::-1]
    pafs = maps.pafs[_paf_flip_order(skeleton), :, ::-1].copy()
    pafs[[x for x, _ in skeleton.paf_channels]] *= -1
    return Maps(np.ascontiguousarray(heatmaps), pafs, maps.heatmap_stride, maps.paf_stride)


def compute_teacher_maps(
    image: UInt8[np.ndarray, "H W 3"], teacher: Teacher, skeleton: Skeleton, *, long_side_px: int, multiple: int = 8
) -> TeacherMaps:
    """Ask the teacher about a whole picture and its mirror image.

    Args:
        image: BGR picture.
        teacher: From a BGR picture whose sides are multiples of ``multiple`` to maps of equal strides.
        skeleton: What the teacher's channels mean.
        long_side_px: Longer side of the picture that the teacher sees.
        multiple: The teacher's stride.
    """
    height, width = image.shape[:2]
    factor = long_side_px / max(width, height)
    size = tuple(max(multiple, round(side * factor / multiple) * multiple) for side in (width, height))
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    seen = np.asarray(cv2.resize(image, size, interpolation=method), np.uint8)
    k = skeleton.num_keypoints
    plain, mirrored = teacher(seen), teacher(np.ascontiguousarray(seen[:, ::-1]))
    mirrored = mirror_maps(mirrored, skeleton)
    heatmaps = (plain.heatmaps[:k] + mirrored.heatmaps[:k]) / 2
    pafs = (plain.pafs + mirrored.pafs) / 2
    return TeacherMaps(
        np.clip(np.rint(heatmaps * 255), 0, 255).astype(np.uint8),
        np.clip(np.rint(pafs * 127) + _ZERO, 1, 255).astype(np.uint8),
        plain.heatmap_stride,
        (width, height),
    )


def save_teacher_maps(path: Path, levels: list[TeacherMaps]) -> None:
    """Write the maps of one picture at several scales; complete or not at all."""
    arrays: dict[str, np.ndarray] = {"levels": np.array(len(levels))}
    for i, level in enumerate(levels):
        arrays[f"heatmaps{i}"], arrays[f"pafs{i}"] = level.heatmaps, level.pafs
        arrays[f"facts{i}"] = np.array([level.stride, *level.picture_size])
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
        with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
            levels = []
            for i in range(int(data["levels"])):
                stride, width, height = (int(v) for v in data[f"facts{i}"])
                levels.append(TeacherMaps(data[f"heatmaps{i}"], data[f"pafs{i}"], stride, (width, height)))
            return levels
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} holds no teacher maps ({error})", hint="delete it; it is computed again") from error


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


def warp_maps(teacher: TeacherMaps, view: View, skeleton: Skeleton, *, heatmap_stride: int, paf_stride: int) -> Maps:
    """A teacher's maps seen through a view.

    Heatmaps are enlarged, so they are read with cubic interpolation, which keeps a peak's height; fields are about
    the student's own size and read linearly.

    Args:
        teacher: Maps of the whole picture.
        view: From picture to view pixels.
        skeleton: Channels of the maps.
        heatmap_stride: View pixels per cell of the wanted heatmaps.
        paf_stride: View pixels per cell of the wanted fields.
    """
    width, height = teacher.picture_size
    sx = teacher.heatmaps.shape[2] * teacher.stride / width
    sy = teacher.heatmaps.shape[1] * teacher.stride / height
    centre = (teacher.stride - 1) / 2
    to_cells = np.array(
        [
            [sx / teacher.stride, 0, (0.5 * sx - 0.5 - centre) / teacher.stride],
            [0, sy / teacher.stride, (0.5 * sy - 0.5 - centre) / teacher.stride],
            [0, 0, 1],
        ]
    )
    back = to_cells @ np.linalg.inv(view.matrix)

    def matrix(stride: int) -> np.ndarray:
        cells = np.array([[stride, 0, (stride - 1) / 2], [0, stride, (stride - 1) / 2], [0, 0, 1]])
        return np.asarray((back @ cells)[:2])

    def cells(stride: int) -> tuple[int, int]:
        return -(-view.size[0] // stride), -(-view.size[1] // stride)

    heatmaps = _warp(teacher.heatmaps, matrix(heatmap_stride), cells(heatmap_stride), cv2.INTER_CUBIC, 0)
    pafs = _warp(teacher.pafs, matrix(paf_stride), cells(paf_stride), cv2.INTER_LINEAR, _ZERO)
    fields = (pafs.astype(np.float32) - _ZERO) / 127
    if view.flipped:
        heatmaps = heatmaps[list(skeleton.flip_order)]
        fields = fields[_paf_flip_order(skeleton)]
    turn = view.linear / view.scale
    xs, ys = (list(channels) for channels in zip(*skeleton.paf_channels, strict=True))
    turned = np.empty_like(fields)
    turned[xs] = turn[0, 0] * fields[xs] + turn[0, 1] * fields[ys]
    turned[ys] = turn[1, 0] * fields[xs] + turn[1, 1] * fields[ys]
    return Maps(heatmaps.astype(np.float32) / 255, turned, heatmap_stride, paf_stride)


def nearest_level(levels: list[TeacherMaps], view: View, *, larger: float = 1.45) -> TeacherMaps:
    """The level on which the teacher saw the picture about ``larger`` times as large as the student does.

    Then the teacher's Gaussians and limb widths, a fixed number of its pixels, are about as wide in the student's
    maps at every scale of the view.
    """
    return min(levels, key=lambda level: abs(np.log(level.scale / (view.scale * larger))))


def merge_ground_truth(teacher: Maps, truth: Maps, wide: Float32[np.ndarray, "K h w"]) -> Maps:
    """Ground truth where it exists, the teacher elsewhere.

    Args:
        teacher: Maps of the view, one channel a keypoint.
        truth: Encoded labels, one channel a keypoint.
        wide: Labels encoded with wider Gaussians: where they are high the teacher is silenced, so that its own peak
            a few pixels beside a labelled one does not survive as a second keypoint.
    """
    heatmaps = np.maximum(teacher.heatmaps * (1 - wide), truth.heatmaps)
    pafs = np.where(truth.pafs != 0, truth.pafs, teacher.pafs)
    return Maps(heatmaps.astype(np.float32), pafs.astype(np.float32), teacher.heatmap_stride, teacher.paf_stride)
