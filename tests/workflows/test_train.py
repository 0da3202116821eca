"""Training and tuning as a whole: from files to a model that predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError, DataError, OutputError
from cytomask.formats.label_images import write_labels
from cytomask.models.bundle import load_bundle, read_spec
from cytomask.training.distributed import Place
from cytomask.workflows.generated import generate_field, write_generated_dataset
from cytomask.workflows.model import load
from cytomask.workflows.train import TrainResult, train_experiment
from cytomask.workflows.trainings.preparation import Prepared
from cytomask.workflows.tune import tune_model

SETTINGS = [
    "training.epochs=6",
    "training.steps_per_epoch=15",
    "training.batch_size=4",
    "training.workers=0",
    "training.precision=float32",
    "training.device=cpu",
    "training.ema_decay=0.8",
    "training.schedule.warmup_steps=10",
    "patches.size=64",
    "model.rays=16",
    "model.backbone={kind: residual, widths: [8, 16, 24], blocks: [1, 1, 1], features: 16}",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cytomask.workflows.generated as generated

    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "SPLITS", {"train": 8, "val": 3, "test": 2})
        return write_generated_dataset(folder / "data", np.random.default_rng(0))


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train_experiment("demo", data=data, overrides=SETTINGS, out=tmp_path_factory.mktemp("runs") / "run")


def test_a_run_leaves_all_that_it_promises(run: TrainResult) -> None:
    names = {p.name for p in run.folder.iterdir()}
    assert {"experiment.yaml", "metrics.csv", "curves.png", "run.yaml", "bundle", "checkpoints", "tensorboard"} <= names
    record = yaml.safe_load((run.folder / "run.yaml").read_text())
    assert record["epochs"] == 6
    spec = read_spec(run.folder / "bundle")
    assert spec.training.data_fingerprint
    assert spec.metrics["tuning"]["images"] == 3
    assert (run.folder / "curves.png").stat().st_size > 5_000


def test_the_model_finds_blobs(run: TrainResult) -> None:
    image, labels = generate_field(np.random.default_rng(99), size=96, objects=12)
    found = load(run.folder).predict(image)
    assert 0.5 * labels.max() <= len(found) <= 2 * labels.max()
    assert ((found.to_labels() > 0) == (labels > 0)).mean() > 0.85


def test_tuning_never_makes_the_tuning_images_worse(run: TrainResult, data: Path) -> None:
    before = load_bundle(run.folder / "bundle").postprocess
    result = tune_model(run.folder, data, split="val", save=False)
    assert result.score_after >= result.score_before
    assert load_bundle(run.folder / "bundle").postprocess == before
    assert run.tuning is not None
    assert run.tuning.after == before


def test_a_run_is_not_overwritten(run: TrainResult, data: Path) -> None:
    with pytest.raises(OutputError, match="--resume"):
        train_experiment("demo", data=data, overrides=SETTINGS, out=run.folder)


def test_a_resumed_run_keeps_its_settings(run: TrainResult) -> None:
    with pytest.raises(ConfigError, match="keeps its settings"):
        train_experiment(run.folder, overrides=["training.epochs=9"], resume=True)


def test_fine_tuning_begins_with_the_weights_of_another(run: TrainResult, data: Path, tmp_path: Path) -> None:
    experiment = tmp_path / "fine.yaml"
    experiment.write_text(
        yaml.safe_dump(
            {
                "initial": str(run.folder),
                "data": {"path": str(data)},
                "patches": {"size": 64},
                "training": {
                    "epochs": 1,
                    "steps_per_epoch": 1,
                    "workers": 0,
                    "device": "cpu",
                    "precision": "float32",
                    "ema_decay": None,
                    "optimiser": {"learning_rate": 1e-9},
                },
                "tune": {"enabled": False},
            }
        )
    )
    train_experiment(experiment, out=tmp_path / "fine")
    old, new = load_bundle(run.folder / "bundle"), load_bundle(tmp_path / "fine" / "bundle")
    assert new.spec.config["rays"] == 16
    for name, value in old.segmenter.state_dict().items():
        if value.dtype.is_floating_point and "running" not in name:
            assert np.allclose(value, new.segmenter.state_dict()[name], atol=1e-5), name


def test_grid_rays_and_depth_are_chosen_from_the_data(data: Path, tmp_path: Path) -> None:
    experiment = tmp_path / "plain.yaml"
    training = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 1, "workers": 0, "device": "cpu"}
    experiment.write_text(
        yaml.safe_dump(
            {"data": {"path": str(data)}, "patches": {"size": 64}, "training": training, "tune": {"enabled": False}}
        )
    )
    result = train_experiment(experiment, out=tmp_path / "run")
    assert len(result.reasons) == 3
    resolved = yaml.safe_load((tmp_path / "run" / "experiment.yaml").read_text())
    assert resolved["model"]["grid"] == 2
    assert resolved["model"]["backbone"]["depth"] == 3


def test_what_is_wrong_with_the_data_is_said_before_anything_is_written(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    write_labels(tmp_path / "data" / "images" / "a.png", np.eye(32, dtype=np.int32))
    write_labels(tmp_path / "data" / "labels" / "b.png", np.eye(32, dtype=np.int32))
    with pytest.raises(DataError):
        train_experiment("demo", data=tmp_path / "data", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_patch_size_that_does_not_fit_the_network(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="multiple of"):
        train_experiment("demo", data=data, overrides=["patches.size=48", "model.grid=8"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_generated_data_set_is_found_whole(data: Path) -> None:
    dataset = open_dataset(data)
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [8, 3, 2]


def test_ctrl_c_before_the_end_of_the_first_epoch_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(prepared: Prepared, place: Place) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Prepared, "held_out", interrupted)
    result = train_experiment("demo", data=data, overrides=SETTINGS, out=tmp_path / "run")
    assert result.interrupted
    assert result.lines() == [
        "stopped before the first epoch was whole, so nothing is kept of it; "
        f"go on with: cytomask train {tmp_path / 'run'} --resume"
    ]
