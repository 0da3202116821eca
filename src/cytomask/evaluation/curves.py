"""Accuracy over the IoU that is asked for: how strict one may be before objects get lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cytomask.evaluation.confidence import Bootstrap
from cytomask.evaluation.image_scores import CURVE_THRESHOLDS, ImageScores
from cytomask.evaluation.matching import pooled
from cytomask.evaluation.summary import resampled_figures

#: What is drawn.
CURVES = ("accuracy", "f1", "precision", "recall")


def iou_curves(images: Sequence[ImageScores], bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """Figures of all images together at IoU thresholds from 0.05 to 0.95.

    Parameters
    ----------
    images
        Counts of each image.
    bootstrap
        How confidence intervals are made; None leaves them out.

    Returns
    -------
    dict
        ``iou`` and, as long, ``accuracy``, ``f1``, ``precision`` and ``recall``; ``confidence_intervals`` with
        ``[low, high]`` for each point, where there are two images or more.
    """
    matchings = [image.curve for image in images]
    figures = pooled(matchings).figures()
    curves: dict[str, Any] = {"iou": list(CURVE_THRESHOLDS), **{name: figures[name].tolist() for name in CURVES}}
    if bootstrap is not None and bootstrap.resamples > 0 and len(images) > 1:
        drawn = resampled_figures(matchings, bootstrap.weights(len(images)))
        curves["confidence_intervals"] = {name: bootstrap.interval(drawn[name]).T.tolist() for name in CURVES}
    return curves
