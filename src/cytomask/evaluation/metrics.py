"""Evaluate predictions against the truth: everything that ``metrics.json`` holds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cytomask.errors import DataError, LabelError
from cytomask.evaluation.coco import coco_metrics
from cytomask.evaluation.coco_settings import CocoSettings, notice_of_crowding
from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.definitions import DEFINITIONS
from cytomask.evaluation.image_scores import ImageScores, Pair, score_image
from cytomask.evaluation.matching import THRESHOLDS
from cytomask.evaluation.pairs import to_instances
from cytomask.evaluation.summary import plain, summarise
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers

#: A property with more values than this does not make groups.
MAX_GROUPS = 20


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes
    ----------
    metrics
        The contents of ``metrics.json``: plain numbers, lists and dictionaries.
    images
        The counts of each image.
    """

    metrics: dict[str, Any]
    images: list[ImageScores]

    def rows(self) -> list[dict[str, Any]]:
        """One row per image, as in ``per_image.csv``."""
        return [image.row() for image in self.images]


def evaluate_pairs(
    pairs: Iterable[Pair],
    *,
    class_names: Sequence[str] = ("object",),
    thresholds: Sequence[float] = THRESHOLDS,
    bootstrap: Bootstrap | None = None,
    coco: CocoSettings | None = None,
) -> Evaluation:
    """Score images one by one and summarise them.

    Parameters
    ----------
    pairs
        Truth and prediction of each image. They may be read as they are asked for: only counts are kept, and the packed
        masks where there are scores for COCO metrics.
    class_names
        Names of class 1, 2, … With several, figures of each class are added, and truth and prediction must tell
        classes.
    thresholds
        IoU thresholds of the matching; the nine from 0.50 to 0.90 are added where they are missing.
    bootstrap
        How confidence intervals are made.
    coco
        Limits and area ranges of the COCO metrics, which are computed when all predictions have scores.

    Returns
    -------
    Evaluation
        Its ``metrics`` are described by their own ``definitions``.

    Raises
    ------
    LabelError
        If truth and prediction of an image differ in size, or are no proper labels; the image is named.
    DataError
        If there is no image.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.zeros((8, 8), int)
    >>> truth[2:6, 2:7] = 1
    >>> found = evaluate_pairs([Pair("right", truth, truth), Pair("shifted", truth, np.roll(truth, 1, axis=1))])
    >>> pooled = found.metrics["matching"]["pooled"]
    >>> pooled["0.50"]["accuracy"], pooled["0.75"]["tp"], found.metrics["coco"]["reason"]
    (1.0, 1, 'the predictions have no scores (label images), which COCO metrics rank by')
    """
    thresholds = tuple(sorted({*thresholds, *THRESHOLDS[:9]}))
    bootstrap, coco = bootstrap or Bootstrap(), coco or CocoSettings()
    images: list[ImageScores] = []
    truths: list[Instances] = []
    predictions: list[Instances] = []
    crowds: list[Collection[int]] = []
    for pair in pairs:
        try:
            images.append(score_image(pair, len(class_names), thresholds))
        except LabelError as error:
            where = f"{pair.name}" if error.where is None else f"{pair.name}: {error.where}"
            raise LabelError(
                error.what, where=where, found=error.found, expected=error.expected, fix=error.fix
            ) from error
        scored = pair.scored_instances()
        if scored is not None:
            truths.append(to_instances(pair.truth))
            predictions.append(scored)
            crowds.append(pair.truth.crowd if isinstance(pair.truth, LabelLayers) else ())
    if not images:
        raise DataError("there are no images to evaluate")
    notices: list[str] = []
    if len(images) == 1:
        notices.append("confidence intervals need two images or more: there is one")
    metrics = {
        **summarise(images, class_names, bootstrap),
        "coco": _coco([i.name for i in images], truths, predictions, crowds, class_names, coco, notices),
        "groups": {
            column: {
                value: summarise([i for i in images if i.group.get(column) == value], class_names, bootstrap)
                for value in values
            }
            for column, values in group_columns(images).items()
        },
        "thresholds": list(thresholds),
        "class_names": list(class_names),
        "notices": notices,
        "definitions": DEFINITIONS,
    }
    return Evaluation(plain(metrics), images)


def group_columns(images: Sequence[ImageScores]) -> dict[str, list[str]]:
    """Find the properties that sort the images into a few groups, and their values.

    Properties with one value, with more than 20, with a value for nearly every image, or made of numbers (sizes,
    counts) are no groups.
    """
    columns: dict[str, list[str]] = {}
    for column in dict.fromkeys(key for image in images for key in image.group):
        values = sorted({image.group.get(column, "") for image in images} - {""})
        if 2 <= len(values) <= min(MAX_GROUPS, len(images) // 2) and not all(map(_is_number, values)):
            columns[column] = values
    return columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _coco(
    names: Sequence[str],
    truths: Sequence[Instances],
    predictions: Sequence[Instances],
    crowds: Sequence[Collection[int]],
    class_names: Sequence[str],
    settings: CocoSettings,
    notices: list[str],
) -> dict[str, Any]:
    if len(predictions) < len(names):
        reason = "the predictions have no scores (label images), which COCO metrics rank by"
        if predictions:
            reason = f"only {len(predictions)} of {len(names)} predictions have scores, which COCO metrics rank by"
        return {"segm": None, "bbox": None, "reason": reason}
    crowding = notice_of_crowding(names, [max(len(t), len(p)) for t, p in zip(truths, predictions)], settings)
    if crowding:
        notices.append(crowding)
    return {kind: coco_metrics(truths, predictions, kind, settings, class_names, crowds) for kind in ("segm", "bbox")}
