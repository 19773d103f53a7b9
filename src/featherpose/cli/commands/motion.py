"""``featherpose motion``: angles, repetitions, gait, jumps and speeds of a video, with files and a report."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Annotated

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: without them their messages on damaged files would appear beside our
# one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.options import ModelOptions
from featherpose.cli.options.motion_options import CleaningOptions, MeterOptions, MovementOptions, motion_options
from featherpose.cli.options.pose_file_options import PoseFileOptions
from featherpose.cli.options.predict_options import SourceOptions
from featherpose.cli.pose_reading import find_video, read_video_poses
from featherpose.errors import OptionError
from featherpose.files import check_writable
from featherpose.media.sources.find import SourceRef
from featherpose.motion.analysis import MotionReport, PersonMotion, analyze_motion
from featherpose.motion.camera import CameraWatch
from featherpose.motion.events.repetitions import Repetition
from featherpose.motion.files.reading import holds_poses, read_poses
from featherpose.motion.files.writing import FILE_KINDS, default_kinds, write_files
from featherpose.motion.measures import Measure
from featherpose.motion.report.plots import plot_angles, plot_field
from featherpose.motion.report.rendering import Clip, render_videos
from featherpose.motion.report.report_page import write_report_page
from featherpose.stream import FrameResult

__all__ = ["motion"]

_SEEN_KINDS = ("html", "video", "plots")


def motion(
    source: Annotated[
        str,
        Parameter(
            help="A video, or poses: .jsonl, .csv or .parquet by `featherpose predict`, COCO results (.json) or a "
            "folder of OpenPose JSON by any tool."
        ),
    ],
    /,
    *,
    output: Annotated[
        Path | None, Parameter(name=["--output", "-o"], help="Folder for the files; NAME.motion if left out.")
    ] = None,
    write: Annotated[
        list[str] | None,
        Parameter(
            negative="",
            help="Kinds of files: html (the report), video (annotated), plots, json, csv, parquet, trc, mot, c3d, bvh; "
            "all that can be written if left out. Repeat it, or join kinds with commas.",
        ),
    ] = None,
    movement: MovementOptions = MovementOptions(),  # noqa: B008 - frozen
    cleaning: CleaningOptions = CleaningOptions(),  # noqa: B008
    meters: MeterOptions = MeterOptions(),  # noqa: B008
    poses: PoseFileOptions = PoseFileOptions(),  # noqa: B008
    part: SourceOptions = SourceOptions(),  # noqa: B008
    model: ModelOptions = ModelOptions(),  # noqa: B008
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Analyze movement in a video: joint angles, repetitions, steps, jumps and speeds, in files for sport science.

    The camera should stand still, at a right angle to the movement.
    """
    kinds = _kinds(write)
    stem = Path(source).stem
    folder = output or Path(f"{stem}.motion")
    check_writable(folder / f"{stem}.json")
    meters.scale()  # a file that cannot be read is told before the video is
    started = perf_counter()
    results = holds_poses(source)
    if not results:
        poses.refuse_for(source)
    ref = None if results else find_video(source)
    camera_moves: bool | None = None
    if ref is None:
        sequence = read_poses(source, source=poses.source, fps=poses.fps)
        if not quiet:
            for step in sequence.steps:
                _say(step.text)
    else:
        camera = CameraWatch()

        def look(result: FrameResult) -> None:
            camera.look(result.frame.image, result.poses, result.frame.timestamp_s)

        sequence = read_video_poses(ref, part, model, quiet=quiet, look=look)
        camera_moves = camera.moves
    seen = perf_counter()
    report = analyze_motion(sequence, motion_options(movement, cleaning, meters, camera_moves, sequence.image_size))
    analyzed = perf_counter()
    written = write_files(report, folder, stem, [kind for kind in kinds if kind in FILE_KINDS])
    written += _pictures(report, folder, stem, kinds, ref, part)
    if not quiet:
        if ref is not None:
            rate = sequence.num_frames / max(seen - started, 1e-9)
            _say(f"{sequence.num_frames:,} frames, poses at {rate:.0f} a second")
        _say(f"analyzed in {1e3 * (analyzed - seen):.0f} ms, files in {perf_counter() - analyzed:.1f} s")
        _summary(report)
        _say(f"wrote {len(written)} files in {folder}")
    return 0


def _kinds(write: list[str] | None) -> tuple[str, ...]:
    if write is None:
        plots = ("plots",) if find_spec("matplotlib") is not None else ()
        return ("html", "video", *plots, *default_kinds())
    kinds = tuple(kind.strip().lower() for given in write for kind in given.split(",") if kind.strip())
    known = (*_SEEN_KINDS, *FILE_KINDS)
    if unknown := [kind for kind in kinds if kind not in known]:
        raise OptionError(f"the kind of file {unknown[0]!r} is unknown", expected=", ".join(known))
    return kinds


def _pictures(
    report: MotionReport, folder: Path, stem: str, kinds: tuple[str, ...], ref: SourceRef | None, part: SourceOptions
) -> list[Path]:
    """Write the report, the annotated video and the plots."""
    written: list[Path] = []
    if "plots" in kinds:
        for p, track_id in enumerate(report.sequence.track_ids):
            written.append(folder / f"{stem}.person{track_id}.png")
            plot_angles(written[-1], report, p)
        if report.tracks:
            written.append(folder / f"{stem}.field.png")
            plot_field(written[-1], report)
    annotated = folder / f"{stem}.annotated.mp4" if "video" in kinds and ref is not None else None
    with ExitStack() as stack:
        clip = None
        if "html" in kinds and ref is not None:
            clip = Clip(report)
            stack.callback(clip.close)
        if ref is not None and (annotated is not None or clip is not None):
            frames = stack.enter_context(ref.open(part.span, timeout_s=part.timeout))
            render_videos(
                report, frames, annotated=annotated, clip=clip, audio_from=ref.paths[0] if ref.paths else None
            )
        if annotated is not None:
            written.append(annotated)
        if "html" in kinds:
            written.append(folder / f"{stem}.html")
            write_report_page(written[-1], report, title=stem, clip=clip)
    return written


def _say(text: str) -> None:
    print(f"featherpose: {text}", file=sys.stderr)


def _summary(report: MotionReport) -> None:
    for person in report.people:
        for line in _lines(person, report):
            print(line, file=sys.stderr)
    for track in report.tracks:
        print(f"on the field, person {track.track_id}: {track.distance}, top speed {track.top_speed}", file=sys.stderr)


def _sides(repetition: Repetition) -> str:
    sides = (("left", repetition.left_deg), ("right", repetition.right_deg))
    seen = ", ".join(f"{side} {degrees:.0f}" for side, degrees in sides if degrees == degrees)
    return f"; {seen}" if seen else ""


def _higher(level: Measure) -> str:
    up = level.value > 0
    return f"{replace(level, value=abs(level.value))} {'higher' if up else 'lower'}"


def _lines(person: PersonMotion, report: MotionReport) -> list[str]:
    seen = f"{person.first_s:.2f} to {person.last_s:.2f} s, in {100 * person.seen_share:.0f} % of the frames"
    lines = [f"person {person.track_id}: seen {seen}, facing {person.facing}"]
    reps = person.repetitions
    if reps is not None:
        guess = " (guessed; name it with --exercise)" if person.guessed else ""
        tempo = f", one every {reps.tempo}" if len(reps) > 1 else ""
        lines.append(f"  {reps.rule.name}: {len(reps)} repetitions{guess}{tempo}")
        lines += [
            f"    {i}: frame {int(report.sequence.frames[r.turn])}, "
            f"{Measure(r.depth_deg, 'deg', r.uncertainty.depth_deg)} deep, "
            f"out {Measure(r.out_s, 's', r.uncertainty.out_s)}, back {Measure(r.back_s, 's', r.uncertainty.back_s)}"
            f"{_sides(r)}"
            for i, r in enumerate(reps.found, 1)
        ]
    if person.gait.steps:
        shown = ("cadence", "step_time", "step_time_symmetry", "speed")
        said = [f"{name.replace('_', ' ')} {m}" for name, m in person.gait.measures.items() if name in shown]
        lines.append(f"  gait ({person.gait.method}): {person.gait.steps} steps, {', '.join(said)}")
    for jump in person.jumps:
        height = f"height {jump.height}" if jump.same_level else f"landing {_higher(jump.level)}"
        lines.append(f"  jump at {jump.takeoff_s:.2f} s: flight {jump.flight}, {height}, rise {jump.rise}")
    return lines + [f"  note: {limit}" for limit in person.limits]
