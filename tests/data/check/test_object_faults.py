"""Faults of masks, at the limits of what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cytomask.data.check.anatomy import describe_objects
from cytomask.data.check.finding import Finding
from cytomask.data.check.mend import mend_objects
from cytomask.data.check.object_faults import object_faults
from cytomask.instances import Instances

from .planting import draw_cells


def faults(labels: np.ndarray, **options: object) -> dict[str, Finding]:
    objects = Instances.from_labels(labels)
    return {found.kind: found for found in object_faults(objects, describe_objects(objects), **options)}


@pytest.fixture
def labels() -> np.ndarray:
    return draw_cells(3)[1]


def test_whole_cells_have_no_faults(labels: np.ndarray) -> None:
    assert faults(labels) == {}
    assert faults(np.zeros((20, 20), np.int32)) == {}


def test_an_object_that_lies_across_another_does_not_scatter_it(labels: np.ndarray) -> None:
    scene = np.zeros((160, 168), np.int32)
    scene[:128] = labels
    scene[134:154, 20:32] = scene[134:154, 52:64] = 13
    assert set(faults(scene)) == {"scattered-object"}
    scene[130:158, 33:51] = 14
    assert faults(scene) == {}


def test_a_cell_in_a_hole_is_no_hole(labels: np.ndarray) -> None:
    y, x = np.argwhere(labels == 6).mean(axis=0).round().astype(int)
    labels[y - 3 : y + 3, x - 3 : x + 3] = 13
    assert faults(labels) == {}
    labels[y, x] = 0
    assert set(faults(labels)) == {"holes"}
    assert faults(labels)["holes"].value == 1
    # The hole is that of the inner cell, not of both.
    assert faults(labels)["holes"].objects == (13,)


def test_crowd_regions_are_left_alone(labels: np.ndarray) -> None:
    labels[labels == 12] = 1
    assert "scattered-object" in faults(labels)
    assert faults(labels, crowd=[1]) == {}


def test_small_cells_among_small_cells_are_no_specks() -> None:
    labels = np.zeros((60, 60), np.int32)
    labels[4:-4:6, 4:-4:6] = np.arange(81).reshape(9, 9) + 1
    labels[5:-4:6, 4:-4:6] = labels[4:-4:6, 4:-4:6]
    assert faults(labels) == {}


def test_cells_cut_by_the_border_are_no_specks(labels: np.ndarray) -> None:
    labels[0, 0:2] = 13
    assert faults(labels) == {}
    labels[0, 0:2] = 0
    labels[1, 1:3] = 13
    assert set(faults(labels)) == {"specks"}


def test_dented_cells_among_dented_cells_are_not_called_merged() -> None:
    """Stars of four lobes: where that is what cells look like, a large one is just large."""
    labels = np.zeros((200, 200), np.int32)
    y, x = np.mgrid[-20:20, -20:20]
    star = (abs(x) < 4) | (abs(y) < 4)
    for k in range(25):
        at = 40 * (k // 5), 40 * (k % 5)
        part = labels[at[0] : at[0] + 40, at[1] : at[1] + 40]
        part[star & (np.hypot(y, x) < (19 if k == 12 else 12))] = k + 1
    assert faults(labels) == {}


def test_overlap_within_a_class_only() -> None:
    crop = np.ones((10, 10), bool)
    shifted = [(5, 5), (5, 7), (30, 30)]
    same = Instances.from_crops((50, 50), [crop] * 3, shifted, class_names=("a", "b"))
    other = Instances.from_crops((50, 50), [crop] * 3, shifted, classes=[1, 2, 1], class_names=("a", "b"))
    assert [f.kind for f in object_faults(same, describe_objects(same))] == ["overlapping-objects"]
    assert object_faults(other, describe_objects(other)) == []


def test_windows_show_the_place_and_stay_inside() -> None:
    labels = draw_cells(4)[1]
    y, x = np.argwhere(labels == 1).mean(axis=0).round().astype(int)
    labels[y : y + 3, x : x + 3] = 0
    y0, x0, y1, x1 = faults(labels)["holes"].window  # type: ignore[misc]
    assert 0 <= y0 <= y < y1 <= labels.shape[0]
    assert 0 <= x0 <= x < x1 <= labels.shape[1]


def test_a_ring_around_another_object_is_no_outline() -> None:
    y, x = np.mgrid[:120, :120]
    near = np.hypot(y % 40 - 20, x % 40 - 20)
    number = 1 + y // 40 * 3 + x // 40
    labels = np.where(near < 10, 9 + number, np.where(near < 14, number, 0)).astype(np.int32)
    assert faults(labels) == {}
    assert set(faults(np.where(labels > 9, 0, labels))) == {"outlines-only"}


def test_small_objects_of_a_class_of_their_own_are_no_specks() -> None:
    labels = np.zeros((200, 200), np.int32)
    for k in range(4):
        labels[10:60, 48 * k + 2 : 48 * k + 42] = k + 1
    labels[100:103, 50:53], labels[120:123, 90:93] = 5, 6
    objects = Instances.from_labels(labels)
    assert [f.kind for f in object_faults(objects, describe_objects(objects))] == ["specks"]
    organelles = replace(objects, classes=np.array([1, 1, 1, 1, 2, 2], np.int32), class_names=("cell", "granule"))
    assert object_faults(organelles, describe_objects(organelles)) == []
    assert mend_objects(organelles)[1] == []
