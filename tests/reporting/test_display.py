"""How images of every kind are shown on a screen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytomask.image import Image
from cytomask.reporting.display import show


def ramp(dtype: str, low: float, high: float) -> Image:
    return Image.from_array(np.linspace(low, high, 256 * 40).reshape(40, 256).astype(dtype), axes="YX")


@pytest.mark.parametrize(
    "image",
    [
        ramp("uint8", 10, 90),
        ramp("uint16", 500, 1500),
        ramp(">u2", 500, 1500),
        ramp("int16", -900, 900),
        ramp("int32", -9_000_000, 9_000_000),
        ramp("float32", -0.2, 0.3),
        ramp("float64", 1e-9, 2e-9),
    ],
    ids=lambda image: str(image.pixels.dtype),
)
def test_the_contrast_of_any_depth_is_stretched_to_the_whole_range(image: Image) -> None:
    picture = show(image)
    assert picture.dtype == np.uint8
    assert picture.shape == (40, 256, 3)
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()
    values = picture[..., 0].ravel().astype(int)
    assert (values[0], values[-1]) == (0, 255)
    assert (np.diff(values) >= 0).all()
    assert abs(int(np.median(values)) - 128) < 6


@pytest.mark.parametrize("value", [0, 7, 65535])
def test_an_even_image_is_black(value: int) -> None:
    assert not show(Image.from_array(np.full((9, 9), value, np.uint16))).any()


def test_a_few_bright_pixels_on_an_even_ground_are_seen() -> None:
    pixels = np.full((200, 200), 3, np.uint8)
    pixels[50, 50] = 9
    picture = show(Image.from_array(pixels))
    assert picture[50, 50].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_dark_images_are_brightened() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(100, 3, (100, 100))
    pixels[40:50, 40:50] = 4000
    pixels[60:80, 60:80] = 600
    picture = show(Image.from_array(pixels.astype(np.uint16)))
    linear = 255 * (600 - 100) / (4000 - 100)
    assert 2 * linear < picture[70, 70, 0] < 128


def test_a_colour_picture_keeps_its_hues() -> None:
    pixels = np.zeros((30, 30, 3), np.uint8)
    pixels[:10], pixels[10:20], pixels[20:] = (20, 20, 20), (120, 70, 20), (220, 20, 120)
    picture = show(Image.from_array(pixels)).astype(int)
    # All channels are stretched alike: from 20 … 220 to 0 … 255.
    np.testing.assert_allclose(picture[15, 15], [127.5, 63.75, 0], atol=1)
    np.testing.assert_allclose(picture[25, 25], [255, 0, 127.5], atol=1)


def test_channels_add_up_each_in_its_colour() -> None:
    pixels = np.zeros((2, 60, 60), np.uint16)
    pixels[0, :20], pixels[1, 20:40] = 3000, 90
    image = Image.from_array(pixels, channels=["DAPI", "actin"])
    picture = show(image)
    assert picture[5, 5].tolist() == [0, 255, 0]
    assert picture[30, 5].tolist() == [255, 0, 255]
    assert picture[50, 5].tolist() == [0, 0, 0]
    assert show(image, channels=["actin"])[30, 5].tolist() == [255, 255, 255]
    assert show(image, channels=[1, 0])[5, 5].tolist() == [255, 0, 255]


def test_many_channels_do_not_burn_out() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.gamma(2, 100, (9, 80, 80)).astype(np.uint16)
    picture = show(Image.from_array(pixels, axes="CYX"))
    assert (picture.max(axis=-1) == 255).mean() < 0.01
    assert picture.max() > 200


@pytest.mark.parametrize("shrink", [1, 3])
@pytest.mark.parametrize("axes", ["YX", "YXS", "CYX"])
def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch, axes: str, shrink: int) -> None:
    shape = {"YX": (50, 41), "YXS": (50, 41, 3), "CYX": (4, 50, 41)}[axes]
    image = Image.from_array(np.random.default_rng(0).integers(0, 4096, shape, dtype=np.uint16), axes=axes)
    whole = show(image, shrink=shrink)
    monkeypatch.setattr("cytomask.shrinking._BAND", 1)
    np.testing.assert_array_equal(show(image, shrink=shrink), whole)
    assert whole.shape == ((50, 41, 3) if shrink == 1 else (17, 14, 3))


def test_shrinking_averages_blocks(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "pixels", np.uint8, "w+", shape=(100, 100))
    mapped[::2], mapped[1::2] = 0, 200
    picture = show(Image.from_array(mapped), shrink=2)
    assert np.unique(picture).tolist() == [128]


def test_a_shrunk_picture_comes_from_a_coarse_level() -> None:
    class Level:
        """A level of a pyramid that counts the values read of it."""

        def __init__(self, factor: int, coarser: tuple[Level, ...] = ()) -> None:
            self._pixels = np.full((1, 640 // factor, 960 // factor), factor * 10, np.uint8)
            self._pixels[:, : 320 // factor] = 0
            self.shape, self.dtype, self.ndim, self.coarser = self._pixels.shape, self._pixels.dtype, 3, coarser
            self.read = 0

        def __len__(self) -> int:
            return 1

        def __getitem__(self, index: object) -> np.ndarray:
            self.read += self._pixels[index].size
            return self._pixels[index]

    levels = (Level(2), Level(4), Level(8))
    full = Level(1, levels)
    picture = show(Image.from_array(full, axes="CYX"), shrink=5)
    assert picture.shape == (128, 192, 3)
    assert (picture[:63] == 0).all()
    assert (picture[65:] == 255).all()
    assert full.read <= 640 * 960  # the sample for its contrast: it is small
    assert [level.read > 0 for level in levels] == [False, True, False]
