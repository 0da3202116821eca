"""Weighted boxes fusion: against the authors' own code, and by hand."""

from __future__ import annotations

import ensemble_boxes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.geometry.box_fusion import CONFIDENCES, fuse_groups, weighted_boxes_fusion

SIDE = 512.0
THEIRS = dict(zip(CONFIDENCES, ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")))


def crowd(seed: int, models: int, count: int, classes: int = 2) -> tuple[list, list, list]:
    """The same random boxes as each of several models might see them: shifted, some missing, some seen twice."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, SIDE - 130, (count, 2))
    true = np.concatenate([corners, corners + rng.uniform(40, 120, (count, 2))], axis=1)
    kinds = rng.integers(1, classes + 1, count)
    boxes, scores, labels = [], [], []
    for _ in range(models):
        seen = rng.choice(count, rng.integers(0, 1 + int(1.3 * count)))
        boxes.append((true[seen] + rng.normal(0, 3, (len(seen), 4))).clip(0, SIDE))
        scores.append(rng.uniform(0.01, 1, len(seen)))
        labels.append(kinds[seen])
    return boxes, scores, labels


def theirs(boxes, scores, labels, **options):
    """The authors' function, which takes x before y and fractions of the image."""
    swapped = [np.asarray(part)[:, [1, 0, 3, 2]] / SIDE for part in boxes]
    found, values, kinds = ensemble_boxes.weighted_boxes_fusion(swapped, scores, labels, **options)
    return found[:, [1, 0, 3, 2]] * SIDE, values, kinds


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    models=st.integers(1, 5),
    count=st.integers(1, 25),
    confidence=st.sampled_from(CONFIDENCES),
    threshold=st.sampled_from([0.3, 0.55, 0.7]),
    weighted=st.booleans(),
    least=st.sampled_from([0.0, 0.3]),
)
def test_as_the_authors_do_it(seed, models, count, confidence, threshold, weighted, least):
    boxes, scores, labels = crowd(seed, models, count)
    weights = np.random.default_rng(seed).uniform(0.5, 3, models).tolist() if weighted else None
    expected = theirs(
        boxes, scores, labels, weights=weights, iou_thr=threshold, skip_box_thr=least, conf_type=THEIRS[confidence]
    )
    found = weighted_boxes_fusion(
        boxes, scores, labels, weights=weights, iou_threshold=threshold, score_threshold=least, confidence=confidence
    )
    assert len(found.scores) == len(expected[1])
    assert (np.diff(found.scores) <= 0).all()
    # Each of ours has its like among theirs: the same box, score and class at once.
    ours = np.column_stack([found.boxes, 1000 * found.scores, 1000 * found.classes])
    others = np.column_stack([expected[0], 1000 * expected[1], 1000 * expected[2]])
    apart = np.abs(ours[:, None] - others[None]).max(axis=2)
    assert (apart.min(axis=0, initial=0 if not len(ours) else np.inf) < 2e-2).all()
    assert (apart.min(axis=1, initial=0 if not len(ours) else np.inf) < 2e-2).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), models=st.integers(1, 4), count=st.integers(1, 15))
def test_groups_tell_who_made_which_box(seed, models, count):
    boxes, scores, labels = crowd(seed, models, count)
    fused = weighted_boxes_fusion(boxes, scores, labels, score_threshold=0.2)
    everything, values, kinds = np.concatenate(boxes), np.concatenate(scores), np.concatenate(labels)
    np.testing.assert_array_equal(fused.groups < 0, values < 0.2)
    for k in range(len(fused.boxes)):
        members = fused.groups == k
        assert members.any()
        assert set(kinds[members]) == {fused.classes[k]}
        np.testing.assert_allclose(fused.boxes[k], np.average(everything[members], axis=0, weights=values[members]))


def test_one_model_whose_boxes_lie_apart_stays_as_it_is():
    boxes = np.array([[0, 0, 10, 10], [0, 20, 10, 30], [5, 5, 25, 15.5]])
    for confidence in CONFIDENCES:
        fused = weighted_boxes_fusion([boxes], [[0.9, 0.2, 0.5]], confidence=confidence)
        np.testing.assert_allclose(fused.boxes, boxes[[0, 2, 1]])
        np.testing.assert_allclose(fused.scores, [0.9, 0.5, 0.2])
        np.testing.assert_array_equal(fused.groups, [0, 2, 1])


def test_a_weight_draws_the_box_to_its_model():
    fused = weighted_boxes_fusion([[[0, 0, 10, 10]], [[0, 0, 10, 14]]], [[0.5], [0.5]], weights=[3, 1])
    np.testing.assert_allclose(fused.boxes, [[0, 0, 10, 11]])
    np.testing.assert_allclose(fused.scores, [0.5])


def test_classes_keep_boxes_apart():
    boxes, scores = [[[0, 0, 10, 10]], [[0, 0, 10, 10]]], [[0.9], [0.8]]
    assert len(weighted_boxes_fusion(boxes, scores, [[1], [2]]).boxes) == 2
    assert len(weighted_boxes_fusion(boxes, scores, [[2], [2]]).boxes) == 1
    assert len(weighted_boxes_fusion(boxes, scores).boxes) == 1


def test_the_overlap_must_be_above_the_threshold():
    boxes = [[[0, 0, 10, 10]], [[0, 0, 10, 5]]]
    assert len(weighted_boxes_fusion(boxes, [[0.9], [0.8]], iou_threshold=0.5).boxes) == 2
    assert len(weighted_boxes_fusion(boxes, [[0.9], [0.8]], iou_threshold=0.49).boxes) == 1


@pytest.mark.parametrize("confidence", CONFIDENCES)
@pytest.mark.parametrize("models", [0, 1, 3])
def test_nothing_gives_nothing(models, confidence):
    fused = weighted_boxes_fusion([[]] * models, [[]] * models, [[]] * models, confidence=confidence)
    assert fused.boxes.shape == (0, 4)
    assert len(fused.scores) == len(fused.classes) == len(fused.groups) == 0


def test_boxes_without_area_and_of_score_zero():
    fused = weighted_boxes_fusion([[[5, 5, 5, 9], [1, 1, 3, 3]], [[1, 1, 3, 4]]], [[0.9, 0.0], [0.0]])
    np.testing.assert_array_equal(fused.groups, [-1, 0, 0])
    assert np.isfinite(fused.boxes).all()
    np.testing.assert_array_equal(fused.scores, [0.0])


@pytest.mark.parametrize(
    "options, words",
    [
        ({"weights": [1]}, "2 models need 2 weights"),
        ({"weights": [1, 0]}, "above 0"),
        ({"weights": [1, np.nan]}, "above 0"),
        ({"scores": [[0.5]]}, "as many scores"),
        ({"scores": [[0.5], [0.5, 0.5]]}, "one score"),
        ({"confidence": "most"}, "confidence is one of"),
    ],
)
def test_what_does_not_fit_is_refused(options, words):
    boxes = [[[0, 0, 1, 1]], [[0, 0, 1, 1]]]
    scores = options.pop("scores", [[0.5], [0.5]])
    with pytest.raises(ValueError, match=words):
        weighted_boxes_fusion(boxes, scores, **options)


def test_groups_of_given_members():
    groups, models = np.array([0, 1, 0]), np.array([0, 0, 1])
    boxes = np.array([[0, 0, 2, 2], [5, 5, 7, 7], [0, 0, 4, 2.0]])
    fused, scores = fuse_groups(groups, boxes, np.array([0.4, 0.8, 0.4]), models, np.ones(2))
    np.testing.assert_allclose(fused, [[0, 0, 3, 2], [5, 5, 7, 7]])
    np.testing.assert_allclose(scores, [0.4, 0.4])
