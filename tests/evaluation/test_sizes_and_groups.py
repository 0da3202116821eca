"""Figures by size and by group, curves over the IoU, and the images that went worst."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cytomask.errors import ConfigError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.curves import iou_curves
from cytomask.evaluation.error_kinds import error_kinds
from cytomask.evaluation.grouping import UNKNOWN, group_images
from cytomask.evaluation.image_scores import CURVE_THRESHOLDS, ImageScores, Pair, score_image
from cytomask.evaluation.matching import match, pooled
from cytomask.evaluation.metrics import evaluate_pairs
from cytomask.evaluation.sizes import figures_by_size

from .label_pairs import blobs

QUICK = Bootstrap(resamples=40)


def squares(sides: list[int]) -> np.ndarray:
    labels = np.zeros((30, 30 * len(sides)), np.int32)
    for k, side in enumerate(sides):
        labels[:side, 30 * k : 30 * k + side] = k + 1
    return labels


def test_bins_hold_equally_many_and_tell_what_became_of_them() -> None:
    sides = list(range(4, 29))
    truth = squares(sides)
    # The five smallest are missed, of the five largest only a third of the pixels is found.
    prediction = np.where(truth <= 5, 0, truth)
    prediction[:, 30 * 20 :][:30, :][np.tile(np.arange(30)[:, None] >= 9, (1, 150))] = 0
    bins = figures_by_size([score_image(Pair("a", truth, prediction))])
    assert [one["n"] for one in bins] == [5] * 5
    assert [one["recall"] for one in bins] == [0, 1, 1, 1, 0]
    assert [one["mean_iou"] for one in bins[:4]] == [0, 1, 1, 1]
    assert bins[0]["kinds"]["missed"] == bins[4]["kinds"]["poor"] == 5
    assert bins[0]["diameter_px"] == pytest.approx([2 * 4 / np.pi**0.5, 2 * 8 / np.pi**0.5])
    assert "confidence_intervals" not in bins[0]


def test_few_objects_make_few_bins_and_equal_sizes_stay_together() -> None:
    assert figures_by_size([score_image(Pair("a", squares([]).reshape(30, 0), squares([]).reshape(30, 0)))]) == []
    for sides, expected in (([5], [1]), ([5] * 6 + [9] * 4, [6, 4]), ([5] * 4 + [9] * 6, [10]), ([6] * 20, [20])):
        labels = squares(sides)
        assert [one["n"] for one in figures_by_size([score_image(Pair("a", labels, labels))])] == expected


def test_intervals_of_sizes_are_those_of_drawing_images_again() -> None:
    rng = np.random.default_rng(0)
    truths = [blobs(rng) for _ in range(6)]
    images = [score_image(Pair("a", t, np.roll(t, k, axis=1))) for k, t in enumerate(truths)]
    bins = figures_by_size(images, QUICK)
    edges = [one["diameter_px"] for one in bins]
    for name in ("recall", "mean_iou"):
        values = []
        for weights in QUICK.weights(6).astype(int):
            hits, n = np.zeros(len(bins)), np.zeros(len(bins))
            for image, times in zip(images, weights):
                diameter = 2 * np.sqrt(image.true_areas / np.pi)
                for b, (low, high) in enumerate(edges):
                    chosen = (diameter >= low) & (diameter <= high)
                    value = image.kinds.truth_kinds == 0 if name == "recall" else image.kinds.truth_iou
                    hits[b] += times * value[chosen].sum()
                    n[b] += times * chosen.sum()
            values.append(hits / n)
        expected = np.percentile(values, (2.5, 97.5), axis=0).T
        np.testing.assert_allclose([b["confidence_intervals"][name] for b in bins], expected, rtol=1e-6)


def test_curves_are_the_matching_at_every_threshold() -> None:
    rng = np.random.default_rng(1)
    sides = [(t, np.roll(t, 3, axis=0)) for t in (blobs(rng), blobs(rng))]
    found = iou_curves([score_image(Pair("a", t, p)) for t, p in sides], QUICK)
    expected = pooled([match(t, p, CURVE_THRESHOLDS) for t, p in sides]).figures()
    assert found["iou"] == [pytest.approx(0.05 * k) for k in range(1, 20)]
    for name in ("accuracy", "f1", "precision", "recall"):
        assert found[name] == expected[name].tolist()
        assert found[name] == sorted(found[name], reverse=True)
        bounds = np.array(found["confidence_intervals"][name])
        assert (bounds[:, 0] <= expected[name] + 1e-9).all()
        assert (expected[name] <= bounds[:, 1] + 1e-9).all()
    assert "confidence_intervals" not in iou_curves([score_image(Pair("a", *sides[0]))], QUICK)


def images_of(**columns: list[str]) -> list[ImageScores]:
    one = np.eye(3, dtype=int)
    rows = [dict(zip(columns, values)) for values in zip(*columns.values())]
    return [score_image(Pair(f"i{k}", one, one, {k: v for k, v in row.items() if v})) for k, row in enumerate(rows)]


def test_groups_that_are_asked_for() -> None:
    images = images_of(day=["1", "2", "10", "2"], name=list("abcd"), lab=["x", "x", "", "y"])
    assert group_images(images) == {"lab": {"x": [0, 1], "y": [3]}}
    assert list(group_images(images, ["day"])["day"]) == ["1", "2", "10"]
    assert group_images(images, ["name", "lab"]) == {
        "name": {"a": [0], "b": [1], "c": [2], "d": [3]}, "lab": {"x": [0, 1], "y": [3], UNKNOWN: [2]},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="'dya' to group by") as caught:
        group_images(images, ["dya"])
    assert "did you mean 'day'" in str(caught.value)
    with pytest.raises(ConfigError, match="no table"):
        group_images(images_of(day=[""] * 3), ["day"])


def test_many_numbers_are_put_into_ranges() -> None:
    images = images_of(objects=[str(v) for v in (5, 1, 3, 40, 10, 12, 30, 7, 100, 60, 2, 8)] + [""])
    groups = group_images(images, ["objects"])["objects"]
    assert list(groups) == ["1 to 3", "5 to 8", "10 to 30", "40 to 100", UNKNOWN]
    assert [len(v) for v in groups.values()] == [3, 3, 3, 3, 1]


def test_groups_in_short_have_the_headline_figures() -> None:
    rng = np.random.default_rng(4)
    truths = [blobs(rng) for _ in range(6)]
    pairs = [Pair(f"i{k}", t, np.roll(t, k, axis=0), {"stain": "ab"[k % 2]}) for k, t in enumerate(truths)]
    found = evaluate_pairs(pairs, bootstrap=QUICK, group_by=["stain"]).metrics
    short, whole = found["by_group"]["stain"]["a"], found["groups"]["stain"]["a"]
    assert short["figures"]["accuracy_50"] == whole["matching"]["pooled"]["0.50"]["accuracy"]
    assert short["figures"]["boundary_f1"] == whole["boundary"]["pooled"]["f1"]
    assert short["confidence_intervals"]["aji"] == whole["confidence_intervals"]["aji"]
    assert (short["n_images"], short["error_kinds"]) == (3, whole["error_kinds"])
    assert "coco_segm_AP" not in short["figures"]


def test_the_worst_images_are_kept_whole() -> None:
    rng = np.random.default_rng(5)
    truths = [blobs(rng) for _ in range(7)]
    shifts = [3, 0, 6, 1, 5, 2, 4]
    empty = np.zeros((5, 5), int)
    pairs = [Pair(f"{s}", t, np.roll(t, s, axis=0), image=Path(f"{s}.tif")) for s, t in zip(shifts, truths)]
    found = evaluate_pairs([*pairs, Pair("empty", empty, empty)], bootstrap=QUICK, n_worst=3)
    rows = sorted(found.rows()[:-1], key=lambda row: row["accuracy_50"])
    assert [one.name for one in found.worst] == [row["name"] for row in rows[:3]]
    worst = found.worst[0]
    assert worst.image_path == Path(f"{worst.name}.tif")
    k = shifts.index(int(worst.name))
    np.testing.assert_array_equal(worst.truth.to_labels(), truths[k])
    np.testing.assert_array_equal(worst.kinds.truth_kinds, error_kinds(truths[k], pairs[k].prediction).truth_kinds)
    assert worst.figures["accuracy"] == rows[0]["accuracy_50"]
    assert evaluate_pairs(pairs, bootstrap=QUICK).worst == []
