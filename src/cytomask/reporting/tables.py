"""Tables on the screen: what an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: Figures of a whole evaluation besides matching: path in the metrics, path of its mean per image, name.
_OVERALL = (
    (("mean_accuracy_50_90",), ("mean_accuracy_50_90_mean_per_image",), "mean accuracy, IoU 0.50 to 0.90"),
    (("aji",), ("aji_mean_per_image",), "aggregated Jaccard index"),
    (("boundary", "pooled", "f1"), ("boundary", "mean_per_image", "f1"), "boundary F1"),
    (("pixels", "foreground_iou"), ("pixels", "mean_per_image", "foreground_iou"), "IoU of the foreground's pixels"),
    (("pixels", "mean_iou"), ("pixels", "mean_per_image", "mean_iou"), "mean IoU of pixels"),
    (("pixels", "dice"), ("pixels", "mean_per_image", "dice"), "Dice of pixels"),
    (("pixels", "pixel_accuracy"), ("pixels", "mean_per_image", "pixel_accuracy"), "pixel accuracy"),
)
_COCO = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")
#: What the kinds of errors mean, in a word or two behind them.
_KINDS = ("hit", "poor", "split", "merged")
#: Narrower consoles get narrower tables.
_ROOMY = 100
#: Width where there is no terminal that has one.
_WIDTH = 120


def print_metrics(metrics: Mapping[str, Any], console: Console | None = None) -> None:
    """Print what ``metrics.json`` holds as tables.

    Parameters
    ----------
    metrics
        Contents of ``metrics.json``. Parts that are missing are left out.
    console
        Where to print; None for stdout.
    """
    _print(metrics_tables(metrics), console)


def metrics_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Make the tables of an evaluation: matching by IoU, COCO metrics, errors, sizes, classes, groups, annotators.

    Examples
    --------
    >>> counts = {"tp": 3, "fp": 1, "fn": 0, "precision": 0.75, "recall": 1.0, "f1": 6 / 7, "accuracy": 0.75, "pq": 0.7}
    >>> tables = metrics_tables({"matching": {"pooled": {"0.50": counts}}, "n_images": 2})
    >>> print_metrics({"matching": {"pooled": {"0.50": counts}}, "n_images": 2}, Console(width=80))
    Objects matched by IoU, pooled over 2 images
    ...
     0.50   3   1   0   0.750   1.000   0.857   0.700   0.750
    """
    makers = (_matching, _overall, _coco, _kinds, _sizes)
    tables = [table for make in makers if (table := make(metrics)) is not None]
    if metrics.get("classes"):
        tables.append(_parts("Classes", "class", metrics["classes"], _get(metrics, "confidence_intervals", "classes")))
    tables += [_parts(f"By {column}", column, values) for column, values in (metrics.get("groups") or {}).items()]
    people = _annotators(metrics)
    return tables if people is None else [*tables, people]


def _print(tables: Sequence[Table], console: Console | None) -> None:
    if console is None:
        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=_WIDTH)
    for table in tables:
        if console.width < _ROOMY:
            table.padding = 0
        console.print(table)
        if table.caption:
            console.print()


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=escape(title),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for k, name in enumerate(columns):
        table.add_column(escape(name), justify="left" if k == 0 else "right", no_wrap=True)
    return table


def _matching(metrics: Mapping[str, Any]) -> Table | None:
    pooled, per_image = _get(metrics, "matching", "pooled"), _get(metrics, "matching", "mean_per_image")
    if not pooled:
        return None
    intervals = _get(metrics, "confidence_intervals", "matching", "pooled")
    images = metrics.get("n_images")
    title = "Objects matched by IoU, pooled" + (f" over {images} image{'' if images == 1 else 's'}" if images else "")
    table = _table(title, ["IoU", "tp", "fp", "fn", "precision", "recall", "F1", "PQ", "accuracy"])
    if intervals:
        table.add_column(_level(metrics), justify="right", no_wrap=True)
    if per_image:
        table.add_column("per image", justify="right", no_wrap=True)
    for threshold, one in pooled.items():
        row = [threshold, *(str(one.get(name, "")) for name in ("tp", "fp", "fn"))]
        row += [_figure(one.get(name)) for name in ("precision", "recall", "f1", "pq", "accuracy")]
        if intervals:
            row.append(_interval(_get(intervals, threshold, "accuracy")))
        if per_image:
            row.append(_figure(_get(per_image, threshold, "accuracy")))
        table.add_row(*row)
    if per_image:
        told = f"; {_level(metrics)}: its interval over images" if intervals else ""
        table.caption = f"accuracy = tp / (tp + fp + fn){told}; per image: averaged"
        table.caption_justify = "left"
    return table


def _overall(metrics: Mapping[str, Any]) -> Table | None:
    known = [entry for entry in _OVERALL if _get(metrics, *entry[0]) is not None]
    if not known:
        return None
    intervals = metrics.get("confidence_intervals")
    table = _table("Over all", ["", "pooled"])
    if intervals:
        table.add_column(_level(metrics), justify="right", no_wrap=True)
    table.add_column("per image", justify="right", no_wrap=True)
    for place, place_per_image, name in known:
        row = [name, _figure(_get(metrics, *place))]
        if intervals:
            row.append(_interval(_get(intervals, *place)))
        table.add_row(*row, _figure(_get(metrics, *place_per_image)) if place_per_image else "")
    return table


def _coco(metrics: Mapping[str, Any]) -> Table | None:
    known = {kind: _get(metrics, "coco", kind) for kind in ("segm", "bbox")}
    known = {kind: figures for kind, figures in known.items() if figures}
    if not known:
        return None
    intervals = _get(metrics, "confidence_intervals", "coco")
    table = _table("COCO (average precision of scored predictions)", ["", "AP"])
    if intervals:
        table.add_column(_level(metrics), justify="right", no_wrap=True)
    for name in _COCO[1:]:
        table.add_column(name, justify="right", no_wrap=True)

    def add(name: str, figures: Mapping[str, Any], bounds: Mapping[str, Any] | None) -> None:
        row = [name, _figure(figures.get("AP"))]
        if intervals:
            row.append(_interval(_get(bounds, "AP")))
        table.add_row(*row, *(_figure(figures.get(key)) for key in _COCO[1:]))

    for kind, figures in known.items():
        add({"segm": "masks", "bbox": "boxes"}[kind], figures, _get(intervals, kind))
        for of_class, values in _classes_of(figures):
            add(escape(f"  {of_class}"), values, _get(intervals, kind, "per_class", of_class))
    whole = next(iter(known.values()))
    limit, areas = (whole.get("max_dets") or [None])[-1], whole.get("areas") or {}
    if limit is not None and {"s", "l"} <= areas.keys():
        sizes = f"APs below {areas['s'][1]:g} px², APl above {areas['l'][0]:g} px²"
        table.caption = f"the best {limit} predictions of an image; {sizes}"
        table.caption_justify = "left"
    return table


def _kinds(metrics: Mapping[str, Any]) -> Table | None:
    kinds = metrics.get("error_kinds")
    if not kinds:
        return None
    table = _table("What became of the objects, at IoU 0.50", ["", *_KINDS, "missed", "spurious"])
    for side, name, alone in (("truth", "true objects", "missed"), ("prediction", "predicted objects", "spurious")):
        counts = kinds.get(side) or {}
        cells = [str(counts.get(kind, "")) for kind in _KINDS]
        table.add_row(
            name, *cells, *(str(counts.get(kind, "")) if kind == alone else "" for kind in ("missed", "spurious"))
        )
    table.caption = "poor: found, with a wrong outline; split: one in pieces; merged: several in one"
    table.caption_justify = "left"
    return table


def _sizes(metrics: Mapping[str, Any]) -> Table | None:
    bins = metrics.get("by_size") or []
    if len(bins) < 2:
        return None
    with_bounds = any(one.get("confidence_intervals") for one in bins)
    table = _table("By diameter of the true objects", ["px", "true", "found at 0.50"])
    if with_bounds:
        table.add_column(_level(metrics), justify="right", no_wrap=True)
    for name in ("mean IoU", "split", "merged", "missed"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in bins:
        low, high = one["diameter_px"]
        row = [f"{low:.1f}-{high:.1f}", str(one["n"]), _figure(one["recall"])]
        if with_bounds:
            row.append(_interval(_get(one, "confidence_intervals", "recall")))
        row.append(_figure(one["mean_iou"]))
        table.add_row(*row, *(str(_get(one, "kinds", kind)) for kind in ("split", "merged", "missed")))
    return table


def _annotators(metrics: Mapping[str, Any]) -> Table | None:
    """Each annotator and the prediction, then the annotators among each other: the ceiling."""
    pairs = _get(metrics, "annotators", "pairs")
    if not pairs:
        return None
    with_bounds = any(one.get("confidence_intervals") for one in pairs)
    table = _table("Agreement with people, and among people", ["", "images", "objects", "F1 at 0.50"])
    if with_bounds:
        table.add_column(_level(metrics), justify="right", no_wrap=True)
    for name in ("accuracy", "0.50-0.90", "mean IoU", "AJI", "boundary F1"):
        table.add_column(name, justify="right", no_wrap=True)
    names = ("accuracy_50", "mean_accuracy_50_90", "mean_matched_iou_50", "aji", "boundary_f1")
    prediction = _get(metrics, "annotators", "prediction")
    for k, one in enumerate(pairs):
        if one["second"] != prediction and (k == 0 or pairs[k - 1]["second"] == prediction):
            table.add_section()
        row = [
            escape(f"{one['second']} - {one['first']}"),
            str(one["n_images"]),
            f"{one['n_second']} - {one['n_first']}",
        ]
        row.append(_figure(_get(one, "figures", "f1_50")))
        if with_bounds:
            row.append(_interval(_get(one, "confidence_intervals", "f1_50")))
        table.add_row(*row, *(_figure(_get(one, "figures", name)) for name in names))
    table.caption = "below the line: how far people agree, which is as far as a prediction can be asked to"
    table.caption_justify = "left"
    return table


def _classes_of(figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Figures of each class, where there are several."""
    classes = figures.get("per_class") or {}
    if len(classes) < 2:
        return []
    return [(name, values if isinstance(values, Mapping) else {"AP": values}) for name, values in classes.items()]


def _parts(title: str, column: str, parts: Mapping[str, Any], intervals: Mapping[str, Any] | None = None) -> Table:
    """One row per part of the data: a class, or a group of images (which bring their own intervals)."""
    with_images = any("n_images" in one for one in parts.values())
    bounds = {name: _get(intervals or {}, name) or one.get("confidence_intervals") or {} for name, one in parts.items()}
    with_bounds = any(bounds.values())
    columns = [column, *(["images"] if with_images else []), "true", "predicted", "at 0.50", "at 0.75", "0.50-0.90"]
    table = _table(f"{title}: accuracy at IoU 0.50 and 0.75, and its mean from 0.50 to 0.90", columns)
    if with_bounds:
        table.add_column("interval", justify="right", no_wrap=True)
    with_aji = any("aji" in one for one in parts.values())
    if with_aji:
        table.add_column("AJI", justify="right", no_wrap=True)
    for name, one in parts.items():
        row = [escape(name), *([str(one.get("n_images", ""))] if with_images else [])]
        row += [str(one.get("n_true", "")), str(one.get("n_pred", ""))]
        # Where neither side has an object, a 0 would look like a failure.
        nothing = one.get("n_true") == 0 and one.get("n_pred") == 0
        figures = [_get(one, "matching", "pooled", t, "accuracy") for t in ("0.50", "0.75")]
        row += [_figure(None if nothing else value) for value in (*figures, one.get("mean_accuracy_50_90"))]
        if with_bounds:
            row.append(_interval(None if nothing else bounds[name].get("mean_accuracy_50_90")))
        if with_aji:
            row.append(_figure(one.get("aji")))
        table.add_row(*row)
    return table


def _level(metrics: Mapping[str, Any]) -> str:
    level = _get(metrics, "confidence_intervals", "level")
    return "interval" if level is None else f"{100 * level:g} %"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float | None] | None) -> str:
    return "-" if not bounds or None in bounds else f"{bounds[0]:.2f}-{bounds[1]:.2f}"


def _get(mapping: Mapping[str, Any] | None, *keys: str) -> Any:
    """Walk into nested dictionaries; None where the way ends."""
    value: Any = mapping
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
