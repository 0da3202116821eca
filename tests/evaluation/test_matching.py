"""Matching against counts made by hand and against stardist."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from stardist.matching import matching, matching_dataset

from cytomask.errors import ConfigError, LabelError
from cytomask.evaluation.matching import THRESHOLDS, assign, match, mean_per_image, pooled, threshold_name
from cytomask.evaluation.pairs import pair_objects
from cytomask.evaluation.score import instance_score
from cytomask.instances import Instances

from .label_pairs import LabelPair, blobs, pairs_of_labels

#: Our names of stardist's figures.
FIGURES = {
    "precision": "precision", "recall": "recall", "f1": "f1", "accuracy": "accuracy", "pq": "panoptic_quality",
    "mean_matched_iou": "mean_matched_score",
}  # fmt: skip
LOW = (0.1, 0.2, 0.3, 0.4, 0.5)


@pytest.fixture(scope="module")
def set_of_pairs() -> list[LabelPair]:
    rng = np.random.default_rng(0)
    truths = [blobs(rng) for _ in range(12)]
    moved = [np.roll(t, tuple(rng.integers(0, 3, 2)), (0, 1)) for t in truths]
    empty = np.zeros((90, 90), np.int32)
    return [*zip(truths, moved), (empty, empty), (truths[0], empty), (empty, truths[1])]


def assert_as_stardist(truth: np.ndarray, prediction: np.ndarray, thresholds: Sequence[float]) -> None:
    expected = matching(truth, prediction, tuple(thresholds))
    found = match(truth, prediction, thresholds)
    for k, one in enumerate(expected):
        assert (found.tp[k], found.fp[k], found.fn[k]) == (one.tp, one.fp, one.fn), thresholds[k]
        for ours, theirs in FIGURES.items():
            assert found.figures()[ours][k] == pytest.approx(getattr(one, theirs), abs=1e-9), (ours, thresholds[k])


def test_counts_by_hand() -> None:
    truth, prediction = np.zeros((2, 4, 20), np.int32)
    truth[:, 0:4], truth[:, 5:9], truth[:, 10:14] = 1, 2, 3
    prediction[:, 0:4], prediction[:, 5:8], prediction[:, 16:18] = 7, 4, 2
    found = match(truth, prediction)
    np.testing.assert_array_equal(found.tp, [2] * 6 + [1] * 4)
    assert (found.n_true, found.n_pred) == (3, 3)
    half = found.at(0.5)
    assert (half["tp"], half["fp"], half["fn"]) == (2, 1, 1)
    assert half["accuracy"] == 0.5
    assert half["precision"] == half["recall"] == half["f1"] == pytest.approx(2 / 3)
    assert half["mean_matched_iou"] == pytest.approx(0.875)
    assert half["pq"] == pytest.approx(1.75 / 3)
    assert found.at(0.95)["mean_matched_iou"] == 1


@pytest.mark.parametrize("swap", [False, True])
def test_an_object_of_two_equal_halves_matches_one(swap: bool) -> None:
    whole, halves = np.ones((4, 8), np.int32), np.repeat([[1] * 4 + [2] * 4], 4, axis=0)
    found = match(halves, whole) if swap else match(whole, halves)
    np.testing.assert_array_equal(found.tp, [1] + [0] * 9)
    assert found.iou_sum[0] == 0.5


def test_the_larger_sum_wins_below_a_half() -> None:
    # Greedily, the pair of IoU 4/9 would be taken first, and the other two objects would stay alone.
    truth = np.array([[1] * 7 + [2] * 5])
    prediction = np.array([[5] * 3 + [6] * 6 + [0] * 3])
    pairs = pair_objects(truth, prediction)
    np.testing.assert_allclose(pairs.iou(), [3 / 7, 4 / 9, 2 / 9])
    chosen = assign(pairs, 0.2)
    np.testing.assert_array_equal(pairs.prediction_ids[pairs.prediction_index[chosen]], [5, 6])
    assert match(truth, prediction, [0.2]).tp == 2
    assert match(truth, prediction, [0.44]).tp == 1


def test_pairs_below_the_threshold_break_ties_as_in_stardist() -> None:
    # The wide prediction may match either object (0.4 or 0.375); the other, too small for a match, lies in the first.
    truth = np.array([[1] * 9 + [2] * 10])
    prediction = np.array([[4] * 2 + [0] + [3] * 12 + [0] * 4])
    pairs = pair_objects(truth, prediction)
    np.testing.assert_allclose(pairs.iou(), [6 / 15, 2 / 9, 6 / 16])
    assert match(truth, prediction, [0.3]).iou_sum == np.float32(6 / 16)
    assert_as_stardist(truth, prediction, [0.3])


@given(pairs_of_labels())
@settings(max_examples=150, deadline=None)
def test_random_labels_as_stardist(pair: LabelPair) -> None:
    assert_as_stardist(*pair, THRESHOLDS)


@given(pairs_of_labels())
@settings(max_examples=100, deadline=None)
def test_counts_below_a_half_as_stardist(pair: LabelPair) -> None:
    found = match(*pair, LOW)
    assert found.tp.tolist() == [m.tp for m in matching(*pair, LOW)]


def test_crowded_labels_as_stardist(set_of_pairs: list[LabelPair]) -> None:
    for truth, prediction in set_of_pairs:
        assert_as_stardist(truth, prediction, LOW + THRESHOLDS)


def test_a_set_pooled_and_per_image_as_stardist(set_of_pairs: list[LabelPair]) -> None:
    truths, predictions = zip(*set_of_pairs)
    found = [match(t, p) for t, p in set_of_pairs]
    together = pooled(found)
    means = mean_per_image(found)
    for k, threshold in enumerate(THRESHOLDS):
        for by_image, values in ((False, together.figures()), (True, means)):
            expected = matching_dataset(truths, predictions, threshold, by_image=by_image, show_progress=False)
            assert (together.tp[k], together.fp[k], together.fn[k]) == (expected.tp, expected.fp, expected.fn)
            for ours, theirs in FIGURES.items():
                assert values[ours][k] == pytest.approx(getattr(expected, theirs), abs=1e-9)


def test_an_image_pooled_alone_as_stardist(set_of_pairs: list[LabelPair]) -> None:
    for truth, prediction in set_of_pairs:
        found = pooled([match(truth, prediction)]).figures()
        for k, one in enumerate(matching_dataset([truth], [prediction], THRESHOLDS, show_progress=False)):
            assert found["pq"][k] == pytest.approx(one.panoptic_quality, abs=1e-12)


def test_real_nuclei_as_stardist(shared_data) -> None:
    from PIL import Image

    files = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[::60]
    for file in files:
        truth = np.asarray(Image.open(file))
        assert_as_stardist(truth, np.roll(truth, (2, 1), (0, 1)), THRESHOLDS)


@given(pairs_of_labels())
@settings(deadline=None)
def test_instances_match_as_their_label_images(pair: LabelPair) -> None:
    expected = match(*pair)
    instances = [Instances.from_labels(labels) for labels in pair]
    for truth, prediction in (instances, (pair[0], instances[1]), (instances[0], pair[1])):
        found = match(truth, prediction)
        assert (found.n_true, found.n_pred) == (expected.n_true, expected.n_pred)
        np.testing.assert_array_equal(found.tp, expected.tp)
        np.testing.assert_array_equal(found.iou_sum, expected.iou_sum)


def test_masks_that_overlap_are_matched_one_to_one() -> None:
    crop = np.ones((10, 10), bool)
    truth = Instances.from_crops((20, 20), [crop], [(2, 2)])
    twice = Instances.from_crops((20, 20), [crop, crop, crop], [(2, 3), (2, 2), (10, 10)], scores=[0.9, 0.8, 0.7])
    found = match(truth, twice)
    np.testing.assert_array_equal(found.tp, 1)
    np.testing.assert_array_equal(found.fp, 2)
    np.testing.assert_array_equal(found.iou_sum, 1)


def test_thresholds_in_any_order() -> None:
    rng = np.random.default_rng(3)
    truth = blobs(rng)
    prediction = np.roll(truth, 1, axis=0)
    forward, backward = match(truth, prediction), match(truth, prediction, THRESHOLDS[::-1])
    np.testing.assert_array_equal(forward.tp, backward.tp[::-1])
    np.testing.assert_array_equal(forward.iou_sum, backward.iou_sum[::-1])


@pytest.mark.parametrize("thresholds", [(), (0.0, 0.5), (0.5, 1.5), (float("nan"),)])
def test_wrong_thresholds(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="thresholds"):
        match(np.zeros((2, 2), int), np.zeros((2, 2), int), thresholds)


def test_another_size() -> None:
    with pytest.raises(LabelError, match="differ in size") as caught:
        match(np.zeros((2, 3), int), np.zeros((3, 2), int))
    assert "3 x 2" in str(caught.value)
    assert "2 x 3" in str(caught.value)


def test_names_of_thresholds() -> None:
    assert [threshold_name(t) for t in THRESHOLDS] == [f"{t:.2f}" for t in THRESHOLDS]


def test_the_score_is_stardists_mean_accuracy(set_of_pairs: list[LabelPair]) -> None:
    truths, predictions = zip(*set_of_pairs)
    found = matching_dataset(truths, predictions, THRESHOLDS[:9], show_progress=False)
    expected = np.mean([one.accuracy for one in found])
    assert instance_score(truths, predictions) == pytest.approx(expected, abs=1e-12)
    as_instances = [[Instances.from_labels(labels) for labels in side] for side in (truths, predictions)]
    assert instance_score(*as_instances) == instance_score(truths, predictions)


def test_the_score_of_nothing() -> None:
    assert instance_score([], []) == 0
    assert instance_score([np.zeros((3, 3), int)], [np.zeros((3, 3), int)]) == 0
    with pytest.raises(ValueError, match="1 truths, but 0 predictions"):
        instance_score([np.zeros((3, 3), int)], [])
