"""Every published row is reproduced, from the networks that are trained and from the released file."""

from __future__ import annotations

from pathlib import Path

import pytest

from featherpose.errors import ModelError, OptionError
from featherpose.evaluation.complexity.complexity import PUBLISHED_PARAMETERS, Complexity, agrees, network_complexity
from featherpose.evaluation.complexity.graph_complexity import graph_complexity

_BACKBONE_TABLE = {
    "openpose-mobilenet-v1-conv4_1": 23.3,
    "openpose-mobilenet-v1-conv5_5": 27.7,
    "openpose-mobilenet-v1-conv5_6": 31.3,
    "openpose-mobilenet-v2-conv6_3": 27.2,
}


def _rows(counted: Complexity) -> list[float]:
    return [part.macs / 1e9 for part in counted.parts]


def test_openpose_rows_and_totals() -> None:
    counted = network_complexity("openpose")
    published = [37.8, 2.5, 0.6, 2.2, *[18.6] * 5]
    totals = [37.8, 40.3, 40.9, 43.1, 61.7, 80.3, 98.9, 117.5, 136.1]
    assert [part.published_gmacs for part in counted.parts] == published
    assert [part.published_total_gmacs for part in counted.parts] == totals
    for part, row, total in zip(counted.parts, published, totals, strict=True):
        assert agrees(part.macs / 1e9, row), part
        assert agrees(part.macs_total / 1e9, total), part


def test_lightweight_rows_and_totals() -> None:
    counted = network_complexity("lightweight-openpose")
    rows, totals = [3.7, 0.25, 0.31, 1.3, 3.4], [3.7, 4.0, 4.3, 5.6, 9.0]
    assert [part.published_gmacs for part in counted.parts] == rows
    assert [part.published_total_gmacs for part in counted.parts] == totals
    for part, row in zip(counted.parts, rows, strict=True):
        assert agrees(part.macs / 1e9, row), part
    # The network as a whole agrees; the totals between are published as sums of rounded rows, and as such they agree
    # exactly (0.25 counts as 0.3 there).
    assert agrees(counted.macs / 1e9, 9.0)
    rounded = [round(part.macs / 1e9 + 1e-3, 1) for part in counted.parts]
    assert [round(sum(rounded[: n + 1]), 1) for n in range(5)] == totals


@pytest.mark.parametrize(("network", "published"), _BACKBONE_TABLE.items())
def test_backbone_table(network: str, published: float) -> None:
    counted = network_complexity(network)
    assert counted.parts[-1].published_total_gmacs == published
    assert agrees(counted.macs / 1e9, published)


def test_published_parameters() -> None:
    counted = network_complexity("lightweight-openpose")
    assert PUBLISHED_PARAMETERS["lightweight-openpose"] == counted.published_parameters == 4.1
    assert counted.parameters / 1e6 == pytest.approx(4.1, rel=0.015)


def test_published_figures_stand_only_beside_the_published_input() -> None:
    counted = network_complexity("lightweight-openpose", (456, 256))
    assert all(part.published_gmacs is None for part in counted.parts)
    assert counted.macs / network_complexity("lightweight-openpose").macs == pytest.approx(456 * 256 / 368**2, rel=1e-3)


def test_released_file_counts_like_the_network(released_int8: Path) -> None:
    from_file = graph_complexity(released_int8)
    from_network = network_complexity("human-pose-estimation-0001")
    assert (from_file.macs, from_file.parameters) == (from_network.macs, from_network.parameters)


def test_sizes_and_files_that_cannot_be_counted(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="multiples of 8"):
        network_complexity("openpose", (100, 100))
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        graph_complexity(broken)
