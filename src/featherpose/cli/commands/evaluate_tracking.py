"""``featherpose evaluate-tracking``: identity metrics of the tracker, beside two other trackers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from featherpose.cli.options import ModelOptions
from featherpose.errors import OptionError
from featherpose.evaluation.performance.machine import machine_facts
from featherpose.evaluation.tracking.detector_noise import DetectorErrors, released_errors
from featherpose.evaluation.tracking.evaluate import TRACKERS, compare_on_scenes, count_ids, track_all
from featherpose.evaluation.tracking.metrics import TrackingScores, score_tracking
from featherpose.evaluation.tracking.posetrack import PoseTrackFrame, outside_ignored, read_posetrack
from featherpose.evaluation.tracking.scenes import FAMILIES, SceneFamily
from featherpose.files import write_bytes
from featherpose.poses import Poses

__all__ = ["evaluate_tracking"]


def evaluate_tracking(
    source: Annotated[
        Path | None,
        Parameter(help="A PoseTrack annotation file (JSON), or a video. Left out: rendered scenes with known truth."),
    ] = None,
    /,
    *,
    model: ModelOptions = ModelOptions(),  # noqa: B008 - frozen
    images: Annotated[
        Path | None, Parameter(help="Folder that the annotation file's image names are relative to.")
    ] = None,
    results: Annotated[
        Path | None, Parameter(help="Results in PoseTrack format to be scored instead of running the trackers.")
    ] = None,
    fps: Annotated[float, Parameter(help="Frame rate of the annotated images.")] = 25.0,
    people: Annotated[int | None, Parameter(help="How many people a video shows, counted by eye.")] = None,
    families: Annotated[tuple[SceneFamily, ...], Parameter(help="Which rendered scenes.")] = FAMILIES,
    seeds: Annotated[int, Parameter(help="Scenes of each family and size.")] = 4,
    seconds: Annotated[float, Parameter(help="Length of each scene.")] = 10.0,
    detector_noise: Annotated[
        Path | None,
        Parameter(help="What the detections of the scenes get wrong; the released network's mistakes if left out."),
    ] = None,
    measure_noise: Annotated[
        Path | None,
        Parameter(
            help="Write the file of --detector-noise instead: run the model over this COCO keypoint data set of "
            "training images, and over --videos, and compare."
        ),
    ] = None,
    videos: Annotated[
        tuple[Path, ...], Parameter(help="Real videos of people, for how long a mistake lasts.", consume_multiple=True)
    ] = (),
    json_file: Annotated[Path | None, Parameter(name="--json", help="Write the figures to this file.")] = None,
) -> int:
    """Measure HOTA, IDF1 and id switches (TrackEval; OKS in the place of box overlap).

    The tracker, the published rule that looks at the previous frame only, and ByteTrack get the same detections.
    On a video without annotations only the ids are counted.
    """
    if seeds < 1:
        raise OptionError(f"--seeds {seeds}", expected="1 or more")
    if not fps > 0:
        raise OptionError(f"--fps {fps:g}", expected="a positive number")
    if measure_noise is not None:
        return _measure(measure_noise, images, videos, detector_noise, model)
    report: dict[str, Any]
    if source is None:
        mistakes = None if detector_noise is None else DetectorErrors.load(detector_noise)
        scores = compare_on_scenes(families=families, seeds=range(seeds), seconds=seconds, errors=mistakes)
        for family, by_tracker in scores.items():
            _table(f"{family} scenes", by_tracker)
        report = {
            "scenes": {f: {name: s.summary() for name, s in by.items()} for f, by in scores.items()},
            "seeds": seeds,
            "seconds": seconds,
            "detections": (mistakes or released_errors()).provenance,
        }
    elif source.suffix.lower() == ".json":
        by_tracker = _annotated(source, images, results, fps, model)
        _table(source.name, by_tracker)
        report = {"annotations": source.name, "scores": {name: s.summary() for name, s in by_tracker.items()}}
    else:
        counts = _video(source, model)
        print(f"{source.name}: ids given" + (f", {people} people counted by eye" if people is not None else ""))
        for name, count in counts.items():
            print(f"  {name:<16}{count:>5}")
        report = {"video": source.name, "people": people, "ids": counts}
    if json_file is not None:
        write_bytes(json_file, (json.dumps({**report, "machine": machine_facts()}, indent=1) + "\n").encode())
        print(f"wrote {json_file}", file=sys.stderr)
    return 0


def _table(title: str, scores: Mapping[str, TrackingScores]) -> None:
    print(
        f"{title}\n  {'tracker':<16}{'HOTA':>7}{'DetA':>7}{'AssA':>7}{'IDF1':>7}{'MOTA':>7}{'switches':>10}{'ids':>6}"
    )
    for name, s in scores.items():
        print(
            f"  {name:<16}{s.hota:7.3f}{s.deta:7.3f}{s.assa:7.3f}{s.idf1:7.3f}{s.mota:7.3f}{s.switches:>10}{s.ids:>6}"
        )
    print(f"  {next(iter(scores.values())).people} people")


def _measure(
    dataset: Path, images: Path | None, videos: tuple[Path, ...], out: Path | None, model: ModelOptions
) -> int:
    """Measure the errors of the model's detections and write them to a file."""
    from featherpose.estimator import PoseEstimator
    from featherpose.evaluation.keypoints.dataset import read_coco_dataset
    from featherpose.evaluation.tracking.measure_noise import measure_detector

    if out is None or not videos:
        raise OptionError(
            "--measure-noise alone", expected="also --detector-noise FILE to write to and --videos with people in them"
        )
    data = read_coco_dataset(dataset, images)
    with PoseEstimator(
        model.model, quality=model.quality, refine=model.refine, engine=model.throughput_engine
    ) as estimator:
        found = measure_detector(estimator, data, videos)
        names = estimator.skeleton.keypoints
    found.save(out)
    print(found.provenance)
    print(f"  {'people missed':<24}{found.person_miss[-1][-1]:7.1%} of the large and wholly visible")
    print(f"  {'false people':<24}{found.fragments_per_person:7.3f} beside each true one, ", end="")
    print(f"{found.false_positives_per_image:.3f} elsewhere in each image")
    print(f"  {'mistakes last':<24}{found.persistence_s:7.2f} s")
    print(f"  {'joint':<16}{'missed':>8}{'jitter':>8}{'outliers':>10}   (large people; jitter in sizes)")
    for name, *row in zip(names, found.keypoint_miss[-1], found.jitter, found.outlier_share, strict=True):
        print(f"  {name:<16}{row[0]:8.1%}{row[1]:8.3f}{row[2]:10.1%}")
    print(f"wrote {out}", file=sys.stderr)
    return 0


def _annotated(
    source: Path, images: Path | None, results: Path | None, fps: float, model: ModelOptions
) -> dict[str, TrackingScores]:
    frames = read_posetrack(source)
    if results is not None:
        given = {frame.index: frame.people for frame in read_posetrack(results)}
        tracked = {results.name: [given.get(f.index, f.people[:0]).to_skeleton(f.people.skeleton) for f in frames]}
    else:
        root = images if images is not None else source.parent
        found = list(_detections(frames, root, fps, model))
        tracked = {name: track_all(make(), found) for name, make in TRACKERS.items()}
    labeled = [i for i, frame in enumerate(frames) if frame.labeled]
    out = {}
    for name, poses in tracked.items():
        truth = [frames[i].people.to_skeleton(poses[i].skeleton) for i in labeled]
        kept = [outside_ignored(poses[i], frames[i].ignored) for i in labeled]
        out[name] = score_tracking(truth, kept)
    return out


def _detections(
    frames: list[PoseTrackFrame], root: Path, fps: float, model: ModelOptions
) -> Iterator[tuple[float, Poses]]:
    from featherpose.estimator import PoseEstimator
    from featherpose.media.images import read_image

    with PoseEstimator(model.model, quality=model.quality, refine=model.refine, engine=model.engine) as estimator:
        for frame in frames:
            yield frame.index / fps, estimator(read_image(root / frame.file_name))


def _video(source: Path, model: ModelOptions) -> dict[str, int]:
    from featherpose.estimator import PoseEstimator
    from featherpose.media.sources.find import open_source

    with (
        PoseEstimator(model.model, quality=model.quality, refine=model.refine, engine=model.engine) as estimator,
        open_source(source) as video,
    ):
        found = [(frame.timestamp_s, estimator(frame.image)) for frame in video]
    return {name: count_ids(track_all(make(), found)) for name, make in TRACKERS.items()}
