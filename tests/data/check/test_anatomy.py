"""Pieces, holes and hulls of masks, against scipy."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_fill_holes, label
from scipy.spatial import ConvexHull

from cytomask.data.check.anatomy import describe_objects, fill, hull_area, piece_gaps
from cytomask.instances import Instances

masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))
EIGHT = np.ones((3, 3), int)


@given(masks)
@settings(max_examples=150, deadline=None)
def test_pieces_and_holes_agree_with_scipy(mask: np.ndarray) -> None:
    if not mask.any():
        return
    found = describe_objects(Instances.from_labels(mask.astype(np.int32)))
    pieces, count = label(mask, EIGHT)
    filled = binary_fill_holes(mask)
    assert found.pieces.tolist() == [count]
    assert found.largest.tolist() == [np.bincount(pieces.ravel())[1:].max()]
    assert found.holes.tolist() == [int((filled & ~mask).sum())]
    np.testing.assert_array_equal(fill(mask), filled)


@given(masks)
@settings(max_examples=150, deadline=None)
def test_the_hull_is_that_of_the_pixels_corners(mask: np.ndarray) -> None:
    if not mask.any():
        assert hull_area(mask) == 0
        return
    y, x = np.nonzero(mask)
    corners = np.concatenate([np.stack([y + dy, x + dx], axis=1) for dy in (0, 1) for dx in (0, 1)])
    np.testing.assert_allclose(hull_area(mask), ConvexHull(corners).volume, rtol=1e-12)


def test_touching_the_border_is_told() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[0:2, 3:5], labels[4:6, 4:6], labels[7:9, 7:9] = 1, 2, 3
    assert describe_objects(Instances.from_labels(labels)).touching.tolist() == [True, False, True]


def test_an_image_without_objects() -> None:
    assert len(describe_objects(Instances.empty((5, 5)))) == 0


def test_gaps_are_measured_from_the_largest_piece() -> None:
    mask = np.zeros((12, 20), bool)
    mask[2:8, 2:8] = True
    mask[2:4, 13:15] = True
    mask[11, 2] = True
    others = np.zeros_like(mask)
    others[:, 9:12] = True
    (near, far) = sorted(found[:3] for found in piece_gaps(mask, others))
    assert near == (1, 4.0, 0.0)
    assert far[:2] == (4, 6.0)
    assert far[2] == 3 / 5
    assert [found[2] for found in piece_gaps(mask)] == [0.0, 0.0]
