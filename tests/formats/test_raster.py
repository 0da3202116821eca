"""PNG, JPEG and BMP files of every kind."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import ImageError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.image import Image


def _noise(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.random.default_rng(len(shape)).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


def _attempt(path: Path) -> Image | ImageError:
    try:
        return read_image(path)
    except ImageError as error:
        return error


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.png"


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from([(), (2,), (3,), (4,)]).flatmap(
        lambda samples: hnp.arrays(
            st.sampled_from([np.uint8, np.uint16]),
            hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=30).map(lambda shape: shape + samples),
        )
    )
)
def test_png_of_8_and_16_bits(path: Path, array: np.ndarray) -> None:
    path.write_bytes(imagecodecs.png_encode(array))
    image = read_image(path)
    stack = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    shown = 1 if len(stack) < 3 else 3
    np.testing.assert_array_equal(image.pixels, stack[:shown])
    assert image.dtype == array.dtype
    assert image.rgb == (shown == 3)
    assert ("transparency is dropped" in image.resolved) == (len(stack) in (2, 4))


def test_axes_may_keep_a_fourth_channel(path: Path) -> None:
    array = _noise(20, 30, 4)
    PIL.Image.fromarray(array).save(path)
    image = read_image(path, axes="YXC")
    assert image.n_channels == 4
    assert not image.rgb
    assert "axes YXC: as told" in image.resolved
    with pytest.raises(ImageError, match="do not fit"):
        read_image(path, axes="YX")


def test_a_png_has_one_plane(path: Path) -> None:
    PIL.Image.fromarray(_noise(20, 30)).save(path)
    assert read_image(path, plane=0).n_channels == 1
    with pytest.raises(ImageError, match="one plane"):
        read_image(path, plane=1)


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_one_bit(tmp_path: Path, suffix: str) -> None:
    array = _noise(20, 30) > 100
    PIL.Image.fromarray(array).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.pixels[0], array)
    assert "1 bit" in image.resolved


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_a_palette_is_applied(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    array = _noise(20, 30) % 4
    picture = PIL.Image.fromarray(array).convert("P")
    colours = _noise(4, 3)
    picture.putpalette(colours.ravel().tolist())
    picture.save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, colours[array].transpose(2, 0, 1))
    assert "palette is applied" in image.resolved

    greys = np.array([9, 200, 30, 77], np.uint8)
    picture.putpalette(np.repeat(greys, 3).tolist())
    picture.save(path)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, greys[array][None])
    assert not image.rgb


def test_transparent_entries_of_a_palette_and_a_transparent_grey(path: Path) -> None:
    array = _noise(20, 30) % 4
    picture = PIL.Image.fromarray(array).convert("P")
    colours = _noise(4, 3)
    picture.putpalette(colours.ravel().tolist())
    picture.save(path, transparency=1)
    np.testing.assert_array_equal(read_image(path).pixels, colours[array].transpose(2, 0, 1))
    PIL.Image.fromarray(array).save(path, transparency=2)
    np.testing.assert_array_equal(read_image(path).pixels[0], array)


def test_few_bits_of_grey_are_spread_over_8(path: Path) -> None:
    rows = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    packed = [bytes([0]) + bytes([sum(int(v) << s for v, s in zip(row, (6, 4, 2, 0)))]) for row in rows]
    path.write_bytes(_png(4, 2, 2, 0, zlib.compress(b"".join(packed))))
    np.testing.assert_array_equal(read_image(path).pixels[0], rows * 85)


def _png(width: int, height: int, depth: int, colour: int, data: bytes) -> bytes:
    """A PNG made by hand."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_png_tells_a_pixel_size_where_it_is_fine(path: Path) -> None:
    picture = PIL.Image.fromarray(_noise(20, 30))
    picture.save(path, dpi=(25_400 / 0.25, 25_400 / 0.5))
    assert read_image(path).pixel_size == pytest.approx((0.5, 0.25), rel=1e-4)
    picture.save(path, dpi=(96, 96))
    image = read_image(path)
    assert image.pixel_size is None
    assert "96 dpi, a screen's or printer's" in image.resolved


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_exif_orientation_is_followed_and_said(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"a{suffix}"
    # Blocks of 16 px, so that JPEG changes little.
    array = np.kron(np.array([[10, 60, 110], [160, 210, 250]], np.uint8), np.ones((16, 16), np.uint8))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(array).save(path, exif=exif, quality=95)
    image = read_image(path)
    upright = {
        1: array,
        2: array[:, ::-1],
        3: array[::-1, ::-1],
        4: array[::-1],
        5: array.T,
        6: np.rot90(array, -1),
        7: array[::-1, ::-1].T,
        8: np.rot90(array),
    }[orientation]
    assert image.shape == upright.shape
    assert np.abs(image.pixels[0].astype(int) - upright).max() < 4
    assert ("EXIF" in image.resolved) == (orientation != 1)


def test_jpeg_in_colour_and_in_print_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    array = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    PIL.Image.fromarray(array).save(path, "JPEG", quality=95)
    image = read_image(path)
    assert image.rgb
    assert np.abs(image.pixels.transpose(1, 2, 0).astype(int) - array).max() < 4
    PIL.Image.fromarray(array).convert("CMYK").save(path, "JPEG")
    with pytest.raises(ImageError, match="CMYK"):
        read_image(path)


def test_bmp(tmp_path: Path) -> None:
    for array in (_noise(20, 30), _noise(20, 30, 3)):
        PIL.Image.fromarray(array).save(tmp_path / "a.bmp")
        expected = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        np.testing.assert_array_equal(read_image(tmp_path / "a.bmp").pixels, expected)


@pytest.mark.parametrize("kind", ["png", "jpeg", "bmp", "palette"])
def test_a_file_cut_off_anywhere_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{'png' if kind == 'palette' else kind}"
    picture = PIL.Image.fromarray(_noise(24, 30))
    if kind == "palette":
        picture = picture.convert("P")
    picture.save(path)
    whole = path.read_bytes()
    # A BMP ends with two bytes of padding.
    for length in [*range(1, 60), *range(60, len(whole) - 30, 17), *range(len(whole) - 30, len(whole) - 2)]:
        path.write_bytes(whole[:length])
        with pytest.raises(ImageError) as caught:
            read_image(path)
        assert caught.value.where == path
        assert caught.value.fix


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kind=st.sampled_from(["png", "jpeg", "bmp", "P"]), place=st.floats(0, 1), value=st.integers(1, 255))
def test_a_damaged_file_is_an_error_or_an_image(tmp_path: Path, kind: str, place: float, value: int) -> None:
    path = tmp_path / f"a.{'png' if kind == 'P' else kind}"
    buffer = io.BytesIO()
    picture = PIL.Image.fromarray(_noise(24, 30)).convert("P" if kind == "P" else "L")
    picture.save(buffer, "PNG" if kind == "P" else kind.upper())
    data = bytearray(buffer.getvalue())
    data[int(place * (len(data) - 1))] ^= value
    path.write_bytes(data)
    result = _attempt(path)
    assert result.pixels.size if isinstance(result, Image) else str(path) in str(result)


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [(0, 0, "no pixels"), (5, 0, "no pixels"), (200_000, 200_000, "8 GiB"), (2**31 - 1, 2**31 - 1, "8 GiB")],
)
@pytest.mark.parametrize("colour", [0, 2, 3, 6])
def test_a_header_cannot_ask_for_much_memory(path: Path, width: int, height: int, words: str, colour: int) -> None:
    path.write_bytes(_png(width, height, 8, colour, zlib.compress(bytes(100))))
    with pytest.raises(ImageError, match=words):
        read_image(path)


def test_a_small_file_cannot_be_a_large_image(path: Path) -> None:
    path.write_bytes(_png(40_000, 40_000, 8, 0, zlib.compress(bytes(100))))
    with pytest.raises(ImageError, match="too small for the image"):
        read_image(path)


def test_a_bmp_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    PIL.Image.fromarray(_noise(20, 30)).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 200_000, 200_000)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="8 GiB"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
def test_a_large_picture_raises_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(_noise(20, 30)).convert("L" if suffix == ".jpg" else "P").save(path)
    # Pillow warns beyond 89 million pixels; our own limits hold instead.
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 500)
    assert read_image(path).shape == (20, 30)
    if suffix != ".jpg":
        assert read_labels(path).shape == (20, 30)
