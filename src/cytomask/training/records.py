"""What a run writes while it trains: the best weights, one table row per epoch, a line for people."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from safetensors.torch import save_file

from cytomask.output import replacing
from cytomask.progress import say
from cytomask.training.module import module_settings, segmenter_of
from cytomask.training.parts import phase_of
from cytomask.training.stopping import is_better, nothing_yet


class BestWeights(pl.Callback):
    """Keeps the weights of the best validation so far in ``best.safetensors``.

    It must stand before :class:`~cytomask.training.averaging.WeightAverage` in the list of callbacks, so that it
    sees the averaged weights that were validated.
    """

    def __init__(self, path: Path, monitor: str = "score") -> None:
        self.path, self.monitor = path, monitor
        self.best, self.score, self.epoch = nothing_yet(monitor), float("-inf"), -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = trainer.callback_metrics.get(f"val/{self.monitor}")
        if trainer.sanity_checking or found is None or not is_better(self.monitor, float(found), self.best):
            return
        self.best, self.epoch = float(found), trainer.current_epoch
        self.score = float(trainer.callback_metrics["val/score"])
        if not trainer.is_global_zero:
            return
        state = {name: t.detach().cpu().contiguous() for name, t in segmenter_of(pl_module).state_dict().items()}
        with replacing(self.path) as path:
            save_file(state, path)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.score, self.epoch = state_dict["score"], state_dict["epoch"]
        self.best = state_dict.get("best", self.score)


class EpochTable(pl.Callback):
    """Writes ``metrics.csv``, one row per epoch, and says the row in one line.

    The table is rewritten whole each time: a resumed run drops the rows of epochs that it repeats, and a column that
    appears late (validation every few epochs) finds its place.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self._since = time.monotonic()
        self._rates: list[float] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [r for r in csv.DictReader(file) if int(r["epoch"]) < trainer.current_epoch]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self._since = time.monotonic()

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        # After an epoch's last step, the optimiser has the rate of the next epoch already.
        self._rates = [float(group["lr"]) for group in trainer.optimizers[0].param_groups]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        row: dict[str, Any] = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        settings = module_settings(pl_module)
        if settings.phases:
            row["phase"] = phase_of(settings.phases, trainer.current_epoch)[0] + 1
        row["learning_rate"] = f"{self._rates[-1]:.6g}"
        if any(isinstance(phase.learning_rate, tuple) for phase in settings.phases):
            row["learning_rate_first_layers"] = f"{self._rates[0]:.6g}"
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        for name, value in sorted(trainer.callback_metrics.items()):
            if validated or not name.startswith("val/"):
                row[name] = f"{float(value):.6g}"
        row["seconds"] = f"{time.monotonic() - self._since:.1f}"
        self.rows.append(row)
        columns = list(dict.fromkeys(name for r in self.rows for name in r))
        with replacing(self.path) as path, path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        score = f", validation score {row['val/score']}" if "val/score" in row else ""
        if "val/iou" in row:
            score += f", IoU {float(row['val/iou']):.4g}"
        say(
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: loss {row.get('train/loss', '?')}{score}"
            f" ({row['seconds']} s)"
        )


class EpochClock(pl.Callback):
    """Tells the data set which epoch it is, so that each patch depends on seed, epoch and index alone.

    A resumed run must know its epoch before the loop begins: worker processes for the first epoch start by then.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self.next = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        self.dataset.set_epoch(trainer.current_epoch)
        self.next = trainer.current_epoch + 1

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.dataset.set_epoch(state_dict["next"])
