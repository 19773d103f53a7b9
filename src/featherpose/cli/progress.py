"""The progress bar of ``featherpose predict``, on stderr and only on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from featherpose.cli.lazy_source import LazySource

__all__ = ["ProgressLine", "progress_line"]

_REFRESH_S = 0.1


class ProgressLine(Protocol):
    """Interface of a progress display."""

    def show(self, late: LazySource, frames: int, people: int) -> None:
        """Update the current source and the totals."""
        ...


class _Silent:
    def show(self, late: LazySource, frames: int, people: int) -> None:
        pass


@contextmanager
def progress_line(visible: bool) -> Iterator[ProgressLine]:
    """Return a progress bar with frames per second and poses found; a silent one if it would not be visible."""
    if not visible:
        yield _Silent()
        return
    # Imported here: a run in a script must not pay for an invisible bar.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:5.1f} fps  {task.fields[people]:,} poses"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=10) as progress:
        yield _Bar(progress)


class _Bar:
    def __init__(self, progress: object) -> None:
        from rich.progress import Progress

        assert isinstance(progress, Progress)
        self._progress = progress
        self._task = progress.add_task("", total=None, rate=0.0, people=0)
        self._name = ""
        self._before = 0  # frames of earlier sources
        self._shown_s = 0.0
        self._rate = 0.0
        self._last = (time.monotonic(), 0)

    def show(self, late: LazySource, frames: int, people: int) -> None:
        now = time.monotonic()
        if late.ref.name != self._name:
            self._name, self._before, self._shown_s = late.ref.name, frames, 0.0
        if now - self._shown_s < _REFRESH_S:
            return
        self._shown_s = now
        elapsed = now - self._last[0]
        if elapsed > 1.0:
            self._rate, self._last = (frames - self._last[1]) / elapsed, (now, frames)
        rate = self._rate or (frames - self._last[1]) / max(elapsed, 1e-3)
        total = late.source.frame_count if late.source is not None else None
        name = self._name if len(self._name) <= 32 else "…" + self._name[-31:]
        self._progress.update(
            self._task, description=name, total=total, completed=frames - self._before, rate=rate, people=people
        )
