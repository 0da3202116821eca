"""Targets and losses of the star family."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cytomask.label_layers import LabelLayers
from cytomask.models.star.config import StarLoss
from cytomask.models.star.losses import star_losses
from cytomask.models.star.propose import propose_star
from cytomask.models.star.targets import star_targets


def square(size: int = 16, low: int = 4, high: int = 12) -> np.ndarray:
    labels = np.zeros((size, size), np.int32)
    labels[low:high, low:high] = 7
    return labels


def batched(targets: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value)[None] for name, value in targets.items()}


def test_targets_of_a_square() -> None:
    targets = star_targets(LabelLayers.from_labels(square()), rays=4, grid=2, with_classes=True)
    assert targets["probability"].shape == (8, 8)
    assert targets["distances"].shape == (4, 8, 8)
    assert targets["probability"].max() == 1
    # From pixel (8, 8), the square ends 3.5 px further right and down, and 4.5 px left and up.
    assert targets["distances"][:, 4, 4].tolist() == pytest.approx([3.5, 3.5, 4.5, 4.5])
    assert targets["classes"][4, 4] == 1
    assert targets["classes"][0, 0] == 0
    assert targets["valid"].min() == 1


def test_where_objects_overlap_the_deeper_one_counts() -> None:
    lower, upper = square(), np.zeros((16, 16), np.int32)
    upper[6:16, 6:16] = 9
    layers = LabelLayers(
        layers=np.stack([lower, upper]), classes={7: 1, 9: 2}, crowd=frozenset(), class_names=("a", "b")
    )
    targets = star_targets(layers, rays=4, grid=1, with_classes=True)
    assert targets["classes"][5, 5] == 1
    assert targets["classes"][11, 11] == 2
    assert targets["classes"][14, 14] == 2


def test_crowd_regions_do_not_count() -> None:
    layers = LabelLayers(layers=square()[None], classes={7: 1}, crowd=frozenset({7}), class_names=("a",))
    targets = star_targets(layers, rays=4, grid=2, with_classes=False)
    assert targets["valid"].sum() == 64 - 16
    assert targets["probability"].max() == 0


def test_a_perfect_prediction_costs_least() -> None:
    targets = batched(star_targets(LabelLayers.from_labels(square()), rays=8, grid=1, with_classes=False))
    truth = targets["probability"].clamp(1e-4, 1 - 1e-4)
    perfect = star_losses(StarLoss(), torch.logit(truth), targets["distances"], None, targets)
    worse = star_losses(StarLoss(), torch.logit(truth) + 0.5, targets["distances"] + 1.0, None, targets)
    assert perfect["distance"] == pytest.approx(0.0, abs=1e-6)
    assert worse["probability"] > perfect["probability"]
    # One pixel off everywhere costs its weight, plus the small background term (1e-4 per background pixel's error).
    assert worse["distance"] == pytest.approx(0.2, abs=1e-3)


def test_the_relative_distance_loss_does_not_depend_on_size() -> None:
    config = StarLoss(distance="relative", background_weight=0.0)
    values = []
    for zoom in (2, 6):
        labels = np.kron(square(), np.ones((zoom, zoom), np.int32)).astype(np.int32)
        targets = batched(star_targets(LabelLayers.from_labels(labels), rays=16, grid=zoom, with_classes=False))
        zeros = torch.zeros_like(targets["probability"])
        values.append(float(star_losses(config, zeros, targets["distances"] * 1.2, None, targets)["distance"]))
    assert values[0] == pytest.approx(values[1], rel=0.15)


def test_settings_follow_the_objects() -> None:
    small, _ = propose_star({"diameter_p5": 4, "diameter_p50": 6, "diameter_p95": 9})
    large, reasons = propose_star({"diameter_p5": 60, "diameter_p50": 90, "diameter_p95": 150})
    assert (small["grid"], large["grid"]) == (1, 4)
    assert large["rays"] > small["rays"]
    assert len(reasons) == 3
    assert "150" in " ".join(reasons)
