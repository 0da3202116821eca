"""The table of steps: right numbers, and whole after a run that broke off."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cytomask.training.config import TrainingConfig
from cytomask.training.module import TrainingModule
from cytomask.training.step_table import StepTable, _memory_mb, _rows_until

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's advice


class Slope(TrainingModule):
    """A module of one weight whose losses are known: its batch's number, and twice that."""

    def __init__(self, late: int | None = None) -> None:
        super().__init__(torch.nn.Linear(1, 1), TrainingConfig(), None, None)  # type: ignore[arg-type]
        self.late = late

    def training_step(self, batch: Any, batch_index: int) -> Tensor:  # type: ignore[override]
        value = batch.float().mean()
        losses = {"a": value, "b": 2 * value}
        if self.late is not None and int(value) >= self.late:
            losses["late"] = value
        self.step_losses = {**losses, "loss": sum(losses.values(), torch.zeros(()))}
        return self.segmenter(value.reshape(1, 1)).sum()

    def configure_optimizers(self) -> Any:
        optimiser = torch.optim.SGD(self.parameters(), lr=0.5)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 / (1 + step))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Numbers(Dataset):
    def __init__(self, n: int, stop_at: int | None = None) -> None:
        self.n, self.stop_at = n, stop_at

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Tensor:
        if index == self.stop_at:
            raise RuntimeError("the machine goes down")
        return torch.tensor(index)


def train(folder: Path, module: Slope, n: int, *, epochs: int = 1, resume: bool = False, **options: Any) -> None:
    stop_at, every = options.pop("stop_at", None), options.pop("every", 10)
    save = pl.callbacks.ModelCheckpoint(folder, filename="last", save_top_k=1, enable_version_counter=False,
                                        every_n_epochs=1, save_on_train_epoch_end=True)  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=epochs, logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[StepTable(folder / "steps.csv", every), save], **options,
    )  # fmt: skip
    trainer.fit(module, DataLoader(Numbers(n, stop_at)), ckpt_path=str(folder / "last.ckpt") if resume else None)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "steps.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_hold_means_of_their_steps(tmp_path: Path) -> None:
    train(tmp_path, Slope(), 25)
    rows = rows_of(tmp_path)
    assert [(int(r["step"]), int(r["epoch"])) for r in rows] == [(10, 0), (20, 0), (25, 0)]
    assert [float(r["train/a"]) for r in rows] == [4.5, 14.5, 22.0]
    assert [float(r["train/loss"]) for r in rows] == [13.5, 43.5, 66.0]
    # The rate that the row's last step was made with.
    assert [float(r["learning_rate"]) for r in rows] == pytest.approx([0.5 / 10, 0.5 / 20, 0.5 / 25], rel=1e-5)
    for row in rows:
        assert 0 < float(row["seconds_waiting"]) < float(row["seconds_per_step"]) < 10
        assert 50 < float(row["memory_mb"]) < 1e5


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    train(tmp_path, Slope(), 12, every=2, accumulate_grad_batches=3)
    rows = rows_of(tmp_path)
    assert [int(r["step"]) for r in rows] == [2, 4]
    assert [float(r["train/a"]) for r in rows] == [2.5, 8.5]


def test_a_loss_that_comes_late_finds_its_column(tmp_path: Path) -> None:
    train(tmp_path, Slope(late=10), 20)
    rows = rows_of(tmp_path)
    assert [r["train/late"] for r in rows] == ["", "14.5"]
    assert [r["train/a"] for r in rows] == ["4.5", "14.5"]


def without_time(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if not k.startswith(("seconds", "memory"))} for row in rows]


def test_a_resumed_run_has_the_rows_of_one_that_never_broke_off(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    train(tmp_path / "whole", Slope(), 14, epochs=3)
    train(tmp_path / "broken", Slope(), 14, epochs=1)
    assert [int(r["step"]) for r in rows_of(tmp_path / "broken")] == [10, 14]
    # What a run left that went on and was killed in the middle of a line.
    with (tmp_path / "broken" / "steps.csv").open("a") as file:
        file.write("20,1,0.1,1,1,1,1,1,1\n30,2,0.1,1")
    train(tmp_path / "broken", Slope(), 14, epochs=3, resume=True)
    rows = without_time(rows_of(tmp_path / "broken"))
    # The row of the end of the first run stays; the others are those of the whole one.
    assert [int(r["step"]) for r in rows] == [10, 14, 20, 30, 40, 42]
    whole = without_time(rows_of(tmp_path / "whole"))
    assert [r for r in rows if r["step"] != "14"] == whole


def test_a_new_run_begins_a_new_table(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,epoch\n10,0\n")
    train(tmp_path, Slope(), 10)
    assert [r["step"] for r in rows_of(tmp_path)] == ["10"]


def test_lines_that_broke_off_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "steps.csv").write_text("step,epoch,train/a\n10,0,1\n20,0\n,,\n30,0,2,5\n40,1,3")
    assert [r["step"] for r in _rows_until(tmp_path / "steps.csv", 100)] == ["10", "40"]
    assert _rows_until(tmp_path / "none.csv", 100) == []


def test_memory_is_told_on_the_cpu() -> None:
    memory = _memory_mb(torch.device("cpu"))
    assert memory is not None
    assert math.isfinite(memory)
    assert memory > 50
