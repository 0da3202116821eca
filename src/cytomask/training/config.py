"""How a model is trained: optimiser, schedule, phases, length, precision, stopping."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: A learning rate.
Rate = Annotated[float, Field(gt=0)]
_STRICT = ConfigDict(extra="forbid", frozen=True)


class Optimiser(BaseModel):
    """The optimiser and its settings."""

    model_config = _STRICT

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0, description="of weights; norms have none")
    decay_biases: bool = Field(False, description="biases are decayed like weights")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.999), description="of Adam and AdamW: how long they remember gradients and their squares (fastai: 0.99)"
    )
    gradient_clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient, or null")


class Schedule(BaseModel):
    """How the learning rate moves."""

    model_config = _STRICT

    name: Literal["cosine", "one_cycle", "warm_restarts", "plateau", "constant", "multistep"] = "cosine"
    warmup_steps: int = Field(
        100, ge=0, description="steps of linear rise to the rate; not with plateau and one_cycle, which has its own"
    )
    warmup_factor: float = Field(0.01, ge=0, le=1, description="share of the rate that the rise begins with")
    per: Literal["step", "epoch"] = Field(
        "step", description="cosine and warm_restarts: the rate moves with each step, or only between epochs"
    )
    final_fraction: float = Field(
        0.01, ge=0, le=1, description="cosine and warm_restarts: the lowest rate over the first"
    )
    min_learning_rate: float | None = Field(
        None, ge=0, description="cosine and warm_restarts: the lowest rate itself, instead of final_fraction (eta_min)"
    )
    length: int | None = Field(
        None, ge=1, description="cosine: epochs until the lowest rate, which then stays (T_max); null: all epochs"
    )
    t_0: int = Field(10, ge=1, description="warm_restarts: epochs of the first cycle")
    t_mult: int = Field(1, ge=1, description="warm_restarts: each cycle is so many times as long as the one before")
    pct_start: float = Field(0.3, gt=0, lt=1, description="one_cycle: share of the steps in which the rate rises")
    div_factor: float = Field(25.0, ge=1, description="one_cycle: the rate over the one it begins with")
    final_div_factor: float = Field(1e4, ge=1, description="one_cycle: the rate it begins with over the last")
    momentums: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        (0.95, 0.85),
        description="one_cycle: momentum (Adam: the first beta) at the ends and at the highest rate; null: constant",
    )
    milestones: tuple[int, ...] = Field((), description="multistep: steps from which on the rate is lower")
    gamma: float = Field(0.1, gt=0, le=1, description="multistep: what the rate is multiplied with at each")
    factor: float = Field(0.5, gt=0, lt=1, description="plateau: what the rate is multiplied with")
    patience: int = Field(10, ge=0, description="plateau: validations without improvement before that")

    @model_validator(mode="after")
    def _steps(self) -> Self:
        if self.name == "multistep" and not self.milestones:
            raise ValueError("multistep needs milestones: steps at which the rate becomes lower")
        if list(self.milestones) != sorted(set(self.milestones)) or min(self.milestones, default=1) < 1:
            raise ValueError("milestones must rise, from 1 on")
        return self


class Phase(BaseModel):
    """A part of the training with a schedule of its own."""

    model_config = _STRICT

    epochs: int = Field(ge=1)
    freeze: bool = Field(False, description="only the network's last group of layers learns, such as decoder or heads")
    frozen_norms: Literal["train", "eval"] = Field(
        "train", description="with freeze, norms of the frozen part: go on learning, as in fastai, or stay as they are"
    )
    learning_rate: Rate | tuple[Rate, Rate] | None = Field(
        None,
        description="one number, or [first, last] of the groups of layers, with a constant ratio from group to group; "
        "null: that of the optimiser",
    )
    schedule: Schedule | None = Field(None, description="null: that of the training, over this phase's steps")


class EarlyStopping(BaseModel):
    """When to stop early."""

    model_config = _STRICT

    patience: int = Field(20, ge=1, description="validations without improvement")
    min_delta: float = Field(0.0, ge=0, description="what counts as an improvement of the monitored figure")
    min_epochs: int = Field(
        0, ge=0, description="so many epochs are trained in any case, and validations are counted only after them"
    )


class TrainingConfig(BaseModel):
    """The whole of how a model is trained."""

    model_config = _STRICT

    epochs: int = Field(100, ge=1, description="with phases, the sum of theirs")
    steps_per_epoch: int = Field(100, ge=1, description="optimiser steps per epoch")
    batch_size: int = Field(8, ge=1, description="items of a batch, which all devices share")
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added before a step")
    optimiser: Optimiser = Field(default_factory=Optimiser)
    schedule: Schedule = Field(default_factory=Schedule)
    phases: tuple[Phase, ...] = Field((), description="parts of the training, one after the other; empty: it has none")
    ema_decay: float | None = Field(0.999, gt=0, lt=1, description="exponential moving average of the weights, or null")
    early_stopping: EarlyStopping | None = Field(default_factory=EarlyStopping)
    monitor: Literal["score", "loss", "iou", "pixel_accuracy"] = Field(
        "score", description="validation figure by which weights are kept, training stops early, and plateau acts"
    )
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: mixed precision where the device computes it natively, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0 …")
    devices: int = Field(
        1, ge=1, description="devices per machine that train together (on CPUs: processes); they share each batch"
    )
    nodes: int = Field(1, ge=1, description="machines that train together")
    sync_norms: bool = Field(
        True,
        description="with several devices, batch norms see the whole batch; false: each device's part of it by itself, "
        "which is faster, and no longer equals a training on one device",
    )
    workers: int = Field(1, ge=0, description="processes that prepare patches; 0 prepares them in the main process")
    seed: int = Field(0, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _sum_of_phases(cls, fields: Any) -> Any:
        if not isinstance(fields, dict) or "epochs" in fields or not isinstance(fields.get("phases"), list | tuple):
            return fields
        epochs = [p.epochs if isinstance(p, Phase) else p.get("epochs") for p in fields["phases"] if p]
        if not epochs or not all(isinstance(n, int) for n in epochs):
            return fields
        return {**fields, "epochs": sum(epochs)}

    @model_validator(mode="after")
    def _fitting_phases(self) -> Self:
        together = self.devices * self.nodes
        if self.batch_size % together:
            raise ValueError(
                f"{together} devices share a batch of {self.batch_size}, so batch_size must be a multiple of {together}"
            )
        total = sum(phase.epochs for phase in self.phases)
        if self.phases and self.epochs != total:
            raise ValueError(
                f"epochs is {self.epochs}, but the phases have {total}: leave epochs out, or set those of the phases"
            )
        for phase in self.resolved_phases():
            schedule, rate = phase.schedule, phase.learning_rate
            assert schedule is not None
            if self.phases and schedule.name == "plateau":
                raise ValueError("plateau has no phases: give them another schedule")
            lowest = schedule.min_learning_rate
            if lowest is not None and schedule.name in ("cosine", "warm_restarts"):
                first = min(rate) if isinstance(rate, tuple) else rate
                if first is not None and lowest > first:
                    raise ValueError(f"min_learning_rate {lowest:g} is above the learning rate {first:g}")
        return self

    def resolved_phases(self) -> list[Phase]:
        """The phases with all filled in; one of the whole training if it has none.

        Examples
        --------
        >>> phases = [{"epochs": 2, "freeze": True}, {"epochs": 5, "learning_rate": [1e-6, 1e-4]}]
        >>> config = TrainingConfig(phases=phases)
        >>> config.epochs, [phase.learning_rate for phase in config.resolved_phases()]
        (7, [0.0003, (1e-06, 0.0001)])
        """
        return [
            phase.model_copy(
                update={
                    "learning_rate": phase.learning_rate or self.optimiser.learning_rate,
                    "schedule": phase.schedule or self.schedule,
                }
            )
            for phase in self.phases or (Phase(epochs=self.epochs),)
        ]
