"""The instruction set that the engine may use."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featherpose.runtime.openvino import core
from featherpose.runtime.processor import Processor, processor

AMX = Processor("Xeon", frozenset({"avx512f", "amx_tile", "amx_int8"}))
# A square image of this height crashed OpenVINO 2026.4 on Granite Rapids.
MANY_SIZES = """
import numpy as np
from featherpose import PoseEstimator

for height in (128, 256, 368):
    with PoseEstimator(quality="fast", height=height) as estimator:
        for width in (300, 368, 500):
            estimator(np.full((368, width, 3), 127, np.uint8))
print("all sizes")
"""
# Threads are switched as often as possible; without the look-up at the import this waits for ever, every time.
ARRAYS_IN_THREADS = """
import faulthandler, sys, threading
import openvino as ov
faulthandler.dump_traceback_later(60, exit=True)
constants = [o for o in ov.Core().read_model(sys.argv[1]).get_ops() if o.get_type_name() == "Constant"][:4]
import featherpose.runtime.openvino.core
together = threading.Barrier(len(constants))

def look(constant):
    together.wait()
    constant.data

sys.setswitchinterval(1e-9)
threads = [threading.Thread(target=look, args=(constant,)) for constant in constants]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(threads), "threads")
"""


@pytest.mark.slow
def test_networks_opened_side_by_side_do_not_wait_for_each_other(small_ir: Path) -> None:
    command = [sys.executable, "-c", ARRAYS_IN_THREADS, str(small_ir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 2


def test_there_is_one_core() -> None:
    with ThreadPoolExecutor(8) as threads:
        cores = list(threads.map(lambda _: core.engine_core(), range(8)))
    assert len({id(one) for one in cores}) == 1


@pytest.mark.slow
def test_int8_of_any_size_on_this_processor() -> None:
    """A crash would end the process, so it is one of its own."""
    done = subprocess.run([sys.executable, "-c", MANY_SIZES], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "all sizes"


def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(core, "processor", lambda: AMX)
    with core._instructions_without_amx():
        assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX512_CORE_FP16"
    assert "ONEDNN_MAX_CPU_ISA" not in os.environ


def test_the_users_limit_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setattr(core, "processor", lambda: AMX)
    with core._instructions_without_amx():
        assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert os.environ["ONEDNN_MAX_CPU_ISA"] == "AVX2"


def test_without_amx_nothing_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    monkeypatch.setattr(core, "processor", lambda: Processor("Zen 5", frozenset({"avx512f", "avx512_vnni"})))
    with core._instructions_without_amx():
        assert "ONEDNN_MAX_CPU_ISA" not in os.environ


def test_what_a_processor_says_of_amx() -> None:
    assert AMX.amx
    assert not Processor("Zen 5", frozenset({"avx512f"})).amx
    assert processor().amx == ("amx_tile" in processor().features)
