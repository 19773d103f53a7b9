"""Kill, fill up and take away: what is left of the files that ``predict`` was writing.

    python benchmarks/faults.py --kills 100

1. ``kill -9`` at a random moment of a run that writes every format at once. Afterwards every frame that was finished
   must be readable in every format under a name that the run told, no other file may lie about, and the same command
   with ``--resume`` must give what an uninterrupted run gives.
2. A full disk (a small tmpfs as root, else a limit of file size) and ``/dev/full`` under each output: exit code 1 at
   once, one line, and what was finished is readable.

The figures go to results/faults.json and into docs/explanation/reliability.md by hand.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

RESULTS = Path(__file__).parent / "results/faults.json"
FRAMES = 60
HEIGHT = 64
DATA = ("jsonl", "csv", "coco", "parquet", "openpose")
VIDEOS = ("mp4", "webm", "mkv", "mov", "avi")
_NAMES = {"jsonl": "p.jsonl", "csv": "p.csv", "coco": "p.json", "parquet": "p.parquet", "openpose": "op"}
_TOLD = re.compile(r"(?:results are|video is) in (.+)$", re.MULTILINE)
# Imports the program once and forks for every run, since a hundred starts would take longer than all else. PyAV is
# hidden from the child where the writers without it are tried.
_LAUNCHER = """
import json, os, sys
import featherpose.cli.commands.predict
from featherpose.cli.main import main
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        os.chdir(job["cwd"])
        os.dup2(os.open(job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        if not job["pyav"]:
            sys.modules["av"] = None
        if job["limit"]:
            import resource, signal
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
        code = 1
        try:
            main(job["arguments"])
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def _astronaut() -> Any:
    photographs: Any = importlib.import_module("skimage.data")
    return photographs.astronaut()


def write_source(path: Path, frames: int = FRAMES) -> None:
    """Write a video of a photograph that moves; scikit-image ships the photograph, which is in the public domain."""
    image = np.ascontiguousarray(_astronaut()[..., ::-1])[:384]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), 25, (512, 384))
    for i in range(frames):
        writer.write(np.ascontiguousarray(np.roll(image, 2 * i, 1)))
    writer.release()


class Run:
    """One run of ``predict``, from its start on."""

    def __init__(self, launcher: subprocess.Popen[str], folder: Path, pid: int, stderr: Path) -> None:
        self._launcher = launcher
        self._stderr = stderr
        self.folder = folder
        self.pid = pid

    def wait(self) -> tuple[int, str]:
        """Return exit code (negative: the signal) and messages."""
        assert self._launcher.stdout is not None
        return int(self._launcher.stdout.readline()), self._stderr.read_text()


class Launcher:
    """Starts runs of ``predict`` from a process that has imported it."""

    def __init__(self, base: Path) -> None:
        self._stderr = base / "stderr.txt"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path, source: Path, outputs: list[str], *, pyav: bool, limit: int = 0) -> Run:
        """Start one; the one before has ended."""
        arguments = ["predict", str(source), "--height", str(HEIGHT), "--threads", "2", *outputs]
        job = {"cwd": str(folder), "stderr": str(self._stderr), "pyav": pyav, "limit": limit, "arguments": arguments}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Run(self._process, folder, int(self._process.stdout.readline()), self._stderr)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def all_outputs(suffix: str) -> list[str]:
    """Return the options for every data format and a video."""
    return [word for name in DATA for word in (f"--{name}", _NAMES[name])] + ["-o", f"out.{suffix}"]


def count_video(path: Path) -> int:
    """Return how many frames of a video can be decoded."""
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


def frames_in(folder: Path, kind: str, name: Path) -> int:
    """Return the frames that can be read of one output: the count, or the last number and one for tables of people."""
    if kind == "openpose":
        return sum(1 for p in name.iterdir() if not p.name.startswith(".") and json.loads(p.read_text())["version"])
    if kind == "jsonl":
        return sum(1 for line in name.read_text().splitlines(keepends=True) if line.endswith("\n") and json.loads(line))
    if kind == "coco":
        return max((p["frame"] + 1 for p in json.loads(name.read_text())), default=0)
    if kind == "csv":
        with name.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return max((int(r["frame"]) + 1 for r in rows if None not in r.values()), default=0)
    if kind == "parquet":
        import pyarrow.parquet

        return max((f + 1 for f in pyarrow.parquet.read_table(name, columns=["frame"])["frame"].to_pylist()), default=0)
    return count_video(name)


def where(folder: Path, name: str, told: list[str]) -> Path | None:
    """Return the file of an output after a kill: under its own name, or under one that the run told."""
    if (folder / name).exists():
        return folder / name
    stem, suffix = Path(name).stem, Path(name).suffix.replace(".parquet", ".csv")
    names = (t for t in told if t.startswith(f"{stem}.unfinished-") and t.endswith(suffix))
    return next((folder / t for t in names if (folder / t).exists()), None)


def state_of(folder: Path) -> dict[str, Any]:
    """Return everything that the data outputs of a finished run hold."""
    import pyarrow.parquet

    return {
        "jsonl": (folder / "p.jsonl").read_text(),
        "csv": (folder / "p.csv").read_text(),
        "coco": json.loads((folder / "p.json").read_text()),
        "parquet": pyarrow.parquet.read_table(folder / "p.parquet").to_pylist(),
        "openpose": {p.name: p.read_text() for p in (folder / "op").iterdir()},
    }


def kill_once(
    launcher: Launcher,
    folder: Path,
    source: Path,
    suffix: str,
    *,
    pyav: bool,
    delay_s: float,
    expected: dict[str, Any],
    resume: bool,
) -> dict[str, Any]:
    """Kill one run, look at what is left, and let it go on."""
    outputs = all_outputs(suffix)
    run = launcher.start(folder, source, outputs, pyav=pyav)
    lines_file = folder / "p.jsonl"
    until = time.monotonic() + 300
    while time.monotonic() < until and not (lines_file.exists() and lines_file.stat().st_size > 0):
        time.sleep(0.005)
    time.sleep(delay_s)
    with contextlib.suppress(ProcessLookupError):  # it was faster
        os.kill(run.pid, signal.SIGKILL)
    returncode, err = run.wait()
    told = [Path(name).name for match in _TOLD.findall(err) for name in match.split(", ")]
    lines = frames_in(folder, "jsonl", folder / "p.jsonl")
    # The last line may be of a frame that the other outputs did not have yet when the signal came.
    finished = max(0, lines - 1)
    lost: dict[str, int] = {}
    for kind in (*DATA, "video"):
        name = _NAMES.get(kind, f"out.{suffix}")
        found = where(folder, name, told)
        need = finished
        if kind in ("csv", "coco", "parquet"):  # a frame without people has no row: the last one that has
            need = max((f + 1 for f in expected["people_in"] if f < finished), default=0)
        if kind == "video" and pyav and suffix in ("mp4", "mkv", "mov"):
            need = max(0, need - 1)  # FFmpeg writes a frame when the next one comes, as the documentation says
        readable = 0
        if found is not None:
            rows = "csv" if kind == "parquet" and found.suffix == ".csv" else kind
            try:
                readable = frames_in(folder, rows, found)
            except Exception:  # any reader's complaint means that nothing can be read
                readable = 0
        lost[kind] = max(0, need - readable)
    told_names = {*told, *_NAMES.values(), f"out.{suffix}"}
    stray = sorted(p.name for p in folder.iterdir() if p.name not in told_names)
    # Of a file that was being written, under the name that the documentation gives; the next run removes it.
    parts = [p.name for p in (folder / "op").iterdir() if p.name.startswith(".")]
    outcome: dict[str, Any] = {"lines": lines, "lost": lost, "stray": stray, "parts": parts, "returncode": returncode}
    if resume:
        code, err = launcher.start(folder, source, [*outputs, "--resume", "-q"], pyav=pyav).wait()
        same = code == 0 and state_of(folder) == expected["state"]
        video = count_video(folder / f"out.{suffix}") == FRAMES
        left = {p.name for p in folder.iterdir()} == {*_NAMES.values(), f"out.{suffix}"}
        left = left and not any(p.name.startswith(".") for p in (folder / "op").iterdir())
        outcome["resumed"] = same and video and left
        if not outcome["resumed"]:
            outcome["why"] = [err[-200:], same, video, left]
    return outcome


def kills(count: int, seed: int, resume_every: int, minutes: float) -> dict[str, Any]:
    """Kill runs at random moments, over all containers with and without PyAV."""
    rng = random.Random(seed)
    totals: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        root = Path(base)
        source = root / "moving.mp4"
        write_source(source)
        launcher = Launcher(root)
        folder = root / "whole"
        folder.mkdir()
        for _ in range(2):  # the first run may compile kernels
            code, err = launcher.start(
                folder, source, [*all_outputs("webm"), "--summary", "../s.json", "-q"], pyav=True
            ).wait()
            assert code == 0, err
        seconds = json.loads((root / "s.json").read_text())["seconds"]
        state = state_of(folder)
        people = sorted({json.loads(x)["frame"] for x in state["jsonl"].splitlines() if json.loads(x)["people"]})
        expected = {"state": state, "people_in": people}
        print(f"a whole run takes {seconds:.1f} s; {len(people)} of {FRAMES} frames have people", flush=True)
        begun = time.monotonic()
        for number in itertools.count():  # runs that ended before the signal came are not kills
            if totals["killed in time"] >= count or time.monotonic() - begun > 60 * minutes:
                break
            pyav, suffix = bool(number % 2), VIDEOS[number // 2 % len(VIDEOS)]
            folder = root / f"kill-{number}"
            folder.mkdir()
            outcome = kill_once(
                launcher, folder, source, suffix, pyav=pyav, delay_s=rng.uniform(0, 0.8 * seconds), expected=expected,
                resume=number % resume_every == 0,
            )  # fmt: skip
            totals["runs"] += 1
            totals["killed in time"] += outcome["returncode"] == -signal.SIGKILL
            totals["finished frames"] += max(0, outcome["lines"] - 1)
            totals["stray files"] += len(outcome["stray"])
            totals["parts of one file"] += len(outcome["parts"])
            totals["resumed"] += outcome.get("resumed", False)
            totals["resume tried"] += "resumed" in outcome
            lost.update(outcome["lost"])
            if any(outcome["lost"].values()) or outcome["stray"] or not outcome.get("resumed", True):
                failures.append({"run": number, "suffix": suffix, "pyav": pyav, **outcome})
            print(number, suffix, "PyAV" if pyav else "OpenCV", outcome, flush=True)
            shutil.rmtree(folder)
        launcher.close()
    return {"totals": dict(totals), "frames lost": dict(lost), "failures": failures}


@contextlib.contextmanager
def small_disk(size_kb: int) -> Iterator[Path]:
    """Give a folder on a disk of this size, as root; raises PermissionError otherwise."""
    if os.name == "nt" or os.geteuid() != 0:
        raise PermissionError
    with tempfile.TemporaryDirectory(prefix="small-") as folder:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", folder], check=True, capture_output=True
        )
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def full_disk(launcher: Launcher, source: Path, kind: str, *, pyav: bool, size_kb: int) -> dict[str, Any]:
    """Write one output on a disk that fills up."""

    def attempt(folder: Path, limit: int) -> dict[str, Any]:
        name = _NAMES.get(kind, f"out.{kind}")
        outputs = [f"--{kind}" if kind in DATA else "-o", name, "-q"]
        started = time.perf_counter()
        code, err = launcher.start(folder, source, outputs, pyav=pyav, limit=limit).wait()
        seconds = time.perf_counter() - started
        files = sorted(p.name for p in folder.iterdir())
        readable = 0
        for file in files:
            rows = "csv" if file.endswith(".interrupted.csv") else kind
            try:
                readable = max(readable, frames_in(folder, rows if rows in DATA else "video", folder / file))
            except Exception:  # any reader's complaint means that nothing can be read
                readable = -1
        right = code == 1 and len(err.splitlines()) == 1 and readable > 0
        return {
            "returncode": code, "lines": len(err.splitlines()), "message": err.strip()[:200], "files": files[:4],
            "readable": readable, "seconds": round(seconds, 1), "right": right,
        }  # fmt: skip

    try:
        with small_disk(size_kb) as folder:
            return {"by": "tmpfs", **attempt(folder, 0)}
    except (PermissionError, subprocess.CalledProcessError):
        with tempfile.TemporaryDirectory() as base:
            return {"by": "RLIMIT_FSIZE", **attempt(Path(base), size_kb * 1024)}


def dev_full(launcher: Launcher, source: Path, kind: str) -> dict[str, Any]:
    """Write a text output to /dev/full."""
    code, err = launcher.start(source.parent, source, [f"--{kind}", "/dev/full", "-q"], pyav=True).wait()
    lines = err.splitlines()
    right = code == 1 and len(lines) == 1 and "the disk is full" in lines[0]
    return {"returncode": code, "lines": len(lines), "message": err.strip()[:200], "right": right}


def disks() -> dict[str, Any]:
    """Fill the disk under every output."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="faults-") as base:
        source, longer = Path(base) / "moving.mp4", Path(base) / "longer.mp4"
        write_source(source)
        write_source(longer, 3 * FRAMES)  # text is short: 60 frames of it fit on the disk
        launcher = Launcher(Path(base))
        for kind in DATA:
            found[kind] = full_disk(launcher, longer, kind, pyav=True, size_kb=200 if kind == "openpose" else 40)
            print(kind, found[kind], flush=True)
        for kind in VIDEOS:
            for pyav in (True, False):
                name = f"{kind}, {'PyAV' if pyav else 'OpenCV'}"
                found[name] = full_disk(launcher, source, kind, pyav=pyav, size_kb=300)
                print(name, found[name], flush=True)
        if Path("/dev/full").exists():
            for kind in ("jsonl", "csv", "coco", "parquet"):
                found[f"{kind} to /dev/full"] = dev_full(launcher, source, kind)
                print(kind, "/dev/full", found[f"{kind} to /dev/full"], flush=True)
        launcher.close()
    return found


def main() -> None:
    """Run the campaign and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume-every", type=int, default=3, help="resume after one kill of so many")
    parser.add_argument("--parts", nargs="*", default=["disks", "kills"], choices=["disks", "kills"])
    parser.add_argument("--minutes", type=float, default=60.0, help="no further kill after this time")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    report = json.loads(options.output.read_text()) if options.output.exists() else {}
    for part in options.parts:
        report[part] = (
            disks() if part == "disks" else kills(options.kills, options.seed, options.resume_every, options.minutes)
        )
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(markdown(report))


def markdown(report: dict[str, Any]) -> str:
    """Return the tables of the documentation."""
    kills: dict[str, Any] = report.get("kills", {"totals": {}, "frames lost": {}})
    lines = ["| kill -9 | |", "|---|---|"]
    lines += [f"| {name} | {value:,} |" for name, value in kills["totals"].items()]
    lines += [f"| frames lost, {name} | {value:,} |" for name, value in kills["frames lost"].items()]
    lines += [
        "",
        "| full disk under | exit code | lines of message | frames readable | right |",
        "|---|---|---|---|---|",
    ]
    for name, row in report.get("disks", {}).items():
        lines.append(
            f"| {name} | {row['returncode']} | {row.get('lines', 1)} | {row.get('readable', '')} | "
            f"{'yes' if row['right'] else 'no'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
