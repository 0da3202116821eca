"""What metrics.json holds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from stardist.matching import matching_dataset

from cytomask.errors import DataError, LabelError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.definitions import DEFINITIONS
from cytomask.evaluation.grouping import group_images
from cytomask.evaluation.image_scores import Pair
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.metrics import Evaluation, evaluate_pairs
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

from .label_pairs import blobs

QUICK = Bootstrap(resamples=20)


@pytest.fixture(scope="module")
def truths() -> list[np.ndarray]:
    rng = np.random.default_rng(2)
    return [blobs(rng) for _ in range(6)]


def groups(k: int) -> dict[str, str]:
    return {"stain": "DAPI" if k < 4 else "H&E", "objects": str(k), "lab": "one", "slide": f"s{k}"}


@pytest.fixture(scope="module")
def found(truths: list[np.ndarray]) -> Evaluation:
    pairs = (Pair(f"i{k}", t, np.roll(t, k, axis=0), groups(k)) for k, t in enumerate(truths))
    return evaluate_pairs(pairs, bootstrap=QUICK)


def test_the_layout(found: Evaluation) -> None:
    metrics = found.metrics
    for kind in ("pooled", "mean_per_image"):
        assert list(metrics["matching"][kind]) == [f"{t:.2f}" for t in THRESHOLDS]
        for values in metrics["matching"][kind].values():
            assert {"precision", "recall", "f1", "accuracy", "pq", "mean_matched_iou"} <= values.keys()
    assert {"tp", "fp", "fn"} <= metrics["matching"]["pooled"]["0.95"].keys()
    of_pixels = {"iou", "mean_iou", "foreground_iou", "pixel_accuracy", "dice"}
    assert metrics["pixels"].keys() == {*of_pixels, "mean_per_image"}
    assert metrics["pixels"]["mean_per_image"].keys() == of_pixels
    assert metrics["coco"] == {"segm": None, "bbox": None, "reason": metrics["coco"]["reason"]}
    assert "no scores" in metrics["coco"]["reason"]
    assert metrics["definitions"] == DEFINITIONS
    assert metrics["notices"] == ["intervals from 6 images are rough, and rather too narrow than too wide"]
    assert 0 < metrics["mean_accuracy_50_90"] < 1
    assert 0 < metrics["aji"] < 1
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics


def test_the_numbers_are_stardists(found: Evaluation, truths: list[np.ndarray]) -> None:
    predictions = [np.roll(t, k, axis=0) for k, t in enumerate(truths)]
    for by_image, kind in ((False, "pooled"), (True, "mean_per_image")):
        for one in matching_dataset(truths, predictions, THRESHOLDS, by_image=by_image, show_progress=False):
            values = found.metrics["matching"][kind][f"{one.thresh:.2f}"]
            for ours, theirs in (("accuracy", "accuracy"), ("pq", "panoptic_quality"), ("f1", "f1")):
                assert values[ours] == pytest.approx(getattr(one, theirs), abs=1e-9)


def test_groups(found: Evaluation) -> None:
    of_stain = found.metrics["groups"]["stain"]
    assert found.metrics["groups"].keys() == {"stain"}
    assert (of_stain["DAPI"]["n_images"], of_stain["H&E"]["n_images"]) == (4, 2)
    assert of_stain["DAPI"]["n_true"] + of_stain["H&E"]["n_true"] == found.metrics["n_true"]
    assert of_stain["DAPI"]["mean_accuracy_50_90"] > of_stain["H&E"]["mean_accuracy_50_90"]
    assert of_stain["DAPI"]["confidence_intervals"] is not None
    assert group_images(found.images[:1]) == {}


def test_one_row_per_image(found: Evaluation) -> None:
    rows = found.rows()
    assert [row["name"] for row in rows] == [f"i{k}" for k in range(6)]
    assert rows[0]["accuracy_50"] == rows[0]["pq_95"] == rows[0]["aji"] == rows[0]["dice"] == 1
    assert rows[5]["stain"] == "H&E"
    total = sum(row["tp_75"] for row in rows)
    assert total == found.metrics["matching"]["pooled"]["0.75"]["tp"]
    assert len({tuple(row) for row in rows}) == 1


def test_scored_instances_get_coco_metrics(truths: list[np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    instances = [Instances.from_labels(t) for t in truths]
    scored = [i.take(rng.random(len(i)) < 0.7) for i in instances]
    found = evaluate_pairs([Pair("a", t, p) for t, p in zip(truths, scored)], bootstrap=QUICK).metrics
    assert "reason" not in found["coco"]
    # Whatever is predicted is right, so that precision is 1 as far as recall reaches.
    recall = sum(map(len, scored)) / sum(map(len, instances))
    for kind in ("segm", "bbox"):
        assert found["coco"][kind]["AP"] == pytest.approx(recall, abs=0.01)
        assert found["coco"][kind]["AR"] == pytest.approx(recall)
    labels_with_scores = [Pair("a", t, p.to_labels(), scored=p) for t, p in zip(truths, scored)]
    again = evaluate_pairs(labels_with_scores, bootstrap=QUICK).metrics
    assert again == found
    mixed = evaluate_pairs([*labels_with_scores, Pair("b", truths[0], truths[0])], bootstrap=QUICK).metrics
    assert mixed["coco"]["segm"] is None
    assert "only 6 of 7" in mixed["coco"]["reason"]


def test_a_notice_where_images_hold_more_than_coco_counts() -> None:
    labels = np.kron(np.arange(1, 2501, dtype=np.int32).reshape(50, 50), np.ones((3, 3), np.int32))
    cells = Instances.from_labels(labels)
    found = evaluate_pairs([Pair("dense", labels, cells)] * 2, bootstrap=QUICK).metrics
    assert "dense: 2500" in found["notices"][1]
    assert found["matching"]["pooled"]["0.50"]["accuracy"] == 1
    assert found["coco"]["segm"]["AR"] == pytest.approx(2000 / 2500, abs=1e-3)


def test_classes() -> None:
    names = ("round", "long")
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[10:18, 3:6] = 1, 2
    truth = LabelLayers.from_labels(labels, classes={1: 1, 2: 2}, class_names=names)
    right = Instances.from_labels(labels, classes={1: 1, 2: 2}, class_names=names)
    wrong = Instances.from_labels(labels, classes={1: 2, 2: 2}, class_names=names)
    found = evaluate_pairs(
        [Pair("a", truth, right), Pair("b", truth, wrong)], class_names=names, bootstrap=QUICK
    ).metrics
    assert found["matching"]["pooled"]["0.50"]["accuracy"] == 1
    assert found["classes"]["round"]["matching"]["pooled"]["0.50"]["recall"] == 0.5
    assert found["classes"]["long"]["matching"]["pooled"]["0.50"]["precision"] == pytest.approx(2 / 3)
    assert found["coco"]["segm"]["per_class"].keys() == set(names)
    assert found["class_names"] == list(names)


def test_other_thresholds_are_added() -> None:
    labels = np.eye(4, dtype=int)
    found = evaluate_pairs([Pair("a", labels, labels)], thresholds=[0.3, 0.925]).metrics
    assert list(found["matching"]["pooled"]) == ["0.30", *(f"{t:.2f}" for t in THRESHOLDS[:9]), "0.925", "0.95"]
    assert found["mean_accuracy_50_90"] == 1
    assert found["confidence_intervals"] is None
    assert "two images or more" in found["notices"][0]


def test_errors_name_the_image() -> None:
    with pytest.raises(LabelError, match="differ in size") as caught:
        evaluate_pairs([Pair("cells 7", np.zeros((3, 4), int), np.zeros((3, 5), int))])
    assert "cells 7" in str(caught.value)
    with pytest.raises(DataError, match="no images"):
        evaluate_pairs([])
