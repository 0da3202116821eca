"""COCO's average precision and recall (Lin et al., ECCV 2014), for masks and for boxes, of scored instances.

This "AP" is the area under the precision-recall curve that the scores make, averaged over IoU 0.50 … 0.95 and over the
classes; it has nothing to do with the accuracy tp / (tp + fp + fn) that nucleus challenges call average precision.

COCO counts only the best ``max_dets`` predictions of an image, and its own default, 100, cuts dense micrographs off.
The default here is 1000, and images that hold more are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from cytomask.errors import ConfigError, LabelError
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.instances import Instances

#: COCO's ranges of object areas in pixels: below 32², up to 96², above.
COCO_AREAS = {"s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}
#: Of images that exceed max_dets so many are named in a notice.
_NAMED = 3


@dataclass(frozen=True)
class CocoSettings:
    """What COCO metrics depend on.

    Attributes
    ----------
    max_dets
        How many of an image's best scored predictions count (per class), ascending. Precision is of the last, recall
        of each.
    areas
        Ranges of true areas in square pixels, both ends included, by the letter that is put behind ``AP`` and ``AR``.
    thresholds
        IoU thresholds.
    """

    max_dets: tuple[int, ...] = (1, 10, 1000)
    areas: Mapping[str, tuple[float, float]] = field(default_factory=lambda: dict(COCO_AREAS))
    thresholds: tuple[float, ...] = THRESHOLDS

    def __post_init__(self) -> None:
        if not self.max_dets or min(self.max_dets) < 1 or list(self.max_dets) != sorted(set(self.max_dets)):
            raise ConfigError("max_dets are different positive numbers, ascending", found=self.max_dets)
        for name, (low, high) in self.areas.items():
            if not 0 <= low < high:
                raise ConfigError(f"area range {name!r} is empty", found=(low, high), expected="0 <= low < high")


def coco_metrics(
    truths: Sequence[Instances],
    predictions: Sequence[Instances],
    kind: Literal["segm", "bbox"] = "segm",
    settings: CocoSettings | None = None,
    class_names: Sequence[str] = ("object",),
    crowds: Sequence[Collection[int]] | None = None,
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

    Returns
    -------
    dict
        ``AP`` (mean over the IoU thresholds), ``AP50``, ``AP75``, ``AP`` and ``AR`` of each area range (``APs`` …),
        ``AR`` at the largest ``max_dets`` and ``AR_by_max_dets``; ``per_class`` with ``AP AP50 AP75 AR n_true``;
        ``max_dets`` and ``areas``. None where there is no true object to find (or no such threshold).

    Raises
    ------
    LabelError
        If two images differ in size, or a class id has no name.

    Examples
    --------
    >>> labels = np.zeros((60, 60), np.int32)
    >>> labels[10:50, 10:50] = 1
    >>> found = coco_metrics([Instances.from_labels(labels)], [Instances.from_labels(labels)])
    >>> round(found["AP"], 6), found["APs"], round(found["APm"], 6)
    (1.0, None, 1.0)
    """
    settings = settings or CocoSettings()
    if len(truths) != len(predictions):
        raise ValueError(f"{len(truths)} truths, but {len(predictions)} predictions")
    for number, (truth, prediction) in enumerate(zip(truths, predictions), start=1):
        if tuple(truth.shape) != tuple(prediction.shape):
            raise LabelError(
                "the prediction and the truth differ in size", where=f"image {number}",
                found=tuple(prediction.shape), expected=tuple(truth.shape),
            )  # fmt: skip
    n_classes = len(class_names)
    true: list[dict[str, Any]] = []
    predicted: list[dict[str, Any]] = []
    for k, (truth, prediction) in enumerate(zip(truths, predictions), start=1):
        true += _annotations(truth, k, kind, n_classes, crowd=crowds[k - 1] if crowds else ())
        predicted += _annotations(prediction, k, kind, n_classes, predicted=True)
    precision, recall = _evaluate([t.shape for t in truths], true, predicted, kind, settings, n_classes)
    n_true = Counter(a["category_id"] for a in true if not a["iscrowd"])
    at_50, at_75 = (_position(settings.thresholds, t) for t in (0.5, 0.75))
    result: dict[str, Any] = {
        "AP": _mean(precision[:, :, :, 0, -1]),
        "AP50": None if at_50 is None else _mean(precision[at_50, :, :, 0, -1]),
        "AP75": None if at_75 is None else _mean(precision[at_75, :, :, 0, -1]),
    }
    result |= {f"AP{name}": _mean(precision[:, :, :, k, -1]) for k, name in enumerate(settings.areas, start=1)}
    result["AR"] = _mean(recall[:, :, 0, -1])
    result |= {f"AR{name}": _mean(recall[:, :, k, -1]) for k, name in enumerate(settings.areas, start=1)}
    result["AR_by_max_dets"] = {str(n): _mean(recall[:, :, 0, k]) for k, n in enumerate(settings.max_dets)}
    result["per_class"] = {
        name: {
            "AP": _mean(precision[:, :, k, 0, -1]),
            "AP50": None if at_50 is None else _mean(precision[at_50, :, k, 0, -1]),
            "AP75": None if at_75 is None else _mean(precision[at_75, :, k, 0, -1]),
            "AR": _mean(recall[:, k, 0, -1]),
            "n_true": n_true[k + 1],
        }
        for k, name in enumerate(class_names)
    }
    result["max_dets"] = list(settings.max_dets)
    result["areas"] = {name: list(limits) for name, limits in settings.areas.items()}
    return result


def notice_of_crowding(names: Sequence[str], objects: Sequence[int], settings: CocoSettings) -> str | None:
    """One sentence on images that hold more objects than are counted, or None.

    Parameters
    ----------
    names
        Names of the images.
    objects
        The larger number of true or predicted objects in each.

    Examples
    --------
    >>> print(notice_of_crowding(["a", "b"], [40, 1812], CocoSettings()))
    1 image holds more objects than the 1000 predictions that COCO metrics count (b: 1812): AP and AR cannot reach 1
    there; raise max_dets
    """
    limit = settings.max_dets[-1]
    crowded = sorted(((n, name) for n, name in zip(objects, names) if n > limit), reverse=True)
    if not crowded:
        return None
    named = ", ".join(f"{name}: {n}" for n, name in crowded[:_NAMED]) + (" …" if len(crowded) > _NAMED else "")
    hold = "1 image holds" if len(crowded) == 1 else f"{len(crowded)} images hold"
    return (
        f"{hold} more objects than the {limit} predictions that COCO metrics count ({named}): "
        "AP and AR cannot reach 1 there; raise max_dets"
    )


def _evaluate(
    shapes: Sequence[tuple[int, int]],
    true: list[dict[str, Any]],
    predicted: list[dict[str, Any]],
    kind: Literal["segm", "bbox"],
    settings: CocoSettings,
    n_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision ``(T, R, C, A, M)`` and recall ``(T, C, A, M)``, -1 where there is nothing to find; area 0 is all."""
    from faster_coco_eval import COCO, COCOeval_faster

    head = {
        "images": [{"id": k, "height": int(h), "width": int(w)} for k, (h, w) in enumerate(shapes, start=1)],
        "categories": [{"id": k, "name": str(k)} for k in range(1, n_classes + 1)],
    }
    for side in (true, predicted):
        for number, annotation in enumerate(side, start=1):
            annotation["id"] = number
    data = [COCO({**head, "annotations": side}) for side in (true, predicted)]
    evaluation = COCOeval_faster(*data, iouType=kind)
    evaluation.params.maxDets = list(settings.max_dets)
    evaluation.params.areaRng = [[0.0, 1e10], *(list(limits) for limits in settings.areas.values())]
    evaluation.params.areaRngLbl = ["all", *settings.areas]
    evaluation.params.iouThrs = np.array(settings.thresholds)
    evaluation.evaluate()
    evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


def _annotations(
    instances: Instances,
    image_id: int,
    kind: Literal["segm", "bbox"],
    n_classes: int,
    *,
    predicted: bool = False,
    crowd: Collection[int] = (),
) -> list[dict[str, Any]]:
    """Write instances as COCO annotations: boxes are x, y, width, height."""
    classes = instances.classes if n_classes > 1 else np.ones(len(instances), np.int32)
    if len(classes) and not 1 <= classes.min() <= classes.max() <= n_classes:
        raise LabelError("an object has a class without a name", found=classes.max(), expected=f"from 1 to {n_classes}")
    boxes = instances.boxes.astype(float)
    corners, sizes = boxes[:, 1::-1], boxes[:, 3:1:-1] - boxes[:, 1::-1]
    # Of predictions compared by box, COCO takes the box for the area.
    areas = sizes.prod(axis=1) if predicted and kind == "bbox" else instances.areas()
    rles = instances.to_rle() if kind == "segm" else []
    return [
        {
            "image_id": image_id,
            "category_id": int(classes[i]),
            "bbox": [*corners[i].tolist(), *sizes[i].tolist()],
            "area": float(areas[i]),
            "iscrowd": int(int(instances.ids[i]) in crowd),
            **({"segmentation": rles[i]} if rles else {}),
            **({"score": float(instances.scores[i])} if predicted else {}),
        }
        for i in range(len(instances))
    ]


def _position(thresholds: Sequence[float], wanted: float) -> int | None:
    return next((k for k, threshold in enumerate(thresholds) if abs(threshold - wanted) < 1e-9), None)


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None
