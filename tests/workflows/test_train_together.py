"""Training in two processes from the files to the model: as one process does it, and what can go wrong."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from cytomask.errors import ConfigError, DataError, TrainingError
from cytomask.training.config import TrainingConfig
from cytomask.training.distributed import Place, place_of_launcher
from cytomask.training.loaders import ShareOfBatches
from cytomask.workflows.generated import write_generated_dataset
from cytomask.workflows.train import TrainResult, train_experiment
from cytomask.workflows.trainings.together import Team, is_lost, team_of

SETTINGS = [
    "training.epochs=2",
    "training.steps_per_epoch=4",
    "training.batch_size=4",
    "training.accumulate=2",
    "training.workers=0",
    "training.validate_every=1",
    "training.precision=float32",
    "training.device=cpu",
    "training.ema_decay=0.8",
    "training.schedule.warmup_steps=2",
    "training.optimiser.learning_rate=0.003",
    "patches.size=64",
    "model.rays=8",
    "model.backbone={kind: residual, widths: [6, 8], blocks: [1, 1], features: 8}",
    "tune.enabled=false",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cytomask.workflows.generated as generated

    folder = tmp_path_factory.mktemp("generated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "SPLITS", {"train": 4, "val": 3, "test": 1})
        return write_generated_dataset(folder / "data", np.random.default_rng(0))


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return train_experiment("demo", data=data, overrides=SETTINGS, out=tmp_path_factory.mktemp("alone") / "run")


@pytest.fixture(scope="module")
def watched() -> list[tuple[int, dict[str, float]]]:
    return []


@pytest.fixture(scope="module")
def together(
    data: Path, tmp_path_factory: pytest.TempPathFactory, watched: list[tuple[int, dict[str, float]]]
) -> TrainResult:
    return train_experiment(
        "demo", data=data, overrides=SETTINGS, out=tmp_path_factory.mktemp("together") / "run", devices=2,
        watch=lambda epoch, figures: watched.append((epoch, figures)),
    )  # fmt: skip


def rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_curve(first: Path, second: Path) -> None:
    one, two = rows(first), rows(second)
    assert [list(row) for row in one] == [list(row) for row in two]
    for a, b in zip(one, two, strict=True):
        assert a == pytest.approx(b, rel=2e-4, abs=1e-5)


def test_two_processes_train_as_one(alone: TrainResult, together: TrainResult) -> None:
    assert_same_curve(alone.folder, together.folder)
    name = "checkpoints/best.safetensors"
    one, two = load_file(alone.folder / name), load_file(together.folder / name)
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=1e-3, atol=1e-5, msg=lambda m, key=key: f"{key}: {m}")
    assert not torch.distributed.is_initialized()


def test_only_the_main_process_writes(alone: TrainResult, together: TrainResult) -> None:
    names = {p.relative_to(alone.folder).as_posix() for p in alone.folder.rglob("*") if "events" not in p.name}
    assert names == {
        p.relative_to(together.folder).as_posix() for p in together.folder.rglob("*") if "events" not in p.name
    }
    assert len(list((together.folder / "tensorboard").glob("events*"))) == 1
    assert yaml.safe_load((together.folder / "experiment.yaml").read_text())["training"]["devices"] == 2


def test_who_watches_is_told_each_epoch_once(
    together: TrainResult, watched: list[tuple[int, dict[str, float]]]
) -> None:
    assert [epoch for epoch, _ in watched] == [0, 1]
    for (_, figures), row in zip(watched, rows(together.folder), strict=True):
        assert figures["train/loss"] == pytest.approx(row["train/loss"], rel=1e-4)
        assert {"val/score", "val/loss"} <= figures.keys()


def test_what_another_process_meets_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process cannot read its validation image; the first one is all right."""
    start = Team._start

    def broken(team: Team, rank: int, folder: Path, begun: bool) -> subprocess.Popen:
        settings = yaml.safe_load((folder / "experiment.yaml").read_text())
        settings["data"]["path"] = str(tmp_path / "nowhere")
        (folder / "experiment.yaml").write_text(yaml.safe_dump(settings))
        return start(team, rank, folder, begun)

    monkeypatch.setattr(Team, "_start", broken)
    with pytest.raises(DataError, match="nowhere"):
        train_experiment("demo", data=data, overrides=SETTINGS, out=tmp_path / "run", devices=2)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """The processes that are started in a test."""
    started: list[subprocess.Popen] = []
    start = Team._start

    def kept(team: Team, rank: int, folder: Path, begun: bool) -> subprocess.Popen:
        started.append(start(team, rank, folder, begun))
        return started[-1]

    monkeypatch.setattr(Team, "_start", kept)
    return started


def test_a_process_that_dies_ends_the_training(data: Path, tmp_path: Path, others: list[subprocess.Popen]) -> None:
    with pytest.raises(TrainingError, match=r"without saying why(.|\n)*status -9"):
        train_experiment(
            "demo", data=data, overrides=SETTINGS, out=tmp_path / "run", devices=2, watch=lambda *_: others[0].kill()
        )
    assert not torch.distributed.is_initialized()


def test_after_ctrl_c_all_end_and_the_run_goes_on_with_one(
    data: Path, alone: TrainResult, tmp_path: Path, others: list[subprocess.Popen]
) -> None:
    def interrupt(epoch: int, figures: dict[str, float]) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    result = train_experiment(
        "demo", data=data, overrides=SETTINGS, out=tmp_path / "run", devices=2, watch=interrupt
    )  # fmt: skip
    assert result.interrupted
    assert others[0].poll() is not None
    epochs: list[int] = []
    train_experiment(tmp_path / "run", resume=True, devices=1, watch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1]
    assert len(others) == 1
    assert_same_curve(alone.folder, tmp_path / "run")


@pytest.mark.parametrize("batch", [6, 8])
def test_each_item_of_a_batch_is_one_processes(batch: int) -> None:
    places = [Place(rank, 2, rank, 2) for rank in range(2)]
    shares = [list(ShareOfBatches(20, batch, place)) for place in places]
    assert [a + b for a, b in zip(*shares, strict=True)] == list(ShareOfBatches(20, batch))


def test_the_processes_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert place_of_launcher(TrainingConfig(devices=2, nodes=2)) == (Place(3, 4, 1, 2), "env://")
    with pytest.raises(ConfigError, match="--devices 2 --nodes 2"):
        place_of_launcher(TrainingConfig())


def test_the_processes_of_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS": "4", "SLURM_PROCID": "2",
        "SLURM_LOCALID": "0", "SLURM_NODEID": "1", "SLURM_JOB_ID": "1234", "SLURM_NODELIST": "node[3-4]",
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert place_of_launcher(TrainingConfig(devices=2, nodes=2)) == (Place(2, 4, 0, 2), "tcp://node3:16234")
    with pytest.raises(ConfigError, match="srun started another number"):
        place_of_launcher(TrainingConfig(devices=4, nodes=2))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="torchrun --nnodes 2"):
        team_of(TrainingConfig(nodes=2))
    with pytest.raises(ConfigError, match="multiple of 3"):
        team_of(TrainingConfig().model_copy(update={"devices": 3}))
    with pytest.raises(ValueError, match="multiple of 3"):
        TrainingConfig(devices=3)


def test_a_lost_process_is_no_cause() -> None:
    assert is_lost(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3"))
    assert not is_lost(RuntimeError("out of memory"))
    assert not is_lost(KeyError("gloo"))


def test_under_torchrun(data: Path, alone: TrainResult, tmp_path: Path) -> None:
    """Both processes are started by somebody else, with the same command."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "cytomask"]
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    told = subprocess.run(
        [*command, "train", "demo", "--data", str(data), "--out", str(tmp_path / "run"), "--devices", "2", *settings],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert_same_curve(alone.folder, tmp_path / "run")
    assert told.stdout.count("model:") == 1
    assert told.stderr.count("epoch 1/2") == 1
