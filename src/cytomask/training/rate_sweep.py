"""Look for a learning rate: train a copy of a network at rates that rise step by step, and watch the loss."""

from __future__ import annotations

import copy
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from cytomask.errors import TrainingError
from cytomask.models.batch_part import part_of_batch
from cytomask.models.devices import choose_device
from cytomask.models.segmenter import Segmenter
from cytomask.progress import track
from cytomask.training.config import TrainingConfig
from cytomask.training.loaders import on_device, train_loader
from cytomask.training.module import part_of, split_batch
from cytomask.training.parts import FrozenParts, make_optimiser
from cytomask.training.precision import lightning_precision
from cytomask.training.schedules import spread

#: A sweep ends where the smoothed loss is so many times its lowest.
DIVERGED = 4.0
#: Losses below this share of the usual one are as good as none.
LEAST = 0.01
MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True)
class Sweep:
    """Losses by learning rate.

    Attributes
    ----------
    rates
        Learning rates of the steps, rising; of the last group of layers where they differ.
    losses
        The loss of each step's batch, before the step was made.
    at_start
        The loss that the network had at its start on the same batch, with its first weights.
    smoothed
        The running mean, with falling weights and without the bias towards 0 at its beginning, of what is left of the
        loss at start; times the mean loss at start. So it does not show that some batches are harder than others.
    ended
        Why the sweep ended: ``"range"``, ``"diverged"`` or ``"not finite"``.
    """

    rates: np.ndarray
    losses: np.ndarray
    at_start: np.ndarray
    smoothed: np.ndarray
    ended: str


def sweep_rates(
    segmenter: Segmenter,
    train: Dataset,
    config: TrainingConfig,
    *,
    first: float = 1e-7,
    last: float = 10.0,
    steps: int = 100,
    phase: int = 0,
    smoothing: float = 0.9,
) -> Sweep:
    """Train a copy of ``segmenter`` at rates from ``first`` to ``last``, with the same ratio from step to step.

    All else is as in training: items, batches and their gradients' sum, optimiser, clipping, precision, and what a
    phase freezes. The same arguments give the same numbers on the same machine. ``segmenter`` stays as it is.

    Parameters
    ----------
    train
        Items of ``steps`` optimiser steps, with ``set_epoch``.
    config
        How it would be trained.
    first, last, steps
        The rates. Where a phase's learning rate is ``[first, last]`` of the groups of layers, the last group has these,
        and the others are in proportion.
    phase
        Which one is looked at, from 0.
    smoothing
        Weight of the past in the smoothed loss. fastai's is 0.98; with that, 100 steps show what happened half the
        range of rates ago.

    Raises
    ------
    TrainingError
        If the loss is not finite from the start.
    """
    device = choose_device(config.device)
    settings = config.resolved_phases()[phase]
    network = copy.deepcopy(segmenter).to(device).to(memory_format=torch.channels_last)
    network.train()
    optimiser = make_optimiser(network, config)
    FrozenParts(network, [settings]).apply(settings)
    untouched = copy.deepcopy(network)
    shares = spread(settings.learning_rate, len(network.layer_groups()) if config.phases else 1)
    mixed = MIXED.get(lightning_precision(config.precision, device))
    scaler = torch.amp.GradScaler(device.type, enabled=mixed is torch.float16)
    learning = [p for group in optimiser.param_groups for p in group["params"]]

    def loss_of(model: Segmenter, batch: dict[str, Any], number: int) -> Tensor:
        images, targets = split_batch(batch)
        # Both networks draw the same at random.
        part = part_of_batch(part_of(config.seed, 0, number, len(images)))
        with part, torch.autocast(device.type, mixed) if mixed is not None else nullcontext():
            terms = model.losses(images.to(memory_format=torch.channels_last), targets)
            return torch.stack(list(terms.values())).sum() / config.accumulate

    train.set_epoch(0)  # type: ignore[attr-defined]
    batches = iter(train_loader(train, config, device, segmenter))
    rates = first * (last / first) ** (np.arange(steps) / max(1, steps - 1))
    losses: list[float] = []
    at_start: list[float] = []
    left: list[float] = []
    running, ended = 0.0, "range"
    for step in track(range(steps), "trying learning rates"):
        for group in optimiser.param_groups:
            group["lr"] = float(rates[step]) * shares[int(group["part"])] / shares[-1]
        optimiser.zero_grad(set_to_none=True)
        total, before = 0.0, 0.0
        for number in range(step * config.accumulate, (step + 1) * config.accumulate):
            batch = on_device(next(batches), device)
            with torch.no_grad():
                before += float(loss_of(untouched, batch, number))
            loss = loss_of(network, batch, number)
            total += float(loss.detach())
            if math.isfinite(total):
                scaler.scale(loss).backward()
        if not math.isfinite(total + before):
            ended = "not finite"
            break
        losses.append(total)
        at_start.append(before)
        # A batch of which nothing is to be learnt has a loss of 0, or close to it.
        least = LEAST * sum(map(abs, at_start)) / len(at_start) or 1.0
        running = smoothing * running + (1 - smoothing) * (total + least) / (before + least)
        left.append(running / (1 - smoothing ** (step + 1)))
        if left[-1] > DIVERGED * min(left):
            ended = "diverged"
            break
        scaler.unscale_(optimiser)
        if config.optimiser.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(learning, config.optimiser.gradient_clip)
        scaler.step(optimiser)
        scaler.update()
    if not losses:
        raise TrainingError(
            "the loss is not a finite number, whatever the learning rate",
            expected="finite values",
            fix="look at the images (cytomask check), or set training.precision=float32",
        )
    smoothed = np.array(left) * np.mean(at_start)
    return Sweep(rates[: len(losses)], np.array(losses), np.array(at_start), smoothed, ended)
