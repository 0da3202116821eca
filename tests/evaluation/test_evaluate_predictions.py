"""Evaluating files: which prediction belongs to which truth, what is written, and what is wrong with the files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cytomask.errors import ConfigError, DataError, LabelError, OutputError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.formats.label_images import write_labels
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.instances import Instances
from cytomask.workflows.evaluate import evaluate_predictions

from .label_pairs import blobs

QUICK = Bootstrap(resamples=10)


def write(folder: Path, labels: dict[str, np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in labels.items():
        write_labels(folder / name, one)
    return folder


@pytest.fixture(scope="module")
def labels() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    return [blobs(rng, size=60, n=12) for _ in range(4)]


@pytest.fixture
def dataset(tmp_path: Path, labels: list[np.ndarray]) -> Path:
    folder = tmp_path / "data"
    write(folder / "labels", {f"im{k}.png": one for k, one in enumerate(labels)})
    write(folder / "images", {f"im{k}.png": one % 256 for k, one in enumerate(labels)})
    rows = ["name,split,modality"] + [f"im{k},{'train' if k < 2 else 'test'},{'ab'[k % 2]}" for k in range(4)]
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def predictions(tmp_path: Path, labels: list[np.ndarray]) -> Path:
    """As predict writes them: the first without a fault, the others ever more so."""
    folder = write(tmp_path / "out", {f"im{k}_labels.tif": np.roll(one, k, axis=1) for k, one in enumerate(labels)})
    write(folder, {f"im{k}_overlay.png": one for k, one in enumerate(labels)})
    return folder


def test_one_pair(tmp_path: Path, dataset: Path, predictions: Path) -> None:
    out = tmp_path / "scores"
    found = evaluate_predictions(predictions / "im0_labels.tif", dataset / "labels" / "im0.png", out)
    assert found.metrics["matching"]["pooled"]["0.50"]["accuracy"] == 1
    assert found.metrics["confidence_intervals"] is None
    assert found.rows()[0]["name"] == "im0"
    assert {path.name for path in out.iterdir()} == {"metrics.json", "per_image.csv", "evaluation.html"}


def test_folders_are_paired_by_name(tmp_path: Path, dataset: Path, predictions: Path) -> None:
    out = tmp_path / "scores"
    found = evaluate_predictions(predictions, dataset / "labels", out, bootstrap=QUICK)
    assert [row["name"] for row in found.rows()] == ["im0", "im1", "im2", "im3"]
    accuracy = [row["mean_accuracy_50_90"] for row in found.rows()]
    assert accuracy[0] == 1
    assert accuracy == sorted(accuracy, reverse=True)
    written = json.loads((out / "metrics.json").read_text())
    assert written == found.metrics
    assert written["truth"] == str(dataset / "labels")
    assert "no scores" in written["coco"]["reason"]
    with (out / "per_image.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["name"] for row in table] == ["im0", "im1", "im2", "im3"]
    assert float(table[1]["accuracy_50"]) == found.rows()[1]["accuracy_50"]


def test_nothing_is_written_where_no_folder_is_named(dataset: Path, predictions: Path) -> None:
    before = sorted(predictions.parent.rglob("*"))
    evaluate_predictions(predictions, dataset / "labels", bootstrap=QUICK)
    assert sorted(predictions.parent.rglob("*")) == before


def test_a_folder_against_one_truth(dataset: Path, predictions: Path) -> None:
    found = evaluate_predictions(predictions, dataset / "labels" / "im2.png")
    assert [row["name"] for row in found.rows()] == ["im2"]


def test_a_split_of_a_data_set(dataset: Path, predictions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluate_predictions(predictions, dataset, split="test", bootstrap=QUICK)
    assert [row["name"] for row in found.rows()] == ["im2", "im3"]
    assert [row["modality"] for row in found.rows()] == ["a", "b"]
    assert "2 of 4 predictions belong to other splits" in capsys.readouterr().err
    whole = evaluate_predictions(predictions, dataset, bootstrap=QUICK)
    assert whole.metrics["n_images"] == 4
    assert whole.metrics["groups"]["modality"]["a"]["n_images"] == 2
    (predictions / "im0_labels.tif").unlink()
    evaluate_predictions(predictions, dataset, split="test", bootstrap=QUICK)


def test_a_data_set_in_subfolders(tmp_path: Path, labels: list[np.ndarray]) -> None:
    for side in ("images", "labels"):
        write(tmp_path / "data" / side / "x", {"a.png": labels[0] % 256, "b.png": labels[1] % 256})
        write(tmp_path / "data" / side / "y", {"a.png": labels[2] % 256})
    out = write(tmp_path / "out", {"x_a_labels.tif": labels[0], "y_a_labels.tif": labels[2], "b_labels.tif": labels[1]})
    found = evaluate_predictions(out, tmp_path / "data", bootstrap=QUICK)
    assert [row["name"] for row in found.rows()] == ["x/a", "x/b", "y/a"]
    assert found.metrics["matching"]["pooled"]["0.95"]["accuracy"] == 1


def test_truth_at_its_own_size_whatever_training_rescales(dataset: Path, predictions: Path) -> None:
    (dataset / "dataset.yaml").write_text("steps:\n  - rescale: {factor: 0.5}\n")
    found = evaluate_predictions(predictions, dataset, bootstrap=QUICK)
    assert found.rows()[0]["accuracy_50"] == 1
    assert (found.rows()[0]["height"], found.rows()[0]["width"]) == (60, 60)


def with_scores(folder: Path, labels: list[np.ndarray], classes: int = 1) -> None:
    """Add what predict writes beside the label images."""
    images, entries = [], []
    for k, one in enumerate(labels):
        instances = Instances.from_labels(one)
        images.append({
            "image_id": k + 1, "name": f"im{k}", "height": 60, "width": 60, "objects": {"object": len(instances)},
        })  # fmt: skip
        entries += [
            {"image_id": k + 1, "category_id": 1 + i % classes, "segmentation": rle, "score": 0.5 + i / 100}
            for i, rle in enumerate(instances.to_rle())
        ]
    categories = [{"id": c, "name": "pqr"[c - 1]} for c in range(1, classes + 1)]
    (folder / "run.json").write_text(json.dumps({"images": images, "categories": categories}))
    (folder / "predictions.json").write_text(json.dumps(entries))


def test_scores_beside_the_label_images_give_coco_metrics(
    dataset: Path, predictions: Path, labels: list[np.ndarray]
) -> None:
    # Where the truth does not tell classes, those of the predictions do not matter.
    with_scores(predictions, labels, classes=2)
    for truth in (dataset, dataset / "labels"):
        coco = evaluate_predictions(predictions, truth, bootstrap=QUICK).metrics["coco"]
        assert coco["segm"]["AP"] == coco["bbox"]["AP"] == pytest.approx(1)


def test_scores_of_another_prediction_are_left_out_and_said(
    dataset: Path, predictions: Path, labels: list[np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    with_scores(predictions, labels)
    entries = json.loads((predictions / "predictions.json").read_text())
    for text in (json.dumps(entries[1:]), "[{]", json.dumps([{"image_id": 1}])):
        (predictions / "predictions.json").write_text(text)
        found = evaluate_predictions(predictions, dataset, bootstrap=QUICK)
        assert found.metrics["coco"]["segm"] is None
        assert "predictions.json is left out" in capsys.readouterr().err


def test_classes_come_with_the_scores(dataset: Path, predictions: Path, labels: list[np.ndarray]) -> None:
    objects = [f"im{k},{i},{('p', 'q')[j % 2]}" for k, one in enumerate(labels)
               for j, i in enumerate(np.unique(one)[1:])]  # fmt: skip
    (dataset / "classes.csv").write_text("\n".join(["image,id,class", *objects]) + "\n")
    (dataset / "dataset.yaml").write_text("classes: [p, q]\nobject_classes: {csv: classes.csv}\n")
    without = evaluate_predictions(predictions, dataset, bootstrap=QUICK).metrics
    assert without["class_names"] == ["object"]
    with_scores(predictions, labels, classes=2)
    found = evaluate_predictions(predictions, dataset, bootstrap=QUICK).metrics
    assert found["class_names"] == ["p", "q"]
    assert found["classes"]["q"]["matching"]["pooled"]["0.50"]["accuracy"] == 1
    assert found["pixels"]["iou"].keys() == {"background", "p", "q"}


def test_another_size_names_both_files(tmp_path: Path, dataset: Path, predictions: Path) -> None:
    write_labels(predictions / "im1_labels.tif", np.ones((30, 60), np.int32))
    with pytest.raises(LabelError, match="differ in size") as caught:
        evaluate_predictions(predictions, dataset / "labels", tmp_path / "scores")
    for part in ("im1_labels.tif", "im1.png", "30 x 60", "60 x 60"):
        assert part in str(caught.value)
    assert not list((tmp_path / "scores").iterdir())


def test_files_without_a_partner_are_listed(dataset: Path, predictions: Path) -> None:
    (dataset / "labels" / "im3.png").unlink()
    (predictions / "im1_labels.tif").unlink()
    with pytest.raises(DataError, match="do not belong together") as caught:
        evaluate_predictions(predictions, dataset / "labels")
    assert "1 of 3 truths without a prediction: im1.png" in str(caught.value)
    assert "1 of 3 predictions without a truth: im3_labels.tif" in str(caught.value)


def test_a_missing_prediction_of_a_data_set_hints_at_the_splits(dataset: Path, predictions: Path) -> None:
    (predictions / "im0_labels.tif").unlink()
    write_labels(predictions / "strange_labels.tif", np.ones((60, 60), np.int32))
    with pytest.raises(DataError) as caught:
        evaluate_predictions(predictions, dataset)
    for part in ("im0.png", "strange_labels.tif", "--split train|test"):
        assert part in str(caught.value)


def test_many_files_without_a_partner(tmp_path: Path) -> None:
    one = np.ones((4, 4), np.int32)
    truth = write(tmp_path / "truth", {f"t{k:02}.png": one for k in range(15)})
    with pytest.raises(DataError, match=r"t09\.png and 5 more"):
        evaluate_predictions(write(tmp_path / "out", {"x.png": one}), truth)


def test_two_files_of_one_image(dataset: Path, predictions: Path) -> None:
    write_labels(predictions / "im1_labels.png", np.ones((60, 60), np.int32))
    with pytest.raises(DataError, match="several files are of one image") as caught:
        evaluate_predictions(predictions, dataset)
    assert "im1_labels.png, im1_labels.tif" in str(caught.value)


def test_wrong_places(tmp_path: Path, dataset: Path, predictions: Path) -> None:
    with pytest.raises(DataError, match="the prediction does not exist"):
        evaluate_predictions(tmp_path / "none", dataset)
    with pytest.raises(DataError, match="the truth does not exist"):
        evaluate_predictions(predictions, tmp_path / "none")
    with pytest.raises(ConfigError, match="only a data set has splits"):
        evaluate_predictions(predictions, dataset / "labels", split="test")
    with pytest.raises(DataError, match="no split 'tset'"):
        evaluate_predictions(predictions, dataset, split="tset")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no label images"):
        evaluate_predictions(tmp_path / "empty", dataset / "labels")
    with pytest.raises(OutputError, match="is a file"):
        evaluate_predictions(predictions, dataset, dataset / "manifest.csv")


def test_a_file_that_is_no_label_image(dataset: Path, predictions: Path) -> None:
    (predictions / "im2_labels.tif").write_text("no picture")
    with pytest.raises(LabelError) as caught:
        evaluate_predictions(predictions, dataset)
    assert "im2_labels.tif" in str(caught.value)


def test_labels_in_zarr_folders_are_compared_like_files(tmp_path):
    labels = np.zeros((40, 50), np.int32)
    labels[5:20, 5:20] = 1
    write_labels(tmp_path / "a.png", labels)
    (tmp_path / "found").mkdir()
    path = tmp_path / "found/a_labels.ome.zarr"
    writer = LabelZarrWriter.create(path, labels.shape, chunk=32)
    writer.write(0, 0, labels.astype(np.uint32))
    writer.finish()
    for predictions in (path, tmp_path / "found"):
        found = evaluate_predictions(predictions, tmp_path / "a.png")
        assert found.metrics["matching"]["pooled"]["0.95"]["tp"] == 1
