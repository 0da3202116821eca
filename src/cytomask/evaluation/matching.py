"""Match predicted objects one to one with true ones, and count: the metrics of StarDist and the nucleus challenges.

A predicted object is a true positive (tp) if it is matched with a true object at an intersection over union (IoU) of at
least the threshold; predictions left over are false positives (fp), true objects left over false negatives (fn).
``accuracy`` is tp / (tp + fp + fn), in this field also called average precision (Caicedo et al., Nature Methods 2019);
``pq`` is panoptic quality (Kirillov et al., CVPR 2019).

The numbers equal those of ``stardist.matching``. It holds IoU, and adds it up, in single precision; so does this
module, so that the same objects are matched and ``pq`` has the same digits (1e-7 from those of double precision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cytomask.errors import ConfigError
from cytomask.evaluation.pairs import ObjectPairs, Objects, pair_objects

#: The IoU thresholds at which everything is counted.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
#: The thresholds over which ``mean_accuracy_50_90`` is the mean.
MEAN_THRESHOLDS = THRESHOLDS[:9]
#: Figures that :func:`figures` computes from counts.
FIGURES = ("precision", "recall", "f1", "accuracy", "pq", "mean_matched_iou")


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """Counts of matched objects at several thresholds, of one image or of several together.

    Attributes
    ----------
    thresholds
        IoU thresholds, T of them.
    n_true, n_pred
        True and predicted objects.
    tp
        int64 ``(T,)``: matched pairs.
    iou_sum
        float32 ``(T,)``: the sum of their IoU.

    Examples
    --------
    >>> truth, prediction = np.zeros((2, 4, 10), int)
    >>> truth[:, 0:4] = 1; truth[:, 5:9] = 2
    >>> prediction[:, 1:4] = 8
    >>> match(truth, prediction).at(0.75)
    {'tp': 1, 'fp': 0, 'fn': 1, 'n_true': 2, 'n_pred': 1, 'precision': 1.0, 'recall': 0.5, 'f1': 0.666...,
     'accuracy': 0.5, 'pq': 0.5, 'mean_matched_iou': 0.75}
    """

    thresholds: tuple[float, ...]
    n_true: int
    n_pred: int
    tp: np.ndarray
    iou_sum: np.ndarray

    @property
    def fp(self) -> np.ndarray:
        """Predicted objects without a match, int64 ``(T,)``."""
        return self.n_pred - self.tp

    @property
    def fn(self) -> np.ndarray:
        """True objects without a match, int64 ``(T,)``."""
        return self.n_true - self.tp

    def figures(self) -> dict[str, np.ndarray]:
        """Precision, recall, f1, accuracy, pq and mean IoU of matched pairs, each float64 ``(T,)``."""
        return figures(self.tp, self.n_true, self.n_pred, self.iou_sum)

    def at(self, threshold: float) -> dict[str, int | float]:
        """Counts and figures at one of the thresholds, as plain numbers."""
        return self.as_dict()[threshold_name(threshold)]

    def as_dict(self) -> dict[str, dict[str, int | float]]:
        """Counts and figures under the name of each threshold: ``"0.50"``, ``"0.55"`` …"""
        values = self.figures()
        return {
            threshold_name(threshold): {
                "tp": int(self.tp[k]), "fp": int(self.fp[k]), "fn": int(self.fn[k]),
                "n_true": self.n_true, "n_pred": self.n_pred,
                **{name: float(value[k]) for name, value in values.items()},
            }
            for k, threshold in enumerate(self.thresholds)
        }  # fmt: skip


def threshold_name(threshold: float) -> str:
    """Write a threshold as it stands in ``metrics.json``: at least two decimals.

    Examples
    --------
    >>> threshold_name(0.5), threshold_name(0.625)
    ('0.50', '0.625')
    """
    text = f"{threshold:.6f}".rstrip("0")
    return text + "0" * max(0, 2 - len(text.partition(".")[2]))


def match(truth: Objects, prediction: Objects, thresholds: Sequence[float] = THRESHOLDS) -> Matching:
    """Match the objects of one image at several IoU thresholds.

    Parameters
    ----------
    truth, prediction
        Label images ``(Y, X)`` of integers, or :class:`Instances`, or :class:`LabelLayers`; of the same size.
    thresholds
        IoU from which on two objects may be matched, above 0.

    Raises
    ------
    LabelError
        If the sizes differ, or a label image holds anything but integers from 0.
    """
    return match_pairs(pair_objects(truth, prediction), thresholds)


def match_pairs(pairs: ObjectPairs, thresholds: Sequence[float] = THRESHOLDS) -> Matching:
    """Match objects at several thresholds, from the table of the pixels that they share."""
    if not thresholds or not 0 < min(thresholds) <= max(thresholds) <= 1:
        raise ConfigError("IoU thresholds lie above 0 and up to 1", found=tuple(thresholds))
    iou = pairs.iou().astype(np.float32)
    tp = np.zeros(len(thresholds), np.int64)
    iou_sum = np.zeros(len(thresholds), np.float32)
    possible = np.flatnonzero(iou >= np.float32(min(thresholds)))
    if not _ambiguous(pairs, possible):
        # Whoever has only one possible partner at the lowest threshold has no other at a higher one.
        scores = iou[possible]
        for k in sorted(range(len(thresholds)), key=thresholds.__getitem__):
            scores = scores[scores >= np.float32(thresholds[k])]
            tp[k], iou_sum[k] = len(scores), scores.sum()
    else:
        for k, threshold in enumerate(thresholds):
            matched = assign(pairs, threshold)
            tp[k], iou_sum[k] = len(matched), iou[matched].sum()
    return Matching(tuple(thresholds), pairs.n_true, pairs.n_pred, tp, iou_sum)


def assign(pairs: ObjectPairs, threshold: float) -> np.ndarray:
    """Choose the pairs that are matched at one threshold: as many as possible, and of these choices the largest IoU.

    Above an IoU of 0.5 an object of a label image has at most one possible partner, and there is nothing to choose. The
    assignment problem is solved only among objects that have several.

    Returns
    -------
    numpy.ndarray
        int64, ascending: positions in ``pairs.truth_index`` and ``pairs.prediction_index``.

    Examples
    --------
    >>> pairs = pair_objects(np.array([[1, 1, 2, 2]]), np.array([[5, 5, 5, 0]]))
    >>> chosen = assign(pairs, 0.2)
    >>> pairs.truth_ids[pairs.truth_index[chosen]], pairs.prediction_ids[pairs.prediction_index[chosen]]
    (array([1], dtype=int32), array([5], dtype=int32))
    """
    iou = pairs.iou().astype(np.float32)
    possible = np.flatnonzero(iou >= np.float32(threshold))
    if not _ambiguous(pairs, possible):
        return possible
    # Below 0.5 pairs under the threshold take part, as in stardist: between choices with as many matches, the one whose
    # objects overlap more in all is taken.
    edges = possible if threshold >= 0.5 else np.arange(len(iou))
    rows, columns = pairs.truth_index[edges], pairs.prediction_index[edges]
    n = pairs.n_true + pairs.n_pred
    graph = coo_array((np.ones(len(edges)), (rows, columns + pairs.n_true)), shape=(n, n))
    component = connected_components(graph, directed=False)[1][rows]
    open_components = np.unique(component[_shared_partner(rows, columns, iou[edges], threshold)])
    chosen = [edges[~np.isin(component, open_components) & (iou[edges] >= np.float32(threshold))]]
    for one in open_components:
        members = edges[component == one]
        chosen.append(_assign_component(pairs, members, iou[members], threshold))
    return np.sort(np.concatenate(chosen))


def _ambiguous(pairs: ObjectPairs, possible: np.ndarray) -> bool:
    """Whether an object occurs in two of the possible pairs."""
    truth, prediction = pairs.truth_index[possible], pairs.prediction_index[possible]
    return bool((truth[1:] == truth[:-1]).any()) or len(np.unique(prediction)) < len(prediction)


def _shared_partner(rows: np.ndarray, columns: np.ndarray, iou: np.ndarray, threshold: float) -> np.ndarray:
    """Which pairs have an object with a second possible partner."""
    possible = iou >= np.float32(threshold)
    in_rows, in_columns = np.bincount(rows[possible]), np.bincount(columns[possible])
    result = np.zeros(len(rows), bool)
    result[possible] = (in_rows[rows[possible]] > 1) | (in_columns[columns[possible]] > 1)
    return result


def _assign_component(pairs: ObjectPairs, members: np.ndarray, iou: np.ndarray, threshold: float) -> np.ndarray:
    """Solve the assignment among the pairs of one connected component; the costs are stardist's."""
    truth, row = np.unique(pairs.truth_index[members], return_inverse=True)
    prediction, column = np.unique(pairs.prediction_index[members], return_inverse=True)
    scores = np.zeros((len(truth), len(prediction)), np.float32)
    scores[row, column] = iou
    possible = scores >= np.float32(threshold)
    # One more match always weighs more than any gain of IoU: the IoU terms add up to a half at most.
    costs = -possible.astype(float) - scores / (2 * min(pairs.n_true, pairs.n_pred))
    position = np.full(scores.shape, -1, np.int64)
    position[row, column] = members
    rows, columns = linear_sum_assignment(costs)
    return position[rows, columns][possible[rows, columns]]


def pooled(matchings: Sequence[Matching]) -> Matching:
    """Add up the counts of several images, so that every object weighs the same."""
    thresholds = _common_thresholds(matchings)
    n_true = np.array([m.n_true for m in matchings])
    total = np.zeros(len(thresholds), np.float32)
    # As stardist does: each image's sum passes through a mean per true object, and single precision adds up.
    for n, one in zip(n_true, matchings):
        if n:
            total += one.iou_sum / np.float32(n) * np.float32(n)
    tp = np.array([m.tp for m in matchings], np.int64).sum(axis=0)
    return Matching(thresholds, int(n_true.sum()), sum(m.n_pred for m in matchings), tp, total)


def mean_per_image(matchings: Sequence[Matching]) -> dict[str, np.ndarray]:
    """Average the figures of several images, so that every image weighs the same; each float64 ``(T,)``.

    An image without true and without predicted objects counts as 0, as in stardist.
    """
    _common_thresholds(matchings)
    of_image = [m.figures() for m in matchings]
    return {name: np.mean([f[name] for f in of_image], axis=0) for name in FIGURES}


def figures(
    tp: np.ndarray, n_true: np.ndarray | int, n_pred: np.ndarray | int, iou_sum: np.ndarray
) -> dict[str, np.ndarray]:
    """Compute precision, recall, f1, accuracy, pq and mean matched IoU from counts of any shape; 0 without a match.

    Examples
    --------
    >>> figures(np.array([3]), 4, 5, np.array([2.4]))["accuracy"]
    array([0.5])
    """
    objects = np.asarray(n_true) + np.asarray(n_pred)
    return {
        "precision": _divide(tp, n_pred),
        "recall": _divide(tp, n_true),
        "f1": _divide(2 * tp, objects),
        "accuracy": _divide(tp, objects - tp),
        "pq": _divide(iou_sum, objects / 2),
        "mean_matched_iou": _divide(iou_sum, tp),
    }


def _divide(value: np.ndarray, by: np.ndarray | int) -> np.ndarray:
    """Divide in double precision, 0 by 0 being 0."""
    value = np.asarray(value, float)
    return np.divide(value, by, out=np.zeros(value.shape), where=np.broadcast_to(np.asarray(by) > 0, value.shape))


def _common_thresholds(matchings: Sequence[Matching]) -> tuple[float, ...]:
    if not matchings:
        raise ValueError("there are no images to summarise")
    thresholds = {m.thresholds for m in matchings}
    if len(thresholds) > 1:
        raise ValueError("the images were matched at different thresholds")
    return thresholds.pop()
