"""Channels: every way in which an image can fit a model, or not."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from cytomask.data.channels import ChannelExpectation, says_nucleus, select_channels
from cytomask.data.luminance import luminance
from cytomask.errors import ChannelError
from cytomask.formats.images import read_image
from cytomask.image import Image

GRAY, RGB = ChannelExpectation(mode="gray"), ChannelExpectation(mode="rgb")


def stack(*names: str) -> Image:
    """Channel ``i`` is full of ``10 * i``."""
    pixels = np.stack([np.full((2, 3), 10 * i, np.uint16) for i in range(len(names))])
    return Image.from_array(pixels, axes="CYX", channels=names, pixel_size=(0.5, 0.5))


def colour(red: int = 90, green: int = 60, blue: int = 30) -> Image:
    return Image.from_array(np.full((2, 3, 3), (red, green, blue), np.uint8), axes="YXS")


def values(image: Image) -> list[int]:
    pixels = image.window(0, 2, 0, 3)
    assert (pixels == pixels[:, :1, :1]).all()
    return pixels[:, 0, 0].tolist()


def test_a_grey_image_fits_a_grey_model() -> None:
    image = stack("anything")
    assert select_channels(image, GRAY) == (image, None)


def test_a_colour_picture_fits_a_colour_model() -> None:
    image = colour()
    assert select_channels(image, RGB) == (image, None)


def test_grey_is_shown_thrice_to_a_colour_model_without_a_copy() -> None:
    image = Image.from_array(np.full((2, 3), 7, np.uint16))
    selected, told = select_channels(image, RGB)
    assert values(selected) == [7, 7, 7]
    assert selected.rgb
    assert told is None
    assert np.shares_memory(selected.pixels, image.pixels)


def test_colour_becomes_luminance_for_a_grey_model_and_it_is_said() -> None:
    selected, told = select_channels(colour(), GRAY)
    assert values(selected) == [round(0.299 * 90 + 0.587 * 60 + 0.114 * 30)]
    assert selected.dtype == np.uint8
    assert not selected.rgb
    assert told is not None
    assert "luminance" in told


@pytest.mark.parametrize("expected, found", [(GRAY, [10]), (RGB, [10, 10, 10])])
def test_the_only_nuclear_channel_is_taken_and_it_is_said(expected: ChannelExpectation, found: list[int]) -> None:
    selected, told = select_channels(stack("CD45", "Hoechst 33342", "membrane"), expected)
    assert values(selected) == found
    assert selected.pixel_size == (0.5, 0.5)
    assert told is not None
    assert "Hoechst 33342" in told


@pytest.mark.parametrize("expected", [GRAY, RGB])
@pytest.mark.parametrize("names", [("a", "b"), ("DAPI", "Hoechst"), ("a", "b", "c"), ("a", "b", "c", "d", "e")])
def test_what_is_not_clear_is_an_error_that_lists_the_channels(
    expected: ChannelExpectation, names: tuple[str, ...]
) -> None:
    with pytest.raises(ChannelError, match=f"0: {names[0]}, 1: {names[1]}") as error:
        select_channels(stack(*names), expected)
    assert "--channels NAME|NUMBER" in str(error.value)


def test_channels_can_be_chosen_by_name_or_number() -> None:
    image = stack("a", "b", "c", "d")
    assert values(select_channels(image, GRAY, ["c"])[0]) == [20]
    assert values(select_channels(image, GRAY, [3])[0]) == [30]
    assert values(select_channels(image, RGB, ["b"])[0]) == [10, 10, 10]
    selected, told = select_channels(image, RGB, ["d", "A", "2"])
    assert values(selected) == [30, 0, 20]
    assert selected.rgb
    assert told == "channels chosen: d, a, c"


def test_one_sample_of_a_colour_picture_can_be_chosen() -> None:
    assert values(select_channels(colour(), GRAY, ["green"])[0]) == [60]
    assert values(select_channels(colour(), RGB, ["green"])[0]) == [60, 60, 60]


@pytest.mark.parametrize("expected, chosen", [(GRAY, ["a", "b"]), (RGB, ["a", "b"]), (RGB, ["a", "b", "c", "d"])])
def test_a_choice_of_the_wrong_number_is_an_error(expected: ChannelExpectation, chosen: list[str]) -> None:
    with pytest.raises(ChannelError, match="the chosen channels do not fit"):
        select_channels(stack("a", "b", "c", "d"), expected, chosen)


def test_a_channel_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ChannelError, match="0: a, 1: b"):
        select_channels(stack("a", "b"), GRAY, ["c"])


def test_selection_by_count() -> None:
    image = stack("a", "b")
    assert select_channels(image, ChannelExpectation(mode="select", count=2)) == (image, None)
    with pytest.raises(ChannelError, match="3 channels"):
        select_channels(image, ChannelExpectation(mode="select", count=3))


def test_selection_by_the_models_names() -> None:
    expected = ChannelExpectation(mode="select", names=("Membrane", "dapi"))
    selected, told = select_channels(stack("DAPI", "CD45", "membrane"), expected)
    assert values(selected) == [20, 0]
    assert told is not None
    assert "by the model's names" in told
    image = stack("membrane", "DAPI")
    assert select_channels(image, expected) == (image, None)


def test_channels_of_other_names_are_taken_in_order_and_it_is_said() -> None:
    expected = ChannelExpectation(mode="select", names=("membrane", "DAPI"))
    selected, told = select_channels(stack("x", "y"), expected)
    assert values(selected) == [0, 10]
    assert told is not None
    assert "in this order" in told


@pytest.mark.parametrize(
    "name",
    ["DAPI", "dapi_w1", "Hoechst", "H33342", "DRAQ5", "draq 7", "Nuclei", "nuclear stain", "Nucleus", "DNA", "H2B-GFP"],
)
def test_names_that_say_nucleus(name: str) -> None:
    assert says_nucleus(name)


@pytest.mark.parametrize("name", ["membrane", "GFP", "Ch1", "cytoplasm", "CD45", "actin", "non-nuclear", "H333421"])
def test_names_that_do_not(name: str) -> None:
    assert not says_nucleus(name)


def test_luminance_of_grey_is_grey() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.from_array(np.stack([levels] * 3, axis=-1), axes="YXS")
    assert (luminance(image).pixels[0] == levels).all()
    with pytest.raises(ChannelError, match="colour picture"):
        luminance(stack("a", "b", "c"))


def test_luminance_agrees_with_opencvs_formula_on_random_pictures() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    found = luminance(Image.from_array(pixels, axes="YXS")).pixels[0].astype(int)
    # Fixed-point arithmetic with 14 bits, as widely used.
    fixed = (pixels.astype(int) @ np.array([4899, 9617, 1868]) + 8192) >> 14
    assert np.abs(found - fixed).max() <= 1


def test_expectations_fill_in_their_count_and_survive_yaml() -> None:
    assert ChannelExpectation().count == 1
    assert ChannelExpectation(mode="rgb").count == 3
    for expected in (GRAY, RGB, ChannelExpectation(mode="select", names=("a", "b"))):
        assert ChannelExpectation.model_validate(expected.model_dump(mode="json")) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "rgb", "count": 2},
        {"mode": "select"},
        {"mode": "select", "count": 2, "names": ["a"]},
        {"mode": "cmyk"},
        {"cuont": 3},
    ],
)
def test_contradictions_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        ChannelExpectation.model_validate(wrong)


def test_real_tissue_with_eight_markers(shared_data: Path) -> None:
    image = read_image(shared_data / "codex" / "field.ome.tif")
    selected, told = select_channels(image, GRAY)
    assert selected.n_channels == 1
    assert told is not None
    assert says_nucleus(selected.channels[0])


def test_luminance_of_a_picture_on_disk_is_computed_on_demand(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (300, 40, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    whole, mapped = luminance(Image.from_array(pixels, axes="YXS")), luminance(image)
    assert isinstance(image.pixels, np.memmap)
    assert mapped.lazy
    assert not whole.lazy
    assert (mapped.window(3, 290, 5, 31) == whole.pixels[:, 3:290, 5:31]).all()
    assert (np.asarray(mapped.pixels[:, ::7, ::3]) == whole.pixels[:, ::7, ::3]).all()
    assert (np.asarray(mapped.pixels[0, 5]) == whole.pixels[0, 5]).all()
    assert (np.asarray(mapped.pixels[:, ::-2, 4]) == whole.pixels[:, ::-2, 4]).all()
    tripled, _ = select_channels(mapped, ChannelExpectation(mode="rgb"))
    assert (tripled.window(0, 9, 0, 9)[2] == whole.pixels[0, :9, :9]).all()
    again = pickle.loads(pickle.dumps(luminance(read_image(tmp_path / "a.tif")).pixels))
    assert (again[0, :4] == whole.pixels[0, :4]).all()
