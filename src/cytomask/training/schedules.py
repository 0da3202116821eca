"""Learning rates and momentum, step by step."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch

from cytomask.training.config import Phase, Schedule


class StepSchedule(torch.optim.lr_scheduler.LRScheduler):
    """Sets the learning rate of each parameter group, and the momentum where it cycles, from the step alone.

    Parameters
    ----------
    optimiser
        SGD with momentum, or one of Adam's kind. The place of each of its groups among the network's layers is
        ``group["part"]``, 0 at the input.
    phases
        Of the training, with all filled in.
    steps_per_epoch
        Optimiser steps.
    parts
        How many groups of layers there are.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, phases: Sequence[Phase], steps_per_epoch: int, parts: int):
        self.phases, self.steps_per_epoch, self.parts = list(phases), steps_per_epoch, parts
        self.part_of = [int(group.get("part", 0)) for group in optimiser.param_groups]
        self.momentums = [_momentum(group) for group in optimiser.param_groups]
        super().__init__(optimiser)

    def get_lr(self) -> list[float | torch.Tensor]:
        step, phase = self.last_epoch, self.phases[0]
        for phase in self.phases:
            steps = phase.epochs * self.steps_per_epoch
            if step < steps or phase is self.phases[-1]:
                break
            step -= steps
        schedule = phase.schedule
        assert schedule is not None
        cycled = momentum_at(schedule, step, steps)
        if any(p.schedule is not None and p.schedule.name == "one_cycle" for p in self.phases):
            for group, usual in zip(self.optimizer.param_groups, self.momentums):
                _set_momentum(group, usual if cycled is None else cycled)
        rates = spread(phase.learning_rate, self.parts)
        return [rate_at(schedule, rates[part], step, steps, self.steps_per_epoch) for part in self.part_of]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "_step_count": self._step_count}


def spread(rate: float | tuple[float, float] | None, parts: int) -> list[float]:
    """Learning rates of the groups of layers, with a constant ratio from one to the next.

    Examples
    --------
    >>> [round(rate, 6) for rate in spread((1e-4, 1e-2), 3)], spread(0.1, 2)
    ([0.0001, 0.001, 0.01], [0.1, 0.1])
    """
    assert rate is not None
    if not isinstance(rate, tuple):
        return [rate] * parts
    first, last = rate
    if parts == 1:
        return [last]
    return [first * (last / first) ** (k / (parts - 1)) for k in range(parts - 1)] + [last]


def rate_at(schedule: Schedule, rate: float, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate at a step of ``steps``, counted from 0, where ``rate`` is what the schedule is about.

    The rise leads in a straight line from ``warmup_factor`` to what the schedule has at its end, as in detectron2.

    Examples
    --------
    >>> rate_at(Schedule(name="cosine", warmup_steps=0, final_fraction=0), 0.2, 50, 100, 10)
    0.1
    """
    if schedule.name == "one_cycle":
        return rate * _one_cycle(schedule, step, steps)
    warmup = min(schedule.warmup_steps, steps)
    if step >= warmup:
        return _after_rise(schedule, rate, step, steps, steps_per_epoch)
    low, high = schedule.warmup_factor, _after_rise(schedule, rate, warmup, steps, steps_per_epoch) / rate
    return rate * (low + (high - low) * step / warmup)


def _after_rise(schedule: Schedule, rate: float, step: int, steps: int, steps_per_epoch: int) -> float:
    if schedule.name in ("constant", "plateau"):
        return rate
    if schedule.name == "multistep":
        return rate * schedule.gamma ** bisect_right(schedule.milestones, step)
    if schedule.per == "epoch":
        step = step // steps_per_epoch * steps_per_epoch
    step = max(0, step - schedule.warmup_steps)
    if schedule.name == "warm_restarts":
        progress = _in_cycle(schedule, step / steps_per_epoch)
    else:
        if schedule.length is not None:
            steps = schedule.length * steps_per_epoch + schedule.warmup_steps
        progress = min(1.0, step / max(1, steps - schedule.warmup_steps))
    share = 0.5 * (1 + math.cos(math.pi * progress))
    if schedule.min_learning_rate is not None:
        return schedule.min_learning_rate + (rate - schedule.min_learning_rate) * share
    return rate * (schedule.final_fraction + (1 - schedule.final_fraction) * share)


def _in_cycle(schedule: Schedule, epochs: float) -> float:
    """How far the present cycle of warm restarts has come, 0 to 1 (Loshchilov and Hutter 2017)."""
    length: int = schedule.t_0
    if schedule.t_mult == 1:
        return epochs % length / length
    while epochs >= length:
        epochs -= length
        length *= schedule.t_mult
    return epochs / length


def momentum_at(schedule: Schedule, step: int, steps: int) -> float | None:
    """The momentum at a step; None where the schedule leaves it as it is."""
    if schedule.name != "one_cycle" or schedule.momentums is None:
        return None
    ends, middle = schedule.momentums
    falling, progress = _one_cycle_place(schedule, step, steps)
    return _cosine(middle, ends, progress) if falling else _cosine(ends, middle, progress)


def _one_cycle(schedule: Schedule, step: int, steps: int) -> float:
    """One cycle (Smith 2018) with cosines, over the highest rate, which is 1 (fastai's, and PyTorch's, numbers)."""
    first = 1 / schedule.div_factor
    falling, progress = _one_cycle_place(schedule, step, steps)
    return _cosine(1.0, first / schedule.final_div_factor, progress) if falling else _cosine(first, 1.0, progress)


def _one_cycle_place(schedule: Schedule, step: int, steps: int) -> tuple[bool, float]:
    """Whether the rate falls already, and how far the rise or fall has come, 0 to 1."""
    top, last = schedule.pct_start * steps - 1, steps - 1
    # In a phase of a few steps the rate is highest at once.
    if step <= top and top > 0:
        return False, step / top
    return True, min(1.0, max(0.0, (step - top) / (last - top))) if last > top else 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


def _momentum(group: dict[str, Any]) -> float:
    return float(group["betas"][0] if "betas" in group else group["momentum"])


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, group["betas"][1])
    else:
        group["momentum"] = value
