"""Resampling by windows: same bits as the whole, right values, bounded reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.geometry import resample
from cytomask.geometry.resample import resample_window, target_shape


def reader(image: np.ndarray):
    def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        assert 0 <= y0 < y1 <= image.shape[1]
        assert 0 <= x0 < x1 <= image.shape[2]
        return image[:, y0:y1, x0:x1]

    return read


def whole(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    height, width = target_shape(image.shape[1:], scale)
    return resample_window(reader(image), image.shape[1:], scale, (0, height, 0, width))


def noise(channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(channels, height, width)).astype(np.float32)


scales = st.floats(0.05, 6.0)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), height=st.integers(1, 60), width=st.integers(1, 60), sy=scales, sx=scales)
def test_any_window_has_the_bits_of_the_whole(data, height, width, sy, sx):
    image = noise(2, height, width)
    full = whole(image, (sy, sx))
    y0 = data.draw(st.integers(0, full.shape[1] - 1))
    y1 = data.draw(st.integers(y0 + 1, full.shape[1]))
    x0 = data.draw(st.integers(0, full.shape[2] - 1))
    x1 = data.draw(st.integers(x0 + 1, full.shape[2]))
    part = resample_window(reader(image), (height, width), (sy, sx), (y0, y1, x0, x1))
    assert part.dtype == np.float32
    assert part.flags.c_contiguous
    np.testing.assert_array_equal(part, full[:, y0:y1, x0:x1])


@pytest.mark.parametrize("scale", [(0.31, 0.07), (1.7, 0.5), (3.0, 2.2)])
def test_bands_do_not_show(monkeypatch, scale):
    image = noise(3, 90, 110)
    full = whole(image, scale)
    monkeypatch.setattr(resample, "BAND_PIXELS", 500)
    np.testing.assert_array_equal(whole(image, scale), full)


def test_a_strongly_reduced_image_is_read_in_bands(monkeypatch):
    image = noise(1, 1000, 100)
    largest = 0

    def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        nonlocal largest
        largest = max(largest, (y1 - y0) * (x1 - x0))
        return image[:, y0:y1, x0:x1]

    monkeypatch.setattr(resample, "BAND_PIXELS", 10_000)
    resample_window(read, (1000, 100), (0.1, 0.1), (0, 100, 0, 10))
    assert largest <= 10_000


def test_scale_one_is_an_exact_copy():
    image = noise(2, 7, 9)
    result = whole(image, (1.0, 1.0))
    np.testing.assert_array_equal(result, image)
    assert not np.shares_memory(result, image)
    one_axis = whole(image, (1.0, 2.0))
    assert one_axis.shape == (2, 7, 18)


def test_integer_pixels_become_float32():
    image = np.arange(12, dtype=np.uint16).reshape(1, 3, 4)
    assert whole(image, (1.0, 1.0)).dtype == np.float32
    assert whole(image, (2.0, 1.0)).dtype == np.float32


def test_enlarged_by_hand():
    # Centres of the four target pixels lie at -0.25, 0.25, 0.75, 1.25 of the two source pixels.
    image = np.array([[[0.0, 4.0]]], dtype=np.float32)
    np.testing.assert_allclose(whole(image, (1.0, 2.0)), [[[0.0, 1.0, 3.0, 4.0]]])


def test_halved_by_hand():
    # The triangle of half-width two has weights 1 3 3 1 over eight; at the rim what lies outside is left out.
    image = np.array([[[0.0, 8.0, 0.0, 0.0, 16.0, 0.0]]], dtype=np.float32)
    np.testing.assert_allclose(whole(image, (1.0, 0.5)), [[[24 / 7, 8 / 8 + 16 / 8, 16 * 3 / 7]]], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), sy=scales, sx=scales)
def test_a_constant_stays_constant(height, width, sy, sx):
    image = np.full((1, height, width), 0.7, dtype=np.float32)
    np.testing.assert_allclose(whole(image, (sy, sx)), np.float32(0.7), rtol=1e-6)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.3, 2.5])
def test_a_ramp_keeps_its_place(scale):
    """Pixel centres: away from the rim a ramp of the coordinate is the coordinate of each target pixel's centre."""
    rows = np.broadcast_to(np.arange(80, dtype=np.float32)[:, None], (80, 5))[None]
    result = whole(np.ascontiguousarray(rows), (scale, 1.0))[0, :, 2]
    expected = (np.arange(len(result)) + 0.5) / scale - 0.5
    inner = (expected > 4) & (expected < 75)
    np.testing.assert_allclose(result[inner], expected[inner], rtol=0.01)


def test_a_pattern_finer_than_the_grid_vanishes():
    checks = (np.indices((120, 120)).sum(axis=0) % 2).astype(np.float32)[None]
    small = whole(checks, (0.3, 0.3))
    assert np.abs(small[:, 2:-2, 2:-2] - 0.5).max() < 0.05


@pytest.mark.parametrize("scale", [(0.0, 1.0), (1.0, -2.0), (np.nan, 1.0), (np.inf, 1.0)])
def test_wrong_scale(scale):
    with pytest.raises(ValueError, match="scale"):
        resample_window(reader(noise(1, 4, 4)), (4, 4), scale, (0, 1, 0, 1))


@pytest.mark.parametrize("window", [(0, 0, 0, 1), (0, 9, 0, 1), (-1, 2, 0, 1), (0, 2, 3, 9)])
def test_wrong_window(window):
    with pytest.raises(ValueError, match="window"):
        resample_window(reader(noise(1, 4, 4)), (4, 4), (2.0, 2.0), window)
