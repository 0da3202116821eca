"""Several models and views through the workflow, the command and the Python door."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

import cytomask
from cytomask.cli.app import app
from cytomask.errors import BundleError, ConfigError, ImageError
from cytomask.formats.label_images import read_labels
from cytomask.models.bundle import Bundle, ModelSpec, save_bundle
from cytomask.models.registry import build_segmenter
from cytomask.prediction.fusion import Fusion
from cytomask.workflows.ensemble import Combination
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting import job as predict_job


def save_model(folder: Path, name: str, radius: float, classes: tuple[str, ...], likes: float = 0.5) -> Path:
    """A star model that takes what is brighter than ``likes`` for a disc, always of its first class."""
    config = {"classes": list(classes), "backbone": {"kind": "unet", "depth": 1, "base": 4, "features": 8}}
    network = build_segmenter("star", config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                middle = layer.kernel_size[0] // 2
                layer.weight[0, 0, middle, middle] = 1.0
        join = network.backbone.up[0][0][0]
        join.weight.zero_()
        join.weight[0, join.in_channels // 2, 1, 1] = 1.0
        network.probability.bias.fill_(-likes)
        network.distances.bias.fill_(radius)
        network.distances.weight.zero_()
        if len(classes) > 1:
            network.classes.weight.zero_()
            network.classes.bias[:] = torch.tensor([0.0, 1.0] + [0.0] * (len(classes) - 1))
    spec = ModelSpec(
        name=name, family="star", config=network.config.model_dump(mode="json"), diameter=2 * radius,
        postprocess={"score_threshold": 0.5, "nms_threshold": 0.1},
    )  # fmt: skip
    return save_bundle(Bundle(network, spec), folder / name)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Discs of radius 6 and 4 of the same class, and of radius 6 of another."""
    folder = tmp_path_factory.mktemp("models")
    return (
        save_model(folder, "large", 6.0, ("cell", "debris")),
        save_model(folder, "small", 4.5, ("cell",)),
        save_model(folder, "other", 6.0, ("vessel",)),
    )


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Five bright dots."""
    pixels = np.full((96, 120), 100, np.uint16)
    for y, x in ((20, 20), (20, 60), (50, 30), (50, 90), (76, 60)):
        pixels[y : y + 2, x : x + 2] = 1000
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    return tmp_path / "a.tif"


def test_two_models_are_fused_and_recorded(models, image, tmp_path):
    large, small, _ = models
    areas = {}
    for name, chosen in (("large", large), ("small", small)):
        areas[name] = predict_images(chosen, [image], tmp_path / name, device="cpu", save=("labels",)).images[0]
    summary = predict_images(
        large, [image], tmp_path / "both", device="cpu", combine=Combination((small,), weights=(1.0, 3.0))
    )
    assert summary.images[0].counts == {"cell": 5, "debris": 0}
    both, alone = (read_labels(tmp_path / name / "a_labels.tif") for name in ("both", "large"))
    few = read_labels(tmp_path / "small" / "a_labels.tif")
    # The heavier model's discs, cut by the mean boxes.
    assert (both > 0).sum() == (few > 0).sum() < (alone > 0).sum()
    record = json.loads((tmp_path / "both" / "run.json").read_text())
    told = record["ensemble"]
    assert [(m["name"], m["weight"]) for m in told["models"]] == [("large", 1.0), ("small", 3.0)]
    assert (told["method"], told["by"], told["iou_threshold"], told["score_threshold"]) == ("wbf", "mask", 0.5, 0.25)
    assert (told["augment"], told["scales"], told["views"]) == ("none", [1.0], 1)
    assert any("fused by wbf of 2 predictions with 5 + 5" in line for line in record["images"][0]["told"])
    assert "ensemble" not in json.loads((tmp_path / "large" / "run.json").read_text())


def test_classes_of_all_models_reach_the_results(models, image, tmp_path):
    large, _, other = models
    summary = predict_images(large, [image], tmp_path / "out", device="cpu", combine=Combination((other,)))
    assert summary.images[0].counts == {"cell": 5, "debris": 0, "vessel": 5}
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["categories"] == [{"id": i, "name": n} for i, n in enumerate(("cell", "debris", "vessel"), 1)]
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert sorted(e["category_id"] for e in entries) == [1] * 5 + [3] * 5


def test_another_combination_is_another_result(models, image, tmp_path):
    """What an earlier run did is not taken up with other views."""
    out = tmp_path / "out"
    run = {"device": "cpu", "save": ("labels",), "resume": True}
    predict_images(models[0], [image], out, **run)
    assert not predict_images(models[0], [image], out, combine=Combination(augment="flips"), **run).images[0].resumed
    assert predict_images(models[0], [image], out, combine=Combination(augment="flips"), **run).images[0].resumed
    assert not predict_images(models[0], [image], out, combine=Combination((models[1],)), **run).images[0].resumed


def test_the_command(models, image, tmp_path):
    large, small, _ = (str(path) for path in models)
    arguments = ["predict", large, str(image), "--device", "cpu", "--save", "labels"]
    asked = ["--with", small, "--augment", "full", "--scales", "0.9,1", "--weights", "2,1", "--fuse", "nms"]
    asked += ["--fuse-iou", "0.4", "--fuse-score", "0.1", "--fuse-by", "box"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), *asked])
    assert result.exit_code == 0, result.output
    told = json.loads((tmp_path / "out" / "run.json").read_text())["ensemble"]
    assert told["views"] == 16
    assert [m["weight"] for m in told["models"]] == [2.0, 1.0]
    fusion = (told["method"], told["iou_threshold"], told["score_threshold"], told["by"])
    assert fusion == ("nms", 0.4, 0.1, "box")


@pytest.mark.parametrize(
    "asked, words",
    [
        (["--augment", "mirror"], "no such augmentation"),
        (["--scales", "0,1"], "scales cannot be used"),
        (["--scales", "big"], "numbers are not understood"),
        (["--weights", "2,1"], "nothing to fuse"),
        (["--fuse", "nms"], "nothing to fuse"),
        (["--augment", "flips", "--fuse", "vote"], "no such way to fuse"),
        (["--augment", "flips", "--weights", "2,1"], "weights do not fit"),
        (["--augment", "flips", "--on-disk"], "fused in memory"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(models, image, tmp_path, asked, words):
    arguments = ["predict", str(models[0]), str(image), "--device", "cpu", "--out", str(tmp_path / "out")]
    with pytest.raises(ConfigError, match=words):
        CliRunner().invoke(app, [*arguments, *asked], catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_another_model_that_is_not_there(models, image, tmp_path):
    with pytest.raises(BundleError, match="no such model"):
        predict_images(models[0], [image], tmp_path / "out", combine=Combination((tmp_path / "none",)))


def test_a_giant_image_is_refused_with_a_way_out(models, image, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_job, "GIANT_PIXELS", 100)
    run = {"device": "cpu", "save": ("labels",), "combine": Combination(augment="flips")}
    with pytest.raises(ImageError, match="--in-memory"):
        predict_images(models[0], [image], tmp_path / "out", **run)
    assert predict_images(models[0], [image], tmp_path / "out", on_disk=False, **run).images[0].n_objects == 5


def test_from_python(models, image):
    large, small, other = models
    model = cytomask.load(large, device="cpu")
    plain = model.predict(image)
    turned = model.predict(image, augment="turns", scales=(1, 1.1), fusion=Fusion("nms"))
    assert len(plain) == len(turned) == 5
    both = cytomask.load_ensemble([large, small, other], weights=[1, 1, 2], augment="flips", device="cpu")
    assert both.classes == ("cell", "debris", "vessel")
    found = both.predict(tifffile.imread(image))
    np.testing.assert_array_equal(np.bincount(found.classes, minlength=4), [0, 5, 0, 5])
    # Two models of weight 1, and one of weight 2, of 4.
    assert found.scores[found.classes == 1].max() < 0.5 + 1e-6
    assert len(both.predict(image, score_threshold=0.999)) == 0
    for wrong in ([], "nuclei"):
        with pytest.raises(ConfigError, match="a list of models"):
            cytomask.load_ensemble(wrong)


def test_one_model_looked_at_once_is_that_model(models, image):
    alone = cytomask.load(models[0], device="cpu").predict(image)
    same = cytomask.load_ensemble([models[0]], device="cpu").predict(image)
    np.testing.assert_array_equal(same.to_labels() > 0, alone.to_labels() > 0)
    np.testing.assert_allclose(np.sort(same.scores), np.sort(alone.scores), rtol=1e-6)
