"""Which objects share pixels; crowds and classes."""

from __future__ import annotations

import numpy as np
import pytest

from cytomask.errors import LabelError
from cytomask.evaluation.matching import match_pairs
from cytomask.evaluation.pairs import class_map, pair_objects
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

TRUTH = np.array([[3, 3, 3, 0, 8, 8], [3, 3, 3, 0, 8, 8]])
PREDICTION = np.array([[1, 1, 0, 0, 0, 2], [1, 5, 0, 0, 0, 2]])


@pytest.mark.parametrize("kind", [np.asarray, Instances.from_labels])
def test_areas_and_shared_pixels(kind) -> None:
    pairs = pair_objects(kind(TRUTH), kind(PREDICTION))
    assert (pairs.n_true, pairs.n_pred) == (2, 3)
    np.testing.assert_array_equal(pairs.truth_ids, [3, 8])
    np.testing.assert_array_equal(pairs.truth_areas, [6, 4])
    np.testing.assert_array_equal(pairs.prediction_ids, [1, 2, 5])
    np.testing.assert_array_equal(pairs.prediction_areas, [3, 2, 1])
    np.testing.assert_array_equal(pairs.truth_index, [0, 0, 1])
    np.testing.assert_array_equal(pairs.prediction_index, [0, 2, 1])
    np.testing.assert_array_equal(pairs.shared, [3, 1, 2])
    np.testing.assert_array_equal(pairs.union(), [6, 6, 4])
    np.testing.assert_allclose(pairs.iou(), [3 / 6, 1 / 6, 2 / 4])


def test_no_objects_and_no_pixels() -> None:
    for shape in ((4, 4), (0, 5)):
        pairs = pair_objects(np.zeros(shape, int), np.zeros(shape, int))
        assert (pairs.n_true, pairs.n_pred, len(pairs.shared)) == (0, 0, 0)


def test_only_objects_of_a_class() -> None:
    truth = LabelLayers.from_labels(TRUTH, classes={3: 1, 8: 2}, class_names=("a", "b"))
    prediction = LabelLayers.from_labels(PREDICTION, classes={1: 2, 2: 2, 5: 1}, class_names=("a", "b"))
    pairs = pair_objects(truth, prediction)
    first, second = pairs.of_class(1), pairs.of_class(2)
    assert (first.truth_ids.tolist(), first.prediction_ids.tolist(), first.shared.tolist()) == ([3], [5], [1])
    assert (second.truth_ids.tolist(), second.prediction_ids.tolist(), second.shared.tolist()) == ([8], [1, 2], [2])
    assert (second.truth_index.tolist(), second.prediction_index.tolist()) == ([0], [1])


def test_a_crowd_is_neither_missed_nor_are_predictions_in_it_wrong() -> None:
    truth = LabelLayers(
        layers=TRUTH[None].astype(np.int32), classes={3: 1, 8: 1}, crowd=frozenset({8}), class_names=("object",)
    )
    pairs = pair_objects(truth, PREDICTION)
    assert pairs.truth_ids.tolist() == [3]
    assert pairs.prediction_ids.tolist() == [1, 5]
    matching = match_pairs(pairs, [0.5])
    assert (matching.tp[0], matching.fp[0], matching.fn[0]) == (1, 1, 0)


@pytest.mark.parametrize("inside, kept", [(1, True), (2, False), (3, False)])
def test_predictions_that_lie_in_a_crowd_by_half_are_left_out(inside: int, kept: bool) -> None:
    truth = LabelLayers(
        layers=np.array([[[0, 0, 0, 0, 6, 6, 6, 6]]], np.int32), classes={6: 1}, crowd=frozenset({6}),
        class_names=("object",),
    )  # fmt: skip
    prediction = np.zeros((1, 8), np.int32)
    prediction[0, inside : inside + 4] = 1
    assert pair_objects(truth, prediction).n_pred == kept


def test_class_maps() -> None:
    crops, origins = [np.ones((1, 3), bool)] * 2, [(0, 0), (0, 2)]
    overlapping = Instances.from_crops(
        (1, 6), crops, origins, classes=[2, 1], scores=[0.9, 0.4], ids=[9, 2**31 - 1], class_names=("a", "b")
    )
    assert class_map(overlapping).tolist() == [[2, 2, 2, 1, 1, 0]]
    assert class_map(Instances.empty((2, 2))).tolist() == [[0, 0], [0, 0]]
    layers = LabelLayers.from_labels(np.array([[7, 0, 5]]), classes={7: 2, 5: 1}, class_names=("a", "b"))
    assert class_map(layers).tolist() == [[2, 0, 1]]
    assert class_map(np.array([[7, 0]])).tolist() == [[1, 0]]


def test_only_two_axes() -> None:
    with pytest.raises(LabelError, match="two axes"):
        pair_objects(np.zeros((2, 2, 2), int), np.zeros((2, 2, 2), int))
    with pytest.raises(LabelError, match="integers"):
        pair_objects(np.zeros((2, 2)), np.zeros((2, 2)))
