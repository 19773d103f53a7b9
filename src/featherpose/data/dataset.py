"""Training samples: an image, a view, targets, and masks of what is known.

Sample i of epoch e depends on the seed, e and i alone, not on workers, restarts or the number of processes. Exact
resumption, and gradients equal to those of one process, depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from featherpose.crop_prior import draw_prior
from featherpose.crops import CropShape
from featherpose.data.augment import AugmentOptions, View, change_photometry, sample_view
from featherpose.data.coco import AnnotatedImage
from featherpose.data.crops import CropViews
from featherpose.data.disturbed_poses import NO_POSE, disturb_pose
from featherpose.data.labeled_pixels import read_sample
from featherpose.data.mosaic import make_mosaic
from featherpose.data.teacher_maps import TeacherMaps, load_teacher_maps, nearest_level, warp_maps
from featherpose.errors import ConfigError, DatasetError
from featherpose.methods.method import BoxEncoder, Method, Output, Target
from featherpose.skeleton import Skeleton

__all__ = ["Batch", "EpochSampler", "PoseDataset", "Sample", "collate", "share_of_batch", "teacher_file"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One batch in the layout that networks take.

    Attributes:
        images: uint8[B, 3, H, W] BGR.
        values: Targets by output name, float32[B, C, h, w].
        masks: By output name float32[B, 1, h, w]: 1 where the truth is known, 0 where it is not.
        names: The image files, for messages.
    """

    images: Tensor
    values: dict[str, Tensor]
    masks: dict[str, Tensor]
    names: tuple[str, ...]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device; itself if it is there already."""
        if self.images.device == device:
            return self
        values = {name: value.to(device, non_blocking=True) for name, value in self.values.items()}
        masks = {name: mask.to(device, non_blocking=True) for name, mask in self.masks.items()}
        return Batch(self.images.to(device, non_blocking=True), values, masks, self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One view and its targets.

    Attributes:
        image: uint8[H, W, 3] BGR.
        target: Targets of the network.
        name: The image file, for messages.
    """

    image: UInt8[np.ndarray, "H W 3"]
    target: Target
    name: str


_FOUND_SCORES = (0.2, 0.8)  # of the keypoints that feather finds, nine of ten


class PoseDataset(Dataset["Sample"]):
    """Samples from images with labels, a teacher's outputs, or both.

    Args:
        images: The images; samples of `featherpose.data.regions` are views of one person.
        skeleton: Keypoints and limbs.
        method: The pose method, which makes the targets.
        outputs: The network's outputs, with their real channels and strides.
        augment: How views are drawn.
        targets: Form of the targets, an instance of ``method.Targets``; the recommended one unless given.
        seed: Of all random choices.
        mosaic: Probability that a sample is made of four views.
        teacher_folder: Folder of `featherpose.data.teacher_maps`, one file an image; images without labels need one.
        needs_targets: Whether the targets are used; if not, images need neither labels nor a teacher.
        crops: Draws the views of a network that takes crops: of the first person of each sample; ``augment`` then
            changes colors only.

    Raises:
        DatasetError: If there are no images, or one has no labels and there is no teacher.
    """

    def __init__(
        self,
        images: Sequence[AnnotatedImage],
        skeleton: Skeleton,
        *,
        method: Method,
        outputs: Sequence[Output],
        augment: AugmentOptions,
        targets: Any | None = None,
        seed: int = 0,
        mosaic: float = 0.0,
        teacher_folder: Path | None = None,
        needs_targets: bool = True,
        crops: CropViews | None = None,
    ) -> None:
        if not images:
            raise DatasetError("there are no images to train on")
        self.images = list(images)
        self.skeleton, self.augment, self.crops = skeleton, augment, crops
        self.size = augment.size if crops is None else crops.size
        self.method, self.outputs = method, tuple(outputs)
        self.targets = method.Targets() if targets is None else targets
        self.seed, self.mosaic, self.teacher_folder = seed, mosaic, teacher_folder
        unlabeled = [p for p in images if not p.labeled]
        if unlabeled and teacher_folder is None and needs_targets:
            raise DatasetError(f"{unlabeled[0].path} has no labels", expected="a teacher for images without labels")
        self._teacher: dict[Path, list[TeacherMaps]] = {}
        # Outputs of a teacher: the method's own channels, at the strides of this network.
        strides = {output.name: output.stride for output in self.outputs}
        self._taught_outputs = method.outputs(skeleton, strides=strides)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Make sample ``(epoch, index)``; an index alone is of epoch 0."""
        epoch, index = (0, key) if isinstance(key, int) else key
        rng = np.random.default_rng((self.seed, epoch, index))
        sample = self.images[index]
        if self.mosaic and rng.random() < self.mosaic:
            return self._make_mosaic(sample, rng)
        seen, people, boxes, view = self._draw(sample, rng)
        levels = self._teacher_maps(sample)
        if isinstance(self.method, BoxEncoder):
            target = self._encode_boxes(sample, people, boxes, view)
        elif levels is None:
            target = self._encode(people, boxes)
        else:
            whole = view if sample.region is None else view.behind_region(*sample.region[:2])
            level = nearest_level(levels, whole)
            target = self.method.merge(
                warp_maps(level, whole, self._taught_outputs), people, self.skeleton, self.size, self.outputs,
                self.targets, scale=whole.scale / level.scale,
            )  # fmt: skip
        return Sample(seen, target, sample.path.name)

    def _draw(
        self, sample: AnnotatedImage, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, View]:
        """Draw a view of a sample: image, people and ignored boxes in view pixels, and the view itself."""
        image = read_sample(sample)
        size, single = (image.shape[1], image.shape[0]), sample.region is not None
        if self.crops is None:
            view = sample_view(size, sample.keypoints, self.augment, rng, single=single)
        else:
            view = self.crops.draw(sample.keypoints[0], size, rng)
        seen = change_photometry(view.warp(image), self.augment, rng)
        people = view.people(sample.keypoints, self.skeleton)
        if self.crops is not None and self.crops.shape.prior:
            seen = self._with_prior(seen, people[0], self.crops.shape, rng)
        return seen, people, view.boxes(sample.ignore_boxes), view

    def _with_prior(
        self,
        crop: UInt8[np.ndarray, "h w 3"],
        person: Float32[np.ndarray, "K 2"],
        shape: CropShape,
        rng: np.random.Generator,
    ) -> UInt8[np.ndarray, "rows w 3"]:
        """Put a pose under a crop as another network might have found it, or now and then none."""
        inputs = np.pad(crop, ((0, shape.rows - shape.height), (0, 0), (0, 0)))
        if rng.random() >= NO_POSE:
            found = disturb_pose(person, float(max(crop.shape[:2])), self.skeleton, rng)
            scores = rng.uniform(*_FOUND_SCORES, len(found)).astype(np.float32)
            draw_prior(found, scores, np.eye(3)[:2], shape, inputs)
        return inputs

    def _encode(self, people: np.ndarray, boxes: np.ndarray) -> Target:
        return self.method.encode(people, boxes, self.skeleton, self.size, self.outputs, self.targets)

    def _encode_boxes(self, sample: AnnotatedImage, people: np.ndarray, ignored: np.ndarray, view: View) -> Target:
        assert isinstance(self.method, BoxEncoder)
        if sample.boxes is None or len(sample.boxes) != len(people):
            raise DatasetError(f"the boxes of the people in {sample.path} are not known", expected="whole images")
        if not sample.complete:
            ignored = np.array([[0, 0, self.size[0] - 1, self.size[1] - 1]], np.float32)
        # COCO counts a box's sides from the edge of the first pixel, views from its center.
        boxes = view.people_boxes(sample.boxes - np.float32(0.5))
        return self.method.encode_in_boxes(people, boxes, ignored, self.skeleton, self.size, self.outputs, self.targets)

    def _make_mosaic(self, first: AnnotatedImage, rng: np.random.Generator) -> Sample:
        labeled = [p for p in self.images if p.labeled]
        chosen = [first if first.labeled else labeled[rng.integers(len(labeled))]]
        chosen += [labeled[i] for i in rng.integers(len(labeled), size=3)]
        views, people, boxes, _ = zip(*(self._draw(sample, rng) for sample in chosen), strict=True)
        scene, keypoints, ignored = make_mosaic(views, people, boxes, rng)
        return Sample(scene, self._encode(keypoints, ignored), first.path.name)

    def _teacher_maps(self, sample: AnnotatedImage) -> list[TeacherMaps] | None:
        if self.teacher_folder is None:
            return None
        path = teacher_file(self.teacher_folder, sample.path)
        if path not in self._teacher:
            self._teacher[path] = load_teacher_maps(path)
        return self._teacher[path]


def teacher_file(folder: Path, sample: Path) -> Path:
    """Name the file of an image's teacher maps; the folder's name keeps equal file names of two data sets apart."""
    return folder / f"{sample.parent.parent.name}_{sample.stem}.npz"


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples into a batch."""
    images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2)
    names = list(samples[0].target.values)
    return Batch(
        images,
        {name: torch.from_numpy(np.stack([s.target.values[name] for s in samples])) for name in names},
        {name: torch.from_numpy(np.stack([s.target.masks[name] for s in samples]))[:, None] for name in names},
        tuple(s.name for s in samples),
    )


def share_of_batch(batch: int, world: int) -> int:
    """Return how many samples of a global batch each of ``world`` processes takes.

    Raises:
        ConfigError: If they do not divide evenly.

    Example:
        >>> share_of_batch(8, 2)
        4
    """
    if batch % world:
        raise ConfigError(f"a batch of {batch} does not divide among {world} processes")
    return batch // world


class EpochSampler(Sampler[tuple[int, int]]):
    """Endless seeded order of samples, from any position, for any number of processes.

    Global sample number n is entry ``n % size`` of epoch ``n // size``'s permutation; process r of w takes the
    numbers of every global batch that are its share, so that all processes together see what one would.

    Args:
        size: Images.
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
        self.size, self.batch, self.seed = size, batch, seed
        self.share = share_of_batch(batch, world)
        self.start, self.stop, self.rank, self.world = start, stop, rank, world

    def __iter__(self) -> Iterator[tuple[int, int]]:
        step, share, order, epoch_of_order = self.start, self.share, np.empty(0, np.int64), -1
        while self.stop is None or step < self.stop:
            first = step * self.batch + self.rank * share
            for number in range(first, first + share):
                epoch = number // self.size
                if epoch != epoch_of_order:
                    order = np.random.default_rng((self.seed, 7, epoch)).permutation(self.size)
                    epoch_of_order = epoch
                yield epoch, int(order[number % self.size])
            step += 1
