"""Outlines: exact there and back; hand-drawn polygons by the centres of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import grid_points_in_poly

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_masks
from cytomask.geometry.bit_masks import byte_offsets
from cytomask.geometry.outline import fill_outlines, mask_outlines

small_masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=10))


def outlines(mask: np.ndarray, holes: bool = True) -> list[np.ndarray]:
    windows = np.array([[0, 0, *mask.shape]], np.int32)
    return mask_outlines(windows, np.packbits(mask), byte_offsets(windows), holes)[0]


def filled(shape: tuple[int, int], polygon: object, rule: str = "even-odd") -> np.ndarray:
    windows, bits, offsets = fill_outlines(shape, [polygon], rule)  # type: ignore[list-item, arg-type]
    check_masks(shape, windows, bits, offsets)
    y0, x0, y1, x1 = windows[0]
    out = np.zeros(shape, bool)
    out[y0:y1, x0:x1] = np.unpackbits(bits, count=(y1 - y0) * (x1 - x0)).reshape(y1 - y0, x1 - x0)
    return out


def area(ring: np.ndarray) -> float:
    """Twice-signed area by the shoelace formula; above 0 when clockwise on the screen."""
    y, x = ring.T.astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@given(small_masks)
@settings(deadline=None, max_examples=300)
def test_outlines_lose_nothing(mask: np.ndarray) -> None:
    np.testing.assert_array_equal(filled(mask.shape, outlines(mask)), mask)


@given(small_masks)
@settings(deadline=None, max_examples=300)
def test_rings_are_simple_and_belong_to_pieces(mask: np.ndarray) -> None:
    rings = outlines(mask)
    _, n_pieces = ndimage.label(mask)
    assert sum(area(ring) > 0 for ring in rings) == n_pieces
    assert sum(area(ring) for ring in rings) == mask.sum()
    for ring in rings:
        assert len({tuple(point) for point in ring.tolist()}) == len(ring), "a ring touches itself"
        steps = np.diff(ring, axis=0, append=ring[:1])
        assert ((steps == 0).sum(axis=1) == 1).all(), "a step is neither along a row nor along a column"
        assert ((steps[:, 0] == 0) != np.roll(steps[:, 0] == 0, 1)).all(), "a point lies on a straight line"
    # A hole follows the outer ring of the piece that it is in.
    for ring in rings:
        if area(ring) > 0:
            outer = filled(mask.shape, ring)
        else:
            assert (filled(mask.shape, ring) & ~outer).sum() == 0


@given(small_masks)
@settings(deadline=None)
def test_without_holes_every_piece_is_filled(mask: np.ndarray) -> None:
    labels, n = ndimage.label(mask)
    expected = np.zeros_like(mask)
    for piece in range(1, n + 1):
        expected |= ndimage.binary_fill_holes(labels == piece)
    np.testing.assert_array_equal(filled(mask.shape, outlines(mask, holes=False), "union"), expected)


def test_a_ring_by_hand() -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    outer, hole = outlines(mask)
    assert outer.tolist() == [[-0.5, -0.5], [-0.5, 2.5], [2.5, 2.5], [2.5, -0.5]]
    assert sorted(hole.tolist()) == [[0.5, 0.5], [0.5, 1.5], [1.5, 0.5], [1.5, 1.5]]
    assert area(hole) == -1
    assert outer.dtype == np.float32


def test_a_ring_that_closes_in_a_corner_has_a_hole() -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    assert [area(ring) for ring in outlines(mask)] == [8, -1]


def test_many_objects_at_once() -> None:
    rng = np.random.default_rng(0)
    masks = [rng.random((9, 9)) < 0.6 for _ in range(200)]
    corners = rng.integers(0, 90, (200, 2))
    windows = np.concatenate([corners, corners + 9], axis=1).astype(np.int32)
    bits = np.concatenate([np.packbits(mask) for mask in masks])
    rings = mask_outlines(windows, bits, byte_offsets(windows))
    for (y, x), mask, own in zip(corners, masks, rings):
        np.testing.assert_array_equal(filled((99, 99), own)[y : y + 9, x : x + 9], mask)


@given(hnp.arrays(np.float64, (5, 2), elements=st.floats(-4, 14)), st.sampled_from(["even-odd", "union"]))
@settings(deadline=None, max_examples=200)
def test_a_polygon_has_the_centres_that_lie_inside(points: np.ndarray, rule: str) -> None:
    # Moved by an odd amount, so that no centre lies on an outline, where the rules differ.
    points = np.round(points, 1) + np.array([0.0131, 0.0277])
    expected = grid_points_in_poly((10, 11), points)
    np.testing.assert_array_equal(filled((10, 11), points, rule), expected)


def test_neighbours_share_no_pixel_and_leave_none_out() -> None:
    rng = np.random.default_rng(3)
    middle = rng.uniform(3, 7, 2)
    corners = np.array([(0, 0), (0, 10), (10, 10), (10, 0)], float)
    triangles = [np.stack([middle, corners[i], corners[(i + 1) % 4]]) for i in range(4)]
    assert (sum(filled((12, 12), t).astype(int) for t in triangles)[:10, :10] == 1).all()
    np.testing.assert_array_equal(filled((12, 12), corners).nonzero()[0].max(), 9)


def test_rules_for_several_rings() -> None:
    outer = np.array([(0, 0), (0, 6), (6, 6), (6, 0)]) - 0.5
    inner = np.array([(2, 2), (2, 4), (4, 4), (4, 2)]) - 0.5
    assert filled((9, 9), [outer, inner]).sum() == 36 - 4
    assert filled((9, 9), [outer, inner], "union").sum() == 36
    assert filled((9, 9), [outer, inner + 3], "union").sum() == 36 + 3
    np.testing.assert_array_equal(filled((9, 9), [outer, inner]), filled((9, 9), [outer[::-1], inner]))


def test_far_beyond_the_image() -> None:
    huge = [(-1e12, -1e12), (-1e12, 1e12), (1e12, 1e12), (1e12, -1e12)]
    assert filled((5, 7), huge).all()
    assert not filled((5, 7), np.array(huge) + 3e12).any()
    assert filled((5, 7), []).sum() == 0


@pytest.mark.parametrize(
    ("polygon", "where", "message"),
    [
        ([(0, 0), (1, 1)], "polygons[1]", "too few points"),
        ([[(0, 0), (1, 1), (1, 0)], [(0, 0), (1, 1)]], "polygons[1][1]", "too few points"),
        ([(0, 0, 0), (1, 1, 1), (2, 2, 2)], "polygons[1]", "not made of points"),
        ([0, 0, 1, 1, 2, 2], "polygons[1][0]", "not made of points"),
        (7, "polygons[1]", "not made of points"),
        ([(0, 0), (1, np.nan), (1, 0)], "polygons[1]", "nowhere"),
        ([(0, 0), (1, "a"), (1, 0)], "polygons[1]", "not made of points"),
    ],
)
def test_what_is_no_polygon_is_told(polygon: object, where: str, message: str) -> None:
    with pytest.raises(LabelError, match=message) as error:
        fill_outlines((9, 9), [[(0, 0), (3, 3), (3, 0)], polygon])  # type: ignore[list-item]
    assert error.value.where == where


def test_an_unknown_rule_is_told() -> None:
    with pytest.raises(LabelError, match="no such rule"):
        fill_outlines((9, 9), [], "nonzero")  # type: ignore[arg-type]
