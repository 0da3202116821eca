"""Exponential moving average of the weights (Polyak and Juditsky 1992), used for validation and for the result."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from cytomask.training.module import segmenter_of


class WeightAverage(pl.Callback):
    """Keeps the average, and puts it in place of the weights while validating.

    The decay is smaller at the start, ``(1 + t) / (10 + t)``, so that the random first weights are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.average: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        state = _state(pl_module)
        if not self.average:
            self.average = {name: value.clone() for name, value in state.items()}
        self.average = {name: value.to(state[name].device) for name, value in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.updates:
            return  # gradients were only accumulated
        self.updates = trainer.global_step
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in _state(pl_module).items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if self.average:
            self._kept = {name: value.clone() for name, value in _state(pl_module).items()}
            segmenter_of(pl_module).load_state_dict(self.average)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if self._kept is not None:
            segmenter_of(pl_module).load_state_dict(self._kept)
            self._kept = None

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "average": {k: v.detach().cpu() for k, v in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.updates, self.average = state_dict["updates"], dict(state_dict["average"])


def _state(module: pl.LightningModule) -> dict[str, Tensor]:
    return segmenter_of(module).state_dict()
