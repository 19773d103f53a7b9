"""Work in a child process, so that a library that ends the process cannot take the command's last line with it.

Ray's core ends the process that uses it, from C++ and with lines of its own, when its head or its node process is gone
while a call waits for it. No exception and no exit handler of Python sees that; the parent of the process does.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

__all__ = ["run_supervised"]

_PR_SET_PDEATHSIG = 1
_LONGEST_CHAIN = 8
_LAST_STEPS_S = 10.0
_FORWARDED = (signal.SIGINT, signal.SIGTERM)


def run_supervised(work: Callable[[], int], ended: Callable[[str], Exception]) -> int:
    """Return what the work returns, or raise what it raises; it runs in a child process.

    What native code writes to standard error there is dropped, what Python writes is not. Signals to end are passed on,
    and the child ends with this process. Where there is no fork that is safe (systems other than Linux, or other
    threads), and with ``FEATHERPOSE_DEBUG=1``, the work runs in this process.

    Args:
        work: The work; what it changes in memory is lost.
        ended: Makes the error to raise when the child ends without a result, from a few words about how.

    Example:
        >>> run_supervised(lambda: 3, RuntimeError)
        3
    """
    alone = threading.active_count() == 1 and threading.current_thread() is threading.main_thread()
    if sys.platform != "linux" or not alone or os.environ.get("FEATHERPOSE_DEBUG", "") not in ("", "0"):
        return work()
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    child = fork.Process(target=_child, args=(work, sender, os.getpid()), name="featherpose-run")
    # A signal that came while the process forks would be raised in a hook of the fork, and be lost there.
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    try:
        child.start()
        sender.close()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        raise
    with receiver, _forwarding(child):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        wait([receiver, child.sentinel])
        answer = b""
        with suppress(EOFError):
            answer = receiver.recv_bytes() if receiver.poll() else b""
        child.join(_LAST_STEPS_S)
        child.kill()
        child.join()
    if not answer:
        raise ended(_how(child.exitcode or 0))
    result = pickle.loads(answer)
    if not isinstance(result, int):
        raise _joined(result)
    return int(result)


def _child(work: Callable[[], int], sender: Connection, parent: int) -> None:
    _end_with(parent)
    os.setsid()  # Ctrl-C reaches the parent alone, which passes it on once
    _keep_native_lines_away()
    answer: int | list[BaseException]
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
        answer = work()
    except BaseException as error:
        answer = [_portable(link) for link in _chain(error)]
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send_bytes(pickle.dumps(answer))


def _end_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def _keep_native_lines_away() -> None:
    """Let Python write to the real standard error, and native code, which knows its number only, to nothing."""
    try:
        if sys.stderr.fileno() != 2:
            return
    except (OSError, ValueError, AttributeError):  # a program's or a test's own stream
        return
    real = os.dup(2)
    os.set_inheritable(real, False)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
    sys.stderr = os.fdopen(real, "w", encoding=sys.stderr.encoding, errors="backslashreplace", buffering=1)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it: where memory ran out, only a cause may tell."""
    link: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if link is None:
            return
        yield link
        link = link.__cause__ or link.__context__


def _portable(error: BaseException) -> BaseException:
    """Return the error if it survives the way to another process, otherwise the nearest kind that does."""
    from featherpose.errors import FeatherposeError

    bare = error.with_traceback(None)
    try:
        if str(pickle.loads(pickle.dumps(bare))) == str(bare):
            return bare
    except Exception:  # pickle raises whatever a class's own code raises
        pass
    if isinstance(error, FeatherposeError):
        return FeatherposeError(str(error))
    return RuntimeError(f"{type(error).__name__}: {error}")


def _joined(chain: list[BaseException]) -> BaseException:
    for error, cause in pairwise(chain):
        error.__cause__ = cause
    return chain[0]


@contextmanager
def _forwarding(child: BaseProcess) -> Iterator[None]:
    def forward(signum: int, _frame: object) -> None:
        if child.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signum)

    previous = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
