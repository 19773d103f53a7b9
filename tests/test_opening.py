"""The networks of an estimator are opened side by side, and none stays open when another cannot be."""

from __future__ import annotations

import locale
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from featherpose import opening
from featherpose.errors import ModelError, OptionError
from featherpose.estimator import PoseEstimator
from featherpose.methods.paf.decoder import PafDecoder
from featherpose.runtime.backend import EngineOptions
from featherpose.runtime.openvino.core import locale_kept
from featherpose.topdown.refinement import Refiner
from featherpose.topdown.topdown_options import RefineOptions
from featherpose.zoo.resolve import resolve_model


class _Opened:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> _Opened:
    """Stands in for the network for whole images."""
    opened = _Opened()
    monkeypatch.setattr(opening, "open_backend", lambda *_: opened)
    return opened


@pytest.fixture
def refiner(monkeypatch: pytest.MonkeyPatch) -> _Opened:
    """Stands in for the refiner."""
    opened = _Opened()
    monkeypatch.setattr(opening, "open_refiner", lambda *_: opened)
    return opened


def _open(**options: Any) -> None:
    opening.open_networks(resolve_model(None), EngineOptions(), RefineOptions(mode="all"), demanded=True, **options)


def test_the_refiner_is_closed_if_the_network_cannot_be_opened(
    refiner: _Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(*_: Any) -> None:
        raise ModelError("it is damaged")

    monkeypatch.setattr(opening, "open_backend", damaged)
    with pytest.raises(ModelError, match="damaged"):
        _open()
    assert refiner.closed


def test_the_network_is_closed_if_the_refiner_cannot_be_opened(
    network: _Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unfit(*_: Any) -> None:
        raise ModelError("it does not fit")

    monkeypatch.setattr(opening, "open_refiner", unfit)
    with pytest.raises(ModelError, match="does not fit"):
        _open()
    assert network.closed


def test_both_are_closed_if_the_work_between_fails(network: _Opened, refiner: _Opened) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _open(meanwhile=interrupted)
    assert network.closed
    assert refiner.closed


def test_they_are_opened_at_the_same_time(network: _Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = Event()

    def waits(*_: Any) -> None:
        assert reached.wait(10)

    monkeypatch.setattr(opening, "open_refiner", waits)
    _open(meanwhile=reached.set)


def test_an_estimator_whose_options_are_refused_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    original = Refiner.close

    def close(refiner: Refiner) -> None:
        closed.append(refiner.model)
        original(refiner)

    monkeypatch.setattr(Refiner, "close", close)
    with pytest.raises(OptionError, match="candidates"):
        PoseEstimator(candidates=2.0)
    assert closed == ["refiner"]


def test_kernels_that_must_be_compiled_wait_for_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes long and is announced, so it must not happen while networks are opened."""
    warmed: list[str] = []

    def note(decoder: PafDecoder) -> None:
        warmed.append("paf")

    monkeypatch.setattr(PafDecoder, "warm_up", note)
    for cached, times in ((False, 0), (True, 1)):
        monkeypatch.setattr("featherpose.estimator.kernels_are_cached", lambda *_, cached=cached: cached)
        with PoseEstimator(refine="off"):
            assert len(warmed) == times


def test_a_damaged_file_is_reported_beside_a_whole_refiner(tmp_path: Path) -> None:
    (tmp_path / "net.xml").write_text("<net")
    (tmp_path / "net.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"net\.xml"):
        PoseEstimator(tmp_path / "net.xml")


def test_the_locale_stays_as_it_was() -> None:
    # The engine switches to "C" and back in both threads; without care the second takes the first one's "C" back.
    before = locale.setlocale(locale.LC_ALL)
    for height in (64, 72):
        with PoseEstimator(quality="balanced", height=height):
            assert locale.setlocale(locale.LC_ALL) == before


def test_overlapping_switches_of_the_locale_are_undone() -> None:
    before = locale.setlocale(locale.LC_ALL)
    first, second = locale_kept(), locale_kept()
    first.__enter__()
    locale.setlocale(locale.LC_ALL, "C")
    second.__enter__()
    first.__exit__(None, None, None)
    locale.setlocale(locale.LC_ALL, "C")
    second.__exit__(None, None, None)
    assert locale.setlocale(locale.LC_ALL) == before
