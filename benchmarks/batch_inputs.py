"""What the measurements of batch runs share: many images by links, a run in its own process, results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import featherpose

__all__ = ["command", "linked_images", "results_of", "run"]

FAST = ("--quality", "fast", "--height", "128")


def linked_images(images: Path, folder: Path, count: int) -> Path:
    """Fill a folder with links to images under as many names as asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    files = sorted(images.glob("*.jpg"))
    for i in range(count):
        link = folder / f"{i // 1000:03d}" / f"{i:06d}.jpg"
        if not link.exists():
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(files[i % len(files)].resolve())
    return folder


def command(*words: str | Path) -> list[str]:
    """Return the words that run ``featherpose batch``."""
    return [sys.executable, "-m", "featherpose.cli.main", "batch", *map(str, words)]


def run(*words: str | Path, summary: Path) -> tuple[int, str, dict[str, object]]:
    """Run it to its end: exit code, what it said, its summary."""
    done = subprocess.run(
        command(*words, "--summary", summary), capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    return done.returncode, done.stderr, json.loads(summary.read_text()) if summary.exists() else {}


def results_of(out: str) -> tuple[list[str], dict[tuple[str, int], bytes]]:
    """Return the keys of all units in order, and the poses of every image as bytes."""
    results = featherpose.read_results(out)
    keys = sorted(results.units().to_table(columns=["source"])["source"].to_pylist())
    return keys, {
        (record.source, record.frame): record.poses.keypoints.tobytes() + record.poses.keypoint_scores.tobytes()
        for record in results
    }
