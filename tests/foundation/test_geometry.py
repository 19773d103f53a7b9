"""The pixel convention, pinned against what OpenCV really does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featherpose.errors import OptionError
from featherpose.geometry import Letterbox, cell_to_pixel, pixel_to_cell


def center_of_mass(image: np.ndarray) -> tuple[float, float]:
    weights = image.astype(np.float64)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    return float((xs * weights).sum() / weights.sum()), float((ys * weights).sum() / weights.sum())


@pytest.mark.parametrize("pixel", [(40, 30), (11, 52), (70, 17)])
@pytest.mark.parametrize("height", [36, 72, 144])
def test_white_pixel_lands_where_the_letterbox_says(pixel: tuple[int, int], height: int) -> None:
    image = np.zeros((72, 96), np.float32)
    image[pixel[1], pixel[0]] = 1
    box = Letterbox.fit((96, 72), height=height, multiple=8)
    resized = cv2.resize(image, box.content_size, interpolation=cv2.INTER_AREA if height < 72 else cv2.INTER_LINEAR)
    expected = box.forward(np.array([pixel], np.float32))[0]
    # Shrinking to half spreads the pixel over one cell, so its center of mass may be off by up to half a source pixel.
    assert center_of_mass(resized) == pytest.approx(tuple(expected), abs=0.26)


def test_cell_centers_are_means_of_their_pixels() -> None:
    for stride in (1, 2, 4, 8):
        for cell in (0, 1, 5):
            pixels = range(cell * stride, (cell + 1) * stride)
            assert cell_to_pixel(cell, stride) == sum(pixels) / stride
            assert pixel_to_cell(cell_to_pixel(cell, stride), stride) == cell


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([64, 256, 368]), st.sampled_from([8, 32]))
def test_letterbox_keeps_aspect_and_multiple(width: int, height: int, target: int, multiple: int) -> None:
    box = Letterbox.fit((width, height), height=target, multiple=multiple, max_width=4096)
    assert box.network_size[0] % multiple == 0
    assert box.network_size[1] % multiple == 0
    assert box.content_size[0] <= box.network_size[0] < box.content_size[0] + multiple
    assert box.content_size[1] <= box.network_size[1] < box.content_size[1] + multiple
    exact = min(target / height, 4096 / width)
    for size, source in zip(box.content_size, (width, height), strict=True):
        assert size == pytest.approx(max(1, source * exact), abs=0.51)


@given(st.floats(-100, 3000), st.floats(-100, 3000))
def test_inverse_undoes_forward(x: float, y: float) -> None:
    box = Letterbox.fit((1921, 1077), height=256, multiple=8)
    points = np.array([[x, y], [np.nan, np.nan]], np.float32)
    back = box.inverse(box.forward(points))
    assert back[0] == pytest.approx(points[0], abs=2e-3)
    assert np.isnan(back[1]).all()


@pytest.mark.parametrize(("size", "height"), [((0, 5), 256), ((5, 0), 256), ((5, 5), 4)])
def test_impossible_sizes_are_refused(size: tuple[int, int], height: int) -> None:
    with pytest.raises(OptionError):
        Letterbox.fit(size, height=height, multiple=8)
