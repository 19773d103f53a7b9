"""A video that is split gives what the whole one gives; nothing here needs Ray."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import featherpose
from featherpose import PoseEstimator, PoseTracker, open_source, process_stream
from featherpose.cluster.batch_options import BatchOptions, DetectionOptions
from featherpose.cluster.detection import PoseDetector
from featherpose.cluster.inputs.plan import Plan, Shard
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.outputs.identity import check_output, run_identity
from featherpose.cluster.storage import Store
from featherpose.cluster.videos import cut_at_key_frames, piece_name, read_piece
from featherpose.cluster.worker import Job, Worker
from featherpose.media.images import read_image
from featherpose.skeleton import OPENPOSE_18

pytest.importorskip("pyarrow")
av = pytest.importorskip("av")

DETECTION = DetectionOptions(quality="fast", height=128, segment_s=2.0)
FRAMES, RATE_HZ = 100, 10


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, grace_hopper: Path) -> Path:
    """A person who moves, ten seconds, with a key frame each second."""
    path = tmp_path_factory.mktemp("video") / "moving.mp4"
    image = cv2.resize(read_image(grace_hopper), (256, 320))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = 256, 320, "yuv420p"
        stream.gop_size = RATE_HZ
        for shift in range(FRAMES):
            moved = np.ascontiguousarray(np.roll(image, 2 * shift % 90, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="bgr24")))
        container.mux(stream.encode())
    return path


def test_cuts_are_at_key_frames_and_leave_nothing_out(video: Path, tmp_path: Path) -> None:
    cuts = cut_at_key_frames(video, 2.0)
    starts = [start for start, _ in cuts]
    assert len(starts) >= 4
    assert all(round(RATE_HZ * start - 0.5, 3) % 1 == 0 for start in starts[1:])  # between two frames
    assert (np.diff(starts) > 1.9).all()
    assert [end for _, end in cuts[:-1]] == [start for start, _ in cuts[1:]]
    assert cuts[-1][1] == 0.0
    assert cut_at_key_frames(video, 0) == cut_at_key_frames(video, 60) == [(0.0, 0.0)]
    (tmp_path / "text.mp4").write_text("no video")
    assert cut_at_key_frames(tmp_path / "text.mp4", 2.0) == [(0.0, 0.0)]


def run(store: Store, video: Path, cuts: list[tuple[float, float]], detection: DetectionOptions) -> Shard:
    """Detect and join the pieces of a video in this process."""
    options = BatchOptions(detection=detection)
    identity = run_identity([str(video)], options, {"name": "", "sha256": {}, "card": None}, OPENPOSE_18.to_dict())
    check_output(store, identity)
    pieces = [Unit(str(video), "video", segment=i, start_s=a, end_s=b) for i, (a, b) in enumerate(cuts)]
    plan = Plan(store)
    plan.start([Unit(str(video), "video")], lambda units: (pieces for _ in units))
    shard = None
    while shard is None:
        shard = plan.take()
    worker = Worker(store.uri, options, PoseDetector)
    assert "error" not in worker.open()
    for i in reversed(range(len(cuts))):
        assert not worker.run(Job(shard, i)).fatal
    report = worker.run(Job(shard, Job.JOIN))
    assert not report.fatal
    assert report.counts is not None
    assert report.counts.units == 1
    return shard


@pytest.mark.parametrize("step", [1, 3])
def test_pieces_give_the_frames_poses_and_ids_of_the_whole(video: Path, tmp_path: Path, step: int) -> None:
    from dataclasses import replace

    store = Store(str(tmp_path / "out"))
    shard = run(store, video, cut_at_key_frames(video, 2.0), replace(DETECTION, frame_step=step))
    assert read_piece(store, piece_name(shard.number, 0), OPENPOSE_18) is None  # they are removed
    split = {record.frame: record for record in featherpose.read_results(store.uri)}
    tracker = PoseTracker()
    with open_source(video, frame_step=step) as source, PoseEstimator(quality="fast", height=128) as estimator:
        whole = [r for r in process_stream(source, estimator, tracker) if len(r.poses)]
    assert sorted(split) == [r.frame.index for r in whole]
    assert len(split) > FRAMES // step // 2
    for result in whole:
        record = split[result.frame.index]
        np.testing.assert_allclose(record.timestamp_s, result.frame.timestamp_s, atol=1e-6)
        np.testing.assert_allclose(record.poses.keypoints, result.poses.keypoints, atol=0.011)
        np.testing.assert_array_equal(record.poses.track_ids, result.poses.track_ids)


def test_a_video_that_cannot_be_read_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 1000)
    store = Store(str(tmp_path / "out"))
    run(store, tmp_path / "broken.mp4", [(0.0, 0.0)], DETECTION)
    counts = featherpose.read_results(store.uri).counts
    assert counts.failed == 1
    assert "broken.mp4 is not a video that can be read" in counts.failures[0][1]
