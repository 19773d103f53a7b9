"""Folders, patterns, cameras and addresses."""

from __future__ import annotations

import http.server
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from featherpose.errors import SourceError
from featherpose.media.images import write_image
from featherpose.media.sources.find import find_sources, open_source


@pytest.fixture
def folder(tmp_path: Path, astronaut: np.ndarray, grace_hopper: Path) -> Path:
    root = tmp_path / "holiday"
    (root / "more").mkdir(parents=True)
    for name in ("photo10.png", "photo2.png", "more/photo1.png"):
        write_image(root / name, astronaut[:64, :48])
    shutil.copy(grace_hopper, root / "admiral.JPG")
    (root / "notes.txt").write_text("no image")
    return root


def test_a_folder_in_the_order_of_people(folder: Path) -> None:
    source = open_source(folder)
    assert source.kind == "image"
    assert [(f.index, f.name) for f in source] == [(0, "admiral.JPG"), (1, "photo2.png"), (2, "photo10.png")]
    assert [f.index for f in open_source(folder, frame_step=2)] == [0, 2]


def test_patterns(folder: Path) -> None:
    assert [f.name for f in open_source(f"{folder}/photo*.png")] == ["photo2.png", "photo10.png"]
    (ref,) = find_sources(f"{folder}/**/*.png")
    assert sorted(p.relative_to(ref.folder or folder).as_posix() for p in ref.paths) == [
        "more/photo1.png", "photo10.png", "photo2.png",
    ]  # fmt: skip


def test_a_name_with_brackets_is_a_name_first(folder: Path, astronaut: np.ndarray) -> None:
    write_image(folder / "a[1].png", astronaut[:8, :8])
    assert [f.name for f in open_source(folder / "a[1].png")] == ["a[1].png"]


def test_bad_images_are_skipped_and_noted(folder: Path) -> None:
    (folder / "photo3.png").write_bytes((folder / "photo2.png").read_bytes()[:500])
    source = open_source(folder)
    assert [f.index for f in source] == [0, 1, 3]
    assert [str(p) for p in source.errors] == [
        f"{folder / 'photo3.png'} is a damaged PNG: it is cut off; get the file again"
    ]
    with pytest.raises(SourceError, match="photo3"):
        list(open_source(folder, strict=True))


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match="holds no images or videos"):
        open_source(tmp_path)


def test_a_folder_of_videos_is_several_sources(tmp_path: Path, shared: Path) -> None:
    for name in ("a.gif", "b.gif"):
        shutil.copy(shared / "data/videos/store-aisle.gif", tmp_path / name)
    assert [ref.name for ref in find_sources(tmp_path)] == ["a.gif", "b.gif"]
    with pytest.raises(SourceError, match="holds 2 sources"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "the source is empty"),
        ("missing.jpg", "no file or folder missing.jpg; check the spelling"),
        ("nowhere/missing.jpg", "folder nowhere does not exist"),
        ("gopher://example.org/x", "unknown scheme 'gopher'"),
        ("missing*.jpg", "holds no images"),
        ("97", "camera 97 cannot be opened"),
        (97, "camera 97 cannot be opened"),
    ],
)
def test_what_is_not_there(
    source: str | int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match=message):
        open_source(source)
    assert capfd.readouterr().err == ""


class Handler(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, tuple[str, bytes]]] = {}

    def do_GET(self) -> None:
        if self.path not in self.files:
            self.send_error(404)
            return
        kind, data = self.files[self.path]
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent calls it so
        pass


@pytest.fixture
def server(astronaut: np.ndarray) -> Iterator[str]:
    photo = cv2.imencode(".jpg", astronaut)[1].tobytes()
    Handler.files = {
        "/photo.jpg": ("image/jpeg", photo),
        "/cut.jpg": ("image/jpeg", photo[: len(photo) // 2]),
        "/page": ("text/html", b"<html></html>"),
        "/video.mp4": ("video/mp4", b"this is no video"),
    }
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def test_a_image_by_http(server: str) -> None:
    with open_source(f"{server}/photo.jpg") as source:
        (frame,) = source
    assert (source.kind, frame.name, frame.size) == ("image", "photo.jpg", (512, 512))


def test_a_video_by_http(server: str, shared: Path) -> None:
    Handler.files["/aisle.gif"] = ("image/gif", (shared / "data/videos/store-aisle.gif").read_bytes())
    with open_source(f"{server}/aisle.gif", frame_step=20) as source:
        assert len(list(source)) == 4


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/missing.jpg", "answers 404"),
        ("/cut.jpg", "damaged JPEG"),
        ("/page", "is a text/html page"),
        ("/video.mp4", "no video can be read"),
    ],
)
def test_bad_addresses(server: str, path: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match=message):
        open_source(server + path, timeout_s=2)


@pytest.mark.parametrize("scheme", ["http", "rtsp", "rtmp"])
def test_an_address_that_refuses(scheme: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(SourceError, match=r"cannot be reached: [Cc]onnection refused"):
        open_source(f"{scheme}://user:secret@127.0.0.1:{port}/live", timeout_s=2)


def test_an_address_that_is_silent_and_keeps_the_password() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(SourceError, match=r"does not answer within 0\.3 s") as caught:
            open_source(f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}/live.mp4", timeout_s=0.3)
    assert "secret" not in str(caught.value)
