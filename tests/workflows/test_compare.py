"""Comparing models: from runs, bundles and predictions to a leaderboard."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from cytomask.cli.app import app
from cytomask.errors import BundleError, ConfigError, DataError, OutputError
from cytomask.evaluation.confidence import Bootstrap
from cytomask.formats.label_images import write_labels
from cytomask.workflows.compare import compare_models
from cytomask.workflows.comparing.candidates import find_candidates
from cytomask.workflows.comparing.model import MeasuredModel, peak_memory_mb
from cytomask.workflows.evaluate import evaluate_predictions
from cytomask.workflows.model import load

from .test_predict_ensemble import save_model

N = 6
QUICK = {"memory": False, "bootstrap": Bootstrap(resamples=100)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright discs of radius 6 on a grid, a few of them moved from image to image; a split and a table."""
    root = tmp_path_factory.mktemp("data") / "discs"
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :120]
    lines = ["name,split,stain"]
    for split in ("train", "val"):
        for k in range(N):
            pixels, labels = np.full((96, 120), 100, np.uint16), np.zeros((96, 120), np.int32)
            for number, (y, x) in enumerate([(20, 20), (20, 60), (50, 30), (50, 90), (76, 60)], start=1):
                y, x = np.array([y, x]) + rng.integers(-3, 4, 2)
                pixels[y : y + 2, x : x + 2] = 1000
                labels[np.hypot(rows - y - 0.5, columns - x - 0.5) < 6] = number
            for kind, array in (("images", pixels), ("labels", labels)):
                (root / kind).mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(root / kind / f"{split}{k}.tif", array)
            lines.append(f"{split}{k},{split},{'A' if k < 3 else 'B'}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One of the right radius, one of a smaller one, and one that knows another class."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "right": save_model(folder, "right", 6.0, ("object",)),
        "small": save_model(folder, "small", 4.0, ("object",)),
        "other": save_model(folder, "other", 6.0, ("vessel",)),
    }


@pytest.fixture(scope="module")
def predictions(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth, without the first object of each image."""
    folder = tmp_path_factory.mktemp("made") / "by hand"
    folder.mkdir()
    for path in sorted((data / "labels").glob("val*.tif")):
        labels = tifffile.imread(path).astype(np.int32)
        labels[labels == 1] = 0
        write_labels(folder / f"{path.stem}_labels.tif", labels)
    return folder


@pytest.fixture(scope="module")
def compared(data, models, predictions, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    result = compare_models(
        [models["small"], models["right"], predictions], data, out, split="val", named=[f"hand={predictions}"], **QUICK
    )
    return out, result


def test_models_are_ranked_and_told_apart(compared):
    _, result = compared
    names = [model["name"] for model in result.table["models"]]
    assert names == ["hand", "right", "small"] or names == ["right", "hand", "small"]
    assert result.table["n_images"] == N
    assert result.table["smallest_p"] == 2 / 2**N
    small = [p for p in result.table["pairs"] if p["figure"] == "mean_accuracy_50_90" and p["second"] == "small"]
    assert len(small) == 2
    for pair in small:
        assert pair["first_better"] == N
        assert pair["p"] == 2 / 2**N


def test_a_model_gets_the_figures_that_evaluating_its_predictions_gives(compared, data, models, tmp_path):
    _, result = compared
    model = load(models["small"])
    (tmp_path / "p").mkdir()
    for path in sorted((data / "images").glob("val*.tif")):
        write_labels(tmp_path / "p" / f"{path.stem}_labels.tif", model.predict(path).to_labels())
    metrics = evaluate_predictions(tmp_path / "p", data, split="val", bootstrap=QUICK["bootstrap"]).metrics
    told = next(m for m in result.table["models"] if m["name"] == "small")
    assert told["figures"]["mean_accuracy_50_90"] == pytest.approx(metrics["mean_accuracy_50_90"], abs=1e-12)
    assert told["figures"]["aji"] == pytest.approx(metrics["aji"])
    assert told["figures"]["pixel_iou"] == pytest.approx(metrics["pixels"]["iou"]["object"])
    assert told["error_kinds"] == metrics["error_kinds"]
    bounds = metrics["confidence_intervals"]["mean_accuracy_50_90"]
    assert told["confidence_intervals"]["mean_accuracy_50_90"] == pytest.approx(bounds)
    # Scores are known of the model itself, not of its label images.
    assert told["figures"]["coco_ap"] is not None
    assert metrics["coco"]["segm"] is None


def test_what_is_written_agrees_with_itself(compared):
    out, result = compared
    assert json.loads((out / "comparison.json").read_text()) == result.table
    with (out / "leaderboard.csv").open(encoding="utf-8") as file:
        board = list(csv.DictReader(file))
    assert [row["model"] for row in board] == [m["name"] for m in result.table["models"]]
    hand = next(row for row in board if row["model"] == "hand")
    assert float(hand["mean_accuracy_50_90"]) == pytest.approx(0.8)
    assert int(hand["truth_missed"]) == N
    assert hand["seconds_per_megapixel"] == ""
    assert float(board[-1]["seconds_per_megapixel"]) > 0
    assert int(board[-1]["parameters"]) > 100
    assert int(board[-1]["file_bytes"]) > 1000
    with (out / "per_image.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * N
    for name in {row["name"] for row in rows}:
        of_image = [row for row in rows if row["name"] == name]
        best = max(float(row["mean_accuracy_50_90"]) for row in of_image)
        assert {float(row["mean_accuracy_50_90"]) for row in of_image if row["rank"] == "1"} == {best}
    with (out / "pairs.csv").open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file))
    for pair in pairs:
        assert float(pair["first_value"]) - float(pair["second_value"]) == pytest.approx(float(pair["difference"]))
    text = (out / "leaderboard.md").read_text(encoding="utf-8")
    assert "| 3 | small |" in text
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert page.count("data:image/") >= 2, "pictures of images on which models disagree"
    assert "Stain" in page or "stain" in page


def test_groups_and_sizes_are_told_by_model(compared):
    _, result = compared
    for model in result.table["models"]:
        assert set(model["by_group"]["stain"]) == {"A", "B"}
        assert sum(one["n"] for one in model["by_size"]) == 5 * N


def test_an_ensemble_and_classes_of_other_names_take_part(data, models, tmp_path, capsys):
    both = f"{models['right']}+{models['small']}"
    result = compare_models([both, models["other"]], data, tmp_path / "o", page=False, **QUICK)
    assert {m["name"] for m in result.table["models"]} == {both, "other"}
    parts = [MeasuredModel([models[name]], tmp_path) for name in ("right", "small")]
    ensemble = next(m for m in result.table["models"] if m["name"] == both)
    assert ensemble["n_pred"] > 0
    assert ensemble["family"] == "star"
    assert parts[0].classes == ("object",)
    assert not (tmp_path / "o" / "compare.html").exists()


def test_an_annotator_is_compared_on_the_images_that_it_has(data, models, tmp_path):
    folder = tmp_path / "second person"
    folder.mkdir()
    for path in sorted((data / "labels").glob("val*.tif"))[:2]:
        write_labels(folder / path.name, tifffile.imread(path).astype(np.int32))
    result = compare_models([models["small"]], data, tmp_path / "o", annotators=[folder], page=False, **QUICK)
    person = result.table["models"][0]
    assert (person["kind"], person["n_images"], person["figures"]["f1_50"]) == ("annotator", 2, 1.0)
    assert {pair["n_images"] for pair in result.table["pairs"]} == {2}


def test_a_model_that_fails_is_told_and_the_others_are_compared(data, models, tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.yaml").write_bytes((models["small"] / "model.yaml").read_bytes())
    result = compare_models([tmp_path / "broken", models["right"]], data, tmp_path / "o", page=False, **QUICK)
    assert [m["name"] for m in result.table["models"]] == ["right"]
    assert [one["name"] for one in result.table["failed"]] == ["broken"]
    assert any("broken is left out" in notice for notice in result.table["notices"])
    with pytest.raises(BundleError):
        compare_models([tmp_path / "broken"], data, tmp_path / "o2", page=False, **QUICK)


def test_few_images_prove_nothing_and_that_is_said(data, models, tmp_path):
    few = tmp_path / "few"
    for kind in ("images", "labels"):
        (few / kind).mkdir(parents=True)
        for k in range(3):
            (few / kind / f"{k}.tif").write_bytes((data / kind / f"val{k}.tif").read_bytes())
    (few / "manifest.csv").write_text("name,split\n0,val\n1,val\n2,val\n", encoding="utf-8")
    result = compare_models([models["right"], models["small"]], few, tmp_path / "o", page=False, **QUICK)
    assert any("cannot show that one model is better" in notice for notice in result.table["notices"])
    assert "0.25" in (tmp_path / "o" / "leaderboard.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"rank_by": "beauty"}, ConfigError, "no such figure"),
        ({"split": "nowhere"}, DataError, "nowhere"),
        ({"runs": []}, ConfigError, "nothing to compare"),
        ({"runs": ["no/such/run"]}, BundleError, "nothing of that name"),
        ({"named": ["a"]}, ConfigError, "NAME=RUN"),
    ],
)
def test_mistakes_are_told_before_anything_is_done(data, models, tmp_path, change, error, said):
    settings = {"runs": [models["right"]], "data": data, "out": tmp_path / "o"} | change
    with pytest.raises(error, match=said):
        compare_models(**settings, **QUICK)
    assert not (tmp_path / "o").exists()


def test_names_are_unlike(models, tmp_path):
    save_model(tmp_path, "right", 6.0, ("object",))
    names = [one.name for one in find_candidates([models["right"], tmp_path / "right"])]
    assert names == ["right", f"{tmp_path.name}/right"]
    assert [one.name for one in find_candidates([models["right"]], [f"best={models['right']}"])] == ["best"]
    with pytest.raises(ConfigError, match="same name"):
        find_candidates([], [f"a={models['right']}", f"a={models['small']}"])


def test_memory_is_that_of_a_process_of_its_own(data, models):
    found = peak_memory_mb([models["right"]], data, "val0", "cpu")
    assert found is not None
    assert 100 < found < 4000


def test_the_command(data, models, tmp_path):
    words = ["compare", str(models["right"]), "--data", str(data), "--out", str(tmp_path / "o"), "--no-memory"]
    words += ["--name", f"tiny={models['small']}", "--rank-by", "pixel_iou", "--no-page", "--resamples", "50"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert "1. right" in result.output
    assert "2. tiny" in result.output
    assert "Pixel IoU" in result.output


def test_a_folder_with_other_settings_is_not_taken(data, tmp_path):
    experiment = tmp_path / "mine.yaml"
    experiment.write_text("training: {epochs: 1}\n", encoding="utf-8")
    run = tmp_path / "o" / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "experiment.yaml").write_text("name: other\n", encoding="utf-8")
    with pytest.raises(OutputError, match="other settings"):
        compare_models([experiment], data, tmp_path / "o", **QUICK)
