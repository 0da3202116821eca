"""Run the training loop: the trainer, its callbacks, loggers and checkpoints."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset

from cytomask.errors import ConfigError, TrainingError
from cytomask.models.devices import choose_device
from cytomask.models.segmenter import Postprocess, Segmenter
from cytomask.training.averaging import WeightAverage
from cytomask.training.config import TrainingConfig
from cytomask.training.module import Figures, Metric, TrainingModule
from cytomask.training.parts import Phases
from cytomask.training.precision import lightning_precision
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
) -> FitResult:
    """Train ``segmenter`` in place; at the end it holds the best weights.

    Parameters
    ----------
    segmenter
        The network.
    train
        Patches: a map-style data set with ``set_epoch``.
    validation
        Whole images as :class:`~cytomask.training.validation.ValidationImages` gives them, or None to keep the last
        weights.
    config, metric, postprocess, figures
        See :class:`~cytomask.training.module.TrainingModule`.
    folder
        The run's folder; ``checkpoints/``, ``metrics.csv``, ``steps.csv`` and ``tensorboard/`` are
        written there.
    resume
        Go on from the last whole epoch in ``folder``. The result equals that of a run that was never interrupted.

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
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    module = TrainingModule(segmenter.to(memory_format=torch.channels_last), config, metric, postprocess, figures)
    best = BestWeights(checkpoints / BEST, config.monitor)
    callbacks: list[pl.Callback] = [EpochClock(train), best]
    if config.phases:
        callbacks.append(Phases(segmenter, config))
    if config.ema_decay is not None:
        callbacks.append(WeightAverage(config.ema_decay))
    if config.early_stopping is not None and validation is not None:
        callbacks.append(EarlyStop(config))
    callbacks += [StepTable(folder / STEP_TABLE), EpochTable(folder / TABLE)]
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
    on_terminal = sys.stderr.isatty()
    if on_terminal:
        callbacks.append(TQDMProgressBar(refresh_rate=5))

    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
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
                _train_loader(train, config, device, segmenter),
                _validation_loader(validation),
                ckpt_path=str(last) if resume else None,
            )
        except (KeyboardInterrupt, SystemExit) as error:
            raise Interrupted from error
    if trainer.interrupted:
        raise Interrupted
    if (checkpoints / BEST).is_file() and best.epoch >= 0:
        segmenter.load_state_dict(load_file(checkpoints / BEST))
    segmenter.to("cpu").eval()
    return FitResult(best.score, best.epoch, trainer.current_epoch)


def _train_loader(dataset: Dataset, config: TrainingConfig, device: torch.device, segmenter: Segmenter) -> DataLoader:
    # Workers live for one epoch, so that each sees the epoch that was set; forking them costs milliseconds.
    return DataLoader(
        dataset,
        batch_size=config.batch_size,
        num_workers=config.workers,
        pin_memory=device.type == "cuda",
        drop_last=True,
        collate_fn=type(segmenter).collate,
    )


def _validation_loader(dataset: Dataset | None) -> DataLoader | None:
    return None if dataset is None else DataLoader(dataset, batch_size=None, collate_fn=_as_is)


def _as_is(item: Any) -> Any:
    return item


class _quiet_lightning:
    """Silence Lightning's advice: what concerns the user is said in cytomask's own words."""

    _loggers = ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda", "lightning.pytorch")

    def __enter__(self) -> None:
        self._levels = {name: logging.getLogger(name).level for name in self._loggers}
        for name in self._loggers:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        for pattern in (
            ".*does not have many workers.*",
            ".*Checkpoint directory.*",
            ".*log_every_n_steps.*",
            ".*isinstance.treespec.*",
            ".*LeafSpec.*",
            ".*exists and is not empty.*",
            ".*GPU available but not used.*",
            ".*lr_scheduler.step.*",
            ".*have no `val_dataloader`.*",
        ):
            warnings.filterwarnings("ignore", pattern)

    def __exit__(self, *exception: Any) -> None:
        self._warnings.__exit__(*exception)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
