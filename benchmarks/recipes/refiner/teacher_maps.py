"""Heatmaps of everyone by a finished refiner, computed once and warped to every crop that is drawn of a person."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from people_crops import Crops, Person, photograph
from torch import Tensor
from torch.nn import functional as F

from featherpose.crops import CropShape
from featherpose.methods.mirror import mirror_outputs
from featherpose.preprocess import cut_crop
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.engines import open_backend
from featherpose.zoo.resolve import ResolvedModel, resolve_model

_AT_ONCE = 256
_STRIDE = 4


class TeacherMaps:
    """The maps.

    Args:
        people: Everyone.
        teacher: Name or file of a refiner.
        kept: File of the maps; it is computed if there is none.
        threads: Of the engine, one crop each.
    """

    def __init__(self, people: Sequence[Person], teacher: str, kept: Path, threads: int) -> None:
        resolved = resolve_model(teacher)
        assert resolved.spec.crop is not None
        self._shape: CropShape = resolved.spec.crop
        self._flip = list(resolved.spec.skeleton.flip_order)
        boxes = np.array([person.box for person in people], np.float32)
        self._to_image = np.tile(np.eye(3), (len(people), 1, 1))
        self._to_image[:, :2] = self._shape.matrices(boxes)
        if not kept.exists():
            self._compute(people, resolved, kept, threads)
        self._maps: UInt8[np.ndarray, "P K h w"] = np.load(kept, mmap_mode="r")

    def targets(self, drawn: Crops) -> Float32[Tensor, "B K h w"]:
        """Return the maps as the drawn crops show them, 0 where the teacher saw nothing."""
        rows, columns = drawn.heatmaps.shape[2:]
        source = self._maps[drawn.people]
        source[drawn.flipped] = source[drawn.flipped][:, self._flip]
        # Cells of the drawn crop to cells of the teacher's.
        cells = np.linalg.inv(self._to_image[drawn.people]) @ drawn.to_image @ np.diag([_STRIDE, _STRIDE, 1.0])
        affine = torch.from_numpy(cells[:, :2] / _STRIDE).float()
        y, x = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij")
        places = torch.einsum("bij,hwj->bhwi", affine, torch.stack([x, y, torch.ones_like(x)], -1))
        last = torch.tensor([source.shape[3] - 1.0, source.shape[2] - 1.0])
        grid = 2 * places / last - 1
        return F.grid_sample(torch.from_numpy(source).float().div_(255), grid, align_corners=True)

    def _compute(self, people: Sequence[Person], resolved: ResolvedModel, kept: Path, threads: int) -> None:
        """Average image and mirror image of each person's crop."""
        spec, shape = resolved.spec, self._shape
        sizes = (len(people), spec.skeleton.num_keypoints, shape.height // _STRIDE, shape.width // _STRIDE)
        part = kept.with_suffix(".part")
        maps = np.lib.format.open_memmap(part, "w+", np.uint8, sizes)
        turn = np.array([[-1, 0, shape.width - _STRIDE], [0, 1, 0], [0, 0, 1.0]])
        backend = open_backend(resolved.path, spec, EngineOptions(threads=threads, num_streams=threads))

        def look(index: int) -> None:
            image, matrix = photograph(people[index].path), self._to_image[index]
            crops = [cut_crop(image, m[:2], shape) for m in (matrix, matrix @ turn)]
            seen, mirrored = (inference.result()[0] for inference in [backend.submit(crop) for crop in crops])
            mean = (seen["heatmaps"] + mirror_outputs(mirrored, spec.outputs)["heatmaps"]) / 2
            maps[index] = np.clip(255 * mean + 0.5, 0, 255).astype(np.uint8)

        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(people), _AT_ONCE):
                some = range(start, min(start + _AT_ONCE, len(people)))
                list(pool.map(look, some))
                print(f"teacher: {some.stop} of {len(people)} people", flush=True)
        backend.close()
        maps.flush()
        part.rename(kept)
