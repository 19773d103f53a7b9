"""``featherpose batch``: archives of images and videos on all cores of a machine or a cluster, each input once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

# FFmpeg and OpenCV read these when they load: their own remarks on damaged files would stand beside our one line.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

from featherpose.cli.options import ModelOptions
from featherpose.cli.options.predict_options import PeopleOptions
from featherpose.cli.report import write_json
from featherpose.cli.stopping import stop_on_signal
from featherpose.cli.supervision import run_supervised
from featherpose.cluster.batch_options import BatchFormat, BatchOptions, DetectionOptions
from featherpose.cluster.run_batch import BatchProgress, BatchSummary, run_batch
from featherpose.errors import ClusterError, OptionError
from featherpose.runtime.processor import available_cores
from featherpose.zoo.resolve import resolve_model

__all__ = ["batch"]


@Parameter(name="*", group="Batch")
@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How the run is carried out."""

    format: Annotated[
        list[BatchFormat] | None,
        Parameter(negative="", help="What results are written as; parquet unless given. May be given several times."),
    ] = None
    workers: Annotated[
        int | None, Parameter(help="Processes that infer, one inference thread each; one a core unless given.")
    ] = None
    address: Annotated[
        str | None,
        Parameter(
            help="Ray cluster to join, such as auto or 10.0.0.1:6379; Ray is started on this machine unless given."
        ),
    ] = None
    tries: Annotated[
        int, Parameter(help="How often an input may take its worker down before it is recorded as failed.")
    ] = 3
    unit_timeout: Annotated[float, Parameter(help="How long a worker may be at one input, seconds.")] = 300.0
    patience: Annotated[float, Parameter(help="How long a store that does not answer is waited for, seconds.")] = 60.0
    shard_size: Annotated[
        int | None, Parameter(help="Images in each file of the results; grows from 16 to 1,024 unless given.")
    ] = None
    frame_step: Annotated[int, Parameter(help="Take every n-th frame of videos.")] = 1
    segment: Annotated[
        float, Parameter(help="Split videos at key frames into pieces of so many seconds; 0 leaves them whole.")
    ] = 30.0
    max_megapixels: Annotated[float, Parameter(help="Refuse larger images before they fill the memory.")] = 200.0


def batch(
    sources: Annotated[
        list[str],
        Parameter(
            help="Images, videos, folders (with their folders), patterns, lists (.txt, .csv, .parquet), tar files, and "
            "addresses of these: s3, gs, http(s), …"
        ),
    ],
    /,
    *,
    out: Annotated[
        str | None, Parameter(help="Folder or address for the results, such as results/ or s3://bucket/run.")
    ] = None,
    run: RunOptions = RunOptions(),
    model: ModelOptions = ModelOptions(),  # noqa: B008
    people: PeopleOptions = PeopleOptions(),  # noqa: B008
    dry_run: Annotated[
        bool, Parameter(negative="", help="Print units and a cost estimate measured on a sample; write nothing.")
    ] = False,
    price: Annotated[float, Parameter(help="Price of a core for an hour, for the estimate.")] = 0.04,
    summary: Annotated[Path | None, Parameter(help="Write what the run came to, or the estimate, as JSON.")] = None,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="No progress, no summary.")] = False,
) -> int:
    """Find everyone's keypoints in millions of images and thousands of videos, each of them exactly once.

    The same command again continues after a crash or Ctrl-C, and adds inputs that have come since. What cannot be
    read is recorded and left out. Needs the cluster extra. The exit code is 1 if an input failed.
    """
    options = _options(run, model, people)
    if dry_run:
        return _estimate(sources, options, price, summary, quiet)
    if out is None:
        raise OptionError("no output was named", expected="--out with a folder or an address")
    return run_supervised(lambda: _run(sources, out, options, summary, talk=not quiet), _ended)


def _run(sources: list[str], out: str, options: BatchOptions, summary: Path | None, *, talk: bool) -> int:
    with stop_on_signal() as stop, _progress_line(talk and sys.stderr.isatty()) as show:
        result = run_batch(
            sources, out, options, on_progress=show, stop=stop.event,
            on_notice=(lambda line: print(f"featherpose: {line}", file=sys.stderr)) if talk else None,
        )  # fmt: skip
    if summary is not None:
        write_json(summary, _summary(result))
    if talk:
        _print_summary(result, out)
    if stop.exit_code and not result.complete:
        return stop.exit_code
    return 1 if result.counts.failed else 0


def _ended(how: str) -> ClusterError:
    return ClusterError(
        f"the run ended without a result ({how}): it was killed, or a process of Ray died",
        hint="run the same command again: it continues",
    )


def _options(run: RunOptions, model: ModelOptions, people: PeopleOptions) -> BatchOptions:
    from dataclasses import replace

    if not 0 < run.max_megapixels <= 100_000:
        raise OptionError(f"--max-megapixels {run.max_megapixels:g} is impossible", expected="a positive number")
    name = model.model
    if name is not None and Path(name).exists():
        name = str(Path(name).absolute())  # workers have a working folder of their own
    return BatchOptions(
        detection=DetectionOptions(
            model=name, quality=model.quality, refine=model.refine,
            engine=replace(model.engine, threads=max(1, model.threads)),
            decoding=people.decoding(resolve_model(model.model).spec), tiles=people.tile_options,
            track=people.track, smooth=bool(people.smooth), frame_step=run.frame_step, segment_s=run.segment,
            max_pixels=int(run.max_megapixels * 1e6),
        ),
        formats=tuple(dict.fromkeys(run.format or ["parquet"])), workers=run.workers, address=run.address,
        tries=run.tries, unit_timeout_s=run.unit_timeout, patience_s=run.patience, shard_units=run.shard_size,
    )  # fmt: skip


def _estimate(sources: list[str], options: BatchOptions, price: float, summary: Path | None, quiet: bool) -> int:
    from featherpose.cluster.estimate import estimate_cost

    if not price >= 0:
        raise OptionError(f"--price {price:g} is impossible", expected="0 or more")
    found = estimate_cost(sources, options, price=price)
    cores = (options.workers or available_cores()) * options.detection.engine.threads
    if summary is not None:
        write_json(summary, {**found.to_dict(), "cores": cores, "hours": round(found.hours(cores), 4)})
    if quiet:
        return 0
    print(f"{found.images:,} images, {found.videos:,} videos with about {found.video_frames:,} frames, "
          f"{_size(found.bytes)}")  # fmt: skip
    print(f"measured on {found.sampled} of them, one core: {found.images_per_core_s:.1f} images/s, "
          f"{found.frames_per_core_s:.1f} frames/s")  # fmt: skip
    print(f"{found.core_hours:.2f} core hours: {_duration(3600 * found.hours(cores))} on {cores} cores like these")
    print(f"{found.cost:.2f} at {price:g} for a core and hour; {found.cost_per_million:.2f} for a million")
    if found.unreadable:
        print(f"{found.unreadable} of the sample could not be read")
    return 0


def _summary(result: BatchSummary) -> dict[str, Any]:
    counts = result.counts
    return {
        "complete": result.complete, "units": counts.units, "resumed": result.resumed, "failed": counts.failed,
        "frames": counts.frames, "people": counts.people, "shards": result.shards,
        "seconds": round(result.seconds, 3), "per_second": round(result.progress.rate, 2),
        "lost_workers": result.lost_workers,
    }  # fmt: skip


def _print_summary(result: BatchSummary, out: str) -> None:
    counts = result.counts
    lines = [f"{counts.units:,} inputs, {counts.people:,} poses in {_duration(result.seconds)}"]
    if result.resumed:
        lines.append(f"{result.resumed:,} of them were done by an earlier run")
    if result.lost_workers:
        lines.append(f"{result.lost_workers} workers were lost and replaced")
    if counts.failed:
        lines.append(f"{counts.failed:,} inputs failed:")
        lines += [f"  {error}" for _, error in counts.failures[:5]]
        if counts.failed > 5:
            lines.append(f"  … all of them are in {out.rstrip('/')}/units")
    lines.append(f"results are in {out}" if result.complete else "interrupted; the same command again continues")
    for line in lines:
        print(line, file=sys.stderr)


@contextmanager
def _progress_line(visible: bool) -> Iterator[Any]:
    if not visible:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=2) as bar:
        task = bar.add_task("starting", total=None, facts="")

        def show(progress: BatchProgress) -> None:
            bar.update(
                task, description="inputs" if progress.workers else "starting", completed=progress.units,
                total=progress.planned if progress.listed else None, facts=_facts(progress),
            )  # fmt: skip

        yield show


def _facts(progress: BatchProgress) -> str:
    parts = [f"{progress.rate:.1f} images/s", f"{progress.workers} workers"]
    if progress.lost:
        parts.append(f"{progress.lost} lost")
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    left = progress.left_s
    if left is not None:
        parts.append(f"{_duration(left)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    """Return a time for people.

    Example:
        >>> _duration(42), _duration(3700), _duration(200_000)
        ('42 s', '1 h 02 min', '2 d 7 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _size(count: int) -> str:
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
