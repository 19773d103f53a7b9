"""Machine facts: complete, serializable, and without names of machine or user."""

from __future__ import annotations

import getpass
import json
import platform

from featherpose.evaluation.performance.machine import machine_facts, package_versions, peak_memory_mb


def test_facts() -> None:
    facts = machine_facts()
    text = json.dumps(facts)
    assert facts["processor"]
    assert facts["packages"]["openvino"]
    assert platform.node() not in text or len(platform.node()) < 4
    assert f"/{getpass.getuser()}/" not in text


def test_absent_packages_are_none() -> None:
    assert package_versions(("numpy", "no-such-package"))["no-such-package"] is None


def test_peak_memory_never_falls() -> None:
    before = peak_memory_mb()
    block = bytearray(80_000_000)
    block[::4096] = b"x" * len(block[::4096])
    during = peak_memory_mb()
    del block
    assert during >= before
    assert peak_memory_mb() >= during
