"""What goes wrong with region networks and their data ends in one clear error, or in a way on that is told."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import yaml

from cytomask.cli.app import run
from cytomask.data.dataset import open_dataset
from cytomask.models.bundle import Bundle, ModelSpec, load_bundle, save_bundle
from cytomask.models.registry import build_segmenter
from cytomask.workflows.experiment import read_experiment
from cytomask.workflows.trainings.initial_weights import begin_with
from cytomask.workflows.trainings.preparation import complete_experiment

SIDE = 64
MODEL: dict[str, Any] = {
    "family": "region",
    "backbone": {"depth": 18, "width": 16, "norm": "group", "stem_stride": 4},
    "pyramid": {"width": 16},
    "anchors": {"sizes": [[8], [12], [16], [24], [32]], "ratios": [1.0]},
    "rpn": {"train_before": 50, "train_after": 30, "test_before": 50, "test_after": 30},
    "sampling": {"batch": 8},
    "box": {"linear": 1, "linear_width": 16},
    "mask": {"kind": "convolution", "convolutions": 0, "width": 16},
    "context": 0,
}
TRAINING = {
    "epochs": 1,
    "steps_per_epoch": 1,
    "batch_size": 1,
    "workers": 0,
    "device": "cpu",
    "precision": "float32",
    "ema_decay": None,
    "early_stopping": None,
}
MASKS = {
    "META_ARCHITECTURE": "GeneralizedRCNN",
    "MASK_ON": True,
    "BACKBONE": {"NAME": "build_resnet_fpn_backbone"},
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Runs:
    """An object that would run something when it is unpickled carelessly."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("was-run"),)


def square(number: int, image: int, category: int, x: int = 10) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "iscrowd": 0,
        "segmentation": [[x, 10, x + 12, 10, x + 12, 22, x, 22]],
        "bbox": [x, 10, 12, 12],
        "area": 144,
    }


def coco(folder: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """Two training images, of which the second has no annotation, and one for validation; no object of class ghost."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 1)):
        table: dict[str, Any] = {
            "images": [
                {"id": i + 1, "file_name": f"{split}{i}.tif", "height": SIDE, "width": SIDE} for i in range(count)
            ],
            "annotations": [square(1, 1, 1), square(2, 1, 2, 30)],
            "categories": [{"id": i + 1, "name": name} for i, name in enumerate(("cell", "granule", "ghost"))],
        }
        change(table)
        (folder / f"{split}.json").write_text(json.dumps(table))
        for i in range(count):
            tifffile.imwrite(folder / f"{split}{i}.tif", rng.integers(0, 4000, (SIDE, SIDE)).astype(np.uint16))
    return folder


def experiment(folder: Path, **changes: Any) -> Path:
    path = folder / "experiment.yaml"
    whole = {
        "data": {"channels": {"mode": "gray"}},
        "model": MODEL,
        "patches": {"size": SIDE},
        "training": TRAINING,
        "tune": {"enabled": False},
    }
    path.write_text(yaml.safe_dump({**whole, **changes}))
    return path


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Train by the command line; the exit code and what was told."""
    monkeypatch.chdir(tmp_path)

    def train_with(folder: Path, *overrides: str, **changes: Any) -> tuple[int, str]:
        sets = [word for one in overrides for word in ("--set", one)]
        code = run(["train", str(experiment(tmp_path, **changes)), "--data", str(folder), "--out", "run", *sets])
        told = capsys.readouterr()
        return code, " ".join((told.out + told.err).split())

    return train_with


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey region network of two classes with random weights."""
    torch.manual_seed(0)
    network = build_segmenter("region", {k: v for k, v in MODEL.items() if k != "family"} | {"classes": ["a", "b"]})
    spec = ModelSpec(
        name="random",
        family="region",
        config=network.config.model_dump(mode="json"),
        postprocess={"score_threshold": 0.05},
        diameter=10.0,
    )
    return save_bundle(Bundle(network, spec), tmp_path_factory.mktemp("model") / "bundle")


def no_outline(table: dict[str, Any]) -> None:
    table["annotations"][1:] = [
        {**square(2, 1, 1), "segmentation": [[1, 1, 20, 20]]},
        {**square(3, 1, 1), "segmentation": [], "bbox": [10, 10, 0, 5]},
        {**square(4, 1, 1), "segmentation": [], "bbox": [10, 10, -5, 5]},
    ]


def same_name(table: dict[str, Any]) -> None:
    table["categories"][1]["name"] = "cell"


def test_images_without_objects_and_classes_without_objects_are_trained_on(tmp_path: Path, train, capsys) -> None:
    data = coco(tmp_path / "data")
    code, told = train(data)
    assert code == 0, told
    assert "trained 1 epoch in" in told
    bundle = load_bundle(tmp_path / "run" / "bundle")
    assert bundle.segmenter.config.classes == ("cell", "granule", "ghost")
    # The absent class is no number, not zero, when the model is scored.
    assert run(["predict", "run", str(data), "--split", "val", "--out", "found", "--save", "coco"]) == 0
    assert run(["evaluate", "found", str(data), "--split", "val", "--out", "scores"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["ghost"]]
    assert rows
    assert all("-" in cells and set(cells) <= {"0", "-"} for _, *cells in rows), rows


@pytest.mark.parametrize(
    ("change", "telling"),
    [
        (no_outline, "3 annotations without an outline or a box: left out"),
        (same_name, "several categories are called cell: they stay apart"),
    ],
)
def test_annotations_that_are_passed_over_are_told(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], telling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = open_dataset(coco(tmp_path / "data", change))
    assert telling in " ".join(capsys.readouterr().err.split())
    assert dataset.split("train")


def test_unknown_category(tmp_path: Path, train) -> None:
    data = coco(tmp_path / "data", lambda table: table["annotations"][0].update(category_id=99))
    code, told = train(data)
    assert code == 2
    assert "category that the file does not list" in told
    assert "annotation 1" in told
    assert "category_id 99" in told
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "telling"),
    [
        ("model.anchors.sizes=[[8],[16],[32],[64]]", "model.anchors: anchor sizes are given for five levels"),
        ("model.anchors.sizes=[[0],[8],[16],[32],[64]]", "model.anchors: sizes and ratios of anchors are above 0"),
        ("model.rpn.iou=[0.7,0.3]", "model.rpn: the two overlaps of iou lie between 0 and 1"),
        ("model.in_channels=3", "found: 3 expected: 1, as data.channels says"),
        ("patches.size=100", "patches.size: should be a multiple of 16 (got 100)"),
        ("initial=evil.pth", "no checkpoint needs"),
        ("initial=evil.pkl", "no checkpoint needs"),
        ("initial=half.pth", "archive is broken"),
        ("initial=coco/mask_rcnn_R_50", "did you mean"),
    ],
)
def test_nothing_is_begun_with_a_wrong_setting(tmp_path: Path, train, setting: str, telling: str) -> None:
    data = coco(tmp_path / "data")
    torch.save({"model": {"a": Runs()}}, tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps({"model": {"a": Runs()}}))
    torch.save({"model": {"a": torch.zeros(1000)}}, tmp_path / "half.pth")
    whole = (tmp_path / "half.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    means = {"channels": {"mode": "gray"}, "normalisation": {"method": "mean_std"}}
    code, told = train(data, setting, data=means)
    assert code == 2, told
    assert telling in told
    assert told.count("error:") == 1
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("name", ["experiment", "detectron2"])
def test_no_python_in_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / "evil.yaml"
    evil.write_text("MODEL:\n  MASK_ON: !!python/object/apply:pathlib.Path.touch [was-run]\n")
    arguments = ["train", "evil.yaml", "--out", "out"]
    if name == "detectron2":
        arguments = ["models", "import", "detectron2", "model.pth", "--config-file", "evil.yaml", "--out", "out"]
    assert run(arguments) == 2
    assert "python/object/apply" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.yaml"]


@pytest.mark.parametrize("only", [{"META_ARCHITECTURE": "RetinaNet"}, {"KEYPOINT_ON": True}])
def test_networks_that_there_are_not(tmp_path: Path, capsys, only: dict[str, Any]) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"MODEL": {**MASKS, **only}}))
    torch.save({"model": {}}, tmp_path / "model.pth")
    out = tmp_path / "out"
    files = [str(tmp_path / "model.pth"), "--config-file", str(config), "--out", str(out)]
    assert run(["models", "import", "detectron2", *files]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"MODEL.{next(iter(only))}: {next(iter(only.values()))!r}" in told
    assert "to do: give the configuration of a Mask R-CNN" in told
    assert not out.exists()


def test_models_of_other_classes_and_channels_are_begun_with(tmp_path: Path, model: Path) -> None:
    """A colour network with a grey one's weights answers grey pictures as that one did, before its heads."""
    dataset = open_dataset(coco(tmp_path / "data"))
    whole = experiment(tmp_path, initial=str(model), model={"family": "region"}, data={"channels": {"mode": "rgb"}})
    filled = complete_experiment(read_experiment(whole), dataset, dataset.split("train"))[0]
    settings = {name: value for name, value in filled.model.items() if name != "family"}
    assert (settings["in_channels"], list(settings["classes"])) == (3, ["cell", "granule", "ghost"])
    network = build_segmenter("region", settings)
    assert begin_with(network, str(model)) == [
        "box_branch.heads.0.box_deltas",
        "box_branch.heads.0.class_logits",
        "mask_branch.head.predictor",
    ]
    grey = torch.rand(1, 1, SIDE, SIDE)
    old = load_bundle(model).segmenter.eval()
    with torch.no_grad():
        ours, theirs = (one.pyramid(x) for one, x in ((network.eval(), grey.expand(-1, 3, -1, -1)), (old, grey)))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_frozen_part_without_weights_is_told(tmp_path: Path, train) -> None:
    code, told = train(coco(tmp_path / "data"), "model.backbone.freeze=2")
    assert code == 0, told
    assert "frozen though it begins with random weights" in told


@pytest.mark.parametrize("shape", [(20, 20), (1, 1), (600, 40)])
@pytest.mark.parametrize("place", ["--in-memory", "--on-disk"])
def test_pictures_of_any_size(tmp_path: Path, model: Path, shape: tuple[int, int], place: str) -> None:
    rng = np.random.default_rng(1)
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 4000, shape).astype(np.uint16))
    out = tmp_path / "out"
    assert run(["predict", str(model), str(tmp_path / "a.tif"), "-o", str(out), "--save", "coco", place]) == 0
    for one in json.loads((out / "predictions.json").read_text()):
        assert one["segmentation"]["size"] == list(shape)
        x, y, width, height = one["bbox"]
        assert min(x, y) >= 0
        assert x + width <= shape[1]
        assert y + height <= shape[0]


@pytest.mark.parametrize(
    ("options", "telling"),
    [(["--nms", "gaussian", "--on-disk"], "use --in-memory"), (["--nms", "gaussian", "--nms-sigma", "0"], "nms_sigma")],
)
def test_suppression_that_cannot_be(tmp_path: Path, model: Path, capsys, options: list[str], telling: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 20), np.uint16))
    out = tmp_path / "out"
    assert run(["predict", str(model), str(tmp_path / "a.tif"), "-o", str(out), *options]) == 2
    assert telling in capsys.readouterr().err
    assert not out.exists()
