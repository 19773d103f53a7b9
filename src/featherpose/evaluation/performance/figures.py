"""Charts as PNG and SVG in one look, legible at the size of a README."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from featherpose.errors import MissingExtraError
from featherpose.files import check_writable, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "check_figure", "new_figure", "save_figure"]

# Okabe and Ito's palette, distinguishable for color-blind readers and in print.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999")


_SUFFIXES = (".png", ".svg")


def check_figure(path: Path) -> None:
    """Check in advance whether `save_figure` can write there; nothing is created.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        OutputError: If a file could not be written.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("drawing charts", "eval")
    for suffix in _SUFFIXES:
        check_writable(path.with_suffix(suffix))


def new_figure(width: float = 8.0, height: float = 4.5) -> tuple[Figure, Axes]:
    """Return an empty chart of this many inches; no window is opened.

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
    """Write ``<path>.png`` and ``<path>.svg``, both or none; a suffix that was given is dropped.

    Raises:
        OutputError: If a file cannot be written.
    """
    targets = [path.with_suffix(suffix) for suffix in _SUFFIXES]
    with ExitStack() as parts:
        for target in targets:
            figure.savefig(parts.enter_context(replacing(target)), dpi=150)
    return targets
