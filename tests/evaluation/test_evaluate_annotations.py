"""Evaluating annotations of any format, class by class, and against several annotators."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from cytomask.cli.app import run
from cytomask.errors import ConfigError, DataError, LabelError
from cytomask.evaluation.coco import coco_metrics
from cytomask.evaluation.coco_settings import CocoSettings
from cytomask.evaluation.confidence import Bootstrap
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.open_annotations import open_annotations
from cytomask.formats.label_images import write_labels
from cytomask.instances import Instances
from cytomask.workflows.evaluate import evaluate_predictions, read_thresholds
from cytomask.workflows.evaluating.inputs import join_classes, pair_names
from cytomask.workflows.evaluating.pictures import window_of_errors

from .label_pairs import blobs

QUICK = Bootstrap(resamples=8)
NAMES = ("cell", "granule")


def objects(k: int, names: Sequence[str] = NAMES) -> Instances:
    labels = blobs(np.random.default_rng(k), size=60, n=12)
    found = Instances.from_labels(labels, class_names=tuple(names))
    return replace(found, classes=1 + np.arange(len(found)) % len(names))


def write(path: Path, format: str, images: Sequence[Instances], crowds: Sequence[set[int]] | None = None) -> Path:
    annotations = [
        Annotation(f"im{k}", one, frozenset(crowds[k] if crowds else ()), f"im{k}.png") for k, one in enumerate(images)
    ]
    ANNOTATION_FORMATS[format].load().write_annotations(path, annotations, images[0].class_names)
    return path


def results(path: Path, images: Sequence[Instances], ids: Sequence[int], categories: Sequence[int]) -> Path:
    entries = [
        {"image_id": ids[k], "category_id": categories[one.classes[i] - 1], "segmentation": rle,
         "score": float(one.scores[i])}
        for k, one in enumerate(images)
        for i, rle in enumerate(one.to_rle())
    ]  # fmt: skip
    path.write_text(json.dumps(entries))
    return path


def moved(one: Instances, seed: int) -> Instances:
    rng = np.random.default_rng(seed)
    kept = one.take(np.flatnonzero(rng.random(len(one)) < 0.8)).shifted(0, 1, one.shape)
    return replace(kept, scores=rng.random(len(kept)).astype(np.float32))


@pytest.fixture(scope="module")
def truths() -> list[Instances]:
    return [objects(k) for k in range(4)]


@pytest.mark.parametrize("format", ["coco", "cvat", "labels", "masks", "class-labels"])
def test_truth_in_any_format_against_label_images(tmp_path: Path, truths: list[Instances], format: str) -> None:
    place = tmp_path / ("truth" + ANNOTATION_FORMATS[format].suffix)
    write(place, format, truths)
    (tmp_path / "predictions").mkdir()
    for k, one in enumerate(truths):
        write_labels(tmp_path / "predictions" / f"im{k}_labels.tif", np.roll(one.to_labels(), k, axis=1))
    found = evaluate_predictions(tmp_path / "predictions", place, bootstrap=QUICK)
    assert [row["name"] for row in found.rows()] == [f"im{k}" for k in range(4)]
    assert found.rows()[0]["accuracy_95"] == 1
    assert found.rows()[3]["accuracy_95"] < 1
    assert found.metrics["class_names"] == ["object"]
    assert "no scores" in found.metrics["coco"]["reason"]


def test_coco_results_against_coco_json_by_number_and_class_name(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    data = json.loads(truth.read_text())
    ids = [image["id"] for image in data["images"]]
    numbers = {category["name"]: category["id"] for category in data["categories"]}
    predictions = [moved(one, k) for k, one in enumerate(truths)]
    path = results(tmp_path / "results.json", predictions, ids, [numbers[name] for name in NAMES])
    found = evaluate_predictions(path, truth, bootstrap=QUICK).metrics
    assert found["class_names"] == list(NAMES)
    assert found["n_pred"] == sum(map(len, predictions))
    for kind in ("segm", "bbox"):
        expected = coco_metrics(truths, predictions, kind, class_names=NAMES)
        for name in ("AP", "AP50", "AR", "APs", "APm"):
            assert found["coco"][kind][name] == pytest.approx(expected[name], abs=1e-9), (kind, name)
        low, high = found["confidence_intervals"]["coco"][kind]["AP"]
        assert low <= found["coco"][kind]["AP"] <= high
        assert found["coco"][kind]["per_class"].keys() == set(NAMES)
    assert found["curves"]["precision_recall"].keys() == {"0.50", "0.75"}
    assert found["classes"]["granule"]["error_kinds"]["truth"]["hit"] > 0


def test_classes_are_matched_by_name_not_by_number(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    swapped = [replace(one, classes=3 - one.classes, class_names=("Granule", "Cell", "debris")) for one in truths]
    predictions = write(tmp_path / "predictions.json", "coco", swapped)
    found = evaluate_predictions(predictions, truth, bootstrap=QUICK).metrics
    assert found["class_names"] == ["cell", "granule", "debris"]
    for name in NAMES:
        assert found["classes"][name]["matching"]["pooled"]["0.50"]["accuracy"] == 1
    assert found["classes"]["debris"]["n_true"] == 0
    assert found["pixels"]["mean_iou"] == 1
    # Without scores that say anything there is nothing to rank by.
    assert "no scores" in found["coco"]["reason"]


def test_join_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert join_classes(("b", "a"), ("a", "b")) == (("a", "b"), (2, 1), (1, 2))
    assert join_classes(("a",), ("a", "b")) == (("a", "b"), (1,), (1, 2))
    assert join_classes(("cell",), ("nucleus",)) == (("object",), (1,), (1,))
    assert not capsys.readouterr().err
    assert join_classes(("x", "y"), ("a", "b")) == (("object",), (1, 1), (1, 1))
    assert "no class has the same name" in capsys.readouterr().err


def test_pair_names() -> None:
    assert pair_names(["x/1", "y/1"], ["1"]) == {}
    assert pair_names(["x/1", "y/1"], ["x_1", "y_1"]) == {"x/1": "x_1", "y/1": "y_1"}
    assert pair_names(["1"], ["deep/in/1", "deep/2"]) == {"1": "deep/in/1"}
    assert pair_names(["1", "2"], ["a/1", "b/1", "2"]) == {"2": "2"}
    assert pair_names(["a/1", "1"], ["1"]) == {"1": "1"}


def test_crowds_are_neither_missed_nor_are_predictions_in_them_wrong(tmp_path: Path, truths: list[Instances]) -> None:
    crowds = [{int(one.ids[0]), int(one.ids[5])} for one in truths]
    truth = write(tmp_path / "truth.json", "coco", truths, crowds)
    assert open_annotations(truth).read("im0").crowd == crowds[0]
    data = json.loads(truth.read_text())
    ids = [image["id"] for image in data["images"]]
    predictions = []
    for k, (one, crowd) in enumerate(zip(truths, crowds)):
        # Half of the crowd's regions are found.
        kept = one.take(one.ids != min(crowd))
        predictions.append(replace(kept, scores=np.random.default_rng(k).random(len(kept)).astype(np.float32)))
    path = results(tmp_path / "results.json", predictions, ids, [c["id"] for c in data["categories"]])
    found = evaluate_predictions(path, truth, bootstrap=QUICK).metrics
    assert found["matching"]["pooled"]["0.95"]["accuracy"] == 1
    assert found["n_true"] == sum(len(one) - 2 for one in truths)
    assert found["error_kinds"]["truth"]["hit"] == found["error_kinds"]["prediction"]["hit"] == found["n_true"]
    assert found["coco"]["segm"]["AP"] == found["coco"]["bbox"]["AP"] == pytest.approx(1)
    assert found["pixels"]["pixel_accuracy"] == 1
    assert found["boundary"]["pooled"]["recall"] == 1


def test_annotators_beside_the_prediction(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "ann.json", "coco", truths)
    ben = write(tmp_path / "ben", "labels", [one.shifted(1, 0, one.shape) for one in truths])
    model = write(tmp_path / "model", "labels", [one.shifted(0, 2, one.shape) for one in truths[:4]])
    (ben / "im3_labels.tif").unlink()
    found = evaluate_predictions(model, truth, bootstrap=QUICK, annotators=[ben]).metrics
    told = found["annotators"]
    assert (told["prediction"], told["annotators"]) == ("prediction", ["ann", "ben"])
    pairs = {(p["first"], p["second"]): p for p in told["pairs"]}
    assert pairs["ann", "prediction"]["n_images"] == 4
    assert pairs["ben", "prediction"]["n_images"] == pairs["ann", "ben"]["n_images"] == 3
    assert pairs["ann", "prediction"]["figures"]["f1_50"] == found["matching"]["pooled"]["0.50"]["f1"]
    assert told["ceiling"]["mean_accuracy_50_90"] > told["model"]["mean_accuracy_50_90"]
    low, high = pairs["ann", "ben"]["confidence_intervals"]["f1_50"]
    assert low <= pairs["ann", "ben"]["figures"]["f1_50"] <= high
    other = write(tmp_path / "other", "labels", [truths[0]])
    (other / "im0_labels.tif").rename(other / "strange_labels.tif")
    (other / "classes.csv").unlink()
    with pytest.raises(DataError, match="has none of the images"):
        evaluate_predictions(model, truth, annotators=[other])
    with pytest.raises(DataError, match="does not exist"):
        evaluate_predictions(model, truth, annotators=[tmp_path / "nobody"])


def test_images_of_another_size_are_named(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    model = write(tmp_path / "model", "labels", [one.shifted(0, 0, (60, 50)) for one in truths])
    with pytest.raises(LabelError, match="differ in size") as caught:
        evaluate_predictions(model, truth)
    for part in ("prediction im0: 60 x 50", "truth im0: 60 x 60", "truth.json"):
        assert part in str(caught.value)


def test_results_of_other_images_are_listed(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    model = write(tmp_path / "model.json", "coco", truths[:2])
    with pytest.raises(DataError, match="do not belong together") as caught:
        evaluate_predictions(model, truth)
    assert "2 of 4 truths without a prediction: im2, im3" in str(caught.value)


def test_a_model_that_found_nothing(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    (tmp_path / "results.json").write_text("[\n]\n")
    found = evaluate_predictions(tmp_path / "results.json", truth, tmp_path / "out", bootstrap=QUICK).metrics
    assert (found["n_true"], found["n_pred"]) == (sum(map(len, truths)), 0)
    assert found["coco"]["segm"]["AP"] == found["coco"]["segm"]["AR"] == 0
    assert found["error_kinds"]["truth"]["missed"] == found["n_true"]
    assert found["curves"]["precision_recall"]["0.50"] == {"score": [], "recall": [], "precision": []}


def test_a_file_of_no_known_format(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    for name, text in (("a.json", "{}"), ("b.json", ""), ("c.txt", "x")):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="neither a label image nor annotations") as caught:
            evaluate_predictions(tmp_path / name, truth)
        assert "COCO results JSON" in str(caught.value)
        assert name in str(caught.value)


def page_of(out: Path) -> str:
    return (out / "evaluation.html").read_text(encoding="utf-8")


def test_the_command_with_all_its_options(
    tmp_path: Path, truths: list[Instances], capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    for folder in ("images", "labels"):
        (data / folder).mkdir(parents=True)
    rows = ["name,day"]
    for k, one in enumerate(truths):
        labels = one.to_labels()
        write_labels(data / "labels" / f"im{k}.png", labels)
        Picture.fromarray((labels % 200).astype(np.uint8)).save(data / "images" / f"im{k}.png")
        rows.append(f"im{k},{k % 2 + 1}")
    (data / "manifest.csv").write_text("\n".join(rows) + "\n")
    predictions = write(tmp_path / "p.json", "coco", [moved(one, k) for k, one in enumerate(truths)])
    ben = write(tmp_path / "ben", "labels", truths)
    out = tmp_path / "out"
    arguments = ["evaluate", str(predictions), str(data), "-o", str(out), "--group-by", "day", "--annotator", str(ben),
                 "--thresholds", "0.3,0.4", "--max-dets", "5", "--areas", "50,150", "--tolerance", "1",
                 "--resamples", "20"]  # fmt: skip
    assert run(arguments) == 0
    told = capsys.readouterr()
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    assert {"0.30", "0.40", "0.50", "0.95"} <= metrics["matching"]["pooled"].keys()
    assert metrics["coco"]["segm"]["max_dets"] == [5]
    assert metrics["coco"]["segm"]["areas"]["m"] == [50, 150]
    assert metrics["boundary"]["tolerance_px"] == 1
    assert metrics["by_group"]["day"].keys() == {"1", "2"}
    assert metrics["confidence_intervals"]["resamples"] == 20
    assert len(metrics["annotators"]["pairs"]) == 3
    assert "more objects than the 5 predictions" in told.err
    assert any("more objects than the 5" in notice for notice in metrics["notices"])
    for title in ("What became of the objects", "By diameter", "By day", "among people", "COCO", "boundary F1"):
        assert title in told.out, title
    assert "<html" in page_of(out)
    with (out / "per_image.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    kinds = [int(value) for key, value in row.items() if key.startswith("truth_")]
    assert len(kinds) == 5
    assert sum(kinds) == int(row["n_true"])
    assert run([*arguments, "--no-page", "-o", str(tmp_path / "bare")]) == 0
    assert not (tmp_path / "bare" / "evaluation.html").exists()
    for wrong in (["--areas", "x"], ["--thresholds", "0"], ["--group-by", "dye"]):
        assert run(["evaluate", str(predictions), str(data), "-o", str(out), *wrong]) == 2
        assert wrong[0] in capsys.readouterr().err


def test_thresholds_are_read() -> None:
    assert read_thresholds("0.3,1") == (0.3, 1.0)
    for wrong in ("", "0", "1.1", "a", "0.5,,0.6", "nan"):
        with pytest.raises(ConfigError, match="cannot be understood"):
            read_thresholds(wrong)


def test_large_images_are_shown_where_the_errors_are() -> None:
    assert window_of_errors((2048, 2048), []) is None
    y0, x0, y1, x1 = window_of_errors((5000, 4000), [np.array([[10, 10, 20, 20], [4800, 3900, 4900, 3990]] * 2)[1:]])
    assert y0 <= 4850 <= y1 <= 5000
    assert x0 <= 3945 <= x1 <= 4000
    assert window_of_errors((5000, 10), [np.zeros((0, 4))]) == (0, 0, 1024, 10)


def test_quantile_ranges_are_those_of_all_images_in_every_group(tmp_path: Path, truths: list[Instances]) -> None:
    truth = write(tmp_path / "truth.json", "coco", truths)
    predictions = write(tmp_path / "p.json", "coco", [moved(one, k) for k, one in enumerate(truths)])
    found = evaluate_predictions(predictions, truth, bootstrap=QUICK, coco=CocoSettings(areas="quantiles")).metrics
    areas = np.sort(np.concatenate([one.areas() for one in truths]))
    assert found["coco"]["segm"]["areas"]["s"][1] == areas[int(np.ceil(len(areas) / 3)) - 1]


def test_real_organelles_class_by_class(shared_data: Path, tmp_path: Path) -> None:
    truth = shared_data / "platelet_em" / "train.json"
    annotations = open_annotations(truth)
    images = [annotations.read(name) for name in annotations.names]
    data = json.loads(truth.read_text())
    listed = {image["file_name"]: image["id"] for image in data["images"]}
    ids = [listed[one.file_name] for one in images]
    numbers = {category["name"]: category["id"] for category in data["categories"]}
    categories = [numbers[name] for name in annotations.classes]
    predictions = [moved(one.instances, k) for k, one in enumerate(images)]
    path = results(tmp_path / "results.json", predictions, ids, categories)
    found = evaluate_predictions(path, truth, bootstrap=QUICK).metrics
    assert found["class_names"] == list(annotations.classes)
    expected = coco_metrics([one.instances for one in images], predictions, class_names=annotations.classes)
    assert found["coco"]["segm"]["AP"] == pytest.approx(expected["AP"], abs=1e-9)
    assert found["pixels"]["iou"].keys() == {"background", *annotations.classes}
