"""One track a person: tracks that a tracker broke off or doubled, joined once the whole recording is known.

A tracker decides frame by frame. Where the network sees one body twice, the better pose may change from one id to the
other and back; after a few frames without anybody the same person gets a new id; and an id that lost its person may
turn up on somebody else. Afterwards all of it can be told:

* An **id that moved on** is farther away in its next frame than people of its size can run, or many times as large.
  There the track is parted.
* **Doubles** are seen in the same frames and in one place, and one of the two is clearly less sure. Two people of whom
  one stands in front of the other are both about as sure, or the one behind has no frame of its own in that place.
* **Successors** begin within a second of the end of another track, where that ended.

In each frame the surest pose is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from featherpose.motion.body_points import body_boxes
from featherpose.motion.sequence import PoseSequence, Step

__all__ = ["join_tracks"]

# Two boxes are in one place if they share this part of the smaller one, as a mean over the frames that tell.
_SAME_PLACE = 0.6
# A successor need not be in quite the same place, and may share a few frames: part of the shorter track.
_NEAR, _IN_COMMON = 0.4, 0.1
# The less sure one of two doubles has on average this share of the other's score or less.
_LESS_SURE = 0.8
# Body sizes that a box may move at once, as limbs come and go, and each second (sprinters run five statures).
_AT_ONCE = 0.5
_A_SECOND = 6.0
# A body of which only the face was seen becomes five times as large, never more.
_GROWS = 6.0
# A pose is sure with this share of its track's usual score. In machines a network sees people half as surely.
_SURE = 0.6
# Fewer sure frames than these tell nothing by themselves.
_ENOUGH = 3
# Shorter pieces of parted tracks are strays.
_STRAY_FRAMES = 5


@dataclass(slots=True, eq=False)
class _Track:
    """Pieces of tracks that are taken for one person: of each row whether anybody is there, and the surest pose."""

    pieces: list[tuple[int, int]]  # (place in the sequence, frames)
    seen: np.ndarray  # bool[T]
    boxes: np.ndarray  # float64[T, 4]
    sureness: np.ndarray  # float64[T]
    places: np.ndarray  # int64[T], whose pose it is

    @property
    def span(self) -> tuple[int, int]:
        rows = np.flatnonzero(self.seen)
        return int(rows[0]), int(rows[-1])

    @property
    def is_sure(self) -> np.ndarray:
        return np.asarray(self.sureness >= _SURE * np.median(self.sureness[self.seen]))

    def take_in(self, other: _Track) -> None:
        better = other.seen & (~self.seen | (other.sureness > self.sureness))
        for mine, theirs in (
            (self.boxes, other.boxes), (self.sureness, other.sureness), (self.places, other.places),
            (self.seen, other.seen),
        ):  # fmt: skip
            mine[better] = theirs[better]
        self.pieces += other.pieces


def join_tracks(sequence: PoseSequence, *, max_gap_s: float = 1.0) -> PoseSequence:
    """Join the tracks of one person.

    Args:
        sequence: Everyone, as the tracker followed them.
        max_gap_s: Longest time from the end of a track to the beginning of its successor.

    Returns:
        The sequence with fewer people; each keeps the id of their longest track. This is what was read for the steps
        that follow (``raw``), and a `Step` names the tracks. Unchanged if there is nothing to join.

    Example:
        >>> from featherpose.skeleton import Skeleton
        >>> points = np.full((30, 2, 2, 2), np.nan)
        >>> points[:20, 0] = points[22:, 1] = ((10.0, 10.0), (20.0, 60.0))
        >>> broken = PoseSequence.from_arrays(points, np.arange(30) / 30, Skeleton.create("stick", ["a", "b"], []))
        >>> join_tracks(broken).track_ids, join_tracks(broken).steps[0].text
        ((0,), 'joined 2 tracks of one person: 0 with 1')
    """
    times = sequence.timestamps_s
    tracks = sorted(_parted(sequence, max_gap_s), key=lambda track: track.span)
    i = 0
    while i < len(tracks):
        one = tracks[i]
        for j in range(i + 1, len(tracks)):
            if times[tracks[j].span[0]] - times[one.span[1]] > max_gap_s:
                break  # this one and all that follow begin too late
            if _doubles(one, tracks[j]) or _successors(one, tracks[j], times, max_gap_s):
                one.take_in(tracks.pop(j))
                i = -1  # earlier ones may have become neighbors
                break
        i += 1
    tracks = _whole_again(tracks)
    if all(len({place for place, _ in track.pieces}) == 1 for track in tracks) and len(tracks) == int(
        sequence.found.any((0, 2)).sum()
    ):
        return sequence
    return _joined(sequence, tracks, max_gap_s)


def _whole_again(tracks: list[_Track]) -> list[_Track]:
    """Put pieces that nobody else has taken back into their track."""
    kept: list[_Track] = []
    for track in sorted(tracks, key=lambda track: -int(track.seen.sum())):
        alone = len(track.pieces) == 1
        home = next((k for k in kept if alone and track.pieces[0][0] in [place for place, _ in k.pieces]), None)
        if home is not None and not (home.seen & track.seen).any():
            home.take_in(track)
        else:
            kept.append(track)
    return kept


def _parted(sequence: PoseSequence, max_gap_s: float) -> list[_Track]:
    boxes = body_boxes(sequence)
    sureness = sequence.scores.mean(-1)
    tracks = []
    for p in range(sequence.num_people):
        rows = np.flatnonzero(np.isfinite(boxes[:, p, 0]))
        if not len(rows):
            continue
        box = boxes[rows, p]
        centers = (box[:, :2] + box[:, 2:]) / 2
        sizes = _sizes(box)
        # Boxes that meet may be one body of which limbs came or went; two that lie apart are as large as the smaller.
        size = np.where(_overlap(box[:-1], box[1:]) > 0, np.median(sizes), np.minimum(sizes[:-1], sizes[1:]))
        allowed = size * (_AT_ONCE + _A_SECOND * np.diff(sequence.timestamps_s[rows]))
        cuts = (np.hypot(*np.diff(centers, axis=0).T) > allowed) | (np.diff(sequence.timestamps_s[rows]) > max_gap_s)
        cuts |= _grows(sizes[:-1], sizes[1:])
        for piece in np.split(rows, np.flatnonzero(cuts) + 1):
            seen = np.zeros(sequence.num_frames, bool)
            seen[piece] = True
            places = np.full(sequence.num_frames, p)
            tracks.append(
                _Track([(p, len(piece))], seen, boxes[:, p].copy(), np.where(seen, sureness[:, p], 0.0), places)
            )
    return tracks


def _sizes(boxes: np.ndarray) -> np.ndarray:
    """Return the diagonals of boxes [..., 4]."""
    return np.asarray(np.hypot(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]))


def _grows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether one size is so many times the other that they are not of one body."""
    return np.asarray(np.maximum(one, other) > _GROWS * np.minimum(one, other))


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the shared part of the smaller of two boxes [..., 4]."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    areas = [np.prod(box[..., 2:] - box[..., :2] + 1, axis=-1) for box in (first, second)]
    return np.asarray(np.prod(np.clip(sides + 1, 0, None), axis=-1) / np.minimum(*areas))


def _doubles(one: _Track, other: _Track) -> bool:
    both = np.flatnonzero(one.seen & other.seen)
    # Where a track has lost its person for a moment, it is anywhere.
    sure = both[(one.is_sure & other.is_sure)[both]]
    both = sure if len(sure) >= _ENOUGH else both
    if not len(both) or _overlap(one.boxes[both], other.boxes[both]).mean() < _SAME_PLACE:
        return False
    first, second = one.sureness[both], other.sureness[both]
    if (np.minimum(first, second) / np.maximum(np.maximum(first, second), 1e-9)).mean() > _LESS_SURE:
        return False
    # Each has frames in which it stands for the person; else one of them is somebody behind, or nothing.
    return all(
        bool((mine > theirs).any()) or bool((a.seen & ~b.seen).any())
        for a, b, mine, theirs in ((one, other, first, second), (other, one, second, first))
    )


def _successors(one: _Track, other: _Track, times: np.ndarray, max_gap_s: float) -> bool:
    """Whether one goes on where the other ends, in turns if need be; they have hardly a frame in common."""
    if (one.seen & other.seen).sum() > _IN_COMMON * min(one.seen.sum(), other.seen.sum()):
        return False
    rows = np.flatnonzero(one.seen | other.seen)
    turns = np.flatnonzero(np.diff(one.seen[rows].astype(np.int8)))
    before, after = rows[turns], rows[turns + 1]
    near = times[after] - times[before] <= max_gap_s
    if not near.any():
        return False
    boxes = np.where(one.seen[:, None], one.boxes, other.boxes)
    first, second = boxes[before[near]], boxes[after[near]]
    if _grows(_sizes(first), _sizes(second)).any():
        return False
    return bool(_overlap(first, second).mean() >= _NEAR)


def _joined(sequence: PoseSequence, tracks: list[_Track], max_gap_s: float) -> PoseSequence:
    kept, ids, said, changed, count = [], [], [], 0, 0
    rows = np.arange(sequence.num_frames)
    free = max(sequence.track_ids) + 1
    # The longest first, so that it has its id before a shorter piece of the same track asks for it.
    for track in sorted(tracks, key=lambda track: -int(track.seen.sum())):
        frames: dict[int, int] = {}
        for place, length in track.pieces:
            frames[place] = frames.get(place, 0) + length
        longest = max(frames, key=lambda place: (frames[place], -place))
        number = sequence.track_ids[longest]
        if number in ids:
            if int(track.seen.sum()) < _STRAY_FRAMES:
                continue
            number, free = free, free + 1
        points = np.where(track.seen[:, None, None], sequence.keypoints[rows, track.places], np.nan)
        kept.append((number, points, np.where(track.seen[:, None], sequence.scores[rows, track.places], 0.0)))
        ids.append(number)
        changed += int((track.seen & (track.places != longest)).sum()) * sequence.skeleton.num_keypoints
        if others := sorted({sequence.track_ids[place] for place in frames} - {sequence.track_ids[longest]}):
            said.append(f"{number} with {', '.join(map(str, others))}")
            count += len(others) + 1
    kept.sort(key=lambda one: one[0])
    whom = "one person" if len(said) == 1 else f"{len(said)} people"
    text = f"joined {count} tracks of {whom}: {'; '.join(said)}" if said else "parted tracks that changed the person"
    return PoseSequence(
        np.stack([points for _, points, _ in kept], 1),
        np.stack([scores for _, _, scores in kept], 1),
        sequence.timestamps_s,
        sequence.frames,
        tuple(number for number, _, _ in kept),
        sequence.skeleton,
        sequence.image_size,
        sequence.unit,
        (*sequence.steps, Step("join_tracks", {"max_gap_s": max_gap_s}, changed, text)),
    )
