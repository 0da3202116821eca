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
from cytomask.models.batch_part import BatchPart, largest_over_processes, mean_over_processes, part_of_batch
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.training.config import TrainingConfig
from cytomask.training.distributed import ALONE, Place
from cytomask.training.loaders import on_device
from cytomask.training.parts import make_optimiser
from cytomask.training.schedules import StepSchedule
from cytomask.training.stopping import FALLING

#: Scores predictions against truth over a set of images; larger is better.
Metric = Callable[[list[Instances], list[Instances]], float]
#: Further figures of predictions against truth by name; those without a value are left out.
Figures = Callable[[list[Instances], list[Instances]], dict[str, float]]
#: Losses of a validation image, its truth, and what was found in it.
_Validated = tuple[dict[str, float], Instances, Instances]


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
    place
        Of this process among those that train together.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        config: TrainingConfig,
        metric: Metric,
        postprocess: Postprocess,
        figures: Figures | None = None,
        place: Place = ALONE,
    ) -> None:
        super().__init__()
        self.segmenter, self.settings = segmenter, config
        self.metric, self.postprocess, self.figures = metric, postprocess, figures
        self.place = place
        self._validated: dict[int, _Validated] = {}
        self.step_losses: dict[str, Tensor] = {}

    def training_step(self, batch: dict[str, Any], batch_index: int) -> Tensor:
        images, targets = split_batch(batch)
        # Some families look at a random choice of what they find: the same one whenever this batch comes.
        with part_of_batch(part_of(self.settings.seed, self.current_epoch, batch_index, len(images), self.place)):
            if type(self.segmenter).collate.__func__ is not Segmenter.collate.__func__:  # type: ignore[attr-defined]
                images = _as_large_as_others(images)
            losses = self.segmenter.losses(images.to(memory_format=torch.channels_last), targets)
            total = torch.stack(list(losses.values())).sum()
            # Those of the whole batch: all processes log the same, and stop together.
            whole = mean_over_processes(torch.stack([*losses.values(), total]).detach())
        self.step_losses = dict(zip([*losses, "loss"], whole.unbind(), strict=True))
        if not torch.isfinite(whole[-1]):
            self._stop_not_finite(self.step_losses, batch_index)
        for name, value in self.step_losses.items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=len(images))
        return total

    def _stop_not_finite(self, losses: dict[str, Tensor], batch_index: int) -> None:
        values = ", ".join(f"{name} = {float(value):.4g}" for name, value in losses.items() if name != "loss")
        raise TrainingError(
            "the loss is no longer a finite number, so training stops",
            where=f"epoch {self.current_epoch}, batch {batch_index}",
            found=values,
            expected="finite values",
            fix="lower training.optimiser.learning_rate, set gradient_clip, or use precision float32; the last "
            "checkpoint before this is kept",
        )

    def validation_step(self, batch: dict[str, Any], batch_index: int) -> None:  # noqa: ARG002
        images, targets = split_batch(self.segmenter.collate([{"image": batch["image"], **batch["targets"]}]))
        images = images.to(memory_format=torch.channels_last)
        # The same choice in each epoch, so that losses can be compared.
        number = batch["number"]
        with part_of_batch(BatchPart(_drawn(self.settings.seed, 1, number), first=0, whole=1)):
            losses = self.segmenter.losses(images, targets)
        proposals = self.segmenter.propose(images, self.postprocess, [batch["size"]])[0]
        shape, scale = batch["truth"].shape, batch["scale"]
        found = self.segmenter.resolve(proposals, self.postprocess, shape, scale)
        told = {**losses, "loss": torch.stack(list(losses.values())).sum()}
        self._validated[number] = ({name: float(value) for name, value in told.items()}, batch["truth"], found)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        # Lightning's own walks into dataclasses; the truth of validation images must stay as it is.
        return on_device(batch, device)

    def on_validation_epoch_end(self) -> None:
        parts = self.place.gathered(self._validated)
        self._validated = {}
        # One process scores all images, so that the figures are those of one that trains alone.
        values = None if parts is None else self._score({n: one for part in parts for n, one in part.items()})
        for name, value in self.place.told(values).items():
            self.log(f"val/{name}", torch.tensor(value, dtype=torch.float32), prog_bar=name == "score")

    def _score(self, validated: dict[int, _Validated]) -> dict[str, float]:
        if not validated:
            return {}
        losses, truths, found = map(list, zip(*(validated[number] for number in sorted(validated))))
        means = {name: sum(one[name] for one in losses) / len(losses) for name in losses[0]}
        figures = self.figures(truths, found) if self.figures else {}
        return {**means, "score": self.metric(truths, found), **figures}

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


def part_of(seed: int, epoch: int, batch_index: int, items: int, place: Place = ALONE) -> BatchPart:
    """Which part of a training batch a process has: ``items`` items."""
    key = _drawn(seed, 0, epoch, batch_index)
    return BatchPart(key, place.rank * items, place.processes * items, place.processes)


def _as_large_as_others(images: Tensor) -> Tensor:
    """Fill images up with zeros to the size that they would have in the whole batch."""
    rows, columns = images.shape[-2:]
    wanted = largest_over_processes(torch.tensor([rows, columns], device=images.device))
    if wanted is None:
        return images
    return torch.nn.functional.pad(images, (0, int(wanted[1]) - columns, 0, int(wanted[0]) - rows))


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
