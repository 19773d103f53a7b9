"""``featherpose predict VIDEO`` gives ids in its files by default, on a real video and the released network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from featherpose.cli.main import run


def _predict(shared: Path, model: Path, out: Path, *words: str) -> list[list[int | None] | None]:
    video = shared / "data/videos/two-people.mp4"
    common = ["--model", str(model), "--height", "128", "--end", "0.5", "--frame-step", "3", "--threads", "2", "-q"]
    assert (
        run(["predict", str(video), *common, "--jsonl", str(out / "p.jsonl"), "--csv", str(out / "p.csv"), *words]) == 0
    )
    records = [json.loads(line) for line in (out / "p.jsonl").read_text().splitlines()]
    return [
        [person.get("id", person.get("track_id")) for person in record["people"]] if "people" in record else None
        for record in records
    ]


@pytest.mark.slow
def test_videos_are_tracked_by_default(shared: Path, released_int8: Path, tmp_path: Path) -> None:
    ids = _predict(shared, released_int8, tmp_path)
    assert len(ids) == 10
    given = [{i for i in frame or [] if i is not None} for frame in ids]
    assert given[-1] >= {0, 1}
    assert len(set().union(*given)) <= 4
    with (tmp_path / "p.csv").open() as file:
        rows = list(csv.DictReader(file))
    column = next(name for name in rows[0] if "id" in name and "image" not in name)
    assert {row[column] for row in rows if row[column]} >= {"0", "1"}


@pytest.mark.slow
def test_tracking_can_be_switched_off_and_smoothing_on(shared: Path, released_int8: Path, tmp_path: Path) -> None:
    plain, smooth = tmp_path / "plain", tmp_path / "smooth"
    plain.mkdir()
    smooth.mkdir()
    ids = _predict(shared, released_int8, plain, "--no-track")
    assert all(i is None for frame in ids for i in frame or [])
    _predict(shared, released_int8, smooth, "--smooth")
    texts = [(folder / "p.jsonl").read_text() for folder in (plain, smooth)]
    assert texts[0] != texts[1]


def test_images_are_not_tracked(shared: Path, released_int8: Path, grace_hopper: Path, tmp_path: Path) -> None:
    words = ["predict", str(grace_hopper), "--model", str(released_int8), "--height", "128", "-q"]
    assert run([*words, "--jsonl", str(tmp_path / "p.jsonl")]) == 0
    record = json.loads((tmp_path / "p.jsonl").read_text())
    assert all(person.get("id", person.get("track_id")) is None for person in record["people"])
    assert np.isfinite(record["people"][0]["score"])
