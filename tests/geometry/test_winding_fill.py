"""Filling by winding number: against angles summed up, against outlines of masks, and at edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.geometry import winding_fill
from cytomask.geometry.winding_fill import fill_rings
from cytomask.instances import Instances


def full(shape: tuple[int, int], rings: list[np.ndarray], rule: str) -> np.ndarray:
    crop, (y, x) = fill_rings(shape, rings, rule)
    image = np.zeros(shape, bool)
    image[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    return image


def winding_by_angles(shape: tuple[int, int], rings: list[np.ndarray]) -> np.ndarray:
    """How often rings run round each pixel's centre: the angles under which their edges are seen, summed up."""
    centres = np.stack(np.mgrid[: shape[0], : shape[1]], -1)[:, :, None].astype(float)
    turns = np.zeros(shape)
    for ring in rings:
        a, b = ring - centres, np.roll(ring, -1, axis=0) - centres
        cross, dot = a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1], (a * b).sum(-1)
        turns += np.arctan2(cross, dot).sum(-1) / (2 * np.pi)
    return np.rint(turns).astype(int)


# No point lies in a row or column of centres, so that no edge can run through a centre along one; others hardly do.
coordinates = st.integers(-3, 12).map(lambda k: k + 0.4142)
rings_of_points = st.lists(
    st.lists(st.tuples(coordinates, coordinates.map(lambda x: x + 0.3183)), min_size=3, max_size=7).map(np.array),
    min_size=1, max_size=3,
)  # fmt: skip


@settings(deadline=None)
@given(rings_of_points)
def test_what_rings_wind_round_is_inside(rings):
    shape = (9, 10)
    winding = winding_by_angles(shape, rings)
    np.testing.assert_array_equal(full(shape, rings, "nonzero"), winding != 0)
    np.testing.assert_array_equal(full(shape, rings, "even-odd"), winding % 2 == 1)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_outlines_of_masks_give_the_masks(seed, fine):
    rng = np.random.default_rng(seed)
    mask = rng.random((11, 13)) < (0.5 if fine else 0.9)
    objects = Instances.from_labels(mask.astype(int))
    for rings in objects.to_polygons():
        for rule in ("nonzero", "even-odd"):  # holes run the other way round
            np.testing.assert_array_equal(full(mask.shape, rings, rule), mask)


@settings(deadline=None)
@given(rings_of_points)
def test_even_odd_is_as_outlines_are_filled(rings):
    expected = Instances.from_polygons((9, 10), [rings])
    np.testing.assert_array_equal(full((9, 10), rings, "even-odd"), expected.full_mask(0))


def test_centres_on_edges_belong_to_the_right_and_below():
    left, right = np.array([(0, 0), (0, 2), (3, 2), (3, 0)]), np.array([(0, 2), (0, 4), (3, 4), (3, 2)])
    a, b = (full((5, 6), [ring], "nonzero") for ring in (left, right))
    assert np.argwhere(a).tolist() == [[y, x] for y in range(3) for x in range(2)]
    assert np.argwhere(b).tolist() == [[y, x] for y in range(3) for x in (2, 3)]


def test_a_loop_is_inside_unless_odd():
    loop = np.array([(0.5, 0.5), (0.5, 6.5), (6.5, 6.5), (6.5, 0.5)])
    twice = np.concatenate([loop, loop])
    assert full((8, 8), [twice], "nonzero").sum() == 36
    assert full((8, 8), [twice], "even-odd").sum() == 0


@pytest.mark.parametrize(
    "rings", [[], [np.zeros((0, 2))], [np.array([(1, 1), (5, 5)])], [np.full((3, 2), 99.0)], [np.full((3, 2), -9.0)]]
)
def test_nothing_inside(rings):
    assert not full((6, 6), rings, "nonzero").any()


def test_large_drawings_are_filled_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    rings = [rng.random((50, 2)) * 40 - 4]
    expected = full((30, 33), rings, "even-odd")
    monkeypatch.setattr(winding_fill, "_AT_ONCE", 7)
    np.testing.assert_array_equal(full((30, 33), rings, "even-odd"), expected)
