"""The aggregated Jaccard index against a second implementation, mask by mask as the paper has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from cytomask.evaluation.aji import aggregated_jaccard_index
from cytomask.instances import Instances

from .label_pairs import LabelPair, blobs, pairs_of_labels


def by_brute_force(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Algorithm 1 of Kumar et al. 2017, with full masks and sets."""
    true = [truth == i for i in np.unique(truth) if i]
    predicted = [prediction == i for i in np.unique(prediction) if i]
    shared = covered = 0
    used = set()
    for mask in true:
        ious = [(mask & other).sum() / (mask | other).sum() for other in predicted]
        if not ious or max(ious) == 0:
            covered += mask.sum()
            continue
        best = ious.index(max(ious))
        shared += (mask & predicted[best]).sum()
        covered += (mask | predicted[best]).sum()
        used.add(best)
    covered += sum(mask.sum() for j, mask in enumerate(predicted) if j not in used)
    return shared / covered if covered else math.nan


def test_by_hand() -> None:
    truth = np.array([[1, 1, 1, 1, 2, 2, 0, 0, 3]])
    merged = np.array([[9, 9, 9, 9, 9, 9, 0, 4, 0]])
    # The merged prediction serves both objects: (4 + 2) shared; covered are 6 and 6, object 3 and prediction 4.
    assert aggregated_jaccard_index(truth, merged) == 6 / 14


def test_nothing() -> None:
    empty, one = np.zeros((3, 3), int), np.eye(3, dtype=int)
    assert math.isnan(aggregated_jaccard_index(empty, empty))
    assert aggregated_jaccard_index(one, empty) == aggregated_jaccard_index(empty, one) == 0
    assert aggregated_jaccard_index(one, one) == 1


@given(pairs_of_labels())
@settings(deadline=None)
def test_as_by_brute_force(pair: LabelPair) -> None:
    expected = by_brute_force(*pair)
    assert aggregated_jaccard_index(*pair) == pytest.approx(expected, abs=1e-12, nan_ok=True)
    as_instances = [Instances.from_labels(labels) for labels in pair]
    assert aggregated_jaccard_index(*as_instances) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_crowded_images_as_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        truth, prediction = blobs(rng), blobs(rng)
        expected = by_brute_force(truth, prediction)
        assert aggregated_jaccard_index(truth, prediction) == pytest.approx(expected, abs=1e-12)
