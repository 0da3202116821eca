"""Name the error of every object: split, merged, missed, spurious or poorly outlined.

An object *lies mainly in* another if more than half of its pixels do. Every object has exactly one kind, the first of
these that fits:

hit
    Matched one to one at the IoU threshold, as :func:`~cytomask.evaluation.matching.match` does.
merged
    A prediction in which two true objects or more mainly lie; and true objects that mainly lie in such a prediction.
split
    A true object in which two predictions or more mainly lie that together cover more than half of it; and the
    predictions that mainly lie in such an object.
poor
    Of the objects that are left, those that can be matched one to one at an IoU of 0.1 or more: found, but with a wrong
    outline. (Below 0.1 two objects are no more than neighbours; TIDE, Bolya et al., ECCV 2020, draws the line there.)
missed, spurious
    The rest: true objects that nothing stands for, predictions that stand for nothing.

A hit may hide an error of another object: where two true cells lie in one prediction that matches the larger, that cell
and the prediction are hits, and the smaller cell is merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cytomask.evaluation.matching import assign
from cytomask.evaluation.pairs import ObjectPairs, Objects, pair_objects

#: What may become of a true object, and of a predicted one; positions are the codes in :class:`ErrorKinds`.
TRUTH_KINDS = ("hit", "poor", "split", "merged", "missed")
PREDICTION_KINDS = ("hit", "poor", "split", "merged", "spurious")
HIT, POOR, SPLIT, MERGED, ALONE = range(5)
#: Objects that overlap less are no pair.
POOR_FROM = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class ErrorKinds:
    """What became of every object of one image.

    Attributes
    ----------
    truth_ids, prediction_ids
        int32 ``(N,)`` and ``(M,)``.
    truth_kinds, prediction_kinds
        uint8: positions in :data:`TRUTH_KINDS` and :data:`PREDICTION_KINDS`.
    truth_iou, prediction_iou
        float32: the largest IoU with any object of the other side.
    truth_partner, prediction_partner
        int32: the id of that object, 0 where there is none.
    """

    truth_ids: np.ndarray
    truth_kinds: np.ndarray
    truth_iou: np.ndarray
    truth_partner: np.ndarray
    prediction_ids: np.ndarray
    prediction_kinds: np.ndarray
    prediction_iou: np.ndarray
    prediction_partner: np.ndarray

    def counts(self) -> dict[str, dict[str, int]]:
        """How many objects of each side are of each kind, as in ``metrics.json``.

        Examples
        --------
        >>> truth, prediction = np.array([[1, 1, 2, 2, 0, 3]]), np.array([[7, 7, 7, 7, 0, 0]])
        >>> error_kinds(truth, prediction, threshold=0.6).counts()["truth"]
        {'hit': 0, 'poor': 0, 'split': 0, 'merged': 2, 'missed': 1}
        """
        return named_counts(kind_counts(self))


def error_kinds(truth: Objects, prediction: Objects, threshold: float = 0.5) -> ErrorKinds:
    """Name what became of every true and every predicted object.

    Parameters
    ----------
    truth, prediction
        Objects of one image; see :func:`pair_objects`. Crowd regions, and predictions in them, are left out.
    threshold
        IoU from which on an object is a hit.

    Raises
    ------
    LabelError
        If the two differ in size, or a label image holds anything but integers from 0.

    Examples
    --------
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0]])
    >>> found = error_kinds(truth, np.array([[5, 5, 6, 6, 0, 0, 0, 7]]), threshold=0.6)
    >>> [TRUTH_KINDS[k] for k in found.truth_kinds], [PREDICTION_KINDS[k] for k in found.prediction_kinds]
    (['split', 'missed'], ['split', 'split', 'spurious'])
    """
    return kinds_of_pairs(pair_objects(truth, prediction), threshold)


def kinds_of_pairs(pairs: ObjectPairs, threshold: float = 0.5) -> ErrorKinds:
    """Name what became of every object, from the table of the pixels that objects share."""
    truth, prediction, shared = pairs.truth_index, pairs.prediction_index, pairs.shared
    true_in_predicted = 2 * shared > pairs.truth_areas[truth]
    predicted_in_true = 2 * shared > pairs.prediction_areas[prediction]
    # Who holds two objects or more, and whose fragments cover it.
    merges = np.bincount(prediction[true_in_predicted], minlength=pairs.n_pred) >= 2
    pieces = np.bincount(truth[predicted_in_true], minlength=pairs.n_true)
    covered = np.bincount(truth[predicted_in_true], shared[predicted_in_true], minlength=pairs.n_true)
    is_split = (pieces >= 2) & (2 * covered > pairs.truth_areas)

    truth_kinds = np.full(pairs.n_true, ALONE, np.uint8)
    prediction_kinds = np.full(pairs.n_pred, ALONE, np.uint8)
    # From the last rule to the first, which has the last word.
    truth_kinds[is_split] = SPLIT
    prediction_kinds[prediction[predicted_in_true & is_split[truth]]] = SPLIT
    truth_kinds[truth[true_in_predicted & merges[prediction]]] = MERGED
    prediction_kinds[merges] = MERGED
    hits = assign(pairs, threshold)
    truth_kinds[truth[hits]] = HIT
    prediction_kinds[prediction[hits]] = HIT
    left_truth, left_prediction = np.flatnonzero(truth_kinds == ALONE), np.flatnonzero(prediction_kinds == ALONE)
    left = pairs.take(truth_kinds == ALONE, prediction_kinds == ALONE)
    poor = assign(left, min(POOR_FROM, threshold))
    truth_kinds[left_truth[left.truth_index[poor]]] = POOR
    prediction_kinds[left_prediction[left.prediction_index[poor]]] = POOR

    iou = pairs.iou()
    truth_iou, truth_partner = _best(truth, iou, pairs.prediction_ids[prediction], pairs.n_true)
    prediction_iou, prediction_partner = _best(prediction, iou, pairs.truth_ids[truth], pairs.n_pred)
    return ErrorKinds(
        pairs.truth_ids, truth_kinds, truth_iou, truth_partner,
        pairs.prediction_ids, prediction_kinds, prediction_iou, prediction_partner,
    )  # fmt: skip


def kind_counts(kinds: ErrorKinds) -> np.ndarray:
    """How many objects are of each kind, int64 ``(2, 5)``: the truth's, then the prediction's."""
    return np.stack([np.bincount(k, minlength=5) for k in (kinds.truth_kinds, kinds.prediction_kinds)])


def named_counts(counts: np.ndarray) -> dict[str, dict[str, int]]:
    """Counts ``(2, 5)`` under the names of the sides and kinds."""
    sides: Mapping[str, tuple[str, ...]] = {"truth": TRUTH_KINDS, "prediction": PREDICTION_KINDS}
    return {side: {kind: int(n) for kind, n in zip(names, row)} for (side, names), row in zip(sides.items(), counts)}


def _best(index: np.ndarray, iou: np.ndarray, partners: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest IoU of each object, and with whom; of equals the smallest id."""
    order = np.lexsort((partners, -iou, index))
    first = order[np.flatnonzero(np.diff(index[order], prepend=-1))]
    best, partner = np.zeros(n, np.float32), np.zeros(n, np.int32)
    best[index[first]], partner[index[first]] = iou[first], partners[first]
    return best, partner
