"""How a model is trained: optimiser, schedule, length, precision, stopping."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

_STRICT = ConfigDict(extra="forbid", frozen=True)


class Optimiser(BaseModel):
    """The optimiser and its settings."""

    model_config = _STRICT

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0, description="of weights; norms have none")
    decay_biases: bool = Field(False, description="biases are decayed like weights")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    gradient_clip: float | None = Field(1.0, gt=0, description="largest norm of the gradient, or null")


class Schedule(BaseModel):
    """How the learning rate moves."""

    model_config = _STRICT

    name: Literal["cosine", "plateau", "constant", "multistep"] = "cosine"
    warmup_steps: int = Field(100, ge=0, description="steps of linear rise to the rate; not with plateau")
    warmup_factor: float = Field(0.01, ge=0, le=1, description="share of the rate that the rise begins with")
    final_fraction: float = Field(0.01, ge=0, le=1, description="cosine: the last rate over the first")
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


class EarlyStopping(BaseModel):
    """When to stop early."""

    model_config = _STRICT

    patience: int = Field(20, ge=1, description="validations without improvement")
    min_delta: float = Field(0.0, ge=0, description="what counts as an improvement of the score")


class TrainingConfig(BaseModel):
    """The whole of how a model is trained."""

    model_config = _STRICT

    epochs: int = Field(100, ge=1)
    steps_per_epoch: int = Field(100, ge=1, description="optimiser steps per epoch")
    batch_size: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1, description="batches whose gradients are added before a step")
    optimiser: Optimiser = Field(default_factory=Optimiser)
    schedule: Schedule = Field(default_factory=Schedule)
    ema_decay: float | None = Field(0.999, gt=0, lt=1, description="exponential moving average of the weights, or null")
    early_stopping: EarlyStopping | None = Field(default_factory=EarlyStopping)
    validate_every: int = Field(1, ge=1, description="epochs between validations")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: mixed precision where the device computes it natively, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:0 …")
    workers: int = Field(1, ge=0, description="processes that prepare patches; 0 prepares them in the main process")
    seed: int = Field(0, ge=0)
