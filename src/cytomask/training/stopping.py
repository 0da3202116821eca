"""When a training stops before its last epoch."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl

from cytomask.progress import say
from cytomask.training.config import TrainingConfig

#: Figures of which the smaller is the better.
FALLING = ("loss",)


def is_better(monitor: str, value: float, best: float, min_delta: float = 0.0) -> bool:
    """Whether a validation figure is better than the best so far.

    Examples
    --------
    >>> is_better("loss", 0.4, 0.5), is_better("score", 0.4, 0.5), is_better("score", 0.4, nothing_yet("score"))
    (True, False, True)
    """
    return value < best - min_delta if monitor in FALLING else value > best + min_delta


def nothing_yet(monitor: str) -> float:
    """What every value of a figure is better than."""
    return math.inf if monitor in FALLING else -math.inf


class EarlyStop(pl.Callback):
    """Stops when the monitored figure has not become better for a number of validations.

    Validations are counted after ``min_epochs``, and in the last phase only: earlier ones are always whole. What is
    better is told from the best of all validations.
    """

    def __init__(self, config: TrainingConfig) -> None:
        assert config.early_stopping is not None
        self.settings, self.monitor = config.early_stopping, config.monitor
        self.counted_from = max(self.settings.min_epochs, sum(phase.epochs for phase in config.phases[:-1]))
        self.best, self.waited = nothing_yet(self.monitor), 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        found = trainer.callback_metrics.get(f"val/{self.monitor}")
        if trainer.sanity_checking or found is None:
            return
        value = float(found)
        if is_better(self.monitor, value, self.best, self.settings.min_delta):
            self.best, self.waited = value, 0
            return
        if trainer.current_epoch < self.counted_from:
            return
        self.waited += 1
        if self.waited >= self.settings.patience:
            trainer.should_stop = True
            times = "a validation" if self.waited == 1 else f"{self.waited} validations"
            say(f"stopping early: no better {self.monitor} than {self.best:.4g} in {times}")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.waited = state_dict["best"], state_dict["waited"]
