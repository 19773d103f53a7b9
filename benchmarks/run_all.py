"""Every benchmark and analysis with its published settings, one after the other, then the tables of the pages.

One that fails is reported and the others go on; the exit code is then 1. Nothing else should run meanwhile: the
figures are those of the whole machine. ``--list`` says what there is and about how long each takes on two cores.

    python benchmarks/run_all.py --data ../shared
    python benchmarks/run_all.py --data ../shared --only analyze-pipeline analyze-roofline
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULTS, IMAGES = HERE / "results", HERE.parent / "docs/images"


@dataclass(frozen=True, slots=True)
class Run:
    """One command.

    Attributes:
        name: What ``--only`` calls it; the result has that name unless the command writes several.
        command: ``featherpose`` or a script of this folder, and its arguments.
        minutes: About how long it takes on two idle cores.
        needs: Files without which it is left out.
    """

    name: str
    command: tuple[str, ...]
    minutes: float
    needs: tuple[Path, ...] = ()

    def words(self) -> list[str]:
        """Return the command line."""
        program, *arguments = self.command
        if program == "featherpose":
            return [sys.executable, "-m", "featherpose.cli.main", *arguments]
        return [sys.executable, str(HERE / program), *arguments]


def all_runs(shared: Path, vtest: Path) -> list[Run]:
    """Everything, the most important figures first."""
    model = shared / "models/human-pose-estimation-0001/human-pose-estimation-0001-int8.xml"
    weights = model.with_name("human-pose-estimation-0001-fp16.safetensors")
    val, train, videos = shared / "data/coco-val", shared / "data/coco-train", shared / "data/videos"
    annotations = shared / "data/coco-val2017-annotations.json.gz"
    int8, crowd = str(model), str(val / "images/000000031296.jpg")

    def at(name: str) -> tuple[str, str]:
        return "--json", str(RESULTS / f"{name}.json")

    def drawn(name: str) -> tuple[str, ...]:
        return *at(f"analyze-{name}"), "--plot", str(IMAGES / name)

    def analyze(name: str, minutes: float, *arguments: str) -> Run:
        return Run(f"analyze-{name}", ("featherpose", "analyze", name, *arguments, *drawn(name)), minutes)

    def measured(network: str, name: str, height: int, preset: str = "default") -> Run:
        chosen = () if network == "feather" else ("--model", int8)
        command = (
            "featherpose",
            "evaluate",
            str(val),
            *chosen,
            "--quality",
            "fast",
            "--height",
            str(height),
            "--preset",
            preset,
        )
        return Run(name, (*command, *at(name)), 0.3)

    return [
        analyze("pareto", 6, str(val), "--models", "feather", int8, "--heights", "128", "192", "256", "320", "368",
                "448"),
        analyze("pipeline", 5, str(videos / "two-people.mp4"), "--model", int8),
        analyze("postprocessing", 3, str(val), "--model", int8),
        analyze("roofline", 2, crowd, "--models", int8, "feather", "--untrained", "openpose"),
        Run("network_ratio", ("network_ratio.py", "--released", int8, *at("network_ratio")), 1),
        Run("refiner_cost", ("refiner_cost.py", "--released", int8, *at("refiner_cost")), 0.3),
        Run("stages", ("featherpose", "analyze", "stages", str(val), "--checkpoint", str(weights), *at("stages"),
                       "--plot", str(IMAGES / "stages")), 4),
        *(
            Run(f"analyze-complexity-{network}", ("featherpose", "analyze", "complexity", network,
                                                  *at(f"analyze-complexity-{network}")), 0.2)
            for network in ("openpose", "lightweight-openpose", "feather")
        ),
        measured("feather", "coco-val-feather-int8-256", 256),
        measured("feather", "coco-val-feather-int8-368", 368),
        measured("released", "coco-val-int8-256-default", 256),
        measured("released", "coco-val-int8-368-default", 368),
        measured("released", "coco-val-int8-368-published", 368, "published"),
        *(
            Run(f"bench-int8-256-{people}-people", ("featherpose", "bench", "--model", int8, "--people", str(people),
                                                    *at(f"bench-int8-256-{people}-people")), 0.3)
            for people in (1, 10, 100)
        ),
        Run("training_throughput", ("training_throughput.py", "--data", str(train), *at("training_throughput")), 5),
        Run("loading", ("loading.py", "--data", str(train), *at("loading")), 2),
        Run("quantize", ("quantize.py", "--data", str(shared), *at("quantize")), 8),
        Run("decode", ("decode.py", "--annotations", str(annotations), "--out", str(RESULTS / "decode.json")), 3),
        Run("decode_accuracy", ("decode_accuracy.py", str(val), "--model", int8,
                                "--out", str(RESULTS / "decode_accuracy.json")), 10),
        Run("round_trip", ("round_trip.py", "--annotations", str(annotations),
                           "--out", str(RESULTS / "round_trip.json")), 2),
        Run("end_to_end-vtest", ("end_to_end.py", str(vtest), "--data", str(shared), *at("end_to_end-vtest")), 2,
            (vtest,)),
        Run("end_to_end-nine-people", ("end_to_end.py", str(videos / "two-people.mp4"), "--columns", "3",
                                       "--data", str(shared), *at("end_to_end-nine-people")), 2),
        Run("motion", ("motion.py", *at("motion")), 1),
        Run("frame_work", ("frame_work.py", "--data", str(shared), *at("frame_work")), 1),
        Run("check_cost", ("check_cost.py", *at("check_cost")), 1),
        Run("cold_start", ("cold_start.py", _photograph(), "--model", "feather", *at("cold_start")), 1),
        Run("people_growth", ("people_growth.py", "--model", int8, "--data", str(val), *at("people_growth")), 2),
        Run("engines_precision", ("engines_precision.py", "--model", int8, *at("engines_precision")), 1),
        Run("engines_interpolation", ("engines_interpolation.py", "--model", int8, "--data", str(train),
                                      *at("engines_interpolation")), 3),
        Run("engines_pinning", ("engines_pinning.py", "--model", int8, *at("engines_pinning")), 1),
        Run("engines_shapes", ("engines_shapes.py", "--model", int8, *at("engines_shapes")), 4),
        *(
            Run(f"tracking-{part}", ("tracking.py", part, "--data", str(shared), "--out", str(RESULTS)), minutes)
            for part, minutes in (("speed", 1), ("scenes", 4), ("smoothing", 4), ("videos", 2))
        ),
        Run("stream", ("stream.py", "--data", str(shared), "--out", str(RESULTS)), 3),
        Run("mixed_folder", ("mixed_folder.py", "--out", str(RESULTS / "mixed_folder.json")), 3),
        Run("server_load", ("server_load.py", "--data", str(shared), "--out", str(RESULTS)), 7),
        Run("serve_replicas", ("serve_replicas.py", "--data", str(shared), "--out", str(RESULTS)), 6),
        Run("batch_scaling", ("batch_scaling.py", "--data", str(shared), "--out", str(RESULTS)), 11),
        Run("server-faults", ("server_faults.py", "--out", str(RESULTS)), 11),
        Run("live", ("live.py", "--data", str(shared), "--out", str(RESULTS)), 11),
    ]  # fmt: skip


def _photograph() -> str:
    from matplotlib import cbook

    return str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared", help="the folder of development data")
    parser.add_argument("--vtest", type=Path, default=Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi"),
                        help="the pedestrians of Debian's opencv-doc")  # fmt: skip
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only these, in this script's order")
    parser.add_argument("--skip", nargs="+", metavar="NAME", default=[], help="all but these")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    parser.add_argument("--limit-s", type=float, default=1800.0, help="longest time of one command")
    options = parser.parse_args(arguments)
    runs = all_runs(options.data.resolve(), options.vtest.resolve())
    names = [run.name for run in runs]
    if unknown := sorted({*(options.only or []), *options.skip} - set(names)):
        parser.error(f"there is no {unknown[0]}; there are {', '.join(names)}")
    runs = [r for r in runs if (options.only is None or r.name in options.only) and r.name not in options.skip]
    if options.list:
        for run in runs:
            print(f"{run.name:40s} {run.minutes:4.1f} min  {' '.join(run.command)}")
        print(f"{sum(run.minutes for run in runs):.0f} minutes together")
        return 0
    outcomes = [(run.name, *_carry_out(run, options.limit_s)) for run in runs]
    done = subprocess.run([sys.executable, str(HERE / "tables.py")], check=False)
    outcomes.append(("tables", "done" if done.returncode == 0 else f"failed ({done.returncode})", 0.0))
    print()
    for name, outcome, seconds in outcomes:
        print(f"{name:40s} {seconds:6.0f} s  {outcome}")
    return int(any(outcome.startswith("failed") for _, outcome, _ in outcomes))


def _carry_out(run: Run, limit_s: float) -> tuple[str, float]:
    """Run one command; what came of it, and seconds."""
    if missing := [path for path in run.needs if not path.exists()]:
        return f"left out: there is no {missing[0]}", 0.0
    print(f"\n== {run.name} (about {run.minutes:g} min)", flush=True)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory(prefix="featherpose-") as folder:  # for what a command leaves beside it
            code = subprocess.run(run.words(), cwd=folder, check=False, timeout=limit_s).returncode
    except subprocess.TimeoutExpired:
        return f"failed: longer than {limit_s:g} s", time.perf_counter() - started
    return "done" if code == 0 else f"failed ({code})", time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
