"""An image: its axes settled, its channels found, its windows read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import ChannelError, ImageError
from cytomask.image import Image


def _counting(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((4, 5), None, (1, 4, 5)),
        ((2, 40, 30), None, (2, 40, 30)),
        ((40, 30, 2), None, (2, 40, 30)),
        ((40, 30, 3), None, (3, 40, 30)),
        ((3, 40, 30), None, (3, 40, 30)),
        ((1, 40, 30), None, (1, 40, 30)),
        ((40, 30, 1), None, (1, 40, 30)),
        ((1, 1, 40, 30), None, (1, 40, 30)),
        ((1, 40, 30, 3), None, (3, 40, 30)),
        ((4, 40, 5), None, (4, 40, 5)),
        ((30, 40), "XY", (1, 40, 30)),
        ((9, 40, 30), "CYX", (9, 40, 30)),
        ((40, 9, 30), "YCX", (9, 40, 30)),
        ((1, 2, 40, 1, 30), "TCYZX", (2, 40, 30)),
        ((2, 40, 30, 3), "CYXS", (6, 40, 30)),
        ((3, 40, 30), "syx", (3, 40, 30)),
    ],
)
def test_axes_are_settled(shape: tuple[int, ...], axes: str | None, expected: tuple[int, int, int]) -> None:
    image = Image.from_array(_counting(*shape), axes=axes)
    assert image.pixels.shape == expected
    assert image.shape == expected[1:]
    assert image.n_channels == len(image.channels) == expected[0]


@pytest.mark.parametrize(
    ("shape", "axes", "rgb"),
    [
        ((40, 30, 3), None, True),
        ((3, 40, 30), None, False),
        ((3, 40, 30), "SYX", True),
        ((40, 30, 3), "YXC", False),
        ((2, 40, 30, 3), "CYXS", False),
        ((1, 40, 30, 3), "CYXS", True),
    ],
)
def test_colour_is_told_from_channels(shape: tuple[int, ...], axes: str | None, rgb: bool) -> None:
    image = Image.from_array(_counting(*shape), axes=axes)
    assert image.rgb is rgb
    assert (image.channels == ("red", "green", "blue")) is rgb


def test_a_caller_may_say_that_three_channels_are_a_colour() -> None:
    assert Image.from_array(_counting(3, 40, 30), rgb=True).channels == ("red", "green", "blue")
    assert not Image.from_array(_counting(40, 30, 3), rgb=False).rgb
    with pytest.raises(ImageError, match="three channels"):
        Image.from_array(_counting(2, 40, 30), rgb=True)


def test_transparency_is_dropped_and_said() -> None:
    array = _counting(40, 30, 4)
    image = Image.from_array(array)
    assert image.rgb
    assert "transparency" in image.resolved
    np.testing.assert_array_equal(image.pixels, array[..., :3].transpose(2, 0, 1))
    assert Image.from_array(array, axes="YXC").n_channels == 4


def test_axes_of_channels_keep_their_order() -> None:
    array = _counting(2, 5, 3, 4)
    image = Image.from_array(array, axes="CYSX")
    np.testing.assert_array_equal(image.pixels[1 * 3 + 2], array[1, :, 2, :])
    np.testing.assert_array_equal(image.pixels[0 * 3 + 1], array[0, :, 1, :])


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [
        ((40, 30, 20), None, "not clear"),
        ((5, 6, 40, 30), None, "not clear"),
        ((7,), None, "not clear"),
        ((), None, "not clear"),
        ((5, 40, 30), "ZYX", "stack"),
        ((5, 40, 30), "YX", "do not fit"),
        ((40, 30), "CY", "not understood"),
        ((40, 30), "YY", "not understood"),
        ((40, 30), "", "not understood"),
        ((0, 0), None, "no pixels"),
        ((0, 40, 30), "CYX", "no pixels"),
    ],
)
def test_what_cannot_be_settled_is_an_error(shape: tuple[int, ...], axes: str | None, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Image.from_array(np.ones(shape, np.uint8), axes=axes)


@pytest.mark.parametrize("dtype", [np.complex64, object, "U3", "datetime64[s]"])
def test_what_is_no_number_is_an_error(dtype: Any) -> None:
    with pytest.raises(ImageError, match="plain numbers"):
        Image.from_array(np.zeros((4, 5), dtype))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_counted(dtype: Any) -> None:
    array = np.zeros((3, 50, 60), dtype)
    array[0, 3, 4] = array[2, 49, 59] = np.nan
    array[1, 0, 0] = -np.inf
    with pytest.raises(ImageError, match="2 NaN and 1 infinite of 9000"):
        Image.from_array(array)


def test_yes_and_no_become_numbers() -> None:
    image = Image.from_array(np.eye(4, dtype=bool))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image.pixels[0], np.eye(4))
    assert "0 and 1" in image.resolved


@pytest.mark.parametrize("size", [(0.0, 1.0), (float("nan"), 1.0), (-1.0, 1.0), (1.0,)])
def test_a_pixel_size_is_a_pair_of_lengths(size: Any) -> None:
    with pytest.raises(ImageError, match="pixel size"):
        Image.from_array(np.zeros((4, 5)), pixel_size=size)


@pytest.mark.parametrize(("shape", "words"), [((4, 5), "C, Y, X"), ((1, 0, 5), "no pixels")])
def test_an_image_is_not_made_of_anything(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        Image(np.zeros(shape), ("grey",))


def test_names_fit_the_channels() -> None:
    with pytest.raises(ImageError, match="names"):
        Image.from_array(np.zeros((2, 4, 5)), channels=["one"])


@settings(deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.dtype(">u2"), np.float32]), (2, 7, 9), elements=st.integers(0, 99)
    ),
    st.data(),
)
def test_a_window_is_that_part_of_the_image(array: np.ndarray, data: st.DataObject) -> None:
    image = Image.from_array(array, axes="CYX")
    y0, y1 = sorted(data.draw(st.tuples(st.integers(0, 7), st.integers(0, 7))))
    x0, x1 = sorted(data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9))))
    window = image.window(y0, y1, x0, x1)
    np.testing.assert_array_equal(window, array[:, y0:y1, x0:x1])
    assert window.dtype.isnative
    assert window.flags.aligned
    assert window.dtype == image.dtype


def test_a_window_outside_is_an_error() -> None:
    image = Image.from_array(np.zeros((4, 5)))
    for window in [(-1, 2, 0, 2), (0, 5, 0, 2), (0, 2, 0, 6), (3, 2, 0, 1)]:
        with pytest.raises(IndexError):
            image.window(*window)


def test_an_unaligned_buffer_gives_an_aligned_window() -> None:
    array = np.frombuffer(bytes(range(41)), np.uint16, 20, offset=1).reshape(4, 5)
    assert not array.flags.aligned
    assert Image.from_array(array).window(0, 4, 0, 5).flags.aligned


def test_channels_are_found_by_name_and_number() -> None:
    image = Image.from_array(np.zeros((3, 4, 5)), channels=["DAPI", "actin", "3"])
    assert image.channel_index("DAPI") == image.channel_index("Dapi ") == image.channel_index(0) == 0
    assert image.channel_index("1") == 1
    assert image.channel_index("3") == 2
    for missing in ("GFP", 3, -1, "7"):
        with pytest.raises(ChannelError, match="0: DAPI, 1: actin, 2: 3"):
            image.channel_index(missing)


def test_a_name_that_is_not_unique_is_an_error() -> None:
    image = Image.from_array(np.zeros((3, 4, 5)), channels=["a", "a", "A"])
    assert image.channel_index("A") == 2
    with pytest.raises(ChannelError, match="several"):
        image.channel_index("a")


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_selected_channels_are_those_asked_for(indices: list[int]) -> None:
    image = Image.from_array(_counting(5, 3, 4), axes="CYX", channels=list("abcde"))
    selected = image.select(indices)
    np.testing.assert_array_equal(selected.pixels, image.pixels[indices])
    assert selected.channels == tuple("abcde"[i] for i in indices)


def test_a_part_of_a_colour_picture_is_none() -> None:
    picture = Image.from_array(np.zeros((40, 30, 3), np.uint8))
    assert picture.select([0, 1, 2]).rgb
    assert not picture.select([2, 1, 0]).rgb
    assert not picture.select([1]).rgb
    with pytest.raises(ChannelError, match="no channel"):
        picture.select([])


def test_nothing_is_copied() -> None:
    array = _counting(40, 30, 3)
    image = Image.from_array(array)
    assert np.shares_memory(image.pixels, array)
    assert np.shares_memory(image.window(0, 9, 0, 9), array)
    assert np.shares_memory(image.select([0, 2]).pixels, array)


def test_it_says_how_it_was_understood() -> None:
    image = Image.from_array(np.full((5, 8), 4000, np.uint16), channels=["DAPI"], pixel_size=(0.5, 0.25))
    assert image.resolved == (
        "one channel (DAPI) of 5 x 8 px (y by x), uint16 (12-bit values); axes YX: the only two axes; "
        "pixel size 0.5 x 0.25 µm (y by x)"
    )
