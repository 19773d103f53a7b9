"""Logs of a run: a CSV, TensorBoard events, curves and predictions as images."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from jaxtyping import UInt8

from featherpose.drawing.draw import draw_limbs
from featherpose.files import output_error, replacing, write_bytes
from featherpose.poses import Poses

__all__ = ["RunLog", "draw_predictions", "plot_curves"]


class RunLog:
    """One line for each record, to a CSV file and to TensorBoard where that is installed.

    Records of different kinds share one table: ``step``, ``kind`` and the named values. A resumed run drops the lines
    at and after the step from which it continues, so that the table never has a step twice.

    Args:
        folder: Folder of the run.
        resume_step: Step from which the run continues; 0 begins a new table.
        tensorboard: Whether to write events too.
    """

    _COLUMNS = ("step", "kind", "name", "value")

    def __init__(self, folder: Path, *, resume_step: int = 0, tensorboard: bool = True) -> None:
        self.path = folder / "log.csv"
        kept: list[list[str]] = []
        if resume_step and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= resume_step]
        self._events: _Events | None = None
        try:
            self._file = self.path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise output_error(self.path, error) from error
        self._writer = csv.writer(self._file)
        try:
            self._writer.writerows([self._COLUMNS, *kept])
            self._file.flush()
            if tensorboard:
                self._events = _Events.begin(folder / "tensorboard")
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close()
            raise output_error(self.path, error) from error

    def record(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Write values of one step; ``kind`` is ``train`` or ``validation``.

        Raises:
            OutputError: If they cannot be written, for instance on a full disk.
        """
        try:
            for name, value in values.items():
                self._writer.writerow([step, kind, name, f"{value:.6g}"])
            self._file.flush()
            if self._events is not None:
                self._events.add(step, {f"{kind}/{name}": value for name, value in values.items()})
        except OSError as error:
            raise output_error(self.path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        # The error that stopped the run matters more than one of closing its log.
        with contextlib.suppress(OSError) if error is not None else contextlib.nullcontext():
            self.close()

    def close(self) -> None:
        """Finish both files."""
        try:
            self._file.close()
        finally:
            if self._events is not None:
                self._events.close()


class _Events:
    """TensorBoard's event file. TensorBoard's own writer does this in a thread, whose errors cannot be caught."""

    def __init__(self, path: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        path.parent.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = Event, Summary
        self._file = path.open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    @classmethod
    def begin(cls, folder: Path) -> _Events | None:
        """Open a new file for this part of the run; None without TensorBoard."""
        try:
            return cls(folder / f"events.out.tfevents.{time.time():.6f}.{os.getpid()}")
        except ImportError:
            return None

    def add(self, step: int, values: Mapping[str, float]) -> None:
        summary = self._summary(value=[self._summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])
        self._write(self._event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()


def read_log(path: Path, kind: str, name: str) -> tuple[list[int], list[float]]:
    """Return steps and values of one curve of a run's CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] == kind and r["name"] == name]
    return [int(r["step"]) for r in rows], [float(r["value"]) for r in rows]


def plot_curves(log: Path, out: Path) -> None:
    """Plot the loss and validation curves of a run as one image; nothing happens without matplotlib.

    Raises:
        OutputError: If the image cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    steps, values = read_log(log, "train", "loss")
    left.plot(steps, values, marker="o" if len(values) == 1 else None)  # one point makes no line
    left.set(xlabel="step", ylabel="loss", yscale="log" if values and min(values) > 0 else "linear")
    for name in ("AP", "PCK"):
        steps, values = read_log(log, "validation", name)
        if values:
            right.plot(steps, values, marker="o", label=name)
            right.legend()
    right.set(xlabel="step", ylabel="validation", ylim=(0, None))
    with replacing(out) as part:
        figure.savefig(part, dpi=100)


def draw_predictions(
    out: Path, images: Sequence[UInt8[np.ndarray, "H W 3"]], poses: Sequence[Poses], *, cell_px: int = 320
) -> None:
    """Draw the people that the network finds in images, side by side, as one JPEG.

    Raises:
        OutputError: If the image cannot be written.
    """
    if not images:
        return
    columns = min(4, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * cell_px, columns * cell_px, 3), 64, np.uint8)
    for number, (image, found) in enumerate(zip(images, poses, strict=True)):
        drawn = image.copy()
        draw_limbs(drawn, found.keypoints, found.skeleton)
        scale = cell_px / max(drawn.shape[:2])
        size = (max(1, int(drawn.shape[1] * scale)), max(1, int(drawn.shape[0] * scale)))
        y, x = number // columns * cell_px, number % columns * cell_px
        sheet[y : y + size[1], x : x + size[0]] = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    write_bytes(out, cv2.imencode(".jpg", sheet)[1].tobytes())
