"""One worker of `fuzz.py`: reads ranges of input numbers from standard input, answers one line for each input."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/support"))

import psutil
from fuzz_targets import TARGETS, input_rng

from featherpose.errors import FeatherposeError

_SLOW_MS, _LARGE_MB, _END_MB = 2000, 1024, 4096
_TOO_LARGE = 77


def watch_memory() -> None:
    """End the process before it takes the machine along."""
    process = psutil.Process()
    while True:
        if process.memory_info().rss > _END_MB * 2**20:
            os._exit(_TOO_LARGE)
        time.sleep(0.05)


def peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def reset_peak() -> None:
    # On another system the peak of the whole run is all there is.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def place_of(error: BaseException) -> str:
    """Return the last line of featherpose that an exception passed, and its message."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "featherpose" in f.filename]
    at = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} " if frames else ""
    return f"{at}{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def judge(read: Any, data: bytes) -> dict[str, Any]:
    reset_peak()
    before_mb, before_s = psutil.Process().memory_info().rss / 2**20, time.process_time()
    answer: dict[str, Any] = {"result": "read"}
    try:
        read(data)
    except FeatherposeError as error:
        answer = {"result": "refused"}
        if "\n" in str(error) or len(str(error)) > 2000:
            answer = {"result": "error", "where": f"a message of several lines: {type(error).__name__}"}
    except BaseException as error:
        answer = {"result": "error", "where": place_of(error)}
    answer["ms"] = round(1000 * (time.process_time() - before_s), 1)
    answer["mb"] = round(max(0.0, peak_mb() - before_mb), 1)
    if answer["result"] != "error":
        if answer["ms"] > _SLOW_MS:
            answer |= {"result": "slow", "where": f"slow: {answer['ms']:.0f} ms"}
        elif answer["mb"] > _LARGE_MB:
            answer |= {"result": "large", "where": f"large: {answer['mb']:.0f} MB"}
    return answer


def main() -> None:
    name, seed, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    # Libraries print on standard output; the answers go where nobody else writes.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    threading.Thread(target=watch_memory, daemon=True).start()
    target = TARGETS[name](folder)
    # The first use of anything imports and compiles; that is not the input's cost.
    for _ in range(3):
        judge(target.read, target.make(input_rng(seed, name + " warm-up", 0)))
    for line in sys.stdin:
        first, last = map(int, line.split())
        for number in range(first, last):
            data = target.make(input_rng(seed, name, number))
            answer = judge(target.read, data)
            if answer["result"] not in ("read", "refused"):
                (folder / f"fault-{answer['result']}-{number}.bin").write_bytes(data)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    target.close()


if __name__ == "__main__":
    main()
