"""Real servers on loopback for tests, that can be cut in the middle and brought back."""

from __future__ import annotations

import contextlib
import functools
import http.server
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

__all__ = ["RTSP_MISSING", "Camera", "Server", "access_units", "clip_units", "rtsp_is_here", "send_images"]

_SERVER = Path(__file__).with_name("rtsp_server.py")
_DEBIAN_PYTHON = Path("/usr/bin/python3")
RTSP_MISSING = (
    "there is no RTSP server here; on Debian: apt-get install "
    "gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
)


@functools.cache
def rtsp_is_here() -> bool:
    """Whether Debian's GStreamer RTSP server and its bindings are installed."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if not _DEBIAN_PYTHON.exists():
        return False
    return subprocess.run([str(_DEBIAN_PYTHON), "-c", probe], capture_output=True, check=False).returncode == 0


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def access_units(image: np.ndarray, count: int) -> bytes:
    """H.264 of a photograph that rolls to the left, as the RTSP server takes it."""
    return clip_units([np.roll(image, -4 * i, 1) for i in range(count)])


def clip_units(images: Sequence[np.ndarray]) -> bytes:
    """H.264 of a video's frames, as the RTSP server takes it."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = images[0].shape[1], images[0].shape[0], "yuv420p"
    encoder.time_base = Fraction(1, 25)
    # "zerolatency" cuts a picture into a slice for each core, and the server would send the last one only.
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "10", "x264-params": "sliced-threads=0"}
    units = []
    for i, image in enumerate(images):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        frame.pts, frame.time_base = i, Fraction(1, 25)
        units += [bytes(packet) for packet in encoder.encode(frame)]
    return b"".join(len(unit).to_bytes(4, "little") + unit for unit in units)


class Camera:
    """The RTSP server as a process of its own, so that it can be killed and stopped like one."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/live"
        self._file = folder / "camera.bin"
        self._process: subprocess.Popen[str] | None = None

    def start(self, units: bytes, *, fps: float = 25) -> None:
        self._file.write_bytes(units)
        words = [str(_DEBIAN_PYTHON), str(_SERVER), str(self.port), str(fps), str(self._file)]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


class Server:
    """An HTTP server that can be cut like a cable: every connection with it, and the port closed."""

    def __init__(self, answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> None:
        self.port = free_port()
        self._answer = answer
        self._httpd: http.server.ThreadingHTTPServer | None = None
        self._clients: list[socket.socket] = []
        self._lock = threading.Lock()
        self._over = False

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self) -> None:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server._clients.append(self.connection)
                try:
                    server._answer(self)
                except OSError:  # it was cut, or the reader has left
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parent calls it so
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        with self._lock:
            if self._over or self._httpd is not None:
                return
            self._httpd = Quiet(("127.0.0.1", self.port), Handler)
            threading.Thread(target=self._httpd.serve_forever, args=(0.05,), daemon=True).start()

    def cut(self) -> None:
        with self._lock:
            if self._httpd is not None:
                self._httpd.shutdown()
                self._httpd.server_close()
                self._httpd = None
            for client in self._clients:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            self._clients.clear()

    def end(self) -> None:
        """Split, and never start again, whatever a timer may want."""
        self._over = True
        self.cut()


def send_images(
    handler: http.server.BaseHTTPRequestHandler, images: list[bytes], *, lengths: bool, count: int = 10**9
) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--frame" if lengths else
                        'multipart/x-mixed-replace; boundary="frame"')  # fmt: skip
    handler.end_headers()
    for i in range(count):
        data = images[i % len(images)]
        length = b"Content-Length: %d\r\n" % len(data) if lengths else b""
        handler.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + data + b"\r\n")
        handler.wfile.flush()
        time.sleep(0.02)
