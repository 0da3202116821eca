"""From maps to objects: by hand, against second implementations, and cut into pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.segmentation import watershed

from cytomask.geometry.object_distance import normalised_edt
from cytomask.models.dense.config import DenseConfig, DensePostprocess
from cytomask.models.dense.decode import decode
from cytomask.models.dense.maps import BLOCK, activated, foreground, from_blocks, to_blocks
from cytomask.models.dense.native import drawn
from cytomask.models.proposals import Proposals
from cytomask.workflows.generated import generate_field

DISTANCE = DenseConfig()


def field(seed: int = 0, size: int = 256, objects: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Labels of touching objects, and the perfect maps of them."""
    _, labels = generate_field(np.random.default_rng(seed), size=size, objects=objects)
    labels = labels.astype(np.int32)
    return labels, np.stack([(labels > 0).astype(np.float32), normalised_edt(labels)])


def test_components_of_classes_are_objects_of_their_class() -> None:
    maps = np.zeros((2, 4, 6), np.float32)
    maps[0, :2, :3] = 0.9
    maps[1, :2, 3:5] = 0.8  # touches the first, but is of another class
    maps[0, 3, 5] = 0.7
    config = DenseConfig(output="softmax", classes=("a", "b"))
    (found,) = decode(maps, config, DensePostprocess(min_area=0))
    assert found.labels.tolist() == [[1, 1, 1, 2, 2, 0], [1, 1, 1, 2, 2, 0], [0] * 6, [0] * 5 + [3]]
    assert found.classes.tolist() == [1, 2, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert found.points.tolist() == [[0, 0], [0, 3], [3, 5]]


def test_classes_with_a_channel_each_may_overlap() -> None:
    maps = np.zeros((2, 3, 3), np.float32)
    maps[0], maps[1, 1, 1] = 0.9, 0.95
    config = DenseConfig(output="binary", classes=("cell", "granule"))
    cell, granule = decode(maps, config, DensePostprocess(min_area=0))
    assert cell.labels.min() == 1
    assert cell.classes.tolist() == [1]
    assert granule.labels.sum() == 1
    assert granule.classes.tolist() == [2]


def test_the_class_of_a_grown_object_is_what_its_pixels_say_together() -> None:
    maps = np.zeros((4, 1, 7), np.float32)
    maps[0] = 1
    maps[1] = [0.2, 0.9, 0.2, 0.1, 0.2, 0.9, 0.2]
    maps[2], maps[3] = [0.9, 0.4, 0.9, 0.9, 0.1, 0.6, 0.1], [0.1, 0.6, 0.1, 0.1, 0.9, 0.4, 0.9]
    config = DenseConfig(classes=("a", "b"))
    (found,) = decode(maps, config, DensePostprocess(min_area=0))
    assert found.labels.max() == 2
    assert found.classes.tolist() == [1, 2]


def test_small_objects_go_and_holes_are_filled() -> None:
    maps = np.zeros((1, 9, 12), np.float32)
    maps[0, 1:8, 1:8] = 0.9
    maps[0, 4, 4] = 0.1
    maps[0, 1:3, 10] = 0.9
    config = DenseConfig(output="binary")
    (found,) = decode(maps, config, DensePostprocess(min_area=3))
    assert found.labels[4, 4] == 1
    assert found.labels.max() == 1
    (found,) = decode(maps, config, DensePostprocess(min_area=3, fill_holes=False))
    assert found.labels[4, 4] == 0


def test_whole_classes_are_one_object_each() -> None:
    maps = np.zeros((2, 4, 6), np.float32)
    maps[0, 0, 0] = maps[0, 3, 3] = maps[1, 1, 5] = 0.9
    config = DenseConfig(output="softmax", classes=("a", "b"))
    (found,) = decode(maps, config, DensePostprocess(objects="whole"))
    assert found.classes.tolist() == [1, 2]
    assert np.bincount(found.labels.ravel()).tolist() == [21, 2, 1]


@pytest.mark.parametrize("output", ["distance", "boundary"])
def test_perfect_maps_give_the_objects_back(output: str) -> None:
    labels, maps = field(1)
    config = DenseConfig(output=output)
    (found,) = decode(maps, config, DensePostprocess(min_area=0, seed_threshold=0.6, fill_holes=False))
    ids = [np.bincount(labels[found.labels == k]).argmax() for k in range(1, int(found.labels.max()) + 1)]
    same = np.concatenate([[0], ids])[found.labels] == labels
    assert same.mean() > 0.98
    assert abs(len(ids) - len(np.unique(labels)) + 1) <= 3


def test_seeds_flood_as_in_scikit_image() -> None:
    _, maps = field(2)
    maps[1] = np.round(ndimage.gaussian_filter(maps[1], 1) * 1000) / 1024
    settings = DensePostprocess(min_area=0, fill_holes=False, seed_threshold=0.5)
    (found,) = decode(maps, DISTANCE, settings)
    mask = maps[0] > 0.5
    seeds, _ = ndimage.label(mask & (maps[1] > 0.5))
    expected = watershed(-maps[1], seeds, mask=mask)
    pairs = np.unique(np.stack([found.labels.ravel(), expected.ravel()]), axis=1)
    agree = sum(
        np.count_nonzero((found.labels == a) & (expected == b))
        for a, b in pairs.T
        if np.count_nonzero(expected[found.labels == a] == b) * 2 > np.count_nonzero(found.labels == a)
    )
    assert agree / mask.size > 0.995


def test_pieces_are_parted_at_their_waists() -> None:
    rows, columns = np.mgrid[:40, :80]
    mask = (np.hypot(rows - 20, columns - 25) < 15) | (np.hypot(rows - 20, columns - 50) < 15)
    config = DenseConfig(output="binary")
    maps = mask[None].astype(np.float32)
    assert decode(maps, config, DensePostprocess())[0].labels.max() == 1
    assert decode(maps, config, DensePostprocess(objects="shape", seed_threshold=0.9))[0].labels.max() == 2


@pytest.mark.parametrize("objects", ["auto", "shape", "components"])
def test_what_becomes_of_a_group_hangs_on_it_alone(objects: str) -> None:
    _, maps = field(3, size=192, objects=25)
    maps[1] += np.random.default_rng(0).normal(0, 0.05, maps[1].shape).astype(np.float32)
    settings = DensePostprocess(objects=objects, min_area=5, seed_threshold=0.6)
    (whole,) = decode(maps, DISTANCE, settings)
    groups, count = ndimage.label(maps[0] > 0.5)
    for number, (rows, columns) in enumerate(ndimage.find_objects(groups), start=1):
        window = (slice(max(0, rows.start - 1), rows.stop + 1), slice(max(0, columns.start - 1), columns.stop + 1))
        (part,) = decode(maps[(slice(None), *window)] * (groups[window] == number), DISTANCE, settings)
        here = np.where(groups[window] == number, whole.labels[window], 0)
        kept = np.unique(here)
        assert np.array_equal(np.searchsorted(kept, here) - (kept[0] != 0) + (kept[0] != 0), part.labels)
    assert count > 5


def blocks(maps: np.ndarray, config: DenseConfig, threshold: float) -> Proposals:
    return to_blocks(torch.from_numpy(maps), config, threshold)


def test_blocks_make_the_map_again() -> None:
    _, maps = field(4, size=100, objects=8)
    found = blocks(maps, DISTANCE, 0.0)
    again = from_blocks(found, (0, 0, 100, 100), 2)
    inside = maps[0] > 0
    assert np.array_equal(again[:, inside], maps.astype(np.float16)[:, inside])
    some = from_blocks(found.shifted(10 * BLOCK, 0), (10 * BLOCK + 5, 7, 10 * BLOCK + 50, 90), 2)
    assert np.array_equal(some, again[:, 5:50, 7:90])
    assert (found.points % BLOCK == 0).all()


def test_blocks_without_foreground_are_left_out() -> None:
    maps = np.zeros((2, 64, 64), np.float32)
    maps[1] = 0.9
    maps[0, 40, 3] = 0.6
    found = blocks(maps, DISTANCE, 0.5)
    assert found.points.tolist() == [[32, 0]]
    assert found.scores.tolist() == pytest.approx([0.6], abs=1e-3)
    assert len(blocks(maps, DISTANCE, 0.7)) == 0


def test_blended_blocks_are_averaged_by_their_weights() -> None:
    maps = np.full((1, 32, 32), 0.8, np.float32)
    first, second = (blocks(maps * share, DenseConfig(output="binary"), 0.0) for share in (1.0, 0.5))
    both = Proposals.concatenate(
        [
            Proposals(p.points, p.scores, p.classes, {**p.data, "weight": np.full((1, 32, 32), w, np.float16)})
            for p, w in ((first, 0.75), (second, 0.25))
        ]
    )
    assert from_blocks(both, (0, 0, 32, 32), 1) == pytest.approx(0.75 * 0.8 + 0.25 * 0.4, abs=1e-3)


@pytest.mark.parametrize(
    ("output", "classes", "logits", "expected", "object_probability"),
    [
        ("binary", 1, [0.0], [0.5], 0.5),
        ("binary", 2, [0.0, np.log(3)], [0.5, 0.75], 0.75),
        ("softmax", 1, [0.0, np.log(3)], [0.75], 0.75),
        ("softmax", 2, [0.0, 0.0, np.log(2)], [0.25, 0.5], 0.75),
        ("boundary", 1, [0.0, 0.0, np.log(2)], [0.75, 0.25], 0.75),
        ("distance", 1, [0.0, 1.7], [0.5, 1.0], 0.5),
        ("distance", 2, [0.0, 0.3, 0.0, np.log(3)], [0.5, 0.3, 0.25, 0.75], 0.5),
    ],
)
def test_what_outputs_mean(output: Any, classes: int, logits: list, expected: list, object_probability: float) -> None:
    config = DenseConfig(output=output, classes=("a", "b")[:classes])
    assert config.channels_out == len(logits)
    maps = activated(torch.tensor(logits, dtype=torch.float32).reshape(1, -1, 1, 1), config)
    assert maps[0, :, 0, 0].tolist() == pytest.approx(expected)
    assert foreground(maps, config)[0].item() == pytest.approx(object_probability)


def disc(radius: float, size: int, scale: float) -> np.ndarray:
    """A soft disc in pixels of 1 / scale."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / scale
    distance = radius - np.hypot(rows - size / scale / 2, columns - size / scale / 2)
    return (1 / (1 + np.exp(-2 * distance))).astype(np.float32)


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.8, 2.0])
def test_outlines_at_another_size_are_smooth(scale: float) -> None:
    config, settings = DenseConfig(output="binary"), DensePostprocess(min_area=0)
    size = round(128 * scale)
    (found,) = decode(disc(40, size, scale)[None], config, settings)
    objects = drawn(found, 0.5, shape=(128, 128), scale=(size / 128, size / 128))
    true = disc(40, 128, 1.0) > 0.5
    mask = objects.full_mask(0)
    assert (mask & true).sum() / (mask | true).sum() > 0.985


def test_filled_holes_stay_filled_and_dropped_objects_dropped_at_another_size() -> None:
    maps = np.zeros((1, 20, 30), np.float32)
    maps[0, 2:12, 2:12] = 0.9
    maps[0, 6:8, 6:8] = 0.0
    maps[0, 15:17, 20:22] = 0.9
    (found,) = decode(maps, DenseConfig(output="binary"), DensePostprocess(min_area=10))
    objects = drawn(found, 0.5, shape=(60, 90), scale=(1 / 3, 1 / 3))
    assert len(objects) == 1
    labels = objects.to_labels()
    assert labels[9:33, 9:33].all()
    assert not labels[40:].any()


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.4, 0.7), (1.5, 1.5)])
def test_windows_draw_what_the_whole_draws(scale: tuple[float, float]) -> None:
    _, maps = field(5, size=96, objects=9)
    settings = DensePostprocess(min_area=0)
    shape = (round(96 / scale[0]), round(96 / scale[1]))
    (whole,) = decode(maps, DISTANCE, settings)
    expected = drawn(whole, 0.5, shape=shape, scale=scale).to_labels() > 0
    painted = np.zeros(shape, bool)
    for y in (0, 40):
        for x in (0, 40):
            (part,) = decode(maps[:, y : y + 56, x : x + 56], DISTANCE, settings)
            painted |= drawn(part, 0.5, shape=shape, scale=scale, origin=(y, x)).to_labels() > 0
    # Near a window's border one neighbour of a place is missing.
    assert (painted != expected).sum() <= 4 * max(shape) * 0.05
