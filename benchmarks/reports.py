"""What every benchmark does at its end: the figures and the machine they were taken on, as JSON and on the screen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from core_distance import core_round_trip_ns

from featherpose.evaluation.performance.machine import machine_facts

__all__ = ["publish", "spread"]


def publish(report: Mapping[str, Any], path: Path | None) -> None:
    """Print a report, and write it to a file if there is one to be written.

    Args:
        report: The figures; the load of the machine and its facts are added.
        path: The file; its folder is made.
    """
    load = round(os.getloadavg()[0], 2)
    machine = {**machine_facts(), "core round trip ns": core_round_trip_ns()}
    text = json.dumps({**report, "load average at the end": load, "machine": machine}, indent=1) + "\n"
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(text, end="")


def spread(values: Sequence[float], digits: int = 2) -> dict[str, float]:
    """Median and 95th percentile.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        {'median': 2.0, 'p95': 2.9}
    """
    return {"median": round(float(np.median(values)), digits), "p95": round(float(np.percentile(values, 95)), digits)}
