"""Error statistics of a pose network, measured on photographs and videos.

`measure_errors` compares detections with annotations: missed people, missed joints, distances, and false people.
`measure_persistence` adds from a real video how long an error lasts, which photographs cannot show.
`featherpose.evaluation.tracking.simulate` then applies such errors to scenes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.errors import DatasetError
from featherpose.evaluation.tracking.metrics import truth_oks
from featherpose.files import write_bytes
from featherpose.parsing import Limits, ParseError, parse_json, read_document
from featherpose.poses import Poses
from featherpose.skeleton import OPENPOSE_18, Skeleton
from featherpose.tracking.motion import pose_sizes

__all__ = ["DetectedImage", "DetectorErrors", "measure_errors", "measure_persistence", "released_errors"]

# A detection belongs to an annotated person from this OKS on; a fragment of a person is a poor detection, not a false
# person.
_FOUND_OKS = 0.1
_TEMPLATES = 48
_MAX_BYTES = 2**24
_Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class DetectedImage:
    """One photograph: annotated people, ignored regions, and detections.

    Attributes:
        truth: Annotated people; joints without annotation are missing.
        seen: bool[P, K], visible joints (the others are hidden, their place was guessed).
        ignore_boxes: float32[R, 4], crowds and people without keypoints.
        detected: People found by the network, in the same skeleton.
    """

    truth: Poses
    seen: np.ndarray
    ignore_boxes: np.ndarray
    detected: Poses


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorErrors:
    """Error statistics of one network at one input height. Lengths in sizes (`featherpose.tracking.track_options`).

    Attributes:
        provenance: Network, data and input height, in words.
        network_height_px: Input height at which they were measured.
        size_edges_px: Edges between the size classes, pixels of the network input.
        joint_edges: Edges between the classes of joints in sight.
        person_miss: [size class][joint class], share of people not found.
        keypoint_miss: [size class][K], share of joints in sight that were not found on people who were.
        hidden_found: [K], share of hidden joints that were found.
        jitter: [K], standard deviation per axis of a found joint, from the median distance.
        outlier_share: [K], share of found joints farther off than four of those.
        outlier_jitter: [K], standard deviation per axis of these.
        person_score: [size class], mean and standard deviation of a found person's mean keypoint score.
        keypoint_score_std: Standard deviation of a keypoint's score about its person's mean.
        fragments_per_person: False people beside each true one: fragments, or two people mixed up.
        false_positives_per_image: False people away from all true ones, in each image.
        false_people: Examples: each K rows of x, y (sizes, about their center) and score (0 = missing), and in front
            the center's offset from the true person (sizes) and their own size (true sizes); for those away from true
            people (0, 0) and their size in image heights.
        torn: Which examples are fragments.
        white_share: Share of the jitter's variance that is new in each frame; the rest stays for ``persistence_s``.
        persistence_s: Time constant of misses and of the slow jitter.
    """

    provenance: str
    network_height_px: int
    size_edges_px: tuple[float, ...]
    joint_edges: tuple[int, ...]
    person_miss: _Table
    keypoint_miss: _Table
    hidden_found: tuple[float, ...]
    jitter: tuple[float, ...]
    outlier_share: tuple[float, ...]
    outlier_jitter: tuple[float, ...]
    person_score: _Table
    keypoint_score_std: float
    fragments_per_person: float
    false_positives_per_image: float
    false_people: tuple[_Table, ...]
    torn: tuple[bool, ...]
    white_share: float = 0.5
    persistence_s: float = 0.3

    def save(self, path: Path) -> None:
        """Write the statistics as JSON.

        Raises:
            OutputError: If the file cannot be written.
        """
        write_bytes(path, (json.dumps(asdict(self), indent=None, separators=(",", ":")) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> DetectorErrors:
        """Read what `save` wrote.

        Raises:
            DatasetError: If the file is not such a file.
        """
        try:
            data = parse_json(read_document(path, _MAX_BYTES), Limits(max_bytes=_MAX_BYTES, max_values=10**6))
            return cls(**{f.name: _tuples(data[f.name]) for f in fields(cls)})
        except ParseError as error:
            raise DatasetError(f"{path} {error}", expected="detector statistics") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{path} holds no detector statistics ({error})") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def released_errors() -> DetectorErrors:
    """Return the statistics of the released Lightweight OpenPose network, which come with the package.

    Example:
        >>> errors = released_errors()
        >>> len(errors.jitter), errors.network_height_px
        (18, 256)
    """
    return DetectorErrors.load(Path(__file__).with_name("detector_noise.json"))


def measure_errors(
    images: Iterable[DetectedImage],
    *,
    network_height_px: int,
    provenance: str,
    skeleton: Skeleton = OPENPOSE_18,
    size_edges_px: tuple[float, ...] = (12, 24, 48),
    joint_edges: tuple[int, ...] = (4, 7, 12),
) -> DetectorErrors:
    """Compare detections with annotations.

    Raises:
        DatasetError: If there is nothing to compare.
    """
    k = skeleton.num_keypoints
    sizes_n, joints_n = len(size_edges_px) + 1, len(joint_edges) + 1
    people, missed = np.zeros((sizes_n, joints_n)), np.zeros((sizes_n, joints_n))
    joints, joints_missed = np.zeros((sizes_n, k)), np.zeros((sizes_n, k))
    hidden, hidden_found = np.zeros(k), np.zeros(k)
    distances: list[list[float]] = [[] for _ in range(k)]
    means: list[list[float]] = [[] for _ in range(sizes_n)]
    residuals: list[float] = []
    torn: list[_Table] = []
    ghosts: list[_Table] = []
    count = 0
    for image in images:
        count += 1
        truth, found = image.truth, image.detected
        to_network = network_height_px / truth.image_size[1]
        sizes = pose_sizes(truth.keypoints)
        oks = truth_oks(truth, found)
        partner = _pair(oks)
        for i, j in enumerate(partner):
            size_class = int(np.searchsorted(size_edges_px, sizes[i] * to_network))
            seen = image.seen[i]
            cell = size_class, int(np.searchsorted(joint_edges, seen.sum(), side="right"))
            people[cell] += 1
            missed[cell] += j < 0
            if j < 0:
                continue
            got = found.detected[j]
            joints[size_class] += seen
            joints_missed[size_class] += seen & ~got
            unseen = truth.detected[i] & ~seen
            hidden += unseen
            hidden_found += unseen & got
            off = np.hypot(*(found.keypoints[j] - truth.keypoints[i]).T) / sizes[i]
            for joint in np.flatnonzero(seen & got):
                distances[joint].append(float(off[joint]))
            scores = found.keypoint_scores[j][got]
            means[size_class].append(float(scores.mean()))
            residuals.extend((scores - scores.mean()).tolist())
        for j in sorted(set(range(len(found))) - set(partner)):
            points, scores = found.keypoints[j], found.keypoint_scores[j]
            center = np.nanmean(points, axis=0)
            boxes = image.ignore_boxes
            if any(b[0] <= center[0] <= b[2] and b[1] <= center[1] <= b[3] for b in boxes):
                continue
            size = float(pose_sizes(points[None])[0])
            shape = np.column_stack((np.nan_to_num((points - center) / size), scores))
            near = _nearest(truth, center)
            if near is None:
                head = (0.0, 0.0, size / truth.image_size[1])
                ghosts.append(_rounded(np.vstack((head, shape))))
            else:
                offset = (center - np.nanmean(truth.keypoints[near], axis=0)) / sizes[near]
                torn.append(_rounded(np.vstack(((*offset, size / sizes[near]), shape))))
    if count == 0 or people.sum() == 0:
        raise DatasetError("there are no annotated people to compare with")
    core = np.array([np.median(d) / 1.1774 if d else 0.05 for d in distances])  # the median of a Rayleigh distribution
    far = [np.array([x for x in d if x > 4 * c]) for d, c in zip(distances, core, strict=True)]
    rng = np.random.default_rng(0)
    examples = [
        [kind[i] for i in sorted(rng.choice(len(kind), min(_TEMPLATES, len(kind)), replace=False))]
        for kind in (torn, ghosts)
    ]
    # One person of each class is assumed to be found and one to be missed, so that no rate is 0 or 1 by chance.
    return DetectorErrors(
        provenance=provenance,
        network_height_px=network_height_px,
        size_edges_px=size_edges_px,
        joint_edges=joint_edges,
        person_miss=_rounded((missed + 1) / (people + 2)),
        keypoint_miss=_rounded((joints_missed + 1) / (joints + 2)),
        hidden_found=_rounded([(hidden_found + 1) / (hidden + 2)])[0],
        jitter=_rounded([core])[0],
        outlier_share=_rounded([[len(f) / max(len(d), 1) for f, d in zip(far, distances, strict=True)]])[0],
        outlier_jitter=_rounded([[float(np.sqrt((f**2).mean() / 2)) if len(f) else 0.0 for f in far]])[0],
        person_score=_rounded([[np.mean(m), np.std(m)] if m else [0.4, 0.1] for m in means]),
        keypoint_score_std=round(float(np.std(residuals)), 3),
        fragments_per_person=round(len(torn) / float(people.sum()), 4),
        false_positives_per_image=round(len(ghosts) / count, 4),
        false_people=tuple(examples[0] + examples[1]),
        torn=tuple([True] * len(examples[0]) + [False] * len(examples[1])),
    )


def measure_persistence(videos: Sequence[Sequence[tuple[float, Poses]]], errors: DetectorErrors) -> DetectorErrors:
    """Add how long errors last, from the detections (time in seconds, people) of real videos.

    Between three neighboring frames people hardly accelerate, so the second difference of a joint is jitter:
    its variance is six times that of the part that is new in each frame. A joint that is missing tends to stay so:
    with rates a of loss and b of return a frame, the correlation of neighboring frames is 1 - a - b. The median of
    the videos is taken.

    Raises:
        DatasetError: If a video shows no person in three frames in a row.
    """
    whites, lasting = zip(*(_persistence(frames) for frames in videos), strict=True)
    return replace(
        errors,
        white_share=round(min(1.0, (float(np.median(whites)) / float(np.mean(errors.jitter))) ** 2), 4),
        persistence_s=round(float(np.median(lasting)), 4),
    )


def _persistence(frames: Sequence[tuple[float, Poses]]) -> tuple[float, float]:
    """Return the standard deviation of the jitter new in each frame (sizes), and the time constant of misses (s)."""
    bends: list[float] = []
    steps: list[float] = []
    lost = kept = back = away = 0
    for (s0, a), (_, b), (s2, c) in zip(frames, frames[1:], frames[2:], strict=False):
        before, after = _pair(truth_oks(b, a), least=0.5), _pair(truth_oks(b, c), least=0.5)
        sizes = pose_sizes(b.keypoints)
        for i, (p, n) in enumerate(zip(before, after, strict=True)):
            if n >= 0:
                now, then = b.detected[i], c.detected[n]
                lost += int((now & ~then).sum())
                kept += int((now & then).sum())
                back += int((~now & then).sum())
                away += int((~now & ~then).sum())
            if p >= 0 and n >= 0:
                steps.append((s2 - s0) / 2)
                bend = (a.keypoints[p] - 2 * b.keypoints[i] + c.keypoints[n]) / sizes[i]
                bends.extend(np.abs(bend[~np.isnan(bend)]).tolist())
    if not bends or kept + lost == 0 or back + away == 0:
        raise DatasetError("a video shows nobody in three frames in a row")
    # 68 % of a normal distribution lie within one standard deviation; the jumps beyond are outliers, counted elsewhere.
    white = float(np.percentile(bends, 68.3)) / np.sqrt(6)
    correlation = min(max(1 - lost / (lost + kept) - back / (back + away), 1e-3), 0.999)
    return white, float(np.mean(steps)) / -float(np.log(correlation))


def _pair(oks: np.ndarray, least: float = _FOUND_OKS) -> list[int]:
    """Return for each row the column it is paired with, best pairs first; -1 for none."""
    partner = [-1] * oks.shape[0]
    left = oks.copy()
    while left.size and left.max() >= least:
        i, j = np.unravel_index(int(left.argmax()), left.shape)
        partner[int(i)] = int(j)
        left[i] = left[:, j] = -1
    return partner


def _nearest(truth: Poses, center: np.ndarray) -> int | None:
    """Return the annotated person in whose box (a quarter wider on each side) a point lies."""
    for i, (left, top, right, bottom) in enumerate(truth.boxes()):
        x, y = 0.25 * (right - left), 0.25 * (bottom - top)
        if left - x <= center[0] <= right + x and top - y <= center[1] <= bottom + y:
            return i
    return None


def _rounded(rows: Any) -> _Table:
    return tuple(tuple(round(float(v), 3) for v in row) for row in rows)
