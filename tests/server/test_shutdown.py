"""The command itself: what it says, and that SIGTERM under load loses nothing it has accepted."""

from __future__ import annotations

import gc
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from pose_server import Start, serve_command
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from featherpose.server.options import ServeOptions

JPEG = {"Content-Type": "image/jpeg"}


def refused(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "featherpose.cli.main", "serve", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "0.0.0.0"], 2, "FEATHERPOSE_TOKEN"),
        (["--token", "short"], 2, "16 to 512"),
        (["--source", "nameless"], 2, "NAME=ADDRESS"),
        (["--source", "a=0", "--source", "a=1"], 2, "twice"),
        (["--source", "door=no-such-file.mp4", "--port", "0"], 1, "no-such-file.mp4"),
        (["--model", "no-such-model", "--port", "0"], 1, "no-such-model"),
        (["--queue", "0"], 2, "queue"),
        (["--motion", "yoga"], 2, "--motion yoga is unknown; expected squat, split-squat"),
        (["--certificate", "none.pem"], 2, "none.pem"),
        (["--host", "192.0.2.1", "--token", "a-token-of-some-length"], 2, "192.0.2.1"),
    ],
)
def test_what_cannot_be_served_is_one_clear_line(arguments: list[str], code: int, words: str) -> None:
    returned, said = refused(*arguments)
    assert returned == code, said
    assert words in said


def test_a_port_that_is_taken() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        returned, said = refused("--port", str(other.getsockname()[1]))
    assert returned == 2
    assert "--port" in said


def test_a_process_that_goes_on_collects_what_a_server_left(start: Start) -> None:
    with start(ServeOptions()):
        assert gc.get_freeze_count()
    assert not gc.get_freeze_count()


def test_sigterm_under_load_loses_no_accepted_request(photo: bytes) -> None:
    outcomes: list[str] = []
    stop = threading.Event()

    def ask_again_and_again(url: str) -> None:
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/v1/poses", content=photo, headers=JPEG)
                except httpx.ConnectError:
                    outcomes.append("not taken")
                    return
                except httpx.HTTPError as error:
                    outcomes.append(f"lost: {error!r}")
                    return
                outcomes.append(str(answer.status_code))
                if answer.status_code == 503:
                    assert "retry-after" in answer.headers
                    time.sleep(0.05)

    with serve_command("--queue", "4") as (process, url), ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(ask_again_and_again, url) for _ in range(8)]
        deadline = time.monotonic() + 60
        while outcomes.count("200") < 10 or "503" not in outcomes:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        stop.set()
        for client in clients:
            client.result(60)
    assert set(outcomes) <= {"200", "503", "not taken"}
    assert outcomes.count("503") > 0


def test_sigterm_answers_the_frames_in_hand_and_says_good_bye(photo: bytes, walk: object) -> None:
    with serve_command("--source", f"walk={walk}") as (process, url):
        socket_url = url.replace("http", "ws")
        with (
            connect(f"{socket_url}v1/stream", proxy=None) as session,
            connect(f"{socket_url}v1/sources/walk/poses", proxy=None) as viewer,
            httpx.stream("GET", f"{url}v1/sources/walk/view", timeout=60, trust_env=False) as view,
        ):
            assert json.loads(session.recv(timeout=60))["type"] == "hello"
            assert json.loads(viewer.recv(timeout=60))["type"] == "hello"
            assert view.status_code == 200
            for number in range(2):
                session.send(struct.pack("<d", number / 25) + photo)
            session.send("no json")  # answered at once, when the server has taken the frames before it
            answers = [json.loads(session.recv(timeout=60))]
            while answers[-1]["frame"] is not None:
                answers.append(json.loads(session.recv(timeout=60)))
            answers.pop()
            process.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - until the server has said everything
                while True:
                    answers.append(json.loads(session.recv(timeout=60)))
            assert [answer["frame"] for answer in answers] == [0, 1]
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            with pytest.raises(ConnectionClosed) as ended:  # noqa: PT012
                while True:
                    viewer.recv(timeout=60)
            assert ended.value.rcvd is not None
            assert ended.value.rcvd.code in (1000, 1001)
            for _ in view.iter_raw():  # ends by itself, as a whole answer
                pass
        assert process.wait(60) == 0
