"""What a run leaves to look at: a CSV, TensorBoard events, curves and predictions as pictures."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from featherpose.errors import OutputError
from featherpose.poses import Poses
from featherpose.skeleton import Skeleton

__all__ = ["RunLog", "draw_predictions", "plot_curves"]


class RunLog:
    """One line for each record, to a CSV file and to TensorBoard where that is installed.

    Records of different kinds share one table: ``step``, ``kind`` and the named values. A resumed run drops the lines
    at and after the step from which it goes on, so that the table never tells a step twice.

    Args:
        folder: Folder of the run.
        resume_step: Step from which the run goes on; 0 begins a new table.
        tensorboard: Whether to write events too.
    """

    _COLUMNS = ("step", "kind", "name", "value")

    def __init__(self, folder: Path, *, resume_step: int = 0, tensorboard: bool = True) -> None:
        self.path = folder / "log.csv"
        kept: list[list[str]] = []
        if resume_step and self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                kept = [row for row in csv.reader(file) if row and row[0].isdigit() and int(row[0]) <= resume_step]
        try:
            self._file = self.path.open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written ({error.strerror})") from error
        self._writer = csv.writer(self._file)
        self._writer.writerows([self._COLUMNS, *kept])
        self._file.flush()
        self._events = _event_writer(folder) if tensorboard else None

    def record(self, step: int, kind: str, values: Mapping[str, float]) -> None:
        """Write values of one step; ``kind`` is ``train`` or ``validation``."""
        for name, value in values.items():
            self._writer.writerow([step, kind, name, f"{value:.6g}"])
            if self._events is not None:
                self._events.add_scalar(f"{kind}/{name}", value, step)
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish both files."""
        self._file.close()
        if self._events is not None:
            self._events.close()


def _event_writer(folder: Path):  # type: ignore[no-untyped-def]
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))


def read_log(path: Path, kind: str, name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one curve of a run's CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if r["kind"] == kind and r["name"] == name]
    return [int(r["step"]) for r in rows], [float(r["value"]) for r in rows]


def plot_curves(log: Path, out: Path) -> None:
    """Loss and validation curves of a run as one picture; nothing happens without matplotlib."""
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
    figure.savefig(out, dpi=100)


def draw_people(
    image: UInt8[np.ndarray, "H W 3"], keypoints: Float32[np.ndarray, "P K 2"], skeleton: Skeleton
) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with everyone's limbs."""
    out = image.copy()
    for person in keypoints:
        for i, (a, b) in enumerate(skeleton.limbs):
            if np.isfinite(person[[a, b]]).all():
                hue = np.array([[[180 * i // max(1, skeleton.num_limbs), 255, 255]]], np.uint8)
                colour = cv2.cvtColor(hue, cv2.COLOR_HSV2BGR)[0, 0].tolist()
                ends = [(round(float(person[j][0])), round(float(person[j][1]))) for j in (a, b)]
                cv2.line(out, ends[0], ends[1], colour, 2, cv2.LINE_AA)
    return out


def draw_predictions(
    out: Path, images: Sequence[UInt8[np.ndarray, "H W 3"]], poses: Sequence[Poses], *, cell_px: int = 320
) -> None:
    """Pictures with the people that the network finds in them, side by side, as one JPEG.

    Raises:
        OutputError: If the picture cannot be written.
    """
    if not images:
        return
    columns = min(4, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = np.full((rows * cell_px, columns * cell_px, 3), 64, np.uint8)
    for number, (image, found) in enumerate(zip(images, poses, strict=True)):
        drawn = draw_people(image, found.keypoints, found.skeleton)
        scale = cell_px / max(drawn.shape[:2])
        size = (max(1, int(drawn.shape[1] * scale)), max(1, int(drawn.shape[0] * scale)))
        y, x = number // columns * cell_px, number % columns * cell_px
        sheet[y : y + size[1], x : x + size[0]] = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    ok, data = cv2.imencode(".jpg", sheet)
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_bytes(data.tobytes() if ok else b"")
        partial.replace(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written ({error.strerror})") from error
