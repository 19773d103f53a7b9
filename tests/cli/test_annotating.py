"""Videos are named before anything of them can be found."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherpose.cli.annotating import AnnotatedOutput
from featherpose.cli.source_names import SourceNames
from featherpose.media.sources.find import find_sources


@pytest.mark.parametrize("suffix", [".mov", ".avi", ".webm"])
def test_a_video_is_told_before_its_first_frame_is_encoded(tmp_path: Path, suffix: str) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "in.avi"), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for value in (0, 99):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    refs = find_sources(tmp_path / "in.avi")
    output = AnnotatedOutput(tmp_path / f"out{suffix}", refs, SourceNames(refs))
    told: list[tuple[str, int]] = []

    def opened() -> None:
        assert output.unfinished is not None
        told.append((output.unfinished.name, output.unfinished.stat().st_size))

    output.opened = opened
    with refs[0].open() as source:
        for frame in source:
            output.write(frame.image, frame, refs[0], source)
    output.close()
    ((name, size),) = told
    assert name.startswith("out.unfinished-")
    assert size == 0
    assert (tmp_path / f"out{suffix}").is_file()
