"""Whole images of any size train a region network, and its model sees images at the size that it was told."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cytomask.data.dataset import open_dataset
from cytomask.data.object_sizes import object_size_statistics
from cytomask.errors import ConfigError
from cytomask.formats.label_images import write_labels
from cytomask.models.bundle import load_bundle, read_spec
from cytomask.models.registry import build_segmenter
from cytomask.workflows.experiment import read_experiment
from cytomask.workflows.model import load
from cytomask.workflows.train import train_experiment
from cytomask.workflows.trainings.initial_weights import KNOWN
from cytomask.workflows.trainings.preparation import (
    complete_experiment,
    load_for_training,
    load_held_out,
    training_scale,
)

SMALL = {
    "data": {
        "channels": {"mode": "rgb"},
        "normalisation": {"method": "mean_std", "std": [58.395, 57.12, 57.375]},
        "resize": {"shortest": 64, "longest": 96},
    },
    "model": {
        "family": "region",
        "backbone": {"depth": 18, "width": 64, "norm": "group"},
        "pyramid": {"width": 16},
        "rpn": {"train_before": 100, "train_after": 50, "test_before": 100, "test_after": 50},
        "sampling": {"batch": 16},
        "box": {"linear": 1, "linear_width": 32},
        "mask": {"kind": "convolution", "convolutions": 1, "width": 16},
    },
    "patches": {"mode": "image", "short_edge": [48, 64], "long_edge": 96, "crop": 0.9},
    "training": {
        "epochs": 1,
        "steps_per_epoch": 2,
        "batch_size": 2,
        "workers": 0,
        "device": "cpu",
        "precision": "float32",
        "optimiser": {"name": "sgd", "learning_rate": 1e-3, "decay_biases": True, "gradient_clip": None},
        "schedule": {"name": "multistep", "milestones": [1], "warmup_steps": 0},
        "ema_decay": None,
        "early_stopping": None,
    },
    "tune": {"enabled": False},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        height, width = 40 + 8 * number, 90 - 7 * number
        y, x = np.indices((height, width))
        labels = np.zeros((height, width), np.int32)
        for index in range(1, 5):
            cy, cx = rng.integers(8, height - 8), rng.integers(8, width - 8)
            labels[(y - cy) ** 2 + (x - cx) ** 2 < 30] = index
        image = ((labels > 0) * 120 + rng.integers(20, 90, labels.shape)).astype(np.int32)
        write_labels(folder / "images" / f"{number}.png", image)
        write_labels(folder / "labels" / f"{number}.png", labels)
    names = "\n".join(f"{n},{'val' if n == 3 else 'train'}" for n in range(6))
    (folder / "manifest.csv").write_text(f"image,split\n{names}\n")
    return folder


def experiment(folder: Path, **changes: object) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({**SMALL, **changes}))
    return path


def test_whole_images_of_several_sizes(data: Path, tmp_path: Path) -> None:
    result = train_experiment(experiment(tmp_path), data=data, out=tmp_path / "run")
    with (result.folder / "metrics.csv").open() as file:
        row = next(csv.DictReader(file))
    assert np.isfinite(float(row["train/loss"]))
    assert 0 <= float(row["val/score"]) <= 1
    assert float(row["learning_rate"]) == pytest.approx(1e-4)
    spec = read_spec(result.folder / "bundle")
    assert spec.resize is not None
    assert spec.resize.shortest == 64
    assert spec.normalisation.method == "mean_std"
    image = np.zeros((50, 30), np.uint8)
    found = load(result.folder).predict(image)
    assert found.shape == (50, 30)
    # A run is the beginning of another one, with the same network.
    again = read_experiment(experiment(tmp_path, initial=str(result.folder), model={"family": "region"}))
    dataset = open_dataset(data)
    model = complete_experiment(again, dataset, dataset.split("train"))[0].model
    assert build_segmenter(model.pop("family"), model).config == load_bundle(result.folder / "bundle").segmenter.config


def test_star_networks_do_not_take_whole_images(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"patches of one size[\s\S]*patches.mode: patch"):
        train_experiment(experiment(tmp_path, model={"family": "star"}), data=data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_for_region_networks_do_not_begin_others(data: Path, tmp_path: Path) -> None:
    wrong = experiment(tmp_path, model={"family": "star"}, initial=next(iter(KNOWN)))
    with pytest.raises(ConfigError, match="another family"):
        train_experiment(wrong, data=data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_sizes_are_those_that_the_network_sees(data: Path, tmp_path: Path) -> None:
    dataset = open_dataset(data)
    train = dataset.split("train")
    native, doubled = (object_size_statistics(train, dataset, scale) for scale in (None, lambda _: 2.0))
    assert all(doubled[n] == pytest.approx(native[n] * (2 if "_p" in n and "elong" not in n else 1)) for n in native)
    path = experiment(tmp_path)
    seen = [training_scale(read_experiment(path, [f"patches.mode={m}"])) for m in ("image", "patch")]
    # Of 48 and 64 the greater is the middle one; patches are cut from images that are resized.
    assert [scale((32, 40)) for scale in seen if scale is not None] == [2.0, 2.0]
    native_patches = read_experiment(path, ["patches.mode=patch", "data.resize=null"])
    assert training_scale(native_patches) is None


@pytest.mark.parametrize("mode", ["patch", "image"])
def test_patches_are_cut_from_resized_images(data: Path, tmp_path: Path, mode: str) -> None:
    settings = read_experiment(experiment(tmp_path), [f"patches.mode={mode}"])
    sample = open_dataset(data).split("train")[0]
    pixels, layers = load_for_training(sample, settings)[:2]
    held_out, native = load_held_out(sample, settings)
    assert native.shape == (40, 90)
    assert held_out.shape == (3, 43, 96)
    assert pixels.shape[1:] == layers.shape == ((43, 96) if mode == "patch" else (40, 90))
    # Changes of intensity see about 0 to 1, the network what the means make of it.
    assert -0.1 < pixels.min() < pixels.max() < 1.1
    assert held_out.min() < -1
    assert layers.n_objects == native.n_objects


def completed(
    data: Path, folder: Path, model: dict[str, object], **changes: object
) -> tuple[dict[str, Any], list[str]]:
    """A model's settings as training fills them in, for discs of 11 pixels, and the reasons."""
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump({"model": model, **changes}))
    dataset = open_dataset(data)
    filled, reasons = complete_experiment(read_experiment(path), dataset, dataset.split("train"))
    return filled.model, reasons


def about(reasons: list[str], word: str) -> list[str]:
    return [reason for reason in reasons if word in reason]


def test_small_objects_are_given_resolution_beside_what_a_backbone_is_told(data: Path, tmp_path: Path) -> None:
    model, reasons = completed(data, tmp_path, {"family": "region", "backbone": {"depth": 18, "width": 64}})
    assert model["backbone"] == {"depth": 18, "width": 64, "stem_stride": 2}
    assert len(about(reasons, "first stride 2")) == 1
    assert [len(about(reasons, word)) for word in ("anchors of", "context")] == [1, 1]
    # So it is without a backbone, and with one of which weights are known.
    assert completed(data, tmp_path, {"family": "region"})[0]["backbone"] == {"stem_stride": 2}
    with_weights, _ = completed(data, tmp_path, {"family": "region"}, initial="imagenet/resnet18")
    assert {"depth": 18, "norm": "frozen_batch", "stem_stride": 2}.items() <= with_weights["backbone"].items()


def test_what_the_experiment_says_stays_and_is_not_given_reasons(data: Path, tmp_path: Path) -> None:
    given = {"family": "region", "backbone": {"depth": 18, "stem_stride": 4}, "context": 32}
    model, reasons = completed(data, tmp_path, given)
    assert (model["backbone"], model["context"]) == (given["backbone"], 32)
    assert about(reasons, "stride") == about(reasons, "context") == []
    assert len(reasons) == 1


def test_half_a_group_is_filled_in_and_only_that_half_is_told(data: Path, tmp_path: Path) -> None:
    sizes = [[8.0], [16.0], [32.0], [64.0], [128.0]]
    model, reasons = completed(data, tmp_path, {"family": "region", "anchors": {"sizes": sizes}})
    whole, _ = completed(data, tmp_path, {"family": "region"})
    assert model["anchors"] == {"sizes": sizes, "ratios": whole["anchors"]["ratios"]}
    assert whole["anchors"]["sizes"] != sizes
    assert about(reasons, "anchors of") == []
    assert [reason.split(":")[0] for reason in about(reasons, "anchors")] == [
        f"anchors.ratios {whole['anchors']['ratios']}"
    ]


def test_a_backbone_of_another_kind_is_left_alone(data: Path, tmp_path: Path) -> None:
    residual = {"kind": "residual", "widths": [16, 32], "blocks": [1, 1]}
    model, reasons = completed(data, tmp_path, {"family": "star", "backbone": residual})
    assert model["backbone"] == residual
    assert about(reasons, "depth") == []
    assert {"grid", "rays"} <= model.keys()
    # One of the proposed kind is completed.
    unet, reasons = completed(data, tmp_path, {"family": "star", "backbone": {"kind": "unet", "base": 16}})
    assert unet["backbone"] == {"kind": "unet", "base": 16, "depth": 3}
    assert len(about(reasons, "depth 3")) == 1
    told, reasons = completed(data, tmp_path, {"family": "star", "backbone": {"kind": "unet", "depth": 5}})
    assert told["backbone"] == {"kind": "unet", "depth": 5}
    assert about(reasons, "depth") == []


@pytest.mark.parametrize("recipe", ["granules", "granules-small", "cascade", "pointrend"])
def test_recipes_keep_the_stride_of_their_weights(data: Path, recipe: str) -> None:
    dataset = open_dataset(data)
    given = read_experiment(recipe)
    filled, reasons = complete_experiment(given, dataset, dataset.split("train"))
    assert filled.model["backbone"]["stem_stride"] == 4
    assert about(reasons, "stride") == []
    assert filled.model["backbone"].items() >= given.model["backbone"].items()
