"""A video in pieces against the whole one: the same people, the same ids.

    python benchmarks/batch_videos.py [--data ../shared] [--out benchmarks/results]

one-by-one.mp4 goes through a real batch run with nine pieces of 17 s and through `process_stream`. Rendered crossings
have detections but no pixels: they go through pieces on disk and the joining of a worker, and through one tracker.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from reports import publish

import featherpose
from featherpose import (
    BatchOptions,
    DetectionOptions,
    PoseEstimator,
    PoseTracker,
    open_source,
    process_stream,
    run_batch,
)
from featherpose.cluster.storage import Store
from featherpose.cluster.videos import Piece, cut_at_key_frames, piece_name, read_piece, write_piece
from featherpose.evaluation.tracking.detector_noise import released_errors
from featherpose.evaluation.tracking.scenes import render_scene
from featherpose.evaluation.tracking.simulate import detect
from featherpose.tracking import Follower

_SEGMENT_S = 17.0
_PIECES = 8


def film(path: Path, work: Path) -> dict[str, Any]:
    """Compare a real video."""
    detection = replace(DetectionOptions(quality="fast"), segment_s=_SEGMENT_S)
    summary = run_batch([str(path)], str(work / "out"), BatchOptions(detection=detection, workers=2))
    split = {record.frame: record.poses for record in featherpose.read_results(str(work / "out"))}
    frames = people = same_poses = same_ids = 0
    with open_source(path) as source, PoseEstimator(quality="fast", threads=1) as estimator:
        for result in process_stream(source, estimator, PoseTracker()):
            frames += 1
            other = split.get(result.frame.index)
            people += len(result.poses)
            if other is None or len(other) != len(result.poses):
                continue
            near = np.nan_to_num(np.abs(other.keypoints - result.poses.keypoints)).max(axis=(1, 2)) <= 0.011
            same_poses += int(near.sum())
            assert other.track_ids is not None
            same_ids += int((other.track_ids == result.poses.track_ids).sum())
    return {
        "pieces": len(cut_at_key_frames(path, _SEGMENT_S)), "frames": frames, "frames_in_batch": summary.counts.frames,
        "person_frames": people, "same_pose": same_poses, "same_id": same_ids,
        "same_id_share": round(same_ids / people, 5),
    }  # fmt: skip


def crossing(people: int, seed: int, work: Path) -> dict[str, Any]:
    """Compare a rendered scene, cut into eight pieces."""
    scene = render_scene("crossing", people, seed=seed)
    poses = detect(scene, released_errors(), seed=seed)
    times = scene.timestamps_s.tolist()
    store, skeleton = Store(str(work)), poses[0].skeleton
    borders = np.linspace(0, len(poses), _PIECES + 1).astype(int)
    for i, (start, end) in enumerate(itertools.pairwise(borders)):
        frames = [(n, times[n], poses[n]) for n in range(start, end)]
        write_piece(store, piece_name(seed, i), Piece.of_frames(frames, skeleton))
    follower, tracker, total, same = Follower(PoseTracker(), smoothing=False), PoseTracker(), 0, 0
    for i in range(_PIECES):
        piece = read_piece(store, piece_name(seed, i), skeleton)
        assert piece is not None
        for frame, time_s, found in piece:
            joined, whole = follower.update(found, time_s), tracker.update(poses[frame], times[frame])
            assert joined.track_ids is not None
            assert whole.track_ids is not None
            total, same = total + len(whole), same + int((joined.track_ids == whole.track_ids).sum())
    return {"people": people, "seed": seed, "person_frames": total, "same_id": same}


def main() -> None:
    """Compare everything and publish the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="featherpose-videos-") as folder:
        work = Path(folder)
        report = {
            "one-by-one.mp4": film((options.data / "data/videos/one-by-one.mp4").resolve(), work),
            "crossings": [crossing(people, seed, work / "scenes") for people in (2, 4, 8) for seed in range(3)],
        }
    publish(report, options.out / "batch_videos.json")


if __name__ == "__main__":
    main()
