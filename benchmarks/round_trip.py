"""What the codec alone loses: real arrangements of people, drawn at a network height and decoded.

python benchmarks/round_trip.py --annotations ANNOTATIONS.json.gz --out benchmarks/results/round_trip.json
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from featherpose.evaluation.reference.round_trip import RoundTrip, arrangements, round_trip
from featherpose.methods.paf.decode_options import PafOptions
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.skeleton import OPENPOSE_18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--height", type=int, default=368)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    images = [(size, people) for _, size, people in arrangements(options.annotations, OPENPOSE_18)]
    rows: list[dict[str, Any]] = []
    for name, rules in (("default", PafOptions()), ("published", PafOptions.published())):
        decoder = PafDecoder(OPENPOSE_18, rules)
        for low, high in ((1, 5), (6, 10), (11, 1000)):
            chosen = [(size, people) for size, people in images if low <= len(people) <= high]
            total = RoundTrip()
            for size, people in chosen:
                total += round_trip(people, size, decoder, height=options.height)
            row = {
                "rules": name,
                "people_a_image": [low, high],
                "images": len(chosen),
                **asdict(total),
                "found_part": round(total.found / total.keypoints, 4),
                "grouped_part": round(total.grouped / total.found, 4),
            }
            print(row, flush=True)
            rows.append(row)
    report = {"height": options.height, "tolerance_px": 4, "rows": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
