"""Videos in pieces: where to cut, the people of a piece, and one tracker over all pieces.

Detection is what takes the time, and frames do not depend on each other there: pieces are detected side by side. The
tracker takes a thousandth of it, so it runs over the whole video once every piece is there. Ids are then those of an
unsplit run by construction; no overlap has to be matched.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from featherpose.cluster.retries import retried
from featherpose.cluster.storage import Store, locate
from featherpose.errors import SourceError, StoreError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["Piece", "cut_at_key_frames", "local_copy", "piece_name", "read_piece", "write_piece"]

_LEAST_PIECES_S = 1.5  # a video shorter than this many pieces is left whole


def cut_at_key_frames(path: Path, segment_s: float) -> list[tuple[float, float]]:
    """Return where to cut a video: (start, end) of each piece in seconds, 0 for its beginning and end.

    Cuts lie between a key frame and the frame before it, at least ``segment_s`` apart. Without PyAV (the ``video``
    extra), which tells where key frames are, or for a video that it cannot read, there is one piece.
    """
    from featherpose.media.sources.pyav_capture import has_pyav

    whole = [(0.0, 0.0)]
    if segment_s <= 0 or not has_pyav():
        return whole
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            tick_s = float(stream.time_base or 0)
            stamps = sorted(
                (packet.pts, bool(packet.is_keyframe))
                for packet in container.demux(stream)
                if packet.pts is not None and packet.size and not packet.is_discard
            )
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return whole
    if not stamps or tick_s <= 0 or (stamps[-1][0] - stamps[0][0]) * tick_s < _LEAST_PIECES_S * segment_s:
        return whole
    cuts, last_s = [0.0], 0.0
    for (before, _), (stamp, key) in itertools.pairwise(stamps):
        time_s = (stamp - stamps[0][0]) * tick_s
        if key and time_s - last_s >= segment_s:
            cuts.append(((before + stamp) / 2 - stamps[0][0]) * tick_s)
            last_s = time_s
    return list(zip(cuts, [*cuts[1:], 0.0], strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """The people of consecutive frames of a video, as they were detected.

    Attributes:
        frames: int64[T], number of each frame in the video.
        times_s: float64[T].
        counts: int64[T], people in each frame.
        poses: Everyone, frame after frame.
        problems: What was wrong with the video; empty for nothing.
    """

    frames: np.ndarray
    times_s: np.ndarray
    counts: np.ndarray
    poses: Poses
    problems: str = ""

    @classmethod
    def of_frames(cls, frames: list[tuple[int, float, Poses]], skeleton: Skeleton, problems: str = "") -> Piece:
        """Join the results of single frames."""
        some = [poses for _, _, poses in frames]
        size = some[0].image_size if some else (0, 0)
        everyone = Poses.empty(skeleton, size)
        if some:
            everyone = Poses(
                np.concatenate([p.keypoints for p in some]), np.concatenate([p.keypoint_scores for p in some]),
                np.concatenate([p.scores for p in some]), skeleton, size,
            )  # fmt: skip
        return cls(
            np.array([i for i, _, _ in frames], np.int64), np.array([t for _, t, _ in frames], np.float64),
            np.array([len(p) for p in some], np.int64), everyone, problems,
        )  # fmt: skip

    def __iter__(self) -> Iterator[tuple[int, float, Poses]]:
        end = 0
        for frame, time_s, count in zip(self.frames.tolist(), self.times_s.tolist(), self.counts.tolist(), strict=True):
            start, end = end, end + count
            yield frame, time_s, self.poses[start:end]


def piece_name(shard: int, segment: int) -> str:
    """Return where the people of a piece wait for the others."""
    return f"_work/pieces/{shard:08d}/{segment:06d}.npz"


def write_piece(store: Store, name: str, piece: Piece) -> None:
    """Write a piece, whole or not at all.

    Raises:
        OutputError, StoreError: If that fails.
    """
    out = io.BytesIO()
    np.savez_compressed(
        out, frames=piece.frames, times_s=piece.times_s, counts=piece.counts, keypoints=piece.poses.keypoints,
        keypoint_scores=piece.poses.keypoint_scores, scores=piece.poses.scores,
        size=np.array(piece.poses.image_size), problems=np.array(piece.problems),
    )  # fmt: skip
    store.write(name, out.getvalue())


def read_piece(store: Store, name: str, skeleton: Skeleton) -> Piece | None:
    """Return a piece; None if there is none, or it was cut off.

    Raises:
        StoreError: If the store fails.
    """
    data = store.read(name)
    if data is None:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            size = (int(arrays["size"][0]), int(arrays["size"][1]))
            poses = Poses(arrays["keypoints"], arrays["keypoint_scores"], arrays["scores"], skeleton, size)
            return Piece(arrays["frames"], arrays["times_s"], arrays["counts"], poses, str(arrays["problems"]))
    except (OSError, ValueError, KeyError, IndexError, EOFError, BadZipFile):
        return None


@contextlib.contextmanager
def local_copy(uri: str, patience_s: float) -> Iterator[Path]:
    """Give a path on the local disk for a video: its own, or that of a temporary copy.

    Raises:
        SourceError: If it cannot be read.
        StoreError: If its store does not answer.
    """
    place = locate(uri)
    if place.local is not None:
        yield place.local
        return
    suffix = Path(place.path.partition("?")[0]).suffix
    handle, name = tempfile.mkstemp(prefix="featherpose-", suffix=suffix)
    os.close(handle)

    def copy() -> None:
        with place.fs.open_input_stream(place.path) as source, Path(name).open("wb") as target:
            while piece := source.read(2**22):
                target.write(piece)

    try:
        try:
            retried(copy, place.shown, 10.0 if place.web else patience_s)
        except FileNotFoundError as error:
            raise SourceError(f"there is no file {place.shown}") from error
        except OSError as error:
            reason = error.strerror or " ".join(str(error).split())[:300]
            kind = SourceError if place.web else StoreError
            raise kind(f"{place.shown} cannot be read: {reason}") from error
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
