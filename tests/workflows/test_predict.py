"""The predict workflow: what is written, what is said, and that nothing is lost or half-written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from PIL import Image as Picture

from cytomask.data.working_size import WorkingSize
from cytomask.errors import ChannelError, ConfigError, ImageError, OutputError
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances
from cytomask.models.bundle import Bundle, ModelSpec, load_bundle, save_bundle
from cytomask.models.registry import build_segmenter
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting import outputs
from cytomask.workflows.predicting.job import ImageTask, Job
from cytomask.workflows.predicting.result_names import name_results


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A star model that takes what is brighter than its surroundings for a disc of six pixels; two classes."""
    config = {"classes": ["cell", "debris"], "backbone": {"kind": "unet", "depth": 1, "base": 4, "features": 8}}
    network = build_segmenter("star", config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # The first channel of every layer hands on the largest value in its 3 x 3 pixels' middle.
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d):
                middle = layer.kernel_size[0] // 2
                layer.weight[0, 0, middle, middle] = 1.0
        # The decoder joins what comes from below with what came across; only the latter is used.
        join = network.backbone.up[0][0][0]
        join.weight.zero_()
        join.weight[0, join.in_channels // 2, 1, 1] = 1.0
        network.probability.bias.fill_(-0.5)
        network.distances.bias.fill_(6.0)
        network.distances.weight.zero_()
        network.classes.weight.zero_()
        network.classes.bias[:] = torch.tensor([0.0, 1.0, 0.0])
    spec = ModelSpec(
        name="discs", family="star", config=network.config.model_dump(mode="json"), diameter=12.0,
        postprocess={"score_threshold": 0.5, "nms_threshold": 0.1},
    )  # fmt: skip
    return save_bundle(Bundle(network, spec), tmp_path_factory.mktemp("model") / "discs")


def spots(count: int, seed: int = 0, side: int = 120) -> np.ndarray:
    """Bright dots on a dark lattice, far enough apart for one disc each."""
    places = [(y, x) for y in range(16, side - 12, 24) for x in range(16, side - 12, 24)]
    rng = np.random.default_rng(seed)
    pixels = np.full((side, side), 100, np.uint16)
    for i in rng.permutation(len(places))[:count]:
        y, x = places[i]
        pixels[y : y + 2, x : x + 2] = 1000 + i
    return pixels


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two images of 5 and 7 spots."""
    folder = tmp_path / "images"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", spots(5))
    tifffile.imwrite(folder / "b.tif", spots(7, seed=1))
    return folder


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_all_results(model, images, tmp_path):
    out = tmp_path / "out"
    summary = predict_images(model, [images], out, device="cpu", pixel_size=0.5)
    assert files(out) == [
        "a_labels.tif", "a_objects.csv", "a_overlay.png", "b_labels.tif", "b_objects.csv", "b_overlay.png",
        "predictions.json", "run.json",
    ]  # fmt: skip
    assert [r.n_objects for r in summary.images] == [5, 7]
    assert not summary.failed

    labels = read_labels(out / "a_labels.tif")
    np.testing.assert_array_equal(np.unique(labels), np.arange(6))
    assert tifffile.imread(out / "a_labels.tif").dtype == np.uint8
    # The discs lie on the spots.
    assert labels[spots(5) > 500].all()

    table = pd.read_csv(out / "a_objects.csv")
    assert list(table["id"]) == [1, 2, 3, 4, 5]
    assert set(table["class"]) == {"cell"}
    np.testing.assert_allclose(table["area_um2"], table["area_px"] / 4)
    assert np.asarray(Picture.open(out / "a_overlay.png")).shape == (120, 120, 3)

    coco = json.loads((out / "predictions.json").read_text())
    assert [c["image_id"] for c in coco] == [1] * 5 + [2] * 7
    assert {c["file_name"] for c in coco} == {"a.tif", "b.tif"}
    of_a = [c for c in coco if c["image_id"] == 1]
    found = Instances.from_rle((120, 120), [c["segmentation"] for c in of_a], scores=[c["score"] for c in of_a])
    np.testing.assert_array_equal(found.to_labels(), labels)
    for entry, (y0, x0, y1, x1) in zip(of_a, found.boxes):
        assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert entry["category_id"] == 1

    record = json.loads((out / "run.json").read_text())
    assert record["thresholds"] == {
        "score_threshold": 0.5, "nms": "hard", "nms_by": "mask", "nms_threshold": 0.1, "nms_sigma": 0.5,
        "per_class": False,
    }  # fmt: skip
    assert record["model"]["name"] == "discs"
    assert record["categories"] == [{"id": 1, "name": "cell"}, {"id": 2, "name": "debris"}]
    first = record["images"][0]
    assert first["objects"] == {"cell": 5, "debris": 0}
    assert first["scale"] == [1.0, 1.0]
    assert any("pixel size 0.5 µm" in sentence for sentence in first["told"])
    assert first["outputs"] == ["a_labels.tif", "a_overlay.png", "a_objects.csv"]
    assert any("12 objects (12 cell, 0 debris)" in line for line in summary.lines())


def test_only_what_is_wanted(model, images, tmp_path):
    predict_images(model, [images / "a.tif"], tmp_path / "out", save=("table",), table_format="parquet", device="cpu")
    assert files(tmp_path / "out") == ["a_objects.parquet", "run.json"]
    assert len(pd.read_parquet(tmp_path / "out" / "a_objects.parquet")) == 5


def test_thresholds_and_diameter_are_passed_on(model, images, tmp_path):
    strict = predict_images(
        model,
        [images / "a.tif"],
        tmp_path / "strict",
        save=("labels",),
        thresholds={"score_threshold": 0.99},
        device="cpu",
    )
    assert strict.images[0].n_objects == 0
    scaled = predict_images(
        model, [images / "a.tif"], tmp_path / "scaled", save=("labels",), diameter="6", device="cpu"
    )
    assert scaled.images[0].scale == (2.0, 2.0)
    labels = read_labels(tmp_path / "scaled" / "a_labels.tif")
    assert labels.shape == (120, 120)
    assert labels.max() == 5


def test_one_bad_image_of_several(model, images, tmp_path, capsys):
    (images / "broken.tif").write_text("this is no picture")
    tifffile.imwrite(images / "five.tif", np.zeros((5, 40, 40), np.uint8), metadata={"axes": "CYX"})
    out = tmp_path / "out"
    summary = predict_images(model, [images], out, device="cpu")
    assert [r.name for r in summary.images] == ["a", "b"]
    assert [path.name for path, _ in summary.failed] == ["broken.tif", "five.tif"]
    said = capsys.readouterr().err
    assert "broken.tif is left out" in said
    assert "five.tif is left out" in said
    assert any("2 of 4 images could not be segmented" in line for line in summary.lines())
    assert not [name for name in files(out) if name.startswith(("broken", "five", "."))]
    record = json.loads((out / "run.json").read_text())
    assert [Path(f["file"]).name for f in record["failed"]] == ["broken.tif", "five.tif"]
    assert [i["image_id"] for i in record["images"]] == [1, 2]


@pytest.mark.parametrize("by_name", [True, False])
def test_an_empty_file_is_left_out_as_a_broken_one_is(model, images, tmp_path, capsys, by_name):
    (images / "broken.tif").write_text("this is no picture")
    (images / "empty.tif").touch()
    named = sorted(images.iterdir()) if by_name else [images]
    summary = predict_images(model, named, tmp_path / "out", device="cpu", save=("labels",))
    assert [r.name for r in summary.images] == ["a", "b"]
    assert [path.name for path, _ in summary.failed] == ["broken.tif", "empty.tif"]
    assert "empty.tif is left out" in capsys.readouterr().err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert [Path(f["file"]).name for f in record["failed"]] == ["broken.tif", "empty.tif"]


def test_the_only_image_is_bad(model, images, tmp_path):
    (images / "broken.tif").write_text("this is no picture")
    (images / "empty.tif").touch()
    for name in ("broken.tif", "empty.tif"):
        with pytest.raises(ImageError):
            predict_images(model, [images / name], tmp_path / "out", device="cpu")
    tifffile.imwrite(images / "five.tif", np.zeros((5, 40, 40), np.uint8), metadata={"axes": "CYX"})
    with pytest.raises(ChannelError):
        predict_images(model, [images / "five.tif"], tmp_path / "out", device="cpu")
    assert files(tmp_path / "out") == []


def test_a_constant_image_has_no_objects(model, tmp_path):
    tifffile.imwrite(tmp_path / "flat.tif", np.full((50, 60), 7, np.uint8))
    summary = predict_images(model, [tmp_path / "flat.tif"], tmp_path / "out", device="cpu")
    assert summary.images[0].n_objects == 0
    assert not summary.failed
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == []
    assert len(pd.read_csv(tmp_path / "out" / "flat_objects.csv")) == 0


def test_equal_stems_do_not_meet(model, tmp_path, capsys):
    for folder, count in (("x", 3), ("y", 4)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", spots(count))
    out = tmp_path / "out"
    predict_images(model, [tmp_path / "x", tmp_path / "y"], out, save=("labels",), device="cpu")
    assert files(out) == ["run.json", "x_a_labels.tif", "y_a_labels.tif"]
    assert read_labels(out / "x_a_labels.tif").max() == 3
    assert read_labels(out / "y_a_labels.tif").max() == 4
    assert "2 images are called a" in capsys.readouterr().err


@pytest.mark.parametrize(
    "paths, names",
    [
        (["a.tif", "A.tif"], ["a_1", "A_2"]),
        (["x/a.tif", "y/a.tif", "x/a.png"], ["x_a_tif", "y_a_tif", "x_a_png"]),
        (["x/a.tif", "y/a.tif", "z/x_a.tif"], ["x_a_tif", "y_a_tif", "x_a"]),
        (["p/x/a.tif", "q/x/a.tif"], ["p_x_a", "q_x_a"]),
        (["a.tif", "b.tif"], ["a", "b"]),
        (["a.ome.tif", "b.v2.tif"], ["a", "b.v2"]),
        (["a.ome.tif", "a.tif"], ["a_1", "a_2"]),
        (["a.ome.zarr", "a.tif"], ["a_zarr", "a_tif"]),
    ],
)
def test_names(paths, names):
    # Folders above the working directory must not matter here.
    found = name_results([Path("/") / path for path in paths])
    assert found == names


def test_no_result_replaces_an_image(model, images):
    before = (images / "a.tif").read_bytes()
    (images / "a.tif").rename(images / "a_labels.tif")
    tifffile.imwrite(images / "a.tif", spots(3))
    with pytest.raises(OutputError, match="would replace"):
        predict_images(model, [images / "a.tif", images / "a_labels.tif"], images, device="cpu")
    assert (images / "a_labels.tif").read_bytes() == before
    assert files(images) == ["a.tif", "a_labels.tif", "b.tif"]


def test_results_may_lie_beside_the_images(model, images):
    for _ in range(2):
        summary = predict_images(model, [images], images, save=("labels", "overlay"), device="cpu")
        assert [r.name for r in summary.images] == ["a", "b"]


def test_a_full_disk_leaves_nothing_half_written(model, images, tmp_path, monkeypatch):
    def full(path: Path, picture: np.ndarray) -> None:
        raise OutputError("the file cannot be written", where=path, found="No space left on device")

    monkeypatch.setattr(outputs, "write_png", full)
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="No space"):
        predict_images(model, [images], out, device="cpu")
    assert files(out) == ["a_labels.tif"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"save": ("labels", "music")}, "music"),
        ({"save": ()}, "nothing"),
        ({"table_format": "xlsx"}, "xlsx"),
        ({"diameter": "big"}, "big"),
        ({"diameter": "-4"}, "not a length"),
        ({"pixel_size": 0.0}, "pixel size"),
        ({"device": "abacus"}, "abacus"),
        ({"tile": 64, "overlap": 64}, "too small"),
        ({"thresholds": {"score_threshold": 7.0}}, "threshold"),
    ],
)
def test_wrong_options_stop_before_anything_is_written(model, images, tmp_path, options, words):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=words):
        predict_images(model, [images], out, **{"device": "cpu", **options})
    assert not out.exists() or files(out) == []


def test_tiles_change_nothing(model, tmp_path):
    tifffile.imwrite(tmp_path / "large.tif", spots(100, side=400))

    def run(name: str, **options: Any) -> np.ndarray:
        predict_images(model, [tmp_path / "large.tif"], tmp_path / name, save=("labels",), device="cpu", **options)
        return read_labels(tmp_path / name / "large_labels.tif")

    whole = run("whole")
    assert whole.max() == 100
    np.testing.assert_array_equal(run("tiled", tile=96, overlap=16, batch_size=3), whole)


def test_channels_are_passed_on(model, tmp_path):
    stack = np.stack([np.full((120, 120), 5, np.uint16), spots(6)])
    tifffile.imwrite(tmp_path / "two.tif", stack, metadata={"axes": "CYX"})
    summary = predict_images(model, [tmp_path / "two.tif"], tmp_path / "out", channels=[1], device="cpu")
    assert summary.images[0].n_objects == 6
    assert any("channels chosen" in sentence for sentence in summary.images[0].told)


def count_segmented(monkeypatch: pytest.MonkeyPatch, stop_at: str | None = None) -> list[str]:
    """Note the images that go through the network; end at one of them."""
    original, segmented = Job._segment, []

    def segment(self: Any, task: ImageTask, *rest: Any) -> Any:
        if task.path.name == stop_at:
            raise KeyboardInterrupt
        segmented.append(task.path.name)
        return original(self, task, *rest)

    monkeypatch.setattr(Job, "_segment", segment)
    return segmented


def results_of(folder: Path) -> dict[str, bytes]:
    found = {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "run.json"}
    record = json.loads((folder / "run.json").read_text())
    told = [{**entry, "seconds": 0, "fingerprint": ""} for entry in record["images"]]
    return {**found, "run.json": json.dumps(told).encode()}


def test_a_broken_off_folder_is_gone_on_with(model, images, tmp_path, monkeypatch, capsys):
    predict_images(model, [images], tmp_path / "whole", device="cpu")
    out = tmp_path / "out"
    with monkeypatch.context() as limited:
        count_segmented(limited, stop_at="b.tif")
        with pytest.raises(KeyboardInterrupt):
            predict_images(model, [images], out, device="cpu")
    assert "the same command goes on" in capsys.readouterr().err
    assert files(out) == [".predict.progress", "a_labels.tif", "a_objects.csv", "a_overlay.png"]
    segmented = count_segmented(monkeypatch)
    summary = predict_images(model, [images], out, device="cpu")
    assert segmented == ["b.tif"]
    assert "1 of them was done in an earlier run" in summary.lines()
    assert results_of(out) == results_of(tmp_path / "whole")
    # A finished run is not gone on with: the same command does all of it.
    predict_images(model, [images], out, device="cpu")
    assert segmented == ["b.tif", "a.tif", "b.tif"]
    assert results_of(out) == results_of(tmp_path / "whole")


@pytest.mark.parametrize("what", ["file", "settings", "result", "no resume"])
def test_what_differs_is_done_again(model, images, tmp_path, monkeypatch, what):
    out = tmp_path / "out"
    with monkeypatch.context() as limited:
        count_segmented(limited, stop_at="b.tif")
        with pytest.raises(KeyboardInterrupt):
            predict_images(model, [images], out, device="cpu")
    options: dict[str, Any] = {}
    if what == "file":
        tifffile.imwrite(images / "a.tif", spots(4, seed=7))
    elif what == "settings":
        options["thresholds"] = {"score_threshold": 0.6}
    elif what == "result":
        (out / "a_labels.tif").unlink()
    else:
        options["resume"] = False
    segmented = count_segmented(monkeypatch)
    predict_images(model, [images], out, device="cpu", **options)
    assert segmented == ["a.tif", "b.tif"]
    monkeypatch.undo()
    predict_images(model, [images], tmp_path / "fresh", device="cpu", **options)
    assert results_of(out) == results_of(tmp_path / "fresh")


def test_resume_leaves_out_what_a_finished_run_did(model, images, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    (images / "aa.tif").write_text("this is no picture")
    predict_images(model, [images], out, device="cpu")
    tifffile.imwrite(images / "aa.tif", spots(3, seed=3))
    tifffile.imwrite(images / "c.tif", spots(2, seed=4))
    segmented = count_segmented(monkeypatch)
    summary = predict_images(model, [images], out, device="cpu", resume=True)
    assert segmented == ["aa.tif", "c.tif"]
    assert [r.resumed for r in summary.images] == [True, False, True, False]
    predict_images(model, [images], tmp_path / "fresh", device="cpu")
    assert results_of(out) == results_of(tmp_path / "fresh")
    # Without its COCO results, nothing of a run can be taken up.
    (out / "predictions.json").unlink()
    segmented.clear()
    predict_images(model, [images], out, device="cpu", resume=True)
    assert segmented == ["a.tif", "aa.tif", "b.tif", "c.tif"]
    assert results_of(out) == results_of(tmp_path / "fresh")


def test_a_record_from_elsewhere_is_not_believed(model, images, tmp_path):
    """Results that a record names outside the folder are not there."""
    out = tmp_path / "out"
    predict_images(model, [images], out, device="cpu", save=("labels",))
    record = json.loads((out / "run.json").read_text())
    for entry in record["images"]:
        entry["outputs"] = ["../images/a.tif"]
    (out / "run.json").write_text(json.dumps(record))
    summary = predict_images(model, [images], out, device="cpu", save=("labels",), resume=True)
    assert not any(r.resumed for r in summary.images)
    (out / "run.json").write_text('{"images": [{"fingerprint": 3}, 7]}')
    summary = predict_images(model, [images], out, device="cpu", save=("labels",), resume=True)
    assert summary.images[0].n_objects == 5


def test_another_size_of_images_is_another_model(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((40, 48), np.uint8))
    kept = []
    for size in (32, 64):
        bundle = load_bundle(model)
        bundle.spec.resize = WorkingSize(height=size, width=size)
        predict_images(save_bundle(bundle, tmp_path / f"model{size}"), [path], tmp_path / str(size), save=["labels"])
        record = json.loads((tmp_path / str(size) / "run.json").read_text(encoding="utf-8"))
        kept.append(record["images"][0]["fingerprint"])
    assert kept[0] != kept[1]
