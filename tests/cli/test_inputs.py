"""Sources as the command line takes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.media.images import write_image

MODEL = ["--height", "64"]


def test_an_image_from_standard_input(astronaut: np.ndarray, tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", astronaut)[1].tobytes()
    done = subprocess.run(
        [sys.executable, "-m", "featherpose.cli.main", "predict", "-", *MODEL, "--jsonl", "-", "-q"],
        input=data, capture_output=True, cwd=tmp_path, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1


def test_an_unknown_option_is_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "photo.jpg", "--colour-of-the-sky", "blue"]) == 2
    assert "unknown option --colour-of-the-sky" in capsys.readouterr().err.lower()


def test_the_second_wall_of_the_decoders(tmp_path: Path, astronaut: np.ndarray) -> None:
    script = (
        "import os, sys\n"
        "from featherpose.cli import main\n"
        "main._limit_decoders(sys.argv[1:])\n"
        "import cv2, numpy as np\n"
        "print(os.environ['OPENCV_IO_MAX_IMAGE_PIXELS'])\n"
    )
    for arguments, pixels in (
        ([], 200_000_000),
        (["predict", "x.jpg", "--max-megapixels", "25"], 200_000_000),
        (["predict", "x.jpg", "--max-megapixels=600"], 600_000_000),
    ):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert int(done.stdout) == pixels


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space that holds")
def test_too_little_memory_is_told_as_such(tmp_path: Path) -> None:
    large = np.zeros((9000, 9000, 3), np.uint8)
    write_image(tmp_path / "large.png", large)
    script = (
        "import resource, sys\n"
        "from featherpose.media.images import read_image\n"
        "from featherpose.errors import OutOfMemoryError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 150_000_000,) * 2)\n"
        "try:\n"
        "    read_image(sys.argv[1])\n"
        "except OutOfMemoryError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "large.png")], capture_output=True, text=True, check=False
    )
    assert "there is not enough memory for" in done.stdout, done.stderr
    assert "9000x9000 pixels take about 486 MB" in done.stdout


def test_a_library_that_does_not_load_for_want_of_memory() -> None:
    from featherpose.cli.main import _is_out_of_memory

    error = ImportError("cannot import module")
    error.__cause__ = OSError("libtorch.so: failed to map segment from shared object")
    assert _is_out_of_memory(error)
    assert not _is_out_of_memory(ImportError("no such module"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space that holds")
def test_too_little_address_space_is_told(tmp_path: Path, grace_hopper: Path) -> None:
    """Below it OpenBLAS hangs and LLVM aborts."""
    done = subprocess.run(
        ["sh", "-c", 'ulimit -v 1150000; exec "$@"', "sh", sys.executable, "-m", "featherpose.cli.main", "predict",
         str(grace_hopper), "--jsonl", str(tmp_path / "a.jsonl"), "-q"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1
    assert "MB of address space (ulimit -v) are not enough memory" in done.stderr
    assert len(done.stderr.splitlines()) == 1
