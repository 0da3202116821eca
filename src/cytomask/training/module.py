"""The Lightning module: the same for every family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from cytomask.errors import TrainingError
from cytomask.instances import Instances
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.training.config import TrainingConfig
from cytomask.training.parts import make_optimiser
from cytomask.training.schedules import StepSchedule
from cytomask.training.stopping import FALLING

#: Scores predictions against truth over a set of images; larger is better.
Metric = Callable[[list[Instances], list[Instances]], float]
#: Further figures of predictions against truth by name; those without a value are left out.
Figures = Callable[[list[Instances], list[Instances]], dict[str, float]]


class TrainingModule(pl.LightningModule):
    """Trains a segmenter and validates it by the real instance metric.

    Parameters
    ----------
    segmenter
        The network.
    config
        How to train.
    metric
        ``metric(truths, predictions)``; an argument, because training does not know evaluation.
    postprocess
        Thresholds that validation uses.
    figures
        ``figures(truths, predictions)``, further figures for the log, or None.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        config: TrainingConfig,
        metric: Metric,
        postprocess: Postprocess,
        figures: Figures | None = None,
    ) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, config
        self.metric, self.postprocess, self.figures = metric, postprocess, figures
        self._truths: list[Instances] = []
        self._predictions: list[Instances] = []
        self.step_losses: dict[str, Tensor] = {}

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        images, targets = split_batch(batch)
        # Some families look at a random choice of what they find: the same one whenever this batch comes.
        seed_batch(self.settings.seed, self.current_epoch, batch_index)
        losses = self.segmenter.losses(images.to(memory_format=torch.channels_last), targets)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            self._stop_not_finite(losses, batch_index)
        self.step_losses = {name: value.detach() for name, value in {**losses, "loss": total}.items()}
        for name, value in self.step_losses.items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=len(images))
        return total

    def _stop_not_finite(self, losses: dict[str, Tensor], batch_index: int) -> None:
        values = ", ".join(f"{name} = {float(value.detach()):.4g}" for name, value in losses.items())
        raise TrainingError(
            "the loss is no longer a finite number, so training stops",
            where=f"epoch {self.current_epoch}, batch {batch_index}",
            found=values,
            expected="finite values",
            fix="lower training.optimiser.learning_rate, set gradient_clip, or use precision float32; the last "
            "checkpoint before this is kept",
        )

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:
        images, targets = split_batch(self.segmenter.collate([{"image": batch["image"], **batch["targets"]}]))
        images = images.to(memory_format=torch.channels_last)
        # The same choice in each epoch, so that losses can be compared.
        torch.manual_seed(_drawn(self.settings.seed, 1, batch_index))
        losses = self.segmenter.losses(images, targets)
        for name, value in {**losses, "loss": torch.stack(list(losses.values())).sum()}.items():
            self.log(f"val/{name}", value.detach(), on_step=False, on_epoch=True, batch_size=1)
        proposals = self.segmenter.propose(images, self.postprocess, [batch["size"]])[0]
        shape, scale = batch["truth"].shape, batch["scale"]
        self._predictions.append(self.segmenter.resolve(proposals, self.postprocess, shape, scale))
        self._truths.append(batch["truth"])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # Lightning's own walks into dataclasses; the truth of validation images must stay as it is.
        if isinstance(batch, dict):
            return {k: self.transfer_batch_to_device(v, device, dataloader_idx) for k, v in batch.items()}
        if isinstance(batch, list):
            return [self.transfer_batch_to_device(v, device, dataloader_idx) for v in batch]
        return batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else batch

    def on_validation_epoch_end(self) -> None:
        if self._truths:
            score = self.metric(self._truths, self._predictions)
            self.log("val/score", torch.tensor(score, dtype=torch.float32), prog_bar=True)
            for name, value in (self.figures(self._truths, self._predictions) if self.figures else {}).items():
                self.log(f"val/{name}", torch.tensor(value, dtype=torch.float32))
        self._truths, self._predictions = [], []

    def configure_optimizers(self) -> Any:
        optimiser = make_optimiser(self.segmenter, self.settings)
        schedule = self.settings.schedule
        if schedule.name == "plateau" and not self.settings.phases:
            monitor = self.settings.monitor
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser,
                mode="min" if monitor in FALLING else "max",
                factor=schedule.factor,
                patience=schedule.patience,
            )
            every = min(self.settings.validate_every, self.settings.epochs)
            return {
                "optimizer": optimiser,
                "lr_scheduler": {
                    "scheduler": plateau,
                    "monitor": f"val/{monitor}",
                    "interval": "epoch",
                    "frequency": every,
                },
            }
        parts = len(self.segmenter.layer_groups()) if self.settings.phases else 1
        rate = StepSchedule(optimiser, self.settings.resolved_phases(), self.settings.steps_per_epoch, parts)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def seed_batch(seed: int, epoch: int, batch_index: int) -> None:
    """Seed what a network draws at random while it learns from a batch."""
    torch.manual_seed(_drawn(seed, 0, epoch, batch_index))


def _drawn(*key: int) -> int:
    """A seed for torch that follows from a few numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def split_batch(batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
    """Part a batch into images and targets."""
    return batch["image"], {name: value for name, value in batch.items() if name != "image"}


def pad_to_stride(image: np.ndarray, stride: int) -> np.ndarray:
    """Extend ``(C, Y, X)`` at the bottom and right to multiples of ``stride`` by repeating the edge.

    Examples
    --------
    >>> pad_to_stride(np.zeros((1, 5, 8)), 4).shape
    (1, 8, 8)
    """
    extra = [(0, -size % stride) for size in image.shape[1:]]
    return np.pad(image, [(0, 0), *extra], mode="edge")


def segmenter_of(module: pl.LightningModule) -> Segmenter:
    """The network inside a training module."""
    assert isinstance(module, TrainingModule)
    return module.segmenter


def module_settings(module: pl.LightningModule) -> TrainingConfig:
    """How a training module is trained."""
    assert isinstance(module, TrainingModule)
    return module.settings


def step_losses_of(module: pl.LightningModule) -> dict[str, Tensor]:
    """The losses of a training module's latest batch, and ``loss``, their sum."""
    assert isinstance(module, TrainingModule)
    return module.step_losses
