from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from cytomask.label_layers import LabelLayers
from cytomask.models.dense.config import DenseConfig, DenseLoss
from cytomask.models.dense.targets import border_weights, dense_targets, owners, pixel_counts

TWO = ("cell", "nucleus")


def disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


def nested() -> LabelLayers:
    """A cell with a nucleus beside its middle, and a region of many cells that a single cell reaches into."""
    layers = np.zeros((2, 24, 40), np.int32)
    layers[0][disc((24, 40), 11, 11, 9)] = 4
    layers[1][disc((24, 40), 11, 15, 3)] = 7
    layers[0, 2:10, 24:34] = 9
    layers[1, 8:14, 30:36] = 5
    return LabelLayers(layers, {4: 1, 7: 2, 9: 1, 5: 1}, frozenset({9}), TWO)


@pytest.mark.parametrize("output", ["binary", "softmax", "boundary", "distance"])
def test_shapes_and_types(output: str) -> None:
    targets = dense_targets(nested(), DenseConfig(output=output, classes=TWO, loss=DenseLoss(border_weight=10)))
    expected = {
        "binary": {"present": (np.uint8, (2, 24, 40))},
        "softmax": {"labels": (np.uint8, (24, 40))},
        "boundary": {"parts": (np.uint8, (24, 40)), "labels": (np.uint8, (24, 40))},
        "distance": {k: (t, (24, 40)) for k, t in
                     {"foreground": np.uint8, "distance": np.float32, "labels": np.uint8}.items()},
    }[output]  # fmt: skip
    expected = {**expected, "valid": (np.uint8, (24, 40)), "border": (np.float32, (24, 40))}
    assert {name: (value.dtype.type, value.shape) for name, value in targets.items()} == expected
    assert all(value.flags.c_contiguous for value in targets.values())
    alone = dense_targets(nested(), DenseConfig(output=output, classes=TWO))
    assert "border" not in alone


def test_overlapping_classes_are_both_present() -> None:
    present = dense_targets(nested(), DenseConfig(output="binary", classes=TWO))["present"]
    nucleus = disc((24, 40), 11, 15, 3)
    assert (present[1] == nucleus).all()
    assert (present[0][nucleus] == 1).sum() == (disc((24, 40), 11, 11, 9) & nucleus).sum() == nucleus.sum()


def test_of_overlapping_objects_the_one_in_which_a_pixel_lies_deeper() -> None:
    layers = nested()
    labels = dense_targets(layers, DenseConfig(output="softmax", classes=TWO))["labels"]
    inside = {i: np.pad((layers.layers == i).any(axis=0), 1) for i in (4, 7)}
    depth = {i: ndimage.distance_transform_edt(m)[1:-1, 1:-1] for i, m in inside.items()}
    relative = {i: d / d.max() for i, d in depth.items()}
    both = inside[7][1:-1, 1:-1] & inside[4][1:-1, 1:-1]
    clear = both & (abs(relative[7] - relative[4]) > 1e-6)
    assert clear.sum() > 20
    assert set(np.unique(labels[clear])) == {1, 2}
    assert (labels[clear] == np.where(relative[7] > relative[4], 2, 1)[clear]).all()


def test_nothing_is_known_in_a_crowd_but_of_the_single_object_that_reaches_into_it() -> None:
    for output in ("binary", "softmax", "boundary", "distance"):
        config = DenseConfig(output=output, classes=TWO)
        targets = dense_targets(nested(), config)
        expected = np.ones((24, 40), bool)
        expected[2:10, 24:34] = False
        expected[8:10, 30:34] = True
        assert (targets["valid"] == expected).all()
        alone = np.where(nested().layers == 9, 0, nested().layers)
        without = dense_targets(LabelLayers(alone, {4: 1, 7: 2, 5: 1}, frozenset(), TWO), config)
        assert without["valid"].all()
        for name in targets.keys() - {"valid"}:
            assert (targets[name] == without[name]).all(), (output, name)


def test_parts_of_touching_objects() -> None:
    labels = np.array([[0, 0, 0, 0, 0, 0, 0, 0],
                       [0, 1, 1, 1, 2, 2, 2, 0],
                       [0, 1, 1, 1, 2, 2, 2, 0],
                       [0, 1, 1, 1, 2, 2, 2, 0],
                       [0, 0, 0, 0, 0, 0, 0, 0]])  # fmt: skip
    parts = dense_targets(LabelLayers.from_labels(labels), DenseConfig(output="boundary"))["parts"]
    assert parts[1:4].tolist() == [[0, 2, 2, 2, 2, 2, 2, 0], [0, 2, 1, 2, 2, 1, 2, 0], [0, 2, 2, 2, 2, 2, 2, 0]]
    assert not parts[[0, 4]].any()


@pytest.mark.parametrize("width", [1, 3, 8])
def test_no_object_is_without_interior_and_interiors_do_not_touch(width: int) -> None:
    rng = np.random.default_rng(width)
    labels = np.zeros((64, 64), np.int32)
    for i in range(1, 40):
        labels[disc((64, 64), *rng.uniform(0, 64, 2), rng.uniform(0.5, 9))] = i
    parts = dense_targets(
        LabelLayers.from_labels(labels), DenseConfig(output="boundary", boundary_width=width)
    )["parts"]  # fmt: skip
    assert ((parts > 0) == (labels > 0)).all()
    ids = np.unique(labels)[1:]
    assert set(ids) == set(np.unique(labels[parts == 1]))
    thick = [i for i in ids if not (parts[labels == i] == 1).all()]
    assert len(thick) > 5
    for i in thick:
        inner = ndimage.binary_erosion(labels == i, np.ones((3, 3)), border_value=1)
        if inner.any() and width == 1:
            assert ((parts == 1)[labels == i] == inner[labels == i]).all()


def test_an_object_that_is_all_boundary_keeps_its_deepest_pixels() -> None:
    labels = np.zeros((9, 9), np.int32)
    labels[2:7, 2:7] = 3
    targets = dense_targets(LabelLayers.from_labels(labels), DenseConfig(output="boundary", boundary_width=8))
    assert np.argwhere(targets["parts"] == 1).tolist() == [[4, 4]]
    assert (targets["parts"] == 2).sum() == 24


def test_distances_reach_one_in_every_object_and_part_touching_ones() -> None:
    labels = np.zeros((12, 24), np.int32)
    labels[2:9, 2:9], labels[2:9, 9:16] = 3, 4
    targets = dense_targets(LabelLayers.from_labels(labels), DenseConfig(output="distance"))
    distance = targets["distance"]
    assert np.allclose(distance[5, 2:16] * 4, [1, 2, 3, 4, 3, 2, 1] * 2)
    assert ((distance > 0) == (labels > 0)).all()
    assert (targets["foreground"] == (labels > 0)).all()


def test_of_overlapping_objects_distances_fall_to_where_they_part() -> None:
    layers = np.zeros((2, 20, 40), np.int32)
    layers[0][disc((20, 40), 10, 12, 9)] = 1
    layers[1][disc((20, 40), 10, 26, 9)] = 2
    truth = LabelLayers(layers, {1: 1, 2: 1})
    distance = dense_targets(truth, DenseConfig(output="distance"))["distance"]
    assert min(distance[10, 12], distance[10, 26]) > 0.85
    assert distance[10, 18:21].min() < 0.2
    single = owners(list(layers))
    assert ((single > 0) == truth.union()).all()


def test_border_weights_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros((50, 60), np.int32)
    for i in range(1, 12):
        labels[disc((50, 60), *rng.uniform(0, 60, 2), rng.uniform(2, 6))] = i
    distances = np.sort([ndimage.distance_transform_edt(labels != i) for i in np.unique(labels)[1:]], axis=0)
    expected = np.where(labels > 0, 0, 10 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * 5**2)))
    found = border_weights(labels, weight=10, sigma=5)
    np.testing.assert_allclose(found[expected > 0.00101], expected[expected > 0.00101], rtol=1e-4)
    assert (found[expected < 0.00099] == 0).all()
    assert expected.max() > 5
    assert not border_weights((labels == 3) * 3, 10, 5).any()
    assert not border_weights(np.zeros((4, 4), int), 10, 5).any()
    assert not border_weights(labels, 1e-4, 5).any()


def test_counts_are_of_what_is_learnt() -> None:
    layers = nested()
    counts = {o: pixel_counts(layers, DenseConfig(output=o, classes=TWO, loss=DenseLoss(border_weight=3)))
              for o in ("binary", "softmax", "boundary", "distance")}  # fmt: skip
    nucleus, cells = disc((24, 40), 11, 15, 3), disc((24, 40), 11, 11, 9)
    unknown = 8 * 10 - 2 * 4
    foreground = cells.sum() + 36
    assert counts["binary"].tolist() == [24 * 40 - unknown - foreground, foreground, nucleus.sum()]
    assert counts["distance"].tolist() == [24 * 40 - unknown - foreground, foreground]
    for output in ("softmax", "boundary"):
        assert counts[output][0] == counts["distance"][0]
        assert counts[output][1:].sum() == foreground
        assert math.prod(counts[output]) > 0


def test_an_empty_patch() -> None:
    empty = LabelLayers.from_labels(np.zeros((8, 8), int), class_names=TWO)
    for output in ("binary", "softmax", "boundary", "distance"):
        targets = dense_targets(empty, DenseConfig(output=output, classes=TWO, loss=DenseLoss(border_weight=10)))
        assert targets.pop("valid").all()
        assert not any(value.any() for value in targets.values())
