"""Precision integrated over the IoU that is asked for."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from stardist.matching import matching_dataset

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import Pair, score_image
from cytomask.evaluation.integrated import integrated_ap
from cytomask.evaluation.metrics import evaluate_pairs

from .label_pairs import LabelPair, blobs, pairs_of_labels


def straightforward(pairs: list[LabelPair]) -> float:
    """Every object against every other, one assignment for each threshold; then the sum, term by term."""
    precisions, recalls = [], []
    for threshold in np.linspace(0, 1, 20):
        tp = n_true = n_pred = 0
        for truth, prediction in pairs:
            rows, columns = ([k for k in np.unique(side) if k] for side in (truth, prediction))
            n_true, n_pred = n_true + len(rows), n_pred + len(columns)
            if not rows or not columns:
                continue
            iou = np.zeros((len(rows), len(columns)))
            for i, r in enumerate(rows):
                for j, c in enumerate(columns):
                    a, b = truth == r, prediction == c
                    iou[i, j] = (a & b).sum() / (a | b).sum()
            fits = iou >= threshold - 1e-9
            chosen = linear_sum_assignment(fits, maximize=True)
            tp += int(fits[chosen].sum())
        precisions.append(tp / n_pred if n_pred else 0.0)
        recalls.append(tp / n_true)
    recalls.append(0.0)
    return sum(p * (recalls[i] - recalls[i + 1]) for i, p in enumerate(precisions))


@settings(max_examples=60)
@given(st.lists(pairs_of_labels(), min_size=1, max_size=3))
def test_as_many_matches_as_there_can_be_at_each_threshold(pairs: list[LabelPair]) -> None:
    images = [score_image(Pair(str(k), *sides)) for k, sides in enumerate(pairs)]
    found, intervals = integrated_ap(images, {})
    assert intervals is None
    if not any(truth.any() for truth, _ in pairs):
        assert np.isnan(found["overall"])
    else:
        assert found["overall"] == pytest.approx(straightforward(pairs))


def test_equal_to_the_sum_over_stardists_matching() -> None:
    rng = np.random.default_rng(4)
    truths = [blobs(rng) for _ in range(4)]
    predictions = [np.roll(t, k + 1, axis=k % 2) for k, t in enumerate(truths)]
    groups = {"tissue": {"a": [0, 2], "b": [1], "c": [3]}}
    expected = []
    for members in groups["tissue"].values():
        found = [
            matching_dataset([truths[k] for k in members], [predictions[k] for k in members], t, show_progress=False)
            for t in np.linspace(0, 1, 20)
        ]
        expected.append(sum(a.precision * (a.recall - b.recall) for a, b in pairwise(found)))
        assert found[-1].tp == 0, "no outline fits exactly, so that both ways of ending are the same"
    images = [score_image(Pair(str(k), t, p)) for k, (t, p) in enumerate(zip(truths, predictions))]
    of_tissue = integrated_ap(images, groups)[0]["groups"]["tissue"]
    assert list(of_tissue["values"].values()) == pytest.approx(expected)
    assert of_tissue["mean"] == pytest.approx(np.mean(expected))
    assert 0.1 < of_tissue["mean"] < 0.9


def test_hand_made_cases() -> None:
    truth = np.zeros((4, 12), int)
    truth[:, 0:4], truth[:, 6:10] = 1, 2
    nothing = np.zeros_like(truth)
    half = np.where(truth == 1, 1, 0)

    def of(prediction: np.ndarray) -> float:
        return integrated_ap([score_image(Pair("a", truth, prediction))], {})[0]["overall"]

    assert of(truth) == 1.0
    assert of(nothing) == 0.0
    assert of(half) == 0.5, "all that is found is right, and half is found"
    # One of two found with an IoU of 3/4, the other invented: at 0 both are matched (any pair reaches it), up to 14/19
    # one; precision is as recall, 1 and then 1/2.
    wrong = np.zeros_like(truth)
    wrong[:, 1:4] = 1
    wrong[:, 11] = 2
    assert of(wrong) == pytest.approx(1 * 0.5 + 0.5 * 0.5)


def test_in_the_metrics_with_intervals() -> None:
    rng = np.random.default_rng(0)
    pairs = []
    for k in range(6):
        truth = blobs(rng)
        pairs.append(Pair(f"i{k}", truth, np.roll(truth, k, axis=0), {"stain": "DAPI" if k < 5 else "H&E"}))
    found = evaluate_pairs(pairs, bootstrap=Bootstrap(resamples=200), group_by=["stain"]).metrics
    json.dumps(found, allow_nan=False)
    figures, bounds = found["integrated_ap"], found["confidence_intervals"]["integrated_ap"]
    assert len(figures["thresholds"]) == 20
    assert list(figures["groups"]["stain"]["values"]) == ["DAPI", "H&E"]
    low, high = bounds["overall"]
    assert low < figures["overall"] < high
    low, high = bounds["groups"]["stain"]["values"]["DAPI"]
    assert low < figures["groups"]["stain"]["values"]["DAPI"] < high
    # One image makes up this group: drawn or not, its figure is the same.
    alone = figures["groups"]["stain"]["values"]["H&E"]
    assert bounds["groups"]["stain"]["values"]["H&E"] == pytest.approx([alone, alone])
    assert "integrated_ap" in found["definitions"]


def test_the_best_images_are_kept_besides_the_worst() -> None:
    rng = np.random.default_rng(1)
    truths = [blobs(rng) for _ in range(5)]
    pairs = [Pair(f"i{k}", t, np.roll(t, 2 * k, axis=0)) for k, t in enumerate(truths)]
    found = evaluate_pairs(pairs, n_worst=2, n_best=2, bootstrap=Bootstrap(0))
    assert [one.name for one in found.best] == ["i0", "i1"]
    assert {one.name for one in found.worst} == {"i3", "i4"}
    # Two that are perfect: the first stays first. An image without any object is neither.
    empty = np.zeros_like(truths[0])
    pairs = [Pair("none", empty, empty), Pair("first", truths[1], truths[1]), Pair("second", truths[2], truths[2])]
    found = evaluate_pairs(pairs, n_best=9, bootstrap=Bootstrap(0))
    assert [one.name for one in found.best] == ["first", "second"]
    assert found.worst == []
