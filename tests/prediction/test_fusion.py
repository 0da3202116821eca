"""Fusion of objects: by hand, and what must hold for any."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytomask.errors import ConfigError, LabelError
from cytomask.geometry.box_fusion import weighted_boxes_fusion
from cytomask.instances import Instances, mask_ious
from cytomask.prediction.fusion import METHODS, Fusion, fuse_instances


def drawn(shape, *rectangles, scores=None, **options) -> Instances:
    """Filled rectangles ``(y0, x0, y1, x1)``."""
    crops = [np.ones((y1 - y0, x1 - x0), bool) for y0, x0, y1, x1 in rectangles]
    return Instances.from_crops(shape, crops, [r[:2] for r in rectangles], scores=scores, **options)


def crowd(seed: int, count: int, shape=(60, 80)) -> Instances:
    """Random blots that do not overlap."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for k in range(1, count + 1):
        size = rng.integers(1, 12, 2)
        y, x = rng.integers(0, np.array(shape) - size + 1)
        labels[y : y + size[0], x : x + size[1]] = np.where(rng.random(size) < 0.8, k, 0)
    ids = [k for k in np.unique(labels) if k]
    return Instances.from_labels(
        labels, classes={k: int(rng.integers(1, 3)) for k in ids}, scores={k: float(rng.uniform(0.1, 1)) for k in ids},
        class_names=("a", "b"),
    )  # fmt: skip


def assert_same(found: Instances, expected: Instances) -> None:
    assert found.class_names == expected.class_names
    for name in ("shape", "windows", "bits", "offsets", "classes", "ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=1e-6)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def in_order(objects: Instances) -> Instances:
    return fuse_instances([objects], "nms", iou_threshold=1.0)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 25),
    copies=st.integers(1, 4),
    method=st.sampled_from(METHODS),
    by=st.sampled_from(["mask", "box"]),
)
def test_models_that_agree_change_nothing(seed, count, copies, method, by):
    """But for soft-nms of one threshold, whose copies are dropped by their score."""
    one = crowd(seed, count)
    if by == "box":  # boxes of neighbours may overlap though their masks do not
        one = fuse_instances([one], "nms", by="box", iou_threshold=0.0)
    fused = fuse_instances(
        [one] * copies, method, by=by, iou_threshold=0.0 if method != "wbf" else 0.5, score_threshold=0.001
    )
    assert_same(fused, in_order(one))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(0, 20), min_size=1, max_size=4),
    method=st.sampled_from(METHODS),
)
def test_the_order_of_models_does_not_matter(seed, counts, method):
    parts = [crowd(seed + k, count) for k, count in enumerate(counts)]
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(parts))
    there = fuse_instances(parts, method, weights.tolist())
    assert_same(fuse_instances(parts[::-1], method, weights[::-1].tolist()), there)
    assert (there.areas() > 0).all()
    np.testing.assert_array_equal(there.ids, np.arange(1, len(there) + 1))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 20), models=st.integers(1, 4))
def test_boxes_and_scores_are_those_of_weighted_boxes_fusion(seed, count, models):
    parts = [crowd(seed + k // 2, count) for k in range(models)]
    weights = np.random.default_rng(seed).uniform(0.5, 2, models).tolist()
    fused = fuse_instances(parts, "wbf", weights, by="box", iou_threshold=0.4)
    expected = weighted_boxes_fusion(
        [p.boxes for p in parts],
        [p.scores for p in parts],
        [p.classes for p in parts],
        weights=weights,
        iou_threshold=0.4,
    )
    ours = np.column_stack([fused.boxes, fused.scores, fused.classes])
    theirs = np.column_stack([expected.boxes, expected.scores, expected.classes]).astype(np.float32)
    np.testing.assert_allclose(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)], rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 25), by=st.sampled_from(["mask", "box"]))
def test_nms_leaves_no_overlap_and_drops_none_without_reason(seed, count, by):
    parts = [crowd(seed, count), crowd(seed + 1, count)]
    kept = fuse_instances(parts, "nms", iou_threshold=0.2, by="mask")
    i, j, iou = mask_ious(kept, kept)
    assert iou[(i != j) & (kept.classes[i] == kept.classes[j])].max(initial=0) <= 0.2
    for part in parts:
        i, j, iou = mask_ious(part, kept)
        same = (iou > 0.2) & (part.classes[i] == kept.classes[j]) & (kept.scores[j] >= part.scores[i])
        explained = set(i[same].tolist())
        assert explained == set(range(len(part)))


def test_the_mask_is_voted_by_score():
    parts = [
        drawn((20, 20), (0, 0, 10, 10), scores=[0.9]),
        drawn((20, 20), (0, 0, 10, 8), scores=[0.5]),
        drawn((20, 20), (0, 0, 10, 8), scores=[0.5]),
    ]
    fused = fuse_instances(parts)
    assert len(fused) == 1
    # Columns 8 and 9 have 0.9 of 1.9 votes.
    np.testing.assert_array_equal(fused.windows, [[0, 0, 10, 8]])
    np.testing.assert_allclose(fused.scores, [1.9 / 3])
    np.testing.assert_allclose(fused.boxes, [[0, 0, 10, (0.9 * 10 + 8) / 1.9]], rtol=1e-6)
    # With a weight of 2 they have 1.8 of 2.8.
    heavy = fuse_instances(parts, weights=[2, 1, 1])
    np.testing.assert_allclose(heavy.boxes, [[0, 0, 10, (1.8 * 10 + 8) / 2.8]], rtol=1e-6)
    np.testing.assert_array_equal(heavy.windows, [[0, 0, 10, 10]])
    np.testing.assert_allclose(heavy.scores, [2.8 / 4])


def test_a_pixel_with_just_half_of_the_votes_belongs_to_it():
    parts = [drawn((20, 20), (0, 0, 10, 10), scores=[0.7]), drawn((20, 20), (0, 0, 10, 8), scores=[0.7])]
    # Up to the mean box, which ends at 9.
    np.testing.assert_array_equal(fuse_instances(parts).windows, [[0, 0, 10, 9]])


def test_models_that_do_not_see_it_lower_the_score_not_the_mask():
    parts = [drawn((20, 20), (0, 0, 10, 10), scores=[0.8]), Instances.empty((20, 20)), Instances.empty((20, 20))]
    fused = fuse_instances(parts, weights=[2, 1, 1])
    np.testing.assert_allclose(fused.scores, [0.4])
    np.testing.assert_array_equal(fused.windows, [[0, 0, 10, 10]])
    assert len(fuse_instances(parts, weights=[2, 1, 1], score_threshold=0.41)) == 0


def test_where_no_pixel_has_half_the_votes_the_best_mask_stays():
    whole = {"boxes": [[0, 0, 9, 9]]}
    parts = [
        drawn((9, 9), (0, 0, 3, 9), scores=[0.5], **whole),
        drawn((9, 9), (3, 0, 6, 9), scores=[0.6], **whole),
        drawn((9, 9), (6, 0, 9, 9), scores=[0.4], **whole),
    ]
    fused = fuse_instances(parts, by="box")
    np.testing.assert_array_equal(fused.windows, [[3, 0, 6, 9]])
    assert len(fuse_instances(parts, by="mask")) == 3


def test_classes_are_told_by_their_names():
    a = drawn((9, 9), (0, 0, 4, 4), classes=[1], class_names=("cell", "debris"))
    b = drawn((9, 9), (0, 0, 4, 4), (5, 5, 9, 9), classes=[2, 1], class_names=("nucleus", "cell"))
    for method in METHODS:
        fused = fuse_instances([a, b], method)
        assert fused.class_names == ("cell", "debris", "nucleus")
        if method != "soft-nms":
            np.testing.assert_array_equal(fused.classes, [1, 3])
    other = drawn((9, 9), (0, 0, 4, 4), class_names=("vessel",))
    assert len(fuse_instances([a, other])) == 2


def test_weights_tell_whom_nms_believes():
    parts = [drawn((20, 20), (0, 0, 10, 10), scores=[0.8]), drawn((20, 20), (0, 0, 10, 8), scores=[0.6])]
    np.testing.assert_array_equal(fuse_instances(parts, "nms").windows, [[0, 0, 10, 10]])
    heavy = fuse_instances(parts, "nms", [1, 2])
    np.testing.assert_array_equal(heavy.windows, [[0, 0, 10, 8]])
    np.testing.assert_allclose(heavy.scores, [0.6])
    soft = fuse_instances(parts, "soft-nms", [1, 2])
    np.testing.assert_allclose(np.sort(soft.scores), [0.8 * (1 - 0.8), 0.6], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by", ["mask", "box"])
def test_nothing_gives_nothing(method, by):
    fused = fuse_instances([Instances.empty((5, 7), ("a",)), Instances.empty((5, 7), ("b",))], method, by=by)
    assert (len(fused), fused.shape, fused.class_names) == (0, (5, 7), ("a", "b"))


@pytest.mark.parametrize("method", METHODS)
def test_scores_of_zero(method):
    part = drawn((20, 20), (0, 0, 10, 10), scores=[0.0])
    fused = fuse_instances([part, part], method, iou_threshold=0.5)
    assert np.isfinite(fused.scores).all()
    np.testing.assert_array_equal(fused.windows[0], [0, 0, 10, 10])


def test_an_empty_mask_among_the_members():
    hollow = Instances.from_crops((9, 9), [np.zeros((2, 2), bool)], [(0, 0)], scores=[0.2], boxes=[[0, 0, 4, 4]])
    fused = fuse_instances([drawn((9, 9), (0, 0, 4, 4), scores=[0.9]), hollow], by="box")
    np.testing.assert_array_equal(fused.windows, [[0, 0, 4, 4]])
    for method in METHODS:
        assert len(fuse_instances([hollow, hollow], method, by="box")) == 0


def test_memory_follows_the_objects():
    shape = (20_000, 20_000)
    rectangles = [(y, x, y + 10, x + 10) for y in range(0, 20_000, 1000) for x in range(0, 20_000, 1000)]
    part = drawn(shape, *rectangles)
    fuse_instances([part.take([0])] * 2)  # compiles
    tracemalloc.start()
    try:
        fused = fuse_instances([part] * 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(fused) == 400
    assert peak < 2_000_000


def test_what_does_not_fit_is_refused():
    part = drawn((9, 9), (0, 0, 4, 4))
    with pytest.raises(LabelError, match="no objects to fuse"):
        fuse_instances([])
    with pytest.raises(LabelError, match="different shape"):
        fuse_instances([part, Instances.empty((9, 8))])
    with pytest.raises(ValueError, match="2 models need 2 weights"):
        fuse_instances([part, part], weights=[1])
    with pytest.raises(ValueError, match="not vote"):
        fuse_instances([part], "vote")  # type: ignore[arg-type]
    for wrong in ({"method": "vote"}, {"by": "area"}, {"iou_threshold": 1.5}, {"score_threshold": -1}):
        with pytest.raises(ConfigError):
            Fusion(**wrong)


def test_thresholds_that_are_not_given():
    assert Fusion().resolved([0.4, 0.6], [1, 1]) == Fusion("wbf", 0.5, 0.25)
    assert Fusion().resolved([0.4, 0.6], [3, 1]).score_threshold == pytest.approx(0.225)
    assert Fusion("nms").resolved([0.4, 0.6], [1, 1]) == Fusion("nms", 0.5, 0.0)
    assert Fusion("soft-nms").resolved([0.4, 0.6], [1, 1]) == Fusion("soft-nms", 0.3, 0.4)
    assert Fusion("nms", 0.1, 0.2).resolved([0.4], [1]) == Fusion("nms", 0.1, 0.2)
