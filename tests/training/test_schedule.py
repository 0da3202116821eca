"""Learning rates step by step, what is decayed, and gradients added up over batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.data import Dataset

from cytomask.label_layers import LabelLayers
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Segmenter
from cytomask.models.star.config import StarPostprocess
from cytomask.training.config import Optimiser, Schedule, TrainingConfig
from cytomask.training.fit import fit
from cytomask.training.module import TrainingModule
from cytomask.training.parts import parameter_groups

SETTINGS = {
    "rays": 8,
    "backbone": {"kind": "residual", "widths": [6, 8], "blocks": [1, 1], "features": 8},
}


def network() -> Segmenter:
    torch.manual_seed(3)
    return build_segmenter("star", SETTINGS)


def rates(config: TrainingConfig, steps: int) -> list[float]:
    """The rate that each step is made with."""
    module = TrainingModule(network(), config, lambda t, p: 0.0, StarPostprocess())
    made = module.configure_optimizers()
    optimiser, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    used = []
    for _ in range(steps):
        used.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    return used


def config(schedule: dict[str, Any], steps: int = 20_000) -> TrainingConfig:
    optimiser = Optimiser(name="sgd", learning_rate=1.0)
    return TrainingConfig(epochs=1, steps_per_epoch=steps, optimiser=optimiser, schedule=Schedule(**schedule))


# Numbers of detectron2 0.6's WarmupParamScheduler about fvcore's MultiStepParamScheduler.
def test_milestones_and_rise_have_detectron2s_numbers() -> None:
    schedule = {"name": "multistep", "milestones": [70, 90], "warmup_steps": 10, "warmup_factor": 0.001}
    found = rates(config(schedule, 200), 200)
    assert found[:3] == pytest.approx([0.001, 0.1009, 0.2008], abs=1e-12)
    assert found[9:11] == pytest.approx([0.9001, 1.0], abs=1e-12)
    assert (found[69], found[70], found[89], found[90]) == pytest.approx((1.0, 0.1, 0.1, 0.01), abs=1e-12)


def test_a_milestone_within_the_rise_has_detectron2s_numbers() -> None:
    schedule = {"name": "multistep", "milestones": [700, 900], "warmup_steps": 800, "warmup_factor": 0.001}
    found = rates(config(schedule, 2000), 1000)
    assert [found[s] for s in (0, 1, 400, 699, 700, 800, 900)] == pytest.approx(
        [0.001, 0.0011237500000000002, 0.0505, 0.08750124999999999, 0.087625, 0.1, 0.01], abs=1e-12
    )


def test_cosine_begins_when_the_rise_ends() -> None:
    schedule = {"name": "cosine", "warmup_steps": 10, "warmup_factor": 0.2, "final_fraction": 0.5}
    found = rates(config(schedule, 110), 110)
    assert found[:11] == pytest.approx(np.linspace(0.2, 1.0, 11))
    assert found[60] == pytest.approx(0.75)
    assert found[-1] == pytest.approx(0.5, abs=1e-3)


def test_a_training_shorter_than_its_rise() -> None:
    found = rates(config({"name": "constant", "warmup_steps": 1000, "warmup_factor": 0.0}, 10), 10)
    assert found == pytest.approx(np.arange(10) / 10)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "multistep"},
        {"name": "multistep", "milestones": [9, 3]},
        {"name": "multistep", "milestones": [3, 3]},
        {"name": "multistep", "milestones": [0, 3]},
        {"warmup_factor": 2},
    ],
)
def test_wrong_schedules(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Schedule(**wrong)


class Parts(nn.Module):
    """One of each kind of layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.linear = nn.Conv2d(4, 4, 3), nn.Linear(4, 4)
        self.batch, self.group, self.layer = nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4)
        self.frozen = nn.Conv2d(4, 4, 1).requires_grad_(False)
        self.again = self.linear


@pytest.mark.parametrize("biases", [False, True])
def test_norms_are_never_decayed_and_biases_when_asked(biases: bool) -> None:
    parts = Parts()
    groups = parameter_groups([parts], Optimiser(weight_decay=0.3, decay_biases=biases))
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert sum(len(g["params"]) for g in groups) == len(decay) == 10
    for name, parameter in parts.named_parameters():
        layer, kind = name.split(".")
        if layer == "frozen":
            assert id(parameter) not in decay
        elif layer in ("convolution", "linear"):
            assert decay[id(parameter)] == (0.3 if kind == "weight" or biases else 0.0), name
        else:
            assert decay[id(parameter)] == 0.0, name


class Fields(Dataset):
    """Items with the same objects and other noise, so that each weighs alike in a batch."""

    def __init__(self, segmenter: Segmenter, length: int) -> None:
        self.segmenter, self.length = segmenter, length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows, columns = np.mgrid[:32, :32]
        labels = (np.hypot(rows - 12, columns - 15) < 7).astype(np.int32)
        noise = np.random.default_rng([self.epoch, index]).normal(0, 0.3, (1, 32, 32))
        targets = {k: torch.from_numpy(v) for k, v in self.segmenter.targets(LabelLayers.from_labels(labels)).items()}
        return {"image": torch.from_numpy((labels + noise).astype(np.float32)), **targets}


def without_batch_norm(segmenter: Segmenter) -> Segmenter:
    for module in list(segmenter.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.GroupNorm(1, child.num_features))
    return segmenter


def trained(folder: Path, batch_size: int, accumulate: int) -> dict[str, torch.Tensor]:
    segmenter = without_batch_norm(network())
    settings = TrainingConfig(
        epochs=2,
        steps_per_epoch=3,
        batch_size=batch_size,
        accumulate=accumulate,
        optimiser=Optimiser(name="sgd", learning_rate=0.05, gradient_clip=0.5),
        # Counted in steps, not in batches: a milestone in the second epoch.
        schedule=Schedule(name="multistep", milestones=(4,), gamma=0.5, warmup_steps=2),
        ema_decay=0.5,
        early_stopping=None,
        workers=0,
        precision="float32",
        device="cpu",
    )
    data = Fields(segmenter, 3 * batch_size * accumulate)
    fit(segmenter, data, None, settings, lambda t, p: 0.0, StarPostprocess(), folder)
    return {name: value.clone() for name, value in segmenter.state_dict().items()}


def test_adding_up_batches_of_one_equals_a_batch_of_two(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", 1, 2)
    two = trained(tmp_path / "two", 2, 1)
    begun = without_batch_norm(network()).state_dict()
    for name, value in two.items():
        assert torch.allclose(one[name], value, atol=2e-6), name
    moved = max(float((two[name] - begun[name]).abs().max()) for name in two)
    assert moved > 1e-3
    tables = [(tmp_path / name / "metrics.csv").read_text().splitlines() for name in ("one", "two")]
    steps = [[row.split(",")[1:3] for row in table] for table in tables]
    assert steps[0] == steps[1]
    assert [row[0] for row in steps[0][1:]] == ["3", "6"]
