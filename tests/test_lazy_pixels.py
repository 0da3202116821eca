"""Tests of images whose pixels are read when they are asked for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import ImageError
from cytomask.image import Image
from cytomask.lazy_pixels import ChannelView, PartView, indexed, is_lazy
from cytomask.shrinking import shrunk_rows


class OnDisk:
    """An array that pretends to be in a file, and remembers what was read of it."""

    def __init__(self, array: np.ndarray, chunks: tuple[int, ...] | None = None, coarser: tuple = ()) -> None:
        self._array, self.shape, self.dtype, self.ndim = array, array.shape, array.dtype, array.ndim
        self.coarser = coarser
        self.reads: list[tuple[int, ...]] = []
        if chunks is not None:
            self.chunks = chunks

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, index: Any) -> np.ndarray:
        part = np.array(self._array[index])
        self.reads.append(part.shape)
        return part

    @property
    def values_read(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.reads)


ends = st.one_of(st.none(), st.integers(-6, 9))
slices = st.one_of(st.integers(-2, 4), st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, 3, -1, -2])))


@settings(max_examples=200, deadline=None)
@given(
    axes=st.sampled_from(["YX", "CYX", "YXC", "YXS", "SYX", "CYXS", "ZYX", "XY", "TCZYX"]),
    index=st.tuples(slices, slices, slices),
    data=st.data(),
)
def test_views_are_indexed_as_arrays_are(axes: str, index: tuple, data: st.DataObject) -> None:
    sizes = {"Y": 7, "X": 9, "C": 5, "S": 3, "T": 1, "Z": 1}
    array = np.arange(np.prod([sizes[a] for a in axes])).reshape([sizes[a] for a in axes])
    image = Image.from_array(array, axes=axes)
    n = image.n_channels
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=6))
    view = ChannelView(OnDisk(array, tuple(data.draw(st.integers(1, 9)) for _ in axes)), axes, chosen)
    expected = np.asarray(image.pixels)[chosen]
    if isinstance(index[0], int) and not -len(chosen) <= index[0] < len(chosen):
        with pytest.raises(IndexError):
            view[index]
        return
    np.testing.assert_array_equal(view[index], expected[index])
    assert view[index].dtype == np.dtype("=i8")


@pytest.mark.parametrize("axes", ["CYX", "YXC", "YXS", "CYXS"])
def test_a_lazy_image_is_the_same_as_one_in_memory(axes: str) -> None:
    sizes = {"Y": 31, "X": 40, "C": 2, "S": 4 if axes == "YXS" else 3}
    array = np.random.default_rng(0).integers(0, 4000, [sizes[a] for a in axes]).astype(">u2")
    file = OnDisk(array)
    lazy, plain = Image.from_array(file, axes=axes), Image.from_array(array, axes=axes)
    assert lazy.lazy
    assert not plain.lazy
    assert (lazy.channels, lazy.rgb, lazy.shape, lazy.dtype) == (plain.channels, plain.rgb, plain.shape, plain.dtype)
    assert lazy.resolved.replace(" in a few windows", "") == plain.resolved
    np.testing.assert_array_equal(lazy.window(3, 20, 5, 9), plain.window(3, 20, 5, 9))
    assert lazy.window(3, 20, 5, 9).dtype == np.uint16
    assert lazy.window(3, 20, 5, 9).dtype.isnative
    np.testing.assert_array_equal(lazy.sampled(4), plain.sampled(4))
    chosen = [1, 0, 1]
    np.testing.assert_array_equal(lazy.select(chosen).window(0, 31, 0, 40), plain.select(chosen).window(0, 31, 0, 40))
    again = lazy.select(chosen).select([2])
    np.testing.assert_array_equal(again.window(0, 31, 0, 40), plain.select([1]).window(0, 31, 0, 40))
    np.testing.assert_array_equal(lazy.overview(9).pixels, plain.overview(9).pixels)


def test_making_selecting_and_reading_a_window_read_little() -> None:
    file = OnDisk(np.zeros((8, 3000, 4000), np.uint16))
    image = Image.from_array(file, axes="CYX")
    assert file.values_read <= 8 * 9 * 256 * 256
    file.reads.clear()
    nucleus = image.select([3])
    assert file.reads == []
    assert nucleus.window(100, 150, 200, 270).shape == (1, 50, 70)
    assert file.reads == [(1, 50, 70)]


def test_neighbouring_channels_are_read_together_and_none_twice() -> None:
    file = OnDisk(np.random.default_rng(0).integers(0, 99, (6, 20, 20)))
    view = ChannelView(file, "CYX", [5, 1, 2, 1, 3])
    np.testing.assert_array_equal(view[:], file._array[[5, 1, 2, 1, 3]])
    assert sorted(file.reads) == [(1, 20, 20), (3, 20, 20)]


def test_every_nth_pixel_is_read_by_pieces_that_hold_one() -> None:
    file = OnDisk(np.random.default_rng(0).integers(0, 99, (1, 4000, 9000)).astype(np.uint8), (1, 100, 100))
    image = Image.from_array(file, axes="CYX")
    np.testing.assert_array_equal(image.sampled(250), file._array[:, ::250, ::250])
    assert file.values_read <= 16 * 9000, "only rows that are wanted are read"
    file.reads.clear()
    image.sampled(30)
    assert max(int(np.prod(shape)) for shape in file.reads) <= 8_000_000


def test_yes_and_no_become_numbers() -> None:
    image = Image.from_array(OnDisk(np.eye(5, dtype=bool)), axes="YX")
    assert image.dtype == np.uint8
    assert image.window(0, 2, 0, 2).tolist() == [[[1, 0], [0, 1]]]


def test_axes_are_settled_by_shape_without_reading() -> None:
    file = OnDisk(np.zeros((1, 3, 1, 50, 60), np.uint8))
    assert Image.from_array(file).channels == ("channel 0", "channel 1", "channel 2")
    assert Image.from_array(OnDisk(np.zeros((50, 60, 4), np.uint8))).channels == ("red", "green", "blue")
    with pytest.raises(ImageError, match="not clear"):
        Image.from_array(OnDisk(np.zeros((30, 50, 60), np.uint8)))
    with pytest.raises(ImageError, match="not plain numbers"):
        Image.from_array(OnDisk(np.zeros((50, 60), np.complex64)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_found_in_the_window_that_holds_them(bad: float) -> None:
    array = np.zeros((1, 3000, 3000), np.float32)
    array[0, 900, 901] = bad
    image = Image.from_array(OnDisk(array), axes="CYX", source=Path("a.tif"))
    assert not image.window(0, 900, 0, 3000).any()
    with pytest.raises(ImageError, match=r"no numbers(.|\n)*a.tif"):
        image.window(900, 901, 900, 902)
    assert not image.sampled(7).any()
    with pytest.raises(ImageError, match="no numbers"):
        image.overview(100)


def test_a_plane_of_a_stack_is_chosen_without_reading() -> None:
    array = np.random.default_rng(0).integers(0, 99, (4, 2, 30, 40))
    file = OnDisk(array, (1, 1, 10, 20), coarser=(OnDisk(array[:, :, ::2, ::2]), OnDisk(array[::2, :, ::4, ::4])))
    plane = indexed(file, [3, slice(None), slice(None), slice(None)])
    assert isinstance(plane, PartView)
    assert (plane.shape, plane.chunks, plane.ndim, len(plane)) == ((2, 30, 40), (1, 10, 20), 3, 2)
    assert file.reads == []
    np.testing.assert_array_equal(plane[1, 3:9, ::-3], array[3, 1, 3:9, ::-3])
    np.testing.assert_array_equal(indexed(plane, [slice(0, 1)])[0], array[3, 0])
    # The second level has fewer planes: the same number there is another plane.
    assert [level.shape for level in plane.coarser] == [(2, 15, 20)]
    np.testing.assert_array_equal(plane.coarser[0][:], array[3, :, ::2, ::2])


def test_arrays_in_memory_are_not_lazy() -> None:
    assert not any(is_lazy(array) for array in (np.zeros(3), np.float32(1), [1], "text", None))
    assert is_lazy(OnDisk(np.zeros((3, 4))))


def test_views_can_be_sent_to_other_processes() -> None:
    image = Image.from_array(ChannelView(np.arange(60).reshape(3, 4, 5), "CYX", [2, 0]), axes="CYX")
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.window(0, 4, 0, 5), image.window(0, 4, 0, 5))


def _means(plane: np.ndarray, size: int) -> np.ndarray:
    height, width = (-(-n // size) for n in plane.shape)
    return np.array(
        [
            [plane[y * size : (y + 1) * size, x * size : (x + 1) * size].astype(float).mean() for x in range(width)]
            for y in range(height)
        ]
    ).astype(plane.dtype)


@settings(max_examples=60, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), shrink=st.integers(1, 12), data=st.data())
def test_shrinking_averages_blocks(height: int, width: int, shrink: int, data: st.DataObject) -> None:
    array = np.random.default_rng(0).integers(0, 65535, (2, height, width)).astype(np.uint16)
    file = OnDisk(array, (1, 4, 5))
    rows = -(-height // shrink)
    cut = data.draw(st.integers(0, rows))
    parts = [shrunk_rows(file, shrink, a, b) for a, b in ((0, cut), (cut, rows)) if a < b]
    expected = np.stack([_means(plane, shrink) for plane in array])
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


@settings(max_examples=60, deadline=None)
@given(
    # Of smaller pictures a level that was rounded down lacks more than the 2 % that are let pass.
    height=st.integers(60, 300),
    width=st.integers(60, 300),
    shrink=st.integers(2, 40),
    up=st.booleans(),
    data=st.data(),
)
def test_shrinking_from_a_pyramid_is_close_and_reads_no_fine_level(
    height: int, width: int, shrink: int, up: bool, data: st.DataObject
) -> None:
    """A ramp, whose blocks' means are known, in a pyramid whose levels are rounded up or down."""
    y, x = np.indices((height, width))
    full = (100 * y + 37 * x).astype(np.float32)[None]
    levels = []
    for factor in (2, 4, 8, 16):
        shape = [-(-n // factor) if up else n // factor for n in (height, width)]
        ly, lx = np.indices(shape)
        centre = (factor - 1) / 2
        levels.append(OnDisk((100 * (ly * factor + centre) + 37 * (lx * factor + centre)).astype(np.float32)[None]))
    file = OnDisk(full, coarser=tuple(levels))
    rows = -(-height // shrink)
    found = shrunk_rows(file, shrink, 0, rows)[0]
    exact = _means(full[0], shrink)
    assert found.shape == exact.shape
    whole = np.s_[: height // shrink, : width // shrink]
    # A block begins at most half a pixel of the level from its place, and a level may lack 2 %.
    assert np.abs(found[whole] - exact[whole]).max(initial=0) <= (100 + 37) * shrink * 1.1
    assert file.reads == []
    read = [level for level in levels if level.reads]
    assert len(read) == 1
    assert read[0].shape[1] * shrink * 1.02 >= height


def test_the_overview_comes_from_the_coarsest_level_that_is_fine_enough() -> None:
    levels = tuple(OnDisk(np.full((3, 800 // f, 1000 // f), f, np.uint8)) for f in (2, 4, 8))
    file = OnDisk(np.ones((3, 800, 1000), np.uint8), coarser=levels)
    image = Image.from_array(file, axes="CYX", pixel_size=(0.5, 0.25)).select([2, 0])
    file.reads.clear()
    small = image.overview(170)
    assert (small.pixels == 4).all()
    assert small.pixels.shape == (2, 134, 167)
    assert small.pixel_size == (3.0, 1.5)
    assert not small.lazy
    assert file.reads == []
    assert image.overview(1000) is image
    assert "shrunk to 134 x 167 px, each the mean of 6 x 6" in small.resolved


def test_normalisation_and_display_do_not_depend_on_what_the_image_is_stored_in() -> None:
    from cytomask.data.normalise import PercentileNormalisation, statistics
    from cytomask.reporting.display import show

    array = np.random.default_rng(0).gamma(2, 300, (2, 300, 400)).astype(np.uint16)
    lazy, plain = Image.from_array(OnDisk(array, (1, 64, 64)), axes="CYX"), Image.from_array(array, axes="CYX")
    for max_pixels in (1000, 4_000_000):
        a, b = (statistics(image, PercentileNormalisation(), max_pixels) for image in (lazy, plain))
        np.testing.assert_array_equal(a.offset, b.offset)
        np.testing.assert_array_equal(a.scale, b.scale)
    for shrink in (1, 3):
        np.testing.assert_array_equal(show(lazy, shrink=shrink), show(plain, shrink=shrink))
