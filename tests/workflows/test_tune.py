"""Tuning: what the search chooses, and a model tuned on files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml
from typer.testing import CliRunner

from cytomask.cli.app import app
from cytomask.data.channels import ChannelExpectation
from cytomask.errors import BundleError, ChannelError, ConfigError
from cytomask.formats.label_images import write_labels
from cytomask.models.bundle import Bundle, ModelSpec, load_bundle, save_bundle
from cytomask.models.registry import build_segmenter
from cytomask.models.segmenter import Postprocess
from cytomask.models.star.config import StarPostprocess
from cytomask.workflows.tune import AP_SCORE_THRESHOLD, TuneResult, tune_model
from cytomask.workflows.tune_search import GAIN, SOFT_GAIN, search


class Recorder:
    """A score of settings that notes what was asked for."""

    def __init__(self, score: Callable[[Postprocess], float]) -> None:
        self.score, self.asked = score, set()  # type: ignore[var-annotated]

    def __call__(self, postprocess: Postprocess) -> float:
        self.asked.add(postprocess)
        return self.score(postprocess)


def near(postprocess: Postprocess, score: float, overlap: float) -> float:
    return -abs(postprocess.score_threshold - score) - abs(postprocess.nms_threshold - overlap)


def test_thresholds_are_found_in_few_trials() -> None:
    score = Recorder(lambda p: near(p, 0.575, 0.3))
    best = search(score, StarPostprocess())
    assert best == StarPostprocess(score_threshold=0.575, nms_threshold=0.3)
    assert len(score.asked) < 80
    for postprocess in score.asked:
        StarPostprocess.model_validate(postprocess.model_dump())


def test_what_was_there_is_kept_where_nothing_is_better() -> None:
    before = StarPostprocess(score_threshold=0.123, nms_threshold=0.77, nms="gaussian", nms_sigma=3.0)
    assert search(lambda _: 0.5, before) == before
    assert search(lambda p: 1.0 if p == before else 0.9, before, n_classes=3) == before


@pytest.mark.parametrize(
    "wanted, gain",
    [
        ({"nms_by": "box"}, GAIN),
        ({"nms": "linear", "nms_by": "mask"}, SOFT_GAIN),
        ({"nms": "linear", "nms_by": "box"}, SOFT_GAIN),
        ({"nms": "gaussian", "nms_by": "mask", "nms_sigma": 0.25}, SOFT_GAIN),
        ({"nms": "gaussian", "nms_by": "box", "nms_sigma": 0.1}, SOFT_GAIN),
        ({"per_class": True}, GAIN),
    ],
)
def test_another_way_is_chosen_if_it_gains_enough(wanted: dict[str, Any], gain: float) -> None:
    def score(bonus: float) -> Callable[[Postprocess], float]:
        return lambda p: near(p, 0.5, 0.3) + bonus * all(getattr(p, k) == v for k, v in wanted.items())

    before = StarPostprocess(nms_threshold=0.3)
    found = search(score(1.01 * gain), before, n_classes=2)
    assert all(getattr(found, name) == value for name, value in wanted.items())
    assert search(score(0.9 * gain), before, n_classes=2) == before
    if "per_class" in wanted:
        assert search(score(1.01 * gain), before, n_classes=1) == before


def test_lowered_scores_get_a_lower_threshold() -> None:
    """Soft-NMS that is good only with a threshold far below the best one of hard suppression is found."""

    def score(p: Postprocess) -> float:
        if p.nms == "linear":
            return 0.1 - abs(p.score_threshold - 0.35) - abs(p.nms_threshold - 0.2) / 10
        return near(p, 0.65, 0.3)

    best = search(score, StarPostprocess())
    assert (best.nms, best.score_threshold, best.nms_threshold) == ("linear", 0.35, 0.2)


def test_a_score_threshold_that_is_told_stays() -> None:
    score = Recorder(lambda p: near(p, 0.6, 0.6))
    best = search(score, StarPostprocess(score_threshold=0.05), score_thresholds=False)
    assert (best.score_threshold, best.nms_threshold) == (0.05, 0.6)
    assert {p.score_threshold for p in score.asked} == {0.05}


def test_a_model_that_was_tuned_softly_goes_back_to_hard() -> None:
    before = StarPostprocess(nms="gaussian", nms_by="box")
    best = search(lambda p: near(p, 0.5, 0.3) + (p.nms == "hard") + (p.nms_by == "mask"), before)
    assert (best.nms, best.nms_by, best.nms_threshold) == ("hard", "mask", 0.3)


def test_what_is_told() -> None:
    before = StarPostprocess(score_threshold=0.5)
    after = before.model_copy(update={"score_threshold": 0.425, "nms": "gaussian", "per_class": True})
    lines = TuneResult(before, after, 0.5, 0.6, [], 1, "ap").lines()
    assert lines == [
        "COCO AP of masks on 1 image: 0.500 → 0.600",
        "  score_threshold: 0.5 → 0.425",
        "  nms: hard → gaussian",
        "  nms_by: mask",
        "  nms_threshold: 0.4",
        "  nms_sigma: 0.5",
        "  per_class: no → yes",
        "nothing was saved",
    ]
    lines = TuneResult(before, before, 0.5, 0.5, [], 3).lines()
    assert lines[0] == "mean accuracy over IoU 0.50–0.90 on 3 images: 0.500 → 0.500"
    assert not any("sigma" in line for line in lines)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Takes what is brighter than its surroundings for a disc of six pixels; its score is the brightness."""
    network = build_segmenter("star", {"backbone": {"kind": "unet", "depth": 1, "base": 4, "features": 8}})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                middle = layer.kernel_size[0] // 2
                layer.weight[0, 0, middle, middle] = 1.0
        join = network.backbone.up[0][0][0]  # type: ignore[index,union-attr]
        join.weight.zero_()
        join.weight[0, join.in_channels // 2, 1, 1] = 1.0
        network.probability.bias.fill_(-0.5)  # type: ignore[operator,union-attr]
        network.distances.bias.fill_(6.0)  # type: ignore[operator,union-attr]
        network.distances.weight.zero_()  # type: ignore[operator,union-attr]
    spec = ModelSpec(
        name="discs", family="star", config=network.config.model_dump(mode="json"),
        channels=ChannelExpectation(mode="grey", count=1),
        postprocess={"score_threshold": 1.0, "nms_threshold": 0.9},
    )  # fmt: skip
    return save_bundle(Bundle(network, spec), tmp_path / "discs")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of two channels: spots in the second, noise in the first; discs around the spots are true."""
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:96, :96]
    for number in range(2):
        pixels, labels = rng.integers(0, 60, (2, 96, 96)).astype(np.uint16), np.zeros((96, 96), np.int32)
        pixels[1] //= 20
        for k, (y, x) in enumerate([(16, 16), (16, 48), (60, 20), (70, 70)], start=1):
            pixels[1, y : y + 2, x : x + 2] = 1000 + 10 * number
            labels[(rows - y) ** 2 + (columns - x) ** 2 <= 36] = k
        tifffile.imwrite(
            folder / "images" / f"{number}.tif", pixels, metadata={"axes": "CYX"}, photometric="minisblack"
        )
        write_labels(folder / "labels" / f"{number}.tif", labels)
    (folder / "data.yaml").write_text(
        yaml.safe_dump({"images": "images", "labels": "labels", "splits": {"val": ["*"]}})
    )
    return folder / "data.yaml"


def test_a_model_is_tuned_on_a_chosen_channel_and_saved(model: Path, data: Path) -> None:
    with pytest.raises(ChannelError):
        tune_model(model, data, device="cpu")
    result = CliRunner().invoke(app, ["tune", str(model), str(data), "--channels", "1", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    bundle = load_bundle(model)
    tuned, record = bundle.postprocess, bundle.spec.metrics["tuning"]
    assert tuned.score_threshold < 1
    assert record["mean_accuracy_50_90"] > 0.9
    assert record["before"]["score_threshold"] == 1
    assert "→" in result.output
    noise = tune_model(model, data, device="cpu", channels=[0], save=False)
    assert noise.score_before < 0.5
    assert noise.score_after >= noise.score_before
    assert load_bundle(model).postprocess == tuned


def test_tuned_for_a_ranking(model: Path, data: Path) -> None:
    result = tune_model(model, data, device="cpu", channels=[1], metric="ap")
    assert result.after.score_threshold == AP_SCORE_THRESHOLD
    assert result.score_after > 0.9
    assert {entry["score_threshold"] for entry in result.tried} == {AP_SCORE_THRESHOLD, 1.0}
    assert load_bundle(model).spec.metrics["tuning"]["coco_ap"] == pytest.approx(result.score_after, abs=1e-6)
    again = tune_model(model, data, device="cpu", channels=[1], save=False)
    assert again.before == result.after


def test_what_cannot_be_tuned(model: Path, data: Path) -> None:
    with pytest.raises(ConfigError, match="accuracy, ap"):
        tune_model(model, data, metric="f1", save=False)  # type: ignore[arg-type]
    with pytest.raises(BundleError):
        tune_model("nuclei.zip", data)
