"""Tests of reading large TIFF files window by window."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import ImageError
from cytomask.formats import kept_pieces, tiff_windows
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.formats.tiff_windows import TiffWindows
from cytomask.image import Image
from cytomask.lazy_pixels import coarser_levels

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cytomask.formats.tiff.LAZY_FROM", 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cells.tif"


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The pieces that are unpacked, in order."""
    pieces: list[int] = []
    unpack = TiffWindows._unpack

    def counted(self: TiffWindows, page: Any, segment: int) -> np.ndarray:
        pieces.append(segment)
        return unpack(self, page, segment)

    monkeypatch.setattr(TiffWindows, "_unpack", counted)
    return pieces


def pixels(shape: tuple[int, ...], dtype: str = "u2") -> np.ndarray:
    return RNG.integers(0, 250, shape).astype(dtype)


def at_once(path: Path, **options: Any) -> Image:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytomask.formats.tiff.LAZY_FROM", 2**40)
        return read_image(path, **options)


GREY = {"photometric": "minisblack"}
TILES, STRIPS = {"tile": (16, 32)}, {"rowsperstrip": 7}
KINDS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "tiles": ((75, 83), {**TILES, "compression": "zlib"}),
    "strips": ((75, 83), {**STRIPS, "compression": "lzw"}),
    "rows": ((75, 83), {"rowsperstrip": 1, "compression": "zstd"}),
    "one strip": ((75, 83), {"rowsperstrip": 75, "compression": "zlib"}),
    "differences": ((75, 83), {**TILES, "compression": "zlib", "predictor": True}),
    "big": ((75, 83), {**TILES, "compression": "zlib", "bigtiff": True}),
    "other byte order": ((75, 83), {**TILES, "compression": "zlib", "byteorder": ">"}),
    "other byte order, strips": ((75, 83), {**STRIPS, "compression": "lzw", "byteorder": ">", "predictor": True}),
    "tiles that are not packed": ((75, 83), {**TILES, "byteorder": ">"}),
    "channels": ((3, 75, 83), {**TILES, "compression": "zlib", "metadata": {"axes": "CYX"}, **GREY}),
    "OME channels": ((3, 75, 83), {**STRIPS, "compression": "zlib", "ome": True, "metadata": {"axes": "CYX"}, **GREY}),
    "colour": ((75, 83, 3), {**TILES, "compression": "zlib", "photometric": "rgb"}),
    "colour, apart": ((3, 75, 83), {**TILES, "compression": "zlib", "photometric": "rgb", "planarconfig": "separate"}),
    "samples": ((75, 83, 5), {**TILES, "compression": "zlib", "photometric": "minisblack", "planarconfig": "contig"}),
    "transparency": ((75, 83, 4), {**TILES, "compression": "zlib", "photometric": "rgb", "extrasamples": [2]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_parts_of_the_whole(path: Path, kind: str) -> None:
    shape, options = KINDS[kind]
    tifffile.imwrite(path, pixels(shape), **options)
    lazy, whole = read_image(path), at_once(path)
    assert lazy.lazy
    assert not whole.lazy
    assert (lazy.channels, lazy.rgb, lazy.shape, lazy.dtype, lazy.pixel_size) == (
        whole.channels, whole.rgb, whole.shape, whole.dtype, whole.pixel_size)  # fmt: skip
    for y0, y1, x0, x1 in ((0, 75, 0, 83), (15, 17, 31, 33), (74, 75, 82, 83), (5, 60, 40, 41), (3, 3, 4, 9)):
        found = lazy.window(y0, y1, x0, x1)
        np.testing.assert_array_equal(found, whole.window(y0, y1, x0, x1))
        assert found.dtype.isnative
    np.testing.assert_array_equal(lazy.sampled(9), whole.sampled(9))
    chosen = [lazy.n_channels - 1]
    np.testing.assert_array_equal(lazy.select(chosen).window(9, 40, 9, 70), whole.select(chosen).window(9, 40, 9, 70))


@settings(max_examples=30, deadline=None)
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    tile=st.one_of(st.none(), st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 48]))),
    rows=st.integers(1, 60),
    dtype=st.sampled_from(["u1", "u2", "i2", "f4", "f8", "u4", "?"]),
    window=st.tuples(*[st.floats(0, 1)] * 4),
)
def test_any_window_of_any_layout(
    tmp_path_factory: pytest.TempPathFactory, size: tuple, tile: tuple | None, rows: int, dtype: str, window: tuple
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.tif"
    array = pixels(size, dtype)
    layout: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": rows}
    tifffile.imwrite(path, array, compression="zlib", photometric="minisblack", **layout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cytomask.formats.tiff.LAZY_FROM", 0)
        image = read_image(path)
    (y0, y1), (x0, x1) = (
        sorted(round(part * n) for part in window[i : i + 2]) for i, n in ((0, size[0]), (2, size[1]))
    )
    np.testing.assert_array_equal(image.window(y0, y1, x0, x1)[0], array[y0:y1, x0:x1])


def test_jpeg_tiles_are_as_the_library_reads_them(path: Path) -> None:
    smooth = np.stack([np.add.outer(np.arange(150), np.arange(130))] * 3, axis=-1).astype(np.uint8)
    tifffile.imwrite(path, smooth, tile=(64, 64), compression="jpeg", photometric="rgb")
    image = read_image(path)
    assert image.lazy
    assert image.rgb
    np.testing.assert_array_equal(image.window(0, 150, 0, 130), np.moveaxis(tifffile.imread(path), -1, 0))


def test_only_the_tiles_of_a_window_are_unpacked_and_each_once(path: Path, unpacked: list[int]) -> None:
    tifffile.imwrite(path, pixels((3, 160, 160)), tile=(16, 16), compression="zlib", **GREY)
    image = read_image(path)
    unpacked.clear()
    kept_pieces.kept.forget()
    image.select([1]).window(15, 33, 64, 80)
    assert sorted(unpacked) == [4, 14, 24]
    image.select([1]).window(20, 34, 60, 80)
    assert sorted(unpacked) == [4, 13, 14, 23, 24]


def test_what_is_kept_is_limited(path: Path, unpacked: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    kept_pieces.kept.forget()
    monkeypatch.setattr(kept_pieces, "KEPT", 3 * 16 * 16 * 2)
    tifffile.imwrite(path, pixels((16, 160)), tile=(16, 16), compression="zlib")
    image = read_image(path)
    unpacked.clear()
    for x in range(0, 160, 16):
        image.window(0, 16, x, x + 16)
    kept = kept_pieces.kept
    assert len(kept._pieces) == 3
    assert kept._size == sum(piece.nbytes for piece in kept._pieces.values()) == 3 * 16 * 16 * 2
    seen = len(unpacked)
    image.window(0, 16, 112, 160)
    assert len(unpacked) == seen
    image.window(0, 16, 0, 16)
    assert len(unpacked) == seen + 1


def test_a_plane_of_a_stack(path: Path) -> None:
    array = pixels((4, 2, 40, 50))
    tifffile.imwrite(path, array, **STRIPS, compression="zlib", metadata={"axes": "ZCYX"})
    image = read_image(path, plane=2)
    assert image.lazy
    np.testing.assert_array_equal(image.window(3, 30, 4, 50), array[2, :, 3:30, 4:50])
    np.testing.assert_array_equal(read_image(path, axes="CZYX", plane=1).window(0, 40, 0, 50), array[:, 1])


def test_pages_apart_that_are_not_packed_are_mapped(path: Path, unpacked: list[int]) -> None:
    array = pixels((3, 40, 50), ">u2")
    with tifffile.TiffWriter(path, byteorder=">") as tif:
        for page in array:
            tif.write(page, rowsperstrip=40, **GREY, contiguous=False, metadata=None)
    image = read_image(path, axes="CYX")
    assert image.lazy
    np.testing.assert_array_equal(image.window(3, 30, 4, 50), array[:, 3:30, 4:50])
    assert unpacked == []


def pyramid(path: Path, array: np.ndarray, n_levels: int = 3, **options: Any) -> None:
    """Write a pyramid, each level every second pixel of the one before plus its number, to tell them apart."""
    with tifffile.TiffWriter(path, bigtiff=True, **({"ome": True} if options.pop("ome", False) else {})) as tif:
        tif.write(array, subifds=n_levels - 1, **options)
        options.pop("metadata", None)
        for _ in range(1, n_levels):
            array = array[..., ::2, ::2] + 1
            tif.write(array, subfiletype=1, metadata=None, **options)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("ome", [True, False])
def test_levels_of_a_pyramid_serve_as_overviews(path: Path, unpacked: list[int], ome: bool, packed: bool) -> None:
    array = pixels((3, 256, 320))
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5} if ome else {"axes": "CYX"}
    packing = {"compression": "zlib", "tile": (32, 32)} if packed else {}
    pyramid(path, array, ome=ome, metadata=metadata, **packing, **GREY)
    image = read_image(path).select([2])
    assert [level.shape for level in coarser_levels(image.pixels)] == [(1, 128, 160), (1, 64, 80)]
    np.testing.assert_array_equal(image.window(0, 256, 0, 320), array[2:])
    small = image.overview(80)
    np.testing.assert_array_equal(small.pixels, array[2:, ::4, ::4] + 2)
    assert small.pixel_size == ((2.0, 2.0) if ome else None)
    assert "read by windows; the finest of 3 levels" in image.resolved
    assert "images in the file" not in image.resolved
    statistics = image.sampled(4)
    np.testing.assert_array_equal(statistics, array[2:, ::4, ::4], err_msg="statistics are those of the finest level")


def test_an_overview_of_a_pyramid_reads_its_coarse_level_only(path: Path, unpacked: list[int]) -> None:
    pyramid(path, pixels((256, 256)), compression="zlib", tile=(16, 16))
    image = read_image(path)
    unpacked.clear()
    kept_pieces.kept.forget()
    image.overview(64)
    assert len(unpacked) == 16


def test_reduced_pages_behind_the_image_are_a_pyramid(path: Path) -> None:
    """As VIPS and some scanners write them."""
    array = pixels((128, 160))
    with tifffile.TiffWriter(path) as tif:
        for level, step in enumerate((1, 2, 4)):
            tif.write(
                array[::step, ::step], tile=(32, 32), compression="zlib", subfiletype=int(level > 0), metadata=None
            )
        tif.write(array[:50, :20], subfiletype=1, metadata=None)  # a label, of another shape
    image = read_image(path)
    assert [level.shape for level in coarser_levels(image.pixels)] == [(1, 64, 80), (1, 32, 40)]
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.overview(40).pixels[0], array[::4, ::4])


def test_a_slide_scanner_tells_its_pixel_size(path: Path) -> None:
    array = pixels((96, 160, 3), "u1")
    slide = path.with_suffix(".svs")
    described = "Aperio Image Library v11.2.1\r\n160x96 (32x32) JPEG/RGB Q=30|AppMag = 20|MPP = 0.4990"
    with tifffile.TiffWriter(slide) as tif:
        options: dict[str, Any] = {"photometric": "rgb", "compression": "zlib", "metadata": None}
        tif.write(array, tile=(32, 32), description=described, **options)
        tif.write(array[::4, ::4], description="Aperio Image Library v11.2.1\r\n160x96 -> 40x24 - ", **options)
        tif.write(array[::2, ::2], tile=(32, 32), description="Aperio Image Library v11.2.1\r\n", **options)
    image = read_image(slide)
    assert image.rgb
    assert image.shape == (96, 160)
    assert image.pixel_size == (0.499, 0.499)
    assert [level.shape for level in coarser_levels(image.pixels)] == [(3, 48, 80)]
    np.testing.assert_array_equal(image.window(10, 50, 20, 99), np.moveaxis(array, -1, 0)[:, 10:50, 20:99])


def test_many_threads_and_other_processes_read_the_same(path: Path) -> None:
    array = pixels((400, 400))
    tifffile.imwrite(path, array, tile=(32, 32), compression="zlib")
    image = read_image(path)
    sent = pickle.dumps(image)
    assert len(sent) < 20_000
    again = pickle.loads(sent)
    places = [(int(y), int(x)) for y, x in RNG.integers(0, 340, (60, 2))]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda place: again.window(place[0], place[0] + 60, place[1], place[1] + 60), places))
    for (y, x), window in zip(places, found):
        np.testing.assert_array_equal(window[0], array[y : y + 60, x : x + 60])


def test_a_damaged_tile_is_an_error_where_it_is_read(path: Path) -> None:
    array = pixels((900, 900))
    tifffile.imwrite(path, array, tile=(16, 16), compression="zlib")
    number = 17 * 57 + 17  # where the depth is not probed
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages[0].dataoffsets[number]
    data = bytearray(path.read_bytes())
    data[offset : offset + 4] = b"\xff" * 4
    path.write_bytes(data)
    image = read_image(path)
    np.testing.assert_array_equal(image.window(0, 17 * 16, 0, 900)[0], array[: 17 * 16])
    with pytest.raises(ImageError, match=rf"damaged(.|\n)*cells.tif(.|\n)*piece {number}"):
        image.window(17 * 16, 17 * 16 + 1, 17 * 16, 17 * 16 + 1)


def test_a_missing_tile_is_background(path: Path) -> None:
    def tiles() -> Any:
        for number in range(4):
            yield np.full((16, 16), number + 1, np.uint8) if number != 2 else None

    tifffile.imwrite(path, tiles(), shape=(32, 32), dtype=np.uint8, tile=(16, 16), compression="zlib")
    image = read_image(path)
    assert np.unique(image.window(16, 32, 0, 16)).tolist() == [0]
    assert np.unique(image.window(16, 32, 16, 32)).tolist() == [4]


def test_a_tile_far_larger_in_the_file_than_unpacked_is_refused(path: Path) -> None:
    """A short stream behind which megabytes follow: nobody needs to load them."""
    tifffile.imwrite(path, pixels((32, 32)), tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        entry = tif.pages[0].tags["TileByteCounts"].valueoffset
    data = bytearray(path.read_bytes()) + bytes(1_000_000)
    data[entry : entry + 4] = (900_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(ImageError, match="bytes for a piece of 32 x 32"):
        read_image(path)


def test_labels_are_read_at_once(path: Path) -> None:
    array = pixels((75, 83), "i4")
    tifffile.imwrite(path, array, **TILES, compression="zlib")
    np.testing.assert_array_equal(read_labels(path), array)


def test_what_cannot_be_windowed_is_read_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = pixels((75, 83))
    tifffile.imwrite(path, array, rowsperstrip=75, compression="zlib")
    monkeypatch.setattr(tiff_windows, "MAX_PIECE", 75 * 83 * 2 - 1)
    image = read_image(path)
    assert not image.lazy
    np.testing.assert_array_equal(image.pixels[0], array)
    monkeypatch.setattr("cytomask.formats.tiff.MAX_UNPACKED", 1000)
    with pytest.raises(ImageError, match=r"packed in pieces that are too large(.|\n)*in one piece(.|\n)*OME-Zarr"):
        read_image(path)


def test_pictures_with_a_palette_or_white_as_zero_are_read_at_once(path: Path) -> None:
    array = pixels((75, 83), "u1")
    tifffile.imwrite(path, array, **TILES, compression="zlib", photometric="miniswhite")
    image = read_image(path)
    assert not image.lazy
    np.testing.assert_array_equal(image.pixels[0], 255 - array)
    palette = RNG.integers(0, 2**16, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, array, **TILES, compression="zlib", photometric="palette", colormap=palette)
    assert read_image(path).pixels.shape == (3, 75, 83)


def test_small_files_are_read_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pyramid(path, pixels((128, 128)), compression="zlib", tile=(32, 32))
    assert not read_image(path).lazy


def test_a_tissue_field_of_eight_channels(shared_data: Path, tmp_path: Path) -> None:
    """The real field, packed by tiles: one channel is found by name and read alone."""
    field = next((shared_data / "codex").rglob("field.ome.tif"))
    whole = at_once(field)
    packed = tmp_path / "field.ome.tif"
    with tifffile.TiffFile(field) as tif:
        tifffile.imwrite(packed, tif.asarray(), ome=True, tile=(256, 256), compression="zlib",
                         metadata={"axes": "CYX", "Channel": {"Name": list(whole.channels)}})  # fmt: skip
    lazy = read_image(packed)
    assert lazy.lazy
    assert lazy.channels == whole.channels
    for name in (whole.channels[0], whole.channels[-1]):
        a, b = (image.select([image.channel_index(name)]) for image in (lazy, whole))
        np.testing.assert_array_equal(a.window(500, 900, 300, 1008), b.window(500, 900, 300, 1008))
