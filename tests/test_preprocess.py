"""Image to network input: the pixel convention, pinned with white pixels, and every kind of image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featherpose.errors import OptionError, SourceError
from featherpose.geometry import Letterbox, cell_to_pixel
from featherpose.methods.paf.maps import Maps
from featherpose.methods.paf.peaks import find_peaks
from featherpose.preprocess import as_bgr, fit, prepare


def identity_network(network_input: np.ndarray) -> Maps:
    """The plainest network of stride 8: each cell is the mean of its 8x8 pixels."""
    gray = network_input[0].astype(np.float32).mean(-1) / 255
    rows, columns = gray.shape[0] // 8, gray.shape[1] // 8
    heatmaps = gray.reshape(rows, 8, columns, 8).mean((1, 3))[None]
    return Maps(np.ascontiguousarray(heatmaps), np.zeros((2, rows, columns), np.float32))


def spot(size: tuple[int, int], x: float, y: float, sigma: float) -> np.ndarray:
    """A black image with one white Gaussian spot centered at (x, y)."""
    xs, ys = np.arange(size[0]), np.arange(size[1])
    gray = 255 * np.exp(-((xs[None] - x) ** 2 + (ys[:, None] - y) ** 2) / (2 * sigma**2))
    return np.repeat(gray.round().astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("pixel", [(0, 0), (7, 7), (8, 0), (100, 63), (319, 239)])
def test_a_white_pixel_falls_into_its_cell(pixel: tuple[int, int]) -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    image[pixel[1], pixel[0]] = 255
    network_input, letterbox = prepare(image, height=240)
    assert letterbox.content_size == letterbox.source_size
    heatmap = identity_network(network_input).heatmaps[0]
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert (column, row) == (pixel[0] // 8, pixel[1] // 8)


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (1280, 720), (333, 517), (1001, 667)])
@pytest.mark.parametrize("height", [128, 256, 368])
def test_a_white_spot_comes_back_to_where_it_was(size: tuple[int, int], height: int) -> None:
    """Resize, pad, network, peak, and back: nothing may shift, by half a pixel or half a cell."""
    scale = size[1] / height
    for x, y in ((0.31, 0.27), (0.5, 0.5), (0.72, 0.64)):
        true = np.array([x * size[0], y * size[1]], np.float32)
        image = spot(size, float(true[0]), float(true[1]), 7 * scale)
        network_input, letterbox = prepare(image, height=height, pad_value=0)
        maps = identity_network(network_input)
        # The center of mass knows nothing of peaks: it pins resize, padding, stride and letterbox alone.
        heatmap = maps.heatmaps[0]
        rows, columns = np.indices(heatmap.shape)
        mass = np.array([(heatmap * columns).sum(), (heatmap * rows).sum()]) / heatmap.sum()
        center = np.array([cell_to_pixel(float(cell), 8) for cell in mass], np.float32)
        assert np.abs(letterbox.inverse(center) - true).max() < 0.12 * scale
        # The decoder's own peak, refined below the cell, agrees.
        peaks = find_peaks(maps.heatmaps, 1, threshold=0.05, suppression_radius=1.0)
        assert len(peaks.positions) == 1
        peak = np.array([cell_to_pixel(float(cell), 8) for cell in peaks.positions[0]], np.float32)
        assert np.abs(letterbox.inverse(peak) - true).max() < 1.0 * scale


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([8, 64, 100]), st.sampled_from([8, 16]))
@settings(max_examples=60, deadline=None)
def test_any_size(width: int, rows: int, height: int, multiple: int) -> None:
    image = np.full((rows, width, 3), 200, np.uint8)
    network_input, letterbox = prepare(image, height=max(height, multiple), size_multiple=multiple, pad_value=7)
    content_width, content_rows = letterbox.content_size
    assert network_input.shape[1] % multiple == 0
    assert network_input.shape[2] % multiple == 0
    assert network_input.shape == (1, letterbox.network_size[1], letterbox.network_size[0], 3)
    assert letterbox == fit((width, rows), height=max(height, multiple), size_multiple=multiple)
    assert (network_input[0, :content_rows, :content_width] == 200).all()
    assert (network_input[0, content_rows:] == 7).all()
    assert (network_input[0, :, content_width:] == 7).all()


def test_panoramas_are_bounded() -> None:
    network_input, letterbox = prepare(np.zeros((10, 20_000, 3), np.uint8), height=64)
    assert network_input.shape[2] <= 8 * 64
    assert letterbox.source_size == (20_000, 10)


def test_it_is_a_plain_resize(astronaut: np.ndarray) -> None:
    for height in (256, 1024):
        network_input, _ = prepare(astronaut, height=height)
        expected = cv2.resize(astronaut, (height, height), interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(network_input[0], expected)


def test_image_is_not_touched_and_views_work(astronaut: np.ndarray) -> None:
    before = astronaut.copy()
    crop = astronaut[100:401, 50:351]
    network_input, _ = prepare(crop, height=128)
    np.testing.assert_array_equal(network_input, prepare(crop.copy(), height=128)[0])
    mirrored = astronaut[:, ::-1]
    np.testing.assert_array_equal(prepare(mirrored, height=64)[0], prepare(mirrored.copy(), height=64)[0])
    np.testing.assert_array_equal(astronaut, before)
    frozen = astronaut.copy()
    frozen.flags.writeable = False
    prepare(frozen, height=64)


def test_into_a_buffer(astronaut: np.ndarray) -> None:
    batch = np.zeros((2, 128, 128, 3), np.uint8)
    network_input, _ = prepare(astronaut, height=128, out=batch[1])
    assert np.shares_memory(network_input, batch)
    np.testing.assert_array_equal(batch[1], prepare(astronaut, height=128)[0][0])
    assert not batch[0].any()
    with pytest.raises(OptionError, match="buffer"):
        prepare(astronaut, height=128, out=np.zeros((128, 136, 3), np.uint8))


def test_kinds_of_images(astronaut: np.ndarray) -> None:
    gray = cv2.cvtColor(astronaut, cv2.COLOR_BGR2GRAY)
    np.testing.assert_array_equal(as_bgr(gray), as_bgr(gray[..., None]))
    assert (as_bgr(gray)[..., 0] == gray).all()
    np.testing.assert_array_equal(as_bgr(np.dstack((astronaut, gray))), astronaut)
    assert as_bgr(astronaut) is astronaut


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "None instead of an image.*cv2.imread"),
        ([[1, 2], [3, 4]], "list"),
        ("photo.jpg", "type str"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"\(1, 4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_no_image(image: object, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        as_bgr(image)


def test_heights() -> None:
    with pytest.raises(OptionError):
        prepare(np.zeros((4, 4, 3), np.uint8), height=0)
    assert prepare(np.zeros((100, 100, 3), np.uint8), height=100)[0].shape == (1, 104, 104, 3)
    assert isinstance(fit((5, 5), height=8, size_multiple=8), Letterbox)
