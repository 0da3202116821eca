"""TIFF files of every kind: the pixels come back, and what was understood is said."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import ImageError
from cytomask.formats.images import read_image
from cytomask.image import Image


def _noise(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    rng = np.random.default_rng(len(shape))
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(0, min(np.iinfo(dtype).max, 2**40), shape).astype(dtype)


def _mapped(image: Image) -> bool:
    base: Any = image.pixels
    while base is not None:
        if isinstance(base, np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


def _attempt(path: Path) -> Image | ImageError:
    try:
        return read_image(path)
    except ImageError as error:
        return error


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", "i2", "u4", "i4", "u8", "f2", "<f4", ">f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
def test_any_depth_comes_back(path: Path, dtype: str, compression: str | None) -> None:
    array = _noise(40, 30, dtype=dtype)
    tifffile.imwrite(path, array, compression=compression, byteorder=">" if dtype[0] == ">" else "<")
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], array)
    assert image.dtype == np.dtype(dtype).newbyteorder("=")
    assert image.window(0, 9, 0, 9).dtype.isnative
    assert image.source == path
    assert _mapped(image) == (compression is None)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_packed_bits_are_unpacked(path: Path, bits: int) -> None:
    array = _noise(20, 30) % 2**bits
    rows = [
        np.unpackbits(row.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 16 - bits :].ravel() for row in array
    ]
    data = b"".join(np.packbits(row).tobytes() for row in rows)
    path.write_bytes(_bare_tiff(30, 20, bits, data))
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], array)
    assert f"{bits}-bit values" in image.resolved


def _bare_tiff(width: int, height: int, bits: int, data: bytes, photometric: int = 1, **entries: int) -> bytes:
    """A little-endian TIFF of one strip, made by hand."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: height, 279: len(data)}
    tags |= {int(tag[1:]): value for tag, value in entries.items()}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", 0) + data


def test_12_bits_in_16_are_said(path: Path) -> None:
    array = _noise(40, 30) % 4096
    array[0, 0] = 4095
    tifffile.imwrite(path, array)
    assert "uint16 (12-bit values)" in read_image(path).resolved


@pytest.mark.parametrize("options", [{}, {"planarconfig": "separate"}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_colour(path: Path, options: dict[str, Any], dtype: str) -> None:
    array = _noise(40, 30, 3, dtype=dtype)
    planar = "planarconfig" in options
    tifffile.imwrite(path, array.transpose(2, 0, 1) if planar else array, photometric="rgb", **options)
    image = read_image(path)
    assert image.rgb
    assert image.channels == ("red", "green", "blue")
    np.testing.assert_array_equal(image.pixels, array.transpose(2, 0, 1))


def test_transparency_is_dropped_and_said(path: Path) -> None:
    array = _noise(40, 30, 4, dtype="u1")
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"])
    image = read_image(path)
    assert image.rgb
    assert "transparency" in image.resolved
    np.testing.assert_array_equal(image.pixels, array[..., :3].transpose(2, 0, 1))
    assert read_image(path, axes="YXC").n_channels == 4


def test_who_tells_the_axes_gets_every_sample(path: Path) -> None:
    array = _noise(40, 30, 3, dtype="u1")
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig", extrasamples=[0, 2])
    assert read_image(path).n_channels == 2
    assert read_image(path, axes="YXC").n_channels == 3
    image = read_image(path, axes="YXS")
    assert image.rgb
    np.testing.assert_array_equal(image.pixels, array.transpose(2, 0, 1))


def test_grey_with_transparency(path: Path) -> None:
    array = _noise(40, 30, 2, dtype="u1")
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, array[..., :1].transpose(2, 0, 1))
    assert "transparency" in image.resolved


def test_samples_that_are_no_colour_are_channels(path: Path) -> None:
    array = _noise(40, 30, 3)
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")
    image = read_image(path)
    assert not image.rgb
    np.testing.assert_array_equal(image.pixels, array.transpose(2, 0, 1))
    tifffile.imwrite(path, _noise(40, 30, 6), photometric="rgb", planarconfig="contig")
    assert not read_image(path).rgb
    assert read_image(path).n_channels == 6


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"compression": "zlib"}])
def test_few_pages_without_a_word_are_channels_and_many_are_a_stack(path: Path, options: dict[str, Any]) -> None:
    array = _noise(8, 40, 30)
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, array)
    assert "8 pages, of which nothing is told, are taken for channels" in image.resolved

    image = read_image(path, plane=3)
    np.testing.assert_array_equal(image.pixels[0], array[3])
    assert "plane 3 of 8" in image.resolved

    array = _noise(9, 40, 30)
    tifffile.imwrite(path, array, photometric="minisblack", **options)
    with pytest.raises(ImageError, match=r"stack of 9 planes[^!]*--plane N, from 0 to 8[^!]*--axes CYX"):
        read_image(path)
    image = read_image(path, axes="CYX")
    np.testing.assert_array_equal(image.pixels, array)
    assert "axes CYX: as told" in image.resolved
    np.testing.assert_array_equal(read_image(path, axes="ZYX", plane=8).pixels[0], array[8])


def test_an_array_written_with_its_channels_last(path: Path) -> None:
    array = _noise(40, 30, 2)
    tifffile.imwrite(path, array, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path).pixels, array.transpose(2, 0, 1))
    array = _noise(40, 30, 3, dtype="f4")
    tifffile.imwrite(path, array, photometric="minisblack", planarconfig=None)
    assert read_image(path).n_channels == 3


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("kind", ["ome", "imagej"])
def test_stacks_need_a_plane(path: Path, kind: str, compression: str | None) -> None:
    array = _noise(2, 3, 4, 40, 30)
    metadata = {"axes": "TZCYX"}
    tifffile.imwrite(path, array, **{kind: True}, metadata=metadata, photometric="minisblack", compression=compression)
    with pytest.raises(ImageError, match=r"stack of 6 planes[^!]*T=2, Z=3[^!]*from 0 to 5"):
        read_image(path)
    for plane, (t, z) in enumerate(np.ndindex(2, 3)):
        image = read_image(path, plane=plane)
        np.testing.assert_array_equal(image.pixels, array[t, z])
        assert f"plane {plane} of 6 (T={t}, Z={z})" in image.resolved
        assert _mapped(image) == (compression is None)
    for plane in (6, -1):
        with pytest.raises(ImageError, match="0 to 5"):
            read_image(path, plane=plane)


def test_one_plane_is_plane_0(path: Path) -> None:
    tifffile.imwrite(path, _noise(3, 40, 30), photometric="minisblack", metadata={"axes": "CYX"})
    assert read_image(path, plane=0).n_channels == 3
    with pytest.raises(ImageError, match="only one plane"):
        read_image(path, plane=1)


def test_pages_of_colour_are_a_stack(path: Path) -> None:
    array = _noise(3, 40, 30, 3, dtype="u1")
    tifffile.imwrite(path, array, photometric="rgb", metadata=None, compression="zlib")
    with pytest.raises(ImageError, match="stack of 3 planes"):
        read_image(path)
    image = read_image(path, plane=2)
    assert image.rgb
    np.testing.assert_array_equal(image.pixels, array[2].transpose(2, 0, 1))


@pytest.mark.parametrize("axes", ["TYX", "QYX"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_axes_told_beat_those_of_the_file(path: Path, axes: str, compression: str | None) -> None:
    array = _noise(5, 40, 30)
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": axes}, compression=compression)
    np.testing.assert_array_equal(read_image(path, axes="cyx").pixels, array)
    np.testing.assert_array_equal(read_image(path, axes="YXC").pixels, array.transpose(2, 0, 1))
    with pytest.raises(ImageError, match=r"do not fit[^!]*\(5, 40, 30\)"):
        read_image(path, axes="YX")
    with pytest.raises(ImageError, match="not understood"):
        read_image(path, axes="C-X")


def test_axes_may_leave_out_what_is_single(path: Path) -> None:
    array = _noise(1, 3, 40, 30)
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": "TCYX"})
    assert read_image(path, axes="CYX").n_channels == 3
    assert read_image(path, axes="ZYX", plane=2).n_channels == 1


def test_the_first_of_several_images_is_read_and_said(path: Path) -> None:
    with tifffile.TiffWriter(path) as tif:
        tif.write(_noise(40, 30))
        tif.write(_noise(20, 10, dtype="u1"))
    image = read_image(path)
    assert image.shape == (40, 30)
    assert "the first of 2 images in the file" in image.resolved


def test_the_full_level_of_a_pyramid_is_read(path: Path) -> None:
    array = _noise(64, 96)
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(array, subifds=1, tile=(32, 32), compression="zlib", metadata={"axes": "YX"})
        tif.write(array[::2, ::2], subfiletype=1, tile=(32, 32), compression="zlib")
    np.testing.assert_array_equal(read_image(path).pixels[0], array)


def test_big_tiff(tmp_path: Path) -> None:
    array = _noise(3, 40, 30)
    for byteorder in "<>":
        tifffile.imwrite(
            tmp_path / "a.btf",
            array,
            bigtiff=True,
            byteorder=byteorder,
            photometric="minisblack",
            metadata={"axes": "CYX"},
        )
        np.testing.assert_array_equal(read_image(tmp_path / "a.btf").pixels, array)


def test_black_and_white(path: Path) -> None:
    array = _noise(40, 30) % 2 == 1
    tifffile.imwrite(path, array)
    np.testing.assert_array_equal(read_image(path).pixels[0], array)
    PIL.Image.fromarray(array).save(path, compression="group4")
    np.testing.assert_array_equal(read_image(path).pixels[0], array)
    # Of one bit, white as 0 means nothing: programs disagree.
    path.write_bytes(_bare_tiff(8, 2, 1, bytes([0b10110000, 0b00000001]), photometric=0))
    assert read_image(path).pixels[0].tolist() == [[1, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1]]


def test_white_is_zero_is_turned_round_and_said(path: Path) -> None:
    array = _noise(40, 30, dtype="u1")
    tifffile.imwrite(path, array, photometric="miniswhite")
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], 255 - array)
    assert "turned round" in image.resolved


def test_a_palette_is_applied_unless_it_only_tints(path: Path) -> None:
    array = _noise(40, 30, dtype="u1")
    ramp = np.zeros((3, 256), np.uint16)
    ramp[1] = np.arange(256) * 257
    tifffile.imwrite(path, array, photometric="palette", colormap=ramp)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels[0], array)
    assert "only tints" in image.resolved

    colours = _noise(3, 256)
    tifffile.imwrite(path, array, photometric="palette", colormap=colours)
    image = read_image(path)
    assert image.rgb
    np.testing.assert_array_equal(image.pixels, (colours >> 8).astype(np.uint8)[:, array])
    assert "palette is applied" in image.resolved


def test_jpeg_inside_tiff(path: Path) -> None:
    y, x = np.mgrid[:64, :64]
    array = np.stack([3 * y, 3 * x, 100 + 0 * x], axis=-1).astype(np.uint8)
    PIL.Image.fromarray(array).save(path, compression="jpeg", quality=95)
    image = read_image(path)
    assert image.rgb
    assert np.abs(image.pixels.transpose(1, 2, 0).astype(int) - array).max() < 12


@pytest.mark.parametrize(("photometric", "name"), [("separated", "CMYK"), ("cielab", "Lab")])
def test_other_colour_spaces_are_refused(path: Path, photometric: str, name: str) -> None:
    tifffile.imwrite(path, _noise(40, 30, 4, dtype="u1"), photometric=photometric, planarconfig="contig")
    with pytest.raises(ImageError, match=name):
        read_image(path)


def test_complex_numbers_are_refused(path: Path) -> None:
    tifffile.imwrite(path, np.ones((4, 5), np.complex64))
    with pytest.raises(ImageError, match="complex64"):
        read_image(path)


def test_values_that_are_not_finite_are_refused(path: Path) -> None:
    array = np.ones((4, 5), np.float32)
    array[1, 2], array[3, 3] = np.nan, np.inf
    for compression in (None, "zlib"):
        tifffile.imwrite(path, array, compression=compression)
        with pytest.raises(ImageError, match=r"1 NaN and 1 infinite of 20 values"):
            read_image(path)


def test_a_picture_without_pixels_is_refused(path: Path) -> None:
    with pytest.warns(UserWarning, match="zero-size"):
        tifffile.imwrite(path, np.zeros((0, 0), np.uint8))
    with pytest.raises(ImageError, match="no pixels"):
        read_image(path)
    path.write_bytes(_bare_tiff(0, 0, 8, b""))
    with pytest.raises(ImageError, match="no pixels"):
        read_image(path)


_KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "packed": {"compression": "zlib"},
    "strips": {"compression": "lzw", "rowsperstrip": 5},
    "tiles": {"tile": (16, 16)},
    "ome": {"ome": True, "metadata": {"axes": "CYX"}},
    "ome packed": {"ome": True, "compression": "zlib", "metadata": {"axes": "CYX"}},
    "imagej": {"imagej": True, "metadata": {"axes": "CYX"}},
    "no word": {"metadata": None},
    "big": {"bigtiff": True, "compression": "zstd"},
}


@pytest.mark.parametrize("kind", _KINDS)
def test_a_file_cut_off_anywhere_is_an_error(path: Path, kind: str) -> None:
    array = _noise(3, 20, 24)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", **_KINDS[kind])
    whole = buffer.getvalue()
    path.write_bytes(whole)
    resolved = read_image(path).resolved
    lengths = {*range(1, 200), *range(200, len(whole), 61), *range(len(whole) - 40, len(whole))}
    for length in sorted(lengths):
        path.write_bytes(whole[:length])
        result = _attempt(path)
        if isinstance(result, ImageError):
            assert result.where == path
            assert result.fix
        else:
            # The writer leaves 16 bytes at the end that nothing points to.
            np.testing.assert_array_equal(result.pixels, array)
            assert result.resolved == resolved
            assert length >= len(whole) - 16


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(kind=st.sampled_from(list(_KINDS)), place=st.floats(0, 1), value=st.integers(1, 255))
def test_a_damaged_file_is_an_error_or_an_image(path: Path, kind: str, place: float, value: int) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, _noise(3, 20, 24), photometric="minisblack", **_KINDS[kind])
    data = bytearray(buffer.getvalue())
    data[int(place * (len(data) - 1))] ^= value
    path.write_bytes(data)
    result = _attempt(path)
    assert result.pixels.size if isinstance(result, Image) else str(path) in str(result)


@pytest.mark.parametrize("tile", [{}, {"_322": 1_000_000, "_323": 1_000_000, "_324": 8, "_325": 100}])
@pytest.mark.parametrize("packed", [1, 5, 8])
def test_a_small_file_cannot_ask_for_much_memory(path: Path, packed: int, tile: dict[str, int]) -> None:
    path.write_bytes(_bare_tiff(1_000_000, 200_000, 16, zlib.compress(bytes(500)), _259=packed, **tile))
    with pytest.raises(ImageError, match=r"at most 8 GiB|cut off|in one piece"):
        read_image(path)
    path.write_bytes(
        _bare_tiff(100, 100, 16, zlib.compress(bytes(500)), _259=8, _322=2**20, _323=2**20, _324=8, _325=99)
    )
    with pytest.raises(ImageError, match="at most 8 GiB"):
        read_image(path)
    path.write_bytes(_bare_tiff(40_000, 40_000, 16, zlib.compress(bytes(500)), _259=8))
    with pytest.raises(ImageError, match="10000 times"):
        read_image(path)


@pytest.mark.parametrize("compression", ["zlib", "lzw", "zstd"])
def test_a_strip_cannot_unpack_to_more_than_its_pixels(path: Path, compression: str) -> None:
    tifffile.imwrite(path, np.zeros((10_000, 10_000), np.uint8), rowsperstrip=10_000, compression=compression)
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages.first.tags
        places = [tag[name].valueoffset for name in ("ImageLength", "ImageWidth", "RowsPerStrip")]
    data = bytearray(path.read_bytes())
    for place in places:
        data[place : place + 2] = struct.pack("<H", 4)
    path.write_bytes(data)
    tracemalloc.start()
    result = _attempt(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(result, ImageError) or result.shape == (4, 4)
    assert peak < 50e6


@pytest.mark.parametrize("offset", [100, 2**40, 2**63, 2**64 - 1])
def test_a_page_may_not_lie_beyond_the_file(path: Path, offset: int) -> None:
    path.write_bytes(b"II+\0" + struct.pack("<HHQ", 8, 0, offset))
    with pytest.raises(ImageError, match="cut off"):
        read_image(path)


def test_pages_that_go_in_a_circle_are_an_error(path: Path) -> None:
    data = bytearray(_bare_tiff(4, 4, 8, bytes(16)))
    place = 8 + 2 + 12 * 9
    data[place : place + 4] = struct.pack("<I", 8)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="points back"):
        read_image(path)


def test_an_image_of_several_files(tmp_path: Path) -> None:
    """One channel in each of two OME files that name each other."""
    array = _noise(2, 40, 30)
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in range(2)]
    paths = [tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"]
    data = "".join(
        f'<TiffData IFD="0" FirstC="{i}" PlaneCount="1"><UUID FileName="{path.name}">{uuid}</UUID></TiffData>'
        for i, (path, uuid) in enumerate(zip(paths, uuids))
    )
    for path, uuid, plane in zip(paths, uuids, array):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="40" SizeC="2" SizeZ="1" '
            'SizeT="1"><Channel ID="Channel:0:0" Name="DAPI"/><Channel ID="Channel:0:1" Name="GFP"/>'
            f"{data}</Pixels></Image></OME>"
        )
        tifffile.imwrite(path, plane, description=xml, metadata=None)
    for path in paths:
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels, array)
        assert image.channels == ("DAPI", "GFP")
    paths[1].unlink()
    with pytest.raises(ImageError, match=r"some pages of the image are missing[^!]*1 of 2 pages"):
        read_image(paths[0])


def test_a_large_plain_file_is_mapped(path: Path) -> None:
    array = tifffile.memmap(path, shape=(8192, 8192), dtype=np.uint16)
    array[5000, 6000] = 77
    array.flush()
    image = read_image(path)
    assert _mapped(image)
    assert image.window(4999, 5002, 5999, 6002)[0, 1, 1] == 77


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    array=hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32]),
        hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=20),
        elements=st.integers(0, 200),
    ),
    options=st.sampled_from(
        [
            {},
            {"compression": "zlib"},
            {"ome": True},
            {"imagej": True},
            {"ome": True, "compression": "lzw"},
            {"imagej": True, "compression": "zlib"},
            {"byteorder": ">"},
            {"bigtiff": True},
        ]
    ),
)
def test_channels_come_back(path: Path, array: np.ndarray, options: dict[str, Any]) -> None:
    # The writer takes a last axis of 1 for samples in ImageJ files, and cannot read them back itself.
    assume(array.shape[2] > 1 or "imagej" not in options)
    tifffile.imwrite(path, array, photometric="minisblack", metadata={"axes": "CYX"}, **options)
    image = read_image(path)
    np.testing.assert_array_equal(image.pixels, array)
