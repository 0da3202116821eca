"""Mended masks are whole, mending again changes nothing, and whole masks are left as they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cytomask.data.check.anatomy import describe_objects
from cytomask.data.check.mend import mend_objects
from cytomask.data.check.object_faults import object_faults
from cytomask.instances import Instances

from .planting import draw_cells

FIXED = {"specks", "crumbs", "holes", "scattered-object", "outlines-only", "duplicate-objects"}


def test_whole_masks_stay() -> None:
    cells = Instances.from_labels(draw_cells(5)[1] * 3)
    mended, done = mend_objects(cells)
    assert done == []
    assert mended.ids.tolist() == cells.ids.tolist()
    assert mended.to_rle() == cells.to_rle()


@given(arrays(np.int32, (24, 24), elements=st.integers(0, 3)), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_what_is_mended_passes_and_stays(small: np.ndarray, scale: int) -> None:
    cells = Instances.from_labels(np.kron(small, np.ones((scale, scale), np.int32)))
    mended, _ = mend_objects(cells)
    again, done = mend_objects(mended)
    assert done == []
    assert again.to_rle() == mended.to_rle()
    found = {one.kind for one in object_faults(mended, describe_objects(mended))}
    assert not found & FIXED
    # Label images stay label images: nothing overlaps that did not.
    assert (np.bincount(mended.to_labels().ravel())[1:].sum()) == mended.areas().sum()


def test_classes_and_scores_go_with_the_pieces() -> None:
    labels = draw_cells(5)[1]
    labels[labels == 12] = 1
    classes = {k: 1 + k % 2 for k in range(1, 12)}
    cells = Instances.from_labels(labels, classes=classes, scores=dict.fromkeys(classes, 0.5), class_names=("a", "b"))
    mended, (done,) = mend_objects(cells)
    assert (done.kind, done.objects) == ("scattered-object", (1,))
    new = mended.ids.tolist().index(12)
    assert (mended.classes[new], mended.scores[new], mended.class_names) == (2, 0.5, ("a", "b"))


def test_the_later_double_goes() -> None:
    crop = np.ones((9, 9), bool)
    cells = Instances.from_crops((40, 40), [crop] * 3, [(2, 2), (2, 2), (20, 20)], ids=[4, 9, 5])
    mended, (done,) = mend_objects(cells)
    assert mended.ids.tolist() == [4, 5]
    assert done.objects == (9,)


def test_crowd_regions_stay_as_they_are() -> None:
    labels = draw_cells(5)[1]
    labels[labels == 12] = 1
    cells = Instances.from_labels(labels)
    mended, done = mend_objects(cells, crowd=[1])
    assert done == []
    assert mended.to_rle() == cells.to_rle()
