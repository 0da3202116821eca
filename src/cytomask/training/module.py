"""The Lightning module: the same for every family."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from cytomask.errors import TrainingError
from cytomask.instances import Instances
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.training.config import Optimiser, Schedule, TrainingConfig

#: Scores predictions against truth over a set of images; larger is better.
Metric = Callable[[list[Instances], list[Instances]], float]


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
    """

    def __init__(self, segmenter: Segmenter, config: TrainingConfig, metric: Metric, postprocess: Postprocess) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, config
        self.metric, self.postprocess = metric, postprocess
        self._truths: list[Instances] = []
        self._predictions: list[Instances] = []

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        images, targets = _split(batch)
        # Some families look at a random choice of what they find: the same one whenever this batch comes.
        torch.manual_seed(_drawn(self.settings.seed, 0, self.current_epoch, batch_index))
        losses = self.segmenter.losses(images.to(memory_format=torch.channels_last), targets)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            self._stop_not_finite(losses, batch_index)
        for name, value in {**losses, "loss": total}.items():
            self.log(f"train/{name}", value.detach(), on_step=False, on_epoch=True, batch_size=len(images))
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
        images, targets = _split(self.segmenter.collate([{"image": batch["image"], **batch["targets"]}]))
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
        self._truths, self._predictions = [], []

    def configure_optimizers(self) -> Any:
        settings, schedule = self.settings.optimiser, self.settings.schedule
        groups = _parameter_groups(self.segmenter, settings)
        optimiser: torch.optim.Optimizer
        if settings.name == "sgd":
            optimiser = torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
        else:
            kind = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
            optimiser = kind(groups, lr=settings.learning_rate)
        if schedule.name == "plateau":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimiser, mode="max", factor=schedule.factor, patience=schedule.patience
            )
            every = min(self.settings.validate_every, self.settings.epochs)
            return {
                "optimizer": optimiser,
                "lr_scheduler": {"scheduler": plateau, "monitor": "val/score", "interval": "epoch", "frequency": every},
            }
        steps = self.settings.epochs * self.settings.steps_per_epoch
        rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(self.settings, step, steps))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": rate, "interval": "step"}}


def _rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The learning rate at a step, over the configured one.

    The rise leads in a straight line from ``warmup_factor`` to what the schedule has at its end, as in detectron2.
    """
    schedule = config.schedule
    warmup = min(schedule.warmup_steps, steps)
    if step >= warmup:
        return _rate_without_rise(schedule, step, steps)
    low, high = schedule.warmup_factor, _rate_without_rise(schedule, warmup, steps)
    return low + (high - low) * step / warmup


def _rate_without_rise(schedule: Schedule, step: int, steps: int) -> float:
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "multistep":
        return schedule.gamma ** bisect_right(schedule.milestones, step)
    warmup, final = schedule.warmup_steps, schedule.final_fraction
    progress = min(1.0, max(0, step - warmup) / max(1, steps - warmup))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def _parameter_groups(segmenter: Segmenter, settings: Optimiser) -> list[dict[str, Any]]:
    """Weight decay for weights, and biases if so set: on biases and norms it does harm (He et al. 2019)."""
    decayed: list[Tensor] = []
    plain: list[Tensor] = []
    seen: set[Tensor] = set()
    for module in segmenter.modules():
        weight = getattr(module, "weight", None)
        # Weights of norms are one number for each channel.
        is_norm = isinstance(weight, Tensor) and weight.ndim <= 1
        for parameter in module.parameters(recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                decays = parameter.ndim > 1 or (settings.decay_biases and not is_norm)
                (decayed if decays else plain).append(parameter)
    return [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]


def _drawn(*key: int) -> int:
    """A seed for torch that follows from a few numbers."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])


def _split(batch: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
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
