"""Neighbours: counts, shared parts of outlines, and what lies inside of what is beside nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import ConfigError
from cytomask.instances import Instances
from cytomask.measuring.distances import distances
from cytomask.measuring.lengths import Scale
from cytomask.measuring.neighbours import neighbours


def blocks() -> Instances:
    """Two squares of 4 that share a side, one a pixel away, one far away."""
    labels = np.zeros((30, 30), int)
    labels[5:9, 5:9], labels[5:9, 9:13], labels[5:9, 14:18], labels[24:28, 24:28] = 1, 2, 3, 4
    return Instances.from_labels(labels)


def test_touching_with_and_without_a_gap() -> None:
    near = neighbours(blocks(), radius=6).objects
    assert near["touching"].tolist() == [1, 2, 1, 0]
    assert near["neighbours"].tolist() == [2, 2, 2, 0]
    strict = neighbours(blocks(), radius=0, touch=0)
    assert strict.objects["touching"].tolist() == [1, 1, 0, 0]
    assert strict.objects["shared_border"].tolist() == [0.25, 0.25, 0, 0]
    assert strict.pairs[["id_a", "id_b", "gap_px", "centre_distance_px"]].to_numpy().tolist() == [[1, 2, 0, 4]]


def test_lengths_follow_the_pixel_size() -> None:
    pairs = neighbours(blocks(), Scale.of((0.5, 0.25)), radius=2.0).pairs
    assert pairs["gap_um"].tolist() == [0, 1.25, 0.25]
    assert pairs["centre_distance_um"].tolist() == [1.0, 2.25, 1.25]
    assert pairs["touching"].tolist() == [True, False, True]


def test_the_rim_of_the_image_is_no_part_of_an_outline() -> None:
    labels = np.zeros((4, 8), int)
    labels[:, :4], labels[:, 4:] = 1, 2
    assert neighbours(Instances.from_labels(labels), touch=0).objects["shared_border"].tolist() == [1, 1]
    alone = neighbours(Instances.from_labels(np.ones((3, 3), int)))
    assert np.isnan(alone.objects["shared_border"]).all()


def test_what_lies_inside_is_no_neighbour_and_what_overlaps_a_little_is() -> None:
    crops = [np.ones((10, 10), bool), np.ones((3, 3), bool), np.ones((4, 4), bool)]
    objects = Instances.from_crops((30, 30), crops, [(5, 5), (8, 8), (13, 14)])
    found = neighbours(objects, radius=1)
    assert found.pairs[["id_a", "id_b", "overlap_px"]].to_numpy().tolist() == [[1, 3, 2]]
    assert found.objects["touching"].tolist() == [1, 0, 1]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1.0, 2.0]))
def test_shared_borders_are_those_of_a_count_of_edges(seed: int, touch: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((12, 14), int)
    for i in range(1, 5):
        y, x = rng.integers(0, 9, 2)
        labels[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = i
    objects = Instances.from_labels(labels)
    found = neighbours(objects, touch=touch).objects["shared_border"].to_numpy()
    for k, i in enumerate(objects.ids):
        other = [(y, x) for y, x in zip(*np.nonzero((labels > 0) & (labels != i)))]
        whole = near = 0
        for y, x in zip(*np.nonzero(labels == i)):
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                if not (0 <= y + dy < 12 and 0 <= x + dx < 14) or labels[y + dy, x + dx] == i:
                    continue
                whole += 1
                middle = y + dy / 2, x + dx / 2
                near += any(
                    np.hypot(max(abs(middle[0] - oy) - 0.5, 0), max(abs(middle[1] - ox) - 0.5, 0)) <= touch
                    for oy, ox in other
                )
        assert found[k] == pytest.approx(near / whole)


def test_distances_name_the_nearest_object_of_each_class() -> None:
    labels = np.zeros((5, 20), int)
    labels[2, 0], labels[2, 3], labels[2, 10] = 5, 6, 7
    objects = Instances.from_labels(labels, classes={5: 1, 6: 2, 7: 2}, class_names=("cell", "alpha granule"))
    table = distances(objects, Scale.of(2.0))
    assert table["nearest_alpha_granule_um"].tolist() == [4, 12, 12]
    assert table["nearest_alpha_granule_id"].tolist() == [6, 7, 6]
    assert table["nearest_alpha_granule_centre_um"].tolist() == [6, 14, 14]
    assert table["nearest_cell_id"].tolist() == [0, 5, 5]
    assert np.isnan(table["nearest_cell_um"][0])


@pytest.mark.parametrize("options", [{"radius": -1}, {"touch": float("nan")}, {"radius": float("inf")}])
def test_a_radius_is_a_length(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="not a length"):
        neighbours(blocks(), **options)  # type: ignore[arg-type]


def test_a_pixel_size_is_a_length() -> None:
    for size in (0, -1.0, (1.0, float("nan"))):
        with pytest.raises(ConfigError, match="not a length"):
            Scale.of(size)  # type: ignore[arg-type]


def test_no_objects() -> None:
    found = neighbours(Instances.empty((9, 9)))
    assert list(found.objects.columns) == ["touching", "neighbours", "shared_border"]
    assert len(found.pairs) == len(found.objects) == len(distances(Instances.empty((9, 9)))) == 0
