"""Differences of two models on the same images."""

from __future__ import annotations

import numpy as np
import pytest

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import Pair, score_image
from cytomask.evaluation.metrics import evaluate_pairs
from cytomask.evaluation.paired import PAIRED_FIGURES, compare_pairs, figure_interval, single_values
from cytomask.evaluation.permutation import smallest_p

N = 7
FIGURES = {figure.name: figure for figure in PAIRED_FIGURES}


def squares(rng, worst, missing=0.2):
    """A truth of sixteen squares, and a prediction in which they are shifted by up to ``worst`` pixels, or missing."""
    truth, prediction = np.zeros((2, 80, 80), np.int32)
    for k in range(16):
        y, x = 4 + 20 * (k // 4), 4 + 20 * (k % 4)
        truth[y : y + 10, x : x + 10] = k + 1
        dy, dx = rng.integers(-worst, worst + 1, 2)
        if rng.random() > missing:
            prediction[y + dy : y + dy + 10, x + dx : x + dx + 10] = k + 1
    return truth, prediction


def images_of(seed, worst):
    rng = np.random.default_rng(seed)
    return [Pair(f"image {k}", *squares(rng, worst)) for k in range(N)]


@pytest.fixture(scope="module")
def pairs():
    return {"good": images_of(0, 1), "fair": images_of(1, 3), "bad": images_of(2, 4)}


@pytest.fixture(scope="module")
def models(pairs):
    return {name: [score_image(pair) for pair in of_model] for name, of_model in pairs.items()}


def test_figures_and_intervals_are_those_of_an_evaluation(pairs, models):
    bootstrap = Bootstrap(resamples=200, seed=5)
    metrics = evaluate_pairs(pairs["fair"], bootstrap=bootstrap).metrics
    places = {
        "accuracy_50": ("matching", "pooled", "0.50", "accuracy"),
        "mean_accuracy_50_90": ("mean_accuracy_50_90",),
        "f1_50": ("matching", "pooled", "0.50", "f1"),
        "pq_50": ("matching", "pooled", "0.50", "pq"),
        "aji": ("aji",),
        "pixel_iou": ("pixels", "iou", "object"),
    }
    for name, place in places.items():
        value, bounds = metrics, metrics["confidence_intervals"]
        for key in place:
            value, bounds = value[key], bounds[key]
        found, interval = figure_interval(FIGURES[name], models["fair"], bootstrap)
        assert found == pytest.approx(value, rel=1e-6), name
        assert interval == pytest.approx(bounds, rel=1e-6), name


def test_the_mean_pixel_iou_is_the_mean_of_masks(pairs, models):
    single = [
        ((p.truth > 0) & (p.prediction > 0)).sum() / ((p.truth > 0) | (p.prediction > 0)).sum() for p in pairs["bad"]
    ]
    figure = FIGURES["pixel_iou_per_image"]
    assert single_values(figure, models["bad"]) == pytest.approx(np.array(single))
    assert figure_interval(figure, models["bad"], Bootstrap(resamples=0)) == (pytest.approx(np.mean(single)), None)


def test_an_empty_image_has_no_pixel_iou_and_does_not_count_in_the_mean():
    empty, whole = np.zeros((4, 4), int), np.ones((4, 4), int)
    images = [score_image(Pair("empty", empty, empty)), score_image(Pair("whole", whole, whole))]
    figure = FIGURES["pixel_iou_per_image"]
    assert np.isnan(single_values(figure, images)[0])
    assert figure_interval(figure, images, Bootstrap(resamples=0))[0] == 1.0


def test_differences_are_paired(models):
    found = compare_pairs(models, Bootstrap(resamples=300))
    assert len(found) == len(PAIRED_FIGURES) * 3
    for one in found:
        assert one.difference == pytest.approx(one.values[0] - one.values[1])
        assert one.low <= one.difference <= one.high
        assert smallest_p(N) <= one.p <= one.p_holm <= 1
        assert one.first_better + one.second_better <= one.n_images == N
    first = next(one for one in found if (one.figure, one.first, one.second) == ("mean_accuracy_50_90", "good", "bad"))
    assert first.difference > 0.2
    assert first.p == smallest_p(N)
    assert first.first_better == N


def test_the_interval_of_a_difference_knows_that_images_are_the_same(models):
    # Against itself a model differs by nothing in every resample, however wide its own interval is.
    one = compare_pairs({"a": models["fair"], "b": models["fair"]}, Bootstrap(resamples=100))[0]
    assert (one.difference, one.low, one.high, one.p, one.first_better) == (0, 0, 0, 1, 0)


def test_only_common_images_are_compared_whatever_their_order(models):
    shuffled = [models["bad"][k] for k in (4, 2, 6)]
    found = compare_pairs({"good": models["good"], "bad": shuffled}, Bootstrap(resamples=50))
    same = compare_pairs({"good": [models["good"][k] for k in (2, 4, 6)], "bad": [models["bad"][k] for k in (2, 4, 6)]})
    assert found[0].n_images == 3
    assert found[0].values == same[0].values
    assert found[0].p == same[0].p
    assert compare_pairs({"good": models["good"][:2], "bad": models["bad"][3:]}) == []


def test_p_values_are_corrected_over_the_pairs_of_a_figure(models):
    found = [one for one in compare_pairs(models) if one.figure == "f1_50"]
    smallest = min(found, key=lambda one: one.p)
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.p))


def test_one_image_has_no_interval(models):
    one = compare_pairs({"a": models["good"][:1], "b": models["bad"][:1]})[0]
    assert np.isnan([one.low, one.high]).all()
    assert one.p == 1.0
