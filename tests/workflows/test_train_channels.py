"""Channels in training: programs from the experiment to the model, and the names of chosen channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

from cytomask.cli.app import run as command
from cytomask.data.channel_mix import Channel, ChannelMix
from cytomask.data.channels import ChannelExpectation
from cytomask.data.normalise import MinMax
from cytomask.errors import ChannelError, ConfigError
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels, write_labels
from cytomask.image import Image
from cytomask.models.bundle import read_spec
from cytomask.prediction.prepare import PreparedImage, prepare_image
from cytomask.workflows.experiment import experiment_to_yaml, read_experiment
from cytomask.workflows.generated import generate_field
from cytomask.workflows.model import load
from cytomask.workflows.models import describe_model
from cytomask.workflows.predict import predict_images
from cytomask.workflows.train import TrainResult, train_experiment
from cytomask.workflows.trainings.channels import EmptyChannels
from cytomask.workflows.trainings.preparation import experiment_on, prepare

NAMES = ("actin", "DAPI", "CD4", "CD8")
SETTINGS = [
    "training.epochs=1",
    "training.steps_per_epoch=3",
    "training.batch_size=2",
    "training.workers=0",
    "training.precision=float32",
    "training.device=cpu",
    "patches.size=64",
    "model.rays=8",
    "model.backbone={kind: residual, widths: [8, 16], blocks: [1, 1], features: 8}",
]
CHANNELS: dict[str, Any] = {
    "mode": "program",
    "layout": {"t_cells": ["CD4", "CD8"]},
    "definitions": {60: {"merge": "t_cells"}},
    "program": ["DAPI", {"random": "t_cells", "dropout": 0.3}, 60, "black"],
}


def write_stack(path: Path, seed: int, *, empty: bool = False) -> np.ndarray:
    """Nuclei in DAPI, noise elsewhere; gives the labels."""
    rng = np.random.default_rng(seed)
    image, labels = generate_field(rng, size=96, objects=12)
    pixels = rng.integers(100, 900, (4, 96, 96)).astype(np.uint16)
    pixels[1] = np.asarray(image, np.float64) * 1000 / np.max(image)
    if empty:
        pixels[3] = 0
    tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "CYX", "Channel": {"Name": list(NAMES)}})
    return labels


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stacks")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for i in range(6):
        labels = write_stack(folder / "images" / f"{i}.ome.tif", i, empty=i == 2)
        write_labels(folder / "labels" / f"{i}.tif", labels)
    splits = {"train": ["0", "1", "2", "3"], "val": ["4"], "test": ["5"]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"images": "images", "labels": "labels", "splits": splits}))
    return folder


def experiment(folder: Path, channels: dict[str, Any], **section: Any) -> Path:
    path = folder / "experiment.yaml"
    fields = {"name": "stacks", "data": {"channels": channels, **section}, "model": {"family": "star"}}
    path.write_text(yaml.safe_dump(fields))
    return path


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    folder = tmp_path_factory.mktemp("run")
    return train_experiment(experiment(folder, CHANNELS), data=data, overrides=SETTINGS, out=folder / "run")


def test_the_program_is_in_the_experiment_and_in_the_model(trained: TrainResult) -> None:
    spec = read_spec(trained.folder / "bundle")
    assert spec.config["in_channels"] == spec.channels.count == 4
    assert spec.channels == ChannelExpectation.model_validate(CHANNELS)
    assert spec.channels.names is None
    again = read_experiment(trained.folder / "experiment.yaml")
    assert again.data.channels == spec.channels
    shown = describe_model(trained.folder)
    assert "mode: program" in shown
    assert "random: t_cells" in shown
    assert list(yaml.safe_load(shown)["channels"]["definitions"]) == ["60"]


def test_prediction_needs_no_more_than_the_image(trained: TrainResult, data: Path, tmp_path: Path) -> None:
    predict_images(trained.folder, [data / "images" / "5.ome.tif"], tmp_path / "found", device="cpu")
    told = (tmp_path / "found" / "run.json").read_text()
    assert "1 DAPI, 2 CD4 (the middle one of 2), 3 mean of CD4 and CD8, 4 black" in told


def test_on_disk_after_an_interruption(
    trained: TrainResult, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cytomask.workflows.predicting.giant_steps as steps

    image = data / "images" / "5.ome.tif"
    options: dict[str, Any] = {"device": "cpu", "precision": "float32", "tile": 64, "overlap": 32}
    predict_images(trained.folder, [image], tmp_path / "memory", **options)
    with monkeypatch.context() as patch:
        # Broken off when the image has been prepared and before the first tile: going on uses what was kept.
        patch.setattr(steps.Predictor, "fill_spool", _broken_off)
        with pytest.raises(KeyboardInterrupt):
            predict_images(trained.folder, [image], tmp_path / "disk", on_disk=True, **options)
    known: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(steps, "prepare_image", lambda *a, **k: known.append(k["known"]) or prepare_image(*a, **k))
        predict_images(trained.folder, [image], tmp_path / "disk", on_disk=True, **options)
    assert [statistics.scale.size for statistics in known] == [3]
    found = tmp_path / "disk"
    tables = [sorted(p.name for p in folder.rglob("*.csv")) for folder in (found, tmp_path / "memory")]
    assert tables[0] == tables[1] != []
    for name in tables[0]:
        texts = [next(folder.rglob(name)).read_bytes() for folder in (found, tmp_path / "memory")]
        assert texts[0] == texts[1]


def _broken_off(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_an_image_without_the_channels(trained: TrainResult, data: Path) -> None:
    image = read_image(data / "images" / "5.ome.tif").select([0, 1, 2])
    with pytest.raises(ChannelError, match="names 'CD8'"):
        load(trained.folder).predict(image)


def test_empty_channels_are_told_once(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Without a cache every item reads its image anew.
    settings = [*SETTINGS, "patches.cache_gb=0", "training.steps_per_epoch=10"]
    images = prepare(experiment_on(experiment(tmp_path, CHANNELS), data, settings)).images()
    assert {images[i]["image"].shape for i in range(20)} == {(4, 64, 64)}
    said = capsys.readouterr().err
    assert said.count("image 2: without contrast, so zeros for the network: CD8") == 1
    assert said.count("without contrast") == 1


def test_only_a_few_images_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    empty, mix = EmptyChannels(), ChannelMix((Channel(0),), ("DAPI", "actin"))
    for i in range(20):
        for _ in range(2):
            empty.look(f"field{i}", np.stack([np.ones((2, 2)), np.zeros((2, 2))]), mix)
    empty.look("full", np.ones((2, 2, 2)), mix)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in said[:5]] == [f"image field{i}" for i in range(5)]
    assert len(said) == 6
    assert "there are more images" in said[5]


@pytest.mark.parametrize(
    ("channels", "chosen", "names"),
    [
        ({"mode": "gray"}, ["DAPI"], ("DAPI",)),
        ({"mode": "gray"}, [2], ("CD4",)),
        ({"mode": "rgb"}, ["dapi"], ("dapi",) * 3),
        ({"mode": "rgb"}, [3, "DAPI", 0], ("CD8", "DAPI", "actin")),
        ({"mode": "select", "count": 2}, ["CD8", 1], ("CD8", "DAPI")),
        ({"mode": "program", "program": [0, {"random": "all"}]}, ["CD8", "CD4", "DAPI"], ("CD8", "CD4", "DAPI")),
    ],
)
def test_chosen_channels_are_found_again_by_name(
    data: Path, tmp_path: Path, channels: dict[str, Any], chosen: list[Any], names: tuple[str, ...]
) -> None:
    path = experiment(tmp_path, channels, chosen_channels=chosen)
    completed = prepare(experiment_on(path, data, SETTINGS)).experiment
    assert completed.data.channels.names == names

    def seen(image: Image, chosen: list[Any] | None = None) -> PreparedImage:
        return prepare_image(image, channels=completed.data.channels, normalisation=MinMax(), chosen=chosen)

    image = read_image(data / "images" / "5.ome.tif")
    by_name, by_choice = seen(image), seen(image, chosen)
    assert (by_name.window(0, 0, 96, 96) == by_choice.window(0, 0, 96, 96)).all()
    # Wherever these channels lie in another file.
    other = image.select([3, 0, 2, 1])
    assert (seen(other).window(0, 0, 96, 96) == by_choice.window(0, 0, 96, 96)).all()
    assert "by the model's names" in by_name.told[0]


def test_a_wrong_program_is_refused_before_anything_is_written(data: Path, tmp_path: Path, capsys: Any) -> None:
    path = experiment(tmp_path, {"mode": "program", "program": [112]})
    assert command(["train", str(path), "--data", str(data), "--out", str(tmp_path / "run")]) == 2
    assert "the number 112 means nothing; known are 0-50, 100, 101" in " ".join(capsys.readouterr().err.split())
    path = experiment(tmp_path, {"mode": "program", "program": ["DAPI", 0]})
    with pytest.raises(ConfigError, match="in_channels"):
        train_experiment(path, data=data, overrides=[*SETTINGS, "model.in_channels=3"], out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_programs_on_the_command_line() -> None:
    settings = ["data.channels={program: above_and_below, layout: external, merge_dropout: 0.2}"]
    section = read_experiment("nuclei", settings).data
    assert section.channels.count == 3
    assert "program:\n" in experiment_to_yaml(read_experiment("nuclei", settings))
    assert "program" not in experiment_to_yaml(read_experiment("nuclei"))


def test_a_real_field(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "codex"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    field = read_image(shared_data / "codex" / "field.ome.tif")
    labels = read_labels(shared_data / "codex" / "cells_expert1.tif")
    for i, (y, x) in enumerate([(100, 100), (500, 700), (300, 900)]):
        pixels = field.window(y, y + 160, x, x + 160)
        metadata = {"axes": "CYX", "Channel": {"Name": list(field.channels)}}
        tifffile.imwrite(folder / "images" / f"{i}.ome.tif", pixels, ome=True, metadata=metadata)
        write_labels(folder / "labels" / f"{i}.tif", np.squeeze(labels)[y : y + 160, x : x + 160].astype(np.int32))
    splits = {"train": ["0", "1"], "val": ["2"]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"images": "images", "labels": "labels", "splits": splits}))
    markers = [name for name in field.channels if name.startswith("CH_")]
    program = ["nucleus", {"merge": ["membrane", "cytoplasm"], "dropout": 0.3}, {"random": "markers"}]
    path = experiment(tmp_path, {"mode": "program", "layout": {"markers": markers}, "program": program})
    overrides = [*SETTINGS, "tune.enabled=false", "training.steps_per_epoch=2"]
    result = train_experiment(path, data=folder, overrides=overrides, out=tmp_path / "run")
    assert read_spec(result.folder / "bundle").channels.count == 3
    # Where the channels lie in another order.
    part = field.select(list(range(field.n_channels))[::-1])
    crop = replace(part, pixels=part.window(100, 260, 100, 260))
    assert load(result.folder).predict(crop).shape == (160, 160)
