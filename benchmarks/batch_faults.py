"""kill -9 of the driver, of workers and of the head of a batch run, a full disk, a store that is restarted.

    python benchmarks/batch_faults.py driver worker head disk store [--kills 20] [--data ../shared] [--out results]

Kills fall on random moments from the start of the command on; the same command is then run again, into the same output,
until it is complete. Every key must be there once, and the poses must be those of a run that nothing happened to. The
driver is the process that speaks to Ray and, every other time, the command itself, its parent, which then can say
nothing; ``raylet`` is Ray's process for this machine. Runs that end with one line and exit code 1 are counted. The disk
is a small tmpfs, which needs root; the store is localbucket (``pip install localbucket``), an S3-compatible server that
keeps its objects on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from batch_inputs import FAST, command, linked_images, results_of, run

from featherpose.evaluation.performance.machine import machine_facts

_WORKERS = ("--workers", "2")
_MOST_FAILURES = 5  # runs that end with an error although nothing was killed
_RESULTS = tuple[list[str], dict[tuple[str, int], bytes]]


class Trials:
    """Runs over the same images, compared with a clean one.

    Args:
        data: Folder of development data.
        work: Folder for everything that is written.
        images: How many images.
    """

    def __init__(self, data: Path, work: Path, images: int) -> None:
        self.work = work
        self.random = random.Random(0)
        self.photos = linked_images(data / "data/coco-val/images", work / "photos", images)
        _, _, summary = self.run(work / "clean")
        assert summary["units"] == images
        self.clean: _RESULTS = results_of(str(work / "clean"))

    def words(self, out: str | Path) -> tuple[str, ...]:
        """Return the options of every run."""
        return (str(self.photos), "--out", str(out), *FAST, *_WORKERS)

    def run(self, out: str | Path, *more: str) -> tuple[int, str, dict[str, object]]:
        """Run to the end."""
        return run(*self.words(out), *more, summary=self.work / "summary.json")

    def finish(self, out: str | Path) -> list[str]:
        """Run the command until it succeeds, five times at most; what it said when it did not."""
        said = []
        for _ in range(5):
            code, talk, _ = self.run(out)
            if code == 0:
                break
            said.append(talk.strip()[-300:])
        return said

    def start(self, out: str | Path, *more: str) -> subprocess.Popen[str]:
        """Begin a run."""
        return subprocess.Popen(command(*self.words(out), *more), stderr=subprocess.PIPE, text=True)

    def judge(self, out: str | Path) -> dict[str, Any]:
        """Compare an output with that of the clean run."""
        keys, poses = results_of(str(out))
        return {
            "units": len(keys), "lost": len(set(self.clean[0]) - set(keys)), "twice": len(keys) - len(set(keys)),
            "poses_differ": sum(poses.get(key) != value for key, value in self.clean[1].items()),
        }  # fmt: skip


def below(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """Return processes under a run whose name or command holds a word."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name in child.name() or name in " ".join(child.cmdline()[:1]):
                    found.append(child)
    return found


def kill_runs(trials: Trials, victim: str, kills: int, until_s: float) -> dict[str, Any]:
    """Kill the driver, the head or the raylet at random moments, again and again, and finish."""
    moments: list[float] = []
    ends: list[list[Any]] = []
    failed: list[list[Any]] = []
    verdicts, said = [], []
    number, out = 0, trials.work / f"{victim}-0"
    while len(moments) < kills and time.monotonic() < until_s and len(failed) < _MOST_FAILURES:
        process = trials.start(out)
        wait_s = trials.random.uniform(0.2, 30)
        began = time.monotonic()
        while time.monotonic() - began < wait_s and process.poll() is None:
            time.sleep(0.05)
        family = [*below(process, "ray"), *below(process, "gcs_server")]
        target = _target(process, victim, of_the_command=len(moments) % 2 == 1)
        killed = process.poll() is None and target is not None
        if killed and target is not None:
            os.kill(target, signal.SIGKILL)
            moments.append(round(time.monotonic() - began, 2))
        _, talk = process.communicate()
        if killed:
            lines = talk.strip().splitlines()
            ends.append([process.returncode, len(lines), round(time.monotonic() - began - moments[-1], 1)])
            said.append((lines or [""])[-1][-300:])
            with contextlib.suppress(psutil.Error):
                psutil.wait_procs([p for p in family if "Agent" not in p.name()], timeout=30)
            print(victim, len(moments), moments[-1], ends[-1], said[-1], flush=True)
        elif process.returncode:
            failed.append([process.returncode, talk.strip()[-300:]])
            print(victim, "ended by itself", failed[-1], flush=True)
        if process.returncode == 0:
            verdicts.append(trials.judge(out))
            number, out = number + 1, trials.work / f"{victim}-{number + 1}"
    final = trials.finish(out)
    verdicts.append(trials.judge(out))
    return {
        "finished": final, "kills": len(moments), "after_s": moments, "failed_by_itself": failed,
        "code_lines_seconds": ends, "said": said, "outputs": verdicts,
        "ended_by_one_line": sum(code == 1 and lines == 1 for code, lines, _ in ends),
    }  # fmt: skip


def _target(process: subprocess.Popen[str], victim: str, *, of_the_command: bool) -> int | None:
    if victim != "driver":
        name = {"head": "gcs_server"}.get(victim, victim)
        return next((p.pid for p in below(process, name) if p.name() == name), None)
    if of_the_command:
        return process.pid
    with contextlib.suppress(psutil.Error):
        return next((p.pid for p in psutil.Process(process.pid).children()), None)
    return None


def kill_workers(trials: Trials, kills: int, until_s: float) -> dict[str, Any]:
    """Kill a worker every few seconds; the run goes on by itself."""
    done, verdicts, lost, number = 0, [], 0, 0
    while done < kills and time.monotonic() < until_s:
        out, number = trials.work / f"worker-{number}", number + 1
        process = trials.start(out, "--summary", str(trials.work / "summary.json"))
        while process.poll() is None and done < kills and time.monotonic() < until_s:
            time.sleep(trials.random.uniform(1.0, 8.0))
            workers = below(process, "ray::Worker")
            if workers:
                with contextlib.suppress(psutil.Error):
                    trials.random.choice(workers).send_signal(signal.SIGKILL)
                    done += 1
                print("worker", done, flush=True)
        process.communicate()
        lost += json.loads((trials.work / "summary.json").read_text())["lost_workers"]
        verdicts.append({"returncode": process.returncode, **trials.judge(out)})
    return {"kills": done, "replaced": lost, "outputs": verdicts}


def full_disk(trials: Trials) -> dict[str, Any]:
    """Let the disk of the output run full, twice, and give it room."""
    place = trials.work / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(place)], check=True)
    lines = []
    try:
        for size in ("700k", "64m"):
            code, talk, _ = trials.run(place / "out")
            lines.append([code, talk.strip().splitlines()[-1]])
            subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)
        code, _, _ = trials.run(place / "out")
        return {"messages": lines, "returncode": code, "output": trials.judge(place / "out")}
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


class Store:
    """An S3-compatible server on this machine, which can be killed and started again."""

    def __init__(self, root: Path) -> None:
        (root / "bucket").mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root = root
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{self.port}", AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret",
            AWS_REGION="us-east-1",
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """Serve what is on the disk."""
        script = Path(sys.executable).parent / "localbucket"
        self.process = subprocess.Popen(
            [str(script), "--port", str(self.port), str(self.root)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise RuntimeError("the store did not start")

    def kill(self) -> None:
        """End it as a failing machine does."""
        self.process.kill()
        self.process.wait()


def restarted_store(trials: Trials) -> dict[str, Any]:
    """Kill the store under a run: for a while, which the run waits for, and for longer, after which it is run again."""
    store = Store(trials.work / "store")
    waited, said = 0, []
    try:
        process = trials.start("s3://bucket/waits")
        for _ in range(3):
            until = len(list((trials.work / "store/bucket").glob("waits/units/*/*"))) + 5
            while process.poll() is None and len(list((trials.work / "store/bucket").glob("waits/units/*/*"))) < until:
                time.sleep(0.05)
            if process.poll() is None:
                store.kill()
                time.sleep(trials.random.uniform(2, 8))
                store.start()
                waited += 1
        process.communicate()
        waits = {"kills": waited, "returncode": process.returncode, **trials.judge("s3://bucket/waits")}
        for _ in range(3):
            process = trials.start("s3://bucket/stops", "--patience", "2")
            until = len(list((trials.work / "store/bucket").glob("stops/units/*/*"))) + 5
            while process.poll() is None and len(list((trials.work / "store/bucket").glob("stops/units/*/*"))) < until:
                time.sleep(0.05)
            store.kill()
            _, talk = process.communicate()
            said.append([process.returncode, talk.strip().splitlines()[-1][:300] if talk.strip() else ""])
            store.start()
        trials.finish("s3://bucket/stops")
        return {"waits": waits, "stops": {"messages": said, **trials.judge("s3://bucket/stops")}}
    finally:
        store.kill()


def main() -> None:
    """Carry the parts out and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["driver", "worker", "head", "disk", "store"])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=60.0, help="no further kill of a part after this time")
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    path = options.out / "batch_faults.json"
    found: dict[str, Any] = {}
    work = Path(tempfile.mkdtemp(prefix="featherpose-faults-"))
    try:
        trials = Trials(options.data, work, options.images)
        found.update(machine=machine_facts(), images=options.images)
        for part in options.parts:
            until_s = time.monotonic() + 60 * options.minutes
            if part in ("driver", "head", "raylet"):
                found[part] = kill_runs(trials, part, options.kills, until_s)
            elif part == "worker":
                found[part] = kill_workers(trials, options.kills, until_s)
            else:
                found[part] = full_disk(trials) if part == "disk" else restarted_store(trials)
            found[part]["images"] = options.images
            print(part, json.dumps(found[part]), flush=True)
            before = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps({**before, **found}, indent=1) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
