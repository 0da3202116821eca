"""Pixel figures of a training's log: pooled, by class, and without numbers that no pixel tells of."""

from __future__ import annotations

import numpy as np
import pytest

from cytomask.evaluation.pixel_summary import pixel_summary
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers


def test_images_are_pooled_not_averaged() -> None:
    truths = [np.array([[1, 1, 1, 1, 0, 0]]), np.array([[0, 0]])]
    predictions = [np.array([[1, 0, 0, 0, 0, 0]]), np.array([[0, 5]])]
    figures = pixel_summary(truths, predictions)
    expected = {"pixel_accuracy": 4 / 8, "background_accuracy": 3 / 4, "object_accuracy": 1 / 4, "iou": 1 / 5}
    assert figures == pytest.approx(expected)


def test_figures_without_a_pixel_are_left_out() -> None:
    empty = np.zeros((3, 3), int)
    assert pixel_summary([empty], [empty]) == {"pixel_accuracy": 1.0, "background_accuracy": 1.0}
    full = np.ones((3, 3), int)
    assert pixel_summary([full], [full]) == {"pixel_accuracy": 1.0, "object_accuracy": 1.0, "iou": 1.0}
    assert pixel_summary([], []) == {}


def test_classes_count_where_there_are_several() -> None:
    labels = np.array([[1, 1, 2, 2, 0, 0]])
    names = ("cell", "nucleus", "vessel")
    truth = LabelLayers(labels[None], {1: 1, 2: 2}, class_names=names).to_instances()
    swapped = LabelLayers(labels[None], {1: 1, 2: 1}, class_names=names).to_instances()
    assert isinstance(truth, Instances)
    figures = pixel_summary([truth], [swapped], names)
    assert figures == pytest.approx(
        {
            "pixel_accuracy": 4 / 6, "background_accuracy": 1.0, "object_accuracy": 0.5, "iou": 1.0,
            "iou_cell": 0.5, "iou_nucleus": 0.0,
        }
    )  # fmt: skip
