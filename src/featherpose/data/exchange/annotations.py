"""People labeled in images, as every annotation tool understands them: what is converted from and to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from featherpose.data.coco import map_keypoints
from featherpose.data.coco_file import is_name_inside
from featherpose.data.keypoint_names import canonical_name, matched_names
from featherpose.errors import DatasetError
from featherpose.parsing import shown
from featherpose.skeleton import COCO_17, Skeleton, builtin_skeletons

__all__ = [
    "Annotations", "LabeledImage", "LabeledPerson", "as_skeleton", "is_person", "keypoint_order",
    "limbs_between", "named_skeleton", "one_spelling",
]  # fmt: skip

Box = tuple[float, float, float, float]

_PERSON_NAMES = ("person", "people", "human", "pedestrian", "person_box")


@dataclass(frozen=True, slots=True, eq=False)
class LabeledPerson:
    """One person.

    Attributes:
        keypoints: float64[K, 3] (x, y in pixels, visibility): 0 missing, 1 hidden, 2 visible; 0, 0, 0 where missing.
        box: (left, top, width, height) in pixels; None where only keypoints are known.
        is_crowd: Whether this is a group that nobody took apart.
        score: How sure a network is of the person; None for what people labeled.
    """

    keypoints: Float64[np.ndarray, "K 3"]
    box: Box | None = None
    is_crowd: bool = False
    score: float | None = None

    @property
    def is_labeled(self) -> bool:
        """Whether any keypoint is known."""
        return bool((self.keypoints[:, 2] > 0).any())

    @property
    def outline(self) -> Box:
        """The box, or the smallest one around the keypoints; (0, 0, 0, 0) if there is neither."""
        if self.box is not None:
            return self.box
        seen = self.keypoints[self.keypoints[:, 2] > 0, :2]
        if not len(seen):
            return 0.0, 0.0, 0.0, 0.0
        corner, extent = seen.min(axis=0), np.maximum(np.ptp(seen, axis=0), 1)
        return float(corner[0]), float(corner[1]), float(extent[0]), float(extent[1])


@dataclass(frozen=True, slots=True, eq=False)
class LabeledImage:
    """One image.

    Attributes:
        file_name: Relative to the folder of the images, with ``/``; never outside it.
        size: (width, height) in pixels.
        people: Everyone in it.
        path: The file, where it was found.
    """

    file_name: str
    size: tuple[int, int]
    people: tuple[LabeledPerson, ...]
    path: Path | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Annotations:
    """A set of labeled images.

    Attributes:
        skeleton: What the K keypoints are.
        images: In the order of their source.
        findings: What was left out or is doubtful, one clause each.
    """

    skeleton: Skeleton
    images: tuple[LabeledImage, ...]
    findings: tuple[str, ...] = ()

    @property
    def people(self) -> int:
        """Number of people with keypoints."""
        return sum(person.is_labeled for image in self.images for person in image.people)

    def checked(self, source: Path) -> Annotations:
        """Return the annotations if they are of any use.

        Raises:
            DatasetError: If there is no image or nobody in them, or names of images are impossible or occur twice.
        """
        names = [image.file_name for image in self.images]
        if not names:
            raise DatasetError(f"{source} lists no images")
        if wrong := next((name for name in names if not is_name_inside(name)), None):
            raise DatasetError(f"{source} has an image {shown(wrong)}", expected="the name of a file")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DatasetError(f"{source} lists the image {twice} twice", hint="remove one of them")
        if not any(image.people for image in self.images):
            raise DatasetError(f"{source} labels nobody")
        return self


def is_person(label: str) -> bool:
    """Whether a label is one of those that people are given.

    Example:
        >>> is_person("Person"), is_person("car")
        (True, False)
    """
    return canonical_name(label) in _PERSON_NAMES


def as_skeleton(annotations: Annotations, target: Skeleton) -> Annotations:
    """Return the same people in another skeleton; keypoints are matched by name, a neck is made of the shoulders.

    Raises:
        DatasetError: If the two share no keypoint.
    """
    if annotations.skeleton.keypoints == target.keypoints:
        return replace(annotations, skeleton=target)
    sources = annotations.skeleton.mapping_to(target)
    if not any(sources):
        raise DatasetError(
            f"the annotations have keypoints {', '.join(annotations.skeleton.keypoints[:4])}, …",
            expected=f"some of skeleton {target.name!r}: {', '.join(target.keypoints[:4])}, …",
        )
    images = tuple(
        replace(
            image,
            people=tuple(replace(p, keypoints=map_keypoints(p.keypoints, sources)) for p in image.people),
        )
        for image in annotations.images
    )
    return replace(annotations, skeleton=target, images=images)


def one_spelling(names: Sequence[str], wanted: Skeleton) -> dict[str, str]:
    """Return for each name that a keypoint was given by hand the one of the wanted or a built-in skeleton.

    Example:
        >>> one_spelling(["l_wrist", "LWrist", "tail"], COCO_17)
        {'l_wrist': 'left_wrist', 'LWrist': 'left_wrist', 'tail': 'tail'}
    """
    return {name: matched_names([name], wanted.keypoints)[0] for name in names}


def keypoint_order(names: Sequence[str], wanted: Skeleton) -> tuple[str, ...]:
    """Return the keypoints of annotations that name them one by one and state no order.

    Where all names are the wanted skeleton's and more than half of it, it is meant as a whole: some keypoints were
    never seen. Otherwise there are only those that occur, in its order, others behind them.

    Example:
        >>> keypoint_order(["tail", "left_wrist", "nose"], COCO_17)
        ('nose', 'left_wrist', 'tail')
    """
    names = list(dict.fromkeys(names))
    others = [name for name in names if name not in wanted.keypoints]
    if not others and 2 * len(names) > wanted.num_keypoints:
        return wanted.keypoints
    return (*(name for name in wanted.keypoints if name in names), *others)


def named_skeleton(keypoints: tuple[str, ...], name: str = "person") -> Skeleton:
    """Return the built-in skeleton with these keypoints in this order, or a new one.

    Example:
        >>> named_skeleton(COCO_17.keypoints) == COCO_17, named_skeleton(("tip",)).name
        (True, 'person')
    """
    for skeleton in builtin_skeletons().values():
        if skeleton.keypoints == keypoints:
            return skeleton
    return Skeleton.create(name, keypoints, [])


def limbs_between(skeleton: Skeleton) -> tuple[tuple[int, int], ...]:
    """Return the limbs to be drawn in an annotation tool: the skeleton's, or else the usual ones between its keypoints.

    Example:
        >>> limbs_between(Skeleton.create("arm", ["left_wrist", "tip", "left_elbow"], []))
        ((2, 0),)
    """
    if skeleton.limbs:
        return skeleton.limbs
    index = {name: i for i, name in enumerate(skeleton.keypoints)}
    named = ((COCO_17.keypoints[a], COCO_17.keypoints[b]) for a, b in COCO_17.limbs)
    return tuple((index[a], index[b]) for a, b in named if a in index and b in index)
