"""Simulated detections with measured error statistics."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr

from featherpose.evaluation.tracking.detector_noise import DetectorErrors
from featherpose.evaluation.tracking.scenes import Scene
from featherpose.poses import Poses
from featherpose.tracking.motion import pose_sizes

__all__ = ["detect"]


def detect(scene: Scene, errors: DetectorErrors, *, seed: int) -> list[Poses]:
    """Return what the network would find in each frame of a scene, best first.

    Every error is a Gauss-Markov process of the measured persistence whose share of time above its threshold is the
    measured rate; so the rates hold in uneven frames too.
    """
    rng = np.random.default_rng([seed, 7])
    times = scene.timestamps_s
    frames, people, k = scene.visible.shape
    sizes = pose_sizes(scene.keypoints.reshape(-1, k, 2)).reshape(frames, people)
    seen_n = scene.visible.sum(2)
    to_network = errors.network_height_px / scene.image_size[1]
    size_class = np.searchsorted(errors.size_edges_px, sizes * to_network)
    joint_class = np.searchsorted(errors.joint_edges, seen_n, side="right")

    def lasting(*shape: int) -> np.ndarray:
        return _gauss_markov(rng, times, shape, errors.persistence_s)

    missed = ndtr(lasting(people)) < np.asarray(errors.person_miss)[size_class, joint_class]
    miss_joint = np.asarray(errors.keypoint_miss)[size_class]
    inside = ((scene.keypoints >= 0) & (scene.keypoints <= np.array(scene.image_size) - 1)).all(-1)
    guessable = inside & (seen_n >= 6)[..., None]
    chance = np.where(scene.visible, 1 - miss_joint, np.where(guessable, np.asarray(errors.hidden_found), 0.0))
    found = (ndtr(lasting(people, k)) < chance) & ~missed[..., None]

    white = rng.normal(size=(frames, people, k, 2))
    noise = np.sqrt(errors.white_share) * white + np.sqrt(1 - errors.white_share) * lasting(people, k, 2)
    wild = ndtr(lasting(people, k)) < np.asarray(errors.outlier_share)
    spread = np.where(wild, np.asarray(errors.outlier_jitter), np.asarray(errors.jitter))
    points = scene.keypoints + (noise * (spread * sizes[..., None])[..., None]).astype(np.float32)

    mean, std = np.moveaxis(np.asarray(errors.person_score)[size_class], -1, 0)
    scores = (mean + std * lasting(people))[..., None] + errors.keypoint_score_std * rng.normal(size=found.shape)
    scores = np.clip(scores, 0.05, 1.0)

    kinds = np.asarray(errors.torn)
    examples = [np.asarray(e, np.float32) for e in errors.false_people]
    false_on = {
        True: ndtr(lasting(people)) < errors.fragments_per_person,
        # False people appear in four places at most, each with a quarter of the rate.
        False: ndtr(lasting(4)) < errors.false_positives_per_image / 4,
    }
    places = rng.uniform(0.1, 0.9, (4, 2)) * scene.image_size
    choice: dict[tuple[bool, int], int] = {}
    out = []
    for frame in range(frames):
        some_points = [points[frame][found[frame].sum(1) >= 3]]
        keep = found[frame].sum(1) >= 3
        some_points[0] = np.where(found[frame][keep][..., None], some_points[0], np.float32(np.nan))
        some_scores = [np.where(found[frame][keep], scores[frame][keep], 0).astype(np.float32)]
        for torn, on in false_on.items():
            for slot in range(on.shape[1]):
                if not on[frame, slot]:
                    choice.pop((torn, slot), None)
                    continue
                if torn and seen_n[frame, slot] < 3:
                    continue
                candidates = np.flatnonzero(kinds == torn)
                if len(candidates) == 0:
                    continue
                if (torn, slot) not in choice:
                    choice[torn, slot] = int(rng.choice(candidates))
                example = examples[choice[torn, slot]]
                if torn:
                    unit = float(sizes[frame, slot])
                    center = scene.keypoints[frame, slot].mean(0) + example[0, :2] * unit
                    size = example[0, 2] * unit
                else:
                    center, size = places[slot], example[0, 2] * scene.image_size[1]
                there = example[1:, 2] > 0
                wobble = float(np.mean(errors.jitter)) * rng.normal(size=(k, 2))
                shape = np.where(there[:, None], (example[1:, :2] + wobble) * size + center, np.nan)
                some_points.append(shape[None].astype(np.float32))
                some_scores.append(example[None, 1:, 2])
        out.append(_ranked(np.concatenate(some_points), np.concatenate(some_scores), scene))
    return out


def _ranked(points: np.ndarray, scores: np.ndarray, scene: Scene) -> Poses:
    counts = np.maximum((scores > 0).sum(1), 1)
    rank = (scores.sum(1) / np.sqrt(counts)).astype(np.float32)
    order = np.argsort(-rank, kind="stable")
    return Poses(points[order], scores[order].astype(np.float32), rank[order], scene.skeleton, scene.image_size)


def _gauss_markov(rng: np.random.Generator, times: np.ndarray, shape: tuple[int, ...], lasting_s: float) -> np.ndarray:
    out = rng.normal(size=(len(times), *shape))
    for t in range(1, len(times)):
        rho = np.exp(-(times[t] - times[t - 1]) / lasting_s)
        out[t] = rho * out[t - 1] + np.sqrt(1 - rho**2) * out[t]
    return out
