"""The slides' other systems in the size of their papers: parameters and multiply-accumulates against the literature."""

from __future__ import annotations

import pytest

from featherpose.cli.main import run
from featherpose.evaluation.complexity.complexity import network_complexity
from featherpose.evaluation.complexity.published_sizes import PUBLISHED_SIZES

# What is counted here, in millions and 1e9. Where that is not within 2 % of the literature, the note must say why.
_COUNTED = {
    "deeppose": (58.49, 1.13),
    "hourglass": (25.44, 20.59),
    "associative-embedding": (138.83, 221.21),
    "cpn": (27.01, 7.23),
    "cfn": (16.77, 9.86),
    "rmpe": (24.04, 12.81),
    "g-rmi": (42.60, 64.37),
    "mask-rcnn": (59.14, 123.53),
    "multiposenet": (113.31, 75.97),
}


@pytest.mark.parametrize("name", PUBLISHED_SIZES)
def test_published_size_is_reproduced_or_explained(name: str) -> None:
    published, (parameters, gmacs) = PUBLISHED_SIZES[name], _COUNTED[name]
    counted = network_complexity(name)
    assert counted.parameters / 1e6 == pytest.approx(parameters, abs=0.01)
    assert counted.macs / 1e9 == pytest.approx(gmacs, abs=0.01)
    within = [
        wanted is None or abs(found - wanted) <= 0.02 * wanted
        for found, wanted in ((parameters, published.parameters), (gmacs, published.gmacs))
    ]
    assert all(within) or len(published.note) > 40
    assert counted.published_parameters == published.parameters


def test_rows_within_two_percent() -> None:
    for name, wanted in (("hourglass", 25.1), ("cpn", 27.0), ("g-rmi", 42.6), ("mask-rcnn", 59.1)):
        assert network_complexity(name).parameters / 1e6 == pytest.approx(wanted, rel=0.02)
    embedding = network_complexity("associative-embedding")
    assert 2 * embedding.parameters / 1e6 == pytest.approx(277.8, rel=0.02)
    (stacks,) = (part for part in embedding.parts if part.name == "stacks")
    assert stacks.macs / 1e9 == pytest.approx(206.9, rel=0.02)
    # 55 G operations, two for each multiply-accumulate (Zhang et al. 2019, "Fast Human Pose Estimation", table 2).
    assert 2 * network_complexity("hourglass", (256, 256)).macs / 1e9 == pytest.approx(55, rel=0.02)


@pytest.mark.parametrize("name", ["hourglass-light", "deeppose-light", "associative-embedding-light"])
def test_light_forms_are_counted_at_their_own_input(name: str) -> None:
    counted = network_complexity(name)
    assert counted.size == ((368, 368) if name.startswith("associative") else (160, 224))
    assert 1e6 < counted.parameters < 8e6


def test_command_prints_published_beside_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "complexity", "cpn"]) == 0
    printed = capsys.readouterr().out
    assert "published parameters: 27.0 M" in printed
    assert "6.2" in printed
