"""A worker commits whole shards, and an input that takes it down is left out; nothing here needs Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import featherpose
from featherpose.cluster.batch_options import BatchOptions
from featherpose.cluster.inputs.plan import Plan, Shard
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.outputs.identity import check_output, run_identity
from featherpose.cluster.outputs.shards import Outcome, committed, committed_shards, shard_name
from featherpose.cluster.storage import Store
from featherpose.cluster.videos import Piece
from featherpose.cluster.worker import Job, Worker
from featherpose.errors import OptionError, OutputError, SourceError
from featherpose.formats.record import FrameRecord
from featherpose.poses import Poses
from featherpose.skeleton import COCO_17, Skeleton

OPTIONS = BatchOptions(tries=2, formats=("parquet", "coco", "jsonl"))


class Fake:
    """Finds as many people as the number in the name says, and dies or fails where it is told to."""

    def __init__(self, fail: str = "", die: str = "") -> None:
        self.skeleton: Skeleton = COCO_17
        self.fail, self.die = fail, die

    def facts(self) -> dict[str, Any]:
        return {"model": "fake"}

    def image(self, unit: Unit, data: bytes | None) -> Outcome:
        stem = Path(unit.uri).stem
        if stem == self.die:
            raise KeyboardInterrupt  # as far as a test can die
        if stem == self.fail:
            raise SourceError(f"{unit.key} is broken")
        if stem == "defect":
            raise ZeroDivisionError("nothing")
        people = int(stem) % 3
        points = np.arange(34 * people, dtype=np.float32).reshape(people, 17, 2)
        if people:
            points[0, 3] = np.nan
        scores = np.where(np.isnan(points[..., 0]), 0, 0.5).astype(np.float32)
        poses = Poses(points, scores, np.full(people, 0.9, np.float32), COCO_17, (64, 48))
        record = FrameRecord(0, 0.0, poses, unit.key, is_image=True)
        return Outcome(unit.key, frames=1, people=people, size=(64, 48), bytes=10, records=(record,))

    def piece(self, unit: Unit, advance: Any) -> Piece:
        raise NotImplementedError


def planned(store: Store, names: list[str]) -> list[Shard]:
    identity = run_identity(["x"], OPTIONS, {"name": "fake", "sha256": {}, "card": None}, COCO_17.to_dict())
    check_output(store, identity)
    plan = Plan(store, shard_units=5)
    plan.start([Unit(f"/x/{name}.jpg") for name in names], lambda units: ([unit] for unit in units))
    shards: list[Shard] = []
    while not plan.exhausted:
        shard = plan.take()
        shards += [shard] if shard is not None else []
    return shards


def worker(store: Store, fake: Fake) -> Worker:
    made = Worker(store.uri, OPTIONS, lambda detection, patience_s: fake)
    assert made.open() == {"model": "fake"}
    return made


def test_results_are_read_back_as_they_were_found(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    shards = planned(store, ["0", "1", "2", "3", "defect", "4", "5", "bad"])
    doing = worker(store, Fake(fail="bad"))
    reports = [doing.run(Job(shard)) for shard in shards]
    assert [report.counts.units for report in reports if report.counts] == [5, 3]
    results = featherpose.read_results(str(tmp_path / "out"))
    found = {record.source: record.poses for record in results}
    assert sorted(Path(name).stem for name in found) == ["0", "1", "2", "3", "4", "5"]
    expected = Fake().image(Unit("/x/5.jpg"), None).records[0].poses
    poses = found["/x/5.jpg"]
    np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
    np.testing.assert_array_equal(poses.keypoint_scores, expected.keypoint_scores)
    assert poses.image_size == (64, 48)
    assert dict(results.counts.failures) == {
        "/x/bad.jpg": "/x/bad.jpg is broken",
        "/x/defect.jpg": "it failed 2 times: ZeroDivisionError: nothing",
    }
    assert results.dataset().count_rows() == 6
    assert results.units().count_rows() == 8
    assert len(list((tmp_path / "out/coco").rglob("*.json"))) == 2
    assert sum(1 for _ in featherpose.read_jsonl(next((tmp_path / "out/jsonl").rglob("00000000.jsonl")))) == 4


def test_an_input_that_kills_its_worker_is_left_out_after_its_tries(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    (shard,) = planned(store, ["0", "1", "2"])
    for careful in (False, True, True):
        with pytest.raises(KeyboardInterrupt):
            worker(store, Fake(die="1")).run(Job(shard, careful=careful))
    report = worker(store, Fake(die="1")).run(Job(shard, careful=True))
    assert report.counts is not None
    assert report.counts.failures == [("/x/1.jpg", "its worker died or hung 2 times while it was at this input")]
    assert report.counts.units == 3
    assert list(store.names("_work/attempts")) == []


def test_a_shard_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    (shard,) = planned(store, ["0", "1"])
    worker(store, Fake()).run(Job(shard))
    assert [number for number, _ in committed_shards(store)] == [0]
    path = tmp_path / "out" / shard_name("units", 0)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert committed(store, shard_name("units", 0)) is None
    assert list(committed_shards(store)) == []
    worker(store, Fake()).run(Job(shard))
    assert path.read_bytes() == whole


def test_a_full_disk_ends_the_run_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "out"))
    (shard,) = planned(store, ["0"])
    doing = worker(store, Fake())

    def full(self: Store, name: str, path: Path) -> None:
        raise OutputError(f"{name} cannot be written: the disk is full")

    monkeypatch.setattr(Store, "write_file", full)
    assert doing.run(Job(shard)).fatal == "poses/000000/00000000.parquet cannot be written: the disk is full"
    assert list(committed_shards(store)) == []


def test_another_run_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    planned(store, ["0"])
    model: dict[str, Any] = {"name": "fake", "sha256": {}, "card": None}
    with pytest.raises(OptionError, match=r"tries|formats was .*coco.* and is .*parquet"):
        check_output(store, run_identity(["x"], BatchOptions(), model, {}))
    with pytest.raises(OptionError, match="belongs to a run over"):
        check_output(store, run_identity(["y"], OPTIONS, model, {}))
    assert check_output(store, run_identity(["x"], OPTIONS, model, {}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(OutputError, match="no batch run"):
        check_output(Store(str(tmp_path / "other")), run_identity(["x"], OPTIONS, model, {}))


def test_read_results_wants_an_output_of_a_run(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no output of a batch run"):
        featherpose.read_results(str(tmp_path))
