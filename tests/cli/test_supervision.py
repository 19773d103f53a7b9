"""Work in a child process: what it returns, raises and says, and what is left when it ends without a word."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the work runs in the process itself")

_CASES = {
    "returns": ("return 7", 7, ""),
    "fails": ('raise MissingExtraError("Ray", "cluster")', 1, 'Ray needs packages that are not installed; run: pip'),
    "usage": ('raise OptionError("tries 0", hint="one or more")', 2, "tries 0; one or more"),
    "defect": ('raise ValueError("what is this")', 1, "internal error, please report it: ValueError: what is this"),
    "no memory": ('raise RuntimeError("no") from MemoryError()', 1, "not enough memory"),
    "large": ('raise OSError("x" * 300_000)', 1, "x" * 300_000),
    "speaks": ('print("a line", file=sys.stderr); return 0', 0, "a line"),
    "native lines": ('os.write(2, b"core dumped"); return 0', 0, ""),
    "ends": ('os.write(2, b"Check failed"); os._exit(1)', 1, "featherpose: it was gone (exit code 1); again"),
    "ends well": ("os._exit(0)", 1, "featherpose: it was gone (exit code 0); again"),
    "aborts": ("os.abort()", 1, "featherpose: it was gone (SIGABRT); again"),
    "killed": ("os.kill(os.getpid(), 9)", 1, "featherpose: it was gone (SIGKILL); again"),
    "waits": ('print(os.getpid(), file=sys.stderr); time.sleep(60); return 0', 143, "terminated"),
}  # fmt: skip


def _start(body: str) -> subprocess.Popen[str]:
    script = textwrap.dedent(f"""
        import os, signal, sys, time
        from featherpose.cli import main
        from featherpose.cli.supervision import run_supervised
        from featherpose.errors import ClusterError, MissingExtraError, OptionError
        def work():
            {body}
        def command():
            return run_supervised(work, lambda how: ClusterError(f"it was gone ({{how}})", hint="again"))
        main.app = lambda _: command()
        main.main([])
    """)
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("case", [name for name in _CASES if name != "waits"])
def test_one_line_and_an_exit_code_whatever_happens(case: str) -> None:
    body, code, line = _CASES[case]
    process = _start(body)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == code, talk
    assert line in talk
    assert len(talk.splitlines()) == (1 if line else 0)


def test_signals_are_passed_on() -> None:
    body, code, line = _CASES["waits"]
    process = _start(body)
    assert process.stderr is not None
    child = psutil.Process(int(process.stderr.readline()))
    process.send_signal(signal.SIGTERM)
    _, talk = process.communicate(timeout=60)
    assert (process.returncode, talk.strip()) == (code, f"featherpose: {line}")
    assert not child.is_running()


def test_the_work_ends_with_the_process_that_waits_for_it() -> None:
    process = _start(_CASES["waits"][0])
    assert process.stderr is not None
    pid = int(process.stderr.readline())
    process.kill()
    process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the work goes on"
        time.sleep(0.05)


def test_a_process_with_threads_is_not_forked() -> None:
    process = _start(
        "import threading; threading.Thread(target=time.sleep, args=(1,)).start(); here = os.getpid(); "
        "return run_supervised(lambda: 5 if os.getpid() == here else 6, ClusterError)"
    )
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 5, talk


def test_debugging_shows_native_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEATHERPOSE_DEBUG", "1")
    process = _start('os.write(2, b"a native line"); return 5')
    _, talk = process.communicate(timeout=60)
    assert (process.returncode, talk) == (5, "a native line")
