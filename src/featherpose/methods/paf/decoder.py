"""Maps to people: peaks, limbs, groups, and back to pixels of the source image."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32

from featherpose.errors import ModelError
from featherpose.geometry import Letterbox
from featherpose.methods.paf.correction import can_correct, correct_keypoints
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.expectation import complete_by_expectation
from featherpose.methods.paf.grouping import Groups, complete_people, group_limbs
from featherpose.methods.paf.limbs import match_limbs
from featherpose.methods.paf.maps import Maps
from featherpose.methods.paf.peaks import Peaks, find_peaks
from featherpose.methods.paf.pose_prior import pose_prior
from featherpose.methods.paf.ranked import place_peaks, rank_groups, read_people, settle_people
from featherpose.poses import Candidates, Poses
from featherpose.rating.rate import can_rate, load_rating, rate_people
from featherpose.skeleton import Skeleton

__all__ = ["PafDecoder"]


class _Tables(NamedTuple):
    """A skeleton as the kernels read it."""

    limbs: Int32[np.ndarray, "L 4"]
    joins: Bool[np.ndarray, " L"]


def _plain(maps: Float32[np.ndarray, "C h w"]) -> Float32[np.ndarray, "C h w"]:
    """Return the maps as read-only, contiguous float32: one type for the compiler, and no kernel can write to them."""
    plain = np.ascontiguousarray(maps, np.float32).view()
    plain.flags.writeable = False
    return plain


class PafDecoder:
    """Decodes heatmaps and part affinity fields into people.

    Stateless between calls and free of the GIL in all heavy parts: one decoder may serve any number of threads. There
    is no limit on the number of people.

    Args:
        skeleton: What the channels of the maps are.
        options: Rules; ``PafOptions()`` are the better ones, ``PafOptions.published()`` the papers'.

    Example:
        >>> from featherpose.methods.paf.encode import encode_maps
        >>> from featherpose.skeleton import Skeleton
        >>> arm = Skeleton.create("arm", ["shoulder", "elbow", "hand"], [("shoulder", "elbow"), ("elbow", "hand")])
        >>> person = np.array([[[20, 20], [60, 30], [90, 60]]], np.float32)
        >>> maps = encode_maps(person, arm, (128, 96))
        >>> decode = PafDecoder(arm, PafOptions())
        >>> box = Letterbox.fit((128, 96), height=96, multiple=8)
        >>> poses = decode(maps, box)
        >>> poses
        Poses(1 people, arm, 128x96)
        >>> bool(np.abs(poses.keypoints - person).max() < 1)
        True
    """

    def __init__(self, skeleton: Skeleton, options: PafOptions | None = None) -> None:
        self.skeleton = skeleton
        self.options = options or PafOptions()
        limbs = [(*ends, *channels) for ends, channels in zip(skeleton.limbs, skeleton.paf_channels, strict=True)]
        joins = np.ones(len(limbs), np.bool_)
        joins[list(skeleton.loop_limbs)] = False
        self._prior = pose_prior(skeleton)
        self._tables = _Tables(np.array(limbs, np.int32).reshape(-1, 4), joins)

    def __repr__(self) -> str:
        return f"PafDecoder({self.skeleton.name}, {self.options})"

    def __call__(self, maps: Maps, letterbox: Letterbox, *, options: PafOptions | None = None) -> Poses:
        """Decode everyone in one image, best first, in pixels of the source image.

        Args:
            maps: The network's output; read, never modified.
            letterbox: How the image became the network input.
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
        return self._finish(peaks, groups, pixels, maps, letterbox, rules)

    def peaks(self, maps: Maps, options: PafOptions | None = None) -> Peaks:
        """Run the first stage alone: candidate keypoints in heatmap cells."""
        rules = options or self.options
        weakest = rules.peak_threshold if rules.weak_peak_threshold is None else rules.weak_peak_threshold
        return find_peaks(
            _plain(maps.heatmaps),
            self.skeleton.num_keypoints,
            threshold=weakest,
            suppression_radius=rules.suppression_radius_px / maps.heatmap_stride,
        )

    def candidates(self, maps: Maps, letterbox: Letterbox, min_score: float) -> Candidates:
        """Every peak over a score, whether or not it belongs to anybody, in pixels of the source image."""
        peaks = find_peaks(
            _plain(maps.heatmaps),
            self.skeleton.num_keypoints,
            threshold=min_score,
            suppression_radius=self.options.suppression_radius_px / maps.heatmap_stride,
        )
        stride = np.float32(maps.heatmap_stride)
        counts = np.diff(peaks.starts)
        return Candidates(
            letterbox.inverse(peaks.positions * stride + (stride - 1) / 2),
            np.minimum(peaks.scores, np.float32(1)),
            np.repeat(np.arange(len(counts), dtype=np.int32), counts),
            np.full(len(peaks.scores), 1 / letterbox.scale[1], np.float32),
            self.skeleton,
        )

    def _group(self, peaks: Peaks, maps: Maps, rules: PafOptions) -> tuple[Groups, Float32[np.ndarray, "N 2"]]:
        """Return people as rows of peaks, and the peaks in network pixels."""
        pixels, cells, ends = place_peaks(
            peaks.positions, peaks.scores, peaks.starts,
            stride=maps.heatmap_stride, paf_stride=maps.paf_stride,
            threshold=None if rules.weak_peak_threshold is None else rules.peak_threshold,
        )  # fmt: skip
        pafs = _plain(maps.pafs)
        longest = rules.max_limb_length * max(pafs.shape[1:])
        limbs = match_limbs(
            cells, peaks.starts, ends, pafs, self._tables.limbs,
            samples=rules.limb_samples, threshold=rules.limb_threshold,
            min_part=rules.min_limb_support, every_cell=rules.limb_every_cell, max_length=longest,
            prefer_near_pairs=rules.prefer_near_pairs,
        )  # fmt: skip
        joins = np.ones_like(self._tables.joins) if rules.loop_limbs_join else self._tables.joins
        groups = group_limbs(
            peaks.scores, self.skeleton.num_keypoints, self._tables.limbs, joins, limbs.types, limbs.ends, limbs.scores
        )
        if rules.weak_peak_threshold is not None and len(groups.members):
            complete_people(
                groups, cells, peaks.scores, peaks.starts, pafs, self._tables.limbs,
                samples=rules.limb_samples, threshold=rules.weak_limb_threshold,
                min_part=rules.min_weak_limb_support, every_cell=rules.limb_every_cell,
                min_field=rules.weak_limb_threshold, max_length=longest, reach=rules.max_weak_limb_ratio,
            )  # fmt: skip
        return groups, pixels

    def _finish(
        self,
        peaks: Peaks,
        groups: Groups,
        pixels: Float32[np.ndarray, "N 2"],
        maps: Maps,
        letterbox: Letterbox,
        rules: PafOptions,
    ) -> Poses:
        members, ranks = rank_groups(groups, rules)
        if rules.pose_prior and self._prior is not None and len(members):
            members = complete_by_expectation(members, pixels, peaks.scores, peaks.starts, self._prior)
        members, ranks = settle_people(
            members, ranks, pixels, min_keypoints=rules.min_keypoints, half_px=rules.rank_size_px
        )
        if not len(members):
            return Poses.empty(self.skeleton, letterbox.source_size)
        points, scores, found = read_people(members, pixels, peaks.scores)
        if rules.correct and can_correct(self.skeleton):
            points = correct_keypoints(_plain(maps.heatmaps), maps.heatmap_stride, self.skeleton, points, found)
        poses = Poses(letterbox.inverse(points), scores, ranks, self.skeleton, letterbox.source_size)
        if not (rules.rate and can_rate(self.skeleton)):
            return poses
        ratings = rate_people(poses, "found", scale=letterbox.scale[1])
        order = np.argsort(-ratings, kind="stable")
        return replace(poses, scores=ratings)[order[ratings[order] >= np.float32(rules.min_rating)]]

    def warm_up(self) -> None:
        """Compile every kernel, or load it from disk, so that the first image is as fast as the next.

        Takes seconds on the first run ever and milliseconds afterwards; see `featherpose.jit.kernels_are_cached`.
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
            options=replace(
                self.options, weak_peak_threshold=0.0, suppression_radius_px=1.0, min_keypoints=1, min_mean_score=0.0
            ),
        )
        if self.options.rate and can_rate(self.skeleton):
            load_rating("found")
