"""Bit-packed masks against plain boolean arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import LabelError
from cytomask.geometry.bit_mask_checks import check_masks, check_shape
from cytomask.geometry.bit_mask_windows import recut_masks, resample_masks, tight_windows
from cytomask.geometry.bit_masks import (
    as_label_array,
    byte_offsets,
    label_windows,
    mask_areas,
    pack_labels,
    paint_masks,
    paint_translated,
    take_masks,
)
from cytomask.geometry.layering import first_fit_layers

TOP = 2**31 - 1
DTYPES = (np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.uint64)

Packed = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def label_images(draw: st.DrawFn) -> np.ndarray:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=24))
    ids = st.sampled_from([0, 0, 0, 1, 2, 9, 100, 65_536, TOP])
    return draw(hnp.arrays(np.int32, shape, elements=ids, fill=st.sampled_from([0, 9])))


@st.composite
def packed_masks(draw: st.DrawFn, side: int = 14) -> tuple[Packed, list[np.ndarray]]:
    """Some masks in an image of ``side`` squared pixels: packed, and as full images. Windows need not be tight."""
    windows, bits, full = [], [], []
    for _ in range(draw(st.integers(0, 4))):
        y0, y1 = sorted(draw(st.tuples(st.integers(0, side), st.integers(0, side))))
        x0, x1 = sorted(draw(st.tuples(st.integers(0, side), st.integers(0, side))))
        crop = draw(hnp.arrays(bool, (y1 - y0, x1 - x0)))
        windows.append((y0, x0, y1, x1))
        bits.append(np.packbits(crop))
        full.append(np.zeros((side, side), bool))
        full[-1][y0:y1, x0:x1] = crop
    array = np.array(windows, np.int32).reshape(-1, 4)
    return (array, np.concatenate([np.zeros(0, np.uint8), *bits]), byte_offsets(array)), full


def unpack(packed: Packed, i: int, shape: tuple[int, int]) -> np.ndarray:
    windows, bits, offsets = packed
    y0, x0, y1, x1 = windows[i]
    full = np.zeros(shape, bool)
    flat = np.unpackbits(bits[offsets[i] : offsets[i + 1]], count=(y1 - y0) * (x1 - x0))
    full[y0:y1, x0:x1] = flat.reshape(y1 - y0, x1 - x0)
    return full


def bounds(mask: np.ndarray) -> list[int] | None:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else None


@given(label_images())
@settings(deadline=None)
def test_packing_agrees_with_one_comparison_per_object(labels: np.ndarray) -> None:
    ids, windows, bits, offsets = pack_labels(labels)
    assert ids.tolist() == [i for i in np.unique(labels) if i]
    assert (ids.dtype, windows.dtype, bits.dtype, offsets.dtype) == (np.int32, np.int32, np.uint8, np.int64)
    check_masks(labels.shape, windows, bits, offsets)
    for k, i in enumerate(ids):
        np.testing.assert_array_equal(unpack((windows, bits, offsets), k, labels.shape), labels == i)
        assert windows[k].tolist() == bounds(labels == i)
    np.testing.assert_array_equal(mask_areas(bits, offsets), [(labels == i).sum() for i in ids])
    assert all(np.array_equal(a, b) for a, b in zip(label_windows(labels), (ids, windows)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_integer_type_gives_the_same(dtype: type, order: str) -> None:
    labels = np.array([[0, 1, 1], [1, 0, 0]], dtype=dtype, order=order)  # type: ignore[call-overload]
    ids, windows, bits, _ = pack_labels(labels)
    assert (ids.tolist(), windows.tolist(), bits.tolist()) == ([1], [[0, 0, 2, 3]], [0b01110000])


def test_many_sparse_ids_grow_the_table() -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(1, TOP, (60, 70), dtype=np.int32)
    ids, windows, bits, offsets = pack_labels(labels)
    np.testing.assert_array_equal(ids, np.unique(labels))
    image = np.zeros_like(labels)
    paint_masks(image, np.arange(len(ids)), windows, bits, offsets, ids)
    np.testing.assert_array_equal(image, labels)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (np.zeros((2, 2)), "float64"),
        (np.zeros(4, int), "shape (4,)"),
        (np.array([[1, -3]]), "-3"),
        (np.array([[1, -3]], np.int32), "-3"),
        (np.array([[1, -3]], np.int8), "-3"),
        (np.array([[2**31]]), "2147483648"),
        (np.array([[2**63]], np.uint64), "9223372036854775808"),
    ],
)
def test_what_is_no_label_image_is_told(labels: np.ndarray, found: str) -> None:
    with pytest.raises(LabelError) as error:
        pack_labels(labels, where="truth.tif")
    assert str(error.value.found) == found
    assert error.value.where == "truth.tif"


def test_the_memory_is_not_copied_without_need() -> None:
    for dtype in (np.uint16, np.int32):
        labels = np.zeros((3, 3), dtype)
        assert np.shares_memory(as_label_array(labels), labels)


@given(packed_masks(), st.lists(st.integers(0, 3)))
@settings(deadline=None)
def test_taking(masks: tuple[Packed, list[np.ndarray]], wanted: list[int]) -> None:
    packed, full = masks
    index = np.array([i for i in wanted if i < len(full)], np.int64)
    bits, offsets = take_masks(packed[1], packed[2], index)
    taken = (packed[0][index], bits, offsets)
    check_masks((14, 14), *taken)
    for k, i in enumerate(index):
        np.testing.assert_array_equal(unpack(taken, k, (14, 14)), full[i])


@given(packed_masks(), st.randoms())
@settings(deadline=None)
def test_painting_puts_later_masks_on_top(masks: tuple[Packed, list[np.ndarray]], random: object) -> None:
    packed, full = masks
    order = np.arange(len(full))
    random.shuffle(order)  # type: ignore[attr-defined]
    for dtype in (np.uint8, np.int32):
        image, expected = np.zeros((14, 14), dtype), np.zeros((14, 14), dtype)
        paint_masks(image, order, *packed, np.arange(5, 9, dtype=dtype)[: len(full)])
        for i in order:
            expected[full[i]] = 5 + i
        np.testing.assert_array_equal(image, expected)


def test_translating_keeps_what_lies_under_the_background() -> None:
    out = np.array([[1, 1, 1, 1]], np.int32)
    paint_translated(out, np.array([[0, 9, 4, 9]], np.int32), np.array([4, 9], np.int32), np.array([7, 8], np.int32))
    assert out.tolist() == [[1, 8, 7, 8]]


@given(packed_masks(), st.tuples(*[st.integers(-2, 16)] * 4))
@settings(deadline=None)
def test_tight_windows_and_cutting(masks: tuple[Packed, list[np.ndarray]], clip: tuple[int, int, int, int]) -> None:
    packed, full = masks
    inside = np.zeros((14, 14), bool)
    inside[max(clip[0], 0) : max(clip[2], 0), max(clip[1], 0) : max(clip[3], 0)] = True
    tight = tight_windows(*packed, clip)
    cut = recut_masks(*packed, tight)
    check_masks((14, 14), *cut)
    for i, mask in enumerate(full):
        np.testing.assert_array_equal(unpack(cut, i, (14, 14)), mask & inside)
        y0, x0 = packed[0][i][:2]
        assert tight[i].tolist() == (bounds(mask & inside) or [y0, x0, y0, x0])
    for i, mask in enumerate(full):
        assert tight_windows(*packed)[i].tolist() == (bounds(mask) or [*packed[0][i][:2]] * 2)


@given(packed_masks())
@settings(deadline=None)
def test_a_larger_window_holds_the_same_mask(masks: tuple[Packed, list[np.ndarray]]) -> None:
    packed, full = masks
    larger = recut_masks(*packed, np.array([[0, 0, 14, 14]] * len(full), np.int32).reshape(-1, 4))
    for i, mask in enumerate(full):
        np.testing.assert_array_equal(unpack(larger, i, (14, 14)), mask)


@given(packed_masks(), st.integers(0, 30), st.integers(0, 30))
@settings(deadline=None)
def test_resampling_takes_the_pixel_under_the_centre(
    masks: tuple[Packed, list[np.ndarray]], height: int, width: int
) -> None:
    packed, full = masks
    resampled = resample_masks(*packed, (14, 14), (height, width))
    check_masks((height, width), *resampled)
    rows = [int((y + 0.5) * 14 / height) for y in range(height)]
    columns = [int((x + 0.5) * 14 / width) for x in range(width)]
    for i, mask in enumerate(full):
        np.testing.assert_array_equal(unpack(resampled, i, (height, width)), mask[np.ix_(rows, columns)])


GOOD = {"windows": [[0, 0, 3, 3], [1, 1, 2, 4]], "bits": [255, 128, 0b11100000], "offsets": [0, 2, 3]}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"windows": [[0, 0, 3, 3], [2, 1, 1, 4]]}, "windows[1]"),
        ({"windows": [[0, 0, 3, 3], [1, 1, 2, 6]]}, "windows[1]"),
        ({"windows": [[-1, 0, 2, 3], [1, 1, 2, 4]]}, "windows[0]"),
        ({"windows": [[0, 0, 3], [1, 1, 2]]}, "windows"),
        ({"windows": [[0, 0, 3, 2.5], [1, 1, 2, 4]]}, "windows[0, 3]"),
        ({"windows": [[0, 0, 3, np.nan], [1, 1, 2, 4]]}, "windows[0, 3]"),
        ({"windows": [["a", 0, 3, 3], [1, 1, 2, 4]]}, "windows"),
        ({"windows": [[0, 0, 3, 2**40], [1, 1, 2, 4]]}, "windows[0, 3]"),
        ({"offsets": [0, 1, 2]}, "offsets[1]"),
        ({"offsets": [0, 2]}, "offsets"),
        ({"bits": [255, 128]}, "bits"),
        ({"bits": [255, 128, 255]}, "bits of mask 1"),
        ({"bits": [255, 128, 300]}, "bits[2]"),
    ],
)
def test_masks_that_contradict_themselves_are_told(wrong: dict[str, list], where: str) -> None:
    check_masks((4, 5), **GOOD)
    with pytest.raises(LabelError) as error:
        check_masks((4, 5), **{**GOOD, **wrong})
    assert error.value.where == where
    assert error.value.found is not None
    assert error.value.expected is not None


def test_windows_without_pixels_may_lie_anywhere() -> None:
    check_masks((4, 4), [[9, 9, 9, 9], [-3, 0, 5, 0]], [], [0, 0, 0])


@pytest.mark.parametrize("shape", [(4,), (4, 5, 3), (4, -1), (4.5, 2), "ab", None])
def test_what_is_no_shape_is_told(shape: object) -> None:
    with pytest.raises(LabelError, match="height and width"):
        check_shape(shape)


@given(st.integers(1, 12), st.sets(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=40))
@settings(deadline=None)
def test_objects_of_one_layer_do_not_overlap(n: int, edges: set[tuple[int, int]]) -> None:
    both = sorted({pair for a, b in edges if a < n and b < n for pair in ((a, b), (b, a))})
    first, second = (np.array([pair[k] for pair in both], np.int64) for k in range(2))
    layers = first_fit_layers(first, second, n)
    assert all(layers[a] != layers[b] for a, b in both if a != b)
    degree = np.bincount([a for a, b in both if a != b], minlength=n)
    assert (layers <= degree).all()
    assert set(layers.tolist()) == set(range(int(layers.max()) + 1))
