"""Asking the teacher about every training picture before training begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from featherpose.codecs.paf.maps import Maps
from featherpose.data.coco import LabelledPicture
from featherpose.data.dataset import read_picture, teacher_file
from featherpose.data.teacher_maps import compute_teacher_maps, save_teacher_maps
from featherpose.errors import ConfigError
from featherpose.runtime.backend import Backend
from featherpose.runtime.opening import open_backend
from featherpose.skeleton import Skeleton
from featherpose.training.config import TeacherConfig
from featherpose.zoo.resolving import resolve_model

__all__ = ["prepare_teacher"]

_log = logging.getLogger(__name__)


def prepare_teacher(
    config: TeacherConfig, pictures: Sequence[LabelledPicture], skeleton: Skeleton, folder: Path
) -> Path:
    """Compute the teacher's maps of all pictures that have none yet; an interrupted pass goes on where it stopped.

    Args:
        config: The teacher.
        pictures: Training pictures.
        skeleton: Must be the teacher's.
        folder: Folder of the run.

    Returns:
        Folder of the maps.

    Raises:
        ConfigError: If the teacher knows another skeleton.
        ModelError: If the teacher cannot be opened.
    """
    kept = Path(config.folder) if config.folder else folder / "teacher"
    kept.mkdir(parents=True, exist_ok=True)
    missing = [p for p in pictures if not teacher_file(kept, p.path).is_file()]
    if not missing:
        return kept
    resolved = resolve_model(config.model)
    if resolved.spec.skeleton != skeleton:
        raise ConfigError(
            f"[teacher] {config.model} finds skeleton {resolved.spec.skeleton.name!r}", expected=repr(skeleton.name)
        )
    backend = open_backend(resolved.path, resolved.spec)
    _log.info("asking the teacher about %d pictures", len(missing))
    try:
        for picture in missing:
            image = read_picture(picture.path)
            levels = [
                compute_teacher_maps(image, lambda seen: _ask(backend, seen), skeleton, long_side_px=side)
                for side in config.long_sides_px
            ]
            save_teacher_maps(teacher_file(kept, picture.path), levels)
    finally:
        backend.close()
    return kept


def _ask(backend: Backend, image: UInt8[np.ndarray, "H W 3"]) -> Maps:
    """The teacher's maps, padded to multiples of 64 so that few shapes are compiled, and cut back."""
    height, width = image.shape[:2]
    padded = np.full((1, -(-height // 64) * 64, -(-width // 64) * 64, 3), 128, np.uint8)
    padded[0, :height, :width] = image
    (maps,) = backend.infer(padded)
    heat, paf = maps.heatmap_stride, maps.paf_stride
    return Maps(
        maps.heatmaps[:, : height // heat, : width // heat], maps.pafs[:, : height // paf, : width // paf], heat, paf
    )
