"""Gaps between objects are those of their pixels as squares, whatever shape, class and pixel size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box
from shapely.geometry.base import BaseGeometry
from shapely.ops import unary_union

from cytomask.instances import Instances
from cytomask.measuring.gaps import close_pairs, gap_between, nearest_of_classes
from cytomask.measuring.outlines import outlines


def squares(objects: Instances, i: int, size: tuple[float, float]) -> BaseGeometry:
    """An object as the union of its pixels: what the gaps are compared with."""
    y0, x0 = objects.windows[i, :2]
    return unary_union([
        box((x0 + x) * size[1], (y0 + y) * size[0], (x0 + x + 1) * size[1], (y0 + y + 1) * size[0])
        for y, x in zip(*np.nonzero(objects.mask(i)))
    ])  # fmt: skip


@st.composite
def overlapping_objects(draw: st.DrawFn) -> Instances:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 7))
    crops = [rng.random((rng.integers(1, 7), rng.integers(1, 7))) < 0.6 for _ in range(n)]
    crops = [crop if crop.any() else np.ones((1, 1), bool) for crop in crops]
    return Instances.from_crops(
        (20, 26), crops, rng.integers(0, 16, (n, 2)), classes=rng.integers(1, 4, n), class_names=("a", "b", "c")
    )


@settings(max_examples=60)
@given(overlapping_objects(), st.sampled_from([(1.0, 1.0), (0.5, 0.3)]), st.floats(0, 6))
def test_gaps_are_those_of_shapely(objects: Instances, size: tuple[float, float], reach: float) -> None:
    n = len(objects)
    shapes = [squares(objects, i, size) for i in range(n)]
    true = np.array([[a.distance(b) for b in shapes] for a in shapes])
    gap, which = nearest_of_classes(objects, size)
    for i in range(n):
        for c in range(3):
            others = [j for j in range(n) if j != i and objects.classes[j] == c + 1]
            if not others:
                assert np.isnan(gap[i, c])
                assert which[i, c] == -1
                continue
            assert gap[i, c] == pytest.approx(true[i, others].min(), abs=1e-12)
            assert which[i, c] in others
            assert true[i, which[i, c]] == pytest.approx(gap[i, c], abs=1e-12)
    i, j, gaps, shared = close_pairs(objects, reach, size)
    near = {(a, b) for a in range(n) for b in range(a + 1, n) if true[a, b] <= reach - 1e-9}
    far = {(a, b) for a in range(n) for b in range(a + 1, n) if true[a, b] > reach + 1e-9}
    found = list(zip(i.tolist(), j.tolist()))
    assert near <= set(found)
    assert not far & set(found)
    assert found == sorted(set(found))
    np.testing.assert_allclose(gaps, true[i, j], atol=1e-12)
    assert shared.tolist() == [(objects.full_mask(a) & objects.full_mask(b)).sum() for a, b in found]


def test_corner_contact_and_one_pixel_between() -> None:
    objects = Instances.from_labels(np.array([[1, 0, 0, 0], [0, 2, 0, 3]]))
    i, j, gaps, _ = close_pairs(objects, 1.0)
    assert list(zip(i, j, gaps)) == [(0, 1, 0.0), (1, 2, 1.0)]


def test_an_object_inside_another_without_a_common_outline_is_at_no_distance() -> None:
    crops = [np.ones((9, 9), bool), np.ones((1, 1), bool)]
    objects = Instances.from_crops((12, 12), crops, [(0, 0), (4, 4)], classes=[1, 2], class_names=("a", "b"))
    gap, which = nearest_of_classes(objects)
    assert (gap[0, 1], gap[1, 0], which[0, 1]) == (0, 0, 1)
    assert gap_between(outlines(objects), 1, outlines(objects), 0, (1, 1)) == 4


def test_the_rim_is_no_outline_where_it_is_open() -> None:
    objects = Instances.from_labels(np.ones((4, 4), int))
    assert len(outlines(objects).points) == 16
    assert len(outlines(objects, open_rim=True).points) == 0
    half = Instances.from_labels(np.array([[1, 1, 0, 0]] * 3))
    assert outlines(half, open_rim=True).points.tolist() == [[0, 2], [1, 2], [2, 2], [3, 2]]


def test_no_objects_and_objects_without_pixels() -> None:
    gap, which = nearest_of_classes(Instances.empty((5, 5)))
    assert gap.shape == which.shape == (0, 1)
    assert [len(part) for part in close_pairs(Instances.empty((5, 5)), 3)] == [0] * 4
    odd = Instances.from_crops((5, 5), [np.zeros((2, 2), bool), np.ones((2, 2), bool)], [(0, 0), (2, 2)])
    gap, which = nearest_of_classes(odd)
    assert np.isnan(gap).all()
    assert len(close_pairs(odd, 10)[0]) == 0
