"""Instances: what goes in comes out, whatever the form; what cannot be kept is told."""

from __future__ import annotations

import pickle
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.io import imread

from cytomask.errors import LabelError
from cytomask.instances import Instances, intersections, mask_ious

TOP = 2**31 - 1
NAMES = ("cell", "nucleus", "debris")
label_images = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=16),
    elements=st.sampled_from([0, 0, 1, 2, 9, 70_000, TOP]),
    fill=st.sampled_from([0, 9]),
)


@st.composite
def objects(draw: st.DrawFn, empty_masks: bool = True) -> Instances:
    """Overlapping objects of three classes, at the border and beyond it, in pieces and with holes."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=13))
    n = draw(st.integers(0, 5))
    crops = [draw(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9))) for _ in range(n)]
    found = Instances.from_crops(
        shape,  # type: ignore[arg-type]
        crops,
        np.array([draw(st.tuples(st.integers(-5, 12), st.integers(-5, 12))) for _ in range(n)]).reshape(-1, 2),
        classes=[draw(st.integers(1, 3)) for _ in range(n)],
        scores=[draw(st.sampled_from([0.25, 0.5, 0.75])) for _ in range(n)],
        ids=draw(st.lists(st.integers(1, TOP), min_size=n, max_size=n, unique=True)),
        class_names=NAMES,
    )
    return found if empty_masks else found.take(found.areas() > 0)


def full_masks(found: Instances) -> np.ndarray:
    """All masks as images; only tests may do this."""
    return np.array([found.full_mask(i) for i in range(len(found))], bool).reshape(len(found), *found.shape)


def assert_same(a: Instances, b: Instances, *, but: tuple[str, ...] = ()) -> None:
    for name in (field.name for field in fields(Instances)):
        if name not in but:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


# Label images


@given(label_images)
@settings(deadline=None)
def test_labels_there_and_back(labels: np.ndarray) -> None:
    found = Instances.from_labels(labels)
    assert found.ids.tolist() == [i for i in np.unique(labels) if i]
    back = found.to_labels()
    np.testing.assert_array_equal(back, labels)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(found.areas(), [(labels == i).sum() for i in found.ids])
    np.testing.assert_array_equal(full_masks(found), labels == found.ids[:, None, None])


def test_types_of_the_columns() -> None:
    for found in (Instances.empty((3, 4)), Instances.from_labels(np.array([[5]], np.uint8))):
        types = [getattr(found, name).dtype.name for name in ("windows", "bits", "offsets", "boxes", "classes")]
        assert types == ["int32", "uint8", "int64", "float32", "int32"]
        assert (found.scores.dtype, found.ids.dtype, found.areas().dtype) == (np.float32, np.int32, np.int64)
        assert (found.windows.shape, found.boxes.shape) == ((len(found), 4), (len(found), 4))


def test_classes_and_scores_of_labels() -> None:
    labels = np.array([[70_000, 0, 3, 3]])
    classes, scores = {3: 2, 70_000: 1, 8: 1}, {70_000: 0.5, 3: 1}
    found = Instances.from_labels(labels, classes=classes, scores=scores, class_names=NAMES)
    assert found.ids.tolist() == [3, 70_000]
    assert found.classes.tolist() == [2, 1]
    assert found.scores.tolist() == [1, 0.5]
    assert found.boxes.tolist() == [[0, 2, 1, 4], [0, 0, 1, 1]]
    assert Instances.from_labels(labels, scores=[0.25, 0.5]).scores.tolist() == [0.25, 0.5]
    for wrong in ({"classes": {3: 1}}, {"scores": {70_000: 1}}):
        with pytest.raises(LabelError, match="1 of 2 objects have no"):
            Instances.from_labels(labels, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("largest", "dtype", "expected"),
    [
        (255, "smallest", np.uint8),
        (256, "smallest", np.uint16),
        (65_535, "smallest", np.uint16),
        (65_536, "smallest", np.uint32),
        (TOP, "smallest", np.uint32),
        (65_536, None, np.int32),
        (255, np.uint8, np.uint8),
        (TOP, np.int64, np.int64),
    ],
)
def test_types_of_label_images(largest: int, dtype: Any, expected: type) -> None:
    labels = Instances.from_labels(np.array([[0, largest]])).to_labels(dtype)
    assert labels.dtype == expected
    assert labels.tolist() == [[0, largest]]


@pytest.mark.parametrize(("largest", "dtype"), [(256, np.uint8), (128, np.int8), (65_536, np.uint16), (1, float)])
def test_types_that_do_not_hold_the_ids_are_told(largest: int, dtype: type) -> None:
    with pytest.raises(LabelError, match="does not hold all ids"):
        Instances.from_labels(np.array([[0, largest]])).to_labels(dtype)


@given(objects())
@settings(deadline=None)
def test_the_better_scored_object_is_on_top(found: Instances) -> None:
    expected = np.zeros(found.shape, np.int32)
    for i in sorted(range(len(found)), key=lambda i: found.scores[i]):
        expected[found.full_mask(i)] = found.ids[i]
    np.testing.assert_array_equal(found.to_labels(), expected)


def test_without_objects() -> None:
    for found in (Instances.empty((4, 5)), Instances.from_labels(np.zeros((4, 5), np.uint8))):
        assert len(found) == 0
        assert found.to_labels().tolist() == np.zeros((4, 5)).tolist()
        assert found.to_rle() == []
        assert found.to_polygons() == []
        assert len(found.areas()) == 0
        moved = (found.take([]), found.shifted(1, 1, (2, 2)), found.resized((9, 9)), found.renumbered())
        assert [len(one) for one in moved] == [0, 0, 0, 0]
        assert len(Instances.concatenate([found, found])) == 0
        assert [len(column) for column in intersections(found, found)] == [0, 0, 0]
    assert Instances.from_labels(np.zeros((0, 3), np.int32)).to_labels().shape == (0, 3)
    assert Instances.from_crops((3, 3), [], []).shape == (3, 3)


# Other forms


@given(objects())
@settings(deadline=None)
def test_run_length_codes_there_and_back(found: Instances) -> None:
    columns = {name: getattr(found, name) for name in ("classes", "scores", "boxes", "ids", "class_names")}
    for compressed in (True, False):
        back = Instances.from_rle(found.shape, found.to_rle(compressed), **columns)
        # A mask without pixels has a window without pixels, wherever.
        assert_same(back, found, but=("windows",))
        np.testing.assert_array_equal(full_masks(back), full_masks(found))


@given(objects())
@settings(deadline=None)
def test_polygons_there_and_back(found: Instances) -> None:
    columns = {name: getattr(found, name) for name in ("classes", "scores", "boxes", "ids", "class_names")}
    back = Instances.from_polygons(found.shape, found.to_polygons(), **columns)
    assert_same(back, found, but=("windows",))
    np.testing.assert_array_equal(full_masks(back), full_masks(found))


def test_segmentations_of_coco() -> None:
    # COCO's corner of the first pixel is half a pixel from our centre of it.
    square = np.array([(1.5, 0.5), (1.5, 3.5), (3.5, 3.5), (3.5, 0.5)])
    ours = Instances.from_polygons((5, 6), [square])
    segmentations = [[(square[:, ::-1] + 0.5).ravel().tolist()], *ours.to_rle(compressed=False)]
    theirs = Instances.from_coco((5, 6), segmentations, classes=[2, 1], ids=[9, 4], class_names=NAMES)
    np.testing.assert_array_equal(full_masks(theirs), full_masks(ours).repeat(2, axis=0))
    assert (theirs.classes.tolist(), theirs.ids.tolist()) == ([2, 1], [9, 4])


def test_polygons_that_add_up_lose_holes_only() -> None:
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    found = Instances.from_crops((9, 9), [np.pad(ring, ((0, 0), (0, 3)))], [(1, 1)])
    assert [len(rings) for rings in found.to_polygons()] == [2]
    pieces = found.to_polygons(holes=False)
    assert [len(rings) for rings in pieces] == [1]
    assert Instances.from_polygons((9, 9), pieces, rule="union").areas().tolist() == [25]


@given(objects(empty_masks=False))
@settings(deadline=None)
def test_class_masks_hold_what_overlaps_between_classes(found: Instances) -> None:
    images = found.to_class_masks()
    assert sorted(images) == [1, 2, 3]
    for c, image in images.items():
        np.testing.assert_array_equal(image, found.take(found.classes == c).to_labels())
    back = Instances.from_class_masks(images, NAMES)
    i, j, _ = intersections(found, found)
    if not ((i != j) & (found.classes[i] == found.classes[j])).any():
        order = np.lexsort((found.ids, found.classes))
        assert_same(back, replace(found.take(order), scores=np.ones(len(found))))


def test_class_masks_by_hand() -> None:
    masks = {2: np.array([[1, 1, 0]]), 1: np.array([[0, 1, 5]])}
    found = Instances.from_class_masks(masks)
    assert found.class_names == ("class 1", "class 2")
    assert (found.ids.tolist(), found.classes.tolist()) == ([1, 2, 3], [1, 1, 2])
    assert Instances.from_class_masks({1: np.array([[True, False]])}).areas().tolist() == [1]
    with pytest.raises(LabelError, match="differ in size"):
        Instances.from_class_masks({1: masks[1], 2: masks[2].T})
    with pytest.raises(LabelError, match="no label image"):
        Instances.from_class_masks({})
    with pytest.raises(LabelError, match="no name"):
        Instances.from_class_masks(masks, ["only one"])
    with pytest.raises(LabelError, match="integers") as error:
        Instances.from_class_masks({1: masks[1], 2: np.zeros((1, 3))})
    assert error.value.where == "class 2"


@given(objects())
@settings(deadline=None)
def test_crops_there_and_back(found: Instances) -> None:
    crops = [found.mask(i) for i in range(len(found))]
    assert_same(
        Instances.from_crops(
            found.shape, crops, found.windows[:, :2],
            found.classes, found.scores, found.boxes, found.ids, found.class_names,
        ),
        found,
    )  # fmt: skip


def test_crops_beyond_the_image_are_cut_off() -> None:
    crop = np.ones((4, 4), bool)
    found = Instances.from_crops((5, 6), [crop, crop, crop, crop[:0]], [(-2, -3), (3, 5), (50, 50), (1, 1)])
    assert found.areas().tolist() == [2, 2, 0, 0]
    assert found.windows[:2].tolist() == [[0, 0, 2, 1], [3, 5, 5, 6]]
    with pytest.raises(LabelError) as error:
        Instances.from_crops((5, 6), [crop, crop[0]], [(0, 0), (0, 0)])
    assert error.value.where == "crops[1]"
    with pytest.raises(LabelError) as error:
        Instances.from_crops((5, 6), [crop], [(0, 0), (0, 0)])
    assert error.value.where == "origins"


# Picking, moving, putting together


@given(objects(), st.data())
@settings(deadline=None)
def test_taking(found: Instances, data: st.DataObject) -> None:
    every = list(range(len(found)))
    wanted = data.draw(st.lists(st.sampled_from(every), unique=True) if every else st.just([]))
    taken = found.take(wanted)
    np.testing.assert_array_equal(full_masks(taken), full_masks(found)[wanted])
    for name in ("windows", "boxes", "classes", "scores", "ids"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(found, name)[wanted])
    chosen = np.isin(every, wanted)
    assert_same(found.take(chosen), found.take(sorted(wanted)))
    assert_same(found.take(slice(1, None)), found.take(every[1:]))


def test_taking_what_is_not_there() -> None:
    found = Instances.from_labels(np.array([[1, 2, 3]]))
    with pytest.raises(IndexError):
        found.take([3])
    with pytest.raises(IndexError):
        found.mask(3)
    with pytest.raises(LabelError, match="same id"):
        found.take([1, 1])
    assert found.take(np.array([-1])).ids.tolist() == [3]
    assert found.mask(-1).tolist() == [[True]]
    assert found.take([]).to_labels().tolist() == [[0, 0, 0]]


@given(objects(), st.integers(-15, 15), st.integers(-15, 15), hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
@settings(deadline=None)
def test_shifting_cuts_at_the_border(found: Instances, dy: int, dx: int, shape: tuple[int, int]) -> None:
    moved = found.shifted(dy, dx, shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    here = (rows - dy >= 0) & (rows - dy < found.shape[0]) & (columns - dx >= 0) & (columns - dx < found.shape[1])
    expected = np.zeros((len(found), *shape), bool)
    expected[:, here] = full_masks(found)[:, rows[here] - dy, columns[here] - dx]
    left = expected.any(axis=(1, 2))
    np.testing.assert_array_equal(moved.ids, found.ids[left])
    np.testing.assert_array_equal(full_masks(moved), expected[left])
    np.testing.assert_array_equal(moved.boxes, moved.windows)


@given(objects(empty_masks=False))
@settings(deadline=None)
def test_shifting_back(found: Instances) -> None:
    assert_same(found.shifted(7, 3, (30, 30)).cropped(7, 3, 7 + found.shape[0], 3 + found.shape[1]), found)


def test_boxes_that_are_not_the_windows_move_too() -> None:
    boxes = [[1.5, 1, 5, 4.5], [5, 5, 7, 7]]
    found = Instances.from_crops((9, 9), [np.ones((2, 2), bool)] * 2, [(2, 2), (5, 5)], boxes=boxes)
    assert found.shifted(-2, 1, (9, 9)).boxes.tolist() == [[0, 2, 3, 5.5], [3, 6, 5, 8]]
    assert found.resized((18, 9)).boxes.tolist() == [[3, 1, 10, 4.5], [10, 5, 14, 7]]


def test_a_crop_cuts_what_a_slice_cuts() -> None:
    labels = np.arange(1, 43).reshape(6, 7) // 3
    cropped = Instances.from_labels(labels).cropped(1, 2, 5, 6)
    np.testing.assert_array_equal(cropped.to_labels(), labels[1:5, 2:6])


@given(objects(empty_masks=False), st.integers(1, 4), st.integers(1, 4))
@settings(deadline=None)
def test_enlarging_repeats_pixels_and_can_be_undone(found: Instances, down: int, across: int) -> None:
    larger = found.resized((found.shape[0] * down, found.shape[1] * across))
    np.testing.assert_array_equal(full_masks(larger), full_masks(found).repeat(down, axis=1).repeat(across, axis=2))
    assert_same(larger.resized(found.shape), found)


def test_what_is_too_small_for_the_grid_goes() -> None:
    labels = np.zeros((8, 8), int)
    labels[0, 0], labels[2:6, 2:6] = 5, 9
    smaller = Instances.from_labels(labels).resized((2, 2))
    assert smaller.ids.tolist() == [9]
    assert Instances.from_labels(labels).resized((0, 4)).ids.tolist() == []


@given(objects(), st.integers(0, 5))
@settings(deadline=None)
def test_putting_parts_together(found: Instances, cut: int) -> None:
    assert_same(Instances.concatenate([found.take(slice(cut)), found.take(slice(cut, None))]), found)
    twice = Instances.concatenate([found, found])
    np.testing.assert_array_equal(full_masks(twice), np.concatenate([full_masks(found)] * 2))
    assert twice.ids.tolist() == list(range(1, 2 * len(found) + 1))


def test_parts_that_do_not_fit_are_told() -> None:
    one = Instances.from_labels(np.array([[1, 2]]))
    with pytest.raises(LabelError, match="no objects"):
        Instances.concatenate([])
    for other in (one.resized((2, 2)), replace(one, class_names=("cell",))):
        with pytest.raises(LabelError, match="cannot be put together") as error:
            Instances.concatenate([one, other])
        assert error.value.where == "parts[1]"


def test_numbering_and_naming() -> None:
    found = Instances.from_labels(np.array([[70_000, 3]]))
    assert found.renumbered().to_labels().tolist() == [[2, 1]]
    assert repr(found) == "Instances(2 objects in 1 x 2 pixels, classes object)"


@given(objects())
@settings(deadline=None, max_examples=10)
def test_they_go_to_other_processes(found: Instances) -> None:
    assert_same(pickle.loads(pickle.dumps(found)), found)


# Overlaps


@given(objects(), objects())
@settings(deadline=None)
def test_overlaps_are_those_of_the_masks(a: Instances, b: Instances) -> None:
    b = b.shifted(0, 0, a.shape)
    i, j, pixels = intersections(a, b)
    table = np.zeros((len(a), len(b)), np.int64)
    table[i, j] = pixels
    first, second = (full_masks(x).reshape(len(x), a.shape[0] * a.shape[1]).astype(np.int64) for x in (a, b))
    np.testing.assert_array_equal(table, first @ second.T)
    assert (pixels > 0).all()
    assert list(zip(i, j)) == sorted(zip(i, j))
    _, _, iou = mask_ious(a, b)
    np.testing.assert_allclose(iou, pixels / (first.sum(1)[i] + second.sum(1)[j] - pixels))


def test_overlaps_need_one_image() -> None:
    with pytest.raises(LabelError, match="different size"):
        intersections(Instances.empty((3, 4)), Instances.empty((4, 3)))


# Contradictions


GOOD: dict[str, Any] = {
    "shape": (4, 5),
    "windows": [[0, 0, 3, 3], [1, 1, 2, 4]],
    "bits": [255, 128, 0b11100000],
    "offsets": [0, 2, 3],
}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"shape": (4,)}, "shape"),
        ({"shape": (2, 5)}, "windows[0]"),
        ({"offsets": [0, 1, 3]}, "offsets[1]"),
        ({"classes": [1]}, "classes"),
        ({"classes": [1, 3], "class_names": ("a", "b")}, "classes[1]"),
        ({"classes": [0, 1]}, "classes[0]"),
        ({"classes": [1, 1.5]}, "classes[1]"),
        ({"scores": [0.5]}, "scores"),
        ({"scores": [0.5, np.nan]}, "scores[1]"),
        ({"scores": ["a", "b"]}, "scores"),
        ({"ids": [1, 2, 3]}, "ids"),
        ({"ids": [7, 7]}, "ids"),
        ({"ids": [0, 7]}, "ids[0]"),
        ({"ids": [1, 2**31]}, "ids[1]"),
        ({"boxes": [[0, 0, 1, 1]]}, "boxes"),
        ({"boxes": [[0, 0, 1, 1], [0, 3, 1, 1]]}, "boxes[1]"),
        ({"boxes": [[0, 0, 1, 1], [0, 3, 1, np.inf]]}, "boxes[1, 3]"),
    ],
)
def test_columns_that_contradict_each_other_are_told(wrong: dict[str, Any], where: str) -> None:
    assert Instances.from_packed(**GOOD).areas().tolist() == [9, 3]
    with pytest.raises(LabelError) as error:
        Instances.from_packed(**{**GOOD, **wrong})
    assert error.value.where == where
    assert error.value.found is not None
    assert error.value.expected is not None


def test_no_way_leads_round_the_checks() -> None:
    found = Instances.from_packed(**GOOD)
    with pytest.raises(LabelError):
        replace(found, windows=found.windows + 100)
    with pytest.raises(AttributeError):
        found.ids = found.ids  # type: ignore[misc]


def test_windows_that_are_given_stay_and_boxes_are_tight() -> None:
    found = Instances.from_packed((4, 5), [[0, 0, 3, 3]], np.packbits([0, 0, 0, 0, 1, 0, 0, 0, 0]), [0, 2])
    assert found.windows.tolist() == [[0, 0, 3, 3]]
    assert found.boxes.tolist() == [[1, 1, 2, 2]]


def test_real_labels(shared_data: Path) -> None:
    labels = imread(sorted((shared_data / "histology" / "labels").glob("*.png"))[0])
    found = Instances.from_labels(labels)
    np.testing.assert_array_equal(found.to_labels(labels.dtype), labels)
    assert_same(Instances.from_rle(found.shape, found.to_rle(), ids=found.ids), found)
    assert_same(Instances.from_polygons(found.shape, found.to_polygons(), ids=found.ids), found)
    i, j, pixels = intersections(found, found)
    np.testing.assert_array_equal(i, j)
    np.testing.assert_array_equal(pixels, found.areas())
