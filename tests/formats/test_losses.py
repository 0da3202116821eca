"""What a format cannot hold, counted: overlap against a plain count over whole masks, and in heaps of objects."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytomask.errors import LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.losses import Losses
from cytomask.instances import Instances

CLASSES = ("cell", "debris")


def counted(objects: Instances, *holds: str) -> dict[str, int]:
    """The counts of overlap alone."""
    losses = Losses({"pieces", "holes", "ids", "scores", "pixels", "classes", "empty", *holds})
    losses.add(Annotation("a", objects))
    return losses.counts


@st.composite
def heaps(draw: st.DrawFn) -> Instances:
    """Random masks, some of them empty, on a small image: many lie in one place."""
    shape = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    n = draw(st.integers(0, 6))
    crops, origins = [], []
    for _ in range(n):
        height, width = (draw(st.integers(1, size)) for size in shape)
        crops.append(np.array(draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))))
        crops[-1] = crops[-1].reshape(height, width)
        origins.append((draw(st.integers(0, shape[0] - height)), draw(st.integers(0, shape[1] - width))))
    classes = draw(st.lists(st.sampled_from([1, 2]), min_size=n, max_size=n))
    scores = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0]), min_size=n, max_size=n))
    return Instances.from_crops(shape, crops, origins, classes, scores, class_names=CLASSES)


def plainly(objects: Instances) -> dict[str, int]:
    """The same counts, from one whole mask for each object."""
    masks = np.array([objects.full_mask(i) for i in range(len(objects))]).reshape(-1, *objects.shape)
    shared = masks.sum(axis=0) > 1
    order = sorted(range(len(objects)), key=lambda i: objects.scores[i])
    seen = {i: masks[i] & ~masks[order[place + 1 :]].any(axis=0) for place, i in enumerate(order)}
    overlapping = [i for i in range(len(objects)) if (masks[i] & shared).any()]
    found = {
        "overlap": len(overlapping),
        "shared pixels": int(shared.sum()),
        "hidden": sum(not seen[i].any() for i in overlapping),
    }
    return {name: count for name, count in found.items() if count}


@given(heaps())
def test_overlap_is_counted_as_whole_masks_tell_it(objects: Instances) -> None:
    assert counted(objects) == plainly(objects)
    by_class: dict[str, int] = {}
    for c in (1, 2):
        for name, count in plainly(objects.take(objects.classes == c)).items():
            by_class[name] = by_class.get(name, 0) + count
    assert counted(objects, "class-overlap") == by_class
    assert counted(objects, "overlap", "class-overlap") == {}


def test_a_pixel_that_three_objects_share_is_one_pixel() -> None:
    crops = [np.ones((1, 2), bool)] * 3
    heap = Instances.from_crops((1, 4), crops, [(0, 0), (0, 1), (0, 1)], scores=[0.5, 0.9, 0.7])
    # The first shows its left pixel, the second lies on top, the third below it.
    assert counted(heap) == {"overlap": 3, "shared pixels": 2, "hidden": 1}


def test_thousands_of_objects_in_one_place_take_no_more_than_their_pixels() -> None:
    n, disc = 5000, np.hypot(*np.mgrid[-15:16, -15:16]) <= 15
    heap = Instances.from_crops((64, 64), [disc] * n, [(20, 20)] * n)
    counted(heap)  # compiles
    tracemalloc.start()
    found = counted(heap)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {"overlap": n, "shared pixels": int(disc.sum()), "hidden": n - 1}
    # Of 12.5 million pairs a list would take 200 MB and more.
    assert peak < 50e6


def test_an_image_too_large_to_be_painted_is_refused() -> None:
    dots = Instances.from_crops((10**6, 10**6), [np.ones((1, 1), bool)] * 2, [(0, 0), (999_999, 999_999)])
    with pytest.raises(LabelError, match="too large for a label image"):
        counted(dots)
    assert counted(dots, "overlap") == {}
