"""Predicting with other ways of suppression: in memory, tile by tile on disk, with views, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from cytomask.cli.app import app
from cytomask.errors import ConfigError, ImageError
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle, ModelSpec, save_bundle
from cytomask.models.dense.config import DensePostprocess
from cytomask.models.registry import build_segmenter
from cytomask.models.star.config import StarPostprocess
from cytomask.workflows.model import load, override_thresholds
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting import job as predict_job

SIDE = (200, 180)
PLAIN: dict[str, Any] = {"device": "cpu", "precision": "float32"}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 4096, SIDE).astype(np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A star network with random weights, made to propose overlapping objects all over a picture; two classes."""
    torch.manual_seed(0)
    config = {"classes": ["cell", "debris"], "backbone": {"kind": "unet", "depth": 1, "base": 8, "features": 16}}
    network = build_segmenter("star", config)
    pixels = picture()
    with torch.no_grad():
        logits, distances, classes = network(
            torch.from_numpy((pixels[:192, :176] / pixels.max()).astype(np.float32))[None, None]
        )
        network.probability.weight *= 2 / logits.std()
        network.probability.bias[:] = 2 / logits.std() * (network.probability.bias - torch.quantile(logits, 0.8))
        network.distances.weight *= 3 / distances.std()
        network.distances.bias.fill_(7.0)
        network.classes.bias -= classes.mean((0, 2, 3))
    spec = ModelSpec(name="stars", family="star", config=network.config.model_dump(mode="json"), diameter=12.0)
    return save_bundle(Bundle(network, spec), tmp_path_factory.mktemp("model") / "stars")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("image") / "field.tif"
    tifffile.imwrite(path, picture(), tile=(64, 64))
    return path


def same(a: Instances, b: Instances) -> bool:
    names = ("classes", "scores", "windows", "bits", "ids")
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in names)


WAYS: list[dict[str, Any]] = [
    {},
    {"nms_by": "box", "nms_threshold": 0.3},
    {"per_class": True},
    {"nms_by": "box", "nms_threshold": 0.3, "per_class": True},
    {"nms": "linear", "nms_by": "box", "nms_threshold": 0.3, "score_threshold": 0.4},
    {"nms": "linear", "nms_by": "mask", "nms_threshold": 0.3, "score_threshold": 0.4},
    {"nms": "gaussian", "nms_by": "box", "nms_sigma": 0.2, "score_threshold": 0.4},
    {"nms": "gaussian", "nms_by": "mask", "nms_sigma": 0.2, "score_threshold": 0.4, "per_class": True},
]


def test_tiles_do_not_change_what_is_found_in_any_way(model, image) -> None:
    whole, tiled = load(model, **PLAIN), load(model, tile=96, **PLAIN)
    results = [whole.predict(image, **way) for way in WAYS]
    for way, found in zip(WAYS, results):
        again = tiled.predict(image, **way)
        assert len(found) > 20
        assert np.array_equal(again.to_labels() > 0, found.to_labels() > 0), way
        assert len(again) == len(found)
    # Each way finds something else.
    assert not any(same(a, b) for k, a in enumerate(results) for b in results[:k])


@pytest.mark.parametrize("way", WAYS[:4])
def test_on_disk_as_in_memory(model, image, tmp_path, way) -> None:
    found = load(model, tile=96, **PLAIN).predict(image, **way)
    predict_images(model, [image], tmp_path, save=("labels",), on_disk=True, tile=96, thresholds=way, **PLAIN)
    labels = LabelZarrWriter.open(tmp_path / "field_labels.ome.zarr").read(0, SIDE[0], 0, SIDE[1])
    np.testing.assert_array_equal(labels, found.to_labels())


def test_soft_nms_is_refused_on_disk(model, image, tmp_path, monkeypatch) -> None:
    soft = {"nms": "gaussian"}
    with pytest.raises(ConfigError, match=r"Soft-NMS[\s\S]*gaussian[\s\S]*--in-memory"):
        predict_images(model, [image], tmp_path / "a", on_disk=True, thresholds=soft, **PLAIN)
    assert not (tmp_path / "a").exists()
    # An image that is found to be a giant is told by its name, and the others of a run are done.
    monkeypatch.setattr(predict_job, "GIANT_PIXELS", SIDE[0] * SIDE[1])
    with pytest.raises(ImageError, match=r"Soft-NMS[\s\S]*field.tif[\s\S]*200 x 180"):
        predict_images(model, [image], tmp_path / "b", thresholds=soft, **PLAIN)
    tifffile.imwrite(tmp_path / "small.tif", picture()[:64, :64])
    summary = predict_images(
        model, [image, tmp_path / "small.tif"], tmp_path / "c", save=("labels",), thresholds=soft, **PLAIN
    )
    assert [path.name for path, _ in summary.failed] == ["field.tif"]
    assert (tmp_path / "c" / "small_labels.tif").is_file()
    assert len(predict_images(model, [image], tmp_path / "d", on_disk=False, thresholds=soft, **PLAIN).images) == 1


def test_lowered_scores_are_the_objects_scores(model, image) -> None:
    ready = load(model, **PLAIN)
    hard = ready.predict(image, nms_by="box", nms_threshold=0.0)
    soft = ready.predict(image, nms="linear", nms_by="box", nms_threshold=0.0, score_threshold=0.2)
    # The best keeps its score; many have a lower one than any that the network's threshold let through.
    assert soft.scores.max() == hard.scores.max()
    everything = ready.predict(image, nms_by="box", nms_threshold=1.0, score_threshold=0.2)
    assert (soft.scores > 0.2).all()
    assert len(hard) < len(soft) < len(everything)
    lowered = ~np.isin(soft.scores, everything.scores)
    assert 20 < lowered.sum() < len(soft)


def test_views_are_softened_each(model, image) -> None:
    ready = load(model, **PLAIN)
    hard = ready.predict(image, augment="flips")
    soft = ready.predict(image, augment="flips", nms="gaussian", nms_sigma=0.2)
    assert 0 < len(soft) != len(hard)


def test_from_the_command_line(model, image, tmp_path) -> None:
    options = "--nms gaussian --nms-by box --nms-sigma 0.2 --per-class --save coco --device cpu --precision float32"
    result = CliRunner().invoke(app, ["predict", str(model), str(image), "-o", str(tmp_path), *options.split()])
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["thresholds"] == {
        "score_threshold": 0.5, "nms": "gaussian", "nms_by": "box", "nms_threshold": 0.4, "nms_sigma": 0.2,
        "per_class": True,
    }  # fmt: skip
    expected = load(model, **PLAIN).predict(image, nms="gaussian", nms_by="box", nms_sigma=0.2, per_class=True)
    written = json.loads((tmp_path / "predictions.json").read_text())
    np.testing.assert_allclose([entry["score"] for entry in written], expected.scores, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"nms": "soft"}, {"nms_by": "polygon"}, {"nms_sigma": 0.0}, {"sigma": 1.0}])
def test_what_is_wrong_is_said(model, image, wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        load(model, **PLAIN).predict(image, **wrong)


@pytest.mark.parametrize(
    ("settings", "found"),
    [({"nms": "linear"}, "nms linear"), ({"nms_threshold": 0.3, "per_class": True}, "nms_threshold 0.3, per_class")],
)
def test_suppression_where_nothing_competes_is_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError, match="do not compete") as error:
        override_thresholds(DensePostprocess(), settings)
    assert str(error.value.found).startswith(found)
    assert "nms" not in str(error.value.expected)
    assert "seed_threshold" in str(error.value.expected)


def test_suppression_meant_for_several_models_is_left_to_those_whose_objects_compete() -> None:
    settings = {"nms_threshold": 0.3, "score_threshold": 0.4}
    dense = override_thresholds(DensePostprocess(), settings, of_several=True)
    assert dense == DensePostprocess(score_threshold=0.4)
    assert override_thresholds(DensePostprocess(), {"nms": "hard", "nms_threshold": 0.5}) == DensePostprocess()
    star = override_thresholds(StarPostprocess(), settings, of_several=True)
    assert (star.nms_threshold, star.score_threshold) == (0.3, 0.4)
