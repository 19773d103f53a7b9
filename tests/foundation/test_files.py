"""Temporary files: what a killed process left goes, what a living one writes stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from featherpose.files import PartFile, unfinished_parts, write_bytes

HOLD = """
import sys
from pathlib import Path
from featherpose.files import PartFile
hidden, visible = PartFile(Path(sys.argv[1], "a.bin")), PartFile(Path(sys.argv[1], "clip.mp4"), visible=True)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no lock that ends with its process")
def test_only_what_no_process_holds_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (hidden,) = tmp_path.glob(".a.featherpose-*.bin")
        write_bytes(tmp_path / "b.bin", b"1")
        assert hidden.exists()
        assert unfinished_parts(tmp_path / "clip.mp4") == []
        process.kill()
    write = [
        sys.executable,
        "-c",
        "import sys, pathlib, featherpose.files as f; f.write_bytes(pathlib.Path(sys.argv[1]), b'')",
    ]
    subprocess.run([*write, str(tmp_path / "c.bin")], check=True)
    assert not hidden.exists()
    assert len(unfinished_parts(tmp_path / "clip.mp4")) == 1


def test_a_temporary_file_follows_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("precious")
    tokens = iter(["0" * 8, "1" * 8])
    monkeypatch.setattr("featherpose.files.secrets.token_hex", lambda n: next(tokens))
    (tmp_path / f".a.featherpose-{'0' * 8}.bin").symlink_to("victim")
    with PartFile(tmp_path / "a.bin") as part:
        assert part.part.name == f".a.featherpose-{'1' * 8}.bin"
    assert (tmp_path / "victim").read_text() == "precious"
