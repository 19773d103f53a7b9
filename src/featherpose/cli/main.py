"""The ``featherpose`` command: loads only the chosen command, and turns failures into one clear line.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Data goes to stdout, messages go to stderr. With
``FEATHERPOSE_DEBUG=1`` log messages of every level and the traceback of a failure are shown.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

from cyclopts import App, CycloptsError

from featherpose import __version__
from featherpose.errors import FeatherposeError, OptionError

__all__ = ["app", "main", "run"]

# Command -> (module under featherpose.cli, function or App in it, one line for the overview). A command is imported
# only when it is called: `featherpose models list` must not pay for an inference engine.
_COMMANDS = {
    "demo": ("demo", "demo", "Find the people in a photograph that comes with featherpose."),
    "predict": ("predict", "predict", "Find everyone's keypoints in images, videos, cameras and streams."),
    "batch": ("batch", "batch", "Find keypoints in archives, on all cores of a machine or a cluster; restartable."),
    "motion": (
        "motion",
        "motion",
        "Analyze movement: joint angles, repetitions, gait, jumps, speeds; files and a report.",
    ),
    "transfer": ("transfer", "transfer", "Move a person in a picture as somebody in a video moves."),
    "overlay": ("overlay", "overlay", "Draw graphics that follow people, and hide heads."),
    "evaluate": ("evaluate", "evaluate", "Measure a model's COCO keypoint AP on annotated images."),
    "evaluate-tracking": ("evaluate_tracking", "evaluate_tracking", "Measure how well people keep their ids."),
    "live": ("live", "live", "Show a camera, stream or video on a page, with everybody's skeletons."),
    "serve": ("serve", "serve", "Serve poses over HTTP and WebSocket, and a page to see them on."),
    "bench": ("bench", "bench", "Measure time by stage, throughput and memory on this machine."),
    "doctor": ("doctor", "doctor", "Show versions, devices, what is missing and how to get it."),
    "models": ("models", "models", "List, describe, fetch and verify models."),
    "analyze": ("analyze", "analyze", "Tables about a model: complexity, stages, refinement steps."),
    "tune-decoder": ("tune_decoder", "tune_decoder", "Search decoding rules on held-out training images."),
    "train": ("train", "train", "Train a network."),
    "annotate": (
        "annotate",
        "annotate",
        "Label a folder of images by a model: COCO keypoints with scores, restartable.",
    ),
    "data": ("data", "data", "Check a dataset before training; convert those of other tools."),
    "export": ("export", "export", "Export a checkpoint to ONNX or OpenVINO IR and verify it."),
    "quantize": ("quantize", "quantize", "Quantize a model to INT8 and verify it."),
}

_NO_MEMORY = "not enough memory; close other programs, or try a smaller --height or smaller images"
_NO_MEMORY_WORDS = ("failed to map segment", "Cannot allocate memory", "bad_alloc", "cannot allocate memory",
                    "can't start new thread")  # fmt: skip

app = App(
    name="featherpose",
    help="Real-time multi-person 2D human pose estimation that runs well on an ordinary CPU.",
    version=__version__,
    help_format="plaintext",
    result_action="return_value",
    exit_on_error=False,
    print_error=False,
    suppress_keyboard_interrupt=False,  # run() answers it
)
for _name, (_module, _attribute, _help) in _COMMANDS.items():
    if find_spec(f"featherpose.cli.commands.{_module}") is not None:
        app.command(f"featherpose.cli.commands.{_module}:{_attribute}", name=_name, help=_help)


class _Terminated(KeyboardInterrupt):
    """Raised when the process is asked to end: outputs are completed as after Ctrl-C."""


class _StandardErrorHandler(logging.Handler):
    """Writes to the current ``sys.stderr``; a progress bar replaces it while it is on screen."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError, ValueError):  # stderr is closed; drop the message
            sys.stderr.write(self.format(record) + "\n")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and end the process with its exit code.

    Args:
        arguments: Words after the program's name; those of this process unless given.

    """
    _log_to_stderr(_debugging())
    _limit_decoders(sys.argv[1:] if arguments is None else arguments)
    _limit_threads()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _on_terminate)
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises for a user's mistake.

    Changes nothing of the process (log handlers, signals), so that programs and tests can call it.

    Example:
        >>> run(["--version"])
        0.1.0
        0
    """
    debug = _debugging()
    try:
        result = app(sys.argv[1:] if arguments is None else list(arguments))
        sys.stdout.flush()
    except CycloptsError as error:
        if _is_out_of_memory(error):
            return _fail(_NO_MEMORY, 1, debug)
        return _fail(f"{_one_line(error)}; see `{_command_of(error)} --help`", 2, debug)
    except OptionError as error:
        return _fail(str(error), 2, debug)
    except FeatherposeError as error:
        return _fail(str(error), 1, debug)
    except _Terminated:
        return _fail("terminated", 143, debug)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, debug)
    except BrokenPipeError:
        # The reader of stdout left (`| head`); Python must not try to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail(_NO_MEMORY, 1, debug)
    except OSError as error:
        return _fail(str(error), 1, debug)
    except Exception as error:
        if _is_out_of_memory(error):
            return _fail(_NO_MEMORY, 1, debug)
        if isinstance(error.__cause__, KeyboardInterrupt):  # a compiled kernel wraps it into a SystemError
            ended = isinstance(error.__cause__, _Terminated)
            return _fail("terminated", 143, debug) if ended else _fail("interrupted", 130, debug)
        kind = type(error).__name__
        return _fail(f"internal error, please report it: {kind}: {_one_line(error)}", 1, debug, traceback_hint=True)
    # A command returns its exit code, or nothing when it is 0.
    return result if type(result) is int else 0


def _is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out in a library, also while it was loaded, which neither type nor name reveals."""
    seen: BaseException | None = error
    for _ in range(8):
        if seen is None:
            break
        if isinstance(seen, MemoryError) or any(words in str(seen) for words in _NO_MEMORY_WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _limit_decoders(arguments: Sequence[str]) -> None:
    """Set OpenCV's own pixel limit as a second check; OpenCV reads it once, when it is loaded, and allows a gigapixel.

    The limit of the command line is checked where it is used; this one must not be smaller.
    """
    megapixels = 200.0
    for i, name in enumerate(arguments):
        if name.startswith("--max-megapixels"):
            given = name.partition("=")[2] or "".join(arguments[i + 1 : i + 2])
            with contextlib.suppress(ValueError):
                megapixels = max(megapixels, float(given))
    if megapixels < 1e6:
        os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(int(megapixels * 1e6)))


def _limit_threads() -> None:
    """Keep OpenBLAS to one thread where the address space is limited (``ulimit -v``); it is read when NumPy is loaded.

    OpenBLAS takes 32 MB or more for each core as it is loaded; where it gets none it asks for ever, deaf to signals.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _debugging() -> bool:
    return os.environ.get("FEATHERPOSE_DEBUG", "") not in ("", "0")


def _on_terminate(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Terminated


def _log_to_stderr(debug: bool) -> None:
    handler = _StandardErrorHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(levelname)s: %(message)s" if debug else "%(message)s"))
    logger = logging.getLogger("featherpose")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)


def _fail(message: str, code: int, debug: bool, *, traceback_hint: bool = False) -> int:
    if debug:
        import traceback

        traceback.print_exc(file=sys.stderr)
    hint = "; FEATHERPOSE_DEBUG=1 shows the details" if traceback_hint and not debug else ""
    print(f"featherpose: {message}{hint}", file=sys.stderr)
    return code


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")


def _command_of(error: CycloptsError) -> str:
    return " ".join(["featherpose", *(error.command_chain or [])])


if __name__ == "__main__":
    main()
