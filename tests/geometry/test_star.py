"""Star distances on shapes made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cytomask.geometry.star import ray_angles, star_distances, star_vertices

label_images = arrays(np.int32, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.integers(0, 3))


def test_rays_begin_at_the_column_axis_and_turn_towards_growing_rows():
    labels = np.zeros((20, 30), np.int32)
    labels[4:17, 6:26] = 7
    # From (10, 15): 10 columns to the right, 6 rows down, 9 columns to the left, 6 rows up, and half a pixel each.
    assert star_distances(labels, 4, grid=1)[10, 15].tolist() == [10.5, 6.5, 9.5, 6.5]
    corners = star_vertices(np.array([[10, 15]]), np.array([[10.5, 6.5, 9.5, 6.5]]))
    assert np.allclose(corners[0], [[10, 25.5], [16.5, 15], [10, 5.5], [3.5, 15]], atol=1e-5)


def test_a_ray_stops_at_another_label_and_at_the_border():
    labels = np.array([[1, 1, 1, 2, 2]])
    assert star_distances(labels, 4, grid=1)[0, :, 0].tolist() == [2.5, 1.5, 0.5, 1.5, 0.5]
    assert star_distances(labels, 4, grid=1)[0, :, 2].tolist() == [0.5, 1.5, 2.5, 0.5, 1.5]


@pytest.mark.parametrize(("grid", "size"), [(1, (5, 7)), (2, (3, 4)), ((2, 3), (3, 3)), (9, (1, 1))])
def test_grid_points_are_every_so_many_pixels_from_the_first(grid, size):
    labels = np.array([[1, 1, 2, 0, 3, 3, 4]] * 3 + [[5, 5, 0, 2, 2, 6, 6]] * 2)
    fine = star_distances(labels, 8, 1)
    coarse = star_distances(labels, 8, grid)
    step_y, step_x = grid if isinstance(grid, tuple) else (grid, grid)
    assert coarse.shape == (*size, 8)
    assert np.array_equal(coarse, fine[::step_y, ::step_x])


@settings(max_examples=60, deadline=None)
@given(labels=label_images, dy=st.integers(0, 40), dx=st.integers(0, 40), n_rays=st.sampled_from([4, 8, 16, 32]))
def test_moving_a_surrounded_object_moves_its_distances(labels, dy, dx, n_rays):
    labels = np.pad(labels, 1)
    height, width = labels.shape
    moved = np.zeros((height + dy, width + dx), np.int32)
    moved[dy:, dx:] = labels
    # Not so for multiples of 3 rays: half steps end on the edge between two pixels, and go to the even one.
    assert np.allclose(star_distances(moved, n_rays, 1)[dy:, dx:], star_distances(labels, n_rays, 1), atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(labels=label_images)
def test_what_value_a_label_has_does_not_matter(labels):
    values = np.array([0, 5, 5 + 2**16, 2**31 - 1])
    assert np.array_equal(star_distances(values[labels], 8, 1), star_distances(labels, 8, 1))


@settings(max_examples=40, deadline=None)
@given(labels=label_images, threads=st.integers(2, 5))
def test_threads_do_not_matter(labels, threads):
    assert np.array_equal(star_distances(labels, 8, 1, threads=threads), star_distances(labels, 8, 1))


def test_background_is_zero_and_nothing_is_nothing():
    assert not star_distances(np.zeros((6, 6), np.uint8), 8, 2).any()
    assert star_distances(np.zeros((0, 5), np.int32), 8, 2).shape == (0, 3, 8)
    assert star_vertices(np.zeros((0, 2)), np.zeros((0, 8))).shape == (0, 8, 2)


def test_angles():
    assert np.allclose(ray_angles(32), np.linspace(0, 2 * np.pi, 32, endpoint=False), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 3)), 8, 1), "integer array, not float64"),
        ((np.zeros((3, 3, 3), int), 8, 1), "two-dimensional"),
        ((np.zeros((3, 3), int), 2, 1), "at least 3 rays"),
        ((np.zeros((3, 3), int), 8, 0), "grid must be at least 1"),
        ((np.full((3, 3), 2**31), 8, 1), "at most 2147483647, not 2147483648"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        star_distances(*arguments)


def test_points_and_distances_must_fit():
    with pytest.raises(ValueError, match=r"\(2, 2\) and \(3, 8\)"):
        star_vertices(np.zeros((2, 2)), np.zeros((3, 8)))
