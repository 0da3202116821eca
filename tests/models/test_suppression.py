"""Post-processing of every family: the shapes that compete, classes, and what Soft-NMS does for crowds."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cytomask.geometry.fate import DROPPED, KEPT, OPEN
from cytomask.geometry.polygon_nms import polygon_nms
from cytomask.geometry.soft_nms import box_ious
from cytomask.instances import mask_ious
from cytomask.models.proposals import Proposals
from cytomask.models.registry import FAMILIES, build_segmenter, family_class
from cytomask.models.star.config import StarPostprocess
from cytomask.models.suppression import competing_shapes

RAYS = 16
STAR = build_segmenter(
    "star", {"rays": RAYS, "classes": ["a", "b"], "backbone": {"kind": "unet", "depth": 1, "base": 4, "features": 8}}
)
REGION = build_segmenter(
    "region",
    {
        "classes": ["a", "b"],
        "backbone": {"depth": 18, "width": 16, "stem_width": 16},
        "pyramid": {"width": 16},
        "box": {"linear_width": 32},
        "mask": {"convolutions": 1, "width": 16},
    },
)


def discs(points: Any, radii: Any, scores: Any, classes: Any = None) -> Proposals:
    points = np.asarray(points, np.float32).reshape(-1, 2)
    distances = np.broadcast_to(np.array(radii, np.float32).reshape(len(points), -1), (len(points), RAYS)).copy()
    kinds = np.ones(len(points)) if classes is None else classes
    return Proposals(points, np.asarray(scores, np.float32), np.asarray(kinds, np.int32), {"distances": distances})


def crowd_of(seed: int, count: int, side: float = 60.0) -> Proposals:
    """Stars, also outside of the image, many with equal scores."""
    rng = np.random.default_rng(seed)
    points = rng.integers(-20, int(side), (count, 2)) * 1.0
    order = np.lexsort((points[:, 1], points[:, 0]))
    radii = rng.uniform(0.2, 1, (count, RAYS)) * rng.choice([3, 8, 20], (count, 1))
    return discs(points[order], radii, rng.integers(1, 8, count) / 8, rng.integers(1, 3, count))


def regions_of(seed: int, count: int) -> Proposals:
    """Boxes with blurred random masks."""
    rng = np.random.default_rng(seed)
    stars = crowd_of(seed, count)
    halves = rng.uniform(0.5, 14, (count, 2))
    masks = rng.normal(0.5, 1, (count, 4, 4)).repeat(7, axis=1).repeat(7, axis=2).astype(np.float16)
    data = {"box": np.concatenate([-halves, halves], axis=1).astype(np.float32), "mask": masks}
    return Proposals(stars.points + rng.random((count, 1), np.float32), stars.scores, stars.classes, data)


def settle(proposals: Proposals, **how: Any) -> np.ndarray:
    n = len(proposals)
    postprocess = StarPostprocess(score_threshold=0.0, **how)
    return STAR.settle(proposals, postprocess, np.zeros(n, np.uint8), np.zeros(n, bool))


def test_what_is_saved_without_these_settings_means_what_it_meant() -> None:
    proposals = crowd_of(0, 300)
    kept = polygon_nms(proposals.points, proposals.data["distances"], proposals.scores, 0.2)
    assert 10 < kept.sum() < 290
    settings_of_old = StarPostprocess.model_validate({"score_threshold": 0.0, "nms_threshold": 0.2})
    fates = STAR.settle(proposals, settings_of_old, np.zeros(300, np.uint8), np.zeros(300, bool))
    np.testing.assert_array_equal(fates == KEPT, kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_impossible_settings_are_refused(family: str) -> None:
    kind = family_class(family).postprocess_class
    for wrong in ({"nms": "softer"}, {"nms_by": "polygon"}, {"nms_sigma": 0}, {"nms_threshold": 1.1}):
        with pytest.raises(ValidationError):
            kind.model_validate(wrong)


@pytest.mark.parametrize("family", ["star", "region"])
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    by=st.sampled_from(["box", "mask"]),
    per_class=st.booleans(),
    threshold=st.sampled_from([0.0, 0.3, 0.7]),
    share=st.floats(0, 1),
)
def test_a_part_never_contradicts_the_whole(family, seed, count, by, per_class, threshold, share) -> None:
    rng = np.random.default_rng(seed)
    segmenter, proposals = (STAR, crowd_of(seed, count)) if family == "star" else (REGION, regions_of(seed, count))
    postprocess = segmenter.postprocess_class.model_validate(
        {"score_threshold": 0, "nms_by": by, "per_class": per_class, "nms_threshold": threshold}
    )
    whole = segmenter.settle(proposals, postprocess, np.zeros(count, np.uint8), np.zeros(count, bool))
    assert OPEN not in whole
    part = rng.random(count) < share
    bounds = segmenter.bounds(proposals)
    meet = np.logical_and(
        (bounds[:, None, :2] < bounds[None, :, 2:]).all(-1), (bounds[:, None, 2:] > bounds[None, :, :2]).all(-1)
    )
    foreign = (meet & ~part[None]).any(axis=1)
    known = np.where((whole == KEPT) & (rng.random(count) < 0.3), KEPT, OPEN).astype(np.uint8)
    told = segmenter.settle(proposals.take(part), postprocess, known[part], foreign[part])
    certain = told != OPEN
    np.testing.assert_array_equal(told[certain], whole[part][certain])
    if not foreign[part].any():
        assert certain.all()


@pytest.mark.parametrize("by", ["box", "mask"])
def test_only_objects_of_a_class_compete(by: str) -> None:
    proposals = discs([[20, 20], [20, 21], [20, 22]], [8, 8, 8], [0.7, 0.9, 0.8], [1, 2, 1])
    for nms in ("linear", "gaussian"):
        post = StarPostprocess(score_threshold=0.01, nms=nms, nms_by=by)
        across = STAR.soften(proposals, post).scores
        within = STAR.soften(proposals, post.model_copy(update={"per_class": True})).scores
        assert within[1] == across[1] == np.float32(0.9)
        assert within[2] == np.float32(0.8) > across[2]
        assert across[0] < within[0] < np.float32(0.7)
    assert settle(proposals, nms_by=by).tolist() == [DROPPED, KEPT, DROPPED]
    assert settle(proposals, nms_by=by, per_class=True).tolist() == [DROPPED, KEPT, KEPT]


def test_masks_compete_by_their_pixels_wherever_they_lie() -> None:
    """The overlaps are those of the masks as drawn, also far out and left of the image."""
    proposals = crowd_of(3, 80)
    inside = STAR.render(proposals.shifted(64, 64), (256, 256))
    i, j, expected = mask_ious(inside, inside)
    assert (expected[i != j] > 0).sum() > 200
    for place in (0.0, -640.0, 4096.0):
        shapes = competing_shapes(STAR, proposals.shifted(place, place), "mask", False)
        np.testing.assert_array_equal(shapes.areas, inside.areas())
        moved = inside.windows.astype(int) - 64 + int(place)
        np.testing.assert_array_equal(shapes.windows[inside.areas() > 0], moved[inside.areas() > 0])
        np.testing.assert_array_equal(shapes.bits, inside.bits)


def test_boxes_are_around_what_is_drawn() -> None:
    proposals = discs([[50, 50], [30.0, 80.0]], [[10] * RAYS, [12, 3] * (RAYS // 2)], [0.9, 0.8])
    boxes, windows = STAR.boxes(proposals), STAR.render(proposals, (200, 200)).windows
    assert boxes.shape == (2, 4)
    np.testing.assert_allclose(boxes[0], [40.5, 40.5, 60.5, 60.5], atol=1e-4)
    assert (np.abs(boxes - windows) <= 1).all()


def test_rescored_by_hand() -> None:
    """Two discs that share a third of their boxes, and one by itself."""
    proposals = discs([[20, 20], [20, 28], [90, 90]], [8, 8, 5], [0.9, 0.8, 0.4])
    iou = box_ious(STAR.boxes(proposals))[2][0]
    assert iou == pytest.approx(1 / 3, abs=1e-5)
    linear = StarPostprocess(score_threshold=0.1, nms="linear", nms_by="box", nms_threshold=0.3)
    found = STAR.resolve(proposals, linear, (128, 128))
    np.testing.assert_allclose(found.scores, [0.9, 0.8 * (1 - iou), 0.4], rtol=1e-5)
    gaussian = linear.model_copy(update={"nms": "gaussian", "nms_sigma": 0.2})
    fallen = 0.8 * np.exp(-(iou**2) / 0.2)
    np.testing.assert_allclose(STAR.resolve(proposals, gaussian, (128, 128)).scores, [0.9, fallen, 0.4], rtol=1e-5)
    # What falls to the threshold goes; what does not overlap enough does not fall.
    strict = gaussian.model_copy(update={"score_threshold": float(fallen) + 0.01})
    assert len(STAR.resolve(proposals, strict, (128, 128))) == 1
    loose = linear.model_copy(update={"nms_threshold": 0.4})
    np.testing.assert_allclose(STAR.resolve(proposals, loose, (128, 128)).scores, [0.9, 0.8, 0.4], rtol=1e-5)
    # Rows and classes stay with their objects, in their order.
    assert found.ids.tolist() == [1, 2, 3]


def crowd(seed: int) -> tuple[Proposals, np.ndarray]:
    """Pairs of clear objects that lie upon one another, by each a faint false one, and faint objects by themselves.

    Neither scores nor overlaps alone tell true from false: the false ones are as faint as some that are true, and
    overlap less than the pairs.
    """
    rng = np.random.default_rng(seed)
    points, scores, true = [], [], []
    for row, column in product(range(8), range(8)):
        y, x = 60 * row + 15, 60 * column + 15
        points += [(y, x), (y, x + rng.uniform(7.5, 8.5)), (y + rng.uniform(10, 11), x), (y + 32, x + 32)]
        clear, faint = -np.sort(-rng.uniform(0.85, 0.95, 2)), rng.uniform(0.5, 0.6, 2)
        scores += [*clear, *faint]
        true += [True, True, False, True]
    order = np.lexsort(np.transpose(points)[::-1])
    classes = 1 + np.array(true)[order]
    return discs(np.array(points)[order], np.full(len(points), 10.0), np.array(scores)[order], classes), classes == 2


@pytest.mark.parametrize("nms", ["linear", "gaussian"])
def test_soft_nms_keeps_more_true_objects_of_a_crowd(nms: str) -> None:
    proposals, true = crowd(0)
    assert true.sum() == 192

    def most_true(settings: list[StarPostprocess], most_false: int) -> int:
        best = 0
        for postprocess in settings:
            found = STAR.resolve(proposals, postprocess, (520, 520))
            if (found.classes == 1).sum() <= most_false:
                best = max(best, int((found.classes == 2).sum()))
        return best

    overlaps, levels = np.linspace(0, 1, 21), np.linspace(0.3, 0.7, 17)
    hard = [
        StarPostprocess(score_threshold=s, nms_by=by, nms_threshold=t)
        for by, s, t in product(("box", "mask"), levels, overlaps)
    ]
    soft = [StarPostprocess(score_threshold=s, nms=nms, nms_by="box", nms_threshold=0.25) for s in levels]
    # Whatever the thresholds: hard suppression loses the pairs' weaker ones, or the faint ones, or keeps the false.
    assert most_true(hard, 3) <= 140
    assert most_true(soft, 3) >= 185
