"""The few figures that are looked at first, each with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Name of each headline figure, and where it stands in the metrics and in their intervals.
HEADLINE: dict[str, tuple[str, ...]] = {
    "f1_50": ("matching", "pooled", "0.50", "f1"),
    "precision_50": ("matching", "pooled", "0.50", "precision"),
    "recall_50": ("matching", "pooled", "0.50", "recall"),
    "accuracy_50": ("matching", "pooled", "0.50", "accuracy"),
    "accuracy_75": ("matching", "pooled", "0.75", "accuracy"),
    "mean_accuracy_50_90": ("mean_accuracy_50_90",),
    "pq_50": ("matching", "pooled", "0.50", "pq"),
    "mean_matched_iou_50": ("matching", "pooled", "0.50", "mean_matched_iou"),
    "aji": ("aji",),
    "boundary_f1": ("boundary", "pooled", "f1"),
    "dice": ("pixels", "dice"),
    "mean_iou": ("pixels", "mean_iou"),
    "foreground_iou": ("pixels", "foreground_iou"),
    "coco_segm_AP": ("coco", "segm", "AP"),
    "coco_segm_AP50": ("coco", "segm", "AP50"),
    "coco_bbox_AP": ("coco", "bbox", "AP"),
}


def headline(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """Pick the headline figures out of metrics.

    Returns
    -------
    dict
        ``figures``: value by name; ``confidence_intervals``: ``[low, high]`` by name, None without intervals. Figures
        that are not there are left out.

    Examples
    --------
    >>> headline({"aji": 0.7, "confidence_intervals": {"aji": [0.6, 0.8]}})
    {'figures': {'aji': 0.7}, 'confidence_intervals': {'aji': [0.6, 0.8]}}
    """
    figures = {name: _look_up(metrics, place) for name, place in HEADLINE.items()}
    figures = {name: value for name, value in figures.items() if value is not None}
    intervals = metrics.get("confidence_intervals")
    bounds: dict[str, Any] | None = None
    if intervals:
        bounds = {name: _look_up(intervals, HEADLINE[name]) for name in figures}
    return {"figures": figures, "confidence_intervals": bounds}


def _look_up(tree: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree
