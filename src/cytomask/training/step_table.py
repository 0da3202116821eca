"""What a run writes while it trains, step by step: losses, learning rate, time, and memory, in ``steps.csv``."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from cytomask.errors import OutputError
from cytomask.output import replacing
from cytomask.training.module import module_settings, step_losses_of

STEP_TABLE = "steps.csv"


class StepTable(pl.Callback):
    """Writes ``steps.csv``, one row for every ``every`` steps of the optimiser; only the main process writes.

    Columns: ``step`` (how many were done, from 1), ``epoch`` (from 0), ``learning_rate`` (where it differs between
    parts also ``learning_rate_first_layers``), ``train/NAME`` for each loss and ``train/loss`` for their sum (means
    over the steps since the row before, of whole batches), ``seconds_per_step`` and, as a part of it,
    ``seconds_waiting`` for data (without validations), ``memory_mb`` (the peak that CUDA allocated so far, else what
    the process holds now).

    Rows are appended. A resumed run drops the rows of steps that it repeats.

    Parameters
    ----------
    path
        The table.
    every
        Steps of the optimiser in a row.
    """

    def __init__(self, path: Path, every: int = 10) -> None:
        self.path, self.every = path, every
        self._columns: list[str] = []
        self._rates: list[float] = []
        self._mark = time.monotonic()
        self._counted = self._epoch = 0
        self._clear()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._counted = trainer.global_step
        if not trainer.is_global_zero:
            return
        rows = _rows_until(self.path, trainer.global_step)
        self._columns = list(rows[0]) if rows else []
        if rows:
            self._write_whole(rows)
        else:
            self.path.unlink(missing_ok=True)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._mark = time.monotonic()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._mark = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        now = time.monotonic()
        self._waited += now - self._mark
        self._seconds += now - self._mark
        self._mark = now
        # After a step, the optimiser has the rate of the next one already; at the end, the trainer its next epoch.
        self._epoch = trainer.current_epoch
        self._rates = [float(group["lr"]) for group in trainer.optimizers[0].param_groups]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # Sums stay on the device: only every tenth step waits for it.
        for name, value in step_losses_of(pl_module).items():
            self._losses[name] = self._losses[name] + value if name in self._losses else value.clone()
        self._batches += 1
        self._steps += trainer.global_step - self._counted
        stepped, self._counted = trainer.global_step > self._counted, trainer.global_step
        if stepped and trainer.global_step % self.every == 0:
            self._finish_row(trainer, pl_module)
        now = time.monotonic()
        self._seconds += now - self._mark
        self._mark = now

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._steps:
            self._finish_row(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        losses = {name: float(value) for name, value in self._losses.items()}
        return {
            "losses": losses, "batches": self._batches, "steps": self._steps, "seconds": self._seconds,
            "waited": self._waited,
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._losses.update({name: torch.tensor(value) for name, value in state_dict["losses"].items()})
        self._batches, self._steps = state_dict["batches"], state_dict["steps"]
        self._seconds, self._waited = state_dict["seconds"], state_dict["waited"]

    def _clear(self) -> None:
        self._losses: dict[str, Tensor] = {}
        self._batches = self._steps = 0
        self._seconds = self._waited = 0.0

    def _finish_row(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            losses = {name: float(value) / self._batches for name, value in self._losses.items()}
            now = time.monotonic()  # after the device has been waited for
            self._seconds += now - self._mark
            self._mark = now
            row: dict[str, Any] = {"step": trainer.global_step, "epoch": self._epoch}
            row["learning_rate"] = f"{self._rates[-1]:.6g}"
            if any(isinstance(phase.learning_rate, tuple) for phase in module_settings(pl_module).phases):
                row["learning_rate_first_layers"] = f"{self._rates[0]:.6g}"
            row |= {f"train/{name}": f"{value:.6g}" for name, value in losses.items()}
            row["seconds_per_step"] = f"{self._seconds / self._steps:.4g}"
            row["seconds_waiting"] = f"{self._waited / self._steps:.4g}"
            memory = _memory_mb(pl_module.device)
            row["memory_mb"] = "" if memory is None else f"{memory:.0f}"
            self._append(row)
        self._clear()

    def _append(self, row: Mapping[str, Any]) -> None:
        new = [name for name in row if name not in self._columns]
        if new:
            rows = _rows_until(self.path, int(row["step"]) - 1)
            self._columns += new
            self._write_whole([*rows, row])
            return
        try:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self._columns, restval="").writerow(row)
        except OSError as error:
            raise OutputError(
                "the table of steps cannot be written",
                where=self.path,
                found=error.strerror or error,
                fix="check the folder, its permissions and the free disk space; then go on with --resume",
            ) from error

    def _write_whole(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with replacing(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(rows)


def _rows_until(path: Path, step: int) -> list[dict[str, str]]:
    """The whole rows of a table up to a step; a line that broke off is no row."""
    if not path.is_file():
        return []
    rows = []
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        for row in reader:
            if None in row or None in row.values() or not (row.get("step") or "").isdecimal():
                continue
            if int(row["step"]) <= step:
                rows.append(row)
    return rows


def _memory_mb(device: torch.device) -> float | None:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    resident = Path("/proc/self/status")
    if resident.is_file():
        for line in resident.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    if sys.platform == "win32":
        return None
    import resource

    # Elsewhere only the peak is told: macOS counts it in bytes, the others in KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
