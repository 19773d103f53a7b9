"""A run looks up no host, connects to none, and writes nothing but its outputs and its cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from featherpose.media.images import write_image

# Python tells an audit hook of every look-up, connection and opened file, whichever package asks for it.
SCRIPT = """
import os, sys

def watch(event, arguments):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.sendto"):
        print("NETWORK", event, arguments[-2:], file=sys.stderr)
    if event == "open" and isinstance(arguments[0], int):
        return  # a descriptor that was opened, and reported, before
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        print("WRITTEN", os.path.abspath(os.fsdecode(arguments[0])), file=sys.stderr)

sys.addaudithook(watch)
from featherpose.cli.main import main
main(sys.argv[1:])
"""


def watched(home: Path, *arguments: str) -> list[str]:
    """What a command looked up, connected to or wrote outside its cache and the given folder."""
    home.mkdir()
    cache = user_cache_path("featherpose")  # the tests' own: compiling the kernels once more would take a minute
    keep = {
        "PATH": os.defpath, "HOME": str(home), "XDG_CACHE_HOME": str(cache.parent),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-B", "-c", SCRIPT, *arguments],
        capture_output=True, text=True, env=keep, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    allowed = (str(cache), str(home.parent / "out"), "/dev/")
    lines = [line for line in done.stderr.splitlines() if line.startswith(("NETWORK", "WRITTEN"))]
    outside = [line for line in lines if not line.removeprefix("WRITTEN ").startswith(allowed)]
    return outside + [str(path) for path in home.rglob("*")]


def test_a_run_talks_to_nobody(tmp_path: Path, astronaut: np.ndarray) -> None:
    write_image(tmp_path / "photo.png", astronaut)
    (tmp_path / "out").mkdir()
    photo, out = str(tmp_path / "photo.png"), str(tmp_path / "out" / "poses.jsonl")
    assert watched(tmp_path / "home", "predict", photo, "--jsonl", out, "-q") == []


def test_quantization_reports_nothing() -> None:
    script = (
        "import featherpose, sys; import nncf; from nncf.telemetry import wrapper;"
        "print(type(wrapper.telemetry).__name__, [n for n in sys.modules if n.startswith('openvino_telemetry.')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.split("\n")[0] == "MagicMock []"  # NNCF's stand-in where the reporting package is absent
