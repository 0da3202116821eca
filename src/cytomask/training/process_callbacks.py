"""What a training does after steps and epochs for those around it: the processes beside it, and who watches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed

from cytomask.models.shared_norms import batch_norms
from cytomask.training.distributed import Place
from cytomask.training.module import segmenter_of

#: Called with an epoch, from 0, and its figures by name.
Watch = Callable[[int, dict[str, float]], None]


class MeanStatistics(pl.Callback):
    """Lets all processes remember the same statistics of batch norms: the mean of what each has seen.

    For batch norms that are not shared. It must stand before
    :class:`~cytomask.training.averaging.WeightAverage`, which keeps the statistics too.
    """

    def __init__(self, place: Place) -> None:
        self.place = place

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:  # noqa: ARG002
        known = [s for n in batch_norms(segmenter_of(pl_module)) for s in (n.running_mean, n.running_var)]
        statistics = [s for s in known if s is not None]
        if not statistics:
            return
        joined = torch.cat(statistics)
        torch.distributed.all_reduce(joined)
        joined /= self.place.processes
        for own, mean in zip(statistics, joined.split([len(s) for s in statistics])):
            own.copy_(mean)


class TellFigures(pl.Callback):
    """Tells the figures of each epoch; it must stand after all that makes some."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        if not trainer.is_global_zero:
            return
        validated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        figures = {
            name: float(value)
            for name, value in sorted(trainer.callback_metrics.items())
            if validated or not name.startswith("val/")
        }
        self.watch(trainer.current_epoch, figures)
