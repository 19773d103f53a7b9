"""An RTSP camera on loopback, made of GStreamer's RTSP server as Debian packages it.

    /usr/bin/python3 rtsp_server.py PORT FPS FILE

FILE holds H.264 access units (Annex B), each behind its length in four bytes, little-endian. They are sent in real
time, over and over, to everybody at rtsp://127.0.0.1:PORT/live. A line "ready" says that the port is open. Run by
Debian's own interpreter, which has the bindings; needs gir1.2-gst-rtsp-server-1.0, python3-gi,
gstreamer1.0-plugins-base and gstreamer1.0-plugins-good.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def access_units(data: bytes) -> list[bytes]:
    units, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        units.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return units


def main(port: str, fps: str, file: str) -> None:
    gi: Any = import_module("gi")
    for name in ("Gst", "GstRtspServer"):
        gi.require_version(name, "1.0")
    glib: Any
    glib, gst, rtsp = (import_module(f"gi.repository.{name}") for name in ("GLib", "Gst", "GstRtspServer"))
    gst.init(None)
    units = access_units(Path(file).read_bytes())

    def configure(_factory: Any, media: Any) -> None:
        source = media.get_element().get_by_name("camera")
        sent = 0

        def push() -> bool:
            nonlocal sent
            buffer = gst.Buffer.new_wrapped(units[sent % len(units)])
            sent += 1
            return bool(source.emit("push-buffer", buffer) == gst.FlowReturn.OK)

        glib.timeout_add(round(1000 / float(fps)), push)

    factory = rtsp.RTSPMediaFactory()
    factory.set_launch(
        "( appsrc name=camera is-live=true do-timestamp=true format=time "
        'caps="video/x-h264,stream-format=byte-stream,alignment=au" ! rtph264pay name=pay0 pt=96 config-interval=-1 )'
    )
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server = rtsp.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/live", factory)
    if server.attach(None) == 0:
        sys.exit(f"port {port} cannot be opened")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    glib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
