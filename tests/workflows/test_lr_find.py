"""Finding learning rates: the sweep repeats and leaves the network alone, and the suggestions follow their rules."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.io import imread
from torch import Tensor, nn
from torch.utils.data import Dataset
from typer.testing import CliRunner

from cytomask.cli.app import app
from cytomask.errors import ConfigError, TrainingError
from cytomask.reporting.lr_plot import SweptModel, draw_lr_plot
from cytomask.training.config import Phase, TrainingConfig
from cytomask.training.rate_suggestions import suggest_rates
from cytomask.training.rate_sweep import Sweep, sweep_rates
from cytomask.workflows.generated import write_generated_dataset
from cytomask.workflows.lr_find import find_learning_rates

STEPS = 30


class Line(nn.Module):
    """A network of two parts whose loss is a parabola: by hand, SGD diverges from a known rate on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.first.weight)
        nn.init.ones_(self.second.weight)

    def layer_groups(self) -> list[list[nn.Module]]:
        return [[self.first], [self.second]]

    def losses(self, images: Tensor, targets: dict[str, Any]) -> dict[str, Tensor]:
        both = self.first.weight**2 + self.second.weight**2
        return {"square": (both * targets["hardness"].mean()).sum(), "none": torch.zeros(())}

    @staticmethod
    def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
        return torch.utils.data.default_collate(items)


class Items(Dataset):
    """Batches of which some are ten times as hard as others."""

    def __init__(self, length: int, value: float | None = None) -> None:
        self.length, self.value = length, value

    def set_epoch(self, epoch: int) -> None:
        assert epoch == 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        hardness = (1.0 if index % 3 else 10.0) if self.value is None else self.value
        return {"image": torch.zeros(1, 4, 4), "hardness": hardness}


def settings(**changes: Any) -> TrainingConfig:
    fields = {
        "batch_size": 1, "workers": 0, "precision": "float32", "device": "cpu",
        "optimiser": {"name": "sgd", "momentum": 0.0, "gradient_clip": None, "weight_decay": 0.0},
    }  # fmt: skip
    return TrainingConfig.model_validate({**fields, **changes})


def swept(config: TrainingConfig | None = None, **options: Any) -> Sweep:
    config = config or settings()
    items = Items(STEPS * config.accumulate, options.pop("value", None))
    return sweep_rates(Line(), items, config, steps=STEPS, **options)  # type: ignore[arg-type]


def test_the_loss_of_each_step_is_that_of_gradient_descent() -> None:
    sweep = swept(value=1.0, first=1e-3, last=0.4, smoothing=0.0)
    assert sweep.rates[[0, -1]] == pytest.approx([1e-3, 0.4])
    assert np.diff(np.log(sweep.rates)) == pytest.approx(np.log(400) / (STEPS - 1))
    expected = 2 * np.concatenate([[1.0], np.cumprod((1 - 2 * sweep.rates[:-1]) ** 2)])
    assert sweep.losses == pytest.approx(expected, rel=1e-4)
    assert sweep.ended == "range"


def test_hard_batches_do_not_show_in_the_smoothed_loss() -> None:
    sweep = swept(first=1e-5, last=0.02, smoothing=0.0)
    assert sweep.losses.max() > 8 * sweep.losses.min()
    assert (np.diff(sweep.smoothed) < 0).all()
    assert sweep.smoothed[0] == pytest.approx(sweep.at_start.mean())


def test_smoothing_has_no_bias_at_its_beginning() -> None:
    sweep = swept(value=1.0, first=1e-9, last=1e-8, smoothing=0.9)
    assert sweep.smoothed == pytest.approx(np.full(STEPS, 2.0), rel=1e-5)


def test_it_stops_where_the_loss_is_four_times_its_lowest() -> None:
    sweep = swept(value=1.0, first=1e-2, last=100.0, smoothing=0.0)
    assert sweep.ended == "diverged"
    assert len(sweep.rates) < STEPS
    assert sweep.smoothed[-1] > 4 * sweep.smoothed.min()
    assert sweep.smoothed[-2] <= 4 * sweep.smoothed.min()


def test_the_network_stays_as_it_is_and_the_numbers_repeat() -> None:
    network, items = Line(), Items(STEPS)
    one, two = (sweep_rates(network, items, settings(), steps=STEPS) for _ in range(2))  # type: ignore[arg-type]
    assert one.losses.tolist() == two.losses.tolist()
    assert float(network.first.weight.detach()) == 1.0
    assert network.first.weight.grad is None


def test_added_up_batches_are_one_step() -> None:
    one = swept(value=1.0, first=1e-3, last=0.1)
    two = swept(settings(accumulate=3), value=1.0, first=1e-3, last=0.1)
    assert two.losses == pytest.approx(one.losses, rel=1e-5)


def test_the_first_phase_says_what_learns_and_in_which_proportion() -> None:
    frozen = settings(phases=[Phase(epochs=1, freeze=True), Phase(epochs=1)])
    loss = swept(frozen, value=1.0, first=1e-3, last=0.4, smoothing=0.0).losses
    rates = np.geomspace(1e-3, 0.4, STEPS)
    decay = np.concatenate([[1.0], np.cumprod((1 - 2 * rates[:-1]) ** 2)])
    assert loss == pytest.approx(1 + decay, rel=1e-4)
    slower = settings(phases=[Phase(epochs=1, learning_rate=(1e-4, 1e-3))])
    loss = swept(slower, value=1.0, first=1e-3, last=0.4, smoothing=0.0).losses
    tenth = np.concatenate([[1.0], np.cumprod((1 - 0.2 * rates[:-1]) ** 2)])
    assert loss == pytest.approx(decay + tenth, rel=1e-4)


def test_losses_that_are_never_finite() -> None:
    with pytest.raises(TrainingError, match="whatever the learning rate"):
        swept(value=float("nan"))


def sweep_of(losses: list[float]) -> Sweep:
    values = np.array(losses)
    return Sweep(10.0 ** np.arange(-len(values), 0), values, np.ones(len(values)), values, "range")


def test_suggestions() -> None:
    # Rates from 1e-10: nothing happens until 1e-7, the loss falls until 1e-3 and rises again.
    found = {s.rule: s for s in suggest_rates(sweep_of([2, 2, 2, 1.99, 1.8, 1.2, 1.0, 0.8, 1.5, 7]))}
    assert found["steepest descent"].rate == pytest.approx(1e-5)
    assert found["a tenth of the minimum"].rate == pytest.approx(1e-4)
    assert found["a tenth of the minimum"].loss == pytest.approx(1.0)
    # From 1e-6 to 1e-3.
    assert found["valley"].rate == pytest.approx(1e-5)
    assert [s.rule for s in found.values() if s.recommended] == ["valley"]


@pytest.mark.parametrize("losses", [[1.0, 1.0, 1.0, 1.0], [1.0, 1.1, 1.5, 3.0], [1.0, 0.999, 0.998, 1.2], [1.0, 0.5]])
def test_a_loss_that_does_not_fall_suggests_nothing(losses: list[float]) -> None:
    assert suggest_rates(sweep_of(losses)) == []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import cytomask.workflows.generated as generated

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "SPLITS", {"train": 3, "val": 1, "test": 1})
        return write_generated_dataset(tmp_path_factory.mktemp("generated") / "data", np.random.default_rng(0))


OPTIONS = [
    "--set", "patches.size=32", "--set", "training.batch_size=1", "--set", "training.workers=0",
    "--set", "training.precision=float32", "--set", "training.device=cpu", "--set", "model.rays=8",
    "--set", "model.backbone={kind: residual, widths: [6, 8], blocks: [1, 1], features: 8}",
]  # fmt: skip


def test_the_command_writes_plot_and_table_of_several(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "plots" / "lr.png"
    command = ["lr-find", "demo", "demo", "--data", str(data), "--out", str(out), "--steps", "6", *OPTIONS]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    assert "demo 2 (star): " in result.stdout
    assert imread(out).shape[0] > 400
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["experiment"] for row in rows} == {"demo 1", "demo 2"}
    # The same experiment twice: the same numbers.
    losses = [[row["loss"] for row in rows if row["experiment"] == name] for name in ("demo 1", "demo 2")]
    assert losses[0] == losses[1]
    assert sorted(p.name for p in out.parent.iterdir()) == ["lr.csv", "lr.png"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"first": 1.0, "last": 0.1}, "do not rise"),
        ({"first": 0.0}, "do not rise"),
        ({"steps": 2}, "too few steps"),
        ({"smoothing": 1.0}, "smoothing"),
        ({"out": "lr.pdf"}, "PNG"),
    ],
)
def test_wrong_options_are_told_before_anything_is_read(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        find_learning_rates(["no such experiment"], **options)


def test_several_models_are_drawn_over_their_lowest_loss() -> None:
    rates = np.array([1e-3, 1e-2, 1e-1])
    models = [
        SweptModel("a", rates, np.array([9.0, 6.0, 12.0]), np.array([8.0, 4.0, 16.0]), [("valley", 1e-2, 4.0, True)]),
        SweptModel("b", rates, np.array([0.9, 0.6, 1.2]), np.array([0.3, 0.2, 0.4])),
    ]
    panel = draw_lr_plot(models).axes[0]
    drawn = [line.get_ydata() for line in panel.lines if len(line.get_xdata()) == 3]
    assert [list(np.round(y, 6)) for y in drawn] == [[2, 1, 4], [1.5, 1, 2]]
    assert panel.get_ylim() == (1.0, 4.0)
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a: 0.01", "b: no suggestion"]
