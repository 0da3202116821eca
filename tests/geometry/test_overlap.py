"""Overlap tables against counting by hand, by numpy, and mask by mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import LabelError
from cytomask.geometry.overlap import mask_overlaps, overlap_table, relabel_sequential

DTYPES = (np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64)


@st.composite
def two_label_images(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two small label images with long runs and sparse ids."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20))
    ids = st.sampled_from([0, 0, 0, 1, 2, 9, 100])
    a, b = (draw(hnp.arrays(np.int32, shape, elements=ids, fill=st.just(0))) for _ in range(2))
    return a.astype(draw(st.sampled_from(DTYPES))), b.astype(draw(st.sampled_from(DTYPES)))


def as_dict(table: tuple[np.ndarray, np.ndarray, np.ndarray]) -> dict[tuple[int, int], int]:
    return {(int(a), int(b)): int(n) for a, b, n in zip(*table)}


def test_counts_by_hand() -> None:
    a = np.array([[1, 1, 1, 0], [0, 0, 5, 5]])
    b = np.array([[0, 2, 2, 2], [0, 0, 7, 2]])
    table = overlap_table(a, b)
    assert as_dict(table) == {(0, 0): 2, (0, 2): 1, (1, 0): 1, (1, 2): 2, (5, 2): 1, (5, 7): 1}
    assert list(zip(*table)) == sorted(zip(*table))
    assert [column.dtype for column in table] == [np.int32, np.int32, np.int64]


@given(two_label_images())
@settings(deadline=None)
def test_agrees_with_numpy(images: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = images
    pairs, counts = np.unique(np.stack([a.ravel(), b.ravel()]).astype(np.int64), axis=1, return_counts=True)
    assert as_dict(overlap_table(a, b)) == as_dict((pairs[0], pairs[1], counts))


@pytest.mark.parametrize("ids", [500, 70_000])
def test_the_table_grows(ids: int) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, ids, (2, 300, 301)).astype(np.int32)
    ids_a, ids_b, counts = overlap_table(a, b)
    assert counts.sum() == a.size
    keys, expected = np.unique(a.astype(np.int64) * ids + b, return_counts=True)
    np.testing.assert_array_equal(ids_a.astype(np.int64) * ids + ids_b, keys)
    np.testing.assert_array_equal(counts, expected)


def test_the_largest_ids() -> None:
    top = 2**31 - 1
    assert as_dict(overlap_table(np.array([[top, 0]], np.int64), np.array([[1, top]]))) == {(0, top): 1, (top, 1): 1}


def test_views_and_other_memory_orders() -> None:
    labels = np.arange(24, dtype=np.int32).reshape(4, 6)
    for view in (labels[:, ::2], labels.T, np.asfortranarray(labels)):
        ids_a, ids_b, counts = overlap_table(view, view.copy())
        np.testing.assert_array_equal(ids_a, np.sort(view, axis=None))
        np.testing.assert_array_equal(ids_b, ids_a)
        assert (counts == 1).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_negative_values(dtype: type) -> None:
    labels = np.array([[3, -2]], dtype)
    for a, b in ((labels, abs(labels)), (abs(labels), labels)):
        with pytest.raises(LabelError, match="negative") as caught:
            overlap_table(a, b)
        assert "-2" in str(caught.value)


def test_wrong_input() -> None:
    with pytest.raises(LabelError, match="differ in size"):
        overlap_table(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(LabelError, match="integers"):
        overlap_table(np.zeros((2, 3)), np.zeros((2, 3), int))
    with pytest.raises(LabelError, match="too large"):
        overlap_table(np.full((2, 2), 2**31, np.uint32), np.zeros((2, 2), int))


@given(two_label_images())
@settings(deadline=None)
def test_relabelling_keeps_the_objects(images: tuple[np.ndarray, np.ndarray]) -> None:
    labels = images[0]
    new, ids = relabel_sequential(labels)
    assert new.dtype == np.int32
    assert ids.dtype == labels.dtype
    assert set(np.unique(new)) - {0} == set(range(1, len(ids) + 1))
    np.testing.assert_array_equal(np.concatenate([[0], ids])[new], labels)


def test_relabelling_refuses() -> None:
    with pytest.raises(LabelError, match="negative"):
        relabel_sequential(np.array([[-1, 2]]))
    with pytest.raises(LabelError, match="integers"):
        relabel_sequential(np.array([[0.5]]))


Masks = list[tuple[int, int, np.ndarray]]


@st.composite
def masks(draw: st.DrawFn) -> Masks:
    """Masks at random places, some of them empty, with their first row and column."""
    crop = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
    return draw(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), crop), max_size=5))


def packed(some: Masks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    windows = np.array([(y, x, y + m.shape[0], x + m.shape[1]) for y, x, m in some], np.int32).reshape(-1, 4)
    bits = [np.packbits(m) for _, _, m in some]
    offsets = np.cumsum([0, *map(len, bits)]).astype(np.int64)
    return windows, np.concatenate([*bits, np.zeros(0, np.uint8)]), offsets


@given(masks(), masks())
@settings(deadline=None)
def test_shared_pixels_mask_by_mask(some: Masks, others: Masks) -> None:
    def full(y: int, x: int, mask: np.ndarray) -> np.ndarray:
        return np.pad(mask, ((y, 40 - y - mask.shape[0]), (x, 40 - x - mask.shape[1])))

    counts = [[int((full(*a) & full(*b)).sum()) for b in others] for a in some]
    expected = {(i, j): n for i, row in enumerate(counts) for j, n in enumerate(row) if n}
    table = mask_overlaps(*packed(some), *packed(others))
    assert as_dict(table) == expected
    assert list(as_dict(table)) == sorted(expected)


def test_more_pairs_than_room() -> None:
    square = np.ones((3, 3), bool)
    one = [(0, 0, square)]
    many = [(0, 0, square)] * 200
    index_a, index_b, counts = mask_overlaps(*packed(one), *packed(many))
    assert (index_a == 0).all()
    np.testing.assert_array_equal(index_b, np.arange(200))
    assert (counts == 9).all()
