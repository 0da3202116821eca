"""The stages of a run that make its results: evaluate, visualise, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError, DataError
from cytomask.formats.label_images import write_labels
from cytomask.progress import set_quiet
from cytomask.reporting.overlay import write_png
from cytomask.workflows.experiment import Experiment
from cytomask.workflows.models import find_model
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages import evaluate, report, visualise
from cytomask.workflows.stages.pictures import read_list

SIZE = 96


def nuclei(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Round bright spots on a dark ground, and their labels."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.int32)
    for k, (y, x) in enumerate([(20, 22), (20, 70), (50, 45), (76, 20), (74, 74)], start=1):
        y, x, r = y + rng.integers(-4, 5), x + rng.integers(-4, 5), rng.uniform(7, 10)
        labels[(rows - y) ** 2 + (columns - x) ** 2 < r * r] = k
    image = np.where(labels > 0, 170, 20) + rng.normal(0, 6, labels.shape)
    return np.clip(image, 0, 255).astype(np.uint8), labels


def data_set(folder: Path, splits: dict[str, int]) -> Path:
    rng = np.random.default_rng(3)
    lines = ["name,split,stain"]
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for split, count in splits.items():
        for k in range(count):
            image, labels = nuclei(rng)
            write_png(folder / "images" / f"{split}_{k}.png", np.repeat(image[..., None], 3, axis=-1))
            write_labels(folder / "labels" / f"{split}_{k}.tif", labels)
            lines.append(f"{split}_{k},{split},{'DAPI' if k % 2 else 'Hoechst'}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def begun(folder: Path, data: Path, **sections: dict[str, object]) -> tuple[RunFolder, Experiment]:
    """A run whose model is there, and its experiment."""
    run = RunFolder(folder)
    shutil.copytree(find_model("nuclei"), run.bundle)
    fields: dict[str, object] = {"name": "spots", "data": {"path": str(data)}, "evaluation": {"bootstrap": 20}}
    return run, Experiment.model_validate({**fields, **sections})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Experiment, list[str]]:
    """A run with all of its results."""
    set_quiet(True)
    folder = tmp_path_factory.mktemp("run")
    data = data_set(folder / "data set", {"train": 1, "val": 1, "test": 4})
    run, experiment = begun(folder / "run", data, visualise={"images": 2}, report={"pictures": 1})
    lines = [line for stage in (evaluate, visualise) for line in stage.run_stage(run, experiment)]
    return run, experiment, lines


def test_test_images_are_segmented_and_scored(done: tuple[RunFolder, Experiment, list[str]]) -> None:
    run, _, lines = done
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["n_images"] == 4
    assert metrics["n_true"] == 20
    assert metrics["matching"]["pooled"]["0.50"]["f1"] > 0.9, "these spots are easy to find"
    assert not any("OPTIMISTIC" in notice for notice in metrics["notices"])
    assert metrics["by_group"]["stain"].keys() == {"DAPI", "Hoechst"}
    assert lines[0].startswith("4 images of split test: F1 ")
    names = {path.name for path in run.predictions.iterdir() if not path.name.startswith(".")}
    each = {f"test_{k}_{what}" for k in range(4) for what in ("labels.tif", "objects.csv")}
    assert names == {*each, "predictions.json", "run.json"}
    assert (run.evaluation / "evaluation.html").is_file()


def test_best_and_worst_are_drawn_each_once(done: tuple[RunFolder, Experiment, list[str]]) -> None:
    run, _, _ = done
    pictures = read_list(run.evaluation / "pictures")
    assert [picture.group for picture in pictures] == ["worst", "best"]
    assert pictures[0].name != pictures[1].name
    for picture in pictures:
        assert [key for key, _, _ in picture.layers] == ["truth", "prediction", "errors"]
        assert picture.counts["true"] == 5
        assert picture.counts["hit"] + picture.counts["missed"] <= 5
    assert pictures[0].figures["mean_accuracy_50_90"] <= pictures[1].figures["mean_accuracy_50_90"]


def test_measurements_are_of_both_sides(done: tuple[RunFolder, Experiment, list[str]]) -> None:
    run, _, _ = done
    found = json.loads((run.evaluation / "measurements.json").read_text())
    by_name = {one["name"]: one["classes"]["object"] for one in found["properties"]}
    assert {"area", "diameter", "eccentricity"} < by_name.keys()
    true = []
    dataset = open_dataset(run.path.parent / "data set")
    for sample in dataset.split("test"):
        labels = dataset.load_layers(sample).layers[0]
        border = {*labels[0], *labels[-1], *labels[:, 0], *labels[:, -1]}
        true += [n for i, n in zip(*np.unique(labels, return_counts=True)) if i and i not in border]
    area = by_name["area"]
    assert area["true"]["n"] == len(true) == sum(area["true"]["counts"])
    assert area["true"]["quartiles"][1] == np.median(true)
    assert area["predicted"]["quartiles"][1] == pytest.approx(np.median(true), rel=0.15)
    # Spots of 170 on 20: the objects that are found are as bright.
    bright = next(one for name, one in by_name.items() if name.startswith("mean intensity"))
    assert bright["predicted"]["quartiles"][1] == pytest.approx(165, abs=15)


def test_chosen_images_and_plots(done: tuple[RunFolder, Experiment, list[str]]) -> None:
    run, experiment, lines = done
    pictures = read_list(run.pictures)
    chosen = [picture.name for picture in pictures if picture.group == "chosen"]
    plots = [picture.name for picture in pictures if picture.group == "plot"]
    assert len(chosen) == 2
    assert plots[:3] == ["area", "diameter", "eccentricity"]
    assert lines[-1] == f"2 images and {len(plots)} plots drawn"
    before = {path.name: path.read_bytes() for path in run.pictures.iterdir() if path.suffix != ".png"}
    visualise.run_stage(run, experiment)
    assert {path.name: path.read_bytes() for path in run.pictures.iterdir() if path.suffix != ".png"} == before
    for seed in range(20):
        other = experiment.model_copy(update={"training": experiment.training.model_copy(update={"seed": seed})})
        if visualise._choose([f"test_{k}" for k in range(4)], other) != set(chosen):
            break
    else:
        pytest.fail("whatever the seed, the same images are chosen")


def test_named_images_are_drawn_and_a_wrong_name_is_told(done: tuple[RunFolder, Experiment, list[str]]) -> None:
    run, experiment, _ = done
    fields = experiment.model_dump()
    named = Experiment.model_validate({**fields, "visualise": {"images": ["test_3"], "text": "score", "boxes": True}})
    visualise.run_stage(run, named)
    assert [picture.name for picture in read_list(run.pictures) if picture.group == "chosen"] == ["test_3"]
    wrong = Experiment.model_validate({**fields, "visualise": {"images": ["tset_3"]}})
    with pytest.raises(ConfigError, match="test_3"):
        visualise.run_stage(run, wrong)
    visualise.run_stage(run, experiment)


def test_an_image_that_left_the_split_leaves_the_results(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", {"train": 1, "val": 1, "test": 2})
    run, experiment = begun(tmp_path / "run", data, report={"pictures": 0})
    evaluate.run_stage(run, experiment)
    for name in ("images/test_1.png", "labels/test_1.tif"):
        (data / name).unlink()
    manifest = data / "manifest.csv"
    manifest.write_text("".join(row for row in manifest.read_text().splitlines(True) if not row.startswith("test_1,")))
    kept = run.predictions / "test_0_labels.tif"
    stamp = kept.stat().st_mtime_ns
    evaluate.run_stage(run, experiment)
    assert kept.stat().st_mtime_ns == stamp, "what was done is not done again"
    assert not list(run.predictions.glob("test_1*"))
    assert json.loads((run.evaluation / "metrics.json").read_text())["n_images"] == 1
    assert read_list(run.evaluation / "pictures") == []


def test_without_test_images_those_of_validation_are_taken_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = data_set(tmp_path / "data", {"train": 1, "val": 2})
    run, experiment = begun(tmp_path / "run", data)
    lines = evaluate.run_stage(run, experiment)
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert metrics["split"] == "val"
    assert metrics["notices"][0].startswith("OPTIMISTIC: the data have no images in a split 'test'")
    assert any(line.startswith("OPTIMISTIC") for line in lines)
    assert "OPTIMISTIC" in capsys.readouterr().err
    report.run_stage(run, experiment)
    page = run.report.read_text()
    assert "These figures are too good." in page
    assert "that it has never seen it finds" not in page


def test_without_any_held_out_image_nothing_is_evaluated(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", {"train": 2})
    run, experiment = begun(tmp_path / "run", data)
    (line,) = evaluate.run_stage(run, experiment)
    assert "nothing is evaluated" in line
    # Both places are there, though empty: DVC takes a missing one for a stage that failed.
    assert not [*run.predictions.iterdir(), *run.evaluation.iterdir()]
    assert visualise.run_stage(run, experiment) == ["0 images and 0 plots drawn"]
    report.run_stage(run, experiment)
    assert "It was not evaluated." in run.report.read_text()


def test_a_split_that_the_model_was_trained_on_is_told(tmp_path: Path) -> None:
    dataset = open_dataset(data_set(tmp_path, {"train": 2, "val": 1}))
    for name, word in (("train", "trained"), ("val", "tuned")):
        split, (notice,) = evaluate.choose_split(dataset, Experiment.model_validate({"data": {"test": name}}))
        assert split == name
        assert word in notice
        assert notice.startswith("OPTIMISTIC")


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", {"train": 1, "val": 1, "test": 2})
    run, experiment = begun(tmp_path / "run", data)
    (data / "images" / "test_1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 of 2 images could not be segmented[\s\S]*test_1.png"):
        evaluate.run_stage(run, experiment)


def test_settings_of_prediction_and_evaluation_are_used(tmp_path: Path) -> None:
    data = data_set(tmp_path / "data", {"train": 1, "val": 1, "test": 3})
    run, experiment = begun(
        tmp_path / "run", data,
        prediction={"postprocess": {"score_threshold": 0.99}},
        evaluation={"bootstrap": 0, "thresholds": [0.33], "max_images": 2, "tolerance": 3.0, "group_by": ["stain"]},
    )  # fmt: skip
    evaluate.run_stage(run, experiment)
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert (metrics["n_images"], metrics["n_pred"]) == (2, 0), "no score is above 0.99"
    assert "0.33" in metrics["matching"]["pooled"]
    assert metrics["confidence_intervals"] is None or not metrics["confidence_intervals"]
    assert metrics["boundary"]["tolerance_px"] == 3.0
    assert json.loads((run.predictions / "run.json").read_text())["thresholds"]["score_threshold"] == 0.99
