"""Permutation tests over images, and the correction for several of them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cytomask.evaluation.permutation import DRAWN, exchanges, holm, permutation_test, smallest_p


def total(sums):
    return sums[..., 0]


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_exact_p_is_that_of_scipy(n):
    rng = np.random.default_rng(n)
    one, other = rng.normal(size=(2, n, 1))
    # SciPy exchanges pairs by flipping signs of the differences; its p counts all 2^n.
    expected = stats.permutation_test(
        (one[:, 0], other[:, 0]), lambda a, b: (a - b).sum(), permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_test(one, other, total) == pytest.approx(min(1.0, expected))


def test_a_ratio_of_sums_is_exchanged_image_by_image():
    rng = np.random.default_rng(1)
    one, other = rng.integers(1, 20, (2, 6, 2)).astype(float)

    def ratio(sums):
        return sums[..., 0] / sums[..., 1]

    seen = ratio(one.sum(0)) - ratio(other.sum(0))
    as_large = 0
    for swap in product([False, True], repeat=6):
        pick = np.array(swap)[:, None]
        a, b = np.where(pick, other, one).sum(0), np.where(pick, one, other).sum(0)
        as_large += abs(ratio(a) - ratio(b)) >= abs(seen) - 1e-12
    assert permutation_test(one, other, ratio) == as_large / 64


def test_drawn_p_is_near_the_exact_one_and_never_zero():
    rng = np.random.default_rng(3)
    one = rng.normal(0.35, 1, (14, 1))
    other = np.zeros((14, 1))
    patterns = np.array(list(product([1, -1], repeat=14)))
    exact = (np.abs(patterns @ one[:, 0]) >= abs(one.sum()) - 1e-12).mean()
    drawn = permutation_test(one, other, total)
    assert 0.01 < exact < 0.9
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / DRAWN))
    assert permutation_test(one, other, total) == drawn, "the same seed gives the same p"
    assert permutation_test(one, other, total, exchanges(14, seed=8)) != drawn
    assert permutation_test(np.ones((40, 1)), np.zeros((40, 1)), total) == 1 / (DRAWN + 1)


@given(st.integers(1, 12))
def test_the_clearest_difference_has_the_smallest_p(n):
    one = np.arange(1.0, n + 1)[:, None]
    assert permutation_test(one, np.zeros((n, 1)), total) == pytest.approx(smallest_p(n))


def test_equal_models_have_p_1_and_undefined_figures_none():
    one = np.ones((5, 1))
    assert permutation_test(one, one, total) == 1.0
    assert np.isnan(permutation_test(one, one, lambda sums: np.full(np.shape(sums[..., 0]), np.nan)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_by_its_definition(values):
    corrected = holm(values)
    order = np.argsort(values, kind="stable")
    for rank, place in enumerate(order):
        steps = [(len(values) - k) * values[order[k]] for k in range(rank + 1)]
        assert corrected[place] == pytest.approx(min(1.0, max(steps)))


def test_holm_leaves_out_what_is_not_defined():
    corrected = holm([0.01, float("nan"), 0.03])
    assert corrected[0] == 0.02
    assert np.isnan(corrected[1])
    assert corrected[2] == 0.03
