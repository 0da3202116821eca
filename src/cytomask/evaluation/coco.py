"""COCO's average precision and recall (Lin et al., ECCV 2014), for masks and for boxes, of scored instances.

This "AP" is the area under the precision-recall curve that the scores make, averaged over IoU 0.50 … 0.95 and over the
classes; it has nothing to do with the accuracy tp / (tp + fp + fn) that nucleus challenges call average precision.
The figures equal those of pycocotools.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from cytomask.errors import LabelError
from cytomask.evaluation.coco_curves import SortedMatches, average_precision, precision_recall, recalls, sort_matches
from cytomask.evaluation.coco_matching import ScoredPairs, match_scored, pair_scored
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.confidence import Bootstrap
from cytomask.instances import Instances

#: The IoU thresholds whose figures have names, and whose curves are kept.
NAMED_THRESHOLDS = {"AP50": 0.5, "AP75": 0.75}
#: Predictions times thresholds times resamples that are looked at for the intervals of one kind; about four seconds.
_WORK = 3_000_000_000
_FEWEST = 100


def coco_metrics(
    truths: Sequence[Instances],
    predictions: Sequence[Instances],
    kind: Literal["segm", "bbox"] = "segm",
    settings: CocoSettings | None = None,
    class_names: Sequence[str] = ("object",),
    crowds: Sequence[Collection[int]] | None = None,
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Compute average precision and recall over a set of images.

    Parameters
    ----------
    truths, predictions
        Instances of each image, in the same order; the predictions' scores rank them.
    kind
        Whether masks (``"segm"``) or boxes (``"bbox"``) are compared. Sizes are areas of true masks in both, as in
        COCO.
    settings
        Limits and ranges.
    class_names
        Names of class 1, 2, … With one, all objects are of one class, whatever they say.
    crowds
        Of each image the ids of true objects that are regions of many (COCO's ``iscrowd``): not to be found, and
        predictions inside are not counted.
    bootstrap
        How confidence intervals are made; None leaves them out.

    Returns
    -------
    dict
        As :func:`summarise_coco`.

    Raises
    ------
    LabelError
        If two images differ in size, or a class id has no name.

    Examples
    --------
    >>> labels = np.zeros((60, 60), np.int32)
    >>> labels[10:50, 10:50] = 1
    >>> found = coco_metrics([Instances.from_labels(labels)], [Instances.from_labels(labels)])
    >>> round(found["AP"], 6), found["APs"], round(found["APl"], 6)
    (1.0, None, 1.0)
    """
    settings = settings or CocoSettings()
    if len(truths) != len(predictions):
        raise ValueError(f"{len(truths)} truths, but {len(predictions)} predictions")
    images = []
    for k, (truth, prediction) in enumerate(zip(truths, predictions)):
        crowd = crowds[k] if crowds else ()
        try:
            images.append(pair_scored(truth, prediction, kind, settings.max_dets[-1], len(class_names), crowd))
        except LabelError as error:
            raise LabelError(error.what, where=f"image {k + 1}", found=error.found, expected=error.expected) from error
    return summarise_coco(images, settings, class_names, bootstrap)


def summarise_coco(
    images: Sequence[ScoredPairs],
    settings: CocoSettings,
    class_names: Sequence[str] = ("object",),
    bootstrap: Bootstrap | None = None,
) -> dict[str, Any]:
    """Match the predictions of all images, and compute average precision and recall.

    Parameters
    ----------
    images
        Pairs of each image, as :func:`pair_scored` finds them.
    settings, class_names, bootstrap
        As in :func:`coco_metrics`.

    Returns
    -------
    dict
        ``AP`` (mean over the IoU thresholds), ``AP50``, ``AP75``, ``AP`` and ``AR`` of each area range (``APs`` …),
        ``AR`` at the largest ``max_dets`` and ``AR_by_max_dets``; ``per_class`` with ``AP AP50 AP75 AR n_true``;
        ``max_dets`` and ``areas``. None where there is no true object to find (or no such threshold). With
        ``bootstrap``, ``confidence_intervals`` repeats the figures with ``[low, high]``.
    """
    if not images:
        nothing = Instances.empty((0, 0))
        images = [pair_scored(nothing, nothing)]
    ranges = settings.ranges(np.concatenate([image.true_areas[~image.true_crowd] for image in images]))
    n_classes = len(class_names)
    matches = [match_scored(image, settings.thresholds, ranges, n_classes) for image in images]
    classes = [sort_matches(matches, c) for c in range(1, n_classes + 1)]
    figures = _figures(classes, np.ones((1, len(images))), class_names, settings, list(ranges))
    result = _map(figures, lambda value: None if np.isnan(value[0]) else float(value[0]))
    for c, name in enumerate(class_names):
        result["per_class"][name]["n_true"] = int(classes[c].n_true[:, 0].sum())
    if bootstrap is not None and bootstrap.resamples > 0 and len(images) > 1:
        predictions = sum(len(one.scores) for one in classes)
        steps = max(1, predictions * len(settings.thresholds) * (1 + len(ranges)))
        resamples = min(bootstrap.resamples, max(_FEWEST, _WORK // steps))
        weights = bootstrap.weights(len(images))[:resamples]
        drawn = _figures(classes, weights, class_names, settings, list(ranges))
        intervals = _map(drawn, lambda value: [None if np.isnan(v) else float(v) for v in bootstrap.interval(value)])
        result["confidence_intervals"] = {**intervals, "resamples": resamples}
    result["max_dets"] = list(settings.max_dets)
    result["areas"] = {name: list(limits) for name, limits in ranges.items()}
    return result


def precision_recall_curves(
    images: Sequence[ScoredPairs], settings: CocoSettings, n_classes: int = 1
) -> dict[str, dict[str, list[float]]]:
    """The curves that lowering the score draws, of all classes together, at IoU 0.50 and 0.75.

    Returns
    -------
    dict
        Under ``"0.50"`` and ``"0.75"``: ``recall``, ``precision`` and ``score`` of each point, the best score first.
    """
    matches = [match_scored(image, settings.thresholds, {}, n_classes) for image in images]
    classes = [sort_matches(matches, c) for c in range(1, n_classes + 1)]
    positions = {threshold: _position(settings.thresholds, threshold) for threshold in NAMED_THRESHOLDS.values()}
    return {f"{t:.2f}": precision_recall(classes, k) for t, k in positions.items() if k is not None}


def _figures(
    classes: Sequence[SortedMatches],
    weights: np.ndarray,
    class_names: Sequence[str],
    settings: CocoSettings,
    ranges: Sequence[str],
) -> dict[str, Any]:
    """The figures of each resample, ``(R,)`` each, NaN where there is nothing to find."""
    # Resamples, classes, area ranges, thresholds.
    precision = np.stack([average_precision(one, weights) for one in classes], axis=1)
    # With the limits of predictions in third place.
    recall = np.stack([recalls(one, weights, settings.max_dets) for one in classes], axis=1)
    at = {name: _position(settings.thresholds, threshold) for name, threshold in NAMED_THRESHOLDS.items()}
    nothing = np.full(len(weights), np.nan)
    result: dict[str, Any] = {"AP": _mean(precision[:, :, 0])}
    result |= {name: nothing if k is None else _mean(precision[:, :, 0, k]) for name, k in at.items()}
    result |= {f"AP{name}": _mean(precision[:, :, a]) for a, name in enumerate(ranges, start=1)}
    result["AR"] = _mean(recall[:, :, -1, 0])
    result |= {f"AR{name}": _mean(recall[:, :, -1, a]) for a, name in enumerate(ranges, start=1)}
    result["AR_by_max_dets"] = {str(n): _mean(recall[:, :, m, 0]) for m, n in enumerate(settings.max_dets)}
    result["per_class"] = {
        name: {
            "AP": _mean(precision[:, c, 0]),
            **{key: nothing if k is None else precision[:, c, 0, k] for key, k in at.items()},
            "AR": _mean(recall[:, c, -1, 0]),
        }
        for c, name in enumerate(class_names)
    }
    return result


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over all axes but the first, without NaN; NaN if nothing is left."""
    flat = values.reshape(len(values), -1)
    known = ~np.isnan(flat)
    count = known.sum(axis=1)
    return np.divide(np.where(known, flat, 0).sum(axis=1), count, out=np.full(len(flat), np.nan), where=count > 0)


def _map(figures: Mapping[str, Any], function: Any) -> dict[str, Any]:
    return {
        key: _map(value, function) if isinstance(value, dict) else function(value) for key, value in figures.items()
    }


def _position(thresholds: Sequence[float], wanted: float) -> int | None:
    return next((k for k, threshold in enumerate(thresholds) if abs(threshold - wanted) < 1e-9), None)
