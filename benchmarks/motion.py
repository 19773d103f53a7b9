"""What the analysis of movement gets right, and what it costs, beside Sports2D.

People of known motion (`featherpose.evaluation.motion.known_people`) go through the whole analysis, as they are and
with the keypoint errors of the bundled networks as measured on held-out photographs of coco-train: new in each frame,
and lasting for half a second as they do in videos. Printed are errors of angles, counts and times. The cost is the
processor time of everything after the poses, for one person at 60 frames a second.

With ``--sports2d PYTHON`` the same keypoints go through Sports2D's own functions (`benchmarks/motion_sports2d.py`, run
by that Python, where ``pip install sports2d`` was done): angles side by side, and the time of its calculation.

    python benchmarks/motion.py --json benchmarks/results/motion.json
    python benchmarks/motion.py --sports2d ~/sports2d/bin/python --json benchmarks/results/motion.json
    python benchmarks/motion.py --measure-noise ../shared/data/coco-train   # writes the package's noise table
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from reports import publish

from featherpose.estimator import PoseEstimator
from featherpose.evaluation.motion import noise as noise_module
from featherpose.evaluation.motion.known_people import KnownMotion, jumping, pendulum_arms, squatting, walking
from featherpose.evaluation.motion.noise import KeypointNoise, bundled_noise, measure_keypoint_noise, see_with_noise
from featherpose.media.images import read_image
from featherpose.motion.analysis import MotionOptions, MotionReport, analyze_motion
from featherpose.motion.angles import ANGLES, joint_angles
from featherpose.motion.cleaning.filters import FilterName, FilterOptions
from featherpose.motion.files.opensim import marker_names
from featherpose.motion.sequence import PoseSequence
from featherpose.poses import Poses
from featherpose.skeleton import BODY_25, COCO_17, OPENPOSE_18

SEEDS = 20
# As measured on videos (evaluation/tracking/detector_noise.json): the errors last for half a second, and 2.2 % of their
# variance, so 15 % of their deviation, is new in each frame.
LASTING_S = 0.49
TREMBLE = 0.15
PEOPLE: dict[str, Callable[[], KnownMotion]] = {
    "pendulum arms": lambda: pendulum_arms(seconds=8, rate_hz=30),
    "squats": lambda: squatting(5),
    "walking": lambda: walking(12),
    "jumping": lambda: jumping(3, rate_hz=60),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sports2d", type=Path, help="Python in whose environment Sports2D is installed.")
    parser.add_argument("--measure-noise", type=Path, metavar="FOLDER", help="Measure the bundled network's noise.")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    args = parser.parse_args()
    if args.measure_noise is not None:
        write_noise(args.measure_noise)
        return
    noise = bundled_noise()
    report: dict[str, Any] = {
        "noise": noise.provenance,
        "accuracy": {name: accuracy(make(), noise, args.seeds) for name, make in PEOPLE.items()},
        "cost": cost(noise, args.sports2d),
    }
    if args.sports2d is not None:
        report["angles against Sports2D"] = beside_sports2d(args.sports2d)
    publish(report, args.json)


def accuracy(known: KnownMotion, noise: KeypointNoise, seeds: int) -> dict[str, Any]:
    """Errors without noise and with it, of the bundled network's skeleton."""
    clean = known.in_skeleton(OPENPOSE_18)
    raw = joint_angles(clean)
    out: dict[str, Any] = {
        "angle RMSE unfiltered, deg (worst joint)": round(max(rmse(known, raw).values()), 4),
        "noise-free": results(known, [analyze_motion(clean)]),
    }
    kinds = (
        ("tremble as in videos", scaled(noise, TREMBLE), 0.0),
        ("all of the noise, new in each frame", noise, 0.0),
        (f"all of the noise, lasting {LASTING_S} s", noise, LASTING_S),
    )
    for title, kind, lasting in kinds:
        seen = [see_with_noise(known, OPENPOSE_18, kind, seed=seed, lasting_s=lasting) for seed in range(seeds)]
        filters: tuple[tuple[FilterName, str], ...] = (("butterworth", ""), ("adaptive", ", adaptive filter"))
        for filter_name, more in filters:
            options = MotionOptions(filter=FilterOptions(name=filter_name))
            out[title + more] = results(known, [analyze_motion(sequence, options) for sequence in seen])
    return out


def rmse(known: KnownMotion, angles: Any) -> dict[str, float]:
    out = {}
    for name, truth in known.angles.items():
        if name in angles:
            apart = angles[name][:, 0] - truth
            out[name] = float(np.sqrt(np.nanmean(apart**2)))
    return out


def results(known: KnownMotion, runs: list[MotionReport]) -> dict[str, Any]:
    errors = [rmse(known, run.angles) for run in runs]
    out: dict[str, Any] = {
        "angle RMSE, deg": {name: round(float(np.mean([e[name] for e in errors])), 2) for name in errors[0]},
        "mean of joints, deg": round(float(np.mean([list(e.values()) for e in errors])), 2),
    }
    frame_s = float(np.median(np.diff(known.sequence.timestamps_s)))
    for title, truth, found in events(known, runs):
        right = [len(times) == len(truth) for times in found]
        apart = [
            np.abs(np.asarray(times)[:, None] - truth).min(1) / frame_s for times in found if len(times)
        ]  # of each found event to the nearest true one
        out[title] = {
            "true": len(truth),
            "runs with the exact count, %": round(100 * float(np.mean(right)), 1),
            "mean count": round(float(np.mean([len(times) for times in found])), 2),
            "time error, frames (mean)": round(float(np.mean(np.concatenate(apart))), 2) if apart else None,
            "time error, frames (95 %)": round(float(np.percentile(np.concatenate(apart), 95)), 2) if apart else None,
        }
    return out


def events(known: KnownMotion, runs: list[MotionReport]) -> list[tuple[str, np.ndarray, list[list[float]]]]:
    out: list[tuple[str, np.ndarray, list[list[float]]]] = []
    people = [run.people[0] for run in runs]
    if "turn" in known.events:
        turns = [[r.turn_s for r in p.repetitions.found] if p.repetitions is not None else [] for p in people]
        out.append(("repetitions", known.events["turn"], turns))
    if "left_contact" in known.events:
        for kind in ("contact", "release"):
            truth = np.sort(np.concatenate([known.events[f"{side}_{kind}"] for side in ("left", "right")]))
            found = [[e.time_s for e in p.gait.events if e.kind == kind] for p in people]
            out.append((f"foot {kind}s", truth, found))
    if "takeoff" in known.events:
        out.append(("takeoffs", known.events["takeoff"], [[j.takeoff_s for j in p.jumps] for p in people]))
        out.append(("landings", known.events["landing"], [[j.landing_s for j in p.jumps] for p in people]))
    return out


def cost(noise: KeypointNoise, sports2d: Path | None) -> dict[str, Any]:
    """Processor time of the whole analysis, and of Sports2D's calculation on the same keypoints."""
    known = walking(600, rate_hz=60)
    noisy = see_with_noise(known, OPENPOSE_18, noise, seed=0)
    tremble = see_with_noise(known, OPENPOSE_18, scaled(noise, TREMBLE), seed=0)
    options = MotionOptions(person_height_m=1.75)
    out: dict[str, Any] = {"frames": noisy.num_frames}
    for title, sequence in (("tremble as in videos", tremble), ("all of the measured noise", noisy)):
        analyze_motion(sequence, options)
        spent = []
        for _ in range(5):
            started = process_time()
            analyze_motion(sequence, options)
            spent.append(process_time() - started)
        out[f"frames a second, {title}"] = round(sequence.num_frames / float(np.median(spent)))
    if sports2d is not None:
        part = PoseSequence.from_arrays(tremble.keypoints[:1200], tremble.timestamps_s[:1200], OPENPOSE_18)
        started = process_time()
        analyze_motion(part, options)
        ours = process_time() - started
        theirs = run_sports2d(sports2d, part)["seconds"]
        out["1,200 frames, s of processor time"] = {
            "featherpose, whole analysis": round(ours, 3),
            "Sports2D, angles and filters": round(theirs, 3),
            "ratio": round(theirs / ours, 1),
        }
    return out


def scaled(noise: KeypointNoise, share: float) -> KeypointNoise:
    """Return the jitter scaled to the share that is new in each frame; misses and outliers persist and are left out."""
    quiet = dict.fromkeys(noise.jitter, 0.0)
    return KeypointNoise(
        provenance=noise.provenance,
        people=noise.people,
        jitter={name: share * sigma for name, sigma in noise.jitter.items()},
        missed=quiet,
        outliers=quiet,
    )


def beside_sports2d(python: Path) -> dict[str, float]:
    """Largest differences of unfiltered angles on the same keypoints, degrees."""
    out: dict[str, float] = {}
    for facing in ("right", "left"):
        known = walking(12, facing=facing)
        sequence = see_with_noise(known, BODY_25, scaled(bundled_noise(), TREMBLE), seed=1)
        ours = joint_angles(sequence, facing="left" if facing == "left" else "right")
        theirs = run_sports2d(python, sequence)["angles"]
        for name, values in theirs.items():
            if name in ours:
                given = np.array([np.nan if value is None else value for value in values])
                turn = 180 if ANGLES[name].axial else 360  # curves go on beyond half a turn
                apart = (ours[name][:, 0] - given + turn / 2) % turn - turn / 2
                if not np.isfinite(apart).any():
                    continue  # it needs a keypoint that the skeleton lacks
                out[name] = round(max(out.get(name, 0.0), float(np.nanmax(np.abs(apart)))), 4)
    return out


def run_sports2d(python: Path, sequence: PoseSequence) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        given, answer = Path(folder) / "keypoints.npz", Path(folder) / "angles.json"
        np.savez(given, points=sequence.keypoints[:, 0], names=marker_names(sequence), rate=sequence.rate_hz)
        script = Path(__file__).with_name("motion_sports2d.py")
        subprocess.run([str(python), str(script), str(given), str(answer)], check=True, capture_output=True)
        result: dict[str, Any] = json.loads(answer.read_text())
    return result


def write_noise(folder: Path) -> None:
    data = json.loads((folder / "annotations.json").read_text())
    images = {image["id"]: image for image in data["images"]}
    people: dict[int, list[np.ndarray]] = {}
    for annotation in data["annotations"]:
        joints = np.array(annotation["keypoints"], float).reshape(17, 3)
        tall = annotation["bbox"][3] >= 0.45 * images[annotation["image_id"]]["height"]
        held_out = annotation["image_id"] % 10 == 0  # no training run sees them
        if held_out and not annotation.get("iscrowd") and (joints[:, 2] > 0).sum() >= 12 and tall:
            people.setdefault(annotation["image_id"], []).append(joints)
    chosen = sorted(people)

    def pairs() -> Any:
        with PoseEstimator(height=368) as estimator:
            for number in chosen:
                image = read_image(folder / "images" / images[number]["file_name"])
                joints = np.array(people[number])
                points = np.where(joints[..., 2:] > 0, joints[..., :2], np.nan).astype(np.float32)
                seen = (joints[..., 2] > 0).astype(np.float32)
                truth = Poses(points, seen, np.ones(len(points), np.float32), COCO_17, (image.shape[1], image.shape[0]))
                yield truth, estimator(image).to_skeleton(COCO_17)

    where = (
        f"the {len(chosen)} held-out photographs of coco-train (id divisible by ten) with a person of 12 joints or "
        "more over 0.45 of the image's height"
    )
    measured = measure_keypoint_noise(
        pairs(), COCO_17, provenance=f"feather and refiner (bundled, balanced, INT8) at height 368; {where}"
    )
    Path(noise_module.__file__).with_name("keypoint_noise.json").write_text(measured.to_json())
    print(measured.to_json())


if __name__ == "__main__":
    main()
