"""Phases of a training: what is frozen, resuming, stopping, and the monitored figure."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from cytomask.errors import ConfigError
from cytomask.label_layers import LabelLayers
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Segmenter
from cytomask.models.star.config import StarPostprocess
from cytomask.training.config import EarlyStopping, Phase, Schedule, TrainingConfig
from cytomask.training.fit import FitResult, Interrupted, fit
from cytomask.training.parts import FrozenParts, make_optimiser
from cytomask.training.validation import ValidationImages

STEPS, BATCH = 2, 2


def config(*phases: Phase, **changes: Any) -> TrainingConfig:
    settings = {
        "steps_per_epoch": STEPS, "batch_size": BATCH, "workers": 0, "precision": "float32", "device": "cpu",
        "optimiser": {"learning_rate": 3e-3}, "schedule": {"name": "one_cycle"}, "ema_decay": None,
        "early_stopping": None, "phases": phases,
    }  # fmt: skip
    return TrainingConfig.model_validate({**settings, **changes})


FROZEN = Phase(epochs=2, freeze=True)
WHOLE = Phase(epochs=2, learning_rate=(1e-4, 2e-3))


def network() -> Segmenter:
    torch.manual_seed(3)
    backbone = {"kind": "residual", "widths": [6, 8], "blocks": [1, 1], "features": 8}
    return build_segmenter("star", {"in_channels": 1, "rays": 8, "backbone": backbone})


def field(seed: int) -> tuple[np.ndarray, LabelLayers]:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    y, x = rng.integers(10, 22, 2)
    labels = (np.hypot(rows - y, columns - x) < 6).astype(np.int32)
    return (labels + rng.normal(0, 0.1, labels.shape)).astype(np.float32)[None], LabelLayers.from_labels(labels)


class Patches(Dataset):
    """Patches that depend on epoch and index; ``stop_at`` plays Ctrl-C."""

    def __init__(self, segmenter: Segmenter, stop_at: tuple[int, int] | None = None) -> None:
        self.segmenter, self.stop_at, self.epoch = segmenter, stop_at, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return STEPS * BATCH

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.stop_at == (self.epoch, index):
            raise KeyboardInterrupt
        image, layers = field(1000 * self.epoch + index)
        targets = {k: torch.from_numpy(v) for k, v in self.segmenter.targets(layers).items()}
        return {"image": torch.from_numpy(image), **targets}


def run(
    folder: Path, settings: TrainingConfig, *, metric: Any = None, resume: bool = False, **options: Any
) -> tuple[dict[str, Tensor], FitResult]:
    segmenter = network()
    figures = options.pop("figures", None)
    patches = Patches(segmenter, **options)
    held_out = ValidationImages([field(7)], segmenter)
    score = metric or (lambda truths, predictions: len(predictions[0]) / 100)
    result = fit(
        segmenter, patches, held_out, settings, score, StarPostprocess(), folder, figures=figures, resume=resume
    )
    assert all(p.requires_grad for p in segmenter.parameters())
    return dict(segmenter.state_dict()), result


def last_state(folder: Path) -> dict[str, Tensor]:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name.removeprefix("segmenter."): value for name, value in state.items()}


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def norms_of(segmenter: Segmenter) -> set[str]:
    modules = dict(segmenter.named_modules())
    norms = {name for name, module in modules.items() if isinstance(module, nn.BatchNorm2d)}
    return {name for name in segmenter.state_dict() if name.rpartition(".")[0] in norms}


@pytest.mark.parametrize("norms", ["train", "eval"])
def test_a_frozen_phase_leaves_the_encoder_alone_but_for_its_norms(tmp_path: Path, norms: str) -> None:
    frozen = FROZEN.model_copy(update={"frozen_norms": norms})
    run(tmp_path, config(frozen))
    segmenter = network()
    changed = moved(dict(segmenter.state_dict()), last_state(tmp_path))
    encoder = {name for name in changed if name.startswith("backbone")}
    assert changed - encoder
    assert norms_of(segmenter)
    assert encoder == (norms_of(segmenter) if norms == "train" else set())


def test_all_learns_after_a_frozen_phase(tmp_path: Path) -> None:
    frozen = FROZEN.model_copy(update={"frozen_norms": "eval"})
    run(tmp_path, config(frozen, WHOLE))
    assert moved(dict(network().state_dict()), last_state(tmp_path)) == set(network().state_dict())


@pytest.mark.parametrize("stop_at", [(1, 2), (2, 0), (2, 3), (3, 1)])
@pytest.mark.parametrize("norms", ["train", "eval"])
def test_a_run_resumed_in_any_phase_equals_one_that_was_not_interrupted(
    tmp_path: Path, stop_at: tuple[int, int], norms: str
) -> None:
    settings = config(FROZEN.model_copy(update={"frozen_norms": norms}), WHOLE, ema_decay=0.5)
    run(tmp_path / "whole", settings)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", settings, stop_at=stop_at)
    assert len(rows_of(tmp_path / "broken")) == stop_at[0]
    run(tmp_path / "broken", settings, resume=True)
    assert not moved(last_state(tmp_path / "whole"), last_state(tmp_path / "broken"))
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "broken")


def test_a_phase_begins_with_an_optimiser_that_has_forgotten_the_one_before(tmp_path: Path) -> None:
    """Two phases are as two trainings, one after the other."""
    one = Phase(epochs=2, learning_rate=1e-3)
    run(tmp_path, config(one, one))
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    assert {float(entry["step"]) for entry in state.values()} == {2.0 * STEPS}


def test_the_table_tells_phases_and_rates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    constant = Schedule(name="constant", warmup_steps=0)
    settings = config(FROZEN, WHOLE, schedule=constant)
    figures = {"iou": 0.25, "iou_cell": 0.5}
    run(tmp_path, settings, figures=lambda truths, predictions: figures)
    rows = rows_of(tmp_path)
    assert [row["phase"] for row in rows] == ["1", "1", "2", "2"]
    assert [float(row["learning_rate"]) for row in rows] == [3e-3, 3e-3, 2e-3, 2e-3]
    assert [float(row["learning_rate_first_layers"]) for row in rows] == [3e-3, 3e-3, 1e-4, 1e-4]
    assert {(row["val/iou"], row["val/iou_cell"]) for row in rows} == {("0.25", "0.5")}
    told = capsys.readouterr().err
    assert "phase 1 of 2: 2 epochs, only the last layers learn, learning rate 0.003, constant" in told
    assert "phase 2 of 2: 2 epochs, all layers learn, learning rate 0.0001 to 0.002, constant" in told
    assert "IoU 0.25" in told


def test_what_the_family_froze_stays_so() -> None:
    segmenter = network()
    kept = next(segmenter.layer_groups()[0][0].parameters()).requires_grad_(False)
    parts = FrozenParts(segmenter, [FROZEN, WHOLE])
    for phase in (FROZEN, WHOLE):
        parts.apply(phase)
        assert not kept.requires_grad
    assert sum(not p.requires_grad for p in segmenter.parameters()) == 1


def test_a_network_of_one_part_cannot_be_frozen() -> None:
    segmenter = network()
    segmenter.layer_groups = lambda: [[segmenter]]  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="no parts"):
        FrozenParts(segmenter, [FROZEN])


@pytest.mark.parametrize("family", ["star", "region"])
def test_parts_hold_every_parameter_once(family: str) -> None:
    segmenter = build_segmenter(family, {"backbone": {"depth": 18, "width": 8}} if family == "region" else {})
    optimiser = make_optimiser(segmenter, config(FROZEN, WHOLE))
    held = [id(p) for group in optimiser.param_groups for p in group["params"]]
    assert len(held) == len(set(held))
    assert set(held) == {id(p) for p in segmenter.parameters() if p.requires_grad}
    assert [group["part"] for group in optimiser.param_groups] == [0, 0, 1, 1]


def test_the_weights_with_the_lowest_loss_are_kept(tmp_path: Path) -> None:
    scores = iter([0.9, 0.5, 0.4])
    settings = config(epochs=3, monitor="loss", schedule=Schedule(name="constant", warmup_steps=0))
    _, result = run(tmp_path, settings, metric=lambda truths, predictions: next(scores))
    losses = [float(row["val/loss"]) for row in rows_of(tmp_path)]
    best = int(np.argmin(losses))
    assert best > 0
    assert (result.best_epoch, result.best_score) == (best, pytest.approx([0.9, 0.5, 0.4][best]))


def test_a_monitored_figure_that_is_missing_now_and_then(tmp_path: Path) -> None:
    found = iter([{}, {"iou": 0.5}, {"iou": 0.4}])
    _, result = run(tmp_path, config(epochs=3, monitor="iou"), figures=lambda truths, predictions: next(found))
    assert result.best_epoch == 1


@pytest.mark.parametrize(("minimum", "epochs"), [(0, 3), (4, 6), (9, 8)])
def test_stopping_after_a_minimum_of_epochs(tmp_path: Path, minimum: int, epochs: int) -> None:
    scores = iter([0.5, *[0.4] * 9])
    settings = config(epochs=8, early_stopping=EarlyStopping(patience=2, min_epochs=minimum))
    _, result = run(tmp_path, settings, metric=lambda truths, predictions: next(scores))
    assert (result.epochs, result.best_epoch) == (epochs, 0)


def test_phases_before_the_last_are_always_whole(tmp_path: Path) -> None:
    scores = iter([0.5, *[0.4] * 9])
    settings = config(Phase(epochs=4), Phase(epochs=5), early_stopping=EarlyStopping(patience=1))
    _, result = run(tmp_path, settings, metric=lambda truths, predictions: next(scores))
    assert result.epochs == 5


def test_plateau_needs_validation(tmp_path: Path) -> None:
    segmenter = network()
    settings = config(epochs=1, schedule=Schedule(name="plateau"))
    with pytest.raises(ConfigError, match="no validation images"):
        fit(segmenter, Patches(segmenter), None, settings, lambda t, p: 0.0, StarPostprocess(), tmp_path)
