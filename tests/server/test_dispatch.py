"""The queue in front of the estimator: bounded, fair between its lanes, and nothing accepted is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from featherpose.server.dispatch import Dispatcher
from featherpose.server.http.errors import HTTPError


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def behind(gate: threading.Event, order: list[str], name: str) -> Callable[[float], str]:
    def run(_waited_ms: float) -> str:
        assert gate.wait(30)
        order.append(name)
        return name

    return run


def dispatcher(workers: int = 1, images: int = 4, live: int = 4, patience_s: float = 30) -> Dispatcher:
    return Dispatcher(workers, bounds={"images": images, "live": live}, patience_s=patience_s)


def test_a_full_lane_refuses_and_the_other_does_not(gate: threading.Event) -> None:
    queue, order = dispatcher(images=2), list[str]()
    accepted = [queue.submit("images", behind(gate, order, f"p{i}"))[0] for i in range(2)]
    with pytest.raises(HTTPError) as refused:
        queue.submit("images", behind(gate, order, "p2"))
    assert refused.value.status == 503
    assert refused.value.retry_after_s is not None
    assert refused.value.headers["Retry-After"] == str(refused.value.retry_after_s)
    accepted += queue.submit("live", behind(gate, order, "l0"))
    gate.set()
    assert [future.result(10) for future in accepted] == ["p0", "p1", "l0"]
    queue.close(10)
    assert (queue.admitted("images"), queue.admitted("live")) == (0, 0)


def test_all_of_a_batch_or_none(gate: threading.Event) -> None:
    queue, order = dispatcher(images=3), list[str]()
    queue.submit("images", behind(gate, order, "a"))
    with pytest.raises(HTTPError):
        queue.submit("images", *(behind(gate, order, f"b{i}") for i in range(3)))
    assert queue.admitted("images") == 1
    queue.submit("images", *(behind(gate, order, f"c{i}") for i in range(2)))
    gate.set()
    queue.close(10)
    assert order == ["a", "c0", "c1"]


def test_lanes_take_turns(gate: threading.Event) -> None:
    queue, order = dispatcher(), list[str]()
    first: list[Future[str]] = queue.submit("images", behind(gate, order, "p0"))
    for name in ("p1", "p2", "p3"):
        queue.submit("images", behind(gate, order, name))
    for name in ("l0", "l1"):
        queue.submit("live", behind(gate, order, name))
    gate.set()
    assert first[0].result(10) == "p0"
    queue.close(10)
    assert order == ["p0", "l0", "p1", "l1", "p2", "p3"]


def test_what_waited_too_long_or_was_left_is_not_run(gate: threading.Event) -> None:
    queue, order = dispatcher(patience_s=1.0), list[str]()
    (running,) = queue.submit("images", behind(gate, order, "running"))
    (late,) = queue.submit("images", behind(gate, order, "late"))
    (live,) = queue.submit("live", behind(gate, order, "live"))
    (left,) = queue.submit("images", behind(gate, order, "left"))
    assert left.cancel()
    threading.Event().wait(1.2)
    gate.set()
    assert running.result(10) == "running"
    with pytest.raises(HTTPError):
        late.result(10)
    assert live.result(10) == "live"  # sessions have their own way of dropping what is late
    queue.close(10)
    assert order == ["running", "live"]


def test_an_error_reaches_whoever_asked_and_nobody_else() -> None:
    queue = dispatcher()

    def fail(_waited_ms: float) -> None:
        raise ValueError("broken")

    (failed,) = queue.submit("images", fail)
    (fine,) = queue.submit("images", lambda waited_ms: waited_ms)
    with pytest.raises(ValueError, match="broken"):
        failed.result(10)
    assert fine.result(10) >= 0
    queue.close(10)


def test_closing_finishes_what_was_accepted(gate: threading.Event) -> None:
    queue, order = dispatcher(workers=2), list[str]()
    accepted = [queue.submit("images", behind(gate, order, f"p{i}"))[0] for i in range(4)]
    closing = threading.Thread(target=queue.close, args=(30,))
    closing.start()
    gate.set()
    closing.join(30)
    assert sorted(future.result(0) for future in accepted) == ["p0", "p1", "p2", "p3"]
    with pytest.raises(HTTPError):
        queue.submit("live", lambda _: None)
