"""Live sessions: every frame answered once and in order, ids of its own for everybody, and no queue that grows."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pose_server import Running, Start
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from featherpose.server.options import ServeLimits, ServeOptions


class Session:
    """A client of ``/v1/stream``."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.hello = self.answer()

    def frame(self, timestamp_s: float, image: bytes) -> None:
        self._socket.send(struct.pack("<d", timestamp_s) + image)

    def raw(self, data: bytes) -> None:
        self._socket.send(data)

    def say(self, **message: object) -> None:
        self._socket.send(json.dumps(message))

    def text(self, text: str) -> None:
        self._socket.send(text)

    def answer(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(timeout=60))
        return message

    def ask(self, timestamp_s: float, image: bytes) -> dict[str, Any]:
        self.frame(timestamp_s, image)
        return self.answer()

    def close_code(self) -> int:
        """How the server ends it."""
        try:
            while True:
                self._socket.recv(timeout=60)
        except ConnectionClosed as closed:
            return 0 if closed.rcvd is None else closed.rcvd.code


@contextmanager
def session(server: Running) -> Iterator[Session]:
    with connect(f"{server.socket_url}/v1/stream", subprotocols=[Subprotocol("featherpose.v1")], proxy=None) as socket:
        yield Session(socket)


def ids(answer: dict[str, Any]) -> set[int]:
    return {person["id"] for person in answer["people"] if person["id"] is not None}


def test_people_keep_their_ids(server: Running, moving: list[bytes]) -> None:
    with session(server) as client:
        hello = client.hello
        assert hello["type"] == "hello"
        assert hello["version"] == 1
        assert hello["max_in_flight"] == 2
        assert hello["skeleton"]["name"] == server.service.estimator.skeleton.name
        assert hello["limits"] == {"bytes": 8_000_000, "pixels": 25_000_000}
        answers = [client.ask(number / 15, image) for number, image in enumerate(moving)]
    assert [answer["type"] for answer in answers] == ["poses"] * len(moving)
    assert [answer["frame"] for answer in answers] == list(range(len(moving)))
    assert [answer["timestamp_s"] for answer in answers] == [number / 15 for number in range(len(moving))]
    assert all(answer["size"] == [512, 512] for answer in answers)
    assert set(answers[0]["times_ms"]) == {"queue", "read", "prepare", "infer", "decode", "refine", "track", "total"}
    assert 0 in ids(answers[-1])
    assert set.union(*map(ids, answers)) == ids(answers[-1])


def test_two_in_flight_lose_nothing(server: Running, moving: list[bytes]) -> None:
    with session(server) as client:
        client.frame(0, moving[0])
        for number in range(1, len(moving)):
            client.frame(number / 15, moving[number])
            assert client.answer()["type"] == "poses"
        assert client.answer() | {"people": [], "times_ms": {}} == {
            "type": "poses", "frame": len(moving) - 1, "timestamp_s": (len(moving) - 1) / 15, "size": [512, 512],
            "people": [], "times_ms": {},
        }  # fmt: skip


def test_a_flood_is_thinned_newest_first_and_every_frame_is_answered(server: Running, moving: list[bytes]) -> None:
    count = 300
    with session(server) as client:
        for number in range(count):
            client.frame(number / 100, moving[number % len(moving)])
        answers = [client.answer() for _ in range(count)]
    assert [answer["frame"] for answer in answers] == list(range(count))
    kinds = {answer["type"] for answer in answers}
    assert kinds == {"poses", "dropped"}
    assert all(answer == {"type": "dropped", "frame": n, "why": "late"} for n, answer in enumerate(answers)
               if answer["type"] == "dropped")  # fmt: skip
    assert answers[-1]["type"] == "poses"  # the newest is never dropped


def test_a_bad_frame_does_not_end_the_session(server: Running, moving: list[bytes]) -> None:
    with session(server) as client:
        for data, words in (
            (b"", "0 bytes"),
            (b"1234567", "7 bytes"),
            (struct.pack("<d", 1.0), "empty"),
            (struct.pack("<d", 1.0) + b"no image", "not an image"),
            (struct.pack("<d", 1.0) + moving[0][:5000], "cut off"),
            (struct.pack("<d", float("nan")) + moving[0], "time"),
            (struct.pack("<d", float("inf")) + moving[0], "time"),
            (struct.pack("<d", 1e300) + moving[0], "time"),
        ):
            client.raw(data)
            answer = client.answer()
            assert answer["type"] == "error", words
            assert words in answer["error"]["what"]
        assert client.ask(2.0, moving[0])["frame"] == 8


def test_clocks_may_jump(server: Running, moving: list[bytes]) -> None:
    with session(server) as client:
        times = (0.0, 0.04, 0.08, 0.12, 1e9, 1e9 + 0.04, -5.0, -1e12, 1e12, 0.0)
        answers = [client.ask(at, moving[0]) for at in times]
    assert [answer["type"] for answer in answers] == ["poses"] * len(times)


def test_options_and_reset(server: Running, moving: list[bytes]) -> None:
    with session(server) as client:
        for number, image in enumerate(moving[:8]):
            answer = client.ask(number / 15, image)
        assert ids(answer)
        client.say(type="options", min_person_score=9.5)
        assert client.ask(1.0, moving[4])["people"] == []
        client.say(type="options", min_person_score=0.0, min_keypoint_score=0.5, smoothing=False)
        answer = client.ask(1.1, moving[4])
        assert all(point is None or point[2] >= 0.5 for person in answer["people"] for point in person["keypoints"])
        client.say(type="reset")
        assert ids(client.ask(1.2, moving[5])) == set()  # nobody is confirmed by one frame


def test_smoothing_calms(server: Running, moving: list[bytes]) -> None:
    def last_nose(smoothing: bool) -> tuple[float, float]:
        with session(server) as client:
            client.say(type="options", smoothing=smoothing, min_keypoint_score=0, min_person_score=0)
            for number, image in enumerate(moving[:6]):
                answer = client.ask(number / 15, image)
        best = max(answer["people"], key=lambda person: person["score"])
        x, y, _ = best["keypoints"][0]
        return x, y

    plain, smooth = last_nose(False), last_nose(True)
    assert plain != smooth
    assert abs(plain[0] - smooth[0]) < 15


@pytest.mark.parametrize(
    "text",
    [
        "", "no json", "[]", "{}", "null", '{"type": "hello"}', '{"type": "options", "smoothing": "perhaps"}',
        '{"type": "options", "min_person_score": -1}', '{"type": "options", "min_person_score": NaN}',
        '{"type": "options", "unknown": 1}', '{"type": "reset"' + " " * 5000 + "}", '{"type":' * 500,
    ],
)  # fmt: skip
def test_messages_that_are_none(server: Running, moving: list[bytes], text: str) -> None:
    with session(server) as client:
        client.text(text)
        answer = client.answer()
        assert answer["type"] == "error"
        assert answer["frame"] is None
        assert answer["error"]["what"]
        assert client.ask(0.0, moving[0])["frame"] == 0


def test_sessions_share_nothing(server: Running, moving: list[bytes]) -> None:
    with session(server) as one, session(server) as two:
        two.say(type="options", min_person_score=9.9)
        for number in range(8):
            one.frame(number / 15, moving[number])
            two.frame(100 + number / 15, moving[number])
            first, second = one.answer(), two.answer()
        assert 0 in ids(first)
        assert second["people"] == []
        two.say(type="options", min_person_score=0)
        assert 0 in ids(two.ask(100.6, moving[8]))


def test_sessions_are_bounded_by_number_size_and_silence(start: Start, moving: list[bytes]) -> None:
    limits = ServeLimits(sessions=1, frame_bytes=200_000, idle_timeout_s=4.0)
    with start(ServeOptions(limits=limits)) as server:
        with session(server) as first:
            with connect(f"{server.socket_url}/v1/stream", proxy=None) as second:
                with pytest.raises(ConnectionClosed) as closed:
                    second.recv(timeout=30)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1013
            assert first.ask(0.0, moving[0])["type"] == "poses"
            first.raw(bytes(200_001))
            assert first.close_code() == 1009
        for _ in range(50):  # the server notices the end of the first one in its own time
            try:
                with session(server) as silent:
                    silent.say(type="reset")
                    started = time.monotonic()
                    assert silent.close_code() == 1008
                    assert time.monotonic() - started < 50
                break
            except ConnectionClosed:
                time.sleep(0.1)
        else:
            raise AssertionError("the place of the first session never became free")
