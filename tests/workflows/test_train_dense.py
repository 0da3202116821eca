"""Dense networks from annotations to results: trained, tuned, in memory and on disk, at other sizes, all outputs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
import zarr

from cytomask.cli.app import run
from cytomask.errors import ConfigError
from cytomask.evaluation.score import instance_score
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.models.bundle import load_bundle, read_spec
from cytomask.workflows.generated import generate_field
from cytomask.workflows.model import load
from cytomask.workflows.predict import predict_images
from cytomask.workflows.train import train_experiment
from cytomask.workflows.tune import tune_model

SMALL: dict[str, Any] = {
    "data": {"channels": {"mode": "gray"}},
    "model": {"family": "dense", "network": {"kind": "resnet_unet", "depth": 18, "width": 8}, "output": "distance"},
    "patches": {"size": 64},
    "augmentation": {"scale": {"probability": 0.0}, "elastic": {"probability": 0.0}},
    "training": {
        "epochs": 2,
        "steps_per_epoch": 40,
        "batch_size": 4,
        "workers": 0,
        "device": "cpu",
        "precision": "float32",
        "optimiser": {"name": "adamw", "learning_rate": 4e-3, "gradient_clip": 5.0},
        "schedule": {"name": "one_cycle"},
        "ema_decay": None,
        "early_stopping": None,
        "monitor": "iou",
    },
}
HERE: dict[str, Any] = {"device": "cpu", "precision": "float32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    for number in range(6):
        image, labels = generate_field(np.random.default_rng(number), size=128, objects=12)
        write_labels(folder / "images" / f"{number}.png", image.astype(np.int32))
        write_labels(folder / "labels" / f"{number}.png", labels)
    names = "\n".join(f"{n},{'val' if n == 3 else 'train'}" for n in range(6))
    (folder / "manifest.csv").write_text(f"image,split\n{names}\n")
    return folder


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(yaml.safe_dump(SMALL))
    return train_experiment(folder / "small.yaml", data=data, out=folder / "run").folder


@pytest.fixture(scope="module")
def picture(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    image, labels = generate_field(np.random.default_rng(77), size=256, objects=50)
    path = tmp_path_factory.mktemp("picture") / "field.tif"
    write_labels(path, image[:250, :230].astype(np.int32))
    return path, labels[:250, :230]


def test_it_learns_what_cells_are(trained: Path, picture: tuple[Path, np.ndarray]) -> None:
    with (trained / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["train/loss"]) < float(rows[0]["train/loss"])
    assert float(rows[-1]["val/iou"]) > 0.5
    spec = read_spec(trained / "bundle")
    assert spec.metrics["tuning"]["mean_accuracy_50_90"] > 0.2
    found = load(trained, **HERE).predict(picture[0])
    assert instance_score([picture[1]], [found]) > 0.15
    assert len(found) > 20


@pytest.mark.parametrize("options", [{}, {"diameter": 30}, {"thresholds": {"objects": "shape", "seed_threshold": 0.7}}])
def test_on_disk_as_in_memory(
    trained: Path, picture: tuple[Path, np.ndarray], tmp_path: Path, options: dict[str, Any]
) -> None:
    memory, disk = (
        predict_images(trained, [picture[0]], tmp_path / name, on_disk=on_disk, save=("labels", "table"), tile=tile,
                       **HERE, **options)
        for name, on_disk, tile in (("memory", False, 1024), ("disk", True, 96))
    )  # fmt: skip
    labels = read_labels(tmp_path / "memory/field_labels.tif")
    again = np.asarray(zarr.open_group(tmp_path / "disk/field_labels.ome.zarr", mode="r")["0"])
    assert labels.max() > 15
    assert np.array_equal(labels, again)
    assert memory.images[0].counts == disk.images[0].counts
    assert (tmp_path / "memory/field_objects.csv").read_text() == (tmp_path / "disk/field_objects.csv").read_text()


def test_whole_classes_cannot_be_told_by_parts(trained: Path, picture: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="all pixels of a class are one object"):
        predict_images(trained, [picture[0]], tmp_path, on_disk=True, thresholds={"objects": "whole"}, **HERE)
    areas = load(trained, **HERE).predict(picture[0], objects="whole")
    assert len(areas) == 1


def test_all_outputs_of_a_command(trained: Path, picture: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["predict", trained, picture[0], "--out", out, "--save", "labels,overlay,probabilities,class-masks,rois"]
    words += ["--set", "seed_threshold=0.6", "--set", "min_area=9", "--augment", "none", "--device", "cpu"]
    assert run([str(word) for word in words]) == 0
    maps = read_image(out / "field_probabilities.ome.tif")
    labels = read_labels(out / "field_labels.tif")
    threshold = load_bundle(trained / "bundle").postprocess.score_threshold
    pixels = np.asarray(maps.pixels)
    assert maps.channels == ("object",)
    assert pixels.dtype == np.float32
    assert pixels.shape == (1, 250, 230)
    assert (pixels[0][labels > 0] > threshold).mean() > 0.97
    assert (out / "field_rois.zip").exists()


def test_probabilities_at_another_scale_have_the_images_size(
    trained: Path, picture: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    predict_images(trained, [picture[0]], tmp_path, save=("probabilities",), diameter=30, **HERE)
    assert read_image(tmp_path / "field_probabilities.ome.tif").shape == (250, 230)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--save", "probabilities", "--on-disk"], "written of one model, in memory"),
        (["--save", "probabilities", "--augment", "flips"], "written of one model, in memory"),
        (["--nms", "linear"], "nms"),
        (["--set", "seed_threshold"], "not of the form name=value"),
        (["--set", "seed_treshold=0.3"], "seed_treshold"),
        (["--set", "objects=blobs"], "objects"),
        (["--set", "min_area=-1"], "min_area"),
    ],
)
def test_wrong_wishes(
    trained: Path, picture: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    words: list[str], told: str,
) -> None:  # fmt: skip
    assert run(["predict", str(trained), str(picture[0]), "--out", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_other_families_know_no_probabilities_and_no_blending(
    picture: tuple[Path, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--save", "probabilities"], ["--blend", "32"], ["--set", "seed_threshold=0.4"]):
        assert run(["predict", "nuclei", str(picture[0]), "--out", str(tmp_path / "out"), *words]) == 2
        assert "error:" in capsys.readouterr().err


def test_tuning_searches_what_the_family_names(trained: Path, data: Path) -> None:
    for metric in ("accuracy", "ap", "iou"):
        result = tune_model(trained, data, metric=metric, save=False, device="cpu")  # type: ignore[arg-type]
        assert result.score_after >= result.score_before
        assert {trial["nms"] for trial in result.tried} == {"hard"}
        assert len({trial["seed_threshold"] for trial in result.tried}) > 5
        assert not any("nms" in line for line in result.lines())


def test_whole_images_at_a_working_size(data: Path, tmp_path: Path) -> None:
    changed = {
        **SMALL,
        "data": {"channels": {"mode": "gray"}, "resize": {"height": 64, "width": 96}},
        "model": {
            "family": "dense", "output": "binary", "loss": {"class_weights": 2.0},
            "network": {"kind": "swin_unet", "width": 8, "blocks": [1, 1], "heads": 2, "window": 4},
        },
        "patches": {"size": 96},
        "training": {**SMALL["training"], "epochs": 1, "steps_per_epoch": 3, "monitor": "loss"},
        "tune": {"metric": "iou", "max_images": 1},
    }  # fmt: skip
    (tmp_path / "swin.yaml").write_text(yaml.safe_dump(changed))
    result = train_experiment(tmp_path / "swin.yaml", data=data, out=tmp_path / "run")
    model = load(result.folder, **HERE)
    found = model.predict(data / "images/0.png", score_threshold=0.0, min_area=0, objects="whole")
    assert found.shape == (128, 128)
    assert found.areas().tolist() == [128 * 128]
    assert "mean_per_image_iou" in read_spec(result.folder / "bundle").metrics["tuning"]


@pytest.mark.parametrize(
    ("resize", "told"),
    [
        ({"height": 64}, "width"),
        ({"height": 64, "width": 96, "shortest": 3}, "shortest"),
        ({"height": 0, "width": 9}, "height"),
    ],
)
def test_wrong_working_sizes(data: Path, tmp_path: Path, resize: dict[str, int], told: str) -> None:
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump({**SMALL, "data": {"resize": resize}}))
    with pytest.raises(ConfigError, match=told):
        train_experiment(tmp_path / "wrong.yaml", data=data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
