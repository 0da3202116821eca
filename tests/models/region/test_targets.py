"""Truths of patches, and batches of patches of different sizes."""

from __future__ import annotations

import numpy as np
import torch

from cytomask.label_layers import LabelLayers
from cytomask.models.region.targets import region_batch, region_targets


def layers() -> LabelLayers:
    lower, upper = np.zeros((10, 12), np.int32), np.zeros((10, 12), np.int32)
    lower[2:5, 3:9] = 4
    lower[7:9, 0:2] = 9
    upper[4:8, 5:12] = 6
    return LabelLayers(np.stack([lower, upper]), {4: 1, 9: 2, 6: 2}, frozenset({9}), ("a", "b"))


def test_overlapping_objects_keep_their_whole_boxes() -> None:
    found = region_targets(layers())
    assert found["ids"].tolist() == [4, 6]
    assert found["boxes"].tolist() == [[3, 2, 9, 5], [5, 4, 12, 8]]
    assert found["classes"].tolist() == [0, 1]
    assert found["layer"].tolist() == [0, 1]


def test_crowd_regions_are_ignored_not_learnt() -> None:
    assert region_targets(layers())["ignored"].tolist() == [[0, 7, 2, 9]]


def test_a_patch_without_objects() -> None:
    found = region_targets(LabelLayers.from_labels(np.zeros((5, 7), np.int32)))
    assert found["boxes"].shape == (0, 4)
    assert found["ignored"].shape == (0, 4)
    assert found["ids"].dtype == np.int32


def test_a_batch_of_different_sizes_is_filled_up_with_zeros() -> None:
    items = []
    for rows, columns in ((40, 33), (20, 70)):
        targets = region_targets(LabelLayers.from_labels(np.ones((rows, columns), np.int32)))
        items.append({"image": torch.ones(3, rows, columns), **{k: torch.from_numpy(v) for k, v in targets.items()}})
    batch = region_batch(items, 32)
    assert batch["image"].shape == (2, 3, 64, 96)
    assert batch["sizes"] == [(40, 33), (20, 70)]
    assert batch["image"].sum() == 3 * (40 * 33 + 20 * 70)
    assert batch["image"][0, :, :40, :33].min() == 1
    assert [t["layers"].shape for t in batch["truths"]] == [(1, 40, 33), (1, 20, 70)]
    assert "image" not in batch["truths"][0]
