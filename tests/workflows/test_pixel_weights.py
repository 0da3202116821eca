"""Class weights are worked out from the training images before a training begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError
from cytomask.formats.label_images import write_labels
from cytomask.models.registry import build_segmenter
from cytomask.workflows.experiment import read_experiment
from cytomask.workflows.trainings.pixel_weights import with_balanced_weights
from cytomask.workflows.trainings.preparation import complete_experiment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training images with squares of 8 pixels, 128 of 1,600 pixels each; the held-out one is full of them."""
    folder = tmp_path_factory.mktemp("data")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    labels = np.zeros((40, 40), np.int32)
    labels[4:12, 4:12], labels[4:12, 20:28] = 1, 2
    for name, one in (("a", labels), ("b", labels.T), ("v", np.ones_like(labels))):
        tifffile.imwrite(folder / f"images/{name}.tif", (50 * (one > 0)).astype(np.uint8))
        write_labels(folder / f"labels/{name}.tif", np.ascontiguousarray(one))
    (folder / "dataset.yaml").write_text("splits: {train: [a, b], val: [v]}\n")
    return folder


def completed(data: Path, model: dict, **sections: dict):
    experiment = read_experiment("nuclei")
    experiment = experiment.model_validate({**experiment.model_dump(), "model": model, **sections})
    dataset = open_dataset(data)
    return complete_experiment(experiment, dataset, dataset.split("train"))


def test_balanced_weights_of_the_outputs(data: Path) -> None:
    foreground = 128 / 1600
    two = [pytest.approx(2 * foreground, rel=1e-3), pytest.approx(2 * (1 - foreground), rel=1e-3)]
    for output in ("binary", "softmax", "distance"):
        found, reasons = completed(data, {"family": "dense", "output": output, "loss": {"class_weights": "balanced"}})
        assert found.model["loss"]["class_weights"] == two
        assert any("8 % of the pixels" in reason and "background 0.16" in reason for reason in reasons)
        build_segmenter("dense", {name: value for name, value in found.model.items() if name != "family"})
    loss = {"class_weights": "balanced", "terms": {"dice": 1.0, "cross_entropy": 1.0}}
    found, _ = completed(data, {"family": "dense", "output": "boundary", "boundary_width": 2, "loss": loss})
    counts = np.array([1472, 32, 96])
    weights = (1 / counts) / (1 / counts).mean()
    assert found.model["loss"]["class_weights"] == pytest.approx(weights.tolist(), rel=1e-3)
    assert found.model["loss"]["terms"] == loss["terms"]


def test_boundaries_are_measured_at_the_size_of_training(data: Path) -> None:
    dataset = open_dataset(data)
    model = {"family": "dense", "output": "boundary", "loss": {"class_weights": "balanced"}}
    found, _ = with_balanced_weights(model, dataset.split("train"), dataset, lambda _: 2.0)
    counts = np.array([6400 - 512, 2 * 14 * 14, 512 - 2 * 14 * 14])
    assert found["loss"]["class_weights"] == pytest.approx(((1 / counts) / (1 / counts).mean()).tolist(), rel=1e-3)


def test_a_class_that_is_not_there_is_told(data: Path) -> None:
    dataset = open_dataset(data)
    model = {"family": "dense", "output": "softmax", "classes": ["object", "other"],
             "loss": {"class_weights": "balanced"}}  # fmt: skip
    found, (reason,) = with_balanced_weights(model, dataset.split("train"), dataset)
    assert found["loss"]["class_weights"][2] == 1
    assert "other 1 (not in the training images)" in reason


@pytest.mark.parametrize(
    "model",
    [
        {"family": "star"},
        {"family": "dense"},
        {"family": "dense", "loss": {"class_weights": [1.0, 2.0]}},
        {"family": "dense", "loss": {"class_weights": 3.0}},
    ],
)
def test_other_settings_stay_as_they_are(model: dict, data: Path) -> None:
    dataset = open_dataset(data)
    assert with_balanced_weights(model, dataset.split("train"), dataset) == (model, [])


def test_wrong_settings_are_left_to_the_network(data: Path) -> None:
    dataset = open_dataset(data)
    model = {"family": "dense", "loss": {"class_weights": "balanced", "terms": {"dyce": 1.0}}}
    assert with_balanced_weights(model, dataset.split("train"), dataset) == (model, [])
    with pytest.raises(ConfigError, match="settings of the dense model"):
        build_segmenter("dense", {"loss": model["loss"]})
