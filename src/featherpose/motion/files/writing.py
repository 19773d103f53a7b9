"""All files of a report in one folder, by kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from featherpose.errors import OptionError
from featherpose.files import make_folder
from featherpose.motion.analysis import MotionReport
from featherpose.motion.files.bvh import write_bvh
from featherpose.motion.files.c3d import write_c3d
from featherpose.motion.files.opensim import write_mot, write_trc
from featherpose.motion.files.results import write_results
from featherpose.motion.files.tables import write_table

__all__ = ["FILE_KINDS", "default_kinds", "write_files"]

FILE_KINDS = ("json", "csv", "parquet", "trc", "mot", "c3d", "bvh")
"""Kinds of files without pictures."""


def default_kinds() -> tuple[str, ...]:
    """Return the kinds that the installed packages can write; Parquet only on request, because CSV is the same."""
    kinds = ["json", "csv", "trc", "mot", "bvh"]
    return (*kinds, "c3d") if find_spec("ezc3d") is not None else tuple(kinds)


def write_files(report: MotionReport, folder: str | Path, stem: str, kinds: Sequence[str] | None = None) -> list[Path]:
    """Write files of the kinds into a folder.

    Args:
        report: The analysis.
        folder: Output folder; created unless it exists.
        stem: Start of the names: ``STEM.json``, ``STEM.csv``, and one file a person for the others,
            ``STEM.person3.trc``. Nobody gets a file of angles or bones that they do not have.
        kinds: Some of `FILE_KINDS`; those of `default_kinds` unless given.

    Returns:
        The files.

    Raises:
        OptionError: If a kind is unknown.
        MissingExtraError: If a kind needs a package that is not installed.
        OutputError: If a file cannot be written.
    """
    wanted = default_kinds() if kinds is None else tuple(kinds)
    if unknown := [kind for kind in wanted if kind not in FILE_KINDS]:
        raise OptionError(f"the kind of file {unknown[0]!r} is unknown", expected=", ".join(FILE_KINDS))
    folder = Path(folder)
    make_folder(folder)
    sequence = report.sequence if report.metric is None else report.metric
    of_report: dict[str, Callable[[Path], None]] = {
        "json": lambda path: write_results(path, report),
        "csv": lambda path: write_table(path, report),
        "parquet": lambda path: write_table(path, report),
    }
    of_person: dict[str, Callable[[Path, int], None]] = {
        "trc": lambda path, p: write_trc(path, sequence, p),
        "mot": lambda path, p: write_mot(path, report.angles, p),
        "c3d": lambda path, p: write_c3d(path, sequence, p),
        "bvh": lambda path, p: write_bvh(path, sequence, p),
    }
    written = []
    for kind in wanted:
        if kind in of_report:
            path = folder / f"{stem}.{kind}"
            of_report[kind](path)
            written.append(path)
            continue
        for p, track_id in enumerate(sequence.track_ids):
            if (kind == "bvh" and not _has_trunk(report, p)) or (kind == "mot" and not _has_angles(report, p)):
                continue
            path = folder / f"{stem}.person{track_id}.{kind}"
            of_person[kind](path, p)
            written.append(path)
    return written


def _has_angles(report: MotionReport, person: int) -> bool:
    return bool(np.isfinite(report.angles.values[:, person]).any())


def _has_trunk(report: MotionReport, person: int) -> bool:
    found = report.sequence.found[:, person]
    names = report.sequence.skeleton.keypoints
    sides = [names.index(f"{s}_{part}") for s in ("left", "right") for part in ("shoulder", "hip")
             if f"{s}_{part}" in names]  # fmt: skip
    return len(sides) == 4 and bool(found[:, sides].all(-1).any())
