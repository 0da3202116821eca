"""Tables on the screen."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from cytomask.reporting.tables import metrics_tables, print_metrics


def figures(tp: int, accuracy: float) -> dict[str, Any]:
    return {
        "tp": tp, "fp": 2, "fn": 3, "precision": 0.9, "recall": 0.8, "f1": 0.85, "accuracy": accuracy, "pq": 0.6,
        "mean_matched_iou": 0.8,
    }  # fmt: skip


def evaluation(tp: int = 41, **more: Any) -> dict[str, Any]:
    return {
        "n_images": 12, "n_true": 44, "n_pred": 43,
        "matching": {
            "pooled": {"0.50": figures(tp, 0.731), "0.75": figures(30, 0.512)},
            "mean_per_image": {"0.50": {"accuracy": 0.654}, "0.75": {"accuracy": 0.432}},
        },
        "mean_accuracy_50_90": 0.555, "mean_accuracy_50_90_mean_per_image": 0.544,
        "aji": 0.617, "aji_mean_per_image": None,
        "pixels": {"iou": {"background": 0.9, "object": 0.8}, "mean_iou": 0.85, "pixel_accuracy": 0.95, "dice": 0.9},
        **more,
    }  # fmt: skip


INTERVALS = {
    "level": 0.9,
    "matching": {"pooled": {"0.50": {"accuracy": [0.7, 0.78]}, "0.75": {"accuracy": [None, None]}}},
    "mean_accuracy_50_90": [0.51, 0.6],
}


def row(cells: str) -> list[str]:
    return cells.split()


def printed(metrics: dict[str, Any], width: int = 80) -> list[list[str]]:
    out = io.StringIO()
    print_metrics(metrics, Console(file=out, width=width))
    assert "…" not in out.getvalue()
    return [line.split() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 140])
def test_matching_shows_pooled_figures_intervals_and_the_mean_of_images(width: int) -> None:
    lines = printed(evaluation(confidence_intervals=INTERVALS), width)
    assert row("IoU tp fp fn precision recall F1 PQ accuracy 90 % per image") in lines
    assert row("0.50 41 2 3 0.900 0.800 0.850 0.600 0.731 0.70-0.78 0.654") in lines
    assert row("0.75 30 2 3 0.900 0.800 0.850 0.600 0.512 - 0.432") in lines
    assert row("mean accuracy, IoU 0.50 to 0.90 0.555 0.51-0.60 0.544") in lines
    assert row("aggregated Jaccard index 0.617 - -") in lines


def test_large_counts_fit_a_narrow_terminal() -> None:
    lines = printed(evaluation(tp=28_986, confidence_intervals=INTERVALS))
    assert any(line[:2] == ["0.50", "28986"] for line in lines)


def test_what_is_missing_is_left_out() -> None:
    assert metrics_tables({}) == []
    lines = printed(evaluation(confidence_intervals=None))
    assert row("0.50 41 2 3 0.900 0.800 0.850 0.600 0.731 0.654") in lines
    without = evaluation(coco={"segm": None, "bbox": None, "reason": "no scores"}, groups={})
    assert [table.title for table in metrics_tables(without)] == [
        "Objects matched by IoU, pooled over 12 images",
        "Over all",
    ]


def test_coco_figures_are_shown_by_kind_and_class() -> None:
    def coco(ap: float) -> dict[str, Any]:
        whole = {
            "AP": ap,
            "AP50": 0.6,
            "AP75": None,
            "APs": 0.1,
            "APm": 0.2,
            "APl": 0.3,
            "AR": 0.5,
            "max_dets": [1, 10],
        }
        return {**whole, "per_class": {"cell": {"AP": ap + 0.1}, "granule": {"AP": ap - 0.1}}}

    lines = printed(evaluation(coco={"segm": coco(0.4), "bbox": coco(0.5)}))
    assert row("masks 0.400 0.600 - 0.100 0.200 0.300 0.500") in lines
    assert row("boxes 0.500 0.600 - 0.100 0.200 0.300 0.500") in lines
    assert row("granule 0.300 - - - - - -") in lines


def test_every_group_and_class_has_a_row() -> None:
    groups = {"modality": {"fluorescence": evaluation(confidence_intervals=INTERVALS), "brightfield": evaluation()}}
    classes = {
        "cell": {
            "n_true": 9,
            "n_pred": 8,
            "matching": {"pooled": {"0.50": figures(7, 0.8)}},
            "mean_accuracy_50_90": 0.7,
        }
    }
    classes["granule"] = {**classes["cell"], "n_true": 0, "n_pred": 0}
    lines = printed(evaluation(groups=groups, classes=classes))
    assert row("granule 0 0 - - -") in lines, "a 0 would look like a failure"
    assert row("fluorescence 12 44 43 0.731 0.512 0.555 0.51-0.60 0.617") in lines
    assert row("brightfield 12 44 43 0.731 0.512 0.555 - 0.617") in lines
    assert row("cell 9 8 0.800 - 0.700") in lines


def test_class_names_are_no_markup() -> None:
    classes = {"[red]x[/red]": {"n_true": 9, "n_pred": 8}}
    assert any(line[:1] == ["[red]x[/red]"] for line in printed({"classes": classes}))


def test_ap_has_its_interval_and_the_settings_are_told() -> None:
    coco = {"AP": 0.4, "AR": 0.5, "max_dets": [10, 2000], "areas": {"s": [0, 324], "m": [324, 961], "l": [961, 1e10]}}
    bounds = {"level": 0.95, "coco": {"segm": {"AP": [0.3, 0.5]}}}
    lines = printed({"coco": {"segm": coco, "bbox": None}, "confidence_intervals": bounds}, 120)
    assert row("AP 95 % AP50 AP75 APs APm APl AR") in lines
    assert row("masks 0.400 0.30-0.50 - - - - - 0.500") in lines
    told = " ".join(word for line in lines for word in line)
    assert "the best 2000 predictions of an image; APs below 324 px², APl above 961 px²" in told


def test_what_became_of_the_objects_by_kind_and_size() -> None:
    kinds = {
        "truth": {"hit": 9, "poor": 1, "split": 2, "merged": 3, "missed": 4},
        "prediction": {"hit": 9, "poor": 1, "split": 5, "merged": 6, "spurious": 7},
    }
    size = {"n": 8, "recall": 0.5, "mean_iou": 0.6, "kinds": kinds["truth"]}
    sizes = [
        {"diameter_px": [4.0, 9.96], **size, "confidence_intervals": {"recall": [0.4, 0.7]}},
        {"diameter_px": [10.0, 30.0], **size},
    ]
    lines = printed({"error_kinds": kinds, "by_size": sizes}, 120)
    assert row("true objects 9 1 2 3 4") in lines
    assert row("predicted objects 9 1 5 6 7") in lines
    assert row("4.0-10.0 8 0.500 0.40-0.70 0.600 2 3 4") in lines
    assert row("10.0-30.0 8 0.500 - 0.600 2 3 4") in lines
    # One bin tells no more than the whole.
    assert [table.title for table in metrics_tables({"by_size": sizes[:1]})] == []


def test_people_stand_below_the_prediction() -> None:
    figures = {"f1_50": 0.8, "accuracy_50": 0.7, "mean_accuracy_50_90": 0.5, "mean_matched_iou_50": 0.75, "aji": 0.6,
               "boundary_f1": 0.9}  # fmt: skip
    pairs = [
        {"first": first, "second": second, "n_images": 3, "n_first": 40, "n_second": 41, "figures": figures}
        for first, second in (("Ann", "prediction"), ("Ben", "prediction"), ("Ann", "Ben"))
    ]
    pairs[2] = {**pairs[2], "confidence_intervals": {"f1_50": [0.7, 0.9]}}
    lines = printed({"annotators": {"prediction": "prediction", "pairs": pairs}}, 140)
    assert row("prediction - Ann 3 41 - 40 0.800 - 0.700 0.500 0.750 0.600 0.900") in lines
    assert row("Ben - Ann 3 41 - 40 0.800 0.70-0.90 0.700 0.500 0.750 0.600 0.900") in lines
    order = [line[0] for line in lines if line and line[0] in ("prediction", "Ben")]
    assert order == ["prediction", "prediction", "Ben"]
