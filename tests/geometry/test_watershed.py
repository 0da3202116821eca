"""The seeded watershed against scikit-image, seeds from shapes against their definition, and parts of images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.segmentation import watershed

from cytomask.geometry.components import connected_components
from cytomask.geometry.object_distance import mask_distance
from cytomask.geometry.watershed import seeded_watershed, shape_seeds

SIDES = st.integers(1, 16)
SEEDS = st.integers(0, 2**20)


def smooth(seed: int, shape: tuple[int, int], sigma: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return noise / noise.std()


def field(seed: int, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A level of 0 to 1, seeds and a mask with many components, some of them without a seed."""
    level = 1 / (1 + np.exp(smooth(seed, shape, 4)))
    mask = smooth(seed + 1, shape, 6) > -0.4
    lowest = (level == ndimage.minimum_filter(level, 7)) & mask & (level < 0.6)
    return level.astype(np.float32), ndimage.label(lowest)[0].astype(np.int32), mask


@given(SEEDS, SIDES, SIDES, st.integers(1, 8), st.floats(0.3, 1))
@settings(max_examples=200, deadline=None)
def test_exactly_scikit_image_without_ties(seed: int, height: int, width: int, count: int, filled: float) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(height * width).reshape(height, width)
    mask = rng.random((height, width)) < filled
    seeds = np.zeros((height, width), np.int32)
    seeds.ravel()[rng.integers(0, seeds.size, count)] = rng.integers(1, 5, count)
    got = seeded_watershed(order.astype(np.float32), seeds, mask, low=0, high=order.size, steps=order.size)
    assert got.dtype == np.int32
    assert np.array_equal(got, watershed(order, seeds * mask, mask=mask, connectivity=1))


@pytest.mark.parametrize(
    ("steps", "kind"), [(1024, np.float32), (256, np.float32), (1024, np.float16), (256, np.uint8)]
)
def test_as_scikit_image_on_rounded_levels(steps: int, kind: type) -> None:
    level, seeds, mask = field(0, (400, 500))
    assert seeds.max() > 200
    if kind is np.uint8:
        level = (level * 255).astype(np.uint8)
        rounded = level
    else:
        level = level.astype(kind)
        rounded = np.floor(level.astype(np.float64) * steps).astype(np.int32)
    got = seeded_watershed(level, seeds, mask, steps=steps)
    expected = watershed(rounded, seeds, mask=mask, connectivity=1)
    assert np.mean(got[mask] == expected[mask]) > 0.995
    assert np.array_equal(got > 0, expected > 0)
    assert np.array_equal(got[(seeds > 0) & mask], seeds[(seeds > 0) & mask])


def test_components_without_a_seed_stay_background() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 1, 1]], bool)
    seeds = np.array([[0, 0, 3, 7], [0, 0, 0, 0]], np.int32)
    got = seeded_watershed(np.zeros((2, 4), np.float32), seeds, mask)
    assert got.tolist() == [[0, 0, 0, 7], [0, 0, 7, 7]]


def test_of_a_plateau_each_seed_takes_its_half() -> None:
    seeds = np.zeros((5, 40), np.int32)
    seeds[:, 0], seeds[:, -1] = 1, 2
    got = seeded_watershed(np.full((5, 40), 0.5, np.float32), seeds, np.ones((5, 40), bool))
    assert (got[:, :20] == 1).all()
    assert (got[:, 20:] == 2).all()


def test_a_low_pixel_behind_a_ridge_goes_before_what_waits() -> None:
    # From 1 over the ridge 0.5 down to 0.1; the seed 2 waits at 0.6. All behind the ridge belongs to 1, up to there.
    level = np.array([[0, 0.5, 0.1, 0.1, 0.6, 0.6, 0]], np.float32)
    seeds = np.array([[1, 0, 0, 0, 0, 0, 2]], np.int32)
    assert seeded_watershed(level, seeds, np.ones((1, 7), bool)).tolist() == [[1, 1, 1, 1, 1, 2, 2]]


def test_levels_beyond_the_range_and_nan() -> None:
    level = np.array([[-5, np.nan, 0.5, np.inf, -np.inf]], np.float32)
    seeds = np.array([[1, 0, 0, 0, 2]], np.int32)
    got = seeded_watershed(level, seeds, np.ones((1, 5), bool))
    # NaN and infinity are both the highest: what is between them goes to the first.
    assert got.tolist() == [[1, 1, 1, 2, 2]]


def crops_of_components(mask: np.ndarray) -> list[tuple[tuple[slice, slice], np.ndarray]]:
    labels, _ = connected_components(mask)
    found = []
    for k, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        window = (
            slice(max(rows.start - 1, 0), rows.stop + 1),
            slice(max(columns.start - 1, 0), columns.stop + 1),
        )
        found.append((window, labels[window] == k))
    return found


@pytest.mark.parametrize("seed", [0, 7])
def test_a_component_is_flooded_as_if_it_were_alone(seed: int) -> None:
    level, seeds, mask = field(seed, (300, 260))
    # Coarse levels, so that ties are everywhere.
    level = np.round(level * 8) / 8
    whole = seeded_watershed(level, seeds, mask)
    crops = crops_of_components(mask)
    assert len(crops) > 5
    for window, component in crops:
        alone = seeded_watershed(level[window], seeds[window], component)
        assert np.array_equal(alone, np.where(component, whole[window], 0))


@pytest.mark.parametrize("ratio", [0.4, 0.8, 1.0])
def test_a_component_gets_the_seeds_that_it_gets_alone(ratio: float) -> None:
    mask = smooth(11, (300, 260), 4) > 0.3
    mask[0], mask[-1], mask[:, 0], mask[:, -1] = False, False, False, False
    whole = shape_seeds(mask, ratio)
    crops = crops_of_components(mask)
    assert len(crops) > 20
    assert whole.max() > len(crops)
    for window, component in crops:
        alone = shape_seeds(component, ratio)
        assert np.array_equal(alone > 0, component & (whole[window] > 0))


def seeds_slowly(mask: np.ndarray, ratio: float) -> np.ndarray:
    """By the definition: for every pixel the highest waist on a path to a better one, found by relaxation."""
    squares = np.rint(mask_distance(mask).astype(np.float64) ** 2)
    squares = np.minimum(squares, mask.shape[0] ** 2 + mask.shape[1] ** 2)
    out = np.zeros(mask.shape, bool)
    index = np.arange(mask.size).reshape(mask.shape)
    for y, x in np.argwhere(mask):
        waist = np.zeros(mask.shape)
        waist[y, x] = squares[y, x]
        while True:
            padded = np.pad(waist, 1)
            around = np.max([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]], axis=0)
            new = np.maximum(waist, np.minimum(around, squares))
            if np.array_equal(new, waist):
                break
            waist = new
        better = (squares > squares[y, x]) | ((squares == squares[y, x]) & (index < index[y, x]))
        best = waist[better & (waist > 0)].max(initial=0)
        out[y, x] = best == 0 or best < ratio**2 * squares[y, x]
    return out


@given(SEEDS, st.integers(1, 14), st.integers(1, 14), st.sampled_from([0.0, 0.3, 0.5, 0.75, 0.9, 1.0]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_seeds_of_shapes_by_their_definition(seed: int, height: int, width: int, ratio: float, rough: bool) -> None:
    mask = smooth(seed, (height, width), 0.01 if rough else 1.2) > -0.5 if height * width > 1 else np.ones((1, 1), bool)
    got = shape_seeds(mask, ratio)
    assert np.array_equal(got > 0, seeds_slowly(mask, ratio))
    assert got[got > 0].tolist() == list(range(1, int(got.max()) + 1))


def dumbbell(waist: int) -> np.ndarray:
    mask = np.zeros((41, 90), bool)
    for centre, radius in ((20, 15), (66, 11)):
        mask |= np.hypot(np.arange(41)[:, None] - 20, np.arange(90)[None] - centre) <= radius
    mask[20 - waist // 2 : 21 + waist // 2, 20:66] = True
    return mask


@pytest.mark.parametrize(("waist", "parts"), [(3, 2), (9, 2), (13, 1), (17, 1)])
def test_parts_are_as_many_as_the_waist_tells(waist: int, parts: int) -> None:
    # The smaller disc is 12 deep (to the first pixel outside), the waist half its width + 1: 0.5 * 12 lies between.
    mask = dumbbell(waist)
    seeds = shape_seeds(mask, 0.5)
    assert seeds.max() == parts
    labels = seeded_watershed(-mask_distance(mask), seeds, mask, low=-64, high=0)
    assert np.array_equal(labels > 0, mask)
    if parts == 2:
        assert (labels[:, :30][mask[:, :30]] == labels[20, 20]).all()
        assert (labels[:, 60:][mask[:, 60:]] == labels[20, 66]).all()


def test_masks_that_are_full_or_empty() -> None:
    assert shape_seeds(np.ones((6, 5), bool), 0.5).tolist()[0][0] == 1
    assert shape_seeds(np.ones((6, 5), bool), 0.5).max() == 1
    assert shape_seeds(np.zeros((6, 5), bool), 0.5).max() == 0
    assert shape_seeds(np.zeros((0, 5), bool), 0.5).shape == (0, 5)


@given(SEEDS, SIDES, SIDES)
@settings(max_examples=80, deadline=None)
def test_distances_in_a_mask_as_scipy(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.85
    mask[0, 0] = False
    assert np.allclose(mask_distance(mask), ndimage.distance_transform_edt(mask), atol=1e-5)


def test_wrong_input() -> None:
    level, seeds, mask = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int32), np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="alike"):
        seeded_watershed(level[:1], seeds, mask)
    with pytest.raises(ValueError, match="below high"):
        seeded_watershed(level, seeds, mask, low=1, high=1)
    with pytest.raises(ValueError, match="steps"):
        seeded_watershed(level, seeds, mask, steps=0)
    with pytest.raises(ValueError, match="0 to 1"):
        shape_seeds(mask, 1.5)
    with pytest.raises(ValueError, match=r"\(Y, X\)"):
        shape_seeds(mask[0], 0.5)
