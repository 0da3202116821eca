"""Copies of images are found whatever their brightness, scale and turn; different images are not alike."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from cytomask.data.check.likeness import SIDE, alike, thumbnail
from cytomask.formats.images import read_image

from .planting import draw_cells

BASE = draw_cells(0)[0].astype(float)


@pytest.mark.parametrize("change", [
    lambda a: 3 * a + 100,
    lambda a: a**0.7,
    lambda a: gaussian_filter(a, 1.5),
    lambda a: zoom(a, 0.5, order=1),
    lambda a: a + np.linspace(0, 60, a.shape[1]),
    lambda a: a + np.random.default_rng(0).normal(0, 8, a.shape),
    lambda a: np.roll(a, (1, 1), (0, 1)),
])  # fmt: skip
def test_a_changed_copy_is_alike(change: object) -> None:
    other = change(BASE)  # type: ignore[operator]
    found = alike([thumbnail(BASE), thumbnail(other)], [BASE.shape, other.shape])
    assert [(i, j, how) for i, j, _, how in found] == [(0, 1, "")]


@pytest.mark.parametrize("turn, how", [
    (np.fliplr, "mirrored"), (np.rot90, "turned"), (np.flipud, "mirrored and turned"),
    (lambda a: a[::-1, ::-1], "turned"), (np.transpose, "mirrored and turned"),
])  # fmt: skip
def test_turned_copies_are_told_as_such(turn: object, how: str) -> None:
    other = turn(BASE)  # type: ignore[operator]
    found = alike([thumbnail(BASE), thumbnail(other)], [BASE.shape, other.shape])
    assert [one[3] for one in found] == [how]


def test_different_images_are_not_alike() -> None:
    images = [draw_cells(k)[0] for k in range(40)]
    assert alike([thumbnail(image) for image in images], [BASE.shape] * 40) == []


def test_images_without_a_pattern_are_like_nothing() -> None:
    flat = [np.full((40, 40), value) for value in (0, 5, 9)]
    assert not any(thumbnail(image).any() for image in flat)
    assert alike([thumbnail(image) for image in flat], [(40, 40)] * 3) == []
    assert alike([], []) == []


def test_other_proportions_are_not_compared() -> None:
    wide = zoom(BASE, (1, 2), order=1)
    assert alike([thumbnail(BASE), thumbnail(wide)], [BASE.shape, wide.shape]) == []


@pytest.mark.parametrize("shape", [(5, 7), (SIDE, SIDE), (33, 200), (1, 1)])
def test_any_size_gives_a_thumbnail(shape: tuple[int, int]) -> None:
    assert thumbnail(np.random.default_rng(0).random(shape)).shape == (SIDE, SIDE)


def test_real_micrographs_are_told_apart(shared_data: Path) -> None:
    paths = sorted((shared_data / "nuclei" / "images").glob("*.png"))[:80]
    images = [np.asarray(read_image(path).pixels, np.float32).mean(axis=0) for path in paths]
    images += [np.rot90(0.5 * images[3] + 9), gaussian_filter(images[7], 1)]
    found = alike([thumbnail(image) for image in images], [image.shape for image in images])
    assert [(i, j) for i, j, _, _ in found] == [(3, 80), (7, 81)]
    assert len(list(combinations(range(82), 2))) > 3000
