"""Competition of boxes and masks: against torchvision, a plain loop and dense tables; parts never contradict."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou
from torchvision.ops import nms as torch_nms

from cytomask.geometry.competition import Shapes, box_shapes, mask_shapes, settle_shapes, soften_shapes
from cytomask.geometry.fate import DROPPED, KEPT, OPEN
from cytomask.geometry.soft_nms import box_ious, soft_nms, suppress
from cytomask.instances import Instances, mask_ious

SIDE = 60


def boxes_of(seed: int, count: int, spread: float = 1.0) -> np.ndarray:
    """Boxes of very different sizes; some are twins, some have no area, and edges often touch."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-SIDE, 2 * SIDE, (count, 2))
    boxes = np.concatenate([corners, corners + SIDE * rng.random((count, 1)) ** 4 * rng.uniform(0.5, 2, (count, 2))], 1)
    boxes[::3] = boxes[::3].round(-1)
    boxes[1::5] = boxes[: len(boxes[1::5])]
    return boxes * spread


def masks_of(seed: int, count: int) -> Instances:
    rng = np.random.default_rng(seed)
    crops = [rng.random(rng.integers(1, 14, 2)) < rng.uniform(0.3, 1) for _ in range(count)]
    origins = [rng.integers(0, 20, 2) for _ in range(count)]
    if not count:
        return Instances.empty((40, 40))
    return Instances.from_crops((40, 40), crops, np.array(origins), np.ones(count, int), np.ones(count))


def shapes_and_ious(seed: int, count: int, by: str, kinds: np.ndarray | None) -> tuple[Shapes, np.ndarray]:
    """Shapes, and the overlap of all pairs of a kind, dense."""
    if by == "box":
        boxes = boxes_of(seed, count)
        shapes = box_shapes(boxes, kinds)
        ious = np.nan_to_num(box_iou(torch.tensor(boxes), torch.tensor(boxes)).numpy())
    else:
        masks = masks_of(seed, count)
        shapes = mask_shapes(masks.windows, masks.bits, masks.offsets, masks.areas(), kinds)
        i, j, found = mask_ious(masks, masks)
        ious = np.zeros((count, count))
        ious[i, j] = found
    np.fill_diagonal(ious, 0)
    if kinds is not None:
        ious *= kinds[:, None] == kinds[None]
    return shapes, ious


def greedy(scores: np.ndarray, ious: np.ndarray, threshold: float) -> np.ndarray:
    kept: list[int] = []
    for k in np.argsort(-scores, kind="stable"):
        if all(ious[k, other] <= threshold for other in kept):
            kept.append(int(k))
    fates = np.full(len(scores), DROPPED)
    fates[kept] = KEPT
    return fates


def scores_of(seed: int, count: int, levels: int) -> np.ndarray:
    """Few levels make many ties."""
    return (np.random.default_rng(seed).integers(1, levels + 1, count) / levels).astype(np.float32)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 80),
    threshold=st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]),
    spread=st.sampled_from([1e-3, 1.0, 1e5]),
)
def test_boxes_as_torchvision_settles_them(seed, count, threshold, spread):
    boxes, classes = boxes_of(seed, count, spread), np.random.default_rng(seed).integers(1, 4, count)
    scores = np.random.default_rng(seed + 1).permutation(count) + 1.0
    tensors = torch.tensor(boxes), torch.tensor(scores)
    kept = np.flatnonzero(settle_shapes(box_shapes(boxes), scores, threshold) == KEPT)
    np.testing.assert_array_equal(kept, np.sort(torch_nms(*tensors, threshold).numpy()))
    kept = np.flatnonzero(settle_shapes(box_shapes(boxes, classes), scores, threshold) == KEPT)
    if spread == 1.0:  # batched_nms moves the classes apart, which costs it precision
        np.testing.assert_array_equal(kept, np.sort(batched_nms(*tensors, torch.tensor(classes), threshold).numpy()))


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    by=st.sampled_from(["box", "mask"]),
    aware=st.booleans(),
    levels=st.sampled_from([1, 3, 10**6]),
    threshold=st.sampled_from([0.0, 0.3, 0.6]),
)
def test_as_the_plain_loop_settles(seed, count, by, aware, levels, threshold):
    kinds = np.random.default_rng(seed + 2).integers(1, 3, count) if aware else None
    scores = scores_of(seed, count, levels)
    shapes, ious = shapes_and_ious(seed, count, by, kinds)
    np.testing.assert_array_equal(settle_shapes(shapes, scores, threshold), greedy(scores, ious, threshold))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 40),
    by=st.sampled_from(["box", "mask"]),
    levels=st.sampled_from([1, 3, 10**6]),
    threshold=st.sampled_from([0.0, 0.1, 0.4]),
    share=st.floats(0, 1),
)
def test_what_a_part_tells_holds_for_the_whole(seed, count, by, levels, threshold, share):
    rng = np.random.default_rng(seed + 3)
    kinds = rng.integers(1, 3, count)
    scores = scores_of(seed, count, levels)
    shapes, ious = shapes_and_ious(seed, count, by, kinds)
    whole = settle_shapes(shapes, scores, threshold)
    assert OPEN not in whole
    part = rng.random(count) < share
    # Foreign are those with competitors outside of the part; more may be called so. Some are known to stay.
    foreign = (ious[:, ~part] > 0).any(axis=1) | (rng.random(count) < 0.1)
    known = np.where((whole == KEPT) & (rng.random(count) < 0.3), KEPT, OPEN).astype(np.uint8)
    rows = np.flatnonzero(part)
    if by == "box":
        some = box_shapes(boxes_of(seed, count)[rows], kinds[rows])
    else:
        masks = masks_of(seed, count).take(rows)
        some = mask_shapes(masks.windows, masks.bits, masks.offsets, masks.areas(), kinds[rows])
    told = settle_shapes(some, scores[rows], threshold, known[rows], foreign[rows])
    certain = told != OPEN
    np.testing.assert_array_equal(told[certain], whole[rows][certain])
    # Open are only the foreign, and those that compete with a better open one.
    order = np.lexsort((np.arange(count), -scores.astype(float)))
    rank = np.empty(count, int)
    rank[order] = np.arange(count)
    for k in np.flatnonzero(~certain):
        better_open = [o for o in np.flatnonzero(~certain) if rank[rows[o]] < rank[rows[k]]]
        assert foreign[rows[k]] or any(ious[rows[k], rows[o]] > threshold for o in better_open)


def test_rounds_of_parts_come_to_an_end():
    """A chain in pieces: what the best piece tells closes the next, to the same end as all at once."""
    boxes = np.array([[0, 4 * k, 10, 4 * k + 10] for k in range(30)], float)
    scores = np.linspace(0.9, 0.1, 30)
    whole = settle_shapes(box_shapes(boxes), scores, 0.3)
    assert 5 < (whole == KEPT).sum() < 30
    fates, rounds = np.zeros(30, np.uint8), 0
    while (fates == OPEN).any():
        rounds += 1
        for begin in (20, 10, 0):
            rows = np.flatnonzero((np.abs(np.arange(30) - begin - 4.5) < 9) & (fates != DROPPED))
            own = (rows >= begin) & (rows < begin + 10)
            told = settle_shapes(box_shapes(boxes[rows]), scores[rows], 0.3, fates[rows], ~own & (fates[rows] == OPEN))
            fates[rows[own]] = told[own]
        assert rounds < 5
    np.testing.assert_array_equal(fates, whole)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    decay=st.sampled_from(["linear", "gaussian"]),
    by=st.sampled_from(["box", "mask"]),
    aware=st.booleans(),
    prune=st.sampled_from([-1.0, 0.001, 0.3]),
    threshold=st.sampled_from([0.0, 0.3]),
)
def test_softened_as_all_pairs_say(seed, count, decay, by, aware, prune, threshold):
    kinds = np.random.default_rng(seed + 2).integers(1, 3, count) if aware else None
    scores = np.random.default_rng(seed).random(count)
    shapes, ious = shapes_and_ious(seed, count, by, kinds)
    found = soften_shapes(shapes, scores, decay, threshold=threshold, sigma=0.4, prune=prune)
    i, j = np.nonzero(ious)
    kept, rescored = suppress(scores, i, j, ious[i, j], decay=decay, iou_threshold=threshold, sigma=0.4, prune=prune)
    expected = np.full(count, -np.inf)
    expected[kept] = rescored
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_softened_as_soft_nms_says():
    boxes, scores = boxes_of(5, 300), np.random.default_rng(5).random(300)
    found = soften_shapes(box_shapes(boxes), scores, "gaussian", sigma=0.5, prune=0.05)
    kept, rescored = soft_nms(boxes, scores, decay="gaussian", sigma=0.5, prune=0.05)
    np.testing.assert_array_equal(np.sort(kept), np.flatnonzero(found > 0.05))
    np.testing.assert_allclose(found[kept], rescored, rtol=1e-12)


def test_the_paper_by_hand():
    """Three boxes; the second shares a half with the first, the third a third with the second, and less with none."""
    boxes, scores = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 4, 10, 6]], np.array([0.9, 0.8, 0.7])
    shared = [50 / 100, 20 / 100, 10 / 60]  # 1-2, 1-3, 2-3
    linear = soften_shapes(box_shapes(boxes), scores, "linear", threshold=0.3)
    np.testing.assert_allclose(linear, [0.9, 0.8 * (1 - shared[0]), 0.7])
    # The third is now the better of the two: it lowers the second, not the other way round.
    gaussian = soften_shapes(box_shapes(boxes), scores, "gaussian", sigma=0.5)
    fall = np.exp(-(np.array(shared) ** 2) / 0.5)
    np.testing.assert_allclose(gaussian, [0.9, 0.8 * fall[0] * fall[2], 0.7 * fall[1]])
    np.testing.assert_array_equal(settle_shapes(box_shapes(boxes), scores, 0.3), [KEPT, DROPPED, KEPT])


@pytest.mark.parametrize("size", [0.5, 8.0, 8.0 + 1e-12, 64.0, 1e7])
def test_neighbours_of_any_size_are_found(size):
    """A grid of touching boxes, each with a twin that is moved a little, and one around them all."""
    rng = np.random.default_rng(1)
    corners = np.stack(np.meshgrid(np.arange(12), np.arange(12)), -1).reshape(-1, 2) * size
    boxes = np.concatenate([corners, corners + size], axis=1)
    twins = boxes + np.tile(rng.uniform(-0.3, 0.3, (len(boxes), 2)) * size, 2)
    every = np.concatenate([boxes, twins, [[0, 0, 12 * size, 12 * size]]])
    scores = rng.random(len(every))
    i, j, iou = box_ious(every)
    ious = np.zeros((len(every), len(every)))
    ious[i, j] = iou
    for threshold in (0.0, 0.005, 0.4):
        np.testing.assert_array_equal(
            settle_shapes(box_shapes(every), scores, threshold), greedy(scores, ious, threshold)
        )


def test_of_equal_scores_the_first_wins():
    assert settle_shapes(box_shapes([[0, 0, 4, 4]] * 3), np.full(3, 0.5), 0.5).tolist() == [KEPT, DROPPED, DROPPED]


def test_nothing_gives_nothing():
    for shapes in (box_shapes(np.zeros((0, 4))), mask_shapes(np.zeros((0, 4)), np.zeros(0), np.zeros(1), np.zeros(0))):
        assert len(settle_shapes(shapes, np.zeros(0), 0.5)) == 0
        assert len(soften_shapes(shapes, np.zeros(0), "linear")) == 0


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: box_shapes([[0, 0, np.nan, 1]]), "not finite"),
        (lambda: box_shapes([[0, 0, 1, 1]], [1, 2]), "as many kinds"),
        (lambda: settle_shapes(box_shapes([[0, 0, 1, 1]]), np.ones(2), 0.5), "as many scores"),
        (lambda: settle_shapes(box_shapes([[0, 0, 1, 1]]), np.array([np.inf]), 0.5), "not finite"),
        (lambda: settle_shapes(box_shapes([[0, 0, 1, 1]]), np.ones(1), 0.5, np.zeros(2, np.uint8)), "2 fates"),
        (lambda: soften_shapes(box_shapes([[0, 0, 1, 1]]), np.ones(1), "hard"), "linear or gaussian"),
        (lambda: soften_shapes(box_shapes([[0, 0, 1, 1]]), np.ones(1), "linear", sigma=0), "sigma"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
