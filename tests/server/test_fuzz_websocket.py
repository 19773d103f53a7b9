"""Sessions that are sent nonsense: each frame is answered once, nothing hangs, nothing breaks."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from pose_server import Running
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

ROUNDS = 12
MESSAGES = 60


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    bent = bytearray(data)
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(0, max(1, min(len(bent), 700 if rng.random() < 0.7 else len(bent)))))
        match int(rng.integers(0, 4)):
            case 0:
                bent[at : at + 1] = rng.bytes(1)
            case 1:
                del bent[at : at + int(rng.integers(1, 40))]
            case 2:
                bent[at:at] = rng.bytes(int(rng.integers(1, 40)))
            case _:
                del bent[at:]
    return bytes(bent)


def a_message(rng: np.random.Generator, images: list[bytes]) -> bytes | str:
    image = images[int(rng.integers(0, len(images)))]
    match int(rng.integers(0, 8)):
        case 0 | 1:
            return struct.pack("<d", float(rng.normal(0, 10))) + image
        case 2 | 3:
            return struct.pack("<d", 1.0) + mutated(image, rng)
        case 4:
            return rng.bytes(int(rng.integers(0, 40)))
        case 5:
            value: Any = rng.choice([0.5, -1.0, 1e300])
            return json.dumps({"type": "options", "min_person_score": value, "smoothing": bool(rng.integers(0, 2))})
        case 6:
            return json.dumps({"type": ["reset", "options", "poses", ""][int(rng.integers(0, 4))]})
        case _:
            return mutated(b'{"type": "options", "smoothing": true}', rng).decode("latin-1")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_nonsense_is_answered_and_survived(server: Running, moving: list[bytes], seed: int) -> None:
    rng = np.random.default_rng(seed)
    with connect(f"{server.socket_url}/v1/stream", proxy=None) as socket:
        assert json.loads(socket.recv(timeout=60))["type"] == "hello"
        sent = [a_message(rng, moving[:3]) for _ in range(MESSAGES)]
        for message in sent:
            socket.send(message)
        frames = sum(isinstance(message, bytes) for message in sent)
        answered: list[int] = []
        while len(answered) < frames:
            answer = json.loads(socket.recv(timeout=60))
            assert answer["type"] in ("poses", "dropped", "error")
            if answer["frame"] is not None:
                answered.append(answer["frame"])
        assert answered == list(range(frames))
        socket.send(struct.pack("<d", 1e6) + moving[0])  # the session still works
        while True:
            answer = json.loads(socket.recv(timeout=60))
            if answer["frame"] == frames:
                break
        assert answer["type"] == "poses"
    assert "featherpose_internal_errors_total 0.0" in server.service.metrics.text().decode()


def test_broken_frames_of_the_protocol_end_the_session_only(server: Running) -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        with connect(f"{server.socket_url}/v1/stream", proxy=None, close_timeout=1) as socket:
            socket.recv(timeout=60)
            socket.socket.sendall(rng.bytes(int(rng.integers(1, 200))))
            with pytest.raises((ConnectionClosed, TimeoutError)):
                socket.recv(timeout=0.2)
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
    assert "featherpose_internal_errors_total 0.0" in server.service.metrics.text().decode()
