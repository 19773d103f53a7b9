"""HOTA, IDF1, identity switches: TrackEval's metrics on poses, with OKS in place of box overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Float64

from featherpose.errors import DatasetError, FeatherposeError
from featherpose.poses import Poses
from featherpose.tracking.motion import pose_sizes

__all__ = ["TrackingScores", "combine_scores", "score_tracking", "truth_oks"]

# Pairs of truth and result below this similarity do not count as found, for IDF1, switches and MOTA; HOTA averages
# over thresholds from 0.05 to 0.95.
_MATCH_OKS = 0.5


@dataclass(frozen=True, slots=True)
class TrackingScores:
    """Tracking metrics, all but the counts in 0..1, higher is better.

    Attributes:
        hota: Higher order tracking accuracy (Luiten et al. 2021), the geometric mean of the next two.
        deta: Detection accuracy.
        assa: Association accuracy.
        idf1: F1 of identities (Ristani et al. 2016).
        mota: CLEAR accuracy (Bernardin and Stiefelhagen 2008).
        switches: How often the id of a person changed.
        ids: How many ids were given.
        people: How many people there are.
        raw: TrackEval's own numbers, for `combine_scores`.
    """

    hota: float
    deta: float
    assa: float
    idf1: float
    mota: float
    switches: int
    ids: int
    people: int
    raw: Mapping[str, Any]

    def summary(self) -> dict[str, float | int]:
        """Return the numbers by name, rounded to four places."""
        names = ("hota", "deta", "assa", "idf1", "mota")
        return {name: round(float(getattr(self, name)), 4) for name in names} | {
            "switches": self.switches,
            "ids": self.ids,
            "people": self.people,
        }


def truth_oks(truth: Poses, found: Poses) -> Float64[np.ndarray, "P Q"]:
    """Return the OKS as COCO scores it: over the annotated keypoints; a missing one counts 0.

    The area is the square of the true person's size (`featherpose.tracking.motion.pose_sizes`).
    """
    if len(truth) == 0 or len(found) == 0:
        return np.zeros((len(truth), len(found)))
    variances = (2 * np.asarray(truth.skeleton.sigmas)) ** 2
    area = pose_sizes(truth.keypoints).astype(np.float64) ** 2
    distance = ((truth.keypoints[:, None] - found.keypoints[None]) ** 2).sum(-1)
    terms = np.exp(-np.nan_to_num(distance, nan=np.inf) / (2 * area[:, None, None] * variances))
    return np.asarray(terms.sum(-1) / np.maximum(truth.detected.sum(1), 1)[:, None])


def _metrics() -> tuple[Any, Any, Any]:
    try:
        metrics = import_module("trackeval.metrics")
    except ImportError as error:
        raise FeatherposeError(
            "tracking metrics need the package trackeval",
            hint="run: pip install --no-deps trackeval "
            "(its dependency opencv-python would displace opencv-python-headless)",
        ) from error
    quiet = {"THRESHOLD": _MATCH_OKS, "PRINT_CONFIG": False}
    return metrics.HOTA(), metrics.Identity(quiet), metrics.CLEAR(quiet)


def score_tracking(truth: Sequence[Poses], tracked: Sequence[Poses]) -> TrackingScores:
    """Compare ids with the ground truth.

    Args:
        truth: The people of each frame with their true ids.
        tracked: The people of each frame as tracked; those with id -1 are left out.

    Raises:
        DatasetError: If the numbers of frames differ or people have no ids at all.
        FeatherposeError: If TrackEval is not installed.
    """
    if len(truth) != len(tracked):
        raise DatasetError(f"{len(tracked)} frames of results", expected=f"{len(truth)} as annotated")
    gt_ids: list[np.ndarray] = []
    tracker_ids: list[np.ndarray] = []
    similarities: list[np.ndarray] = []
    for frame, (true, found) in enumerate(zip(truth, tracked, strict=True)):
        if true.track_ids is None or found.track_ids is None:
            raise DatasetError(f"frame {frame} has people without ids", expected="track ids in truth and results")
        counted = found.track_ids >= 0
        gt_ids.append(true.track_ids)
        tracker_ids.append(found.track_ids[counted])
        found = found[counted]
        similarities.append(truth_oks(true, found))
    gt, people = _contiguous(gt_ids)
    result, ids = _contiguous(tracker_ids)
    data = {
        "num_timesteps": len(truth),
        "num_gt_ids": people,
        "num_tracker_ids": ids,
        "num_gt_dets": sum(len(a) for a in gt),
        "num_tracker_dets": sum(len(a) for a in result),
        "gt_ids": gt,
        "tracker_ids": result,
        "similarity_scores": similarities,
    }
    hota, identity, clear = _metrics()
    raw = {
        "hota": hota.eval_sequence(data),
        "identity": identity.eval_sequence(data),
        "clear": clear.eval_sequence(data),
        "ids": ids,
        "people": people,
    }
    return _scores(raw)


def combine_scores(scores: Sequence[TrackingScores]) -> TrackingScores:
    """Combine the scores of several sequences as TrackEval does: counts are added, averages are not averaged."""
    hota, identity, clear = _metrics()
    named = {part: {str(i): s.raw[part] for i, s in enumerate(scores)} for part in ("hota", "identity", "clear")}
    return _scores(
        {
            "hota": hota.combine_sequences(named["hota"]),
            "identity": identity.combine_sequences(named["identity"]),
            "clear": clear.combine_sequences(named["clear"]),
            "ids": sum(s.ids for s in scores),
            "people": sum(s.people for s in scores),
        }
    )


def _scores(raw: Mapping[str, Any]) -> TrackingScores:
    return TrackingScores(
        hota=float(np.mean(raw["hota"]["HOTA"])),
        deta=float(np.mean(raw["hota"]["DetA"])),
        assa=float(np.mean(raw["hota"]["AssA"])),
        idf1=float(raw["identity"]["IDF1"]),
        mota=float(raw["clear"]["MOTA"]),
        switches=int(raw["clear"]["IDSW"]),
        ids=int(raw["ids"]),
        people=int(raw["people"]),
        raw=raw,
    )


def _contiguous(ids: Sequence[np.ndarray]) -> tuple[list[np.ndarray], int]:
    known = np.unique(np.concatenate([np.empty(0, np.int64), *ids]))
    return [np.searchsorted(known, a).astype(np.int64) for a in ids], len(known)
