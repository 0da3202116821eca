"""Normalisation: exact percentiles, the same values in every window, no contrast, every dtype."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import TypeAdapter, ValidationError

from cytomask.data.normalise import (
    FixedRange,
    MeanStd,
    MinMax,
    Normalisation,
    PercentileNormalisation,
    ZScore,
    percentiles,
    statistics,
)
from cytomask.errors import ConfigError, ImageError
from cytomask.image import Image

METHODS = (PercentileNormalisation(), PercentileNormalisation(low=0, high=100), MinMax(), ZScore())
DTYPES = (np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float16, np.float32, np.float64)


def whole(image: Image) -> np.ndarray:
    return image.window(0, image.height, 0, image.width)


def grey(rows: object, dtype: object = np.uint8) -> Image:
    return Image.from_array(np.array(rows, dtype=dtype), axes="YX")


def test_percentiles_become_zero_and_one() -> None:
    image = grey([[10, 20, 30, 40, 50]])
    found = statistics(image, PercentileNormalisation(low=25, high=75))
    assert found.offset.item() == 20
    np.testing.assert_allclose(found.apply(whole(image)), [[[-0.5, 0, 0.5, 1, 1.5]]])


def test_percentiles_lie_between_values() -> None:
    image = grey([[0, 10]])
    found = statistics(image, PercentileNormalisation(low=10, high=60))
    assert found.offset.item() == pytest.approx(1)
    assert found.scale.item() == pytest.approx(1 / 5)


def test_min_max() -> None:
    image = grey([[3, 5], [7, 11]])
    np.testing.assert_allclose(statistics(image, MinMax()).apply(whole(image)), [[[0, 0.25], [0.5, 1]]])


def test_z_score() -> None:
    image = grey([[1, 1], [3, 3]])
    np.testing.assert_allclose(statistics(image, ZScore()).apply(whole(image)), [[[-1, -1], [1, 1]]])


def test_fixed_range_does_not_look_at_the_image() -> None:
    image = grey([[0, 100], [200, 255]])
    found = statistics(image, FixedRange(low=100, high=200)).apply(whole(image))
    np.testing.assert_allclose(found, [[[-1, 0], [1, 1.55]]], rtol=1e-6)


def test_clip() -> None:
    image = grey([[0, 100], [200, 255]])
    found = statistics(image, FixedRange(low=100, high=200, clip=(0, 1.25))).apply(whole(image))
    np.testing.assert_allclose(found, [[[0, 0], [1, 1.25]]])


@given(
    hnp.arrays(st.sampled_from([np.uint8, np.uint16]), st.integers(1, 300)),
    st.lists(st.floats(0, 100), min_size=1, max_size=4),
)
def test_counted_percentiles_have_numpys_bits(values: np.ndarray, q: list[float]) -> None:
    assert percentiles(values, tuple(q)) == tuple(float(v) for v in np.percentile(values, q))


@pytest.mark.parametrize("seed", range(5))
def test_counted_percentiles_have_numpys_bits_between_values_far_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 65535, rng.integers(10, 2000)).astype(np.uint16)
    q = tuple(rng.uniform(0, 100, 300))
    assert percentiles(values, q) == tuple(float(v) for v in np.percentile(values, q))


@given(
    hnp.arrays(st.sampled_from(DTYPES), st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 100)),
    st.sampled_from(METHODS),
)
def test_any_dtype_gives_finite_floats(pixels: np.ndarray, method: Normalisation) -> None:
    image = Image.from_array(pixels, axes="YX")
    values = statistics(image, method).apply(whole(image))
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    if pixels.min() == pixels.max():
        assert not values.any()


@given(
    hnp.arrays(np.uint16, st.tuples(st.integers(1, 12), st.integers(1, 12))),
    st.sampled_from(METHODS),
    st.data(),
)
def test_a_window_has_the_bits_of_the_whole(pixels: np.ndarray, method: Normalisation, data: st.DataObject) -> None:
    image = Image.from_array(pixels, axes="YX")
    found = statistics(image, method)
    y0, x0 = data.draw(st.integers(0, image.height - 1)), data.draw(st.integers(0, image.width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, image.height)), data.draw(st.integers(x0 + 1, image.width))
    part = found.apply(image.window(y0, y1, x0, x1))
    assert part.tobytes() == found.apply(whole(image))[:, y0:y1, x0:x1].tobytes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [0, 0.1, -3.7, 255, 1e-300, 1e300])
def test_no_contrast_gives_zeros(method: Normalisation, value: float) -> None:
    image = Image.from_array(np.full((40, 50), value), axes="YX")
    assert not statistics(image, method).apply(whole(image)).any()


@pytest.mark.parametrize("method", METHODS)
def test_rounding_noise_is_no_contrast(method: Normalisation) -> None:
    pixels = np.full((20, 20), 0.1, np.float32)
    pixels[::2] = np.nextafter(np.float32(0.1), np.float32(1))
    image = Image.from_array(pixels, axes="YX")
    assert np.abs(statistics(image, method).apply(whole(image))).max() < 1e-6


def test_a_few_bright_pixels_in_a_dark_image_are_not_lost() -> None:
    pixels = np.zeros((100, 100), np.uint8)
    pixels[50, 50:55] = 80
    image = Image.from_array(pixels, axes="YX")
    np.testing.assert_allclose(statistics(image, PercentileNormalisation()).apply(whole(image))[0], pixels / 80)


def test_large_values_close_together_are_told_apart() -> None:
    for dtype in (np.uint32, np.int64, np.float64):
        image = grey([[4_000_000_000, 4_000_000_001, 4_000_000_004]], dtype)
        np.testing.assert_allclose(statistics(image, MinMax()).apply(whole(image)), [[[0, 0.25, 1]]], atol=1e-6)


def test_colour_is_normalised_jointly_and_separate_channels_singly() -> None:
    pixels = np.stack([np.full((4, 4), v, np.uint8) * np.eye(4, dtype=np.uint8) for v in (50, 100, 200)])
    colour = Image.from_array(pixels, axes="CYX", rgb=True)
    markers = Image.from_array(pixels, axes="CYX")
    assert statistics(colour, MinMax()).apply(whole(colour)).max(axis=(1, 2)).tolist() == [0.25, 0.5, 1]
    assert statistics(markers, MinMax()).apply(whole(markers)).max(axis=(1, 2)).tolist() == [1, 1, 1]
    singly, jointly = MinMax(per_channel=True), MinMax(per_channel=False)
    assert statistics(colour, singly).apply(whole(colour)).max(axis=(1, 2)).tolist() == [1, 1, 1]
    assert statistics(markers, jointly).apply(whole(markers)).max(axis=(1, 2)).tolist() == [0.25, 0.5, 1]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_grey_shown_as_colour_has_the_bits_of_grey(dtype: type) -> None:
    pixels = np.random.default_rng(1).normal(9000, 2000, (1, 31, 17)).astype(dtype)
    one = Image.from_array(pixels, axes="CYX")
    three = Image.from_array(pixels.repeat(3, axis=0), axes="CYX", rgb=True)
    for method in METHODS:
        single = statistics(one, method).apply(whole(one))
        assert (statistics(three, method).apply(whole(three)) == single).all()


def test_sample_is_a_strided_grid() -> None:
    pixels = np.random.default_rng(2).integers(0, 60000, (2, 97, 61)).astype(np.uint16)
    image = Image.from_array(pixels, axes="CYX")
    found = statistics(image, PercentileNormalisation(low=2, high=98), max_pixels=1000)
    # A step of 2 leaves 49 * 31 pixels, one of 3 leaves 33 * 21.
    low, high = np.percentile(pixels[:, ::3, ::3], [2, 98], axis=(1, 2))
    np.testing.assert_array_equal(found.offset.ravel(), low.astype(np.float32))
    np.testing.assert_allclose(1 / found.scale.ravel(), high - low, rtol=1e-6)


def test_a_thin_image_is_sampled_as_densely_as_allowed() -> None:
    pixels = np.random.default_rng(4).integers(0, 255, (1, 1, 3001)).astype(np.uint8)
    found = statistics(Image.from_array(pixels, axes="CYX"), ZScore(), max_pixels=1000)
    # Steps of 2 and 3 leave 1501 and 1001 pixels.
    assert found.offset.item() == np.float32(pixels[..., ::4].mean())


def test_a_memory_mapped_image_is_read_by_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(3).integers(0, 4096, (1, 210, 90)).astype(np.uint16)
    np.save(tmp_path / "large.npy", pixels)
    mapped = Image.from_array(np.load(tmp_path / "large.npy", mmap_mode="r"), axes="CYX")
    expected = statistics(Image.from_array(pixels, axes="CYX"), PercentileNormalisation(), max_pixels=5000)
    windows: list[tuple[int, int]] = []
    read = Image.window

    def watched(self: Image, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        windows.append((y0, y1))
        return read(self, y0, y1, x0, x1)

    monkeypatch.setattr("cytomask.image.CHUNK", 2000)
    monkeypatch.setattr(Image, "window", watched)
    found = statistics(mapped, PercentileNormalisation(), max_pixels=5000)
    assert len(windows) > 5
    assert max(y1 - y0 for y0, y1 in windows) * 90 <= 2000
    assert (found.offset, found.scale) == (expected.offset, expected.scale)


def test_pixels_that_are_no_numbers_are_refused() -> None:
    pixels = np.ones((1, 4, 4), np.float32)
    pixels[0, 1, 1], pixels[0, 2, 2] = np.nan, np.inf
    with pytest.raises(ImageError, match="2 NaN or infinite of 16"):
        statistics(Image(pixels, ("grey",)), MinMax())


def test_values_too_far_apart_are_refused() -> None:
    with np.errstate(over="ignore"), pytest.raises(ImageError, match="too far apart"):
        statistics(Image.from_array(np.array([[-1.7e308, 1.7e308]])), MinMax())


def test_methods_are_told_apart_by_name_and_survive_yaml() -> None:
    adapter = TypeAdapter(Normalisation)
    for method in (*METHODS, FixedRange(low=3, high=9, clip=(0, 1)), BGR_FREE):
        assert adapter.validate_python(adapter.dump_python(method, mode="json")) == method
    assert adapter.validate_python({"method": "z_score"}) == ZScore()


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "percentile", "low": 50, "high": 50},
        {"method": "percentile", "low": -1},
        {"method": "fixed_range", "low": 5, "high": 1},
        {"method": "fixed_range", "low": 5},
        {"method": "fixed_range", "low": 0, "high": float("inf")},
        {"method": "z_score", "clip": (3, 1)},
        {"method": "mean_std", "std": (0.0,)},
        {"method": "mean_std", "mean": ()},
        {"method": "mean_std", "mean": (float("nan"),)},
        {"method": "mean_std", "low": 60, "high": 40},
        {"method": "percentile", "hihg": 90},
        {"method": "other"},
    ],
)
def test_wrong_settings_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Normalisation).validate_python(wrong)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_agrees_with_the_usual_formula(seed: int) -> None:
    pixels = np.random.default_rng(seed).normal(100, 30, (1, 23, 29)).astype(np.float32)
    image = Image.from_array(pixels, axes="CYX")
    low, high = np.percentile(pixels, [1, 99.8])
    expected = (pixels - low) / (high - low)
    np.testing.assert_allclose(statistics(image, PercentileNormalisation()).apply(pixels), expected, atol=1e-5)


BGR_FREE = MeanStd(mean=(100, 50, 25), std=(1, 2, 4))


def test_given_means_take_eight_bits_as_they_are() -> None:
    pixels = np.arange(2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 3) * 20
    image = Image.from_array(pixels, axes="YXC")
    found = statistics(image, BGR_FREE).apply(image.window(0, 2, 0, 2))
    expected = (pixels.astype(float) - [100, 50, 25]) / [1, 2, 4]
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-5)
    # With deviations of 1 the numbers are exact.
    plain = statistics(image, MeanStd(mean=(103.53,))).apply(image.window(0, 2, 0, 2))
    assert np.array_equal(plain, pixels.transpose(2, 0, 1).astype(np.float32) - np.float32(103.53))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.int32])
def test_given_means_take_others_between_their_percentiles(dtype: type) -> None:
    pixels = (np.random.default_rng(0).random((40, 50)) * 3000).astype(dtype)
    image = Image.from_array(pixels, axes="YX")
    low, high = np.percentile(pixels.astype(float), [1, 99.8])
    expected = ((pixels.astype(float) - low) / (high - low) * 255 - 120) / 50
    method = MeanStd(mean=(120,), std=(50,))
    found = statistics(image, method).apply(image.window(0, 40, 0, 50))[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    limits = statistics(image, MeanStd(mean=(120,), std=(50,), low=0, high=100)).apply(image.window(0, 40, 0, 50))
    assert (limits.min(), limits.max()) == pytest.approx((-2.4, 2.7), abs=1e-4)


@pytest.mark.parametrize("method", [BGR_FREE, MeanStd(mean=(9,), clip=(-3, 90)), MeanStd(low=5, high=90, std=(60,))])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_last_step_can_be_done_apart(method: MeanStd, dtype: type) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (30, 20, 3)).astype(dtype)
    image = Image.from_array(pixels, axes="YXC")
    window = image.window(0, 30, 0, 20)
    unit = statistics(image, method.unit()).apply(window)
    if dtype == np.uint8:
        np.testing.assert_allclose(unit, window / 255, atol=1e-6)
    assert -0.2 < unit.min() < unit.max() < 1.2
    np.testing.assert_allclose(method.from_unit(unit), statistics(image, method).apply(window), atol=1e-3)
    assert method.from_unit(unit).dtype == np.float32


def test_means_for_other_channels_are_refused() -> None:
    image = Image.from_array(np.zeros((4, 5), np.uint8), axes="YX")
    with pytest.raises(ConfigError, match="3 values for 1 channels"):
        statistics(image, BGR_FREE)
    with pytest.raises(ConfigError, match="3 values for 2 channels"):
        BGR_FREE.from_unit(np.zeros((2, 4, 5), np.float32))


def test_given_means_and_no_contrast() -> None:
    image = Image.from_array(np.full((4, 5), 700, np.uint16), axes="YX")
    assert np.array_equal(statistics(image, MeanStd(mean=(120,))).apply(image.window(0, 4, 0, 5)), np.zeros((1, 4, 5)))
    dark = Image.from_array(np.zeros((4, 5), np.uint8), axes="YX")
    assert (statistics(dark, MeanStd(mean=(120,))).apply(dark.window(0, 4, 0, 5)) == -120).all()
