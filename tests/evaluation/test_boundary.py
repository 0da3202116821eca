"""Boundary F1 against distance transforms, and outlines against their definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import find_boundaries

from cytomask.errors import ConfigError, LabelError
from cytomask.evaluation.boundary import boundary_counts, boundary_f1, outlines
from cytomask.evaluation.image_scores import Pair, score_image
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

from .label_pairs import LabelPair, blobs, pairs_of_labels


def by_distance(truth: np.ndarray, prediction: np.ndarray, tolerance: float) -> float:
    """The definition in other words: distance of every outline pixel to the nearest one of the other side."""
    true, predicted = (find_boundaries(x, connectivity=1, mode="inner", background=0) for x in (truth, prediction))
    if not true.any() and not predicted.any():
        return math.nan
    if not true.any() or not predicted.any():
        return 0.0
    recall = (distance_transform_edt(~predicted)[true] <= tolerance).mean()
    precision = (distance_transform_edt(~true)[predicted] <= tolerance).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(pairs_of_labels(), st.sampled_from([0, 1, 1.5, 2, 5]))
@settings(deadline=None, max_examples=150)
def test_as_by_distance_transforms(pair: LabelPair, tolerance: float) -> None:
    expected = by_distance(*pair, tolerance)
    assert boundary_f1(*pair, tolerance) == pytest.approx(expected, nan_ok=True)
    as_instances = [Instances.from_labels(labels) for labels in pair]
    assert boundary_f1(*as_instances, tolerance) == pytest.approx(expected, nan_ok=True)
    as_layers = [LabelLayers.from_labels(labels) for labels in pair]
    assert boundary_f1(*as_layers, tolerance) == pytest.approx(expected, nan_ok=True)


def test_crowded_images_as_by_distance_transforms() -> None:
    rng = np.random.default_rng(0)
    for tolerance in (0, 1, 2, 3.7):
        truth = blobs(rng)
        assert boundary_f1(truth, blobs(rng), tolerance) == pytest.approx(
            by_distance(truth, blobs(rng), tolerance), abs=1
        )
        moved = np.roll(truth, 2, axis=0)
        assert boundary_f1(truth, moved, tolerance) == pytest.approx(by_distance(truth, moved, tolerance))


def test_a_missing_line_between_touching_objects_counts() -> None:
    truth = np.repeat([[0] * 4 + [1] * 10 + [2] * 10 + [0] * 4], 20, axis=0)
    as_one = (truth > 0).astype(int)
    counts = boundary_counts(truth, as_one, 1)
    # The outer lines at both sides are found, the two lines in the middle are not.
    assert (counts.n_true, counts.found) == (80, 40)
    assert (counts.n_pred, counts.right) == (40, 40)


def test_the_edge_of_the_image_is_no_outline() -> None:
    assert not outlines(np.ones((6, 7), int)).any()
    assert not outlines(Instances.from_labels(np.ones((6, 7), int))).any()
    cut_off = np.zeros((6, 7), int)
    cut_off[:3] = 5
    assert outlines(cut_off).sum(axis=1).tolist() == [0, 0, 7, 0, 0, 0]


def test_masks_that_overlap_have_an_outline_each() -> None:
    crop = np.ones((4, 4), bool)
    both = Instances.from_crops((8, 12), [crop, crop], [(2, 2), (2, 4)])
    expected = outlines(Instances.from_crops((8, 12), [crop], [(2, 2)]))
    expected |= outlines(Instances.from_crops((8, 12), [crop], [(2, 4)]))
    np.testing.assert_array_equal(outlines(both), expected)
    assert expected.sum() == 12 + 12 - 4


def test_outlines_in_crowds_are_left_out() -> None:
    labels = np.zeros((20, 20), int)
    labels[2:8, 2:8], labels[10:18, 10:18] = 1, 2
    truth = LabelLayers.from_labels(labels, crowd={2})
    inside = np.zeros((20, 20), int)
    inside[2:8, 2:8], inside[12:14, 12:14] = 1, 2
    scores = score_image(Pair("a", truth, inside))
    assert scores.boundary.tolist() == [20, 20, 20, 20]
    # Nor do pixels in crowds count: as far as it is told, all is right.
    assert scores.row()["pixel_accuracy"] == 1
    named = score_image(Pair("a", Instances.from_labels(labels), inside, crowd=frozenset({2})))
    assert named.boundary.tolist() == scores.boundary.tolist()
    np.testing.assert_array_equal(named.confusion, scores.confusion)


def test_wrong_input() -> None:
    one = np.eye(4, dtype=int)
    for wrong in (-1, 101, math.nan):
        with pytest.raises(ConfigError, match="tolerance"):
            boundary_f1(one, one, wrong)
    with pytest.raises(LabelError, match="differ in size"):
        boundary_f1(one, np.eye(5, dtype=int))


def test_a_crowds_outline_across_an_object_is_not_counted() -> None:
    cell, region = np.zeros((2, 20, 20), bool)
    cell[4:14, 4:14] = True
    region[:, 9:] = True
    truth = Instances.from_crops((20, 20), [cell, region], np.zeros((2, 2), np.int32), ids=[1, 2])
    prediction = truth.take(np.array([True, False]))
    scores = score_image(Pair("x", truth, prediction, crowd=frozenset({2})))
    assert scores.boundary.tolist() == [36, 36, 36, 36]
