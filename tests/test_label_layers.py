"""LabelLayers: annotated objects, overlapping or not, there and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import LabelError
from cytomask.instances import Instances, intersections
from cytomask.label_layers import LabelLayers

NAMES = ("cell", "nucleus")


@st.composite
def objects(draw: st.DrawFn) -> Instances:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))
    n = draw(st.integers(0, 7))
    crops = [draw(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=6))) for _ in range(n)]
    return Instances.from_crops(
        shape,  # type: ignore[arg-type]
        crops,
        np.array([draw(st.tuples(st.integers(-2, 11), st.integers(-2, 11))) for _ in range(n)]).reshape(-1, 2),
        classes=[draw(st.integers(1, 2)) for _ in range(n)],
        ids=draw(st.lists(st.integers(1, 2**31 - 1), min_size=n, max_size=n, unique=True)),
        class_names=NAMES,
    )


@given(objects())
@settings(deadline=None)
def test_overlapping_objects_there_and_back(found: Instances) -> None:
    layers = LabelLayers.from_instances(found, crowd=found.ids[:1].tolist())
    back = layers.to_instances()
    visible = found.take(found.areas() > 0)
    expected = visible.take(np.argsort(visible.ids))
    for name in ("shape", "windows", "bits", "offsets", "boxes", "classes", "ids", "class_names"):
        np.testing.assert_array_equal(getattr(back, name), getattr(expected, name), err_msg=name)
    assert layers.crowd == set(found.ids[:1].tolist()) & set(visible.ids.tolist())
    assert layers.ids().tolist() == expected.ids.tolist() == sorted(layers.classes)
    assert layers.n_objects == len(visible)
    again = LabelLayers.from_instances(back, layers.crowd)
    assert (again.classes, again.crowd, again.class_names) == (layers.classes, layers.crowd, NAMES)


@given(objects())
@settings(deadline=None)
def test_as_few_layers_as_the_overlaps_demand(found: Instances) -> None:
    i, j, _ = intersections(found, found)
    others = np.bincount(i[i != j], minlength=1).max(initial=0)
    n = len(LabelLayers.from_instances(found).layers)
    assert n <= others + 1
    assert n == 1 or others > 0


def test_a_crowd_needs_no_more_layers_than_it_is_deep() -> None:
    # A hundred bars side by side, each over its neighbours only, and one that lies over all of them.
    bars = [np.ones((1, 3), bool)] * 100
    corners = [(0, 2 * k) for k in range(100)]
    found = Instances.from_crops((1, 201), [*bars, np.ones((1, 201), bool)], [*corners, (0, 0)])
    assert len(LabelLayers.from_instances(found.take(slice(100))).layers) == 2
    assert len(LabelLayers.from_instances(found).layers) == 3


def test_one_label_image() -> None:
    labels = np.array([[0, 70_000, 3], [3, 0, 0]])
    layers = LabelLayers.from_labels(labels, {3: 2, 70_000: 1, 5: 1}, crowd=[3, 5], class_names=NAMES)
    assert layers.layers.dtype == np.int32
    assert layers.layers.tolist() == [labels.tolist()]
    assert layers.classes == {3: 2, 70_000: 1}
    assert layers.crowd == {3}
    assert layers.ids().tolist() == [3, 70_000]
    assert (layers.shape, layers.n_objects) == ((2, 3), 2)
    assert layers.class_map().tolist() == [[0, 1, 2], [2, 0, 0]]
    assert layers.union().tolist() == [[False, True, True], [True, False, False]]
    assert LabelLayers.from_labels(labels).classes == {3: 1, 70_000: 1}


def test_one_label_image_is_not_copied() -> None:
    labels = np.array([[0, 1]], np.int32)
    assert np.shares_memory(LabelLayers.from_labels(labels).layers, labels)


def test_without_objects() -> None:
    painted = LabelLayers.from_instances(Instances.empty((2, 3)))
    for layers in (LabelLayers.from_labels(np.zeros((2, 3), np.uint8)), painted):
        assert layers.layers.shape == (1, 2, 3)
        assert (layers.n_objects, layers.classes, len(layers.to_instances())) == (0, {}, 0)
        assert not layers.union().any()
        assert not layers.class_map().any()
    nothing = LabelLayers(np.zeros((0, 2, 3), np.int32), {})
    assert (nothing.shape, nothing.ids().tolist(), nothing.to_instances().shape) == ((2, 3), [], (2, 3))


@given(objects(), st.tuples(*[st.integers(-4, 15)] * 4))
@settings(deadline=None)
def test_a_window_has_background_beyond_the_image(found: Instances, corners: tuple[int, int, int, int]) -> None:
    (y0, y1), (x0, x1) = sorted(corners[:2]), sorted(corners[2:])
    layers = LabelLayers.from_instances(found, crowd=found.ids.tolist())
    window = layers.window(y0, y1, x0, x1)
    room = np.pad(layers.layers, ((0, 0), (20, 20), (20, 20)))
    np.testing.assert_array_equal(window.layers, room[:, y0 + 20 : y1 + 20, x0 + 20 : x1 + 20])
    here = np.unique(window.layers[window.layers > 0]).tolist()
    assert window.classes == {i: layers.classes[i] for i in here}
    assert window.crowd == set(here)
    assert window.class_names == NAMES


@given(objects())
@settings(deadline=None)
def test_maps_follow_the_layers(found: Instances) -> None:
    layers = LabelLayers.from_instances(found)
    expected = np.zeros(found.shape, np.int32)
    for layer in layers.layers:
        for i in layers.ids():
            expected[layer == i] = layers.classes[int(i)]
    np.testing.assert_array_equal(layers.class_map(), expected)
    np.testing.assert_array_equal(layers.union(), expected > 0)


def test_what_is_wrong_is_told() -> None:
    labels = np.array([[1, 2]])
    with pytest.raises(LabelError, match="three axes") as error:
        LabelLayers(labels, {})
    assert error.value.fix is not None
    with pytest.raises(LabelError, match="three axes"):
        LabelLayers(labels[None].astype(float), {})
    with pytest.raises(LabelError, match="no name"):
        LabelLayers.from_labels(labels, {1: 1, 2: 2})
    with pytest.raises(LabelError, match="no class"):
        LabelLayers.from_labels(labels, {1: 1})
    with pytest.raises(LabelError, match="no object ids"):
        LabelLayers.from_labels(-labels)
    with pytest.raises(LabelError, match="integers"):
        LabelLayers.from_labels(labels.astype(float))


def test_any_integer_type_becomes_int32() -> None:
    layers = LabelLayers(np.array([[[1, 2]]], np.uint16), {1: 1, 2: 1})
    assert layers.layers.dtype == np.int32
    assert replace(layers, crowd=frozenset({2})).crowd == {2}
