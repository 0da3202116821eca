"""Forgotten objects are found where it is plain, and nowhere else."""

from __future__ import annotations

import numpy as np

from cytomask.data.check.unannotated import forgotten_objects

from .planting import draw_cells


def test_a_forgotten_cell_is_found_in_its_place() -> None:
    image, labels = draw_cells(2)
    areas = np.bincount(labels.ravel())[1:]
    light = np.bincount(labels.ravel(), image.ravel())[1:] / areas
    # Small and dim ones among them might be something else.
    usual = np.flatnonzero((areas > np.percentile(areas, 35)) & (light > np.percentile(light, 35))) + 1
    assert len(usual) >= 3
    for k in usual:
        (blob,) = forgotten_objects(image, np.where(labels == k, 0, labels))
        y, x = np.argwhere(labels == k).mean(axis=0)
        assert blob.window[0] < y < blob.window[2]
        assert blob.window[1] < x < blob.window[3]
        assert 0.7 * (labels == k).sum() < blob.area < 1.4 * (labels == k).sum()
    assert forgotten_objects(255 - image, labels) == []
    assert len(forgotten_objects(255 - image, np.where(labels == usual[0], 0, labels))) == 1


def test_what_is_unlike_the_cells_is_no_cell() -> None:
    image, labels = draw_cells(2)
    bare = np.where(labels == 6, 0, labels)
    dim = np.where(labels == 6, 40, image)
    assert forgotten_objects(dim, bare) == []
    y, x = np.argwhere(labels == 6).mean(axis=0).round().astype(int)
    thin = np.where(labels == 6, 20, image)
    thin[y - 1 : y + 1, x - 12 : x + 12] = 150
    assert forgotten_objects(thin, bare) == []
    small = np.where(labels == 6, 20, image)
    small[y - 2 : y + 2, x - 2 : x + 2] = 150
    assert forgotten_objects(small, bare) == []


def test_few_cells_and_flat_images_tell_nothing() -> None:
    image, labels = draw_cells(2)
    assert forgotten_objects(image, np.where(labels > 4, 0, labels)) == []
    assert forgotten_objects(np.full(image.shape, 9), labels) == []
    noise = np.random.default_rng(0).integers(0, 255, image.shape)
    assert forgotten_objects(noise, labels) == []
