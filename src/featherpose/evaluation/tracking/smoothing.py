"""Cost of smoothing: remaining jitter against added delay, on walking people whose true joints are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from featherpose.errors import MissingExtraError
from featherpose.evaluation.tracking.detector_noise import DetectorErrors, released_errors
from featherpose.evaluation.tracking.scenes import Scene, render_scene
from featherpose.poses import Poses
from featherpose.tracking.motion import pose_sizes
from featherpose.tracking.smoothing import PoseSmoother
from featherpose.tracking.track_options import SmoothOptions

__all__ = ["SmoothingCost", "measure_smoothing", "plot_smoothing"]


@dataclass(frozen=True, slots=True)
class SmoothingCost:
    """Jitter and delay of one setting.

    Attributes:
        options: The setting; None for no smoothing.
        trembling: Root mean square of the second difference of what noise adds to the result (smoothed noisy joints
            less smoothed true joints, so that the movement itself does not count), thousandths of a size a frame².
        delay_ms: Lag behind the truth: the shift in time that explains most of the error.
        error: Root mean square distance to the truth, thousandths of a size.
    """

    options: SmoothOptions | None
    trembling: float
    delay_ms: float
    error: float


def measure_smoothing(
    settings: Sequence[SmoothOptions],
    *,
    seeds: Sequence[int] = (0, 1, 2),
    people: int = 6,
    errors: DetectorErrors | None = None,
) -> list[SmoothingCost]:
    """Return the cost of no smoothing, then of each setting.

    The joints of crossing people get the jitter of the released network in real video (the part that is new in each
    frame).
    """
    errors = errors or released_errors()
    scenes = [render_scene("crossing", people, seed=seed) for seed in seeds]
    noisy = [_tremble(scene, errors, seed) for scene, seed in zip(scenes, seeds, strict=True)]
    out = []
    for options in (None, *settings):
        parts = []
        for scene, points in zip(scenes, noisy, strict=True):
            smooth = points if options is None else _smooth(scene, points, options)
            sizes = pose_sizes(scene.keypoints.reshape(-1, *scene.keypoints.shape[2:]))
            unit = sizes.reshape(scene.keypoints.shape[:2])[..., None, None]
            error = (smooth - scene.keypoints) / unit
            step = np.diff(scene.timestamps_s).mean()
            speed = np.gradient(scene.keypoints / unit, step, axis=0)
            calm = 25  # frames in which the filter settles
            clean = scene.keypoints if options is None else _smooth(scene, scene.keypoints, options)
            bend = np.diff(((smooth - clean) / unit)[calm:], 2, axis=0)
            parts.append(
                (
                    (bend**2).mean(),
                    -(error[calm:] * speed[calm:]).sum(),
                    (speed[calm:] ** 2).sum(),
                    (error[calm:] ** 2).sum(-1).mean(),
                )
            )
        tremble, along, energy, off = np.array(parts).T
        out.append(
            SmoothingCost(
                options,
                round(1e3 * float(np.sqrt(tremble.mean())), 2),
                round(1e3 * float(along.sum() / energy.sum()), 1),
                round(1e3 * float(np.sqrt(off.mean())), 2),
            )
        )
    return out


def _tremble(scene: Scene, errors: DetectorErrors, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, 11])
    frames, people, k = scene.visible.shape
    sizes = pose_sizes(scene.keypoints.reshape(-1, k, 2)).reshape(frames, people, 1, 1)
    std = np.sqrt(errors.white_share) * np.asarray(errors.jitter)[:, None] * sizes
    return np.asarray(scene.keypoints + std * rng.normal(size=scene.keypoints.shape), np.float32)


def _smooth(scene: Scene, points: np.ndarray, options: SmoothOptions) -> np.ndarray:
    smoother = PoseSmoother(options)
    people, k = points.shape[1:3]
    ids, ones = np.arange(people, dtype=np.int64), np.ones((people, k), np.float32)
    return np.stack(
        [
            smoother.update(
                Poses(frame, ones, ones[:, 0], scene.skeleton, scene.image_size, ids), float(time_s)
            ).keypoints
            for frame, time_s in zip(points, scene.timestamps_s, strict=True)
        ]
    )


def plot_smoothing(costs: Sequence[SmoothingCost], path: Path) -> None:
    """Plot jitter against delay, one line for each minimum cut-off.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("the plot", "eval") from error
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    default = SmoothOptions()
    cutoffs = sorted({c.options.min_cutoff_hz for c in costs if c.options})
    for cutoff in cutoffs:
        line = sorted(
            (c for c in costs if c.options and c.options.min_cutoff_hz == cutoff),
            key=lambda c: c.options.beta if c.options else 0,
        )
        axes.plot(
            [c.delay_ms for c in line], [c.trembling for c in line], marker="o", label=f"min cut-off {cutoff:g} Hz"
        )
        for c in line:
            assert c.options is not None
            if cutoff not in (cutoffs[0], cutoffs[-1]):
                continue  # the labels of the lines between would overlap
            axes.annotate(
                f"β {c.options.beta:g}",
                (c.delay_ms, c.trembling),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
    for c in costs:
        if c.options == default:
            axes.plot(c.delay_ms, c.trembling, "k*", markersize=15, label="default")
    raw = next((c for c in costs if c.options is None), None)
    if raw is not None:
        axes.axhline(raw.trembling, color="gray", linestyle="--", label="no smoothing")
    axes.set(
        xlabel="delay, ms",
        ylabel="trembling, thousandths of a size / frame²",
        xlim=(4, 250),
        ylim=(0, None),
        xscale="log",
    )
    axes.set_title("One-Euro smoothing: what less trembling costs in delay")
    axes.legend()
    figure.savefig(path, dpi=110)
