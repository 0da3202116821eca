"""Densities: counts per area, cover, local density, and clustering."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cytomask.errors import ConfigError
from cytomask.instances import Instances
from cytomask.measuring.density import clark_evans, density
from cytomask.measuring.lengths import Scale


def test_counts_cover_and_units() -> None:
    crops = [np.ones((4, 4), bool)] * 3
    objects = Instances.from_crops(
        (100, 50), crops, [(0, 0), (2, 2), (50, 20)], classes=[1, 1, 2], class_names=("big cell", "b")
    )
    found = density(objects, Scale.of((0.5, 2.0))).image
    assert found["big_cell_count"] == 2
    # 5000 pixels of 1 µm² are 0.005 mm²; where two overlap, pixels count once.
    assert found["big_cell_per_mm2"] == pytest.approx(2 / 0.005)
    assert found["big_cell_covered"] == (32 - 4) / 5000
    assert found["b_covered"] == 16 / 5000
    assert density(objects).image["b_per_mpx"] == 200
    assert math.isnan(found["b_clark_evans"])


def test_local_density_is_that_of_the_nearest_of_the_class() -> None:
    rng = np.random.default_rng(1)
    places = np.stack(np.unravel_index(rng.choice(200 * 200, 300, replace=False), (200, 200)), axis=1)
    classes = rng.integers(1, 3, 300)
    objects = Instances.from_crops(
        (200, 200), [np.ones((1, 1), bool)] * 300, places, classes=classes, class_names=("a", "b")
    )
    local = density(objects, nearest=4).objects["local_density_mpx"].to_numpy()
    for c in (1, 2):
        own = places[classes == c]
        away = cKDTree(own).query(own, k=5)[0][:, 4]
        np.testing.assert_allclose(local[classes == c], 4e6 / (np.pi * away**2))


def test_points_at_random_are_neither_clustered_nor_apart() -> None:
    """The correction for the edge holds: of many fields of random points, 5 % are beyond two standard errors."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        points = rng.random((60, 2)) * (300, 100)
        found.append(clark_evans(cKDTree(points).query(points, k=2)[0][:, 1], 300, 100))
    index, z, p = np.array(found).T
    assert abs(index.mean() - 1) < 0.01
    assert abs(z.std() - 1) < 0.12
    assert 0.02 < (p < 0.05).mean() < 0.09


def test_clusters_and_lattices() -> None:
    rng = np.random.default_rng(2)
    clustered = (rng.random((8, 2)) * 900 + 50).repeat(12, axis=0) + rng.normal(0, 4, (96, 2))
    lattice = np.stack(np.meshgrid(np.arange(10), np.arange(10)), axis=-1).reshape(-1, 2) * 100.0 + 50
    for points, low, high in ((clustered, 0, 0.4), (lattice, 1.7, 2.2)):
        index, _, p = clark_evans(cKDTree(points).query(points, k=2)[0][:, 1], 1000, 1000)
        assert low < index < high
        assert p < 1e-6


def test_few_objects_and_none() -> None:
    assert all(math.isnan(value) for value in clark_evans(np.ones(4), 10, 10))
    empty = density(Instances.empty((10, 10)))
    assert empty.image["object_count"] == empty.image["object_covered"] == 0
    assert len(empty.objects) == 0
    one = density(Instances.from_labels(np.eye(1, 9, dtype=int)))
    assert one.objects["local_density_mpx"].isna().all()
    with pytest.raises(ConfigError, match="too small"):
        density(Instances.empty((3, 3)), nearest=0)
