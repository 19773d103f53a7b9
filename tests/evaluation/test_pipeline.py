"""Baseline against proposed on real video: who decodes whose maps, what is trained, what the figures add up to."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.main import run
from featherpose.cli.untrained import untrained_variant
from featherpose.errors import OptionError, SourceError
from featherpose.evaluation.performance.cores import core_numbers, run_on_cores
from featherpose.evaluation.performance.mosaics import VideoMosaic
from featherpose.evaluation.performance.pipeline import PUBLISHED, System, fill_mosaic, measure_systems
from featherpose.evaluation.performance.variants import Variant, expand_precisions
from featherpose.runtime.openvino.graphs import is_quantized
from featherpose.zoo.resolve import resolve_model


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Variant:
    return untrained_variant("lightweight-openpose", tmp_path_factory.mktemp("untrained"))


@pytest.fixture
def video(tmp_path: Path, grace_hopper: Path) -> Path:
    """A real photograph that moves."""
    image = cv2.imread(str(grace_hopper))
    assert image is not None
    image = cv2.resize(image, (320, 384))
    path = tmp_path / "video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (320, 384))
    for shift in range(12):
        writer.write(np.roll(image, 8 * shift, axis=1))
    writer.release()
    return path


def test_mosaic_shows_different_moments(video: Path) -> None:
    frames = list(VideoMosaic((video,), 4, (640, 360), 3))
    assert [frame.shape for frame in frames] == [(360, 640, 3)] * 3
    tile = 640 // 4  # one row of four fits portraits best
    first, second = frames[0][:, :tile].astype(int), frames[0][:, tile : 2 * tile].astype(int)
    assert np.abs(first - second).mean() > 2
    assert np.abs(frames[0].astype(int) - frames[1].astype(int)).mean() > 0.5


def test_mosaic_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        VideoMosaic((), 4)
    with pytest.raises(SourceError):
        list(VideoMosaic((tmp_path / "no.mp4",), 1))


def test_work_on_one_core_sees_one_core() -> None:
    assert run_on_cores(1, core_numbers) == core_numbers()[:1]
    with pytest.raises(OptionError, match="1 to"):
        run_on_cores(10_000, core_numbers)


def test_untrained_alone_is_refused(untrained: Variant, video: Path) -> None:
    with pytest.raises(OptionError, match="no system is trained"):
        measure_systems([System(untrained)], VideoMosaic((video,), 1), height=64, cores=1)


def test_empty_images_never_fill_a_mosaic(untrained: Variant, video: Path) -> None:
    with pytest.raises(OptionError, match="more than 5000"):
        fill_mosaic([video], untrained, height=64, people=5000, frames=2)


def test_formats_of_the_released_network(released_int8: Path, tmp_path: Path) -> None:
    variants = expand_precisions(resolve_model(released_int8), tmp_path)
    assert variants[0].precision == "fp32"
    assert variants[-1].precision == "int8"
    assert is_quantized(variants[-1].path)
    assert not is_quantized(variants[0].path)
    assert variants[-1].label == "human-pose-estimation-0001 INT8"


def test_one_run_over_real_video(released_int8: Path, shared: Path, untrained: Variant, tmp_path: Path) -> None:
    variants = expand_precisions(resolve_model(released_int8), tmp_path)
    videos = [shared / "data/videos/two-people.mp4"]
    mosaic, people = fill_mosaic(videos, variants[-1], height=128, people=3, frames=4)
    assert people > 3
    systems = [System(untrained, "resize to image", slow=True), System(variants[-1])]
    baseline, ours = measure_systems(systems, mosaic, height=128, cores=1)
    assert not baseline.trained
    assert "untrained" in baseline.system
    assert baseline.people == pytest.approx(ours.people, abs=1)  # it decodes the released network's maps
    assert baseline.network.runs == 2
    assert ours.network.runs == 4
    for times in (baseline, ours):
        assert times.frame.best_ms >= times.network.best_ms + times.postprocessing.best_ms
        assert times.throughput_fps > 0


def test_command_prints_published_beside_ours(
    released_int8: Path, shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["analyze", "pipeline", str(shared / "data/videos/two-people.mp4"), "--model", str(released_int8)]
    small = ["--height", "96", "--people", "2", "--frames", "2", "--cores", "1", "--no-baseline"]
    assert run([*command, *small, "--json", str(tmp_path / "p.json"), "--plot", str(tmp_path / "p.png")]) == 0
    assert "slides: proposed, NUC FP16\t\t28\t33\t160" in capsys.readouterr().out
    report = json.loads((tmp_path / "p.json").read_text())
    assert report["published"].keys() == PUBLISHED.keys()
    assert {system["cores"] for system in report["systems"]} == {1}
    assert cv2.imread(str(tmp_path / "p.png")) is not None


def test_command_names_a_missing_video(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "pipeline", "no-such-video.mp4"]) == 1
    assert "no-such-video.mp4" in capsys.readouterr().err
