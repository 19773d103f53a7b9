"""Real servers on loopback, and what is sent to them: photographs that packages ship."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from pose_server import Running, Start, run_server

from featherpose.server.options import ServeOptions


@pytest.fixture(scope="session")
def start() -> Start:
    """Starts a server with given options, on a free port and one thread; ends it with the ``with`` block."""
    return run_server


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory, astronaut: np.ndarray) -> Path:
    """A video of a photograph that moves to the right: 30 frames, 15 a second."""
    path = tmp_path_factory.mktemp("videos") / "walk.mp4"
    image = cv2.resize(astronaut, (384, 384))
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 15, (480, 384))
    for shift in range(30):
        frame = np.full((384, 480, 3), 90, np.uint8)
        frame[:, 2 * shift : 2 * shift + 384] = image
        video.write(frame)
    video.release()
    return path


@pytest.fixture(scope="module")
def server(walk: Path) -> Iterator[Running]:
    """One server for all tests of a file that only ask; it holds 150 MB, which later tests of other things need."""
    with run_server(ServeOptions(sources={"walk": str(walk)})) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A TLS certificate of this machine that nobody vouches for, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@pytest.fixture(scope="session")
def photo(grace_hopper: Path) -> bytes:
    """A JPEG photograph of one person."""
    return grace_hopper.read_bytes()


@pytest.fixture(scope="session")
def moving(astronaut: np.ndarray) -> list[bytes]:
    """JPEG frames in which the same person moves a little."""
    frames = []
    for shift in range(12):
        whole, data = cv2.imencode(".jpg", np.roll(astronaut, 3 * shift, axis=1))
        assert whole
        frames.append(data.tobytes())
    return frames
