"""Warming up leaves nothing to compile for the first tracked frame."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from featherpose.evaluation.tracking.detector_noise import released_errors
from featherpose.evaluation.tracking.scenes import render_scene
from featherpose.evaluation.tracking.simulate import detect
from featherpose.jit import kernel_cache
from featherpose.tracking import PoseSmoother, PoseTracker, SmoothOptions, matching, motion, smoothing, warm_up

KERNELS: list[Any] = [
    matching._shifted_oks, motion._sizes_of, motion._predict, motion._correct,
    smoothing._rows_of, smoothing._recent, smoothing._filter,
]  # fmt: skip


def test_no_kernel_is_compiled_after_the_warm_up() -> None:
    warm_up()
    before = [len(kernel.signatures) for kernel in KERNELS]
    assert min(before) >= 1
    scene = render_scene("crowd", 6, seed=0, seconds=2)
    # Whole numbers where fractions are usual, other memory layouts: all of it is the compiler's one type.
    tracker, smoother = PoseTracker(), PoseSmoother(SmoothOptions(min_cutoff_hz=1, beta=2, max_gap_s=1))
    for i, poses in enumerate(detect(scene, released_errors(), seed=0)):
        odd = poses[np.arange(len(poses))[::-1]] if i % 2 else poses
        smoother.update(tracker.update(odd, i), i)
    assert [len(kernel.signatures) for kernel in KERNELS] == before


@pytest.mark.skipif(kernel_cache() is None, reason="compiled kernels cannot be kept here")
def test_the_kernels_of_tracking_count_when_asked_whether_they_are_cached(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm_up()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    # A process that has loaded tracking finds none of its kernels in an empty folder, even if another one is there.
    code = (
        "from featherpose.jit import kernel_cache, kernels_are_cached\n"
        "(kernel_cache() / 'other.nbc').touch()\n"
        "assert kernels_are_cached()\n"
        "import featherpose.tracking\n"
        "assert not kernels_are_cached()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
