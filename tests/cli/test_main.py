"""The command line itself: startup, exit codes, one-line failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from featherpose import __version__
from featherpose.cli import main as main_module
from featherpose.cli.main import app, run
from featherpose.cli.options import ModelOptions
from featherpose.errors import ModelError, OptionError


def featherpose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "featherpose.cli.main", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
        timeout=60,
    )


def test_version_goes_to_stdout() -> None:
    done = featherpose("--version")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, __version__, "")


def test_help_names_every_command_without_loading_one() -> None:
    code = (
        "import sys; from featherpose.cli.main import run; run(['--help']); "
        "assert not {'numpy', 'cv2', 'numba', 'openvino', 'torch', 'requests'} & set(sys.modules), sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("evaluate", "bench", "models"):
        assert name in done.stdout


@pytest.mark.parametrize("name", [n for n in main_module._COMMANDS if n in app])
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([name, "--help"]) == 0
    assert f"featherpose {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["models", "nonsense"], ["models", "fetch", "a", "b"], ["models", "list", "--nonsense"]]
)
def test_wrong_usage_is_exit_code_2_and_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("featherpose: ")
    assert error.count("\n") == 1
    assert "--help`" in error


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (ModelError("no such model", hint="fetch it"), 1, "featherpose: no such model; fetch it\n"),
        (OptionError("height 0"), 2, "featherpose: height 0\n"),
        (KeyboardInterrupt(), 130, "featherpose: interrupted\n"),
        (
            MemoryError(),
            1,
            "featherpose: not enough memory; close other programs, or try a smaller --height or smaller images\n",
        ),
        (OSError(28, "No space left on device"), 1, "featherpose: [Errno 28] No space left on device\n"),
    ],
)
def test_failures(
    raised: BaseException, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise raised

    monkeypatch.setattr(main_module, "app", fail)
    assert run([]) == code
    assert capsys.readouterr().err == text


def test_defects_are_one_line_unless_debugging(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(main_module, "app", fail)
    monkeypatch.delenv("FEATHERPOSE_DEBUG", raising=False)
    assert run([]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "FEATHERPOSE_DEBUG=1" in error
    monkeypatch.setenv("FEATHERPOSE_DEBUG", "1")
    assert run([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_exit_code_of_a_command_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_module, "app", lambda *_: 1)
    assert run([]) == 1
    monkeypatch.setattr(main_module, "app", lambda *_: True)
    assert run([]) == 0, "a result that is no exit code"


def test_reader_that_goes_away(tmp_path: Path) -> None:
    """`featherpose models list | true` is not an error worth a traceback."""
    code = (
        "import sys; from featherpose.cli import main; main.app = lambda a: [print('x' * 10000) for _ in range(100)]; "
        "main.main([])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr as stderr:
        assert stderr.read() == b""
    process.wait(30)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_termination_completes_outputs() -> None:
    code = (
        "import time; from featherpose.cli import main\n"
        "def command(arguments):\n"
        "    try:\n        print('ready', flush=True); time.sleep(30)\n"
        "    finally:\n        print('finished', flush=True)\n"
        "main.app = command; main.main([])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == ("finished\n", "featherpose: terminated\n", 143)


def test_a_level_has_a_network_of_its_own_unless_one_is_named() -> None:
    assert ModelOptions().model is None
    assert ModelOptions(quality_name="best").model == "accurate"
    assert ModelOptions(quality_name="best", model_name="own.xml").model == "own.xml"


def test_model_options_are_judged() -> None:
    assert ModelOptions(precision="fp32", threads=2).engine.threads == 2
    for wrong in ({"height": 0}, {"height": 100_000}, {"threads": -1}, {"precision": "f8"}):
        with pytest.raises(OptionError):
            ModelOptions(**wrong)
