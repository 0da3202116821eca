"""Which objects of the truth share pixels with which of a prediction: the table that object metrics start from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numba import njit

from cytomask.errors import LabelError
from cytomask.geometry.overlap import mask_overlaps, overlap_table
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

#: Objects of one image: a label image, or masks that may overlap.
Objects: TypeAlias = np.ndarray | Instances | LabelLayers


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPairs:
    """The objects of a truth and of a prediction, and the pixels that they share.

    Attributes
    ----------
    truth_ids, prediction_ids
        int32 ``(n_true,)`` and ``(n_pred,)``, ascending for label images.
    truth_areas, prediction_areas
        int64, pixels.
    truth_classes, prediction_classes
        int32, 1-based; all 1 where nothing is known of classes.
    truth_index, prediction_index
        int64 ``(P,)``: the pairs that share a pixel, as positions in the arrays above, sorted by truth.
    shared
        int64 ``(P,)``: how many pixels they share.
    disjoint
        Whether on either side no pixel belongs to two objects.
    """

    truth_ids: np.ndarray
    truth_areas: np.ndarray
    truth_classes: np.ndarray
    prediction_ids: np.ndarray
    prediction_areas: np.ndarray
    prediction_classes: np.ndarray
    truth_index: np.ndarray
    prediction_index: np.ndarray
    shared: np.ndarray
    disjoint: bool

    @property
    def n_true(self) -> int:
        """Number of objects in the truth."""
        return len(self.truth_ids)

    @property
    def n_pred(self) -> int:
        """Number of predicted objects."""
        return len(self.prediction_ids)

    def union(self) -> np.ndarray:
        """Pixels of either object of each pair, int64 ``(P,)``."""
        return self.truth_areas[self.truth_index] + self.prediction_areas[self.prediction_index] - self.shared

    def iou(self) -> np.ndarray:
        """Intersection over union of each pair, float64 ``(P,)``."""
        return self.shared / self.union()

    def take(self, truth: np.ndarray, prediction: np.ndarray) -> ObjectPairs:
        """Keep only some objects; both arguments are boolean, one value per object."""
        kept = truth[self.truth_index] & prediction[self.prediction_index]
        return ObjectPairs(
            self.truth_ids[truth], self.truth_areas[truth], self.truth_classes[truth],
            self.prediction_ids[prediction], self.prediction_areas[prediction], self.prediction_classes[prediction],
            (np.cumsum(truth) - 1)[self.truth_index[kept]],
            (np.cumsum(prediction) - 1)[self.prediction_index[kept]],
            self.shared[kept], self.disjoint,
        )  # fmt: skip

    def of_class(self, class_id: int) -> ObjectPairs:
        """Keep only the objects of one class."""
        return self.take(self.truth_classes == class_id, self.prediction_classes == class_id)


def pair_objects(truth: Objects, prediction: Objects, crowd: Collection[int] = ()) -> ObjectPairs:
    """Find the objects of both sides, their areas, and every pair that shares pixels.

    Regions that are crowds (many objects under one outline) are no objects to be found; predictions that lie in them by
    half or more are left out, neither right nor wrong.

    Parameters
    ----------
    truth, prediction
        Label images ``(Y, X)`` of integers with 0 for the background, or :class:`Instances`, or :class:`LabelLayers`.
    crowd
        Ids of true objects that are crowds, besides those that :class:`LabelLayers` marks itself.

    Raises
    ------
    LabelError
        If the two differ in size, or a label image holds anything but integers from 0.

    Examples
    --------
    >>> pairs = pair_objects(np.array([[3, 3, 0, 4]]), np.array([[0, 1, 1, 0]]))
    >>> pairs.truth_ids, pairs.truth_areas, pairs.n_pred
    (array([3, 4], dtype=int32), array([2, 1]), 1)
    >>> pairs.truth_ids[pairs.truth_index], pairs.iou()
    (array([3], dtype=int32), array([0.33333333]))
    """
    size_truth, size_prediction = image_size(truth), image_size(prediction)
    if size_truth != size_prediction:
        raise LabelError(
            "the prediction and the truth differ in size",
            found=f"prediction {size_prediction[0]} x {size_prediction[1]} pixels",
            expected=f"{size_truth[0]} x {size_truth[1]} pixels (height x width), as the truth",
        )
    label_truth, label_prediction = _one_layer(truth), _one_layer(prediction)
    if label_truth is not None and label_prediction is not None:
        pairs = _pair_labels(label_truth, label_prediction, truth, prediction)
    else:
        pairs = _pair_masks(to_instances(truth), to_instances(prediction))
    every = crowd_ids(truth, crowd)
    return _without_crowds(pairs, every) if every else pairs


def crowd_ids(truth: Objects, crowd: Collection[int] = ()) -> frozenset[int]:
    """Ids of crowd regions: those that are named, and those that the truth marks itself."""
    return frozenset(crowd) | (truth.crowd if isinstance(truth, LabelLayers) else frozenset())


def crowd_region(truth: Objects, crowd: Collection[int]) -> np.ndarray | None:
    """The pixels that only crowd regions cover, bool ``(Y, X)``: what is predicted there is neither right nor wrong.

    Returns
    -------
    numpy.ndarray or None
        None if there are no crowds.

    Examples
    --------
    >>> crowd_region(np.array([[1, 1, 2, 0]]), {1})
    array([[ True,  True, False, False]])
    """
    if not crowd:
        return None
    if isinstance(truth, LabelLayers):
        layers = list(truth.layers)
    elif isinstance(truth, Instances):
        is_crowd = np.isin(truth.ids, list(crowd))
        inside = truth.take(is_crowd).to_labels() != 0
        return inside & (truth.take(~is_crowd).to_labels() == 0)
    else:
        layers = [truth]
    inside, single = np.zeros(image_size(truth), bool), np.zeros(image_size(truth), bool)
    for layer in layers:
        of_crowd = np.isin(layer, list(crowd))
        inside |= of_crowd
        single |= (layer != 0) & ~of_crowd
    return inside & ~single


def image_size(objects: Objects) -> tuple[int, int]:
    """Height and width of the image that the objects lie in."""
    if isinstance(objects, np.ndarray) and objects.ndim != 2:
        raise LabelError("a label image has two axes", found=f"shape {objects.shape}", expected="(height, width)")
    height, width = objects.shape
    return int(height), int(width)


def class_map(objects: Objects) -> np.ndarray:
    """The class of each pixel, int32 ``(Y, X)``, 0 for the background; where objects overlap, the better scored's."""
    if isinstance(objects, LabelLayers):
        return objects.class_map()
    if isinstance(objects, Instances):
        # Numbered from 1, since a table of classes by id would be as long as the largest id.
        return np.concatenate([np.zeros(1, np.int32), objects.classes])[objects.renumbered().to_labels()]
    return (objects != 0).astype(np.int32)


def _one_layer(objects: Objects) -> np.ndarray | None:
    if isinstance(objects, LabelLayers):
        return objects.layers[0] if len(objects.layers) == 1 else None
    return None if isinstance(objects, Instances) else objects


def to_instances(objects: Objects) -> Instances:
    """Turn label images and label layers into instances, each object in the scored form that COCO metrics take."""
    if isinstance(objects, LabelLayers):
        return objects.to_instances()
    return objects if isinstance(objects, Instances) else Instances.from_labels(objects)


def _classes(ids: np.ndarray, objects: Objects) -> np.ndarray:
    if isinstance(objects, LabelLayers):
        return np.array([objects.classes.get(int(i), 1) for i in ids], np.int32)
    return np.ones(len(ids), np.int32)


def _pair_labels(a: np.ndarray, b: np.ndarray, truth: Objects, prediction: Objects) -> ObjectPairs:
    truth_ids, truth_areas, prediction_ids, prediction_areas, rows, columns, shared = _index(*overlap_table(a, b))
    return ObjectPairs(
        truth_ids, truth_areas, _classes(truth_ids, truth),
        prediction_ids, prediction_areas, _classes(prediction_ids, prediction),
        rows, columns, shared, True,
    )  # fmt: skip


@njit(cache=True, nogil=True)
def _rank(ids: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct ids without the background, ascending; the counts of each added up; each entry's rank, or -1."""
    distinct, areas = np.empty(len(ids), ids.dtype), np.zeros(len(ids), np.int64)
    rank = np.full(len(ids), -1, np.int64)
    last = -1
    for i in np.argsort(ids):
        if ids[i] == 0:
            continue
        if last < 0 or ids[i] != distinct[last]:
            last += 1
            distinct[last] = ids[i]
        areas[last] += counts[i]
        rank[i] = last
    return distinct[: last + 1].copy(), areas[: last + 1].copy(), rank


@njit(cache=True, nogil=True)
def _index(
    ids_a: np.ndarray, ids_b: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Turn a table of overlaps into objects with areas, and pairs of positions among them."""
    truth_ids, truth_areas, row = _rank(ids_a, counts)
    prediction_ids, prediction_areas, column = _rank(ids_b, counts)
    both = np.flatnonzero((row >= 0) & (column >= 0))
    return truth_ids, truth_areas, prediction_ids, prediction_areas, row[both], column[both], counts[both]


def _pair_masks(truth: Instances, prediction: Instances) -> ObjectPairs:
    truth_index, prediction_index, shared = mask_overlaps(
        truth.windows, truth.bits, truth.offsets, prediction.windows, prediction.bits, prediction.offsets
    )
    return ObjectPairs(
        truth.ids, truth.areas(), truth.classes, prediction.ids, prediction.areas(), prediction.classes,
        truth_index, prediction_index, shared, False,
    )  # fmt: skip


def _without_crowds(pairs: ObjectPairs, crowd: frozenset[int]) -> ObjectPairs:
    is_crowd = np.isin(pairs.truth_ids, list(crowd))
    inside = is_crowd[pairs.truth_index]
    in_crowd = np.bincount(pairs.prediction_index[inside], pairs.shared[inside], pairs.n_pred)
    return pairs.take(~is_crowd, 2 * in_crowd < pairs.prediction_areas)
