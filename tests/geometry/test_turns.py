"""Turning: as NumPy turns arrays, and there and back exact."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.geometry.turns import Turn
from cytomask.instance_turns import turned
from cytomask.instances import Instances

ALL = [Turn(*steps) for steps in product((False, True), repeat=3)]
PICTURE = np.arange(12).reshape(3, 4)


def objects(seed: int, shape: tuple[int, int], count: int) -> Instances:
    """Random objects that may overlap, and be empty."""
    rng = np.random.default_rng(seed)
    crops, origins = [], []
    for _ in range(count):
        size = np.array([rng.integers(1, n + 1) for n in shape])
        crops.append(rng.random(size) < rng.random())
        origins.append(tuple(rng.integers(0, np.array(shape) - size + 1)))
    return Instances.from_crops(
        shape, crops, origins, rng.integers(1, 3, count), rng.random(count), class_names=("a", "b")
    )


def test_there_are_eight_and_each_is_another():
    assert len({Turn(*steps).array(PICTURE).tobytes() for steps in product((False, True), repeat=3)}) == 8


@pytest.mark.parametrize("count", range(-1, 6))
def test_quarter_turns_are_numpys(count):
    np.testing.assert_array_equal(Turn.quarter(count).array(PICTURE), np.rot90(PICTURE, count))


@pytest.mark.parametrize("first", ALL)
def test_one_after_another_and_back(first):
    np.testing.assert_array_equal(first.inverse.array(first.array(PICTURE)), PICTURE)
    assert first.then(first.inverse) == first.inverse.then(first) == Turn()
    for second in ALL:
        both = first.then(second)
        np.testing.assert_array_equal(both.array(PICTURE), second.array(first.array(PICTURE)))
        assert both.size((3, 4)) == both.array(PICTURE).shape


@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(0, 6),
    turn=st.sampled_from(ALL),
)
def test_objects_turn_as_their_image_does(seed, height, width, count, turn):
    cells = objects(seed, (height, width), count)
    found = turned(cells, turn)
    assert found.shape == turn.size((height, width))
    np.testing.assert_array_equal(found.areas(), cells.areas())
    for i in range(len(cells)):
        np.testing.assert_array_equal(found.full_mask(i), turn.array(cells.full_mask(i)))
    # Boxes are those that the turned masks would get.
    fresh = Instances.from_packed(found.shape, found.windows, found.bits, found.offsets)
    some = cells.areas() > 0
    np.testing.assert_array_equal(found.boxes[some], fresh.boxes[some])
    back = turned(found, turn.inverse)
    for name in ("windows", "bits", "offsets", "boxes", "classes", "scores", "ids"):
        np.testing.assert_array_equal(getattr(back, name), getattr(cells, name))


def test_boxes_of_their_own_turn_too():
    cells = Instances.from_crops((10, 20), [np.ones((2, 3), bool)], [(1, 1)], boxes=[[0.25, 0.5, 4, 5.75]])
    np.testing.assert_array_equal(turned(cells, Turn(flip_x=True)).boxes, [[0.25, 14.25, 4, 19.5]])
    np.testing.assert_array_equal(turned(cells, Turn(swap=True)).boxes, [[0.5, 0.25, 5.75, 4]])
    np.testing.assert_array_equal(turned(cells, Turn.quarter(1)).boxes, [[14.25, 0.25, 19.5, 4]])
