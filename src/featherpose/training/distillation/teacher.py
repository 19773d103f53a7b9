"""The teacher's outputs for every training image, computed before training begins."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from featherpose.data.coco import AnnotatedImage
from featherpose.data.dataset import teacher_file
from featherpose.data.labeled_pixels import read_image
from featherpose.data.teacher_maps import compute_teacher_maps, save_teacher_maps
from featherpose.errors import ConfigError
from featherpose.methods.method import Arrays, Method
from featherpose.runtime.backend import Backend
from featherpose.runtime.engines import open_backend
from featherpose.skeleton import Skeleton
from featherpose.training.config import TeacherConfig
from featherpose.zoo.resolve import resolve_model

__all__ = ["prepare_teacher"]

_log = logging.getLogger(__name__)


def prepare_teacher(
    config: TeacherConfig, images: Sequence[AnnotatedImage], method: Method, skeleton: Skeleton, folder: Path
) -> Path:
    """Compute the teacher's outputs for all images that have none yet; an interrupted pass continues.

    Args:
        config: The teacher.
        images: Training images.
        method: The pose method of the run; must be the teacher's.
        skeleton: Must be the teacher's.
        folder: Folder of the run.

    Returns:
        Folder of the outputs.

    Raises:
        ConfigError: If the teacher has another method or skeleton, or the folder holds outputs of other settings.
        ModelError: If the teacher cannot be opened.
    """
    kept = Path(config.folder) if config.folder else folder / "teacher"
    kept.mkdir(parents=True, exist_ok=True)
    _check_settings(config, kept)
    files = {teacher_file(kept, sample.path): sample.path for sample in images}
    missing = [(file, image) for file, image in files.items() if not file.is_file()]
    if not missing:
        return kept
    resolved = resolve_model(config.model)
    if resolved.spec.method.name != method.name:
        raise ConfigError(f"[teacher] {config.model} has method {resolved.spec.method.name}", expected=method.name)
    if resolved.spec.skeleton != skeleton:
        raise ConfigError(
            f"[teacher] {config.model} has skeleton {resolved.spec.skeleton.name!r}", expected=repr(skeleton.name)
        )
    backend = open_backend(resolved.path, resolved.spec)
    _log.info("the teacher sees %d images", len(missing))
    try:
        for file, path in missing:
            image = read_image(path)
            levels = compute_teacher_maps(
                image, lambda seen: _infer(backend, seen), backend.spec.outputs, long_sides_px=config.long_sides_px,
                scales=config.scales, mirror=config.mirror, max_enlargement=config.max_enlargement,
                multiple=backend.spec.size_multiple,
            )  # fmt: skip
            save_teacher_maps(file, levels)
    finally:
        backend.close()
    return kept


def _check_settings(config: TeacherConfig, folder: Path) -> None:
    """Refuse to mix outputs of different settings; a folder without a note of them is taken as it is."""
    note = folder / "settings.json"
    wanted = {
        "long_sides_px": list(config.long_sides_px), "scales": list(config.scales), "mirror": config.mirror,
        "max_enlargement": config.max_enlargement,
    }  # fmt: skip
    if not note.is_file():
        if not any(folder.glob("*.npz")):
            note.write_text(json.dumps(wanted))
        return
    try:
        there = json.loads(note.read_text())
    except ValueError:
        there = None
    if there != wanted:
        raise ConfigError(
            f"{folder} holds the teacher's outputs for other settings", expected=json.dumps(there),
            hint="delete it, or name another folder in [teacher]",
        )  # fmt: skip


def _infer(backend: Backend, image: UInt8[np.ndarray, "H W 3"]) -> Arrays:
    """Run the teacher on an image padded to multiples of 64, so that few sizes are compiled; cut the outputs back."""
    height, width = image.shape[:2]
    padded = np.full((1, -(-height // 64) * 64, -(-width // 64) * 64, 3), backend.spec.pad_value, np.uint8)
    padded[0, :height, :width] = image
    (found,) = backend.infer(padded)
    return {
        output.name: found[output.name][:, : height // output.stride, : width // output.stride]
        for output in backend.spec.outputs
    }
