"""Skeletons: named keypoints, the limbs between them, and how they correspond across data sets.

A `Skeleton` is the one description that encoding, decoding, training, evaluation, drawing and file formats
share. Channel k of a heatmap is keypoint k; limb i points from its first to its second keypoint and its part
affinity field lives in the two channels ``paf_channels[i]`` (x, then y).
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from featherpose.errors import SkeletonError
from featherpose.parsing import (
    Limits,
    ParseError,
    check_values,
    is_integer,
    parse_json,
    parse_toml,
    read_document,
    shown,
)
from featherpose.skeleton_fields import MAX_KEYPOINTS, MAX_LIMBS, is_name, list_of, pairs_of, sigmas_of

__all__ = ["BODY_25", "COCO_17", "LSP_14", "OPENPOSE_18", "Skeleton", "builtin_skeletons", "load_skeleton"]

# OKS constants of keypoints that COCO does not define: the value of the nearest COCO joint. A neck lies between
# the shoulders, a mid-hip between the hips; toes and heels are as uncertain as ankles.
_SIGMAS: Mapping[str, float] = {
    "nose": 0.026,
    "left_eye": 0.025,
    "right_eye": 0.025,
    "left_ear": 0.035,
    "right_ear": 0.035,
    "left_shoulder": 0.079,
    "right_shoulder": 0.079,
    "left_elbow": 0.072,
    "right_elbow": 0.072,
    "left_wrist": 0.062,
    "right_wrist": 0.062,
    "left_hip": 0.107,
    "right_hip": 0.107,
    "left_knee": 0.087,
    "right_knee": 0.087,
    "left_ankle": 0.089,
    "right_ankle": 0.089,
    "neck": 0.079,
    "mid_hip": 0.107,
    "head_top": 0.079,
}
_DEFAULT_SIGMA = 0.089

# Keypoints that are the midpoint of two others when a skeleton lacks them.
_MIDPOINTS: Mapping[str, tuple[str, str]] = {
    "neck": ("left_shoulder", "right_shoulder"),
    "mid_hip": ("left_hip", "right_hip"),
}


@dataclass(frozen=True, slots=True, repr=False)
class Skeleton:
    """Keypoints, limbs and their constants.

    Attributes:
        name: Short name, used in files and model cards.
        keypoints: K names; sides are written ``left_`` and ``right_`` as seen by the person.
        limbs: L pairs of keypoint indices (from, to).
        paf_channels: L pairs of PAF channel indices (x, y); in order 0, 1, 2, 3, … unless given.
        sigmas: K OKS constants (COCO's sigma; the OKS exponent uses ``2 * sigma``).
        loop_limbs: Indices of limbs that close loops; the papers' rules let them confirm a person but
            never start or merge one.
        flip_pairs: Pairs of keypoints that change places in a mirrored image; found by name unless given.

    Raises:
        SkeletonError: If an index is out of range, a name occurs twice or the lengths do not agree.

    Example:
        >>> arm = Skeleton.create("arm", ["shoulder", "elbow", "wrist"], [("shoulder", "elbow"), ("elbow", "wrist")])
        >>> arm.num_keypoints, arm.limbs, arm.paf_channels
        (3, ((0, 1), (1, 2)), ((0, 1), (2, 3)))
        >>> arm
        Skeleton(arm, 3 keypoints, 2 limbs)
    """

    name: str
    keypoints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    paf_channels: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    loop_limbs: tuple[int, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        k, n = len(self.keypoints), len(self.limbs)
        if k == 0:
            raise SkeletonError(f"skeleton {self.name!r} has no keypoints", expected="at least one")
        if len(set(self.keypoints)) != k:
            twice = sorted({name for name in self.keypoints if self.keypoints.count(name) > 1})
            raise SkeletonError(f"skeleton {self.name!r} names {', '.join(twice)} twice", expected="unique names")
        for a, b in (*self.limbs, *self.flip_pairs):
            if not (0 <= a < k and 0 <= b < k) or a == b:
                raise SkeletonError(
                    f"skeleton {self.name!r} joins keypoints {a} and {b}", expected=f"two different indices under {k}"
                )
        if len(self.paf_channels) != n:
            raise SkeletonError(f"skeleton {self.name!r} has {len(self.paf_channels)} PAF pairs for {n} limbs")
        if sorted(c for pair in self.paf_channels for c in pair) != list(range(2 * n)):
            raise SkeletonError(
                f"the PAF channels of skeleton {self.name!r} are not a permutation",
                expected=f"each of 0..{2 * n - 1} once",
            )
        if len(self.sigmas) != k or any(not 0 < s < math.inf for s in self.sigmas):
            raise SkeletonError(f"skeleton {self.name!r} has sigmas {self.sigmas}", expected=f"{k} positive numbers")
        if any(not 0 <= i < n for i in self.loop_limbs):
            raise SkeletonError(f"skeleton {self.name!r} marks limbs {self.loop_limbs}", expected=f"under {n}")

    def __repr__(self) -> str:
        return f"Skeleton({self.name}, {self.num_keypoints} keypoints, {self.num_limbs} limbs)"

    @classmethod
    def create(
        cls,
        name: str,
        keypoints: Sequence[str],
        limbs: Sequence[tuple[str | int, str | int]],
        *,
        sigmas: Sequence[float] | Mapping[str, float] | None = None,
        paf_channels: Sequence[tuple[int, int]] | None = None,
        loop_limbs: Sequence[int] = (),
        flip_pairs: Sequence[tuple[str | int, str | int]] | None = None,
    ) -> Skeleton:
        """Build a skeleton from names; everything that follows from them is filled in.

        Args:
            name: Short name.
            keypoints: K keypoint names.
            limbs: Pairs of keypoint names or indices.
            sigmas: K OKS constants, or a mapping from names; COCO's value where one is known, else 0.089.
            paf_channels: PAF channels of each limb; consecutive unless given.
            loop_limbs: Limbs that close loops.
            flip_pairs: Mirrored pairs; ``left_x`` and ``right_x`` are paired unless given.

        Raises:
            SkeletonError: If a limb names an unknown keypoint or the parts do not agree.
        """
        names = tuple(keypoints)
        index = {keypoint: i for i, keypoint in enumerate(names)}

        def resolve(key: str | int) -> int:
            if isinstance(key, int):
                return key
            if key not in index:
                raise SkeletonError(
                    f"skeleton {name!r} has no keypoint {shown(key)}",
                    expected=f"one of {', '.join(names[:40]) or 'its names'}",
                )
            return index[key]

        pairs = tuple((resolve(a), resolve(b)) for a, b in limbs)
        if flip_pairs is None:
            flips = tuple(
                (i, index["right_" + n.removeprefix("left_")])
                for i, n in enumerate(names)
                if n.startswith("left_") and "right_" + n.removeprefix("left_") in index
            )
        else:
            flips = tuple((resolve(a), resolve(b)) for a, b in flip_pairs)
        given: Mapping[str, float]
        if sigmas is None or isinstance(sigmas, Mapping):
            given = {**_SIGMAS, **(sigmas or {})}
            sigma_values = tuple(float(given.get(n, _DEFAULT_SIGMA)) for n in names)
        else:
            sigma_values = tuple(float(s) for s in sigmas)
        channels = paf_channels if paf_channels is not None else [(2 * i, 2 * i + 1) for i in range(len(pairs))]
        return cls(
            name=name,
            keypoints=names,
            limbs=pairs,
            paf_channels=tuple((int(x), int(y)) for x, y in channels),
            sigmas=sigma_values,
            loop_limbs=tuple(loop_limbs),
            flip_pairs=flips,
        )

    @property
    def num_keypoints(self) -> int:
        """Return K."""
        return len(self.keypoints)

    @property
    def num_limbs(self) -> int:
        """Return L."""
        return len(self.limbs)

    def index(self, keypoint: str) -> int:
        """Return the index of a keypoint by name.

        Raises:
            SkeletonError: If there is no such keypoint.
        """
        try:
            return self.keypoints.index(keypoint)
        except ValueError:
            near = get_close_matches(keypoint, self.keypoints, 1)
            raise SkeletonError(
                f"skeleton {self.name!r} has no keypoint {keypoint!r}",
                expected=f"one of {', '.join(self.keypoints)}",
                hint=f"did you mean {near[0]!r}?" if near else None,
            ) from None

    @property
    def flip_order(self) -> tuple[int, ...]:
        """Return K indices: keypoint k of a mirrored person is keypoint ``flip_order[k]`` of the original."""
        order = list(range(self.num_keypoints))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    def mapping_to(self, target: Skeleton) -> tuple[tuple[int, ...], ...]:
        """Return where each keypoint of ``target`` comes from in this skeleton.

        Returns:
            One tuple for each target keypoint: one index (same keypoint), two (the midpoint of both, for a neck
            or mid-hip that this skeleton lacks) or none (not available).

        Example:
            >>> COCO_17.mapping_to(OPENPOSE_18)[1]  # the neck, between left and right shoulder
            (5, 6)
        """
        index = {name: i for i, name in enumerate(self.keypoints)}
        sources: list[tuple[int, ...]] = []
        for name in target.keypoints:
            if name in index:
                sources.append((index[name],))
            elif name in _MIDPOINTS and all(part in index for part in _MIDPOINTS[name]):
                first, second = _MIDPOINTS[name]
                sources.append((index[first], index[second]))
            else:
                sources.append(())
        return tuple(sources)

    def to_dict(self) -> dict[str, Any]:
        """Return the skeleton as plain data, the same form that `load_skeleton` reads."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "limbs": [[self.keypoints[a], self.keypoints[b]] for a, b in self.limbs],
            "paf_channels": [list(pair) for pair in self.paf_channels],
            "sigmas": list(self.sigmas),
            "loop_limbs": list(self.loop_limbs),
            "flip_pairs": [[self.keypoints[a], self.keypoints[b]] for a, b in self.flip_pairs],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Skeleton:
        """Build a skeleton from plain data; ``name``, ``keypoints`` and ``limbs`` are required.

        Raises:
            SkeletonError: If a key is missing, unknown or of the wrong kind.
        """
        if not isinstance(data, Mapping):
            raise SkeletonError(f"the skeleton is {shown(data)}", expected="a table with name, keypoints and limbs")
        try:
            check_values(dict(data), Limits())
        except ParseError as error:
            raise SkeletonError(f"the skeleton {error}") from error
        known = {"name", "keypoints", "limbs", "paf_channels", "sigmas", "loop_limbs", "flip_pairs"}
        if unknown := sorted(set(data) - known, key=str):
            raise SkeletonError(
                f"a skeleton has no key {shown(unknown[0])}", expected=f"only {', '.join(sorted(known))}"
            )
        if missing := [key for key in ("name", "keypoints", "limbs") if key not in data]:
            raise SkeletonError(f"the skeleton lacks {missing[0]!r}", expected="name, keypoints and limbs")
        name, flips, channels = data["name"], data.get("flip_pairs"), data.get("paf_channels")
        if not is_name(name):
            raise SkeletonError(f"the skeleton's name is {shown(name)}", expected="a short text")
        return cls.create(
            name,
            list_of("keypoints", data["keypoints"], is_name, "names", MAX_KEYPOINTS),
            pairs_of("limbs", data["limbs"]),
            sigmas=sigmas_of(data.get("sigmas")),
            paf_channels=None if channels is None else pairs_of("paf_channels", channels, is_integer, "whole numbers"),
            loop_limbs=list_of("loop_limbs", data.get("loop_limbs", []), is_integer, "whole numbers", MAX_LIMBS),
            flip_pairs=None if flips is None else pairs_of("flip_pairs", flips),
        )


def _read_built_in() -> dict[str, Skeleton]:
    folder = Path(__file__).with_name("skeletons")
    found = (Skeleton.from_dict(tomllib.loads(path.read_text("utf-8"))) for path in sorted(folder.glob("*.toml")))
    return {skeleton.name: skeleton for skeleton in found}


_BUILT_IN = _read_built_in()
OPENPOSE_18 = _BUILT_IN["openpose_18"]
COCO_17 = _BUILT_IN["coco_17"]
BODY_25 = _BUILT_IN["body_25"]
LSP_14 = _BUILT_IN["lsp_14"]


def builtin_skeletons() -> dict[str, Skeleton]:
    """Return the built-in skeletons by name: every TOML file in the package's ``skeletons`` folder.

    Example:
        >>> sorted(builtin_skeletons())
        ['body_25', 'coco_17', 'flic_11', 'halpe_26', 'lsp_14', 'mpii_16', 'openpose_18']
    """
    return dict(_BUILT_IN)


def load_skeleton(name_or_path: str | Path) -> Skeleton:
    """Return a built-in skeleton by name, or a user's own from a TOML or JSON file.

    The file holds ``name``, ``keypoints`` (a list of names) and ``limbs`` (a list of pairs of names), and may hold
    ``sigmas``, ``paf_channels``, ``loop_limbs`` and ``flip_pairs``.

    Raises:
        SkeletonError: If there is no such skeleton or file, or the file is not a skeleton.

    Example:
        >>> load_skeleton("coco_17").num_keypoints
        17
    """
    known = builtin_skeletons()
    if str(name_or_path) in known:
        return known[str(name_or_path)]
    path = Path(name_or_path)
    try:
        content = read_document(path, Limits().max_bytes)
    except ParseError as error:
        raise SkeletonError(
            f"skeleton {shown(str(name_or_path))} is neither built in nor a readable file: it {error}",
            expected=f"one of {', '.join(known)} or a .toml or .json file",
        ) from error
    try:
        data = parse_json(content, Limits()) if path.suffix.lower() == ".json" else parse_toml(content)
    except ParseError as error:
        raise SkeletonError(f"{path} {error}", expected="a skeleton in TOML or JSON") from error
    if not isinstance(data, dict):
        raise SkeletonError(f"{path} holds a {type(data).__name__}", expected="a table with name, keypoints and limbs")
    # A skeleton may be at the top of its file or under its own heading beside other settings.
    return Skeleton.from_dict(data.get("skeleton", data))
