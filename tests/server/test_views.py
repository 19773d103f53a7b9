"""Configured sources: started by the first viewer, shared by all, stopped after the last."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_servers import Server, send_images
from pose_server import Running, Start
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from featherpose.errors import SourceError
from featherpose.media.images import decode_image
from featherpose.motion.live import LiveMotion
from featherpose.poses import Poses
from featherpose.server import shared_source as watching
from featherpose.server.app import create_app
from featherpose.server.options import ServeLimits, ServeOptions
from featherpose.server.routes import sources as views
from featherpose.stream import FrameResult


def parts(response: httpx.Response) -> Iterator[bytes]:
    """The images of an MJPEG answer."""
    data = b""
    for piece in response.iter_raw():
        data += piece
        while True:
            head, separator, rest = data.partition(b"\r\n\r\n")
            if not separator:
                break
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            if len(rest) < length + 2:
                break
            yield rest[:length]
            data = rest[length + 2 :]


def test_sources_are_listed(server: Running, client: httpx.Client) -> None:
    (source,) = client.get("/v1/sources").json()
    assert source["name"] == "walk"
    assert source["kind"] == "video"


def test_a_view_is_annotated_video(server: Running, client: httpx.Client) -> None:
    with client.stream("GET", "/v1/sources/walk/view") as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("multipart/x-mixed-replace; boundary=")
        images = parts(response)
        shown = [decode_image(next(images), "part") for _ in range(3)]
    assert all(image.shape == (384, 480, 3) for image in shown)
    assert any((a != b).any() for a, b in itertools.pairwise(shown))


def test_poses_of_a_source_have_ids_and_come_in_order(server: Running) -> None:
    with connect(f"{server.socket_url}/v1/sources/walk/poses", proxy=None) as socket:
        hello = json.loads(socket.recv(timeout=60))
        assert hello["type"] == "hello"
        messages = [json.loads(socket.recv(timeout=60)) for _ in range(12)]
    assert {message["type"] for message in messages} == {"poses"}
    assert any(person["id"] == 0 for message in messages for person in message["people"])
    turns = [b["frame"] <= a["frame"] for a, b in itertools.pairwise(messages)]
    assert sum(turns) <= 2  # the video may begin again
    assert all(message["size"] == [480, 384] for message in messages)


def test_repetitions_are_in_the_messages_and_count_while_nobody_watches(
    start: Start, walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[int, dict[str, Any]]] = []

    class Told(LiveMotion):
        """Nobody's knees are in the image: it says what it was asked."""

        def update(self, poses: Poses, timestamp_s: float) -> dict[int, dict[str, Any]]:
            ids = [] if poses.track_ids is None else [number for number in poses.track_ids.tolist() if number >= 0]
            told.append({number: {"exercise": "squat", "count": len(told), "angle_deg": 12.5} for number in ids})
            return told[-1]

    monkeypatch.setattr(watching, "LiveMotion", Told)
    options, results = ServeOptions(sources={"walk": str(walk)}, motion="squat"), list[FrameResult]()
    with start(options, recorders={"walk": results.append}) as server:
        (source,) = server.app.state.hub
        wait_until(lambda: not source.live)
    assert len(told) == len(results) > 3
    with start(options) as server, connect(f"{server.socket_url}/v1/sources/walk/poses", proxy=None) as socket:
        socket.recv(timeout=60)
        people = [person for _ in range(12) for person in json.loads(socket.recv(timeout=60))["people"]]
    followed = [person for person in people if person["id"] is not None]
    assert followed
    assert all(person["motion"] in [state.get(person["id"]) for state in told] for person in followed)


def test_viewers_share_one_run_and_the_last_one_ends_it(
    start: Start, walk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LINGER_S", 0.2)
    with start(ServeOptions(sources={"walk": str(walk)}, limits=ServeLimits(viewers=3))) as server:
        (source,) = server.app.state.hub
        url = f"{server.socket_url}/v1/sources/walk/poses"
        with server.client() as client:
            assert not source.live
            with connect(url, proxy=None) as one, connect(url, proxy=None) as two:
                frames = [json.loads(socket.recv(timeout=60)) for socket in (one, two) for _ in range(2)]
                assert frames[1]["type"] == frames[3]["type"] == "poses"
                assert client.get("/v1/sources").json()[0]["live"]
                with client.stream("GET", "/v1/sources/walk/view") as response:
                    images = parts(response)  # kept: a generator that is let go closes the answer
                    next(images)
                    assert "featherpose_viewers 3.0" in server.service.metrics.text().decode()
                    with server.client() as another:
                        refused = another.get("/v1/sources/walk/view", timeout=20)
                    assert refused.status_code == 503
                    assert refused.headers["retry-after"]
                    with connect(url, proxy=None) as third:
                        with pytest.raises(ConnectionClosed) as closed:
                            third.recv(timeout=30)
                        assert closed.value.rcvd is not None
                        assert closed.value.rcvd.code == 1013
                one.recv(timeout=60)
            wait_until(lambda: not source.live and not server.app.state.hub.viewers)
            with connect(url, proxy=None) as again:
                again.recv(timeout=60)
                assert json.loads(again.recv(timeout=60))["type"] == "poses"


def test_unknown_and_broken_sources_are_told(start: Start, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    with start(ServeOptions(sources={"broken": str(broken)})) as server, server.client() as client:
        missing = client.get("/v1/sources/nothing/view")
        assert missing.status_code == 404
        assert "broken" in missing.json()["error"]["expected"]
        failed = client.get("/v1/sources/broken/view")
        assert failed.status_code == 503
        assert "broken" in failed.json()["error"]["what"]
        with connect(f"{server.socket_url}/v1/sources/broken/poses", proxy=None) as socket:
            said = [json.loads(socket.recv(timeout=60))["type"] for _ in range(2)]
            assert said == ["hello", "error"]
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1011
        with connect(f"{server.socket_url}/v1/sources/nothing/poses", proxy=None) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1008
        assert client.get("/healthz").status_code == 200


@pytest.fixture
def camera(moving: list[bytes]) -> Iterator[Server]:
    """A network camera on loopback that can be cut off and brought back."""
    camera = Server(lambda handler: send_images(handler, moving, lengths=True))
    yield camera
    camera.end()


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_views_outlive_the_absence_of_their_camera(
    start: Start, camera: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "_REPEAT_S", 0.2)
    camera.start()
    with (
        start(ServeOptions(sources={"door": camera.url("/live")})) as server,
        server.client() as client,
        connect(f"{server.socket_url}/v1/sources/door/poses", proxy=None) as socket,
        client.stream("GET", "/v1/sources/door/view?annotated=false") as response,
    ):
        images = parts(response)
        shown = next(images)
        assert json.loads(socket.recv(timeout=60))["type"] == "hello"
        camera.cut()
        while (again := next(images)) != shown:  # what was under way, then the last one over and over
            shown = again
        camera.start()
        while next(images) == shown:
            pass
        before = json.loads(socket.recv(timeout=60))
        messages = [json.loads(socket.recv(timeout=60)) for _ in range(5)]
        numbers = [message["frame"] for message in [before, *messages]]
        assert numbers == sorted(set(numbers)), "it is the same stream, counted on"
    assert watching._RECONNECT.give_up_s == float("inf")


def test_nobody_waits_for_a_camera_that_nobody_watches(
    start: Start, camera: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LINGER_S", 0.2)
    camera.start()
    with start(ServeOptions(sources={"door": camera.url("/live")})) as server:
        (source,) = server.app.state.hub
        with connect(f"{server.socket_url}/v1/sources/door/poses", proxy=None) as socket:
            assert [json.loads(socket.recv(timeout=60))["type"] for _ in range(2)] == ["hello", "poses"]
            camera.cut()
        wait_until(lambda: not source.live)
        assert source.error is None


def test_a_camera_that_is_not_there_may_be_asked_for_again(start: Start, camera: Server) -> None:
    with start(ServeOptions(sources={"door": camera.url("/live")})) as server:
        url = f"{server.socket_url}/v1/sources/door/poses"
        with connect(url, proxy=None) as socket:
            assert json.loads(socket.recv(timeout=60))["type"] == "hello"
            assert "cannot be reached" in json.loads(socket.recv(timeout=60))["error"]["what"]
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(timeout=60)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        camera.start()
        with connect(url, proxy=None) as socket:
            assert [json.loads(socket.recv(timeout=60))["type"] for _ in range(2)] == ["hello", "poses"]


def test_images_are_no_source(photo: bytes, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo)
    with pytest.raises(SourceError, match="no live source"):
        create_app(ServeOptions(sources={"photo": str(tmp_path / "photo.jpg")}))


def test_a_recorder_gets_every_result_without_a_viewer(start: Start, walk: Path) -> None:
    results: list[FrameResult] = []
    with start(ServeOptions(sources={"walk": str(walk)}), recorders={"walk": results.append}) as server:
        (source,) = server.app.state.hub
        wait_until(lambda: not source.live)
    numbers = [result.frame.index for result in results]
    assert len(numbers) > 3
    assert numbers == sorted(set(numbers))
    assert results[-1].poses.track_ids is not None
