"""``featherpose batch`` on a real local Ray: all inputs once, continued after kill -9, nothing left running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from batch_runs import RunBatch, keys_and_poses, summary

import featherpose


def test_a_run_is_complete_and_a_rerun_adds_what_is_new(batch: RunBatch, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = batch(photos, "--out", out, "--workers", "2", "--summary", tmp_path / "s.json")
    assert done.returncode == 1, done.stderr  # two inputs are no images
    assert "2 inputs failed" in done.stderr
    assert "Traceback" not in done.stderr
    first = summary(tmp_path / "s.json")
    assert (first["units"], first["failed"], first["complete"]) == (42, 2, True)
    keys, poses = keys_and_poses(out)
    assert len(keys) == len(set(keys)) == 42
    assert len(poses) >= 10
    (photos / "new.jpg").write_bytes((photos / "00.jpg").read_bytes())
    again = batch(photos, "--out", out, "--workers", "2", "--summary", tmp_path / "s.json")
    assert again.returncode == 1, again.stderr
    second = summary(tmp_path / "s.json")
    assert (second["units"], second["resumed"]) == (43, 42)
    assert set(keys_and_poses(out)[1]) > set(poses)
    refused = batch(photos, "--out", out, "--min-keypoints", "7")
    assert refused.returncode == 2
    assert "belongs to a run with other options" in refused.stderr
    manifest = featherpose.read_results(str(out)).manifest
    assert manifest is not None
    assert manifest["runs_in"]["height"] == 64


@pytest.mark.parametrize(
    "victim", ["head", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("driver", "worker"))]
)
def test_whoever_is_killed_every_input_is_done_once(
    ray_is_here: None, batch: RunBatch, photos: Path, tmp_path: Path, victim: str
) -> None:
    out = tmp_path / "out"
    words = [photos, "--out", out, "--workers", "2", "--shard-size", "2", "--height", "64", "--format", "parquet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "featherpose.cli.main", "batch", *map(str, words)],
        stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(out.glob("units/*/*.parquet")):
        assert time.monotonic() < deadline, "no shard was committed"
        assert process.poll() is None
        time.sleep(0.02)
    below = psutil.Process(process.pid).children(recursive=True)
    agents = [p for p in below if "Agent" in p.name()]
    name = {"driver": "", "worker": "ray::Worker", "head": "gcs_server"}[victim]
    pid = process.pid if victim == "driver" else next(p.pid for p in below if name in p.name() + str(p.cmdline()[:1]))
    os.kill(pid, signal.SIGKILL)
    _, talk = process.communicate(timeout=240)
    if victim == "head":
        assert process.returncode == 1
        assert "the head process of Ray ended; run the same command again" in talk
    assert "Traceback" not in talk
    # After kill -9 of the driver Ray's two agents look for their parent every minute or two only.
    expected = [p for p in below if not (victim == "driver" and p in agents)]
    assert not psutil.wait_procs(expected, timeout=60)[1]
    done = batch(*words[:-4], "--format", "parquet", "--summary", tmp_path / "s.json")
    assert done.returncode == 1, done.stderr
    assert summary(tmp_path / "s.json")["units"] == 42
    clean = tmp_path / "clean"
    batch(photos, "--out", clean, "--workers", "2", "--shard-size", "5")
    assert keys_and_poses(out) == keys_and_poses(clean)


@pytest.mark.parametrize("victim", ["run", "raylet", pytest.param("gcs_server", marks=pytest.mark.thorough)])
def test_whatever_dies_while_ray_starts_is_told_in_one_line(
    ray_is_here: None, photos: Path, tmp_path: Path, victim: str
) -> None:
    # Ray's core then ends the process that connects to it, with lines of its own and no exception.
    process = subprocess.Popen(
        [sys.executable, "-m", "featherpose.cli.main", "batch", str(photos), "--out", str(tmp_path / "out")],
        stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip
    found: dict[str, int] = {}
    deadline = time.monotonic() + 120
    while "raylet" not in found:
        assert time.monotonic() < deadline, "Ray did not start"
        assert process.poll() is None
        below = psutil.Process(process.pid).children(recursive=True)
        found = {"run": below[0].pid} if below else {}
        for child in below:
            with contextlib.suppress(psutil.Error):
                found[child.name()] = child.pid
        time.sleep(0.02)
    os.kill(found[victim], signal.SIGKILL)
    _, talk = process.communicate(timeout=240)
    assert process.returncode == 1
    assert talk.startswith("featherpose: ")
    assert "run the same command again" in talk
    assert len(talk.splitlines()) == 1, talk
    _, alive = psutil.wait_procs(below, timeout=60)
    assert not [p for p in alive if "Agent" not in p.name()]


def test_ctrl_c_ends_with_what_is_committed(ray_is_here: None, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "featherpose.cli.main", "batch", str(photos), "--out", str(out), "--shard-size", "1"],
        stderr=subprocess.PIPE, text=True, env=os.environ.copy(),
    )  # fmt: skip
    while not list(out.glob("units/*/*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; the same command again continues" in talk
    assert 1 <= len(keys_and_poses(out)[0]) < 42


def test_a_local_ray_listens_on_loopback_tells_nobody_and_ends(ray_is_here: None, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import json, os, psutil
        from featherpose.cluster.ray_session import RaySession
        with RaySession(workers=1) as session:
            ray = session.ray
            ray.get(ray.remote(lambda: 1).remote())
            from ray._common.usage.usage_lib import usage_stats_enabled
            below = psutil.Process().children(recursive=True)
            ends = [c.laddr.ip for p in [psutil.Process(), *below] for c in p.net_connections("inet")
                    if c.status == "LISTEN"]
            addressed = [c.raddr.ip for p in below for c in p.net_connections("inet") if c.raddr]
            pids = [p.pid for p in below]
            facts = {"listen": ends, "remote": addressed, "usage": usage_stats_enabled(), "pids": pids}
        with RaySession(workers=1) as session:  # a second one in the same process
            assert session.ray.get(session.ray.remote(lambda: 2).remote()) == 2
        facts["environment"] = [name for name in os.environ if name.startswith("RAY_") and name != "RAY_CLIENT_MODE"]
        print(json.dumps(facts))
    """)
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "HOME": str(home)},
    )  # fmt: skip
    import json

    facts = json.loads(done.stdout.splitlines()[-1])
    loopback = {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert facts["listen"]
    assert set(facts["listen"]) <= loopback
    assert set(facts["remote"]) <= loopback
    assert facts["usage"] is False
    assert facts["environment"] == []
    assert not any(psutil.pid_exists(pid) for pid in facts["pids"])
    assert not (home / ".ray").exists()


def test_a_pool_that_cannot_start_is_reported(ray_is_here: None, photos: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, subprocess, sys, threading
        from featherpose.cluster import BatchOptions, DetectionOptions, run_batch
        from featherpose.cluster.ray_session import RaySession
        from featherpose.runtime.backend import EngineOptions
        stop, lines = threading.Event(), []
        def notice(line):
            lines.append(line)
            if "could start" in line:  # on a busy machine others may come first
                stop.set()
        detection = DetectionOptions(height=64, engine=EngineOptions(threads=64))
        options = BatchOptions(detection=detection, workers=1, stall_s=3)
        summary = run_batch([{str(photos)!r}], {str(tmp_path / "out")!r}, options, on_notice=notice, stop=stop)
        assert not summary.complete
        print(lines[-1])
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "none of 1 workers could start; each needs 64 processors, and the cluster has" in done.stdout
