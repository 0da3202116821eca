"""The page of a comparison, and the words that tell who is ahead."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

from cytomask.evaluation.error_kinds import error_kinds
from cytomask.image import Image
from cytomask.instances import Instances
from cytomask.reporting.compare_page import write_compare_page
from cytomask.reporting.compare_pictures import Disagreement, common_window
from cytomask.reporting.compare_words import leaderboard_markdown, pair_of, verdict
from cytomask.reporting.evaluation_pictures import EvaluationPicture

from .page_reader import NASTY, read_page

KINDS = {
    "truth": {"hit": 8, "poor": 1, "split": 0, "merged": 0, "missed": 1},
    "prediction": {"hit": 8, "poor": 1, "split": 0, "merged": 0, "spurious": 2},
}


def model(name, value, kind="model"):
    return {
        "name": name, "kind": kind, "source": f"runs/{name}", "family": "star", "parameters": 1_200_000,
        "file_bytes": 4_800_000, "training_minutes": 12.3, "epochs": 4, "best_validation": 0.5,
        "seconds_per_megapixel": 1.25, "peak_memory_mb": 640.0, "n_images": 3, "n_true": 10, "n_pred": 11,
        "figures": {"accuracy_50": value, "pixel_iou": 0.7}, "error_kinds": copy.deepcopy(KINDS),
        "confidence_intervals": {"accuracy_50": [value - 0.1, value + 0.1], "pixel_iou": None},
        "by_size": [], "by_class": {"cell": {"n_true": 10, "n_pred": 11, "f1_50": 0.8, "mean_accuracy_50_90": 0.4}},
        "by_group": {"stain": {"A": {"n_images": 2, "figures": {"f1_50": 0.5}, "confidence_intervals": None}}},
        "training": {"epoch": [1, 2], "val/score": [None, 0.5], "train/loss": [3.0, 2.0]},
    }  # fmt: skip


def pair(first, second, difference, p_holm):
    return {
        "figure": "accuracy_50", "first": first, "second": second, "n_images": 3, "values": [0.8, 0.8 - difference],
        "difference": difference, "low": difference - 0.05, "high": difference + 0.02, "p": p_holm / 2,
        "p_holm": p_holm, "first_better": 2, "second_better": 0,
    }  # fmt: skip


def comparison(names=("good", "bad"), p_holm=0.01, smallest=0.001):
    return {
        "data": "mydata", "split": "val", "n_images": 3, "n_true": 10, "rank_by": "accuracy_50",
        "figures": {"accuracy_50": "Accuracy at IoU 0.50", "pixel_iou": "Pixel IoU, all images together"},
        "smallest_p": smallest, "notices": ["intervals are rough"],
        "confidence_intervals": {"level": 0.95, "resamples": 100, "seed": 0},
        "models": [model(names[0], 0.8), model(names[1], 0.6)],
        "pairs": [pair(names[1], names[0], -0.2, p_holm)], "failed": [],
    }  # fmt: skip


def rows_of(told):
    return [
        {"name": image, "model": m["name"], "rank": k + 1, "accuracy_50": m["figures"]["accuracy_50"], "n_true": 5}
        for image in ("a", "b")
        for k, m in enumerate(told["models"])
    ]


def picture(shift=0, size=(40, 50)):
    labels = np.zeros(size, np.int32)
    labels[10:20, 10:20] = 1
    truth, prediction = Instances.from_labels(labels), Instances.from_labels(np.roll(labels, shift, axis=1))
    kinds = error_kinds(truth, prediction)
    image = Image.from_array(np.full(size, 90, np.uint8))
    return EvaluationPicture("a", image, truth, prediction, kinds.truth_kinds, kinds.prediction_kinds)


@pytest.mark.parametrize(
    ("p_holm", "smallest", "grade", "said"),
    [
        (0.01, 0.001, "fine", "hardly do that"),
        (0.30, 0.001, "note", "could do that"),
        (0.25, 0.25, "warning", "cannot prove anything: even the clearest difference has p = 0.25"),
    ],
)
def test_the_verdict_says_how_sure_it_is(p_holm, smallest, grade, said):
    found = verdict(comparison(p_holm=p_holm, smallest=smallest))
    assert found[0] == grade
    assert found[1] == "good is ahead: 0.800, then bad with 0.600"
    assert said in found[2]


def test_level_models_and_single_ones_are_not_called_ahead():
    told = comparison()
    told["pairs"][0] |= {"difference": 0.0, "low": 0.0, "high": 0.0}
    assert "level" in verdict(told)[1]
    told["models"] = told["models"][:1]
    assert "ahead" not in verdict(told)[1]
    told = comparison()
    told["pairs"] = []
    assert "no image in common" in verdict(told)[2]


def test_a_pair_can_be_seen_from_either_side():
    told = comparison()
    one, other = (pair_of(told, "accuracy_50", *names) for names in (("good", "bad"), ("bad", "good")))
    assert one["difference"] == -other["difference"] == 0.2
    assert (one["low"], one["high"]) == (-other["high"], -other["low"])
    assert one["low"] < one["difference"] < one["high"]
    assert (one["first_better"], one["second_better"]) == (0, 2)
    assert pair_of(told, "accuracy_50", "good", "other") is None


def test_the_page_holds_what_it_should(tmp_path):
    told = comparison()
    pictures = [Disagreement("a", ("good", "bad"), (0.9, 0.2), (picture(), picture(6)))]
    write_compare_page(tmp_path / "c.html", told, rows_of(told), pictures, command="cytomask compare")
    page = read_page(tmp_path / "c.html")
    assert page.one("h1").text == "good is ahead: 0.800, then bad with 0.600"
    wanted = ["board", "pairs", "errors", "disagree", "classes", "groups", "costs", "training", "images"]
    assert [section.attributes["id"] for section in page.all("section")] == wanted
    shown = [image.attributes["alt"] for image in page.all("img")]
    assert [text.split(" on ")[0] for text in shown] == ["Image", "Truth", "good", "bad"]
    costs = next(s for s in page.all("section") if s.attributes["id"] == "costs")
    assert "1.20 M" in costs.text
    assert "640" in costs.text
    best = next(s for s in page.all("section") if s.attributes["id"] == "images").all("b")
    assert [b.text for b in best] == ["0.800", "0.800"]


@pytest.mark.parametrize("name", NASTY)
def test_names_from_anywhere_do_no_harm(tmp_path, name):
    told = comparison((name, f"{name} 2"))
    told["data"] = told["notices"][0] = name
    pictures = [Disagreement(name, (name, f"{name} 2"), (0.9, math.nan), (picture(), picture(6)))]
    write_compare_page(tmp_path / "c.html", told, rows_of(told), pictures)
    page = read_page(tmp_path / "c.html")
    assert len(page.all("script")) == 1
    assert len(page.all("img")) == 4
    table = [line for line in leaderboard_markdown(told).splitlines() if line.startswith("|")]
    assert all("<" not in line for line in table)


def test_markdown_keeps_names_in_their_cells():
    text = leaderboard_markdown(comparison(("a|b", "c")))
    row = next(line for line in text.splitlines() if line.startswith("| 1 |"))
    assert "a\\|b" in row
    assert row.replace("\\|", "").count("|") == 5


def test_of_a_large_image_the_part_is_shown_where_models_differ():
    shape = (900, 1000)
    labels = np.zeros(shape, np.int32)
    labels[800:820, 900:920] = 1
    labels[50:70, 50:70] = 2
    truth, partly = Instances.from_labels(labels), Instances.from_labels(np.where(labels == 2, 2, 0))
    pictures = []
    for found in (truth, partly):
        kinds = error_kinds(truth, found)
        pictures.append(EvaluationPicture("a", None, truth, found, kinds.truth_kinds, kinds.prediction_kinds))
    y0, x0, y1, x1 = common_window(pictures)
    assert y0 <= 800 < 820 <= y1 <= 900
    assert x0 <= 900 < 920 <= x1 <= 1000
    assert common_window([picture()]) is None
