"""Crop geometry: where a crop's pixels lie, against OpenCV, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose.crops import CropShape, to_image
from featherpose.errors import OptionError
from featherpose.preprocess import cut_crop

SHAPE = CropShape(width=40, height=56, margin=1.1)


@given(
    st.floats(-300, 300), st.floats(-300, 300), st.floats(0, 800), st.floats(0, 800), st.integers(0, 39),
    st.integers(0, 55),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_the_box_is_inside_and_centered(x: float, y: float, width: float, height: float, u: int, v: int) -> None:
    box = np.array([[x, y, x + width, y + height]], np.float32)
    matrix = SHAPE.matrices(box)
    corners = to_image(np.array([[[-0.5, -0.5], [39.5, 55.5], [19.5, 27.5]]], np.float32), matrix)[0]
    tolerance = 1e-3 * max(1.0, abs(x), abs(y), width, height)
    assert np.all(corners[0] <= box[0, :2] + tolerance)
    assert np.all(corners[1] >= box[0, 2:] - tolerance)
    assert np.allclose(corners[2], [x + width / 2, y + height / 2], atol=tolerance)
    # One scale along both axes, and the margin on the side that fills the crop.
    spans = corners[1] - corners[0]
    assert spans[0] / 40 == pytest.approx(spans[1] / 56, rel=1e-3, abs=1e-6)
    fill = max(width / spans[0], height / spans[1])
    assert fill == pytest.approx(1 / 1.1, rel=2e-3) or max(width, height) < 0.1


def test_pixels_are_where_the_matrix_says() -> None:
    """An image whose values are its coordinates: the crop reads them back to within OpenCV's fixed point."""
    x, y = np.meshgrid(np.arange(200), np.arange(150))
    image = np.stack((x, y, np.zeros_like(x)), axis=-1).astype(np.uint8)
    matrix = SHAPE.matrices(np.array([[60, 30, 120, 110]], np.float32))
    crop = cut_crop(image, matrix[0], SHAPE)[0].astype(np.float64)
    u, v = np.meshgrid(np.arange(40), np.arange(56))
    points = to_image(np.stack((u, v), axis=-1).reshape(1, -1, 2).astype(np.float32), matrix)[0].reshape(56, 40, 2)
    assert np.abs(crop[..., :2] - points).max() <= 0.6


def test_outside_of_the_image_is_black() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    crop = cut_crop(image, SHAPE.matrices(np.array([[-40, -40, 10, 10]], np.float32))[0], SHAPE)[0]
    assert crop[0, 0].tolist() == [0, 0, 0]
    assert crop.max() == 200


def test_a_box_of_one_point_gives_a_crop() -> None:
    matrix = SHAPE.matrices(np.array([[5, 5, 5, 5]], np.float32))
    assert np.isfinite(matrix).all()
    assert cut_crop(np.zeros((9, 9, 3), np.uint8), matrix[0], SHAPE).shape == (1, 56, 40, 3)


@pytest.mark.parametrize("wrong", [{"width": 4}, {"height": 5000}, {"margin": 0.1}, {"margin": float("nan")}])
def test_impossible_shapes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        CropShape(**{"width": 160, "height": 224, **wrong})  # type: ignore[arg-type]
