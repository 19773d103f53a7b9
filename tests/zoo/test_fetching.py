"""``featherpose models`` from fetch to use, against a local server with the official paths."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from featherpose.cli.main import run
from featherpose.errors import OptionError
from featherpose.zoo import catalog
from featherpose.zoo.card import CardFile, ModelCard
from featherpose.zoo.fetch import fetch_model, source_url

from .conftest import Misbehavior

NAME = "human-pose-estimation-0001"


@pytest.fixture
def official(server: Misbehavior, released_int8: Path, monkeypatch: pytest.MonkeyPatch) -> Misbehavior:
    """The catalog's addresses, serving the released INT8 files; the card's hashes are those of what is served."""
    card = catalog.cards()[NAME]
    files = []
    for file, source in zip(card.files, (released_int8, released_int8.with_suffix(".bin")), strict=True):
        data = source.read_bytes()
        server.files[urlsplit(str(file.url)).path] = data
        digest = hashlib.sha384(data).hexdigest()
        files.append(file.model_copy(update={"size": len(data), "sha384": digest}))
    published = {**catalog._published(), NAME: card.model_copy(update={"files": tuple(files)})}
    monkeypatch.setattr(catalog, "_published", lambda: published)
    return server


def test_fetch_then_resolve_by_name(official: Misbehavior, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    official.manners = ["truncate", "ok", "truncate"]
    assert run(["models", "fetch", NAME, "--base-url", official.url]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path == cache / NAME / f"{NAME}.xml"
    from featherpose.zoo.resolve import resolve_model

    assert resolve_model(NAME).path == path
    asked = len(official.ranges)
    assert run(["models", "fetch", NAME, "--base-url", official.url, "--offline"]) == 0, "here already"
    assert len(official.ranges) == asked
    assert run(["models", "verify", NAME]) == 0
    (cache / NAME / f"{NAME}.bin").write_bytes(b"damaged")
    capsys.readouterr()
    assert run(["models", "verify"]) == 1
    captured = capsys.readouterr()
    assert f"{NAME}.bin\tdamaged" in captured.out
    assert f"featherpose models fetch {NAME}" in captured.err


def test_fetched_network_finds_the_astronaut(official: Misbehavior, cache: Path, astronaut: object) -> None:
    from featherpose.estimator import PoseEstimator

    fetch_model(catalog.find_card(NAME), base_url=official.url)
    with PoseEstimator(NAME, threads=1) as estimator:
        assert len(estimator(astronaut)) == 1


def test_the_two_commands_of_the_readme(
    official: Misbehavior, cache: Path, grace_hopper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "poses.jsonl"
    assert run(["predict", str(grace_hopper), "--model", NAME, "--jsonl", str(out)]) == 1
    assert f"run: featherpose models fetch {NAME}" in capsys.readouterr().err
    assert run(["models", "fetch", NAME, "--base-url", official.url]) == 0
    assert run(["predict", str(grace_hopper), "--model", NAME, "--threads", "1", "--jsonl", str(out)]) == 0
    assert len(json.loads(out.read_text())["people"]) == 1


def test_mirror_and_offline_by_environment(
    official: Misbehavior, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FEATHERPOSE_MIRROR", official.url)
    monkeypatch.setenv("FEATHERPOSE_OFFLINE", "1")
    assert run(["models", "fetch", NAME]) == 1
    assert "offline mode forbids downloads" in capsys.readouterr().err
    monkeypatch.delenv("FEATHERPOSE_OFFLINE")
    assert run(["models", "fetch", NAME]) == 0


def test_corrupt_and_refused_fail_with_one_line(
    official: Misbehavior, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for manner, message in (("corrupt", "not the published file"), ("forbid", "refused: 403")):
        official.manners = [manner]
        assert run(["models", "fetch", NAME, "--base-url", official.url]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert "\n" not in error
    assert not (cache / NAME / f"{NAME}.xml").exists()


def test_unpublished_hash_is_said_and_held_to(
    server: Misbehavior, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = catalog.cards()["lightweight-openpose-370000"]
    address = urlsplit(str(card.files[0].url)).path
    server.files[address] = checkpoint_bytes()
    arguments = ["models", "fetch", card.name, "--base-url", server.url]
    assert run(arguments) == 1
    assert "--accept-unpinned" in capsys.readouterr().err
    assert not server.ranges, "nothing is asked for"
    assert run([*arguments, "--accept-unpinned"]) == 0
    assert "no hash is published" in capsys.readouterr().err
    assert run(["models", "verify", card.name]) == 0
    assert "ok, as first fetched" in capsys.readouterr().out
    (cache / card.name / card.files[0].name).write_bytes(b"other")
    assert run(["models", "verify", card.name]) == 1


def checkpoint_bytes() -> bytes:
    torch = pytest.importorskip("torch")
    from featherpose.nn.networks import as_module, create_network
    from featherpose.skeleton import OPENPOSE_18

    buffer = io.BytesIO()
    network = create_network("lightweight-openpose", OPENPOSE_18, refinements=0)
    torch.save({"state_dict": as_module(network).state_dict(), "iter": 370000}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>not found</html>" * 100, "is a web page"),
        (b"\0" * 5000, "is a file of zeros"),
        (bytes(range(256)) * 100, "is no PyTorch checkpoint"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"x" * 5000, "is no checkpoint that can be used"),
        (b"PK\x03\x04" + b"x" * 5000, "is no PyTorch checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_not_recorded(
    server: Misbehavior, cache: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    card = catalog.cards()["lightweight-openpose-370000"]
    server.files[urlsplit(str(card.files[0].url)).path] = content
    assert run(["models", "fetch", card.name, "--base-url", server.url, "--accept-unpinned"]) == 1
    assert message in capsys.readouterr().err
    assert not list((cache / card.name).iterdir())


def test_list_and_info(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "list.json"
    assert run(["models", "list", "--json", str(out)]) == 0
    assert f"{NAME}\tnot fetched\t16.5 MB" in capsys.readouterr().out
    assert {card["name"] for card in json.loads(out.read_text())} >= {NAME}
    assert run(["models", "info", NAME]) == 0
    text = capsys.readouterr().out
    for expected in ("Apache-2.0", "openpose_18: 18 keypoints, 19 limbs", "Osokin", "inside the graph"):
        assert expected in text
    assert run(["models", "info", "nonsense"]) == 1


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "fetch"]) == 2
    assert run(["models", "fetch", NAME, "--base-url", "ftp://x"]) == 2
    assert run(["models", "fetch", "nonsense"]) == 1
    with pytest.raises(OptionError):
        source_url(CardFile(name="a", url="https://example.org/a"), "mirror.lan")


def test_a_card_without_files(cache: Path) -> None:
    from featherpose.errors import DownloadError

    with pytest.raises(DownloadError, match="lists no files"):
        fetch_model(ModelCard(name="empty", skeleton="coco_17"))
