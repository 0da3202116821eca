"""Warps: exact for flips and turns, aligned between images and labels, faithful to the mirror picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cytomask.geometry.resample import resample_window
from cytomask.geometry.warp import Warp, control_points, cut_window, shrink, warp_image, warp_labels

SYMMETRIES = [(k, flip) for k in range(4) for flip in (False, True)]


def symmetry(k: int, flip: bool) -> np.ndarray:
    matrix = np.linalg.matrix_power(np.array([[0.0, 1.0], [-1.0, 0.0]]), k)
    return matrix @ np.diag([1.0, -1.0]) if flip else matrix


def expected(array: np.ndarray, k: int, flip: bool) -> np.ndarray:
    # The target's axes are flipped first, then turned into the source; on the array, the turn comes first.
    turned = np.rot90(array, k, axes=(-2, -1))
    return turned[..., ::-1] if flip else turned


@pytest.mark.parametrize("k, flip", SYMMETRIES)
@pytest.mark.parametrize("size", [7, 8])
def test_flips_and_quarter_turns_copy_pixels(k: int, flip: bool, size: int) -> None:
    rng = np.random.default_rng(0)
    image = rng.random((2, 9, 12), dtype=np.float32)
    labels = rng.integers(0, 5, (1, 9, 12))
    warp = Warp.centred((size, size), symmetry(k, flip), (4.2, 5.7))
    rows, cols = warp.coordinates()
    y, x = int(rows.min()), int(cols.min())
    # Here the window lies within the image but for size 8, which reaches one row over the border.
    border = [(0, 0), (1, 1), (1, 1)]
    padded, padded_labels = np.pad(image, border, mode="symmetric"), np.pad(labels, border)
    window = (..., slice(y + 1, y + 1 + size), slice(x + 1, x + 1 + size))
    assert np.array_equal(warp.image(image), expected(padded[window], k, flip))
    assert np.array_equal(warp.labels(labels), expected(padded_labels[window], k, flip))


@pytest.mark.parametrize("pad", [5, 23])
def test_beyond_the_border_lies_the_mirror_picture(pad: int) -> None:
    image = np.random.default_rng(1).random((2, 8, 11), dtype=np.float32)
    padded = np.pad(image, [(0, 0), (pad, pad), (pad, pad)], mode="symmetric")
    shape = padded.shape[1:]
    warp = Warp(shape, np.array([[1.0, 0, -pad], [0, 1, -pad]]))
    assert np.array_equal(warp.image(image), padded)
    assert np.array_equal(warp_image(image, *warp.coordinates()), padded)
    filled = warp.image(image, fill=0.25)
    assert np.array_equal(filled, np.pad(image, [(0, 0), (pad, pad), (pad, pad)], constant_values=0.25))


@given(
    st.floats(0, 6.3), st.floats(0.4, 3.0), st.floats(-9, 30), st.floats(-9, 30), st.booleans(), st.integers(0, 2**20),
    st.sampled_from([np.float16, np.float32]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_the_fused_kernels_equal_looking_up_coordinates(
    angle: float, zoom: float, y: float, x: float, bend: bool, seed: int, dtype: type
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.random((2, 21, 17)).astype(dtype)
    elastic, spacing = None, 1.0
    if bend:
        spacing = 7.5
        elastic = rng.normal(0, 1.5, (2, control_points(16, spacing), control_points(13, spacing))).astype(np.float32)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    warp = Warp.centred((16, 13), linear, (y, x), elastic, spacing)
    rows, cols = warp.coordinates()
    low_y, high_y, low_x, high_x = warp.bounds()
    assert low_y - 1e-3 <= rows.min() <= rows.max() <= high_y + 1e-3
    assert low_x - 1e-3 <= cols.min() <= cols.max() <= high_x + 1e-3
    single = image.astype(np.float32)
    np.testing.assert_allclose(warp.image(image, antialias=False), warp_image(single, rows, cols), atol=1e-4)
    np.testing.assert_allclose(warp.image(image, 0.5, antialias=False), warp_image(single, rows, cols, 0.5), atol=1e-4)


@given(st.integers(0, 2**20), st.floats(0, 6.3), st.floats(0.5, 4.0))
@settings(max_examples=40, deadline=None)
def test_an_object_warped_as_label_is_where_it_is_warped_as_image(seed: int, angle: float, zoom: float) -> None:
    rng = np.random.default_rng(seed)
    blob = ndimage.gaussian_filter(rng.random((40, 40)), 3)
    labels = (blob > np.median(blob)).astype(np.int32)[None]
    grid = rng.normal(0, 2, (2, control_points(32, 12), control_points(32, 12))).astype(np.float32)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    warp = Warp.centred((32, 32), linear, (20, 20), grid, 12)
    share = warp.image(labels.astype(np.float32), fill=0, antialias=False)
    moved = warp.labels(labels)
    y, x = warp.coordinates()
    # Nearest at the image's border, and where the two weigh the same.
    clear = (np.abs(share - 0.5) > 1e-3) & (y > 0.5) & (x > 0.5) & (y < 38.5) & (x < 38.5)
    assert np.array_equal(moved[clear] == 1, share[clear] > 0.5)


def test_labels_take_the_nearest_pixel_unless_others_outweigh_it() -> None:
    labels = np.array([[[0, 0, 0, 0], [0, 7, 9, 0], [0, 9, 9, 0], [0, 0, 0, 0]]])
    at = lambda y, x: Warp((1, 1), np.array([[0, 0, y], [0, 0, x]], float)).labels(labels)[0, 0, 0]  # noqa: E731
    assert at(1.2, 1.2) == 7
    assert at(1.4, 1.4) == 9  # the nearest is the 7, of weight 0.36; the 9 has the rest
    assert at(1.0, 1.49) == 7
    assert at(1.0, 1.51) == 9
    assert at(-3.0, 1.0) == 0
    # Two pixels of one label together, below or beside, outweigh the nearest one.
    labels = np.array([[[0, 0, 0, 0], [0, 7, 0, 0], [0, 9, 9, 0], [0, 0, 0, 0]]])
    assert at(1.45, 1.2) == 9
    labels = labels.transpose(0, 2, 1)
    assert at(1.2, 1.45) == 9
    assert warp_labels(labels, np.array([[1.4]]), np.array([[1.4]]))[0, 0, 0] == 7  # that one is plainly the nearest


def test_labels_beyond_16_bits_survive() -> None:
    labels = np.full((1, 5, 5), 2_000_000_000)
    assert (Warp.centred((3, 3), np.eye(2) * 0.7, (2, 2)).labels(labels) == 2_000_000_000).all()


def test_mirror_pictures_have_objects_of_their_own() -> None:
    labels = np.array([[[1, 0, 2]]])
    warp = Warp((1, 9), np.array([[1.0, 0, 0], [0, 1, -3]]))
    assert warp.pictures((1, 3)) == (0, 1, -1, 2)
    moved, pictures = warp.mirrored_labels(labels, np.array([False, False, False]))
    assert pictures == 3
    assert moved[0, 0].tolist() == [2, 0, 1, 4, 0, 5, 8, 0, 7]
    moved, _ = warp.mirrored_labels(labels, np.array([False, True, False]))
    assert moved[0, 0].tolist() == [2, 0, 1, 1, 0, 5, 8, 0, 1]


@given(st.integers(0, 2**20), st.floats(-60, 60), st.floats(-60, 60), st.floats(0, 6.3), st.floats(0.25, 3))
@settings(max_examples=40, deadline=None)
def test_mirrored_labels_are_those_of_the_mirrored_image(
    seed: int, y: float, x: float, angle: float, zoom: float
) -> None:
    labels = np.random.default_rng(seed).integers(0, 4, (2, 6, 9)).astype(np.uint16)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / zoom
    warp = Warp.centred((12, 10), linear, (y, x))
    moved, pictures = warp.mirrored_labels(labels, np.zeros(4, bool))
    assert (moved // 4).max() < pictures
    rows, cols = warp.coordinates()
    padded = np.pad(labels, [(0, 0), (120, 120), (120, 120)], mode="symmetric")
    near = warp_labels(padded, rows + 120, cols + 120)
    inner = (rows > 0.5) & (cols > 0.5) & (rows < 4.5) & (cols < 7.5)
    off_tie = (np.abs(rows % 1 - 0.5) > 1e-3) & (np.abs(cols % 1 - 0.5) > 1e-3)
    assert np.array_equal((moved % 4)[:, ~inner & off_tie], near[:, ~inner & off_tie])
    top, _, left, right = warp.pictures((6, 9))
    tile_y, tile_x = np.floor((rows + 0.5) / 6), np.floor((cols + 0.5) / 9)
    picture = (tile_y - top) * (right - left) + tile_x - left
    for layer in moved:
        known = off_tie & (layer % 4 > 0)
        assert np.array_equal((layer // 4)[known], picture[known])


def test_shrinking_is_about_what_prediction_resamples() -> None:
    rng = np.random.default_rng(3)
    image = ndimage.gaussian_filter(rng.random((1, 120, 120)), (0, 1.5, 1.5)).astype(np.float32)

    def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        return image[:, y0:y1, x0:x1]

    for scale in (0.8, 0.6, 0.45, 0.3):
        size = int(120 * scale)
        theirs = resample_window(read, (120, 120), (scale, scale), (0, size, 0, size))
        shift = 0.5 / scale - 0.5
        ours = Warp((size, size), np.array([[1 / scale, 0, shift], [0, 1 / scale, shift]])).image(image)
        inner = (0, slice(2, -2), slice(2, -2))
        difference = np.abs(ours[inner] - theirs[inner]).mean() / theirs[inner].std()
        assert difference < 0.15, (scale, difference)


def test_shrinking_does_not_alias() -> None:
    stripes = np.tile(np.array([0.0, 1.0], np.float32), 60)[None, None].repeat(120, axis=1)
    for step in (1.9, 2.0, 2.7, 4.0):
        warp = Warp.centred((24, 24), np.eye(2) * step, (60, 60))
        assert np.abs(warp.image(stripes) - 0.5).max() < 0.1, step


def test_only_what_is_needed_is_read() -> None:
    class Watched(np.ndarray):
        seen = 0

        def __getitem__(self, key):  # type: ignore[no-untyped-def]
            part = super().__getitem__(key)
            Watched.seen = max(Watched.seen, getattr(part, "size", 1))
            return part

    image = np.zeros((1, 500, 500), np.float32).view(Watched)
    Warp.centred((20, 20), np.eye(2) * 2, (250, 250)).image(image)
    assert 40 * 40 <= Watched.seen <= 50 * 50


@given(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_shrink_averages_blocks(factor: int, height: int, width: int) -> None:
    image = np.random.default_rng(height * 13 + width).random((2, height, width), dtype=np.float32)
    small = shrink(image, factor)
    for y in range(small.shape[1]):
        for x in range(small.shape[2]):
            block = image[:, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            np.testing.assert_allclose(small[:, y, x], block.mean(axis=(1, 2)), rtol=1e-5)


def test_half_precision_is_converted_exactly() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)][None, None]
    window = cut_window(finite, 0, 1, 0, finite.size)
    assert np.array_equal(window, finite.astype(np.float32))


def test_displacements_must_cover_the_target() -> None:
    with pytest.raises(ValueError, match="do not cover"):
        Warp((64, 64), np.eye(2, 3), np.zeros((2, 4, 4), np.float32), 8.0).coordinates()


def test_displacements_move_by_what_they_say() -> None:
    grid = np.zeros((2, control_points(10, 4), control_points(10, 4)), np.float32)
    grid[0], grid[1] = 2.0, -1.0
    rows, cols = Warp((10, 10), np.eye(2, 3), grid, 4.0).coordinates()
    np.testing.assert_allclose(rows[:, 0], np.arange(10) + 2, atol=1e-5)
    np.testing.assert_allclose(cols[0], np.arange(10) - 1, atol=1e-5)
