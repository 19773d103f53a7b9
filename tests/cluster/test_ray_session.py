"""Ray that does not start."""

from __future__ import annotations

import os

import pytest

from featherpose.cluster.ray_session import RaySession
from featherpose.errors import ClusterError

ray = pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("address", "what", "hint"),
    [
        (None, "Ray cannot be started on this machine: no head", "run the same command again; if it fails again, see"),
        ("10.0.0.1:6379", "the Ray cluster 10.0.0.1:6379 cannot be reached: no head", "check the address"),
    ],
)
def test_a_ray_that_does_not_start(monkeypatch: pytest.MonkeyPatch, address: str | None, what: str, hint: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ConnectionError("no\nhead")

    monkeypatch.setattr(ray, "init", refuse)
    before = dict(os.environ)
    with pytest.raises(ClusterError) as refusal:
        RaySession(address)
    assert what in str(refusal.value)
    assert hint in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert {name: value for name, value in os.environ.items() if "RAY_" in name} == {
        name: value for name, value in before.items() if "RAY_" in name
    }
