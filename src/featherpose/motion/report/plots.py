"""Plots of angles over time, raw and filtered, with events, as PNG (matplotlib, the ``motion`` extra)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from featherpose.errors import MissingExtraError
from featherpose.files import replacing
from featherpose.motion.analysis import MotionReport
from featherpose.motion.field import heat_map

__all__ = ["plot_angles", "plot_field"]

_JOINTS = ("hip", "knee", "ankle", "shoulder", "elbow", "trunk_lean")
_COLORS = {"left": "#2f7bd9", "right": "#e07a1f", "": "#444444"}


def plot_angles(path: str | Path, report: MotionReport, person: int = 0) -> None:
    """Plot one person's joint angles: filtered as lines, as read as dots, with repetitions, contacts and jumps.

    Raises:
        MissingExtraError: Without matplotlib.
        OutputError: If the file cannot be written.
    """
    figure_of = _figure()
    angles, motion = report.angles, report.people[person]
    shown = [joint for joint in _JOINTS if any(name in angles for name in (joint, f"left_{joint}"))]
    figure = figure_of(figsize=(10, 1.9 * max(1, len(shown)) + 0.6), layout="constrained")
    axes = figure.subplots(max(1, len(shown)), 1, sharex=True, squeeze=False)[:, 0]
    times = angles.timestamps_s
    for axis, joint in zip(axes, shown, strict=False):
        curves = [angles[n][:, person] for n in (f"left_{joint}", f"right_{joint}", joint) if n in angles]
        if (known := np.concatenate(curves)[np.isfinite(np.concatenate(curves))]).size:
            axis.set_ylim(known.min() - 10, known.max() + 10)  # wild dots would squeeze the curves
        for side in ("left", "right", ""):
            name = f"{side}_{joint}" if side else joint
            if name not in angles:
                continue
            color = _COLORS[side]
            if report.raw_angles is not None:
                axis.plot(times, report.raw_angles[name][:, person], ".", ms=2, color=color, alpha=0.4)
            axis.plot(times, angles[name][:, person], color=color, lw=1.3, label=side or None)
        for repetition in motion.repetitions.found if motion.repetitions is not None else ():
            axis.axvline(repetition.turn_s, color="#999999", lw=0.8)
        for event in motion.gait.events:
            style = "-" if event.kind == "contact" else ":"
            axis.axvline(event.time_s, color=_COLORS[event.side], lw=0.7, ls=style, alpha=0.6)
        for jump in motion.jumps:
            axis.axvspan(jump.takeoff_s, jump.landing_s, color="#dddddd", lw=0)
        axis.set_ylabel(f"{joint.replace('_', ' ')}, deg")
        axis.grid(alpha=0.3)
    if shown:
        handles, labels = axes[0].get_legend_handles_labels()
        if handles:
            axes[0].legend(handles, labels, loc="upper right", frameon=False, ncols=2)
    axes[-1].set_xlabel("time, s")
    axes[0].set_title(f"person {motion.track_id}, facing {motion.facing}", loc="left", fontsize=10)
    with replacing(Path(path)) as part:
        figure.savefig(part, dpi=110)


def plot_field(path: str | Path, report: MotionReport) -> None:
    """Plot everyone's path over the field on a heat map of where time was spent.

    Raises:
        MissingExtraError: Without matplotlib.
        OutputError: If the file cannot be written.
    """
    figure = _figure()(figsize=(9, 6), layout="constrained")
    axis = figure.subplots()
    grid, (left, bottom) = heat_map(list(report.tracks))
    image = axis.imshow(
        grid,
        origin="lower",
        extent=(left, left + grid.shape[1], bottom, bottom + grid.shape[0]),
        cmap="Greens",
        alpha=0.8,
    )
    figure.colorbar(image, ax=axis, label="s in a square meter", shrink=0.7)
    for track in report.tracks:  # a gap stays a gap
        axis.plot(*track.positions_m.T, lw=1, label=f"{track.track_id}: {track.distance}")
    if report.options.field is not None:
        axis.plot(*np.array(report.options.field.points_m).T, "k+", ms=9)
    axis.set_aspect("equal")
    axis.set_xlabel("m")
    axis.set_ylabel("m")
    if report.tracks and len(report.tracks) <= 20:
        axis.legend(fontsize=8, frameon=False)
    with replacing(Path(path)) as part:
        figure.savefig(part, dpi=110)


def _figure() -> type:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: F401 - savefig needs it
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("Plots", "motion") from error
    return Figure
