"""Summaries and their confidence intervals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import ImageScores, Pair, score_image
from cytomask.evaluation.summary import plain, summarise
from cytomask.label_layers import LabelLayers

from .label_pairs import blobs


@pytest.fixture(scope="module")
def images() -> list[ImageScores]:
    rng = np.random.default_rng(1)
    truths = [blobs(rng, n=int(rng.integers(3, 30))) for _ in range(15)]
    scores = [score_image(Pair(f"i{k}", t, np.roll(t, k % 4, axis=1))) for k, t in enumerate(truths)]
    empty = np.zeros((90, 90), np.int32)
    return [*scores, score_image(Pair("empty", empty, empty))]


def walk(tree: dict, path: tuple[str, ...] = ()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from walk(value, (*path, key))
        else:
            yield (*path, key), value


def lookup(tree: dict, path: tuple[str, ...]):
    for key in path:
        tree = tree[key]
    return tree


def test_intervals_hold_every_figure(images: list[ImageScores]) -> None:
    found = summarise(images, bootstrap=Bootstrap())
    intervals = found.pop("confidence_intervals")
    assert (intervals.pop("level"), intervals.pop("resamples"), intervals.pop("seed")) == (0.95, 1000, 0)
    counts = {"n_images", "n_true", "n_pred", "images_without_objects", "tp", "fp", "fn"}
    figures = {path: v for path, v in walk(found) if path[-1] not in counts and "error_kinds" not in path}
    assert figures.keys() == dict(walk(intervals)).keys()
    for path, value in figures.items():
        low, high = lookup(intervals, path)
        assert 0 <= low <= value <= high <= 1, path
        assert low < high or value in (0, 1), path


def test_intervals_are_those_of_drawing_images_again(images: list[ImageScores]) -> None:
    bootstrap = Bootstrap(resamples=60, seed=5)
    intervals = summarise(images, bootstrap=bootstrap)["confidence_intervals"]
    drawn = [
        [image for image, times in zip(images, weights.astype(int)) for _ in range(times)]
        for weights in bootstrap.weights(len(images))
    ]
    again = [dict(walk(summarise(some))) for some in drawn]
    for path, interval in walk(intervals):
        if path[0] in ("level", "resamples", "seed"):
            continue
        values = [one[path] for one in again if one[path] is not None]
        np.testing.assert_allclose(interval, np.percentile(values, (2.5, 97.5)), atol=1e-6, err_msg=str(path))


def test_one_image_has_no_interval(images: list[ImageScores]) -> None:
    assert summarise(images[:1], bootstrap=Bootstrap())["confidence_intervals"] is None
    assert "confidence_intervals" not in summarise(images, bootstrap=Bootstrap(resamples=0))


def test_the_seed_decides(images: list[ImageScores]) -> None:
    first, same, other = (summarise(images, bootstrap=Bootstrap(seed=s))["confidence_intervals"] for s in (1, 1, 2))
    assert first == same
    assert first["aji"] != other["aji"]


def test_a_wider_level_is_wider() -> None:
    values = np.random.default_rng(0).normal(size=(4000, 2))
    low, high = Bootstrap(level=0.95).interval(values)
    np.testing.assert_allclose(low, -1.96, atol=0.1)
    np.testing.assert_allclose(high, 1.96, atol=0.1)
    assert (Bootstrap(level=0.5).interval(values)[1] < high).all()
    assert np.isnan(Bootstrap().interval(np.full((3, 1), np.nan))).all()


def test_means_and_totals(images: list[ImageScores]) -> None:
    found = summarise(images)
    assert found["n_images"] == 16
    assert found["images_without_objects"] == 1
    half = found["matching"]["pooled"]["0.50"]
    assert half["tp"] == sum(i.matching.tp[0] for i in images)
    assert half["n_true"] == half["tp"] + half["fn"] == found["n_true"]
    pooled = [found["matching"]["pooled"][f"{t:.2f}"]["accuracy"] for t in np.arange(0.5, 0.91, 0.05)]
    assert found["mean_accuracy_50_90"] == pytest.approx(np.mean(pooled))
    assert found["aji"] == pytest.approx(sum(i.aji_shared for i in images) / sum(i.aji_covered for i in images))
    assert found["aji_mean_per_image"] == pytest.approx(np.nanmean([i.aji for i in images]))
    assert found["pixels"]["iou"].keys() == {"background", "object"}
    json.dumps(found, allow_nan=False)


def test_nothing_at_all() -> None:
    empty = np.zeros((4, 4), int)
    found = summarise([score_image(Pair(n, empty, empty)) for n in "ab"], bootstrap=Bootstrap())
    assert found["aji"] is None
    assert found["pixels"]["iou"] == {"background": 1.0, "object": None}
    assert found["pixels"]["dice"] is None
    assert found["matching"]["pooled"]["0.50"]["accuracy"] == 0
    assert found["confidence_intervals"]["aji"] == [None, None]
    json.dumps(found, allow_nan=False)


def test_pixels_pooled_and_of_each_image() -> None:
    truth = np.zeros((4, 5), int)
    truth[0] = 1
    larger, empty = np.ones((10, 10), int), np.zeros((4, 4), int)
    pairs = [Pair("a", truth, np.roll(truth, 1, axis=1) * (np.arange(5) > 0)), Pair("b", larger, larger * 3),
             Pair("c", empty, empty), Pair("d", truth, np.zeros_like(truth))]  # fmt: skip
    images = [score_image(pair) for pair in pairs]
    found = summarise(images, bootstrap=Bootstrap(resamples=50))
    assert [image.row()["foreground_iou"] for image in images] == [0.8, 1.0, pytest.approx(np.nan, nan_ok=True), 0.0]
    assert found["pixels"]["foreground_iou"] == found["pixels"]["iou"]["object"] == 104 / 110
    # The image without objects says nothing of them, and all of the background.
    of_image = found["pixels"]["mean_per_image"]
    assert of_image["foreground_iou"] == of_image["iou"]["object"] == pytest.approx((0.8 + 1 + 0) / 3)
    assert of_image["iou"]["background"] == pytest.approx((15 / 16 + 1 + 15 / 20) / 3)
    assert of_image["pixel_accuracy"] == pytest.approx((19 / 20 + 1 + 1 + 15 / 20) / 4)
    intervals = found["confidence_intervals"]["pixels"]
    assert intervals["mean_per_image"].keys() == of_image.keys()
    low, high = intervals["mean_per_image"]["foreground_iou"]
    assert 0 <= low < of_image["foreground_iou"] < high <= 1


def test_intervals_of_pixels_are_those_of_images_drawn_again(images: list[ImageScores]) -> None:
    bootstrap = Bootstrap(resamples=40, seed=5)
    found = summarise(images, bootstrap=bootstrap)["confidence_intervals"]["pixels"]
    means, pooled_ious = [], []
    for weights in bootstrap.weights(len(images)):
        drawn = [image for image, n in zip(images, weights.astype(int)) for _ in range(n)]
        one = summarise(drawn)["pixels"]
        means.append(one["mean_per_image"]["foreground_iou"])
        pooled_ious.append(one["iou"]["object"])
    assert found["mean_per_image"]["foreground_iou"] == pytest.approx(bootstrap.interval(np.array(means)).tolist())
    assert found["iou"]["object"] == pytest.approx(bootstrap.interval(np.array(pooled_ious)).tolist())


def test_each_class_alone() -> None:
    names = ("round", "long")
    labels = np.array([[1, 1, 0, 2, 2, 0, 3, 3]])
    truth = LabelLayers.from_labels(labels, classes={1: 1, 2: 2, 3: 2}, class_names=names)
    prediction = LabelLayers.from_labels(labels, classes={1: 1, 2: 1, 3: 2}, class_names=names)
    found = summarise([score_image(Pair("a", truth, prediction), 2)] * 2, names, Bootstrap(resamples=9))
    assert found["matching"]["pooled"]["0.50"]["tp"] == 6
    of_class = {name: found["classes"][name]["matching"]["pooled"]["0.50"] for name in names}
    assert [(v["tp"], v["fp"], v["fn"]) for v in of_class.values()] == [(2, 2, 0), (2, 0, 2)]
    assert found["classes"]["long"]["mean_accuracy_50_90"] == 0.5
    assert found["pixels"]["iou"] == {"background": 1.0, "round": 0.5, "long": 0.5}
    assert found["confidence_intervals"]["classes"]["long"]["mean_accuracy_50_90"] == [0.5, 0.5]


def test_plain_values() -> None:
    assert plain({"a": [np.float32(0.5), np.int64(3), float("nan")], "b": (np.array([1.0, np.inf]),), "c": "x"}) == {
        "a": [0.5, 3, None],
        "b": [[1.0, None]],
        "c": "x",
    }
