"""Running an experiment: which stages run, why, and that what comes out is the same whatever happened on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from cytomask.errors import ConfigError, OutputError
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.models.bundle import load_bundle, read_spec
from cytomask.workflows.comparing.candidates import find_candidates
from cytomask.workflows.evaluate import evaluate_predictions
from cytomask.workflows.experiment import read_experiment
from cytomask.workflows.generated import write_generated_dataset
from cytomask.workflows.models import find_model
from cytomask.workflows.run import RunResult, run_experiment
from cytomask.workflows.run_folder import RunFolder
from cytomask.workflows.stages.lock import run_locked
from cytomask.workflows.stages.table import STAGES
from cytomask.workflows.train import train_experiment

ALL = ["prepare", "train", "tune", "evaluate", "visualise", "report"]
EXPERIMENT = {
    "name": "blobs",
    "description": "Generated blobs",
    "data": {"path": "data"},
    "patches": {"size": 64},
    "model": {
        "family": "star",
        "rays": 16,
        "backbone": {"kind": "residual", "widths": [8, 16], "blocks": [1, 1], "features": 8},
    },
    "training": {
        "epochs": 2,
        "steps_per_epoch": 12,
        "batch_size": 2,
        "workers": 0,
        "precision": "float32",
        "device": "cpu",
        "ema_decay": None,
        "optimiser": {"learning_rate": 0.01},
        "schedule": {"warmup_steps": 2},
    },
    "evaluation": {"bootstrap": 20},
    "visualise": {"images": 1},
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, an experiment and its finished run; tests copy it."""
    import cytomask.workflows.generated as generated

    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "SPLITS", {"train": 4, "val": 2, "test": 2})
        write_generated_dataset(folder / "data", np.random.default_rng(0))
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    result = run_experiment(folder / "experiment.yaml", out=folder / "runs" / "blobs")
    assert {name: len(why) for name, why in result.why.items()} == dict.fromkeys(ALL, 1)
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all that, in which the test works."""
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def again(*overrides: str, **options: object) -> RunResult:
    return run_experiment("experiment.yaml", overrides=overrides, **options)  # type: ignore[arg-type]


def ran(result: RunResult) -> list[str]:
    return [name for name, why in result.why.items() if why]


def planned(*overrides: str) -> list[str]:
    return ran(again(*overrides, dry_run=True))


def test_all_stages_leave_what_the_folder_promises(finished: Path) -> None:
    run = RunFolder(finished / "runs" / "blobs")
    for path in (run.experiment, run.state, run.tuning, run.report, run.data / "data.json", run.bundle / "model.yaml"):
        assert path.is_file(), path
    assert (run.trained() / "metrics.csv").is_file()
    assert read_spec(run.bundle).metrics["tuning"]["images"] == 2
    assert "tuning" not in read_spec(run.train / "bundle").metrics
    assert json.loads(run.tuning.read_text())["score_after"] >= json.loads(run.tuning.read_text())["score_before"]
    assert all(stage["status"] == "done" for stage in json.loads(run.state.read_text())["stages"].values())


@pytest.mark.parametrize("name", ["..", ".", "a/b", ""])
def test_a_name_that_leads_out_of_the_runs_is_refused(name: str) -> None:
    # The run's folder is called so.
    with pytest.raises(ConfigError, match="name"):
        read_experiment("nuclei", [f"name='{name}'"])


def test_places_belong_to_one_stage_each() -> None:
    places = [place for stage in STAGES.values() for place in stage.places]
    assert len(places) == len(set(places))
    assert list(STAGES) == ALL
    for stage in STAGES.values():
        for path in stage.reads:
            assert path.split("/")[0] in places


def test_what_is_counted_is_right(finished: Path) -> None:
    content = json.loads((finished / "runs" / "blobs" / "data" / "data.json").read_text())
    for split in content["splits"]:
        files = sorted((finished / "data" / split["name"] / "labels").iterdir())
        assert split["images"] == len(files)
        assert split["objects"] == sum(len(np.unique(read_labels(file))) - 1 for file in files)
        assert split["objects_per_class"] == {"object": split["objects"]}
    assert content["objects"] == sum(split["objects"] for split in content["splits"])
    assert {split["name"]: split["role"] for split in content["splits"]} == {
        "train": "train",
        "val": "validation",
        "test": "test",
    }
    areas = [
        np.unique(labels[labels > 0], return_counts=True)[1]
        for labels in map(read_labels, sorted((finished / "data" / "train" / "labels").iterdir()))
    ]
    diameters = 2 * np.sqrt(np.concatenate(areas) / np.pi)
    assert content["sizes"]["diameter_p50"] == pytest.approx(np.median(diameters))
    assert len(content["examples"]) == 4
    for example in content["examples"]:
        assert (finished / "runs" / "blobs" / "data" / example["file"]).stat().st_size > 1000


def test_a_second_run_does_nothing_and_loads_nothing_heavy(place: Path) -> None:
    # The copy's files have other times: the first look reads them again.
    assert ran(again()) == []
    before = {p: p.stat().st_mtime_ns for p in (place / "runs").rglob("*")}
    code = (
        "import sys; from cytomask.__main__ import main; main(['run']); "
        "print([m for m in ('torch', 'lightning', 'pandas', 'numba', 'scipy', 'skimage') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "nothing to do"
    assert lines[-1] == "[]"
    assert done.stderr.count("done before") == len(ALL)
    del before[place / "runs" / "blobs" / ".run.lock"]
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("prediction.postprocess.score_threshold=0.6", ["evaluate", "visualise", "report"]),
        ("report.title=Blobs", ["report"]),
        ("visualise.grey=true", ["visualise", "report"]),
        ("tune.metric=iou", ["tune", "evaluate", "visualise", "report"]),
        ("training.epochs=3", ["train", "tune", "evaluate", "visualise", "report"]),
        ("training.workers=2", []),
        ("training.device=auto", []),
        ("patches.cache_gb=1", []),
        ("tracking.mlflow.uri=sqlite:///a.db", []),
        ("data.normalisation={method: percentile, high: 98}", ALL),
    ],
)
def test_a_changed_setting_runs_only_what_it_touches(place: Path, override: str, expected: list[str]) -> None:
    result = again(override, dry_run=True)
    assert ran(result) == expected
    if expected:
        assert override.split("=")[0] in result.why[expected[0]][0]


def test_a_dry_run_changes_nothing(place: Path) -> None:
    before = {p: p.read_bytes() for p in sorted((place / "runs").rglob("*")) if p.is_file() and p.name[0] != "."}
    lines = again("report.title=New", dry_run=True).lines()
    assert lines[0] == "prepare: done before"
    assert lines[-1] == "report: would run: report.title changed: null → New"
    assert before == {p: p.read_bytes() for p in before}


def test_a_changed_title_writes_the_page_anew_and_back(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    assert ran(again("report.title=All my blobs")) == ["report"]
    assert "All my blobs" in run.report.read_text()
    assert ran(again("report.title=All my blobs")) == []
    assert ran(again()) == ["report"]
    assert "All my blobs" not in run.report.read_text()


def test_a_changed_threshold_changes_predictions_only(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    weights = (run.bundle / "weights.safetensors").read_bytes()
    result = again("prediction.postprocess.score_threshold=0.9")
    assert ran(result) == ["evaluate", "visualise", "report"]
    assert "prediction.postprocess.score_threshold" in result.why["evaluate"][0]
    record = json.loads((run.predictions / "run.json").read_text())
    assert "0.9" in json.dumps(record)
    assert (run.bundle / "weights.safetensors").read_bytes() == weights
    assert yaml.safe_load(run.experiment.read_text())["prediction"]["postprocess"] == {"score_threshold": 0.9}


def test_damage_is_noticed(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    labels = next(run.predictions.glob("*_labels.tif"))
    labels.unlink()
    result = again(dry_run=True)
    assert ran(result) == ["evaluate", "visualise", "report"]
    assert f"predictions/{labels.name} gone or changed" in result.why["evaluate"]
    metrics = (run.evaluation / "metrics.json").read_bytes()
    assert ran(again())[0] == "evaluate"
    assert labels.is_file()
    assert json.loads((run.evaluation / "metrics.json").read_bytes())["matching"] == json.loads(metrics)["matching"]
    run.report.write_text("another")
    assert ran(again()) == ["report"]


def test_a_lost_model_is_made_anew_without_training_again(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    weights = run.train / "bundle" / "weights.safetensors"
    content, table = weights.read_bytes(), (run.train / "metrics.csv").read_bytes()
    weights.unlink()
    # What the later stages read is the same again; the page tells how long it took.
    assert ran(again()) in (["train"], ["train", "report"])
    assert weights.read_bytes() == content
    assert (run.train / "metrics.csv").read_bytes() == table


def test_what_is_only_told_of_a_model_is_told_without_training_again(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    kept = ("checkpoints/last.ckpt", "metrics.csv", "bundle/weights.safetensors")
    before = {name: (run.train / name).read_bytes() for name in kept}
    record = yaml.safe_load((run.train / "run.yaml").read_text())
    changed = ("data.licence=CC0-1.0", "description=Blobs for all", "name=dots")
    result = again(*changed, out=run.path)
    assert len(result.why["train"][0]) > 0
    assert {name: (run.train / name).read_bytes() for name in kept} == before
    for bundle in (run.train / "bundle", run.bundle):
        spec = read_spec(bundle)
        assert (spec.name, spec.training.data, spec.training.data_licence) == ("dots", "Blobs for all", "CC0-1.0")
    after = yaml.safe_load((run.train / "run.yaml").read_text())
    assert after["minutes"] >= record["minutes"]
    assert after | {"minutes": 0} == record | {"minutes": 0}
    assert ran(again(*changed, out=run.path)) == []
    # Beside a setting that matters all is done anew.
    (run.train / "stray.txt").write_text("of the old one")
    again("training.epochs=1", "training.steps_per_epoch=1", out=run.path, stages=["prepare", "train"])
    assert not (run.train / "stray.txt").exists()


@pytest.mark.parametrize("change", ["content", "new", "gone", "touched", "meaning"])
def test_changed_data_are_noticed(place: Path, change: str) -> None:
    assert planned() == []
    images, labels = place / "data" / "train" / "images", place / "data" / "train" / "labels"
    if change == "content":
        found = read_labels(labels / "train_000.png")
        found[found == 1] = 0
        write_labels(labels / "train_000.png", found)
    elif change == "new":
        shutil.copy(images / "train_000.png", images / "train_900.png")
        shutil.copy(labels / "train_000.png", labels / "train_900.png")
    elif change == "gone":
        (images / "train_000.png").unlink()
        (labels / "train_000.png").unlink()
    elif change == "touched":
        os.utime(images / "train_000.png")
    elif change == "meaning":
        (place / "data" / "dataset.yaml").write_text("steps:\n  - fill_label_holes\n")
    if change == "touched":
        assert planned() == []
    else:
        result = again(dry_run=True)
        assert ran(result) == ALL
        assert result.why["train"] == ["the data changed"]


def test_data_elsewhere_are_the_same_data(place: Path) -> None:
    (place / "data").rename(place / "moved")
    assert ran(again(data=place / "moved", dry_run=True)) == []


def test_a_changed_program_is_noticed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cytomask.workflows.stages.state as stage_state

    package = place / "package"
    shutil.copytree(stage_state._PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "shipped"))
    code = stage_state.code_digest
    monkeypatch.setattr(stage_state, "code_digest", lambda parts: code(parts, package))
    (package / "training" / "fit.py").write_text("# other\n")
    result = again(dry_run=True)
    assert ran(result) == ALL[1:]
    assert result.why["train"] == ["cytomask's code changed"]
    assert "shipped" not in str(result.why)


def test_one_stage_needs_those_before_it(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"tune\.metric changed"):
        again("tune.metric=iou", stages=["evaluate"])
    with pytest.raises(ConfigError, match="--from prepare"):
        run_experiment("experiment.yaml", out="runs/new", stages=["report"])
    assert ran(again("tune.metric=iou", start="tune")) == ALL[2:]
    assert ran(again("tune.metric=iou", stages=["visualise"], force=True)) == ["visualise"]
    with pytest.raises(ConfigError, match="no such stage"):
        again(stages=["testing"])


def test_without_tuning_the_model_is_copied(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    assert "switched off" in again("tune.enabled=false", stages=["tune"]).said["tune"][0]
    assert (run.bundle / "model.yaml").read_bytes() == (run.train / "bundle" / "model.yaml").read_bytes()
    assert json.loads(run.tuning.read_text()) == {"tuned": False, "why": "tuning is switched off"}


def test_the_same_seed_gives_the_same_weights_and_figures(place: Path) -> None:
    first, second = RunFolder(place / "runs" / "blobs"), RunFolder(place / "runs" / "second")
    assert ran(again(out=second.path)) == ALL
    for name in ("train/bundle/weights.safetensors", "bundle/weights.safetensors"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()
    assert _figures(first) == _figures(second)
    assert json.loads(first.tuning.read_text()) == json.loads(second.tuning.read_text())


def _figures(run: RunFolder) -> dict[str, object]:
    """Figures of an evaluation, without when and from where."""
    found = json.loads((run.evaluation / "metrics.json").read_text())
    assert found["matching"]["pooled"]["0.50"]["true"] > 10 if "true" in found["matching"]["pooled"]["0.50"] else True
    return {name: found[name] for name in ("matching", "mean_accuracy_50_90", "pixels", "coco") if name in found}


def _start(place: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "cytomask", "run", *arguments]
    return subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for(reached: Callable[[], bool], process: subprocess.Popen) -> None:
    until = time.monotonic() + 600
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_killed_training_goes_on_to_the_same_weights(place: Path) -> None:
    whole, broken = RunFolder(place / "runs" / "blobs"), RunFolder(place / "runs" / "broken")
    process = _start(place, "--out", str(broken.path), "--stage", "prepare", "--stage", "train")
    try:
        _wait_for((broken.train / "checkpoints" / "last.ckpt").is_file, process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    if not (broken.train / "bundle" / "model.yaml").is_file():
        result = again(out=broken.path, stages=["prepare", "train"])
        assert result.why["prepare"] == []
        assert result.why["train"] == ["it was broken off, and goes on"]
    name = "bundle/weights.safetensors"
    assert (whole.train / name).read_bytes() == (broken.train / name).read_bytes()
    epochs = [line.split(",")[0] for line in (broken.train / "metrics.csv").read_text().splitlines()]
    assert epochs == ["epoch", "0", "1"]


def test_what_was_broken_off_is_not_gone_on_with_when_settings_have_changed(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    record = json.loads(run.state.read_text())
    record["stages"]["train"] |= {"status": "running", "files": {}}
    run.state.write_text(json.dumps(record))
    result = again("training.seed=5", dry_run=True)
    assert result.why["train"] == ["training.seed changed: 0 → 5"]
    (run.train / "stray.txt").write_text("of the old one")
    again("training.seed=5", "training.epochs=1", "training.steps_per_epoch=1", stages=["train"])
    assert not (run.train / "stray.txt").exists()


def test_two_runs_at_once(place: Path) -> None:
    with run_locked(place / "runs" / "blobs"):
        done = subprocess.run(
            [sys.executable, "-m", "cytomask", "run"], cwd=place, capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert "another run is working in this folder" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    # The lock's file is still there, but nobody holds it.
    assert ran(again()) == []


def test_results_of_others_are_not_replaced(place: Path) -> None:
    (place / "mine" / "bundle").mkdir(parents=True)
    (place / "mine" / "bundle" / "weights.safetensors").write_text("precious")
    with pytest.raises(OutputError, match="not made by"):
        again(out="mine")
    assert (place / "mine" / "bundle" / "weights.safetensors").read_text() == "precious"


def test_a_damaged_record_is_told(place: Path) -> None:
    state = RunFolder(place / "runs" / "blobs").state
    state.write_text(state.read_text()[:100])
    with pytest.raises(OutputError, match=r"stages\.json"):
        again()


def test_a_run_is_a_model_for_other_commands(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    assert find_model(run.path) == run.bundle
    load_bundle(find_model(run.path))
    (candidate,) = find_candidates([run.path])
    assert (candidate.name, candidate.kind, candidate.run) == ("blobs", "model", run.train)
    # It can be run again by its folder alone.
    assert ran(run_experiment(run.path)) == []


def test_the_folder_of_a_run_stands_for_what_it_predicted(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    found = evaluate_predictions(run.path, place / "data", split="test").metrics
    kept = json.loads((run.evaluation / "metrics.json").read_text())
    assert found["predictions"] == str(run.predictions)
    assert found["matching"] == kept["matching"]


def test_a_wrong_column_is_told_before_training(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.group_by"):
        again("evaluation.group_by=[tissue]", force=True)


def test_the_training_of_a_run_can_be_resumed_by_itself(place: Path) -> None:
    run = RunFolder(place / "runs" / "blobs")
    weights = (run.train / "bundle" / "weights.safetensors").read_bytes()
    shutil.rmtree(run.train / "bundle")
    result = train_experiment(run.path, resume=True)
    assert result.folder == run.train
    assert result.tuning is None
    assert (run.train / "bundle" / "weights.safetensors").read_bytes() == weights


def test_trackers_hear_of_each_stage_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cytomask.workflows.run as run_module

    told: list[str] = []
    monkeypatch.setattr(run_module, "track_stage", lambda stage, *_: told.append(stage))
    again("tracking.mlflow={}", "report.title=Tracked")
    assert told == ["report"]
    # The store lies beside the experiment's file, wherever the command was given.
    monkeypatch.chdir(place.parent)
    run_experiment("work/experiment.yaml", out="work/runs/blobs", overrides=["tracking.mlflow={}"], stages=["prepare"])
    saved = yaml.safe_load((place / "runs" / "blobs" / "experiment.yaml").read_text())
    assert saved["tracking"]["mlflow"]["uri"] == f"sqlite:///{place / 'mlruns.db'}"
