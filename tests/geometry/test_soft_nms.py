"""Non-maximum suppression, hard and soft: against a plain loop, torchvision and a published package, and by hand."""

from __future__ import annotations

import ensemble_boxes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou

from cytomask.geometry.soft_nms import DECAYS, box_ious, nms, soft_nms, suppress

SIDE = 400.0


def crowd(seed: int, count: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, SIDE / 2, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, SIDE / 2, (count, 2))], axis=1)
    return boxes, rng.uniform(0.05, 1, count), rng.integers(1, classes + 1, count)


def plain(boxes, scores, classes, decay, iou_threshold, sigma, prune):
    """Soft-NMS as it is told: take the best, lower the rest, drop what is low, again."""
    ious = box_iou(torch.tensor(boxes), torch.tensor(boxes)).numpy() * (classes[:, None] == classes[None])
    left, current, taken = list(range(len(scores))), scores.copy(), []
    while left:
        best = max(left, key=lambda k: current[k])
        left.remove(best)
        if current[best] > prune:
            taken.append(best)
        for k in left:
            iou = ious[best, k]
            if decay == "linear":
                current[k] *= 1 - iou if iou > iou_threshold else 1
            elif decay == "gaussian":
                current[k] *= np.exp(-(iou**2) / sigma)
            else:
                current[k] *= iou <= iou_threshold
        left = [k for k in left if current[k] > prune]
    return np.array(taken, int), current[taken]


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    decay=st.sampled_from(DECAYS),
    threshold=st.sampled_from([0.1, 0.3, 0.6]),
    sigma=st.sampled_from([0.2, 0.5, 1.0]),
    prune=st.sampled_from([0.001, 0.2]),
    aware=st.booleans(),
)
def test_as_it_is_told(seed, count, decay, threshold, sigma, prune, aware):
    boxes, scores, classes = crowd(seed, count)
    kept, rescored = soft_nms(
        boxes, scores, classes if aware else None, decay=decay, iou_threshold=threshold, sigma=sigma, prune=prune
    )
    expected = plain(boxes, scores, classes if aware else np.ones_like(classes), decay, threshold, sigma, prune)
    np.testing.assert_array_equal(kept, expected[0])
    np.testing.assert_allclose(rescored, expected[1], rtol=1e-9)
    assert (np.diff(rescored) <= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    models=st.integers(1, 4),
    count=st.integers(1, 20),
    decay=st.sampled_from(DECAYS),
    threshold=st.sampled_from([0.3, 0.6]),
)
def test_keeps_what_a_published_package_keeps(seed, models, count, decay, threshold):
    parts = [crowd(seed + k, count) for k in range(models)]
    boxes, scores, classes = (np.concatenate([part[k] for part in parts]) for k in range(3))
    swapped = [part[0][:, [1, 0, 3, 2]] / SIDE for part in parts]
    found, _, kinds = ensemble_boxes.nms_method(
        swapped, [part[1] for part in parts], [part[2] for part in parts],
        method=1 + DECAYS.index(decay), iou_thr=threshold, sigma=0.5, thresh=0.05,
    )  # fmt: skip
    # The package drops hard suppressed boxes only, whatever their scores.
    kept, _ = soft_nms(
        boxes, scores, classes, decay=decay, iou_threshold=threshold, sigma=0.5, prune=0 if decay == "hard" else 0.05
    )
    ours = np.column_stack([boxes[kept], classes[kept]])
    theirs = np.column_stack([found[:, [1, 0, 3, 2]] * SIDE, kinds])
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 60), threshold=st.sampled_from([0.2, 0.5, 0.8]))
def test_nms_as_torchvision_does_it(seed, count, threshold):
    boxes, scores, classes = crowd(seed, count)
    tensors = torch.tensor(boxes[:, [1, 0, 3, 2]]), torch.tensor(scores), torch.tensor(classes)
    np.testing.assert_array_equal(
        nms(boxes, scores, classes, iou_threshold=threshold), batched_nms(*tensors, threshold).numpy()
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 80))
def test_overlaps_of_all_pairs(seed, count):
    boxes, _, _ = crowd(seed, count)
    boxes[: count // 4] = boxes[: count // 4].round(-2)  # some without area, some that only touch
    dense = np.zeros((count, count))
    i, j, iou = box_ious(boxes)
    dense[i, j] = iou
    expected = np.nan_to_num(box_iou(torch.tensor(boxes), torch.tensor(boxes)).numpy())
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense, expected, atol=1e-12)
    assert (iou > 0).all()


@pytest.mark.parametrize("decay", DECAYS)
def test_nothing_gives_nothing(decay):
    kept, scores = soft_nms(np.zeros((0, 4)), [], decay=decay)
    assert len(kept) == len(scores) == 0
    assert len(nms([], [])) == 0


def test_by_hand():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 5, 10, 10]]
    scores = [0.9, 0.8, 0.7]
    kept, rescored = soft_nms(boxes, scores, decay="linear", iou_threshold=0.3)
    np.testing.assert_array_equal(kept, [0, 1, 2])
    np.testing.assert_allclose(rescored, [0.9, 0.4, 0.35])
    kept, rescored = soft_nms(boxes, scores, decay="gaussian", sigma=0.5)
    np.testing.assert_allclose(rescored, [0.9, 0.8 * np.exp(-0.5), 0.7 * np.exp(-0.5)])
    np.testing.assert_array_equal(soft_nms(boxes, scores, decay="hard", iou_threshold=0.3)[0], [0])
    # An overlap of just the threshold is allowed.
    np.testing.assert_array_equal(nms(boxes, scores, iou_threshold=0.5), [0, 1, 2])


def test_of_equal_scores_the_first_is_better():
    boxes = [[0, 0, 10, 10]] * 3
    np.testing.assert_array_equal(nms(boxes, [0.5, 0.5, 0.5]), [0])


def test_nms_keeps_scores_of_zero_and_below():
    np.testing.assert_array_equal(nms([[0, 0, 1, 1], [5, 5, 6, 6]], [0.0, -1.0]), [0, 1])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: soft_nms([[0, 0, 1, 1]], [0.5, 0.5]), "as many scores"),
        (lambda: soft_nms([[0, 0, 1, 1]], [0.5], [1, 2]), "as many classes"),
        (lambda: soft_nms([[0, 0, 1, 1]], [0.5], decay="cubic"), "decay is one of"),
        (lambda: suppress(np.ones(1), *[np.zeros(0)] * 3, sigma=0), "sigma"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
