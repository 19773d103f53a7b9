"""Training samples: a picture, a view, maps to learn and a mask of what is known.

Sample i of epoch e depends on the seed, e and i alone: workers, restarts and the number of processes change nothing,
which is what exact resumption and gradients equal to one process stand on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from featherpose.codecs.paf.encode import encode_into, ignore_boxes
from featherpose.codecs.paf.maps import Maps
from featherpose.data.augment import AugmentOptions, View, change_light, sample_view
from featherpose.data.coco import LabelledPicture
from featherpose.data.compose import compose_views
from featherpose.data.teacher_maps import TeacherMaps, load_teacher_maps, merge_ground_truth, nearest_level, warp_maps
from featherpose.errors import ConfigError, DatasetError
from featherpose.skeleton import Skeleton

__all__ = ["Batch", "EpochSampler", "PoseDataset", "TargetOptions", "collate", "read_picture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOptions:
    """What the maps look like.

    Attributes:
        heatmap_stride: View pixels per heatmap cell.
        paf_stride: View pixels per PAF cell.
        sigma_px: Of the Gaussians, in view pixels.
        paf_half_width: Half the width of a limb in PAF cells.
        background: Whether the last heatmap is the background.
    """

    heatmap_stride: int = 8
    paf_stride: int = 8
    sigma_px: float = 7.0
    paf_half_width: float = 1.0
    background: bool = True

    def __post_init__(self) -> None:
        if self.heatmap_stride < 1 or self.paf_stride < 1 or not self.sigma_px > 0 or not self.paf_half_width > 0:
            raise ConfigError(
                f"targets {self} are impossible", expected="positive strides, sigma_px and paf_half_width"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One batch in the layout that networks take.

    Attributes:
        pictures: uint8[B, 3, H, W] BGR.
        heatmaps: float32[B, C, h, w].
        pafs: float32[B, 2L, v, u].
        heatmap_mask: float32[B, 1, h, w]: 1 where the truth is known, 0 over unlabelled people.
        paf_mask: float32[B, 1, v, u].
        names: The picture files, for messages.
    """

    pictures: Tensor
    heatmaps: Tensor
    pafs: Tensor
    heatmap_mask: Tensor
    paf_mask: Tensor
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device; itself if it is there already."""
        if self.pictures.device == device:
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        return Batch(
            moved(self.pictures), moved(self.heatmaps), moved(self.pafs), moved(self.heatmap_mask),
            moved(self.paf_mask), self.names,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    picture: UInt8[np.ndarray, "H W 3"]
    maps: Maps
    heatmap_mask: Float32[np.ndarray, "h w"]
    paf_mask: Float32[np.ndarray, "v u"]
    name: str


def read_picture(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A picture as BGR.

    Raises:
        DatasetError: If the file is missing or no picture.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DatasetError(f"{path} cannot be read ({error.strerror})", hint="run: featherpose data check") from error
    # Annotations of COCO refer to the stored pixels: an orientation tag is not applied.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(data, flags) if data.size else None
    if image is None:
        raise DatasetError(f"{path} is not a readable picture", hint="run: featherpose data check")
    return np.asarray(image, np.uint8)


class PoseDataset(Dataset["_Sample"]):
    """Pictures with labels, a teacher's maps, or both.

    Args:
        pictures: What to draw from.
        skeleton: Channels of the maps.
        augment: How views are drawn.
        targets: What maps look like.
        seed: Of every chance.
        compose: Chance that a sample is made of four views.
        teacher_folder: Folder of maps by `data.teacher_maps`, one file a picture; pictures without labels need one.
        maps_count: Whether the maps teach; if not, pictures need neither labels nor a teacher.
    """

    def __init__(
        self,
        pictures: Sequence[LabelledPicture],
        skeleton: Skeleton,
        *,
        augment: AugmentOptions,
        targets: TargetOptions,
        seed: int = 0,
        compose: float = 0.0,
        teacher_folder: Path | None = None,
        maps_count: bool = True,
    ) -> None:
        if not pictures:
            raise DatasetError("there are no pictures to train on")
        self.pictures = list(pictures)
        self.skeleton, self.augment, self.targets = skeleton, augment, targets
        self.seed, self.compose, self.teacher_folder = seed, compose, teacher_folder
        unlabelled = [p for p in pictures if not p.labelled]
        if unlabelled and teacher_folder is None and maps_count:
            raise DatasetError(f"{unlabelled[0].path} has no labels", expected="a teacher for pictures without labels")
        self._teacher: dict[int, list[TeacherMaps]] = {}

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, key: int | tuple[int, int]) -> _Sample:
        """Sample ``(epoch, index)``; an index alone is of epoch 0."""
        epoch, index = (0, key) if isinstance(key, int) else key
        rng = np.random.default_rng((self.seed, epoch, index))
        picture = self.pictures[index]
        if self.compose and rng.random() < self.compose:
            return self._composed(picture, rng)
        image = read_picture(picture.path)
        view = sample_view((image.shape[1], image.shape[0]), picture.keypoints, self.augment, rng)
        seen = change_light(view.picture(image), self.augment, rng)
        people = view.people(picture.keypoints, self.skeleton)
        boxes = view.boxes(picture.ignore_boxes)
        teacher = self._teacher_maps(index)
        if teacher is None:
            return self._labelled(seen, people, boxes, picture.path.name)
        return self._taught(seen, people, view, teacher, picture.path.name)

    def _composed(self, first: LabelledPicture, rng: np.random.Generator) -> _Sample:
        labelled = [p for p in self.pictures if p.labelled]
        chosen = [first if first.labelled else labelled[rng.integers(len(labelled))]]
        chosen += [labelled[i] for i in rng.integers(len(labelled), size=3)]
        views, people, boxes = [], [], []
        for picture in chosen:
            image = read_picture(picture.path)
            view = sample_view((image.shape[1], image.shape[0]), picture.keypoints, self.augment, rng)
            views.append(change_light(view.picture(image), self.augment, rng))
            people.append(view.people(picture.keypoints, self.skeleton))
            boxes.append(view.boxes(picture.ignore_boxes))
        scene, keypoints, ignored = compose_views(views, people, boxes, rng)
        return self._labelled(scene, keypoints, ignored, first.path.name)

    def _encode(self, people: np.ndarray, *, sigma_px: float, half_width: float, background: bool) -> Maps:
        t, side = self.targets, self.augment.size_px
        heat_cells, paf_cells = -(-side // t.heatmap_stride), -(-side // t.paf_stride)
        heatmaps = np.empty((self.skeleton.num_keypoints + int(background), heat_cells, heat_cells), np.float32)
        pafs = np.empty((2 * self.skeleton.num_limbs, paf_cells, paf_cells), np.float32)
        encode_into(
            people, self.skeleton, heatmaps, pafs, heatmap_stride=t.heatmap_stride, paf_stride=t.paf_stride,
            sigma_px=sigma_px, paf_half_width=half_width,
        )  # fmt: skip
        return Maps(heatmaps, pafs, t.heatmap_stride, t.paf_stride)

    def _labelled(self, seen: np.ndarray, people: np.ndarray, boxes: np.ndarray, name: str) -> _Sample:
        t, size = self.targets, (self.augment.size_px, self.augment.size_px)
        maps = self._encode(people, sigma_px=t.sigma_px, half_width=t.paf_half_width, background=t.background)
        heatmap_mask = ignore_boxes(boxes, size, t.heatmap_stride)
        paf_mask = ignore_boxes(boxes, size, t.paf_stride)
        # A labelled person in front of an unlabelled one is known all the same.
        heatmap_mask = np.maximum(heatmap_mask, maps.heatmaps[: self.skeleton.num_keypoints].max(axis=0) > 0.05)
        paf_mask = np.maximum(paf_mask, np.abs(maps.pafs).max(axis=0) > 0)
        return _Sample(seen, maps, heatmap_mask.astype(np.float32), paf_mask.astype(np.float32), name)

    def _taught(
        self, seen: np.ndarray, people: np.ndarray, view: View, levels: list[TeacherMaps], name: str
    ) -> _Sample:
        t = self.targets
        level = nearest_level(levels, view)
        maps = warp_maps(level, view, self.skeleton, heatmap_stride=t.heatmap_stride, paf_stride=t.paf_stride)
        if len(people):
            # Labels are drawn as wide as the teacher draws: a fixed number of *its* pixels.
            ratio = view.scale / level.scale
            sigma, half_width = 7 * ratio, level.stride * ratio / t.paf_stride
            truth = self._encode(people, sigma_px=sigma, half_width=half_width, background=False)
            wide = self._encode(people, sigma_px=2.5 * sigma, half_width=half_width, background=False)
            maps = merge_ground_truth(maps, truth, wide.heatmaps)
        if t.background:
            heatmaps = np.concatenate([maps.heatmaps, 1 - maps.heatmaps.max(axis=0, keepdims=True)])
            maps = Maps(heatmaps, maps.pafs, maps.heatmap_stride, maps.paf_stride)
        ones = np.ones(maps.heatmaps.shape[1:], np.float32), np.ones(maps.pafs.shape[1:], np.float32)
        return _Sample(seen, maps, *ones, name)

    def _teacher_maps(self, index: int) -> list[TeacherMaps] | None:
        if self.teacher_folder is None:
            return None
        if index not in self._teacher:
            self._teacher[index] = load_teacher_maps(teacher_file(self.teacher_folder, self.pictures[index].path))
        return self._teacher[index]


def teacher_file(folder: Path, picture: Path) -> Path:
    """Where a picture's teacher maps lie; the folder's name keeps equal file names of two data sets apart."""
    return folder / f"{picture.parent.parent.name}_{picture.stem}.npz"


def collate(samples: Sequence[_Sample]) -> Batch:
    """Stack samples into a batch."""
    pictures = torch.from_numpy(np.stack([s.picture for s in samples])).permute(0, 3, 1, 2)
    return Batch(
        pictures,
        torch.from_numpy(np.stack([s.maps.heatmaps for s in samples])),
        torch.from_numpy(np.stack([s.maps.pafs for s in samples])),
        torch.from_numpy(np.stack([s.heatmap_mask for s in samples]))[:, None],
        torch.from_numpy(np.stack([s.paf_mask for s in samples]))[:, None],
        tuple(s.name for s in samples),
    )


class EpochSampler(Sampler[tuple[int, int]]):
    """The endless, seeded order of samples, from any position, for any number of processes.

    Global sample number n is entry ``n % size`` of epoch ``n // size``'s permutation; process r of w takes the
    numbers of every global batch that are its share, so that all processes together see what one would.

    Args:
        size: Pictures.
        batch: Samples of a global batch.
        seed: Of the permutations.
        start: Global batches already done.
        rank: This process.
        world: All processes; ``batch`` must be a multiple.

    Example:
        >>> whole = list(EpochSampler(5, batch=4, seed=1, stop=2))
        >>> parts = [list(EpochSampler(5, batch=4, seed=1, stop=2, rank=r, world=2)) for r in (0, 1)]
        >>> [whole[0:2], whole[4:6]] == [parts[0][0:2], parts[0][2:4]]
        True
    """

    def __init__(
        self,
        size: int,
        *,
        batch: int,
        seed: int,
        start: int = 0,
        stop: int | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if batch % world:
            raise ConfigError(f"a batch of {batch} does not divide among {world} processes")
        self.size, self.batch, self.seed = size, batch, seed
        self.start, self.stop, self.rank, self.world = start, stop, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        step, share, order, epoch_of_order = self.start, self.batch // self.world, np.empty(0, np.int64), -1
        while self.stop is None or step < self.stop:
            first = step * self.batch + self.rank * share
            for number in range(first, first + share):
                epoch = number // self.size
                if epoch != epoch_of_order:
                    order = np.random.default_rng((self.seed, 7, epoch)).permutation(self.size)
                    epoch_of_order = epoch
                yield epoch, int(order[number % self.size])
            step += 1
