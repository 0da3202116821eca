"""Containment: which object lies in which, how deep, and where that is not certain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes, distance_transform_edt

from cytomask.errors import ConfigError
from cytomask.instances import Instances
from cytomask.measuring.containment import containment, fill_holes, parents_of
from cytomask.measuring.lengths import Scale
from cytomask.workflows.evaluating.sides import open_side

CLASSES = ("cell", "mitochondrion")


def made(*parts: tuple[int, int, int, int, int], shape: tuple[int, int] = (40, 40)) -> Instances:
    """Rectangles: class, first row and column, height, width."""
    crops = [np.ones((h, w), bool) for _, _, _, h, w in parts]
    return Instances.from_crops(
        shape, crops, [(y, x) for _, y, x, _, _ in parts], classes=[c for c, *_ in parts], class_names=CLASSES
    )


def test_children_parents_and_depth() -> None:
    objects = made((1, 5, 5, 20, 20), (2, 10, 9, 3, 3), (2, 12, 20, 4, 10), (2, 30, 30, 2, 2))
    children = containment(objects, Scale.of(0.5))
    assert children["id"].tolist() == [2, 3]
    assert children["share_inside"].tolist() == [1.0, 0.5]
    # Four pixels from the left side; the second one crosses the right side.
    assert children["edge_distance_um"].tolist() == [2.0, 0.0]
    table = pd.DataFrame({"id": objects.ids, "class": [CLASSES[c - 1] for c in objects.classes]})
    table["area_px"] = objects.areas()
    parents = parents_of(children, table)
    assert parents["id"].tolist() == [1]
    assert parents["mitochondrion_count"].tolist() == [2]
    assert parents["mitochondrion_area_px"].tolist() == [9 + 20]
    assert parents["mitochondrion_area_fraction"].tolist() == [29 / 400]
    assert parents["mitochondrion_mean_area_px"].tolist() == [(9 + 40) / 2]


def test_a_parent_without_children_is_told_with_zero() -> None:
    objects = made((1, 0, 0, 10, 10), (1, 20, 20, 10, 10), (2, 2, 2, 2, 2))
    table = pd.DataFrame({"id": objects.ids, "class": [CLASSES[c - 1] for c in objects.classes], "area_px": 1})
    parents = parents_of(containment(objects), table)
    assert parents["mitochondrion_count"].tolist() == [1, 0]
    assert parents["mitochondrion_area_fraction"].tolist() == [0.04, 0]
    assert np.isnan(parents["mitochondrion_mean_area_px"][1])


def test_what_is_not_certain_is_told() -> None:
    several = containment(made((1, 0, 0, 20, 20), (1, 0, 4, 20, 20), (2, 5, 4, 4, 10)))
    assert several[["parent_id", "ambiguous"]].to_numpy().tolist() == [[1, "several"]]
    straddling = containment(made((1, 0, 0, 20, 10), (1, 0, 10, 20, 10), (2, 5, 7, 2, 6)), share=0.6)
    assert straddling[["parent_id", "share_inside", "ambiguous"]].to_numpy().tolist() == [[0, 0.5, "straddles"]]
    assert np.isnan(straddling["edge_distance_px"]).all()


def test_the_rim_of_the_image_is_no_edge_of_a_cell() -> None:
    objects = made((1, 0, 0, 20, 40), (2, 1, 5, 3, 3))
    assert containment(objects)["edge_distance_px"].tolist() == [16]
    assert np.isnan(containment(made((1, 0, 0, 40, 40), (2, 1, 5, 3, 3)))["edge_distance_px"]).all()


def test_of_equal_objects_the_one_of_the_larger_class_holds() -> None:
    objects = made((1, 0, 0, 5, 5), (2, 0, 0, 5, 5), (1, 10, 10, 20, 20), (2, 33, 33, 2, 2))
    assert containment(objects)[["id", "parent_id"]].to_numpy().tolist() == [[2, 1]]


def test_organelles_that_are_cut_out_of_a_label_image() -> None:
    labels = np.zeros((12, 12), int)
    labels[1:11, 1:11], labels[4:6, 4:7] = 1, 2
    objects = Instances.from_labels(labels, classes={1: 1, 2: 2}, class_names=CLASSES)
    found = containment(objects)
    assert found[["parent_id", "share_inside", "parent_area_px", "edge_distance_px"]].to_numpy().tolist() == [
        [1, 1, 100, 3]
    ]


def test_a_ring_holds_what_lies_in_it_only_where_no_cell_does() -> None:
    labels = np.ones((30, 30), int)
    labels[2:28, 2:28] = 0
    labels[6:20, 6:20] = 2
    spot = np.zeros((30, 30), int)
    spot[8:10, 8:10], spot[24:26, 24:26] = 3, 4
    crops = [labels == 1, labels == 2, spot == 3, spot == 4]
    objects = Instances.from_crops((30, 30), crops, [(0, 0)] * 4, classes=[1, 1, 2, 2], class_names=CLASSES)
    found = containment(objects)
    assert found[["id", "parent_id", "ambiguous"]].to_numpy().tolist() == [[3, 2, ""], [4, 1, ""]]
    # Cut out of both, the innermost of the two holds it.
    labels[8:10, 8:10] = 0
    crops = [labels == 1, labels == 2, spot == 3]
    objects = Instances.from_crops((30, 30), crops, [(0, 0)] * 3, classes=[1, 1, 2], class_names=CLASSES)
    assert containment(objects)[["parent_id", "ambiguous"]].to_numpy().tolist() == [[2, "several"]]


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_holes_are_filled_as_scipy_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crops = [rng.random(rng.integers(1, 12, 2)) < 0.6 for _ in range(5)]
    objects = Instances.from_crops((12, 12), crops, np.zeros((5, 2), int))
    filled = fill_holes(objects)
    for i in range(5):
        np.testing.assert_array_equal(filled.mask(i), binary_fill_holes(objects.mask(i)))


def test_one_class_and_none() -> None:
    assert len(containment(Instances.from_labels(np.ones((3, 3), int)))) == 0
    assert "edge_distance_px" in containment(Instances.empty((3, 3), CLASSES)).columns
    with pytest.raises(ConfigError, match="share"):
        containment(made((1, 0, 0, 2, 2)), share=0)


def test_organelles_of_platelets(shared_data: Path) -> None:
    """Against whole masks: shares by counting, depths by a distance transform of the cell."""
    side = open_side(shared_data / "platelet_em" / "train.json", "truth")
    held = 0
    for entry in side.entries.values():
        objects = entry.read().objects
        assert isinstance(objects, Instances)
        children = containment(objects)
        place = {int(i): k for k, i in enumerate(objects.ids)}
        held += len(children)
        for row in children.head(12).itertuples():
            child, parent = (objects.full_mask(place[i]) for i in (row.id, row.parent_id))
            parent = binary_fill_holes(parent)
            assert row.share_inside == (child & parent).sum() / child.sum()
            if row.share_inside == 1 and not parent.all():
                # Between centres of pixels the distance is up to a diagonal longer than between the squares.
                depth = distance_transform_edt(parent)[child].min()
                assert row.edge_distance_px <= depth
                assert depth <= row.edge_distance_px + np.sqrt(2) + 1e-9
    assert held > 60
