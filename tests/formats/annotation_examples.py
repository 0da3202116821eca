"""Random annotations for round trips, and what it means that they came back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cytomask.formats.annotations.annotation import Annotation
from cytomask.instances import Instances

CLASSES = ("nucleus", "cell, large", "Zelle ü")


@st.composite
def annotations(draw: Any, holds: Collection[str], most: int = 3, empty_masks: bool = False) -> list[Annotation]:
    """A few images with 0 to 8 random masks each: with pieces, holes and overlap, classes and scores."""
    classes = CLASSES if "classes" in holds else ("object",)
    names = draw(
        st.lists(st.sampled_from(["a", "b 1", "c/d", "ü.v2", "e/f/g"]), min_size=1, max_size=most, unique=True)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return [one_annotation(rng, name, draw(st.integers(0, 8)), classes, empty_masks) for name in names]


def one_annotation(
    rng: np.random.Generator, name: str, n: int, classes: tuple[str, ...] = CLASSES, empty_masks: bool = False
) -> Annotation:
    height, width = (int(v) for v in rng.integers(1, 24, 2))
    crops, origins = [], []
    for _ in range(n):
        h, w = int(rng.integers(1, height + 1)), int(rng.integers(1, width + 1))
        # From specks to squares with a hole.
        crop = rng.random((h, w)) < rng.choice([0.3, 0.7, 0.95, 1.0])
        if not crop.any() and not empty_masks:
            crop[0, 0] = True
        crops.append(crop)
        origins.append((int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))))
    ids = np.sort(rng.choice(np.arange(1, 60), n, replace=False)).astype(np.int32)
    objects = Instances.from_crops(
        (height, width), crops, np.array(origins).reshape(-1, 2), ids=ids, class_names=classes,
        classes=rng.integers(1, len(classes) + 1, n), scores=rng.choice([1, 0.5, 0.1, 1 / 3, 1e-7], n),
    )  # fmt: skip
    crowd = frozenset(int(i) for i in ids if rng.random() < 0.2)
    return Annotation(name, objects, crowd, f"{name.rsplit('/', 1)[-1]}.tif", facts={"tissue": "Herz", "stain": "H&E"})


def assert_same(back: Annotation, given: Annotation, holds: Collection[str]) -> None:
    """Everything that the format holds came back."""
    a, b = back.instances, given.instances
    assert back.name == given.name
    assert a.shape == b.shape
    assert len(a) == len(b)
    assert a.to_rle() == b.to_rle()
    if "ids" in holds:
        assert a.ids.tolist() == b.ids.tolist()
    if "classes" in holds:
        assert [a.class_names[c - 1] for c in a.classes] == [b.class_names[c - 1] for c in b.classes]
    if "scores" in holds:
        assert a.scores.tolist() == b.scores.tolist()
    if "crowd" in holds:
        assert back.crowd == given.crowd
