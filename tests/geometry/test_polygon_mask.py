"""Rendered polygons: the pixels of scikit-image, in bits that go there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon

from cytomask.geometry.polygon_mask import render_polygons
from cytomask.instances import Instances


def crop(window: np.ndarray, bits: np.ndarray) -> np.ndarray:
    height, width = window[2] - window[0], window[3] - window[1]
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)


def drawn(vertices: np.ndarray, shape: tuple[int, int]) -> list[np.ndarray]:
    windows, bits, offsets = render_polygons(vertices, shape)
    assert windows.dtype == np.int32
    assert bits.dtype == np.uint8
    assert offsets.dtype == np.int64
    assert offsets[-1] == len(bits)
    masks = []
    for (y0, x0, y1, x1), begin, end in zip(windows, offsets, offsets[1:], strict=False):
        mask = np.zeros(shape, bool)
        piece = crop((y0, x0, y1, x1), bits[begin:end])
        assert np.array_equal(np.packbits(piece), bits[begin:end])
        mask[y0:y1, x0:x1] = piece
        # The window is as small as can be.
        for side in (piece[:1], piece[-1:], piece[:, :1], piece[:, -1:]):
            assert side.any() or not piece.size
        masks.append(mask)
    return masks


# Places where rounding decides: whole and half pixels, a hair beside them, and anywhere.
nudges = {"whole": (1, 0), "half": (2, 0), "beside": (1, 1e-7), "anywhere": (None, 0)}


@pytest.mark.parametrize("kind", nudges)
@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), corners=st.integers(1, 12), height=st.integers(0, 24), width=st.integers(0, 24))
def test_pixels_are_those_of_scikit_image(kind, seed, corners, height, width):
    rng = np.random.default_rng(seed)
    steps, hair = nudges[kind]
    vertices = rng.uniform(-8, 30, (4, corners, 2))
    if steps:
        vertices = np.rint(vertices * steps) / steps + hair * rng.integers(-2, 3, vertices.shape)
    vertices = vertices.astype(np.float32)
    for mask, shape in zip(drawn(vertices, (height, width)), vertices, strict=True):
        expected = np.zeros((height, width), bool)
        expected[polygon(shape[:, 0], shape[:, 1], expected.shape)] = True
        assert np.array_equal(mask, expected)


def test_edges_and_corners_belong_to_the_polygon():
    square = np.array([[[1, 1], [1, 4], [3, 4], [3, 1]]], np.float32)
    (mask,) = drawn(square, (5, 6))
    assert mask[1:4, 1:5].all()
    assert mask.sum() == 12
    (mask,) = drawn(square + np.float32(0.01), (5, 6))
    assert mask.sum() == 6


def test_even_odd_where_an_outline_winds_twice():
    square = [[2, 2], [2, 12], [12, 12], [12, 2]]
    inner = [[4, 4], [4, 10], [10, 10], [10, 4]]
    (mask,) = drawn(np.array([[*square, [2, 2], *inner, [4, 4]]], np.float32), (15, 15))
    assert not mask[7, 7]
    assert mask[3, 7]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dy=st.integers(-40, 40), dx=st.integers(-40, 40))
def test_moving_by_whole_pixels_moves_the_pixels(seed, dy, dx):
    vertices = np.random.default_rng(seed).integers(400, 800, (3, 7, 2)).astype(np.float32) / 8
    here, there = drawn(vertices, (160, 160)), drawn(vertices + np.array([dy, dx], np.float32), (160, 160))
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(np.roll(one, (dy, dx), (0, 1)), other)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_clipping_keeps_what_is_inside(seed):
    vertices = np.random.default_rng(seed).uniform(-20, 60, (3, 9, 2)).astype(np.float32)
    for small, large in zip(drawn(vertices, (25, 31)), drawn(vertices, (70, 70)), strict=True):
        assert np.array_equal(small, large[:25, :31])


def test_what_lies_outside_covers_nothing_and_keeps_its_place():
    triangle = np.array([[1, 1], [1, 3], [3, 1]], np.float32)
    vertices = np.stack([triangle - 50, triangle, triangle + 0.2, triangle + 50])
    windows, bits, offsets = render_polygons(vertices, (9, 9))
    assert windows.tolist() == [[0, 0, 0, 0], [1, 1, 4, 4], [2, 2, 3, 3], [0, 0, 0, 0]]
    instances = Instances.from_packed((9, 9), windows, bits, offsets)
    assert instances.areas().tolist() == [0, 6, 1, 0]


def test_more_than_the_first_buffers_hold():
    """Many polygons, tall ones, and one with a run on every other pixel of a row."""
    comb = [[0, 0], [9, 0]] + [corner for x in range(1, 400, 2) for corner in ([1, x], [9, x + 1])] + [[0, 401]]
    (mask,) = drawn(np.array([comb], np.float32), (10, 402))
    expected = np.zeros((10, 402), bool)
    expected[polygon(*np.array(comb, np.float32).T, expected.shape)] = True
    assert np.array_equal(mask, expected)
    tall = np.tile(np.array([[0, 0], [0, 30], [4000, 30], [4000, 0]], np.float32), (9, 1, 1))
    windows, bits, offsets = render_polygons(tall, (3000, 20))
    assert windows.tolist() == [[0, 0, 3000, 20]] * 9
    assert (bits == 255).all()
    assert offsets.tolist() == [7500 * i for i in range(10)]


def test_huge_coordinates():
    far = np.array([[[-1e30, -1e30], [-1e30, 1e30], [1e30, 1e30], [1e30, -1e30]]], np.float32)
    (mask,) = drawn(far, (6, 7))
    assert mask.all()


def test_nothing():
    for shape in ((0, 4, 2), (3, 0, 2)):
        windows, bits, offsets = render_polygons(np.zeros(shape, np.float32), (5, 5))
        assert windows.shape == (shape[0], 4)
        assert len(bits) == 0
        assert offsets.tolist() == [0] * (shape[0] + 1)
    assert not drawn(np.zeros((1, 3, 2), np.float32), (0, 0))[0].size


@pytest.mark.parametrize(
    ("vertices", "message"),
    [
        (np.zeros((3, 2)), r"\(N, V, 2\), not \(3, 2\)"),
        (np.zeros((2, 4, 3)), r"not \(2, 4, 3\)"),
        (np.full((1, 3, 2), np.nan), "6 of 6 values are not finite"),
    ],
)
def test_wrong_arguments_are_named(vertices, message):
    with pytest.raises(ValueError, match=message):
        render_polygons(vertices, (5, 5))
