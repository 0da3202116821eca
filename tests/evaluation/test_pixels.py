"""Pixel metrics against counting with numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from cytomask.errors import LabelError
from cytomask.evaluation.pairs import pair_objects
from cytomask.evaluation.pixels import pixel_confusion, pixel_figures
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

from .label_pairs import LabelPair, pairs_of_labels


@given(pairs_of_labels())
@settings(deadline=None)
def test_foreground_however_it_is_counted(pair: LabelPair) -> None:
    true, predicted = pair[0] > 0, pair[1] > 0
    expected = [[(t & p).sum() for p in (~predicted, predicted)] for t in (~true, true)]
    as_instances = [Instances.from_labels(labels) for labels in pair]
    for sides in (pair, as_instances):
        np.testing.assert_array_equal(pixel_confusion(*sides), expected)
        np.testing.assert_array_equal(pixel_confusion(*sides, pairs=pair_objects(*sides)), expected)


def test_masks_that_overlap_count_once() -> None:
    crop = np.ones((2, 3), bool)
    twice = Instances.from_crops((4, 4), [crop, crop], [(0, 0), (0, 0)])
    once = Instances.from_crops((4, 4), [crop], [(0, 0)])
    np.testing.assert_array_equal(pixel_confusion(twice, once, pairs=pair_objects(twice, once)), [[10, 0], [0, 6]])


def test_classes() -> None:
    names = ("a", "b")
    truth = LabelLayers.from_labels(np.array([[1, 1, 2, 2, 0]]), classes={1: 1, 2: 2}, class_names=names)
    prediction = LabelLayers.from_labels(np.array([[5, 5, 5, 0, 6]]), classes={5: 1, 6: 2}, class_names=names)
    confusion = pixel_confusion(truth, prediction, 2)
    np.testing.assert_array_equal(confusion, [[0, 0, 1], [0, 2, 0], [1, 1, 0]])
    found = pixel_figures(confusion)
    np.testing.assert_allclose(found["iou"], [0, 2 / 3, 0])
    assert found["mean_iou"] == pytest.approx(2 / 9)
    assert found["foreground_iou"] == pytest.approx(3 / 5)
    assert found["pixel_accuracy"] == pytest.approx(2 / 5)
    assert found["dice"] == pytest.approx((2 * 2 / 5 + 0) / 2)


def test_an_unknown_class() -> None:
    truth = LabelLayers.from_labels(np.array([[1, 3]]), classes={1: 1, 3: 3}, class_names=("a", "b", "c"))
    with pytest.raises(LabelError, match="unknown class"):
        pixel_confusion(truth, np.array([[0, 1]]), 2)


def test_a_class_that_does_not_occur_is_left_out() -> None:
    found = pixel_figures(np.array([[3, 0, 0], [1, 4, 0], [0, 0, 0]]))
    np.testing.assert_allclose(found["iou"], [3 / 4, 4 / 5, np.nan])
    assert found["mean_iou"] == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert found["dice"] == pytest.approx(8 / 9)


def test_many_at_once() -> None:
    rng = np.random.default_rng(0)
    confusions = rng.integers(0, 50, (7, 3, 3))
    together = pixel_figures(confusions)
    for k, one in enumerate(confusions):
        for name, value in pixel_figures(one).items():
            np.testing.assert_array_equal(together[name][k], value)
