"""LabelLayers: annotated objects as a few label images, the truth that training targets are made from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cytomask.errors import LabelError
from cytomask.geometry.bit_masks import as_label_array, label_windows, paint_masks, paint_translated
from cytomask.geometry.layering import first_fit_layers
from cytomask.geometry.overlap import mask_overlaps
from cytomask.instance_checks import look_up
from cytomask.instances import Instances


@dataclass(frozen=True, slots=True, eq=False)
class LabelLayers:
    """Annotated objects of one image as label images, as few as their overlap demands (usually one).

    An id belongs to one object and occurs in one layer only. Made for speed in a loader's workers: what is given here
    is not examined pixel by pixel, unlike in :meth:`from_labels` and :meth:`from_instances`.

    Parameters
    ----------
    layers
        int32 ``(K, Y, X)``, 0 for the background.
    classes
        Class id of each object id, from 1.
    crowd
        Ids of regions that hold many objects under one outline: nothing is learnt or scored there.
    class_names
        The name of class ``c`` is ``class_names[c - 1]``.

    Raises
    ------
    LabelError
        If ``layers`` has not three axes or is not of integers, or a class has no name.

    Examples
    --------
    >>> truth = LabelLayers.from_labels(np.array([[0, 7, 7], [2, 0, 7]]))
    >>> truth.shape, truth.n_objects, truth.classes
    ((2, 3), 2, {2: 1, 7: 1})
    """

    layers: np.ndarray
    classes: dict[int, int]
    crowd: frozenset[int] = frozenset()
    class_names: tuple[str, ...] = ("object",)

    def __post_init__(self) -> None:
        layers = np.asarray(self.layers)
        if layers.ndim != 3 or layers.dtype.kind not in "iub":
            raise LabelError(
                "layers of labels have three axes and whole numbers", where="layers",
                found=f"{layers.dtype} {layers.shape}", expected="int32 (layers, height, width)",
                fix="use LabelLayers.from_labels for one label image",
            )  # fmt: skip
        if layers.dtype != np.int32:
            layers = np.stack([as_label_array(layer, "layers") for layer in layers]).astype(np.int32)
        names = tuple(self.class_names)
        strange = {c for c in self.classes.values() if not 1 <= c <= len(names)}
        if strange:
            raise LabelError(
                "an object has a class that has no name", where="classes", found=min(strange),
                expected=f"1 to {len(names)}: {', '.join(names)}", fix="name all classes in class_names",
            )  # fmt: skip
        object.__setattr__(self, "layers", layers)
        object.__setattr__(self, "classes", dict(self.classes))
        object.__setattr__(self, "crowd", frozenset(self.crowd))
        object.__setattr__(self, "class_names", names)

    @classmethod
    def from_labels(
        cls,
        labels: np.ndarray,
        classes: Mapping[int, int] | None = None,
        crowd: Iterable[int] = (),
        class_names: Sequence[str] = ("object",),
    ) -> LabelLayers:
        """Take one label image as the only layer.

        Parameters
        ----------
        labels
            Integers of any type, ``(Y, X)``, 0 for the background. Ids need not be contiguous, and are kept.
        classes
            Class of each id; None: all of class 1. Entries for ids that do not occur are left out.
        crowd
            Ids of crowd regions.
        class_names
            As the field of the class.

        Raises
        ------
        LabelError
            If the labels are no integers, negative or above 2147483647, or an id has no class.
        """
        array = as_label_array(labels).astype(np.int32, copy=False)
        ids, _ = label_windows(array)
        here = ids.tolist()
        of_object = np.ones(len(ids), np.int32) if classes is None else look_up(classes, ids, "class")
        return cls(
            layers=array[None],
            classes=dict(zip(here, (int(c) for c in of_object))),
            crowd=frozenset(crowd).intersection(here),
            class_names=tuple(class_names),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.layers.shape[1]), int(self.layers.shape[2])

    @property
    def n_objects(self) -> int:
        """How many objects there are, crowd regions included."""
        return len(self.ids())

    def ids(self) -> np.ndarray:
        """The ids that occur, int32, ascending."""
        return np.unique(np.concatenate([np.empty(0, np.int32), *(label_windows(layer)[0] for layer in self.layers)]))

    def window(self, y0: int, y1: int, x0: int, x1: int) -> LabelLayers:
        """The part from row ``y0`` and column ``x0`` up to, without, ``y1`` and ``x1``; beyond the image is background.

        Examples
        --------
        >>> LabelLayers.from_labels(np.array([[0, 7, 7], [2, 0, 7]])).window(0, 1, 1, 4).layers
        array([[[7, 7, 0]]], dtype=int32)
        """
        height, width = self.shape
        part = self.layers[:, max(y0, 0) : max(min(y1, height), 0), max(x0, 0) : max(min(x1, width), 0)]
        if part.shape[1:] != (y1 - y0, x1 - x0):
            room = np.zeros((len(part), y1 - y0, x1 - x0), np.int32)
            top, left = max(-y0, 0), max(-x0, 0)
            room[:, top : top + part.shape[1], left : left + part.shape[2]] = part
            part = room
        part = np.ascontiguousarray(part)
        whole = LabelLayers(part, {}, frozenset(), self.class_names)
        here = whole.ids().tolist()
        classes = {i: self.classes[i] for i in here if i in self.classes}
        return LabelLayers(part, classes, self.crowd.intersection(here), self.class_names)

    def union(self) -> np.ndarray:
        """Where any object is, crowd regions included, bool ``(Y, X)``."""
        there = np.zeros(self.shape, bool)
        for layer in self.layers:
            there |= layer != 0
        return there

    def class_map(self) -> np.ndarray:
        """The class of each pixel, int32 ``(Y, X)``, 0 for the background; where objects overlap, the last layer's."""
        ids = self.ids()
        classes = np.array([self.classes.get(i, 1) for i in ids.tolist()], np.int32)
        out = np.zeros(self.shape, np.int32)
        for layer in self.layers:
            paint_translated(out, np.ascontiguousarray(layer), ids, classes)
        return out

    def to_instances(self) -> Instances:
        """Cut the objects out, crowd regions included, in the order of their ids; each with score 1."""
        parts = [Instances.from_labels(layer, class_names=self.class_names) for layer in self.layers]
        every = Instances.concatenate([Instances.empty(self.shape, self.class_names), *parts])
        return _with_classes(every.take(np.argsort(every.ids, kind="stable")), self.classes)

    @classmethod
    def from_instances(cls, instances: Instances, crowd: Iterable[int] = ()) -> LabelLayers:
        """Paint objects into as few layers as a greedy choice finds, so that none covers another.

        The objects that overlap most others choose first; each takes the first layer where it has room.

        Parameters
        ----------
        instances
            The objects; their scores are not kept, nor objects without pixels.
        crowd
            Ids of crowd regions.

        Examples
        --------
        >>> crops = [np.ones((1, 2), bool)] * 3
        >>> LabelLayers.from_instances(Instances.from_crops((1, 4), crops, [(0, 0), (0, 1), (0, 2)])).layers
        array([[[0, 2, 2, 0]],
               [[1, 1, 3, 3]]], dtype=int32)
        """
        masks = (instances.windows, instances.bits, instances.offsets)
        first, second, _ = mask_overlaps(*masks, *masks)
        layer_of = first_fit_layers(first, second, len(instances))
        layers = np.zeros((int(layer_of.max(initial=0)) + 1, *instances.shape), np.int32)
        for number, layer in enumerate(layers):
            paint_masks(layer, np.flatnonzero(layer_of == number), *masks, instances.ids)
        kept = instances.areas() > 0
        classes = dict(zip(instances.ids[kept].tolist(), instances.classes[kept].tolist()))
        return cls(layers, classes, frozenset(crowd).intersection(classes), instances.class_names)


def _with_classes(instances: Instances, classes: Mapping[int, int]) -> Instances:
    return replace(instances, classes=np.array([classes.get(i, 1) for i in instances.ids.tolist()], np.int32))
