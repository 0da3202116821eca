"""Intensity changes: repeatable, each doing what it says, and nothing when switched off."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

from cytomask.data.augment import AugmentConfig
from cytomask.data.intensity import (
    IntensityConfig,
    blurred,
    change_intensity,
    coarsened,
    colour_matrix,
    mixed_channels,
)

NONE = AugmentConfig.none().intensity
CHANGES = list(IntensityConfig.model_fields)


def only(**changes: dict) -> IntensityConfig:
    """Nothing but these, always."""
    fields = NONE.model_dump()
    for name, settings_ in changes.items():
        fields[name] = {"probability": 1.0, **settings_}
    return IntensityConfig.model_validate(fields)


def picture(channels: int = 1, size: int = 24) -> np.ndarray:
    return np.random.default_rng(9).random((channels, size, size), dtype=np.float32)


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_nothing_is_changed_when_all_is_off() -> None:
    image = picture(3)
    out = change_intensity(image, NONE, rng())
    assert np.array_equal(out, image)
    assert not np.shares_memory(out, image)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("channels, shown", [(1, 1), (1, 3), (3, 3), (2, 2)])
def test_each_change_is_repeatable_and_leaves_its_input(name: str, channels: int, shown: int) -> None:
    image = picture(channels)
    before = image.copy()
    config = only(**{name: {}})
    one, two = (change_intensity(image, config, rng(), channels=shown, diameter=20.0) for _ in range(2))
    assert one.dtype == np.float32
    assert one.shape == (shown, 24, 24)
    assert np.array_equal(one, two)
    assert np.array_equal(image, before)
    assert np.isfinite(one).all()
    shown_plainly = np.repeat(image, shown, axis=0) if channels == 1 else image
    colourful = {"tint": channels == 1 and shown == 3, "colour": channels == 3}
    assert np.array_equal(one, shown_plainly) != colourful.get(name, True)


def test_a_grey_picture_stays_grey_without_tint() -> None:
    everything = only(**{name: {} for name in CHANGES if name != "tint"})
    out = change_intensity(picture(), everything, rng(), channels=3, diameter=20.0)
    assert np.array_equal(out[0], out[1])
    assert np.array_equal(out[0], out[2])


def test_inversion() -> None:
    image = picture()
    np.testing.assert_allclose(change_intensity(image, only(inversion={}), rng()), 1 - image, atol=1e-6)


def test_gamma_leaves_black_white_and_what_is_below_black() -> None:
    image = np.array([[[-0.5, 0.0, 0.25, 1.0]]], np.float32)
    out = change_intensity(image, only(gamma={"gamma": (2, 2)}), rng())
    np.testing.assert_allclose(out[0, 0], [-0.5, 0, 0.0625, 1], atol=1e-6)


def test_brightness() -> None:
    out = change_intensity(picture(), only(brightness={"gain": (2, 2), "offset": (0.5, 0.5)}), rng())
    np.testing.assert_allclose(out, 2 * picture() + 0.5, atol=1e-6)


def test_unevenness_spans_its_strength() -> None:
    flat = np.ones((1, 40, 50), np.float32)
    for seed in range(20):
        out = change_intensity(flat, only(unevenness={"strength": (0.3, 0.3)}), np.random.default_rng(seed))
        assert out.max() - out.min() == pytest.approx(0.3, abs=1e-4)
        # Smooth: neighbours differ little.
        assert max(np.abs(np.diff(out, axis=axis)).max() for axis in (1, 2)) < 0.05


def test_tint_keeps_one_channel_at_full_weight() -> None:
    image = picture() * 0.5
    weights = set()
    for seed in range(20):
        out = change_intensity(image, only(tint={}), np.random.default_rng(seed), channels=3)
        ratio = (out / image).mean(axis=(1, 2))
        np.testing.assert_allclose(out, image * ratio[:, None, None], atol=1e-5)
        assert ratio.max() == pytest.approx(1, abs=1e-5)
        assert ratio.min() >= 0
        weights.add(int(ratio.argmax()))
    assert weights == {0, 1, 2}


@given(st.floats(-3.2, 3.2), st.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_colour_changes_leave_grey_alone(hue: float, saturation: float) -> None:
    matrix = colour_matrix(hue, saturation)
    grey = np.repeat(picture(), 3, axis=0)
    np.testing.assert_allclose(mixed_channels(grey, matrix), grey, atol=1e-5)
    image = picture(3)
    np.testing.assert_allclose(mixed_channels(image, matrix), np.tensordot(matrix, image, 1), atol=1e-5)


def test_hue_turns_red_to_green_to_blue() -> None:
    np.testing.assert_allclose(colour_matrix(2 * np.pi / 3, 1.0) @ [1, 0, 0], [0, 1, 0], atol=1e-6)
    np.testing.assert_allclose(colour_matrix(4 * np.pi / 3, 1.0) @ [1, 0, 0], [0, 0, 1], atol=1e-6)


@given(st.floats(0.4, 4), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_blur_is_a_gaussian_filter(sigma: float, height: int, width: int) -> None:
    image = np.random.default_rng(height * 31 + width).random((2, height, width), dtype=np.float32)
    radius = int(3 * sigma + 0.5)
    expected = ndimage.gaussian_filter(image, (0, sigma, sigma), mode="reflect", radius=(0, radius, radius))
    np.testing.assert_allclose(blurred(image, sigma), expected, atol=1e-5)


def test_coarse_pixels_keep_the_mean_and_lose_the_detail() -> None:
    checks = (np.indices((24, 24)).sum(axis=0) % 2).astype(np.float32)[None]
    assert np.abs(coarsened(checks, 2.0) - 0.5).max() < 1e-6
    ramp = np.linspace(0, 1, 24, dtype=np.float32)[None, None].repeat(24, axis=1)
    np.testing.assert_allclose(coarsened(ramp, 2.4)[..., 3:-3], ramp[..., 3:-3], atol=0.01)
    assert coarsened(ramp, 2.4).mean() == pytest.approx(0.5, abs=1e-3)


def test_noise_has_the_spread_it_says() -> None:
    levels = np.repeat(np.array([0.0, 0.25, 1.0], np.float32), 20_000).reshape(1, 3, -1)
    out = change_intensity(levels, only(noise={"camera": (0.1, 0.1), "photons": (0.2, 0.2)}), rng())
    spread = (out - levels).std(axis=-1)[0]
    np.testing.assert_allclose(spread, np.sqrt(0.01 + 0.04 * levels[0, :, 0]), rtol=0.03)
    assert np.abs((out - levels).mean()) < 0.005


@pytest.mark.parametrize(
    "config", [only(blur={"sigma": (4, 4), "of_diameter": 0.1}), only(low_resolution={"factor": (4, 4)})]
)
def test_small_objects_stay_visible(config: IntensityConfig) -> None:
    dot = np.zeros((1, 40, 40), np.float32)
    dot[0, 17:23, 17:23] = 1
    assert change_intensity(dot, config, rng(), diameter=6.0).max() > 0.7
    assert change_intensity(dot, config, rng()).max() < change_intensity(dot, config, rng(), diameter=6.0).max()


def test_the_generator_decides_what_happens() -> None:
    config = only(**{name: {"probability": 0.5} for name in CHANGES})
    for seed in range(20):
        one, two = (change_intensity(picture(3), config, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, two)


def test_how_often() -> None:
    half = NONE.model_copy(update={"inversion": NONE.inversion.model_copy(update={"probability": 0.3})})
    generator = np.random.default_rng(0)
    image = np.zeros((1, 1, 1), np.float32)
    share = np.mean([change_intensity(image, half, generator)[0, 0, 0] for _ in range(2000)])
    assert share == pytest.approx(0.3, abs=0.04)


def test_wrong_settings_are_told() -> None:
    for name, wrong in [
        ("blur", {"sigma": (2, 1)}),
        ("blur", {"sigma": (0, 1)}),
        ("noise", {"camera": (-1, 1)}),
        ("gamma", {"probability": 1.5}),
        ("gamma", {"gama": (1, 2)}),
        ("brightness", {"offset": (0, float("nan"))}),
        ("vignette", {}),
    ]:
        with pytest.raises(ValidationError):
            IntensityConfig.model_validate({name: wrong})


def test_channels_cannot_be_made_up() -> None:
    with pytest.raises(ValueError, match="2 channels cannot be shown in 3"):
        change_intensity(picture(2), NONE, rng(), channels=3)
