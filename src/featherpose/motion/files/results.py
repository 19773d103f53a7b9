"""Events and measures as JSON, with their uncertainties, the steps of cleaning and the limits of the view."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from featherpose.files import write_bytes
from featherpose.motion.analysis import MotionReport, PersonMotion
from featherpose.motion.measures import Measure

__all__ = ["report_to_dict", "write_results"]


def report_to_dict(report: MotionReport) -> dict[str, Any]:
    """Return the report as plain data; unknown numbers are None."""
    sequence = report.sequence
    out: dict[str, Any] = {
        "featherpose_motion": 1,
        "frames": sequence.num_frames,
        "duration_s": _round(float(np.ptp(sequence.timestamps_s))),
        "rate_hz": _round(sequence.rate_hz),
        "skeleton": sequence.skeleton.name,
        "unit": "px" if report.metric is None else "m",
        "camera_moves": report.options.camera_moves,
        "steps": [
            {"name": step.name, "settings": step.settings, "changed": step.changed, "text": step.text}
            for step in sequence.steps
        ],
        "scale": None,
        "people": [_person(report, person) for person in report.people],
        "field": [
            {
                "id": track.track_id,
                "distance": track.distance.to_dict(),
                "mean_speed": track.mean_speed.to_dict(),
                "top_speed": track.top_speed.to_dict(),
                "seen_s": _round(track.seen_s),
            }
            for track in report.tracks
        ],
    }
    if report.scale is not None:
        scale = report.scale
        out["scale"] = {
            "meters_per_px": scale.meters_per_px,
            "uncertainty_share": scale.uncertainty,
            "floor_deg": _round(scale.floor_deg),
            "origin_px": [_round(v) for v in scale.origin_px],
            "source": scale.source,
        }
    return out


def _person(report: MotionReport, person: PersonMotion) -> dict[str, Any]:
    frames = report.sequence.frames
    out: dict[str, Any] = {
        "id": person.track_id,
        "first_s": _round(person.first_s),
        "last_s": _round(person.last_s),
        "seen_share": _round(person.seen_share),
        "facing": person.facing,
        "angles": {
            name: {"min": low.to_dict(), "max": high.to_dict(), "range": span.to_dict()}
            for name, (low, high, span) in person.ranges.items()
        },
        "symmetry": _measures(person.symmetry),
        "repetitions": None,
        "gait": {
            "method": person.gait.method,
            "overground": person.gait.overground,
            "steps": person.gait.steps,
            "events": [
                {
                    "side": event.side,
                    "kind": event.kind,
                    "frame": int(frames[event.row]),
                    "time_s": _round(event.time_s),
                    "uncertainty_s": _round(event.uncertainty_s),
                }
                for event in person.gait.events
            ],
            "measures": _measures(person.gait.measures),
        },
        "jumps": [
            {
                "method": jump.method,
                "takeoff_frame": int(frames[jump.takeoff]),
                "landing_frame": int(frames[jump.landing]),
                "takeoff_s": _round(jump.takeoff_s),
                "landing_s": _round(jump.landing_s),
                "flight": jump.flight.to_dict(),
                "height": jump.height.to_dict(),
                "rise": jump.rise.to_dict(),
                "level": jump.level.to_dict(),
            }
            for jump in person.jumps
        ],
        "travel": _measures(person.travel.measures),
        "splits_s": {f"{distance:g} m": measure.to_dict() for distance, measure in person.travel.splits.items()},
        "limits": list(person.limits),
    }
    if person.repetitions is not None:
        reps = person.repetitions
        out["repetitions"] = {
            "exercise": reps.rule.name,
            "guessed": person.guessed,
            "count": len(reps),
            "tempo_s": _round(reps.tempo_s),
            "tempo_uncertainty_s": _round(reps.tempo.uncertainty),
            "each": [
                {
                    "start_frame": int(frames[r.start]),
                    "turn_frame": int(frames[r.turn]),
                    "end_frame": int(frames[r.end]),
                    "start_s": _round(r.start_s),
                    "turn_s": _round(r.turn_s),
                    "end_s": _round(r.end_s),
                    "depth_deg": _round(r.depth_deg),
                    "range_deg": _round(r.range_deg),
                    "out_s": _round(r.out_s),
                    "back_s": _round(r.back_s),
                    "left_deg": _round(r.left_deg),
                    "right_deg": _round(r.right_deg),
                    "uncertainty": {name: _round(value) for name, value in asdict(r.uncertainty).items()},
                }
                for r in reps.found
            ],
        }
    return out


def _measures(measures: dict[str, Measure]) -> dict[str, Any]:
    return {name: measure.to_dict() for name, measure in measures.items()}


def _round(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def write_results(path: str | Path, report: MotionReport) -> None:
    """Write the report as JSON.

    Raises:
        OutputError: If the file cannot be written.
    """
    write_bytes(Path(path), (json.dumps(report_to_dict(report), indent=1, allow_nan=False) + "\n").encode())
