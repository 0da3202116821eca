"""Preparing an image: padding, scale, and that windows agree with the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import FixedRange, PercentileNormalisation
from cytomask.errors import ConfigError
from cytomask.image import Image
from cytomask.prediction.prepare import prepare_image, scale_to_diameter, scale_to_pixel_size


def prepared(pixels: np.ndarray, **options):
    image = Image.from_array(pixels, axes="YX", pixel_size=options.pop("pixel_size", None))
    normalisation = options.pop("normalisation", PercentileNormalisation())
    return prepare_image(image, channels=ChannelExpectation(), normalisation=normalisation, **options)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), height=st.integers(1, 50), width=st.integers(1, 50), scale=st.floats(0.2, 3.0))
def test_windows_agree_with_the_whole(data, height, width, scale):
    pixels = np.random.default_rng(1).integers(0, 60_000, (height, width), np.uint16)
    image = prepared(pixels).at_scale((scale, scale))
    padded = [n + 15 for n in image.shape]
    whole = image.window(0, 0, *padded)
    y0, x0 = (data.draw(st.integers(0, n - 1)) for n in padded)
    y1, x1 = (data.draw(st.integers(start + 1, n)) for start, n in zip((y0, x0), padded))
    np.testing.assert_array_equal(image.window(y0, x0, y1, x1), whole[:, y0:y1, x0:x1])


def test_the_edge_is_repeated_below_and_right():
    pixels = np.array([[1, 2], [3, 4]], np.uint8)
    image = prepared(pixels, normalisation=FixedRange(low=0, high=1))
    np.testing.assert_array_equal(image.window(0, 0, 4, 3)[0], [[1, 2, 2], [3, 4, 4], [3, 4, 4], [3, 4, 4]])
    np.testing.assert_array_equal(image.window(3, 2, 4, 4)[0], [[4, 4]])


def test_a_part_is_normalised_as_the_whole():
    pixels = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    whole = prepared(pixels)
    part = whole.cropped(5, 10, 25, 30)
    assert part.shape == (20, 20)
    np.testing.assert_array_equal(part.window(0, 0, 20, 20), whole.window(5, 10, 25, 30))


def test_pixel_size_of_image_and_model():
    pixels = np.zeros((40, 60), np.uint8)
    image = prepared(pixels, pixel_size=(0.5, 0.25), model_pixel_size=0.5)
    assert image.scale == (1.0, 0.5)
    assert image.shape == (40, 30)
    assert "rescaled by 1 x 0.5" in image.told[-1]
    unknown = prepared(pixels, model_pixel_size=0.5)
    assert unknown.scale == (1.0, 1.0)
    assert "does not tell its pixel size" in unknown.told[-1]


def test_a_pixel_size_beyond_belief_is_ignored_aloud(capsys):
    scale, told = scale_to_pixel_size((264.6, 264.6), 0.5)
    assert scale == (1.0, 1.0)
    assert "ignored" in str(told)
    assert "264.6" in capsys.readouterr().err


@pytest.mark.parametrize("diameter", [0, -3, float("nan"), float("inf"), 1e-4, 1e6])
def test_impossible_diameter(diameter):
    with pytest.raises(ConfigError, match="diameter"):
        scale_to_diameter(diameter, 25)


def test_a_diameter_near_the_models_own_changes_nothing():
    assert scale_to_diameter(25.5, 25) == ((1.0, 1.0), None)
