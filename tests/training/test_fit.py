"""The training loop: it learns, resumes exactly, keeps the best weights, and stops clearly."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Dataset

from cytomask.data.patches import SourceImage
from cytomask.errors import ConfigError, TrainingError
from cytomask.instances import Instances
from cytomask.label_layers import LabelLayers
from cytomask.models.devices import choose_device
from cytomask.models.region.config import RegionPostprocess
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Segmenter
from cytomask.models.star.config import StarPostprocess
from cytomask.training.config import EarlyStopping, Optimiser, Schedule, TrainingConfig
from cytomask.training.fit import Interrupted, fit
from cytomask.training.module import pad_to_stride
from cytomask.training.precision import lightning_precision
from cytomask.training.validation import ValidationImages

CONFIG = TrainingConfig(
    epochs=4,
    steps_per_epoch=3,
    batch_size=2,
    workers=0,
    precision="float32",
    device="cpu",
    optimiser=Optimiser(learning_rate=3e-3),
    schedule=Schedule(warmup_steps=2),
    ema_decay=0.5,
    early_stopping=None,
)
SETTINGS = {
    "in_channels": 1,
    "rays": 8,
    "backbone": {"kind": "residual", "widths": [6, 8], "blocks": [1, 1], "features": 8},
}


def network() -> Segmenter:
    torch.manual_seed(3)
    return build_segmenter("star", SETTINGS)


def field(seed: int) -> tuple[np.ndarray, LabelLayers]:
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    labels = np.zeros((32, 32), np.int32)
    for i, (y, x) in enumerate([(8, 8), (8, 24), (24, 16)], start=1):
        y, x = y + rng.integers(-2, 3), x + rng.integers(-2, 3)
        labels[np.hypot(rows - y, columns - x) < 5] = i
    image = ((labels > 0) + rng.normal(0, 0.1, labels.shape)).astype(np.float32)[None]
    return image, LabelLayers.from_labels(labels)


class Patches(Dataset):
    """Patches that depend on epoch and index; item ``broken`` is not finite; ``stop_at`` plays Ctrl-C."""

    def __init__(self, segmenter: Segmenter, broken: int | None = None, stop_at: tuple[int, int] | None = None) -> None:
        self.segmenter, self.broken, self.stop_at, self.epoch = segmenter, broken, stop_at, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return CONFIG.steps_per_epoch * CONFIG.batch_size

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.stop_at == (self.epoch, index):
            raise KeyboardInterrupt
        image, layers = field(1000 * self.epoch + index)
        if index == self.broken:
            image = image * np.nan
        targets = {k: torch.from_numpy(v) for k, v in self.segmenter.targets(layers).items()}
        return {"image": torch.from_numpy(image), **targets}


def count_metric(truths: list[Instances], predictions: list[Instances]) -> float:
    return 1 / (1 + sum(abs(len(t) - len(p)) for t, p in zip(truths, predictions)))


def run(folder: Path, config: TrainingConfig = CONFIG, metric: Any = count_metric, **options: Any) -> Any:
    resume = options.pop("resume", False)
    segmenter = network()
    validation = ValidationImages([field(7), field(8)], segmenter)
    patches = Patches(segmenter, **options)
    result = fit(segmenter, patches, validation, config, metric, StarPostprocess(), folder, resume=resume)
    return segmenter, result


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def test_it_learns_and_leaves_a_table(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 12})
    _, result = run(tmp_path, config)
    rows = rows_of(tmp_path)
    assert [int(r["epoch"]) for r in rows] == list(range(12))
    assert float(rows[-1]["train/loss"]) < 0.8 * float(rows[0]["train/loss"])
    assert result.epochs == 12
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert list((tmp_path / "tensorboard").glob("events*"))


@pytest.mark.parametrize("workers", [0, 1])
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path: Path, workers: int) -> None:
    config = CONFIG.model_copy(update={"workers": workers})
    whole, _ = run(tmp_path / "whole", config)
    with pytest.raises(Interrupted):
        run(tmp_path / "broken", stop_at=(2, 3))
    assert [int(r["epoch"]) for r in rows_of(tmp_path / "broken")] == [0, 1]
    resumed, result = run(tmp_path / "broken", config, resume=True)
    assert result.epochs == 4
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "broken")


def test_the_best_weights_are_kept_not_the_last(tmp_path: Path) -> None:
    scores = iter([0.2, 0.9, 0.5, 0.4])
    segmenter, result = run(tmp_path, metric=lambda truths, predictions: next(scores))
    assert (result.best_score, result.best_epoch) == (pytest.approx(0.9), 1)
    best = load_file(tmp_path / "checkpoints" / "best.safetensors")
    assert all(torch.equal(best[name], value) for name, value in segmenter.state_dict().items())
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(last["segmenter.probability.weight"], best["probability.weight"])


def test_it_stops_early(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"epochs": 10, "early_stopping": EarlyStopping(patience=2)})
    scores = iter([0.5, 0.4, 0.4, 0.4, 0.4, 0.4])
    _, result = run(tmp_path, config, metric=lambda truths, predictions: next(scores))
    assert result.epochs == 3


def test_a_loss_that_is_not_finite_stops_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no longer a finite[\s\S]*epoch 0, batch 1"):
        run(tmp_path, broken=3)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="nothing to resume"):
        run(tmp_path, resume=True)


@pytest.mark.parametrize("name", ["plateau", "constant"])
def test_the_other_schedules(tmp_path: Path, name: str) -> None:
    schedule = Schedule(name=name, warmup_steps=0, patience=0)
    config = CONFIG.model_copy(update={"schedule": schedule, "epochs": 3})
    scores = iter([0.5, 0.4, 0.3])
    run(tmp_path, config, metric=lambda truths, predictions: next(scores))
    rates = [float(r["learning_rate"]) for r in rows_of(tmp_path)]
    assert (rates[-1] < rates[0]) == (name == "plateau")


def test_padding_repeats_the_edge() -> None:
    padded = pad_to_stride(np.arange(6, dtype=np.float32).reshape(1, 2, 3), 4)
    assert padded.shape == (1, 4, 4)
    assert padded[0, :, 3].tolist() == [2, 5, 5, 5]


def test_devices_and_precisions() -> None:
    assert choose_device("cpu").type == "cpu"
    assert lightning_precision("bfloat16", torch.device("cpu")) == "bf16-mixed"
    with pytest.raises(ConfigError, match="no such device"):
        choose_device("abacus")
    with pytest.raises(ConfigError, match="no such device"):
        choose_device("cuda:99")


REGION = {
    "in_channels": 1,
    "backbone": {"depth": 18, "width": 8, "stem_width": 8, "norm": "batch", "freeze": 1},
    "pyramid": {"width": 8},
    "anchors": {"sizes": [[8], [16], [32], [64], [128]]},
    "rpn": {"batch": 16},
    "sampling": {"batch": 16},
    "box": {"linear_width": 16},
    "mask": {"kind": "pointrend", "coarse_width": 16, "point_width": 8, "train_points": 16},
}


def test_a_network_that_draws_what_it_learns_from_resumes_exactly_too(tmp_path: Path) -> None:
    """Region networks learn from some of their proposals and points, drawn at random."""

    def trained(folder: Path, *, workers: int, resume: bool = False, **options: Any) -> Segmenter:
        torch.manual_seed(3)
        segmenter = build_segmenter("region", REGION)
        config = CONFIG.model_copy(update={"epochs": 2, "workers": workers})
        validation = ValidationImages([field(7)], segmenter)
        patches = Patches(segmenter, **options)
        fit(segmenter, patches, validation, config, count_metric, RegionPostprocess(), folder, resume=resume)
        return segmenter

    whole = trained(tmp_path / "whole", workers=2)
    with pytest.raises(Interrupted):
        trained(tmp_path / "broken", workers=0, stop_at=(1, 3))
    resumed = trained(tmp_path / "broken", workers=0, resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "broken")


def test_pixels_beyond_half_floats_stay_finite() -> None:
    """A hot pixel of 16 bits is hundreds of times as bright as what becomes 255."""
    image, layers = field(7)
    image[0, 3, 4] = 1e5
    shown = ValidationImages([(image, layers)], network())[0]["image"]
    assert shown.isfinite().all()
    assert shown[0, 3, 4] == shown.max() > 6e4
    source = SourceImage.from_arrays(image, layers, half=True)
    assert np.isfinite(source.pixels).all()
    assert source.pixels.dtype == np.float16


@pytest.mark.parametrize("shape", [(32, 40), (40, 32), (40, 50), (32, 32)])
def test_nothing_is_known_of_what_fills_up_the_stride(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    labels[5:, 5:] = 7  # to the border
    layers = LabelLayers.from_labels(labels)
    segmenter = build_segmenter("dense", {"network": {"kind": "swin_unet", "width": 8, "blocks": [1, 1], "heads": 2}})
    item = ValidationImages([(np.zeros((1, *shape), np.float32), layers)], segmenter)[0]
    targets = item["targets"]
    assert targets["valid"].shape == item["image"].shape[1:] == tuple(-(-n // 32) * 32 for n in shape)
    known = np.zeros(targets["valid"].shape, bool)
    known[: shape[0], : shape[1]] = True
    assert np.array_equal(targets["valid"].numpy() > 0, known)
    assert np.array_equal(targets["foreground"].numpy()[: shape[0], : shape[1]] > 0, labels > 0)
    assert len(item["truth"]) == 1
