"""Preprocessing steps, on arrays made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cytomask.data.steps import STEPS, apply_steps, fill_holes, parse_steps
from cytomask.errors import ChannelError, ConfigError, DataError
from cytomask.image import Image
from cytomask.label_layers import LabelLayers


def grey(shape: tuple[int, int] = (8, 6), **more: object) -> Image:
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    return Image.from_array(pixels, axes="YX", **more)


def layers_of(labels: np.ndarray) -> LabelLayers:
    return LabelLayers.from_labels(labels.astype(np.int32))


NONE = layers_of(np.zeros((8, 6)))


def test_fill_label_holes() -> None:
    labels = np.array(
        [
            [7, 7, 7, 7, 7, 0],
            [7, 0, 7, 7, 7, 0],
            [7, 7, 7, 3, 7, 0],
            [7, 0, 0, 7, 0, 0],
            [7, 7, 7, 7, 0, 2],
        ]
    )
    _, layers = apply_steps(grey((5, 6)), layers_of(labels), ["fill_label_holes"])
    expected = labels.copy()
    expected[1, 1] = expected[3, 1] = expected[3, 2] = 7
    np.testing.assert_array_equal(layers.layers[0], expected)


def test_holes_at_the_edge_stay_open() -> None:
    labels = np.array([[5, 0, 5], [5, 5, 5]])
    np.testing.assert_array_equal(fill_holes(labels), labels)


def test_ids_may_be_huge() -> None:
    labels = np.full((3, 3), 2**31 - 1, np.int32)
    labels[1, 1] = 0
    assert (fill_holes(labels) == 2**31 - 1).all()


@settings(deadline=None)
@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 10), st.integers(1, 10)), elements=st.integers(0, 3)))
def test_filling_touches_background_only_and_leaves_no_hole(labels: np.ndarray) -> None:
    filled = fill_holes(labels)
    assert (filled[labels > 0] == labels[labels > 0]).all()
    for index in set(labels.ravel().tolist()) - {0}:
        inside = ndimage.binary_fill_holes(labels == index)
        assert (filled[inside] != 0).all()
    np.testing.assert_array_equal(fill_holes(filled), filled)


def test_remove_small_objects() -> None:
    labels = np.array([[1, 1, 0, 4], [1, 0, 9, 9]])
    layers = LabelLayers.from_labels(labels.astype(np.int32), classes={1: 1, 4: 2, 9: 2}, class_names=("a", "b"))
    _, kept = apply_steps(grey((2, 4)), layers, [{"remove_small_objects": {"min_area": 3}}])
    np.testing.assert_array_equal(kept.layers[0], [[1, 1, 0, 0], [1, 0, 0, 0]])
    assert dict(kept.classes) == {1: 1}
    assert kept.class_names == ("a", "b")


def test_rescale_by_half_halves_both() -> None:
    labels = np.kron([[0, 1, 2], [3, 0, 0], [0, 4, 4], [5, 0, 6]], np.ones((2, 2)))
    image, layers = apply_steps(grey(pixel_size=(0.5, 0.25)), layers_of(labels), [{"rescale": {"factor": 0.5}}])
    assert image.shape == (4, 3)
    assert image.dtype == np.uint16
    assert image.pixel_size == (1.0, 0.5)
    np.testing.assert_array_equal(layers.layers[0], labels[::2, ::2])


def test_rescale_up_keeps_labels_whole() -> None:
    labels = np.array([[0, 500], [3, 0]])
    image = Image.from_array(np.array([[0, 100], [100, 0]], np.uint8))
    image, layers = apply_steps(image, layers_of(labels), [{"rescale": 3}])
    np.testing.assert_array_equal(layers.layers[0], np.kron(labels, np.ones((3, 3))))
    assert image.pixels[0, 0, 0] == 0
    assert 0 < image.pixels[0, 2, 2] < 100


def test_rescaled_image_and_labels_stay_aligned() -> None:
    yy, xx = np.mgrid[:80, :70]
    disc = (yy - 31.5) ** 2 + (xx - 40.5) ** 2 < 15**2
    image = Image.from_array((disc * 200).astype(np.uint8))
    for factor in (0.37, 1.7):
        scaled, layers = apply_steps(image, layers_of(disc), [{"rescale": {"factor": factor}}])
        bright, inside = scaled.pixels[0] > 100, layers.layers[0] > 0
        assert (bright & inside).sum() / (bright | inside).sum() > 0.93
        assert scaled.shape == layers.shape


def test_an_object_that_vanishes_loses_its_class() -> None:
    labels = np.zeros((8, 6), np.int32)
    labels[:, 2:] = 1
    labels[1, 1] = 2
    _, layers = apply_steps(grey(), layers_of(labels), [{"rescale": 0.25}])
    assert set(layers.classes) == {1}


def test_rescale_to_a_pixel_size() -> None:
    image, layers = apply_steps(grey(pixel_size=(0.5, 0.25)), NONE, [{"rescale": {"pixel_size": 0.25}}])
    assert image.shape == layers.shape == (16, 6)
    assert image.pixel_size == (0.25, 0.25)
    with pytest.raises(DataError, match="does not tell its pixel size"):
        apply_steps(grey(), NONE, [{"rescale": {"pixel_size": 0.25}}])


def test_rescale_to_a_magnification() -> None:
    step = [{"rescale": {"magnification": "20x"}}]
    assert apply_steps(grey(), NONE, step, {"Magnification": "40x"})[0].shape == (4, 3)
    assert apply_steps(grey(), NONE, step, {"magnification": "20"})[0].shape == (8, 6)
    for group in ({}, {"magnification": ""}, {"magnification": "high"}, {"magnification": "0x"}):
        with pytest.raises(DataError, match="magnification is not known"):
            apply_steps(grey(), NONE, step, group)


def test_to_gray() -> None:
    colour = Image.from_array(np.full((8, 6, 3), (90, 60, 30), np.uint8))
    assert apply_steps(colour, NONE, ["to_gray"])[0].n_channels == 1
    image = grey()
    assert apply_steps(image, NONE, ["to_gray"])[0] is image


def test_select_channels() -> None:
    image = Image.from_array(np.zeros((3, 8, 6), np.uint8), axes="CYX", channels=["a", "b", "c"])
    assert apply_steps(image, NONE, [{"select_channels": ["c", 0]}])[0].channels == ("c", "a")
    with pytest.raises(ChannelError, match="0: a, 1: b, 2: c"):
        apply_steps(image, NONE, [{"select_channels": ["d"]}])


def test_steps_are_done_in_their_order() -> None:
    labels = np.zeros((8, 6), np.int32)
    labels[:4, :4] = 1
    steps = [{"remove_small_objects": 10}, {"rescale": 0.5}]
    assert apply_steps(grey(), layers_of(labels), steps)[1].layers.any()
    assert not apply_steps(grey(), layers_of(labels), steps[::-1])[1].layers.any()


def test_parsed_steps_are_accepted_again() -> None:
    steps = parse_steps(["to_gray", {"rescale": [2]}])
    assert parse_steps(steps) == steps
    assert [step.name for step in steps] == ["to_gray", "rescale"]


def test_an_unknown_step_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError) as error:
        parse_steps(["fill_label_hole"], where="data.yaml")
    text = str(error.value)
    assert all(name in text for name in STEPS)
    assert "did you mean 'fill_label_holes'?" in text
    assert "data.yaml" in text


def test_normalisation_is_no_step() -> None:
    with pytest.raises(ConfigError, match="normalisation has its own setting"):
        parse_steps([{"normalize": {"pmin": 1}}])


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"rescale": {"factor": 2, "pixel_size": 1}}, "one of factor"),
        ({"rescale": {}}, "one of factor"),
        ({"rescale": {"factor": -1}}, "greater than 0"),
        ({"rescale": {"magnification": "much"}}, "no magnification"),
        ({"rescale": {"facotr": 2}}, "facotr"),
        ({"rescale": [1, 2, 3, 4, 5]}, "too many settings"),
        ({"to_gray": 3}, "too many settings"),
        ({"select_channels": []}, "at least 1"),
        ({"remove_small_objects": "few"}, "min_area"),
        ({"a": 1, "b": 2}, "not a name"),
        (17, "not a name"),
        (None, "not a name"),
    ],
)
def test_wrong_settings_are_refused(wrong: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_steps([wrong])
