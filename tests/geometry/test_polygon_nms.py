"""Polygon suppression: against exact rational areas, and on polygons made by hand."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cytomask.geometry.polygon_nms import polygon_nms
from cytomask.geometry.star import star_vertices


def intervals(corners: list[tuple[int, int]], y: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Where the line at height y is inside a polygon, by winding number."""
    crossings = []
    for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y0 < y) != (y1 < y):
            crossings.append((x0 + (x1 - x0) * (y - y0) / (y1 - y0), 1 if y1 > y0 else -1))
    found, winding, begin = [], 0, Fraction(0)
    for x, direction in sorted(crossings):
        if winding == 0:
            begin = x
        winding += direction
        if winding == 0:
            found.append((begin, x))
    return found


def heights_of_crossings(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> set[Fraction]:
    heights = set()
    for (ay, ax), (by, bx) in zip(a, a[1:] + a[:1], strict=True):
        for (cy, cx), (dy, dx) in zip(b, b[1:] + b[:1], strict=True):
            turn = (by - ay) * (dx - cx) - (bx - ax) * (dy - cy)
            if turn:
                along = Fraction((cy - ay) * (dx - cx) - (cx - ax) * (dy - cy), turn)
                if 0 <= along <= 1:
                    heights.add(ay + along * (by - ay))
    return heights


def exact_shared_area(a: list[tuple[int, int]], b: list[tuple[int, int]]) -> Fraction:
    """Between heights where nothing begins, ends or crosses, the shared width is linear: its middle is its mean."""
    heights = sorted({Fraction(y) for y, _ in a + b} | heights_of_crossings(a, b))
    area = Fraction(0)
    for low, high in pairwise(heights):
        middle = (low + high) / 2
        for left_a, right_a in intervals(a, middle):
            for left_b, right_b in intervals(b, middle):
                area += max(min(right_a, right_b) - max(left_a, left_b), Fraction(0)) * (high - low)
    return area


def exact_survivors(points, distances, scores, threshold: Fraction) -> tuple[np.ndarray, Fraction]:
    """Greedy suppression over all pairs, and how close to the threshold the closest decision was."""
    corners = [[(int(y), int(x)) for y, x in polygon] for polygon in star_vertices(points, distances)]
    areas = [exact_shared_area(c, c) for c in corners]
    keep, closest = np.zeros(len(points), bool), Fraction(1)
    for j in np.argsort(-np.asarray(scores), kind="stable"):
        keep[j] = True
        for i in np.nonzero(keep)[0]:
            smaller = min(areas[i], areas[j])
            if i != j and smaller:
                overlap = exact_shared_area(corners[i], corners[j]) / smaller
                closest = min(closest, abs(overlap - threshold))
                if overlap > threshold:
                    keep[j] = False
                    break
    return keep, closest


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 9),
    spread=st.integers(1, 60),
    reach=st.integers(5, 25),
    percent=st.integers(0, 100),
)
def test_survivors_are_those_of_exact_areas(seed, count, spread, reach, percent):
    rng = np.random.default_rng(seed)
    points = rng.integers(-spread, spread + 1, (count, 2)).astype(np.float32)
    distances = rng.uniform(4, reach, (count, 8)).astype(np.float32)
    scores = rng.integers(0, 5, count) / 4
    expected, closest = exact_survivors(points, distances, scores, Fraction(percent, 100))
    # Overlaps within rounding error of the threshold count as equal to it; exactly equal ones must not suppress.
    assume(closest == 0 or closest > 1e-8)
    assert np.array_equal(polygon_nms(points, distances, scores, percent / 100), expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), threshold=st.floats(0.1, 0.9))
def test_one_large_polygon_among_small_ones_does_not_change_the_search(seed, threshold):
    """Sizes from one pixel to more than the whole field, some far away: the search grid must miss no pair."""
    rng = np.random.default_rng(seed)
    count = 60
    points = rng.integers(0, 200, (count, 2)).astype(np.float32)
    points[::20] += 5_000
    distances = (2.0 ** rng.uniform(0, 8, (count, 1)) * rng.uniform(0.8, 1.2, (count, 12))).astype(np.float32)
    scores = rng.uniform(0, 1, count)
    together = polygon_nms(points, distances, scores, threshold)
    kept: list[int] = []
    for j in np.argsort(-scores, kind="stable"):
        pairs = [polygon_nms(points[[i, j]], distances[[i, j]], np.array([1.0, 0.0]), threshold)[1] for i in kept]
        if all(pairs):
            kept.append(int(j))
    assert sorted(kept) == np.nonzero(together)[0].tolist()


# Fixed places: where an edge runs through the middle of a pixel (one set in 250 has such a pair at the threshold),
# the last bit of single precision decides, and that differs from place to place.
@pytest.mark.parametrize(("dy", "dx"), [(1, 0), (0, 17), (300, 41), (2999, 1234)])
@pytest.mark.parametrize("seed", range(12))
def test_moving_all_by_whole_pixels_changes_nothing(seed, dy, dx):
    rng = np.random.default_rng(seed)
    points = rng.integers(30, 90, (30, 2)).astype(np.float32)
    # Whole and half distances along the axes: single precision keeps them at any place.
    distances = rng.integers(2, 40, (30, 4)).astype(np.float32) / 2
    scores = rng.uniform(0, 1, 30)
    here = polygon_nms(points, distances, scores, 0.4)
    there = polygon_nms(points + np.array([dy, dx], np.float32), distances, scores, 0.4)
    assert np.array_equal(here, there)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_matters_only_among_equal_scores(seed):
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 40, (25, 2)).astype(np.float32)
    distances = rng.uniform(3, 9, (25, 16)).astype(np.float32)
    scores = rng.permutation(25) / 25
    shuffle = rng.permutation(25)
    keep = polygon_nms(points, distances, scores, 0.3)
    assert np.array_equal(polygon_nms(points[shuffle], distances[shuffle], scores[shuffle], 0.3), keep[shuffle])


def test_of_equal_scores_the_first_is_kept():
    points, distances = np.full((3, 2), 50.0), np.full((3, 8), 6.0)
    assert polygon_nms(points, distances, np.array([0.5, 0.5, 0.5]), 0.4).tolist() == [True, False, False]
    assert polygon_nms(points, distances, np.array([0.1, 0.9, 0.9]), 0.4).tolist() == [False, True, False]


def test_an_overlap_equal_to_the_threshold_is_tolerated():
    # Squares on their corners, moved by half their width and height: a quarter is shared.
    points, distances = np.array([[20, 20], [24, 24]]), np.full((2, 4), 8.0)
    scores = np.array([1.0, 0.5])
    assert polygon_nms(points, distances, scores, 0.5).tolist() == [True, True]
    assert polygon_nms(points, distances, scores, 0.499).tolist() == [True, False]


def test_the_smaller_area_decides():
    """A nucleus inside a large cell shares all of itself, and only a little of the cell."""
    points, distances = np.array([[50, 50], [50, 60]]), np.array([[40.0] * 16, [5.0] * 16])
    assert polygon_nms(points, distances, np.array([0.9, 0.8]), 0.95).tolist() == [True, False]
    assert polygon_nms(points, distances, np.array([0.8, 0.9]), 0.95).tolist() == [False, True]


def test_a_threshold_of_one_keeps_all_and_of_zero_nothing_that_overlaps():
    points, distances = np.array([[20, 20], [20, 21], [20, 60]]), np.full((3, 8), 7.0)
    scores = np.array([0.9, 0.8, 0.7])
    assert polygon_nms(points, distances, scores, 1.0).all()
    assert polygon_nms(points, distances, scores, 0.0).tolist() == [True, False, True]


def test_polygons_without_area_are_kept_and_suppress_nothing():
    points = np.full((4, 2), 10.0)
    distances = np.zeros((4, 8))
    distances[3] = 5
    assert polygon_nms(points, distances, np.array([0.9, 0.8, 0.7, 0.1]), 0.1).all()


def test_negative_and_mixed_distances_give_some_answer():
    rng = np.random.default_rng(0)
    points = rng.uniform(-50, 50, (200, 2))
    distances = rng.normal(0, 20, (200, 32))
    keep = polygon_nms(points, distances, rng.uniform(0, 1, 200), 0.4)
    assert keep.any()
    assert not polygon_nms(np.zeros((2, 2)), np.full((2, 8), -9.0), np.array([0.2, 0.1]), 0.4)[1]


def test_absurdly_large_polygons_take_neither_long_nor_much_memory():
    points = np.array([[0.0, 0.0], [1e30, -1e30], [5.0, 5.0]])
    distances = np.array([[1e30] * 8, [3.0] * 8, [3.0] * 8])
    keep = polygon_nms(points, distances, np.array([0.1, 0.2, 0.3]), 0.4)
    assert keep.tolist() == [False, True, True]


def test_nothing_in_nothing_out():
    assert polygon_nms(np.zeros((0, 2)), np.zeros((0, 32)), np.zeros(0), 0.4).shape == (0,)
    assert polygon_nms(np.zeros((1, 2)), np.ones((1, 32)), np.ones(1), 0.0).tolist() == [True]


@pytest.mark.parametrize(
    ("points", "distances", "scores", "message"),
    [
        (np.zeros((2, 3)), np.ones((2, 8)), np.ones(2), r"\(2, 3\), \(2, 8\) and \(2,\)"),
        (np.zeros((2, 2)), np.ones((3, 8)), np.ones(2), "do not fit"),
        (np.zeros((2, 2)), np.ones((2, 8)), np.ones(3), "do not fit"),
        (np.zeros((2, 2)), np.ones((2, 2)), np.ones(2), "at least 3 rays"),
        (np.zeros((2, 2)), np.full((2, 8), np.nan), np.ones(2), "distances: 16 of 16"),
        (np.full((2, 2), np.inf), np.ones((2, 8)), np.ones(2), "points: 4 of 4"),
        (np.zeros((2, 2)), np.ones((2, 8)), np.array([1, np.nan]), "scores: 1 of 2"),
    ],
)
def test_wrong_arguments_are_named(points, distances, scores, message):
    with pytest.raises(ValueError, match=message):
        polygon_nms(points, distances, scores, 0.4)
