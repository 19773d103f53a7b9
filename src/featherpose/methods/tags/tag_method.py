"""Heatmaps and tags: Associative Embedding (Newell et al. 2017, arXiv 1611.05424).

Each keypoint has a heatmap of all people and a tag map; the tags at the keypoints of one person are close to each other
and far from those of other people. What the values are nobody says: the loss only pulls together and pushes apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int64

from featherpose.errors import ConfigError, OptionError
from featherpose.geometry import Letterbox
from featherpose.methods.declared import DeclaredDecoder, DeclaredMethod, check_arrays, keypoint_output, map_shape
from featherpose.methods.gaussians import draw_gaussians, ignore_boxes
from featherpose.methods.hourglass import quarter_shift
from featherpose.methods.method import Arrays, Output, Target
from featherpose.methods.ranking import blended_with_rating, size_factors
from featherpose.methods.tags.grouping import fill, find_peaks, group
from featherpose.option_ranges import check_within
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["TAGS", "TagDecoder", "TagMethod", "TagOptions", "TagTargets"]

_STRIDE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TagOptions:
    """Rules by which heatmaps and tags become people.

    Attributes:
        peak_threshold: Lower maxima of a heatmap are no keypoints.
        max_distance: A peak whose tag is farther from a person's starts a person of its own.
        fill: Whether missing keypoints of a person are looked for once more, where its tag fits best.
        min_keypoints: People with fewer keypoints are dropped.
        min_score: People with a lower mean score are dropped.
        rank_size_px: People rank by their size as well: mean score times s / (s + this), s the square root of the area
            of the box around their keypoints in network pixels. 0 ranks by mean scores alone, as the published code.
        rating_weight: Weight of `featherpose.rating` in the scores of people, 0 to 1; 0 leaves it out.

    Raises:
        OptionError: If a value is outside its range.
    """

    peak_threshold: float = 0.15
    max_distance: float = 1.0
    fill: bool = True
    min_keypoints: int = 3
    min_score: float = 0.02
    rank_size_px: float = 8.0
    rating_weight: float = 0.5

    def __post_init__(self) -> None:
        for name in ("peak_threshold", "min_score", "rating_weight"):
            check_within(name, getattr(self, name), 0, 1)
        if not 0 < self.max_distance <= 100:
            raise OptionError(f"max_distance is {self.max_distance}", expected="over 0, at most 100")
        check_within("min_keypoints", self.min_keypoints, 1, 1000)
        check_within("rank_size_px", self.rank_size_px, 0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TagTargets:
    """Form of the training targets.

    Attributes:
        sigma_px: Of the Gaussians, in view pixels.

    Raises:
        ConfigError: If it is not positive.
    """

    sigma_px: float = 7.0

    def __post_init__(self) -> None:
        if not self.sigma_px > 0:
            raise ConfigError(f"targets {self} are impossible", expected="a positive sigma_px")


class TagDecoder(DeclaredDecoder[TagOptions]):
    """Decodes heatmaps and tags into people."""

    def __init__(self, skeleton: Skeleton, outputs: Sequence[Output], options: TagOptions) -> None:
        super().__init__(skeleton, outputs, options)
        self._stride = self._outputs[0].stride
        self._order = from_the_head_down(skeleton)

    def __call__(self, outputs: Arrays, letterbox: Letterbox) -> Poses:
        """Find everyone in one image, best first, in pixels of the source image.

        Raises:
            ModelError: If there are fewer channels than keypoints.
        """
        check_arrays(outputs, self._outputs, self._skeleton)
        k, options = self._skeleton.num_keypoints, self._options
        heatmaps = np.ascontiguousarray(outputs["heatmaps"][:k], np.float32)
        tagmaps = np.ascontiguousarray(outputs["tags"][:k], np.float32)
        # Tags that are no numbers, or beyond any that a distance of 1 could tell apart, would poison the assignment.
        tagmaps = np.clip(np.nan_to_num(tagmaps), -1e4, 1e4)
        peaks, counts = find_peaks(heatmaps, tagmaps, max(options.peak_threshold, 1e-6))
        members, tags = group(peaks, counts, self._order, options.max_distance)
        keep = (members >= 0).sum(axis=1) >= options.min_keypoints
        members, tags = members[keep], tags[keep]
        cells = np.zeros((len(members), k, 2), np.float32)
        scores = np.zeros((len(members), k), np.float32)
        for person, tag in enumerate(tags):
            for keypoint in range(k):
                peak = members[person, keypoint]
                if peak >= 0:
                    x, y, score = peaks[keypoint, peak, :3]
                elif options.fill:
                    x, y, score = fill(heatmaps[keypoint], tagmaps[keypoint], tag, np.float32(options.peak_threshold))
                else:
                    continue
                if score > 0:
                    cells[person, keypoint] = int(x), int(y)
                    scores[person, keypoint] = min(float(score), 1.0)
            cells[person] = quarter_shift(heatmaps, cells[person])
        found = scores > 0
        pixels = cells * np.float32(self._stride) + np.float32((self._stride - 1) / 2)
        keypoints = letterbox.inverse(pixels)
        keypoints[~found] = np.nan
        # Over all keypoints, as the published code ranks people: who lacks some is less certain.
        means = scores.mean(axis=1)
        ranks = means * size_factors(pixels, found, options.rank_size_px)
        best = np.argsort(-ranks, kind="stable")
        best = best[means[best] >= options.min_score]
        poses = Poses(keypoints[best], scores[best], ranks[best], self._skeleton, letterbox.source_size)
        return blended_with_rating(poses, options.rating_weight, letterbox.scale[1])

    def warm_up(self) -> None:
        """Compile the kernels, or load them from disk."""
        k = self._skeleton.num_keypoints
        heatmaps = np.zeros((k, 8, 8), np.float32)
        heatmaps[: max(1, k - 1), 4, 4] = 0.9
        arrays = {"heatmaps": heatmaps, "tags": np.zeros((k, 8, 8), np.float32)}
        self(arrays, Letterbox.fit((32, 32), height=32, multiple=8))


class TagMethod(DeclaredMethod):
    """Heatmaps and tags of everyone."""

    name = "tags"
    title = "Heatmaps and tags (Newell et al. 2017, Associative Embedding)"
    Options = TagOptions
    Decoder = TagDecoder
    Targets = TagTargets
    kernel_modules = ("featherpose.methods.tags.grouping", "featherpose.methods.gaussians", "featherpose.rating.rate")
    search_space: Mapping[str, Sequence[Any]] = {
        "peak_threshold": (0.05, 0.1, 0.15, 0.2, 0.3),
        "max_distance": (0.5, 0.75, 1.0, 1.5, 2.0),
        "fill": (True, False),
        "min_keypoints": (1, 2, 3, 4, 5),
        "rank_size_px": (0.0, 8.0, 15.0, 30.0),
    }

    def declare(self, skeleton: Skeleton) -> tuple[Output, ...]:
        """State ``heatmaps`` and ``tags``.

        Example:
            >>> from featherpose.skeleton import COCO_17
            >>> [(o.name, o.channels, o.stride) for o in TAGS.outputs(COCO_17)]
            [('heatmaps', 17, 4), ('tags', 17, 4)]
        """
        return keypoint_output("heatmaps", skeleton, _STRIDE), keypoint_output("tags", skeleton, _STRIDE)

    def encode(
        self,
        people: Float32[np.ndarray, "P K 2"],
        ignore: Float32[np.ndarray, "n 4"],
        skeleton: Skeleton,
        size: tuple[int, int],
        outputs: Sequence[Output],
        targets: TagTargets,
    ) -> Target:
        """Draw everyone's Gaussians, and write the person's number, from 1, into the cell of each keypoint.

        These numbers are tags that the decoder can read; the loss takes them only as names of people.
        """
        output = self.by_name(outputs)["heatmaps"]
        shape = map_shape(size, output.stride)
        heatmaps = np.zeros((skeleton.num_keypoints, *shape), np.float32)
        draw_gaussians(
            np.ascontiguousarray(people, np.float32), heatmaps, False, output.stride, np.float32(targets.sigma_px)
        )  # fmt: skip
        owners = np.zeros_like(heatmaps)
        cells = (people - (output.stride - 1) / 2) / output.stride
        for number in reversed(range(len(people))):  # the first person has the last word
            for k in np.flatnonzero(np.isfinite(people[number]).all(axis=1)):
                column, row = np.rint(cells[number, k]).astype(np.int64)
                if 0 <= row < shape[0] and 0 <= column < shape[1]:
                    owners[k, row, column] = number + 1
        known = ignore_boxes(ignore, size, output.stride)
        return Target({"heatmaps": heatmaps, "tags": owners}, {"heatmaps": known, "tags": np.ones_like(known)})

    def loss(
        self,
        stages: Sequence[Mapping[str, Tensor]],
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        config: Any,
        skeleton: Skeleton,
        *,
        probabilities: bool,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compare heatmaps as method ``heatmap`` does, and pull and push tags, summed over stages."""
        import torch

        from featherpose.methods.heatmap import HEATMAP
        from featherpose.methods.tags.loss import pull_and_push

        total, parts = torch.zeros((), device=values["tags"].device), {}
        for number, stage in enumerate(stages):
            heatmaps, _ = HEATMAP.loss(
                [{"heatmaps": stage["heatmaps"]}], {"heatmaps": values["heatmaps"]}, {"heatmaps": masks["heatmaps"]},
                config, skeleton, probabilities=probabilities,
            )  # fmt: skip
            pull, push = pull_and_push(stage["tags"].float(), values["tags"])
            # The paper weights tags by 1e-3 against a squared error averaged over cells and keypoints (section 4).
            weight = 1e-3 * len(skeleton.keypoints) if config.kind == "l2" else 0.3
            parts[f"heatmaps_{number}"] = heatmaps.detach()
            parts[f"pull_{number}"], parts[f"push_{number}"] = pull.detach(), push.detach()
            total = total + heatmaps + weight * (pull + push)
        return total, parts


TAGS = TagMethod()
"""The method, as a value."""


def from_the_head_down(skeleton: Skeleton) -> Int64[np.ndarray, " K"]:
    """Return the order in which keypoints are grouped: the trunk of the body first, then what hangs from it.

    The published order for COCO is the skeleton's own with the head first; shoulders and hips, which are easiest to
    tell apart, come before elbows and knees, those before wrists and ankles. Keypoints of other names come last.

    Example:
        >>> from featherpose.skeleton import COCO_17
        >>> [COCO_17.keypoints[k] for k in from_the_head_down(COCO_17)[:6]]
        ['nose', 'left_eye', 'right_eye', 'left_ear', 'right_ear', 'left_shoulder']
    """
    parts = ("head", "nose", "eye", "ear", "neck", "shoulder", "hip", "elbow", "knee", "wrist", "ankle")

    def rank(k: int) -> tuple[int, int]:
        name = skeleton.keypoints[k]
        return next((n for n, part in enumerate(parts) if part in name), len(parts)), k

    return np.array(sorted(range(skeleton.num_keypoints), key=rank), np.int64)
