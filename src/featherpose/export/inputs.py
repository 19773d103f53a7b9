"""The inputs that a model is calibrated, equalized and compared on: whole images, or crops of annotated people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from featherpose.crop_prior import draw_prior
from featherpose.crops import CropShape
from featherpose.errors import SourceError
from featherpose.evaluation.keypoints.dataset import read_coco_dataset
from featherpose.geometry import Letterbox
from featherpose.media.images import IMAGE_SUFFIXES, read_image
from featherpose.parsing import is_file
from featherpose.preprocess import cut_crop
from featherpose.runtime.backend import ModelSpec

__all__ = ["ModelInput", "find_images", "find_inputs", "read_input"]

_T = TypeVar("_T")
_SCORES = (0.2, 0.95)  # of keypoints that a bottom-up network finds


@dataclass(frozen=True, slots=True)
class ModelInput:
    """An image file, and for a model that takes crops the box of a person in it.

    Attributes:
        path: The file.
        box: (left, top, right, bottom) in image pixels; None for the whole image.
        keypoints: x, y and visibility of each of the person's keypoints, as they are annotated.
    """

    path: Path
    box: tuple[float, float, float, float] | None = None
    keypoints: tuple[float, ...] = ()


def find_images(folder: Path, limit: int | None = None) -> list[Path]:
    """Return image files of a folder, or of its ``images`` folder, evenly spread over their names.

    Raises:
        SourceError: If there are none.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is no folder", expected="a folder of images")
    found: list[Path] = []
    for place in (folder, folder / "images"):
        if place.is_dir():
            found = sorted(p for p in place.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        if found:
            break
    if not found:
        raise SourceError(f"folder {folder} holds no images", expected="files such as .jpg or .png")
    return _spread(found, limit)


def find_inputs(
    folder: Path, crop: CropShape | None, limit: int | None = None, *, leave_out_every: int = 1
) -> list[ModelInput]:
    """Return what a model is shown of a folder, evenly spread.

    Args:
        folder: Images. Where ``annotations.json`` stands beside ``images/``, a model that takes crops is shown the
            annotated people, else whole images.
        crop: The crops that the model takes, None for whole images.
        limit: Most inputs.
        leave_out_every: Over 1, people in images whose id is a multiple of this are left out: they are held out.

    Raises:
        SourceError: If a folder of images holds none.
        DatasetError: If a labeled folder is missing, damaged or labels nobody.
    """
    if crop is None or not is_file(folder / "annotations.json"):
        return [ModelInput(path) for path in find_images(folder, limit)]
    dataset = read_coco_dataset(folder)
    paths = {
        image.image_id: image.path
        for image in dataset.images
        if leave_out_every <= 1 or image.image_id % leave_out_every
    }
    people = []
    for annotation in dataset.annotations["annotations"]:
        path = paths.get(annotation["image_id"])
        if path is not None and annotation["num_keypoints"] > 0 and not annotation["iscrowd"]:
            x, y, width, height = annotation["bbox"]
            people.append(ModelInput(path, (x, y, x + width, y + height), tuple(annotation["keypoints"])))
    if not people:
        raise SourceError(f"{folder} annotates nobody", expected="people with keypoints, whose boxes are cut out")
    return _spread(people, limit)


def read_input(
    given: ModelInput | Path, spec: ModelSpec, height: int
) -> tuple[UInt8[np.ndarray, "1 h w 3"], Letterbox]:
    """Read an image and bring it into the form that a model takes.

    Args:
        given: The image; of a file without a box, a model that takes crops sees all of it.
        spec: The model.
        height: Network input height in pixels; without effect on models of one input size.

    Returns:
        The input, and how its pixels lie in the image; in the crop itself for a model that takes crops. A model that
        takes another one's pose is given the annotated one.

    Raises:
        SourceError: If the image cannot be read.
    """
    source = ModelInput(given) if isinstance(given, Path) else given
    image, shape = read_image(source.path), spec.crop
    if shape is None or source.box is None:
        return spec.prepare(image, height=height)
    (matrix,) = shape.matrices(np.array([source.box], np.float32))
    size = shape.width, shape.height
    crop = cut_crop(image, matrix, shape)
    if shape.prior and len(source.keypoints) == 3 * shape.prior:
        points = np.array(source.keypoints, np.float32).reshape(-1, 3)
        points[points[:, 2] == 0] = np.nan
        scores = np.linspace(*_SCORES, shape.prior, dtype=np.float32)
        draw_prior(points[:, :2].copy(), scores, matrix, shape, crop[0])
    return crop, Letterbox(size, size, (0, 0), size)


def _spread(found: Sequence[_T], limit: int | None) -> list[_T]:
    if limit is None or len(found) <= limit:
        return list(found)
    return [found[round(i * (len(found) - 1) / max(limit - 1, 1))] for i in range(limit)]
