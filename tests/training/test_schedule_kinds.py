"""One cycle, warm restarts and cosine per epoch have PyTorch's numbers; phases follow one another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from cytomask.training.config import Optimiser, Phase, Schedule, TrainingConfig
from cytomask.training.schedules import StepSchedule, momentum_at, rate_at, spread


def optimiser(kind: str = "adamw", rate: float = 0.3) -> torch.optim.Optimizer:
    parameters = nn.Linear(2, 2).parameters()
    if kind == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9)
    return torch.optim.AdamW(parameters, lr=rate)


def followed(made: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[tuple[float, float]]:
    """Rate and momentum of each step."""
    used = []
    for _ in range(steps):
        group = made.param_groups[0]
        used.append((group["lr"], group["betas"][0] if "betas" in group else group["momentum"]))
        made.step()
        scheduler.step()
    return used


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
@pytest.mark.parametrize(("steps", "pct_start", "final"), [(10, 0.3, 1e4), (7, 0.25, 10.0), (101, 0.5, 1e4)])
def test_one_cycle_is_pytorchs(kind: str, steps: int, pct_start: float, final: float) -> None:
    theirs = optimiser(kind)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        theirs, 0.3, total_steps=steps, pct_start=pct_start, div_factor=25, final_div_factor=final
    )
    expected = followed(theirs, reference, steps - 1)
    ours = optimiser(kind)
    schedule = Schedule(name="one_cycle", pct_start=pct_start, final_div_factor=final)
    phase = Phase(epochs=1, learning_rate=0.3, schedule=schedule)
    found = followed(ours, StepSchedule(ours, [phase], steps, 1), steps)
    for one, other in zip(found, expected):
        assert one == pytest.approx(other, abs=1e-12)
    assert found[0] == pytest.approx((0.3 / 25, 0.95))
    assert found[-1] == pytest.approx((0.3 / 25 / final, 0.95))
    assert max(found)[0] > 0.25


def test_one_cycle_with_a_constant_momentum() -> None:
    made = optimiser("sgd")
    phase = Phase(epochs=1, learning_rate=0.3, schedule=Schedule(name="one_cycle", momentums=None))
    assert {m for _, m in followed(made, StepSchedule(made, [phase], 10, 1), 10)} == {0.9}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_of_very_few_steps(steps: int) -> None:
    schedule = Schedule(name="one_cycle")
    rates = [rate_at(schedule, 1.0, step, steps, steps) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert rates[-1] == pytest.approx(1 / 25e4)
    assert momentum_at(schedule, steps - 1, steps) == pytest.approx(0.95)


def test_cosine_per_epoch_is_pytorchs() -> None:
    """CosineAnnealingLR of T_max 100 and eta_min 1e-6, stepped after each epoch."""
    theirs = optimiser(rate=1e-3)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, T_max=100, eta_min=1e-6)
    expected = [rate for rate, _ in followed(theirs, reference, 100)]
    schedule = Schedule(name="cosine", per="epoch", length=100, min_learning_rate=1e-6, warmup_steps=0)
    found = [rate_at(schedule, 1e-3, 7 * epoch + k, 700, 7) for epoch in range(100) for k in (0, 6)]
    assert found[::2] == pytest.approx(expected, abs=1e-12)
    assert found[1::2] == found[::2]
    after = Schedule(name="cosine", per="epoch", length=10, min_learning_rate=1e-6, warmup_steps=0)
    assert rate_at(after, 1e-3, 7 * 30, 7 * 40, 7) == pytest.approx(1e-6)


def test_a_cosine_longer_than_the_training_stops_on_the_way() -> None:
    schedule = Schedule(name="cosine", length=10, final_fraction=0, warmup_steps=0)
    # Half of the ten epochs.
    assert rate_at(schedule, 1.0, 35, 42, 7) == pytest.approx(0.5)


@pytest.mark.parametrize(("t_0", "t_mult"), [(5, 1), (3, 2), (2, 3)])
def test_warm_restarts_are_pytorchs(t_0: int, t_mult: int) -> None:
    theirs = optimiser(rate=1e-3)
    reference = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(theirs, t_0, t_mult, eta_min=1e-5)
    schedule = Schedule(name="warm_restarts", t_0=t_0, t_mult=t_mult, min_learning_rate=1e-5, warmup_steps=0)
    per_epoch = schedule.model_copy(update={"per": "epoch"})
    for epoch in range(30):
        for k in range(4):
            reference.step(epoch + k / 4)
            expected = theirs.param_groups[0]["lr"]
            assert rate_at(schedule, 1e-3, 4 * epoch + k, 120, 4) == pytest.approx(expected, abs=1e-12)
            if k == 0:
                assert rate_at(per_epoch, 1e-3, 4 * epoch + 3, 120, 4) == pytest.approx(expected, abs=1e-12)


def test_phases_follow_one_another_with_rates_spread_over_the_parts() -> None:
    first = Phase(epochs=2, learning_rate=0.1, schedule=Schedule(name="one_cycle"))
    second = Phase(epochs=3, learning_rate=(1e-4, 1e-2), schedule=Schedule(name="constant", warmup_steps=0))
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    made = torch.optim.AdamW([{"params": [p], "part": k} for k, p in enumerate(parameters)], lr=1.0, betas=(0.8, 0.99))
    scheduler = StepSchedule(made, [first, second], 5, 3)
    seen = []
    for _ in range(25):
        seen.append([(group["lr"], group["betas"]) for group in made.param_groups])
        made.step()
        scheduler.step()
    assert (seen[9][0][0], *seen[9][0][1]) == pytest.approx((0.1 / 25e4, 0.95, 0.99))
    assert len({str(one[0]) for one in seen[:10]}) == 10
    for groups in seen[10:]:
        assert [rate for rate, _ in groups] == pytest.approx([1e-4, 1e-3, 1e-2])
        # Momentum is again what the optimiser's settings say.
        assert {betas for _, betas in groups} == {(0.8, 0.99)}


def test_rates_of_parts() -> None:
    assert spread((1e-6, 1e-4), 3) == pytest.approx([1e-6, 1e-5, 1e-4])
    assert spread((1e-6, 1e-4), 1) == [1e-4]


def test_epochs_are_those_of_the_phases() -> None:
    config = TrainingConfig.model_validate({"phases": [{"epochs": 5, "freeze": True}, {"epochs": 100}]})
    assert config.epochs == 105
    again = TrainingConfig.model_validate(config.model_dump(mode="json"))
    assert again == config
    assert again.resolved_phases()[0].learning_rate == config.optimiser.learning_rate


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"epochs": 4, "phases": [{"epochs": 5}]}, "the phases have 5"),
        ({"phases": [{"epochs": 5, "schedule": {"name": "plateau"}}]}, "plateau"),
        ({"phases": [{"epochs": 0}]}, "epochs"),
        ({"phases": [{"freeze": True}]}, "epochs"),
        ({"phases": [{"epochs": 2, "learning_rate": [0, 1e-3]}]}, "learning_rate"),
        ({"schedule": {"name": "cosine", "min_learning_rate": 0.1}}, "above the learning rate"),
        ({"monitor": "beauty"}, "monitor"),
    ],
)
def test_wrong_phases(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        TrainingConfig.model_validate(wrong)


def test_a_frozen_phase_before_one_with_spread_rates() -> None:
    """Five frozen epochs, then a hundred with rates spread over the parts, one cycle each."""
    optimiser = Optimiser(learning_rate=1e-4, weight_decay=1e-2, betas=(0.9, 0.99))
    phases = (Phase(epochs=5, freeze=True), Phase(epochs=100, learning_rate=(1e-6, 5e-5)))
    config = TrainingConfig(optimiser=optimiser, schedule=Schedule(name="one_cycle"), phases=phases)
    first, second = config.resolved_phases()
    assert (first.learning_rate, second.learning_rate) == (1e-4, (1e-6, 5e-5))
    assert {phase.schedule.name for phase in (first, second) if phase.schedule} == {"one_cycle"}
