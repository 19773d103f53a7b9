"""Maps to people: peaks, limbs, groups, and back to pixels of the source picture."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from featherpose.codecs.paf.grouping import Groups, complete_people, group_limbs
from featherpose.codecs.paf.limbs import match_limbs
from featherpose.codecs.paf.maps import Maps
from featherpose.codecs.paf.options import DecodeOptions
from featherpose.codecs.paf.peaks import Peaks, find_peaks
from featherpose.errors import ModelError
from featherpose.geometry import Letterbox
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["PafDecoder"]


class _Tables(NamedTuple):
    """A skeleton as the kernels read it."""

    limbs: Int32[np.ndarray, "L 4"]
    joins: Bool[np.ndarray, " L"]


def _plain(maps: Float32[np.ndarray, "C h w"]) -> Float32[np.ndarray, "C h w"]:
    """The maps as read-only, contiguous float32: one type for the compiler, and proof that nothing writes to them."""
    plain = np.ascontiguousarray(maps, np.float32).view()
    plain.flags.writeable = False
    return plain


class PafDecoder:
    """Decodes heatmaps and part affinity fields into people.

    Stateless between calls and free of the GIL in all heavy parts: one decoder may serve any number of threads. There
    is no limit on the number of people.

    Args:
        skeleton: What the channels of the maps are.
        options: Rules; ``DecodeOptions()`` are the better ones, ``DecodeOptions.published()`` the papers'.

    Example:
        >>> from featherpose.codecs.paf.encode import encode_maps
        >>> from featherpose.skeleton import Skeleton
        >>> arm = Skeleton.create("arm", ["shoulder", "elbow", "hand"], [("shoulder", "elbow"), ("elbow", "hand")])
        >>> person = np.array([[[20, 20], [60, 30], [90, 60]]], np.float32)
        >>> maps = encode_maps(person, arm, (128, 96))
        >>> decode = PafDecoder(arm, DecodeOptions())
        >>> box = Letterbox.fit((128, 96), height=96, multiple=8)
        >>> poses = decode(maps, box)
        >>> poses
        Poses(1 people, arm, 128x96)
        >>> bool(np.abs(poses.keypoints - person).max() < 1)
        True
    """

    def __init__(self, skeleton: Skeleton, options: DecodeOptions | None = None) -> None:
        self.skeleton = skeleton
        self.options = options or DecodeOptions()
        limbs = [(*ends, *channels) for ends, channels in zip(skeleton.limbs, skeleton.paf_channels, strict=True)]
        joins = np.ones(len(limbs), np.bool_)
        joins[list(skeleton.redundant_limbs)] = False
        self._tables = _Tables(np.array(limbs, np.int32).reshape(-1, 4), joins)

    def __repr__(self) -> str:
        return f"PafDecoder({self.skeleton.name}, {self.options})"

    def __call__(self, maps: Maps, letterbox: Letterbox, *, options: DecodeOptions | None = None) -> Poses:
        """Everyone in one picture, best first, in pixels of the source picture.

        Args:
            maps: The network's output; read, never modified.
            letterbox: How the picture became the network input.
            options: Rules for this call instead of the decoder's.

        Raises:
            ModelError: If the maps have fewer channels than the skeleton needs.
        """
        rules = options or self.options
        skeleton = self.skeleton
        if maps.heatmaps.shape[0] < skeleton.num_keypoints or maps.pafs.shape[0] < 2 * skeleton.num_limbs:
            raise ModelError(
                f"maps with {maps.heatmaps.shape[0]} heatmaps and {maps.pafs.shape[0]} PAF channels",
                expected=f"at least {skeleton.num_keypoints} and {2 * skeleton.num_limbs} "
                f"for skeleton {skeleton.name!r}",
                hint="give the skeleton that the model was trained with",
            )
        peaks = self.peaks(maps, rules)
        groups, pixels = self._group(peaks, maps, rules)
        return self._finish(peaks, groups, pixels, letterbox, rules)

    def peaks(self, maps: Maps, options: DecodeOptions | None = None) -> Peaks:
        """The first stage alone: candidate keypoints in heatmap cells."""
        rules = options or self.options
        weakest = rules.peak_threshold if rules.weak_peak_threshold is None else rules.weak_peak_threshold
        return find_peaks(
            _plain(maps.heatmaps),
            self.skeleton.num_keypoints,
            threshold=weakest,
            suppression_radius=rules.suppression_radius_px / maps.heatmap_stride,
        )

    def _group(self, peaks: Peaks, maps: Maps, rules: DecodeOptions) -> tuple[Groups, Float32[np.ndarray, "N 2"]]:
        """People as rows of peaks, and the peaks in network pixels."""
        pixels = peaks.positions * np.float32(maps.heatmap_stride) + np.float32((maps.heatmap_stride - 1) / 2)
        if maps.heatmap_stride == maps.paf_stride:
            cells = peaks.positions
        else:
            cells = (pixels - np.float32((maps.paf_stride - 1) / 2)) / np.float32(maps.paf_stride)
        pafs = _plain(maps.pafs)
        longest = rules.max_limb_length * max(pafs.shape[1:])
        ends = peaks.starts[1:]
        if rules.weak_peak_threshold is not None:
            # Peaks of one keypoint are sorted: those that may start a limb come first.
            strong = np.concatenate(([0], np.cumsum(peaks.scores > rules.peak_threshold)))
            ends = (peaks.starts[:-1] + strong[peaks.starts[1:]] - strong[peaks.starts[:-1]]).astype(np.int32)
        limbs = match_limbs(
            cells, peaks.starts, ends, pafs, self._tables.limbs,
            samples=rules.limb_samples, threshold=rules.limb_threshold,
            min_part=rules.limb_min_part, every_cell=rules.limb_every_cell, max_length=longest,
            near_first=rules.near_first,
        )  # fmt: skip
        joins = np.ones_like(self._tables.joins) if rules.redundant_limbs_join else self._tables.joins
        groups = group_limbs(
            peaks.scores, self.skeleton.num_keypoints, self._tables.limbs, joins, limbs.types, limbs.ends, limbs.scores
        )
        if rules.weak_peak_threshold is not None and len(groups.members):
            complete_people(
                groups, cells, peaks.scores, peaks.starts, pafs, self._tables.limbs,
                samples=rules.limb_samples, threshold=rules.weak_limb_threshold,
                min_part=rules.weak_limb_min_part, every_cell=rules.limb_every_cell,
                min_field=rules.weak_limb_threshold, max_length=longest, reach=rules.weak_limb_reach,
            )  # fmt: skip
        return groups, pixels

    def _finish(
        self,
        peaks: Peaks,
        groups: Groups,
        pixels: Float32[np.ndarray, "N 2"],
        letterbox: Letterbox,
        rules: DecodeOptions,
    ) -> Poses:
        found = groups.members >= 0
        counts = found.sum(axis=1)
        means = groups.sums / np.maximum(counts, 1)
        if rules.rank_exponent is None:
            ranks = groups.sums * (counts - 1)
        else:
            ranks = means * counts**rules.rank_exponent
        order = np.argsort(-ranks, kind="stable")
        order = order[((counts >= rules.min_keypoints) & (means >= rules.min_mean_score))[order]]
        if not len(order):
            return Poses.empty(self.skeleton, letterbox.source_size)
        members, found = groups.members[order], found[order]
        keypoints = letterbox.inverse(pixels)[members]
        keypoints[~found] = np.nan
        scores = np.where(found, np.minimum(peaks.scores, np.float32(1))[members], np.float32(0))
        return Poses(keypoints, scores, ranks[order].astype(np.float32), self.skeleton, letterbox.source_size)

    def warm_up(self) -> None:
        """Compile every kernel, or load it from disk, so that the first picture is as fast as the next.

        Takes seconds on the first run ever and milliseconds afterwards; see `compiling.kernels_are_cached`.
        """
        k, channels = self.skeleton.num_keypoints, 2 * self.skeleton.num_limbs
        heatmaps = np.zeros((k, 8, 8), np.float32)
        heatmaps[:, 4, 4] = 1
        pafs = np.ones((channels, 8, 8), np.float32)
        for limb, (a, b) in enumerate(self.skeleton.limbs[:1]):  # one real limb, so that every stage has work
            heatmaps[a, 4, 4], heatmaps[a, 1, 1] = 0, 1
            pafs[list(self.skeleton.paf_channels[limb])] = 1
            heatmaps[b, 4, 4] = 1
        self(
            Maps(heatmaps, pafs),
            Letterbox.fit((64, 64), height=64, multiple=8),
            options=replace(self.options, weak_peak_threshold=0.0, suppression_radius_px=1.0),
        )
