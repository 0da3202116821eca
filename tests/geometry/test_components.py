"""Connected components, small objects, holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cytomask.geometry.components import connected_components, drop_small, fill_object_holes

SIDES = st.integers(1, 14)
SEEDS = st.integers(0, 2**20)


def random_labels(seed: int, height: int, width: int, top: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, top + 1, (height, width))
    # Some with larger patches of one value: nested and touching shapes come about far more often.
    return np.kron(coarse, np.ones((2, 2), int))[:height, :width] if seed % 3 == 0 else coarse


def components_slowly(classes: np.ndarray, connectivity: int) -> tuple[np.ndarray, int]:
    out, count = np.zeros(classes.shape, np.int32), 0
    for value in np.unique(classes[classes != 0]):
        parts, n = ndimage.label(classes == value, ndimage.generate_binary_structure(2, connectivity))
        out[parts > 0] = parts[parts > 0] + count
        count += n
    firsts = [int(np.flatnonzero(out.ravel() == k)[0]) for k in range(1, count + 1)]
    renumbered = np.zeros_like(out)
    for new, old in enumerate(np.argsort(firsts), start=1):
        renumbered[out == old + 1] = new
    return renumbered, count


@given(SEEDS, SIDES, SIDES, st.integers(1, 4), st.sampled_from([1, 2]), st.sampled_from([np.uint8, np.int32, np.int64]))
@settings(max_examples=200, deadline=None)
def test_components_as_labelling_each_class_by_itself(
    seed: int, height: int, width: int, top: int, connectivity: int, kind: type
) -> None:
    classes = random_labels(seed, height, width, top).astype(kind)
    labels, count = connected_components(classes, connectivity)
    expected, expected_count = components_slowly(classes, connectivity)
    assert labels.dtype == np.int32
    assert count == expected_count
    assert np.array_equal(labels, expected)


@pytest.mark.parametrize("connectivity", [1, 2])
def test_components_of_a_large_mask_as_scipy(connectivity: int) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(300, 401)), 1.5)
    mask = noise > 0
    labels, count = connected_components(mask, connectivity)
    expected, n = ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity))
    assert count == n > 100
    assert np.array_equal(labels, expected)


def test_a_spiral_is_one_component() -> None:
    spiral = np.array(
        [[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 0, 1], [1, 0, 0, 0, 1], [1, 1, 1, 1, 1]], bool
    )  # fmt: skip
    assert connected_components(spiral)[1] == 1


def test_empty_images_and_wrong_input() -> None:
    labels, count = connected_components(np.zeros((0, 5), bool))
    assert labels.shape == (0, 5)
    assert count == 0
    with pytest.raises(ValueError, match="must be 1"):
        connected_components(np.ones((2, 2), bool), 8)
    with pytest.raises(ValueError, match="float64"):
        connected_components(np.ones((2, 2)))
    with pytest.raises(ValueError, match="shape"):
        connected_components(np.ones((2, 2, 2), int))


@given(SEEDS, SIDES, SIDES, st.integers(0, 6), st.integers(0, 9), st.sampled_from([1, 1000, 2_000_000_000]))
@settings(max_examples=150, deadline=None)
def test_small_objects_go_and_the_others_are_renumbered(
    seed: int, height: int, width: int, top: int, least: int, factor: int
) -> None:
    labels = random_labels(seed, height, width, top) * factor
    got, kept = drop_small(labels, least)
    values, areas = np.unique(labels[labels > 0], return_counts=True)
    assert kept.tolist() == values[areas >= least].tolist()
    expected = np.zeros(labels.shape, np.int32)
    for new, old in enumerate(kept, start=1):
        expected[labels == old] = new
    assert got.dtype == np.int32
    assert np.array_equal(got, expected)


def test_negative_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        drop_small(np.array([[-1, 2]]), 0)


def encloses(labels: np.ndarray, label: int) -> np.ndarray:
    return np.asarray(ndimage.binary_fill_holes(labels == label))


def crosses(labels: np.ndarray) -> bool:
    """Whether two objects cross at a corner."""
    a, b, c, d = labels[:-1, :-1], labels[:-1, 1:], labels[1:, :-1], labels[1:, 1:]
    return bool(((a == d) & (b == c) & (a != b) & (a > 0) & (b > 0)).any())


@given(SEEDS, SIDES, SIDES, st.integers(1, 3))
@settings(max_examples=400, deadline=None)
def test_holes_as_scipy_fills_each_object(seed: int, height: int, width: int, top: int) -> None:
    labels = random_labels(seed, height, width, top)
    labels[np.random.default_rng(seed + 1).random(labels.shape) < 0.2] = 0
    if crosses(labels):
        return
    before = labels.copy()
    got = fill_object_holes(labels)
    assert np.array_equal(labels, before)
    around = {int(k): encloses(labels, int(k)) for k in np.unique(labels[labels > 0])}
    for y, x in np.argwhere(labels == 0):
        candidates = [k for k, filled in around.items() if filled[y, x]]
        # The innermost: the piece of it that encloses the pixel is enclosed by all others.
        assert (got[y, x] in candidates) if candidates else got[y, x] == 0
        if len(candidates) > 1:
            own = ndimage.label(labels == got[y, x], np.ones((3, 3)))[0]
            pieces = [own == n for n in range(1, own.max() + 1) if ndimage.binary_fill_holes(own == n)[y, x]]
            others = [around[k] for k in candidates if k != got[y, x]]
            assert any(all(filled[piece].all() for filled in others) for piece in pieces)
    assert np.array_equal(got[labels > 0], labels[labels > 0])


@pytest.mark.parametrize("one_object", [True, False])
def test_holes_of_noise_as_scipy(one_object: bool) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=(200, 230)), 2)
    mask = noise > -0.05
    if one_object:
        assert np.array_equal(fill_object_holes(mask) > 0, ndimage.binary_fill_holes(mask))
        assert (fill_object_holes(mask) > 0).sum() > mask.sum()
        return
    labels, count = connected_components(mask, 2)
    got = fill_object_holes(labels)
    for k in range(1, count + 1):
        filled = ndimage.binary_fill_holes(labels == k) & (labels == 0)
        others = np.isin(got, (0, k), invert=True)
        assert np.array_equal((got == k) & (labels == 0), filled & ~others)


def test_a_ring_of_corners_is_closed_and_what_lies_in_it_stays() -> None:
    ring = np.array(
        [
            [0, 0, 1, 0, 0, 0],
            [0, 1, 0, 1, 0, 0],
            [1, 0, 2, 0, 1, 0],
            [0, 1, 0, 1, 0, 0],
            [0, 0, 1, 0, 0, 0],
        ]
    )
    filled = fill_object_holes(ring)
    assert filled[2].tolist() == [1, 1, 2, 1, 1, 0]
    assert filled[0].tolist() == ring[0].tolist()


def test_what_two_objects_enclose_together_stays_background() -> None:
    two = np.array([[1, 1, 1, 1], [1, 0, 0, 2], [2, 2, 2, 2]])
    assert np.array_equal(fill_object_holes(two), two)


def test_the_innermost_of_nested_rings_takes_the_hole() -> None:
    nested = np.zeros((9, 9), int)
    nested[0:9, 0:9] = 1
    nested[1:8, 1:8] = 0
    nested[2:7, 2:7] = 2
    nested[3:6, 3:6] = 0
    filled = fill_object_holes(nested)
    assert filled[1, 1] == 1
    assert filled[4, 4] == 2


def test_a_bay_at_the_border_is_no_hole() -> None:
    bay = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 1]])
    assert np.array_equal(fill_object_holes(bay), bay)
