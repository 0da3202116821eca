"""Masks of networks as pixels: the reference's pixels, in bits that go there and back."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.geometry.mask_paste import paste_masks
from cytomask.instances import Instances

FIXTURES = Path(__file__).parents[1] / "models" / "region" / "fixtures"


def pasted(logits: np.ndarray, boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    windows, bits, offsets = paste_masks(logits, np.asarray(boxes), shape)
    assert (windows.dtype, bits.dtype, offsets.dtype) == (np.int32, np.uint8, np.int64)
    # Instances check that what is packed is consistent, down to the bits behind the last pixel.
    masks = Instances.from_packed(shape, windows, bits, offsets)
    images = np.zeros((len(masks), *shape), bool)
    for i, (y0, x0, y1, x1) in enumerate(windows):
        images[i, y0:y1, x0:x1] = piece = masks.mask(i)
        # The window is as small as can be, and all zero where there is no pixel.
        for side in (piece[:1], piece[-1:], piece[:, :1], piece[:, -1:]):
            assert side.any() if piece.size else (y0, x0, y1, x1) == (0, 0, 0, 0)
    return images


def interpolated(logits: np.ndarray, box: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Probabilities at the pixels' centres, in double precision, by products of hat functions around the cells."""
    side = len(logits)
    cells = np.arange(side)
    shares = []
    for begin, end, size in ((box[0], box[2], shape[0]), (box[1], box[3], shape[1])):
        at = (np.arange(size) + 0.5 - begin) / (end - begin) * side - 0.5
        shares.append(np.maximum(1 - np.abs(at[:, None] - cells), 0))
    return shares[0] @ (1 / (1 + np.exp(-logits.astype(float)))) @ shares[1].T


def test_pixels_are_those_of_detectron2():
    maker = runpy.run_path(str(FIXTURES / "make_masks.py"))
    logits, boxes, shape = maker["masks_to_paste"]()
    with np.load(FIXTURES / "masks.npz") as stored:
        expected = np.unpackbits(stored["pasted"], count=len(boxes) * shape[0] * shape[1]).reshape(-1, *shape)
    assert expected.sum() > 10_000
    assert np.array_equal(pasted(logits, boxes, shape), expected)


@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.sampled_from([1, 2, 3, 7, 28]),
    half=st.booleans(),
    height=st.integers(0, 24),
    width=st.integers(0, 24),
)
def test_a_plain_interpolation_gives_the_same(seed, side, half, height, width):
    rng = np.random.default_rng(seed)
    # Smooth and rough masks, sure and unsure ones, among them some with nothing but -0.005 … 0.005.
    logits = rng.normal(0, rng.choice([0.005, 1, 20], (6, 1, 1)), (6, side, side)) + rng.choice([0, 2, -2], (6, 1, 1))
    logits = logits.astype(np.float16 if half else np.float32)
    start = rng.uniform(-30, 30, (6, 2))
    boxes = np.concatenate([start, start + rng.uniform(0.1, 40, (6, 2))], axis=1).astype(np.float32)
    if seed % 2:
        boxes = np.rint(boxes * 2) / 2 + np.array([0, 0, 1, 1], np.float32)
    for mask, values, box in zip(pasted(logits, boxes, (height, width)), logits, boxes, strict=True):
        expected = interpolated(values, box, (height, width))
        # Where the probability is a half but for rounding, either is right.
        decided = np.abs(expected - 0.5) > 1e-5
        assert np.array_equal(mask[decided], (expected >= 0.5)[decided])


def test_a_half_is_inside():
    # All cells undecided: inside wherever the background beyond the mask does not weigh in.
    (mask,) = pasted(np.zeros((1, 4, 4), np.float32), [[2, 2, 10, 10]], (12, 12))
    expected = np.zeros((12, 12), bool)
    expected[3:9, 3:9] = True
    assert np.array_equal(mask, expected)
    (mask,) = pasted(np.full((1, 4, 4), -1e-3, np.float32), [[2, 2, 10, 10]], (12, 12))
    assert not mask.any()


def test_a_sure_mask_fills_its_box_but_for_its_corners():
    (mask,) = pasted(np.full((1, 28, 28), 30, np.float32), [[1, 2, 57, 58]], (60, 60))
    expected = np.zeros((60, 60), bool)
    expected[1:57, 2:58] = True
    assert np.array_equal(mask, expected)
    # Cells of 10 pixels: at a corner, the four cells' mean is a quarter.
    (mask,) = pasted(np.full((1, 2, 2), 30, np.float32), [[0, 0, 20, 20]], (20, 20))
    assert not mask[0, 0]
    assert mask[0, 10]
    assert mask[5, 0]


def test_boxes_across_the_sides_of_the_image_are_cut_off():
    logits = np.full((1, 7, 7), 9, np.float32)
    (whole,) = pasted(logits, [[10, 10, 30, 40]], (50, 50))
    (cut,) = pasted(logits, [[-10, -15, 10, 15]], (12, 20))
    assert np.array_equal(cut, whole[20:32, 25:45])
    (cut,) = pasted(logits, [[10, 10, 30, 40]], (15, 31))
    assert np.array_equal(cut, whole[:15, :31])


@pytest.mark.parametrize(
    "box",
    [
        (5, 5, 5, 9), (5, 5, 9, 5), (9, 5, 5, 9), (5, 9, 9, 5), (np.nan, 5, 9, 9), (5, 5, np.inf, 9),
        (5, -np.inf, 9, 9), (-9, 5, -1, 9), (5, 30, 9, 39), (1e30, 5, 2e30, 9), (-2e38, 5, -1e38, 9),
    ],
)  # fmt: skip
def test_boxes_without_pixels_have_empty_masks_and_do_not_disturb_others(box):
    logits = np.full((3, 4, 4), 9, np.float32)
    good = (2, 2, 8, 9)
    masks = pasted(logits, np.array([good, box, good], np.float32), (20, 20))
    assert not masks[1].any()
    assert masks[0].sum() > 30
    assert np.array_equal(masks[0], masks[2])


def test_extreme_boxes():
    logits = np.full((3, 4, 4), 9, np.float32)
    logits[2] = -9
    # Far larger than the image, thinner than a pixel around a pixel's centre, and no bigger than rounding.
    boxes = np.array([[-1e30, -1e30, 1e30, 1e30], [4.49, 0, 4.51, 20], [4.5, 0, 4.5000005, 20]], np.float32)
    masks = pasted(logits, boxes, (20, 20))
    assert masks[0].all()
    assert np.array_equal(np.flatnonzero(masks[1].any(axis=1)), [4])
    assert not masks[2].any()


def test_what_is_not_a_number_is_outside():
    logits = np.full((1, 4, 4), 9, np.float32)
    logits[0, 1, 1] = np.nan
    (mask,) = pasted(logits, [[0, 0, 16, 16]], (16, 16))
    assert not mask[3:8, 3:8].any()
    assert mask[12, 12]
    infinite = np.array([[[np.inf, -np.inf], [np.inf, -np.inf]]], np.float32)
    (mask,) = pasted(infinite, [[0, 0, 8, 8]], (8, 8))
    assert mask[4, 2]
    assert not mask[4, 4:].any()


def test_no_masks_and_no_image():
    windows, bits, offsets = paste_masks(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4)), (5, 5))
    assert (windows.shape, bits.shape, offsets.tolist()) == ((0, 4), (0,), [0])
    assert not pasted(np.full((2, 3, 3), 9, np.float32), [[0, 0, 5, 5]] * 2, (0, 7)).any()
    assert not pasted(np.zeros((1, 0, 0), np.float32), [[0, 0, 5, 5]], (7, 7)).any()


def test_large_masks_are_packed_whole():
    # More bits than there is room for at first.
    masks = pasted(np.full((3, 2, 2), 40, np.float32), [[0, 0, 900, 900]] * 3, (900, 900))
    assert masks[:, 225:675, 225:675].all()
    assert np.array_equal(masks[0], masks[2])


def test_arrays_that_do_not_fit():
    with pytest.raises(ValueError, match="logits must have the shape"):
        paste_masks(np.zeros((2, 28, 14), np.float32), np.zeros((2, 4)), (5, 5))
    with pytest.raises(ValueError, match=r"boxes must have the shape \(2, 4\)"):
        paste_masks(np.zeros((2, 28, 28), np.float32), np.zeros((3, 4)), (5, 5))
