"""Downloads against a server that truncates, corrupts, refuses, stalls and ignores ranges."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from featherpose.errors import DownloadError, OutputError
from featherpose.zoo.card import CardFile
from featherpose.zoo.download import DownloadOptions, download

from .conftest import Misbehavior

DATA = random.Random(0).randbytes(700_000)
FILE = CardFile(name="m.bin", size=len(DATA), sha384=hashlib.sha384(DATA).hexdigest())
QUICK = DownloadOptions(retries=3, timeout_s=20, backoff_s=0.001)
IMPATIENT = DownloadOptions(retries=3, timeout_s=0.7, backoff_s=0.001)


def fetch(server: Misbehavior, tmp_path: Path, file: CardFile = FILE, options: DownloadOptions = QUICK) -> Path:
    server.files["/m.bin"] = DATA
    destination = tmp_path / "models" / file.name
    download(f"{server.url}/m.bin", destination, file, options=options)
    return destination


def resumed_at(server: Misbehavior) -> int:
    return int(server.ranges[1].removeprefix("bytes=").rstrip("-") or 0)


@pytest.mark.parametrize(
    "manners",
    [
        [],
        ["truncate"],
        ["truncate", "truncate", "drop", "truncate"],
        ["truncate", "ignore-range"],
        ["truncate", "elsewhere"],
        ["busy", "busy"],
        ["drop", "busy", "drop"],
    ],
    ids=lambda manners: "+".join(manners) or "well-behaved",
)
def test_whole_file_arrives(server: Misbehavior, tmp_path: Path, manners: list[str]) -> None:
    server.manners = list(manners)
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["m.bin"]


def test_resumes_where_it_stopped(server: Misbehavior, tmp_path: Path) -> None:
    server.manners = ["truncate"]
    fetch(server, tmp_path)
    assert len(server.ranges) == 2
    assert len(DATA) // 2 - 20_000 < resumed_at(server) <= len(DATA) // 2


def test_continues_what_an_earlier_process_left(server: Misbehavior, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m.bin.part").write_bytes(DATA[:1000])
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert server.ranges == ["bytes=1000-"]


def test_starts_anew_when_what_was_left_is_wrong(server: Misbehavior, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m.bin.part").write_bytes(b"x" * 1000)
    assert fetch(server, tmp_path).read_bytes() == DATA
    assert server.ranges == ["bytes=1000-", ""]


def test_longer_than_published_leftover_is_dropped(server: Misbehavior, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m.bin.part").write_bytes(DATA + b"more")
    assert fetch(server, tmp_path).read_bytes() == DATA


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        (["corrupt"], "not the published file"),
        (["forbid"], "refused: 403"),
        (["page"], "is 26 bytes; expected 700000 bytes, as published"),
        (["endless"], "more than the 700000 bytes"),
        (["drop"] * 9, "connection ended early"),
        (["busy"] * 9, "answered 503"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_be_had_is_one_clear_error(
    server: Misbehavior, tmp_path: Path, manners: list[str], message: str
) -> None:
    server.manners = list(manners)
    with pytest.raises(DownloadError, match=message):
        fetch(server, tmp_path)
    assert not (tmp_path / "models/m.bin").exists()
    assert len(server.ranges) <= QUICK.retries + 1


def test_stalled_download_is_continued(server: Misbehavior, tmp_path: Path) -> None:
    server.manners = ["stall"]
    assert fetch(server, tmp_path, options=IMPATIENT).read_bytes() == DATA
    assert len(DATA) // 3 - 20_000 < resumed_at(server) <= len(DATA) // 3


def test_server_that_never_comes_back_is_left(server: Misbehavior, tmp_path: Path) -> None:
    server.manners = ["truncate"] + ["drop"] * 9
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        fetch(server, tmp_path)
    assert (tmp_path / "models/m.bin.part").stat().st_size > 0, "what arrived is kept for the next try"


def test_server_that_always_breaks_off_and_never_resumes(server: Misbehavior, tmp_path: Path) -> None:
    """Without net progress the attempts end, although every one of them brings bytes."""
    server.files["/m.bin"] = DATA
    server.manners = ["truncate", "ignore-range-and-truncate"] * 50
    with pytest.raises(DownloadError, match="cannot be downloaded"):
        download(f"{server.url}/m.bin", tmp_path / "m.bin", FILE, options=QUICK)
    assert len(server.ranges) < 50


def test_refused_connection(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="the connection was refused; check"):
        download("http://127.0.0.1:9/m.bin", tmp_path / "m.bin", FILE, options=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_unpublished_hash_is_recorded(server: Misbehavior, tmp_path: Path) -> None:
    path = fetch(server, tmp_path, CardFile(name="m.bin"))
    record = path.with_name("m.bin.sha256").read_text().split()
    assert record == [hashlib.sha256(DATA).hexdigest(), "m.bin"]


def test_leftovers_are_not_trusted_without_a_hash(server: Misbehavior, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m.bin.part").write_bytes(b"x" * 1000)
    assert fetch(server, tmp_path, CardFile(name="m.bin")).read_bytes() == DATA


def test_size_limit_of_unpublished_sizes(server: Misbehavior, tmp_path: Path) -> None:
    server.files["/m.bin"] = DATA
    options = DownloadOptions(max_bytes=1000)
    with pytest.raises(DownloadError, match="at most 1000"):
        download(f"{server.url}/m.bin", tmp_path / "m.bin", CardFile(name="m.bin"), options=options)


def test_two_downloads_of_one_file_do_not_mix(server: Misbehavior, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "models").mkdir()
    with (tmp_path / "models/m.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process"):
            fetch(server, tmp_path)


def test_unwritable_place(server: Misbehavior, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(OutputError):
        fetch(server, tmp_path)


def test_progress_ends_with_the_whole_size(server: Misbehavior, tmp_path: Path) -> None:
    server.files["/m.bin"] = DATA
    server.manners = ["truncate"]
    seen: list[tuple[str, int, int | None]] = []
    download(f"{server.url}/m.bin", tmp_path / "m.bin", FILE, options=QUICK, progress=lambda *news: seen.append(news))
    assert seen[-1] == ("m.bin", len(DATA), len(DATA))
    assert [s[1] for s in seen] == sorted(s[1] for s in seen)
