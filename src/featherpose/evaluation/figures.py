"""Charts as PNG and SVG in one look, legible at the size of a README."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from featherpose.errors import MissingExtraError
from featherpose.media.atomic import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "new_figure", "save_figure"]

# Okabe and Ito's palette, told apart by colour-blind readers and in print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999")


def new_figure(width: float = 8.0, height: float = 4.5) -> tuple[Figure, Axes]:
    """An empty chart of this many inches; no window is ever opened.

    Raises:
        MissingExtraError: If matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing charts", "eval") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write ``<path>.png`` and ``<path>.svg``; a suffix that was given is dropped.

    Raises:
        OutputError: If a file cannot be written.
    """
    written = []
    for suffix in (".png", ".svg"):
        target = path.with_suffix(suffix)
        with replacing(target) as part:
            figure.savefig(part, dpi=150)
        written.append(target)
    return written
