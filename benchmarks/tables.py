"""Tables of README.md and docs/ from the figures in benchmarks/results.

A table stands in its page between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. This script writes it anew
from the JSON files, or says with ``--check`` where a page tells other figures than they do. Sentences that are full
of figures stand there, too.

    python benchmarks/tables.py --check
    python benchmarks/tables.py
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks/results"
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_TABLE = re.compile(
    r"(?P<head><!-- table: (?P<name>[\w-]+) -->\n)(?P<body>.*?)(?P<foot><!-- end of table -->)", re.DOTALL
)
_NAMES = {
    "feather": "feather",
    "human-pose-estimation-0001": "Lightweight OpenPose",
    "human-pose-estimation-0001-int8": "Lightweight OpenPose",
    "openpose": "OpenPose",
}


def result(name: str) -> Any:
    """Return the results of a benchmark or analysis."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def rows(header: Iterable[object], body: Iterable[Iterable[object]]) -> str:
    """Return a Markdown table."""
    lines = [list(map(str, line)) for line in (header, *body)]
    head, *rest = ["| " + " | ".join(cells).replace(" |  |", " | |") + " |\n" for cells in lines]
    return "".join((head, "|---" * len(lines[0]) + "|\n", *rest)).replace("|  |", "| |")


def short(value: float) -> str:
    """Three digits that count, never with an exponent."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{float(f'{value:.3g}'):.0f}"


def _system(name: str) -> str:
    """``human-pose-estimation-0001 INT8`` as people say it."""
    network, _, rest = name.partition(" ")
    return f"{_NAMES.get(network, network)} {rest.replace(' (untrained)', ', untrained')}".strip()


def accuracy() -> str:
    """AP and time of the bundled and the released network by input height."""
    points = result("analyze-pareto")["points"]
    models = list(dict.fromkeys(p["model"] for p in points))
    heights = sorted({p["height"] for p in points})
    at = {(p["model"], p["height"]): p for p in points}
    titles = {m: "**feather** (bundled)" if m == "feather" else f"released {_NAMES.get(m, m)}" for m in models}
    body = [[f"{titles[m]}, AP", *(f"{at[m, h]['AP']:.3f}" for h in heights)] for m in models]
    for m in models:
        gmacs = at[m, 256]["gmacs"]
        short = titles[m].replace("**", "").replace(" (bundled)", "").replace(" Lightweight OpenPose", "")
        times = (f"{at[m, h]['network']['median_ms']:.1f}" for h in heights)
        body.append([f"{short}, ms ({gmacs:.2f} GMAC at height 256)", *times])
    return rows(["network", f"height {heights[0]}", *heights[1:]], body)


def peers() -> str:
    """Return AP and time of every level of quality, beside what people use instead."""
    systems = result("peers")["systems"]
    counts = list(next(iter(systems.values()))["ms"])
    body = [
        [f"**{name}**" if name.startswith("featherpose") else name, f"{entry['AP']:.3f}", f"{entry['AP50']:.3f}",
         f"{entry['AP crowded']:.3f}", *(f"{entry['ms'][n]['median']:.0f}" for n in counts), entry["license"]]
        for name, entry in systems.items()
    ]  # fmt: skip
    first = f"ms, {counts[0]} person" if counts[0] == "1" else f"ms, {counts[0]} people"
    return rows(
        ["system", "AP", "AP50", "AP, 5 people and more", first, *(f"{n} people" for n in counts[1:]), "license"], body
    )


def speed() -> str:
    """Return the table of the whole pipeline, beside its competitors."""
    end = result("end_to_end-vtest")
    full, small = (end["speedup"][f"slides, maps resized {how}"]["median"] for how in ("to the image", "by 4"))
    decode = {r["people"]: r for r in result("decode")["decode"] if r["map"] == [32, 57]}
    cold, crowd = result("cold_start"), result("tracking-scenes")["families"]["crowd"]
    times = " / ".join(f"{decode[n]['default']['processor']['median_ms']:.2g}" for n in (10, 20, 100))
    plain = decode[10]["plain_x4"]["processor"]["median_ms"]
    systems = [s for s in result("analyze-pipeline")["systems"] if s["cores"] == 2]
    baseline = next(s for s in systems if not s["trained"])
    best = max((s for s in systems if s["system"].endswith("INT8")), key=lambda s: float(s["fps"]))
    return rows(
        ["what", "featherpose", "compared with"],
        [
            ["video at 1280x720 to JSON Lines, height 256, released INT8", f"{end['fps']['featherpose, INT8']:.0f} fps",
             f"{full:.1f}x the slides' pipeline, {small:.1f}x its variant with maps resized by 4"],
            ["decoding 10 / 20 / 100 people, one core", f"{times} ms of processor time",
             f"{plain:.0f} ms plain, 10 people, maps resized by 4"],
            ["the whole of the slides' last table, two cores", f"{best['fps']:.1f} fps, {_system(best['system'])}",
             f"{baseline['fps']:.2f} fps OpenPose: {best['fps'] / baseline['fps']:.0f}x (published: 27x)"],
            ["one image from a cold start",
             f"{cold['seconds']['median']:.1f} s, {cold['peak_memory_mb']['median']:.0f} MB", ""],
            ["tracking in crowds of 10 to 30, HOTA", f"{crowd['featherpose']['hota']:.2f}",
             f"{crowd['ByteTrack']['hota']:.2f} ByteTrack, {crowd['previous frame']['hota']:.2f} previous frame only"],
        ],
    )  # fmt: skip


def postprocessing() -> str:
    """Resize, extract, group at 20 people."""
    data = result("analyze-postprocessing")
    (w, h), image = data["network_input"], data["image"]
    counts = sorted({p["people"] for p in data["profiles"]})
    people = min(counts, key=lambda count: abs(count - 20))

    def ms(timing: dict[str, float] | None) -> str:
        return "-" if timing is None else short(timing["median_ms"])

    body = []
    for p in (p for p in data["profiles"] if p["people"] == people):
        cells = [p["method"], *(ms(p[s]) for s in ("resize", "extract", "group", "total")),
                 short(1e3 / p["total"]["median_ms"])]  # fmt: skip
        if p["method"] == "ours":
            cells[0], cells[4], cells[5] = f"**{cells[0]}**", f"**{cells[4]}**", f"**{cells[5]}**"
        body.append(cells)
    fps = data["published_fps"]
    published = [f"{1e3 / fps[s]:.3g}" for s in ("resize", "extract", "group", "total")]
    slides = ["talk, resize to image, more than 20 people, 6 cores", *published, f"{fps['total']:g}"]
    body.append([f"*{cell}*" for cell in slides])
    title = f"{people} people, input {w}x{h}, image {image[0]}x{image[1]}"
    return rows([title, "resize ms", "extract ms", "group ms", "total ms", "fps"], body)


def crowded() -> str:
    """Describe the largest crowd in a sentence."""
    profiles = result("analyze-postprocessing")["profiles"]
    most = max(p["people"] for p in profiles)
    total = {p["method"]: p["total"]["median_ms"] for p in profiles if p["people"] == most}
    return (
        f"With {most} people ours takes {short(total['ours'])} ms, the full resize "
        f"{short(total['resize to image'] / 1e3)} s.\n"
    )


def shares() -> str:
    """Where the time of a frame goes, in sentences."""
    systems = [s for s in result("analyze-pipeline")["systems"] if s["cores"] == 2]
    baseline = next(s for s in systems if not s["trained"])
    lines = []
    for s in systems:
        part = 100 * s["postprocessing"]["median_ms"] / s["frame"]["median_ms"]
        line = f"- {_system(s['system'])}: post-processing is {part:.0f} % of a frame"
        if s is baseline:
            lines.append(f"{line}; in the talk it was 62 %.")
        elif s["system"].endswith("INT8"):
            faster = baseline["network"]["median_ms"] / s["network"]["median_ms"]
            more = s["throughput_fps"] / s["fps"]
            lines.append(f"{line}; the network alone is {faster:.0f} times as fast as OpenPose's, and several frames")
            lines.append(f"  under way give {more:.2f} times as many a second.")
    return "\n".join(lines) + "\n"


def pipeline() -> str:
    """Network and post-processing together, on one and two cores."""
    data = result("analyze-pipeline")
    systems = {(s["system"], s["cores"]): s for s in data["systems"]}
    names = list(dict.fromkeys(name for name, _ in systems))
    fastest = max(names, key=lambda name: float(systems[name, 2]["fps"]))

    def fps(s: dict[str, float]) -> str:
        return f"{short(s['fps'])} ({short(s['network_fps'])} / {short(s['postprocessing_fps'])})"

    body = []
    for name in names:
        one, two = systems[name, 1], systems[name, 2]
        title = _system(name) + ("" if two["trained"] else ", resize to image")
        cells = [title, fps(one), fps(two), f"{two['times_baseline']:.0f}", f"{two['throughput_fps']:.3g}"]
        body.append([f"**{cell}**" for cell in cells] if name == fastest else cells)
    titles = {"CPU FP32": "6 cores, FP32", "NUC FP16": "NUC GPU, FP16"}
    for name, s in data["published"].items():
        kind, _, machine = name.partition(", ")
        ratio = s["fps"] / data["published"][f"baseline, {machine}"]["fps"]
        figures = f"{s['fps']:g} ({s['network_fps']:g} / {s['postprocessing_fps']:g})"
        body.append([f"*talk: {kind}, {titles[machine]}*", "", f"*{figures}*", f"*{ratio:.0f}*", ""])
    header = ["system", "1 core: fps (network / post-processing)", "2 cores", "against the baseline, 2 cores",
              "2 cores, several frames under way"]  # fmt: skip
    return rows(header, body)


def roofline() -> str:
    """Return the part of the machine's peak that each network reaches."""
    data = result("analyze-roofline")
    peaks = {p["precision"]: p["gflops"] for p in data["limits"]["peaks"]}
    width, height = data["networks"][0]["size"]
    return rows(
        [f"network, {width}x{height}", "GMAC", "ms", "GFLOP/s", "of the machine's peak"],
        (
            [_system(n["network"]), f"{n['gmacs']:.3g}", short(n["time"]["median_ms"]), f"{n['gflops']:.0f}",
             f"{100 * n['fraction_of_peak']:.0f} % of {peaks[n['precision']]:.0f}"]
            for n in data["networks"]
        ),
    )  # fmt: skip


def decoding_floor() -> str:
    """Compare decoding with reading its maps, in a sentence."""
    d = result("analyze-roofline")["decoding"]
    took, floor = d["decoding"]["median_ms"], d["floor_ms"]
    size = f"{d['map_bytes'] / 1e3:.0f} KB"
    return (
        f"Decoding {d['people']} people took {short(took)} ms, reading their {size} of maps from memory takes "
        f"{short(floor)} ms, {short(took / floor)} times less.\n"
    )


def pareto() -> str:
    """AP, time and multiply-accumulates of every network and height."""
    points = sorted(result("analyze-pareto")["points"], key=lambda p: (p["model"], p["height"]))
    return rows(
        ["network", "input height", "AP", "network ms", "GMAC"],
        ([_NAMES.get(p["model"], p["model"]), p["height"], f"{p['AP']:.3f}", f"{p['network']['median_ms']:.1f}",
          f"{p['gmacs']:.2f}"] for p in points),
    )  # fmt: skip


def network_time() -> str:
    """Return the table of the bundled network alone beside the released one."""
    if not (RESULTS / "network_ratio.json").is_file():
        return ""
    data = result("network_ratio")
    cells = []
    for s in data["sizes"]:
        ours, theirs, ratio = s["bundled"], s["released"], s["ratio of a turn"]
        times = (f"{t['median_ms']:.1f} (p95 {t['p95_ms']:.1f})" for t in (ours, theirs))
        in_turns = f"**{ratio['median']:.2f}** (p95 {ratio['p95']:.2f})"
        cells.append([f"{s['size'][0]}x{s['size'][1]}", *times, in_turns, f"{s['ratio of the best']:.2f}"])
    return rows(
        [f"INT8, {data['threads']} threads", "feather, ms", "released, ms", "ratio, median of turns", "of the best"],
        cells,
    )


def stages() -> str:
    """AP after each stage of the released network."""
    data = result("stages")
    return rows(
        ["stage", "AP", "published, another subset", "GMAC so far at 368x368"],
        ([s["stage"], f"{s['AP']:.3f}", f"{s['published']:.3f}", f"{s['gmacs']:.2f}"] for s in data["stages"]),
    )


def quantized() -> str:
    """Return the table of the released network, quantized by our own command, beside the official INT8 file."""
    data = result("quantize")
    body = [[f"AP at height {a['height']}, {a['images']} images", f"{a['fp32']:.4f}", f"{a['int8']:.4f}",
             f"{a['official_int8']:.4f}"] for a in data["AP"]]  # fmt: skip
    for t in data["time"]:
        (width, height), official = t["size"], t["official_int8"]["median_ms"]
        body.append([f"ms at {width}x{height}, {t['threads']} thread{'s' if t['threads'] > 1 else ''}", "",
                     f"{t['int8']['median_ms']:.1f} ({t['ratio']:.3f}x)", f"{official:.1f}"])  # fmt: skip
    return rows(["", "FP32", "INT8 by `featherpose quantize`", "official INT8"], body)


def training() -> str:
    """Training throughput beside the authors' way."""
    data = result("training_throughput")
    titles = {"authors": "the authors' way, FP32", "featherpose": f"featherpose, {data['format']}",
              "featherpose, a process a core": f"the same, one process a core by `torchrun`, {data['format']}",
              "featherpose fp32": "featherpose, FP32",
              "featherpose fp32, a process a core": "the same, one process a core by `torchrun`, FP32"}  # fmt: skip
    return rows(
        [f"batch {data['batch']}, {data['threads']} cores", "images/s", "processor s an image", "times as many"],
        (
            [title, f"{data['images_per_s'][name]:.2f}", f"{data['processor_s_per_image'][name]:.3f}",
             f"{data['ratio'][name]:.2f}" if name in data["ratio"] else 1]
            for name, title in titles.items() if name in data["images_per_s"]
        ),
    )  # fmt: skip


def fuzz() -> str:
    """Return the outcomes of mutated inputs, by reader."""
    data = result("fuzz")
    columns = ("inputs", "read", "refused", "internal_errors", "crashes", "hangs", "slow", "large")
    targets = data["targets"]
    body = [[t["target"], *(f"{t[c]:,}" for c in columns), t["slowest_ms"], t["largest_mb"]] for t in targets]
    sums = (f"{sum(t[c] for t in targets):,}" for c in columns)
    body.append(["all", *sums, max(t["slowest_ms"] for t in targets), max(t["largest_mb"] for t in targets)])
    titles = ("reader", "inputs", "read", "refused", "internal errors", "crashes", "hangs", "over 2 s", "over 1 GB",
              "slowest, ms of processor time", "most memory, MB")  # fmt: skip
    return rows(titles, body)


TABLES: dict[str, Callable[[], str]] = {
    "accuracy": accuracy, "speed": speed, "postprocessing": postprocessing, "pipeline": pipeline,
    "roofline": roofline, "pareto": pareto, "stages": stages, "quantized": quantized, "training": training,
    "network-time": network_time, "crowded": crowded, "shares": shares, "decoding-floor": decoding_floor,
    "fuzz": fuzz, "peers": peers,
}  # fmt: skip


def renewed(text: str) -> tuple[str, list[str]]:
    """Return a page with its tables from the results, and the names of the changed ones."""
    changed = []

    def table(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise SystemExit(f"there is no table {name!r}; there are {', '.join(TABLES)}")
        body = TABLES[name]()
        if body != match["body"]:
            changed.append(name)
        return f"{match['head']}{body}{match['foot']}"

    return _TABLE.sub(table, text), changed


def main() -> int:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say where a page differs; exit code 1 if one does")
    check = parser.parse_args().check
    stale = 0
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fresh, changed = renewed(text)
        for name in changed:
            print(f"{page.relative_to(ROOT)}: table {name} {'differs from the results' if check else 'written'}")
        stale += len(changed)
        if changed and not check:
            page.write_text(fresh, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
