"""Read the annotation files of MPII Human Pose, FLIC and LSP, which are MATLAB's.

- MPII (http://human-pose.mpi-inf.mpg.de): ``RELEASE.annolist(i)`` with ``image.name`` and ``annorect(j)``; a person has
  ``annopoints.point(k)`` with ``id`` 0 to 15, ``x``, ``y`` and ``is_visible``. Points are counted from 1 as MATLAB
  does.
- FLIC (https://bensapp.github.io/flic-dataset.html): ``examples(i)`` with ``filepath``, ``imgdims``, ``torsobox`` and
  ``coords``, 2x29 numbers of which eleven keypoints are labeled.
- LSP (http://sam.johnson.io/research/lsp.html): ``joints``, 3x14xN or 14x3xN; image i is ``im0001.jpg`` and so on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from featherpose.data.exchange.annotations import Annotations, LabeledImage, LabeledPerson
from featherpose.data.exchange.image_files import ImageFiles, image_size
from featherpose.errors import DatasetError
from featherpose.parsing import shown
from featherpose.skeleton import LSP_14, Skeleton, load_skeleton

__all__ = ["find_matlab", "read_matlab"]

_MAX_BYTES = 2**29
_MAX_IMAGES = 200_000
_TIMEOUT_S = 600
# Columns of FLIC's 29 points, in the order of skeleton flic_11.
_FLIC_POINTS = (0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16)


def find_matlab(source: Path) -> Path | None:
    """Return the ``.mat`` file: the source, or the only one in the folder; None if there is none."""
    paths = [source] if source.is_file() else sorted(source.glob("*.mat"))
    paths = [path for path in paths if path.suffix.lower() == ".mat"]
    return paths[0] if len(paths) == 1 else None


def read_matlab(path: Path, files: ImageFiles) -> Annotations:
    """Read the people of a file of one of the three data sets.

    Args:
        path: The ``.mat`` file.
        files: Where the images are; images that are not there are left out and counted.

    Raises:
        DatasetError: If the file is damaged, too large, or of another data set.
    """
    content = _load(path)
    if "RELEASE" in content:
        skeleton, people = load_skeleton("mpii_16"), _mpii(content["RELEASE"], path)
    elif "examples" in content:
        skeleton, people = load_skeleton("flic_11"), _flic(content["examples"], path)
    elif "joints" in content:
        skeleton, people = LSP_14, _lsp(content["joints"], path)
    else:
        names = ", ".join(sorted(name for name in content if not name.startswith("__"))[:4]) or "nothing"
        raise DatasetError(f"{path} holds {names}", expected="RELEASE (MPII), examples (FLIC) or joints (LSP)")
    return _with_images(people, skeleton, files)


def _load(path: Path) -> dict[str, Any]:
    """Read the variables as plain values, in a process of its own."""
    if path.stat().st_size > _MAX_BYTES:
        raise DatasetError(f"{path} is larger than {_MAX_BYTES // 2**20} MB", expected="an annotation file")
    worker = [sys.executable, "-m", "featherpose.data.exchange.matlab_worker", str(path)]
    try:
        done = subprocess.run(worker, capture_output=True, timeout=_TIMEOUT_S, check=False)
        content = json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise DatasetError(f"{path} is damaged or no MATLAB file of version 5", hint="get the file again")
    return content


def _items(value: Any) -> list[Any]:
    """Return the entries of a struct array, which is a single object where there is only one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _field(value: Any, *names: str) -> Any:
    """Return a field of a field of a struct; None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _array(value: Any) -> Float64[np.ndarray, "..."]:
    """Return numbers as an array, an empty one for anything else."""
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.empty(0)


def _numbers(value: Any, shape: tuple[int, ...], what: str, path: Path) -> Float64[np.ndarray, "..."]:
    numbers = _array(value)
    if numbers.shape != shape:
        raise DatasetError(f"{path} has {what} of shape {numbers.shape}", expected=str(shape))
    return numbers


def _mpii(release: Any, path: Path) -> list[tuple[str, list[LabeledPerson]]]:
    found = []
    for image in _items(_field(release, "annolist"))[:_MAX_IMAGES]:
        name = _field(image, "image", "name")
        if not isinstance(name, str):
            raise DatasetError(f"{path} has an image without a name", expected="RELEASE.annolist.image.name")
        people = []
        for rectangle in _items(_field(image, "annorect")):
            points = _field(rectangle, "annopoints", "point")
            if points is None:
                continue  # a head without a labeled body, or test images
            keypoints = np.zeros((16, 3))
            for point in _items(points):
                number = _field(point, "id")
                if not isinstance(number, int | float) or number not in range(16):
                    raise DatasetError(f"{path} has a point of id {shown(number)}", expected="0 to 15")
                place = _numbers([_field(point, "x"), _field(point, "y")], (2,), "a point", path)
                hidden = str(_field(point, "is_visible")) in ("0", "0.0")
                keypoints[int(number)] = (*(place - 1), 1 if hidden else 2)
            people.append(LabeledPerson(keypoints))
        if people:
            found.append((name, people))
    return found


def _flic(examples: Any, path: Path) -> list[tuple[str, list[LabeledPerson]]]:
    found = []
    for example in _items(examples)[:_MAX_IMAGES]:
        name = _field(example, "filepath")
        if not isinstance(name, str):
            raise DatasetError(f"{path} has an example without a file", expected="examples.filepath")
        coordinates = _numbers(_field(example, "coords"), (2, 29), "coords", path)[:, _FLIC_POINTS].T - 1
        known = np.isfinite(coordinates).all(axis=1)
        keypoints = np.column_stack([np.nan_to_num(coordinates), 2 * known])
        keypoints[~known] = 0
        found.append((name, [LabeledPerson(keypoints)]))
    return found


def _lsp(joints: Any, path: Path) -> list[tuple[str, list[LabeledPerson]]]:
    numbers = _array(joints)
    if numbers.ndim == 2:  # a single image
        numbers = numbers[..., None]
    if numbers.ndim != 3 or numbers.shape[:2] not in ((3, 14), (14, 3)):
        raise DatasetError(f"{path} has joints of shape {numbers.shape}", expected="3x14xN or 14x3xN")
    # LSP marks hidden joints with 1, LSP extended visible ones; both say 0 for joints that are nowhere.
    extended = numbers.shape[0] == 14
    if not extended:
        numbers = numbers.transpose(1, 0, 2)
    digits = 5 if numbers.shape[2] > 9999 or extended else 4
    found = []
    for number in range(min(numbers.shape[2], _MAX_IMAGES)):
        points = numbers[:, :, number]
        known = (points[:, :2] > 0).all(axis=1) & np.isfinite(points).all(axis=1)
        hidden = points[:, 2] == (0 if extended else 1)
        keypoints = np.column_stack([points[:, :2] - 1, np.where(hidden, 1, 2)])
        keypoints[~known] = 0
        found.append((f"im{number + 1:0{digits}d}.jpg", [LabeledPerson(keypoints)]))
    return found


def _with_images(people: list[tuple[str, list[LabeledPerson]]], skeleton: Skeleton, files: ImageFiles) -> Annotations:
    images: dict[str, LabeledImage] = {}
    missing = 0
    for name, here in people:
        path = files.find(name)
        if path is None:
            missing += 1
            continue
        before = images.get(name)
        images[name] = (
            LabeledImage(name, image_size(path), tuple(here), path)
            if before is None
            else LabeledImage(name, before.size, (*before.people, *here), path)
        )
    findings = (f"{missing} images are not there, and are left out",) if missing else ()
    return Annotations(skeleton, tuple(images.values()), findings)
