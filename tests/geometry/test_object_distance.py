"""Depth in objects: against SciPy's transform of one object at a time, and on shapes made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from cytomask.geometry.object_distance import normalised_edt

blocks = arrays(np.int32, st.tuples(st.integers(1, 6), st.integers(1, 6)), elements=st.integers(0, 3))


def one_object_at_a_time(labels: np.ndarray) -> np.ndarray:
    depth = np.zeros(labels.shape)
    for label in np.unique(labels[labels > 0]):
        inside = labels == label
        # SciPy has no distance to nothing: around an object that fills the image, the outside begins at the border.
        distance = distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1] if inside.all() else None
        distance = distance_transform_edt(inside) if distance is None else distance
        depth[inside] = distance[inside] / distance.max()
    return depth


@settings(max_examples=150, deadline=None)
@given(blocks=blocks, scale=st.tuples(st.integers(1, 7), st.integers(1, 7)))
def test_all_objects_at_once_are_as_one_at_a_time(blocks, scale):
    labels = np.kron(blocks, np.ones(scale, np.int32))
    assert np.allclose(normalised_edt(labels), one_object_at_a_time(labels), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ragged_objects(seed):
    labels = np.random.default_rng(seed).choice(3, (17, 23), p=[0.2, 0.7, 0.1])
    assert np.allclose(normalised_edt(labels), one_object_at_a_time(labels), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(blocks=blocks, grid=st.integers(1, 4))
def test_the_grid_only_selects(blocks, grid):
    labels = np.kron(blocks, np.ones((3, 2), np.int32))
    assert np.array_equal(normalised_edt(labels, grid), normalised_edt(labels)[::grid, ::grid])


@settings(max_examples=40, deadline=None)
@given(blocks=blocks)
def test_what_value_a_label_has_does_not_matter(blocks):
    labels = np.kron(blocks, np.ones((4, 4), np.int32))
    sparse = np.array([0, 9, 70_000, 2**31 - 1])[labels]
    assert np.array_equal(normalised_edt(sparse), normalised_edt(labels))


def test_the_border_does_not_count_as_outside_unless_there_is_nothing_else():
    labels = np.zeros((3, 6), np.int32)
    labels[:, :5] = 1
    assert np.allclose(normalised_edt(labels), np.tile([1, 0.8, 0.6, 0.4, 0.2, 0], (3, 1)))
    assert np.allclose(normalised_edt(np.ones((3, 3), np.int32)), [[0.5, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 0.5]])


def test_parts_of_one_object_share_its_largest_depth():
    labels = np.array([[0, 4, 4, 4, 0, 4, 0]])
    assert np.allclose(normalised_edt(labels), [[0, 0.5, 1, 0.5, 0, 0.5, 0]])


def test_nothing_gives_nothing():
    assert normalised_edt(np.zeros((0, 4), np.int32)).shape == (0, 4)
    assert not normalised_edt(np.zeros((4, 4), np.int32)).any()
    assert not normalised_edt(np.full((4, 4), -3, np.int32)).any()


@pytest.mark.parametrize(("labels", "grid"), [(np.zeros((2, 2)), 1), (np.zeros(3, int), 1), (np.zeros((2, 2), int), 0)])
def test_wrong_arguments_are_refused(labels, grid):
    with pytest.raises(ValueError, match="must be"):
        normalised_edt(labels, grid)
