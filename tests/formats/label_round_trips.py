"""What comes back of random objects where objects cannot overlap, as label images keep them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.instances import Instances


def as_label_image(objects: Instances) -> Instances:
    """The objects as a label image keeps them: those on top are whole, those wholly covered are gone."""
    ids, classes = objects.ids.tolist(), objects.classes.tolist()
    return Instances.from_labels(
        objects.to_labels(), classes=dict(zip(ids, classes)), class_names=objects.class_names
    )  # fmt: skip


def told(objects: Instances, holds: Collection[str]) -> dict[int, tuple[object, str]]:
    """For each id what its mask is, and its class."""
    classes = [objects.class_names[c - 1] if "classes" in holds else "" for c in objects.classes]
    masks = objects.to_rle()
    assert len(set(objects.ids.tolist())) == len(objects)
    return {int(i): (mask["counts"], kind) for i, mask, kind in zip(objects.ids, masks, classes)}


def assert_labels_come_back(found: AnnotationSet, given: Sequence[Annotation], holds: Collection[str]) -> None:
    """Names, sizes, masks, ids and classes came back as far as one label image holds them."""
    assert {"pieces", "holes", "pixels", "ids", "empty"} <= set(holds)
    assert sorted(found.names) == sorted(a.name for a in given)
    by_name = {a.name: a for a in given}
    for back in found:
        assert back.instances.shape == by_name[back.name].instances.shape
        assert told(back.instances, holds) == told(as_label_image(by_name[back.name].instances), holds)
