"""Sources become units, units a plan; nothing here needs Ray."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from featherpose.cluster.inputs.known import KnownKeys
from featherpose.cluster.inputs.plan import Plan, read_shard
from featherpose.cluster.inputs.sources import find_units
from featherpose.cluster.inputs.units import Unit
from featherpose.cluster.storage import Store, read_input
from featherpose.errors import FeatherposeError, OptionError, SourceError
from featherpose.media.images import write_image


def names(source: str | Path) -> list[str]:
    return [Path(unit.uri).name + (f"!{unit.member}" if unit.member else "") for unit in find_units(str(source))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "archive"
    (root / "b").mkdir(parents=True)
    (root / ".hidden").mkdir()
    for name in ("a.jpg", "b/c.png", "b/d.mp4", ".hidden/e.jpg", "notes.txt", "b/.f.jpg"):
        (root / name).write_bytes(b"x")
    return root


def test_folder_holds_what_is_below_it(folder: Path) -> None:
    assert names(folder) == ["a.jpg", "c.png", "d.mp4"]
    assert names(folder / "**/*.png") == ["c.png"]
    assert [unit.kind for unit in find_units(str(folder))] == ["image", "image", "video"]


def test_links_that_lead_back_give_no_input_twice(folder: Path) -> None:
    for link in ("up", "b/up", "b/back"):
        (folder / link).symlink_to(folder)
    assert names(folder) == names(folder / "**/*.*") == ["a.jpg", "c.png", "d.mp4"]
    assert names(folder / "*/*.jpg") == ["a.jpg"]


def test_address_of_a_file_is_its_path(folder: Path) -> None:
    assert [unit.key for unit in find_units(f"file://{folder}/a.jpg")] == [str(folder / "a.jpg")]


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("list.txt", "# two\na.jpg\n\nb/c.png\n", ["a.jpg", "c.png"]),
        ("list.csv", "id,url\n1,a.jpg\n2,b/d.mp4\n", ["a.jpg", "d.mp4"]),
        ("one.csv", "anything\na.jpg\n", ["a.jpg"]),
    ],
)
def test_lists_are_read_relative_to_themselves(folder: Path, name: str, text: str, found: list[str]) -> None:
    (folder / name).write_text(text)
    assert names(folder / name) == found


def test_list_in_parquet(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"n": [1, 2], "path": ["a.jpg", "s3://bucket/b.jpg"]}), folder / "list.parquet")
    assert [unit.key for unit in find_units(str(folder / "list.parquet"))] == [
        str(folder / "a.jpg"),
        "s3://bucket/b.jpg",
    ]


def test_members_of_a_tar_file_are_read_in_place(tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    write_image(image, np.full((8, 9, 3), 7, np.uint8))
    path = tmp_path / "set-000.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("0001.png", "0001.json", "deep/0002.png"):
            tar.add(image, name)
    units = list(find_units(str(path)))
    assert [unit.member for unit in units] == ["0001.png", "deep/0002.png"]
    assert units[1].key == f"{path}!deep/0002.png"
    for unit in units:
        assert read_input(unit.uri, offset=unit.offset, size=unit.size) == image.read_bytes()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "nothing", "there is no file or folder"),
        (lambda f: f / "*.bmp", "no file fits the pattern"),
        (lambda f: f / ".hidden" / "none", "there is no file or folder"),
        (lambda f: "s3://user:secret@bucket/a", "holds a password"),
        (lambda f: "gopher://host/a", "gopher is no scheme"),
        (lambda f: "", "a source is empty"),
    ],
)
def test_bad_sources_are_told(folder: Path, make: object, message: str) -> None:
    with pytest.raises(FeatherposeError, match=message):
        names(make(folder))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"x,y\n1,2\n", "has the columns x, y"),
        ("a.txt", b"\xff\xfe\x00", "cannot be read"),
        ("a.parquet", b"PAR1", "cannot be read"),
        ("a.tar", b"not a tar", "is not a whole tar file"),
        ("a.tar.gz", b"x", "compressed as a whole"),
        ("b.txt", b"list.csv\n", "names the list"),
    ],
)
def test_bad_lists_are_told(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=message):
        names(tmp_path / name)


def test_keys_are_known_once() -> None:
    keys = KnownKeys()
    assert all(keys.add(f"{i}.jpg") for i in range(10_000))
    assert not any(keys.add(f"{i}.jpg") for i in range(0, 10_000, 7))
    assert keys.add("new.jpg")
    assert len(keys) == 10_001


def drained(plan: Plan) -> list[tuple[int, str, list[str]]]:
    shards: list[tuple[int, str, list[str]]] = []
    while not plan.exhausted:
        shard = plan.take()
        if shard is not None:
            shards.append((shard.number, shard.kind, [unit.key for unit in read_shard(plan._store, shard)]))
    return shards


@pytest.mark.slow
def test_plan_holds_every_unit_once_and_grows(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "out"))
    units = [Unit(f"/a/{i}.jpg") for i in range(3000)]
    plan = Plan(store)
    plan.start([*units, *units[:50]], lambda some: ([unit] for unit in some))
    first = drained(plan)
    assert [key for _, _, keys in first for key in keys] == [unit.uri for unit in units]
    assert [len(keys) for _, _, keys in first][:64] == [16] * 64
    assert plan.units == 3000
    again = Plan(store)
    again.start([Unit("/a/new.mp4", "video"), *units], lambda some: ([unit] for unit in some))
    second = drained(again)
    assert second[:-1] == first
    assert second[-1] == (len(first), "video", ["/a/new.mp4"])


def test_listing_that_fails_is_told_where_shards_are_taken(tmp_path: Path) -> None:
    plan = Plan(Store(str(tmp_path / "out")))
    plan.start(find_units(str(tmp_path / "nothing")), lambda some: ([unit] for unit in some))
    with pytest.raises(SourceError, match="there is no file"):
        drained(plan)


def test_output_must_be_writable(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be written to"):
        Store("https://example.org/out")


@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_list_of_one_endless_line_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("path\n" + "a" * 2**21)
    with pytest.raises(SourceError, match="a line that is too long"):
        list(find_units(str(tmp_path / name)))


def test_what_is_read_of_an_input_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("featherpose.cluster.storage.MAX_INPUT_BYTES", 1000)
    (tmp_path / "a.jpg").write_bytes(bytes(1000))
    assert len(read_input(str(tmp_path / "a.jpg"))) == 1000
    with pytest.raises(SourceError, match="at most 1,000 are read"):
        read_input(str(tmp_path / "a.jpg"), size=2**60)  # what a tar file may claim
    (tmp_path / "a.jpg").write_bytes(bytes(1001))
    with pytest.raises(SourceError, match="at most 1,000 are read"):
        read_input(str(tmp_path / "a.jpg"))
