"""Run the training loop: the trainer, its callbacks, loggers and checkpoints."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from safetensors.torch import load_file
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from cytomask.errors import ConfigError, TrainingError
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.models.shared_norms import share_norms
from cytomask.training.averaging import WeightAverage
from cytomask.training.config import TrainingConfig
from cytomask.training.distributed import ALONE, Place, StartedProcesses, device_of
from cytomask.training.loaders import train_loader, validation_loader
from cytomask.training.module import Figures, Metric, TrainingModule
from cytomask.training.parts import Phases
from cytomask.training.precision import lightning_precision
from cytomask.training.process_callbacks import MeanStatistics, TellFigures, Watch
from cytomask.training.quiet import quiet_lightning
from cytomask.training.records import BestWeights, EpochClock, EpochTable
from cytomask.training.step_table import STEP_TABLE, StepTable
from cytomask.training.stopping import EarlyStop

CHECKPOINTS, TABLE = "checkpoints", "metrics.csv"
LAST, BEST = "last.ckpt", "best.safetensors"


class Interrupted(Exception):
    """Training was stopped from outside; the last whole epoch is in the run's folder."""


@dataclass(frozen=True)
class FitResult:
    """How a training went: the best validation score, its epoch (0-based), and how many epochs were run."""

    best_score: float
    best_epoch: int
    epochs: int


def fit(
    segmenter: Segmenter,
    train: Dataset,
    validation: Dataset | None,
    config: TrainingConfig,
    metric: Metric,
    postprocess: Postprocess,
    folder: Path,
    *,
    figures: Figures | None = None,
    resume: bool = False,
    watch: Watch | None = None,
    place: Place = ALONE,
) -> FitResult:
    """Train ``segmenter`` in place; at the end it holds the best weights.

    Of processes that train together each calls this, with the same settings; the main one alone writes, and has the
    best weights at the end.

    Parameters
    ----------
    segmenter
        The network.
    train
        Patches: a map-style data set with ``set_epoch``.
    validation
        Whole images as :class:`~cytomask.training.validation.ValidationImages` gives them, or None to keep the last
        weights. Of processes that train together, each has its share.
    config, metric, postprocess, figures
        See :class:`~cytomask.training.module.TrainingModule`.
    folder
        The run's folder; ``checkpoints/``, ``metrics.csv``, ``steps.csv`` and ``tensorboard/`` are
        written there.
    resume
        Go on from the last whole epoch in ``folder``. The result equals that of a run that was never interrupted. The
        number of processes may be another.
    watch
        Called in the main process after each epoch with its number, from 0, and its figures by name.
    place
        Of this process among those that train together; they have met already
        (:func:`~cytomask.training.distributed.joined`).

    Raises
    ------
    TrainingError
        If the loss is not finite, or there is nothing to resume.
    ConfigError
        If the schedule is ``plateau`` and there is no validation, or a phase freezes what has no parts.
    Interrupted
        After Ctrl-C.
    """
    checkpoints = folder / CHECKPOINTS
    if place.main:
        checkpoints.mkdir(parents=True, exist_ok=True)
    last = checkpoints / LAST
    if resume and not last.is_file():
        raise TrainingError("there is nothing to resume", where=folder, expected=f"{CHECKPOINTS}/{LAST}")

    if config.schedule.name == "plateau" and not config.phases and validation is None:
        raise ConfigError(
            "the schedule plateau acts on validations, and there are no validation images",
            where="training.schedule",
            fix="take another schedule, such as cosine",
        )
    device, several = device_of(config, place), place.processes > 1
    torch.manual_seed(config.seed)
    if several and config.sync_norms:
        share_norms(segmenter)
    module = TrainingModule(
        segmenter.to(memory_format=torch.channels_last), config, metric, postprocess, figures, place
    )
    best = BestWeights(checkpoints / BEST, config.monitor)
    callbacks: list[pl.Callback] = [EpochClock(train), best]
    if config.phases:
        callbacks.append(Phases(segmenter, config))
    if several and not config.sync_norms:
        callbacks.append(MeanStatistics(place))
    if config.ema_decay is not None:
        callbacks.append(WeightAverage(config.ema_decay))
    if config.early_stopping is not None and validation is not None:
        callbacks.append(EarlyStop(config))
    callbacks += [StepTable(folder / STEP_TABLE), EpochTable(folder / TABLE)]
    if watch is not None:
        callbacks.append(TellFigures(watch))
    checkpoint = ModelCheckpoint(
        checkpoints,
        filename="last",
        save_top_k=1,
        monitor=None,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    callbacks.append(checkpoint)
    on_terminal = sys.stderr.isatty() and place.main
    if on_terminal:
        callbacks.append(TQDMProgressBar(refresh_rate=5))

    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            **_devices(device, place, config),
            precision=lightning_precision(config.precision, device),  # type: ignore[arg-type]
            max_epochs=config.epochs,
            # A short training is validated once at least.
            check_val_every_n_epoch=min(config.validate_every, config.epochs),
            num_sanity_val_steps=0,
            accumulate_grad_batches=config.accumulate,
            gradient_clip_val=config.optimiser.gradient_clip,
            callbacks=callbacks,
            logger=TensorBoardLogger(folder, name="tensorboard", version=""),
            log_every_n_steps=10,
            enable_progress_bar=on_terminal,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        try:
            trainer.fit(
                module,
                train_loader(train, config, device, segmenter, place),
                validation_loader(validation),
                ckpt_path=str(last) if resume else None,
            )
        except (KeyboardInterrupt, SystemExit) as error:
            raise Interrupted from error
    if trainer.interrupted:
        raise Interrupted
    if place.main and (checkpoints / BEST).is_file() and best.epoch >= 0:
        segmenter.load_state_dict(load_file(checkpoints / BEST))
    segmenter.to("cpu").eval()
    return FitResult(best.score, best.epoch, trainer.current_epoch)


def _name_of_buffer_option() -> str:
    """The option by which PyTorch lets processes send each other buffers at each step; it was renamed in 2.15."""
    known = inspect.signature(DistributedDataParallel).parameters
    return "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"


def _devices(device: torch.device, place: Place, config: TrainingConfig) -> dict[str, Any]:
    """What Lightning must know of the devices."""
    if place.processes == 1:
        return {"devices": [device.index or 0] if device.type == "cuda" else 1}
    # All processes have the same statistics: shared, or averaged after each step.
    buffers: dict[str, Any] = {_name_of_buffer_option(): False}
    strategy = DDPStrategy(
        # Frozen parts have no gradient, and which they are changes from phase to phase.
        find_unused_parameters=any(phase.freeze for phase in config.phases),
        **buffers,
    )
    return {
        "devices": place.per_node,
        "num_nodes": place.nodes,
        "strategy": strategy,
        "plugins": [StartedProcesses(place)],
        "use_distributed_sampler": False,
    }
