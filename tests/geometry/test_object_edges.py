from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cytomask.geometry.object_edges import gap_widths, inner_boundaries

SMALL = st.integers(1, 14)
LABELS = st.tuples(SMALL, SMALL).flatmap(
    lambda shape: arrays(np.int32, shape, elements=st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 9]))
)


def two_nearest(labels: np.ndarray) -> np.ndarray:
    """The sum of the distances to the two nearest objects, each measured by itself."""
    out = np.full(labels.shape, np.inf)
    ids = np.unique(labels[labels > 0])
    if len(ids) > 1:
        distances = np.sort([ndimage.distance_transform_edt(labels != i) for i in ids], axis=0)
        out = np.where(labels == 0, distances[0] + distances[1], np.inf)
    return out


@given(LABELS)
def test_gaps_are_those_measured_object_by_object(labels: np.ndarray) -> None:
    np.testing.assert_allclose(gap_widths(labels, 1000), two_nearest(labels), rtol=1e-6)


@given(LABELS, st.floats(0.5, 20))
def test_wider_gaps_than_the_reach_are_infinite(labels: np.ndarray, reach: float) -> None:
    expected = two_nearest(labels)
    np.testing.assert_allclose(gap_widths(labels, reach), np.where(expected <= reach, expected, np.inf), rtol=1e-6)


def test_gaps_of_hundreds_of_objects() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((70, 90), np.int32)
    for i, (y, x) in enumerate(zip(rng.integers(0, 68, 300), rng.integers(0, 88, 300))):
        labels[y : y + 2, x : x + 3] = 5 * i + 1
    np.testing.assert_allclose(gap_widths(labels, 1000), two_nearest(labels), rtol=1e-6)


@given(LABELS, st.integers(1, 8))
def test_boundaries_are_what_lies_near_another_label(labels: np.ndarray, width: int) -> None:
    expected = np.zeros(labels.shape, bool)
    for y, x in zip(*np.nonzero(labels)):
        around = labels[max(y - width, 0) : y + width + 1, max(x - width, 0) : x + width + 1]
        expected[y, x] = (around != labels[y, x]).any()
    assert (inner_boundaries(labels, width) == expected).all()


def test_images_of_no_pixels_and_boundaries_of_no_width() -> None:
    assert gap_widths(np.zeros((0, 4), np.int32), 5).shape == (0, 4)
    assert inner_boundaries(np.zeros((3, 0), np.int32)).shape == (3, 0)
    with pytest.raises(ValueError, match="at least 1"):
        inner_boundaries(np.zeros((3, 3), np.int32), 0)
