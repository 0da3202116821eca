"""Prediction on disk: the same result as in memory, whenever and however it was broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
import zarr
from PIL import Image as Picture

import cytomask.workflows.predicting.giant as giant
import cytomask.workflows.predicting.giant_steps as steps
from cytomask.cli.app import run
from cytomask.errors import ChannelError, OutputError
from cytomask.formats.label_images import read_labels
from cytomask.formats.ome_zarr_labels import LabelZarrWriter
from cytomask.measuring import table as table_module
from cytomask.models.bundle import Bundle, ModelSpec, save_bundle
from cytomask.models.registry import build_segmenter
from cytomask.prediction.spool import Spool
from cytomask.workflows import predict as workflow
from cytomask.workflows.predict import predict_images
from cytomask.workflows.predicting import job as predict_job
from cytomask.workflows.predicting.progress import PROGRESS_NAME, ImageProgress

SIDE = (333, 290)
#: Tiles of a few dozen pixels.
OPTIONS: dict[str, Any] = {"device": "cpu", "precision": "float32", "tile": 96, "thresholds": {"nms_threshold": 0.2}}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A star network with random weights, made to propose overlapping objects all over a picture; two classes."""
    torch.manual_seed(0)
    config = {"classes": ["cell", "debris"], "backbone": {"kind": "unet", "depth": 1, "base": 8, "features": 16}}
    network = build_segmenter("star", config)
    pixels = picture()
    with torch.no_grad():
        logits, distances, classes = network(
            torch.from_numpy((pixels[:320, :288] / pixels.max()).astype(np.float32))[None, None]
        )
        network.probability.weight *= 2 / logits.std()
        network.probability.bias[:] = 2 / logits.std() * (network.probability.bias - torch.quantile(logits, 0.8))
        network.distances.weight *= 3 / distances.std()
        network.distances.bias.fill_(7.0)
        network.classes.bias -= classes.mean((0, 2, 3))
    spec = ModelSpec(name="stars", family="star", config=network.config.model_dump(mode="json"), diameter=12.0)
    return save_bundle(Bundle(network, spec), tmp_path_factory.mktemp("model") / "stars")


def picture(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(rng.random((1, 1, 42, 37))), SIDE, mode="bicubic")
    return (smooth[0, 0].numpy().clip(0, 1) * 3000).astype(np.uint16)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "field.tif"
    tifffile.imwrite(path, picture(), resolution=(20000, 20000), resolutionunit="CENTIMETER")
    return path


@pytest.fixture(scope="module")
def in_memory(model, image, tmp_path_factory) -> Path:
    """The results of the ordinary way."""
    out = tmp_path_factory.mktemp("memory")
    summary = predict_images(model, [image], out, **OPTIONS)
    assert summary.images[0].n_objects > 150
    assert min(summary.images[0].counts.values()) > 20
    return out


def labels_of(out: Path) -> np.ndarray:
    writer = LabelZarrWriter.open(out / "field_labels.ome.zarr")
    assert writer.complete
    return writer.read(0, SIDE[0], 0, SIDE[1])


def check_same(out: Path, in_memory: Path) -> None:
    np.testing.assert_array_equal(labels_of(out), read_labels(in_memory / "field_labels.tif"))
    assert (out / "field_objects.csv").read_bytes() == (in_memory / "field_objects.csv").read_bytes()
    assert (out / "predictions.json").read_bytes() == (in_memory / "predictions.json").read_bytes()
    names = sorted(p.name for p in out.iterdir())
    assert names == ["field_labels.ome.zarr", "field_objects.csv", "field_overlay.png", "predictions.json", "run.json"]


def test_the_same_as_in_memory(model, image, in_memory, tmp_path):
    summary = predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    check_same(tmp_path, in_memory)
    ours, theirs = (json.loads((out / "run.json").read_text())["images"][0] for out in (tmp_path, in_memory))
    assert ours["on_disk"]
    assert not theirs["on_disk"]
    assert ours["objects"] == theirs["objects"] == summary.images[0].counts
    assert ours["scale"] == theirs["scale"]
    assert ours["outputs"] == ["field_labels.ome.zarr", "field_overlay.png", "field_objects.csv"]
    assert np.asarray(Picture.open(tmp_path / "field_overlay.png")).shape == (*SIDE, 3)
    # A second run replaces the results.
    predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    check_same(tmp_path, in_memory)


@pytest.mark.parametrize("options", [{"diameter": 18.0}, {"diameter": "auto"}, {"batch_size": 3}, {"pixel_size": 0.3}])
def test_scales_and_batches(model, image, tmp_path, options):
    options = {**OPTIONS, **options, "save": ("labels", "table", "coco")}
    predict_images(model, [image], tmp_path / "memory", **options)
    summary = predict_images(model, [image], tmp_path / "disk", on_disk=True, **options)
    assert summary.images[0].n_objects > 10
    np.testing.assert_array_equal(labels_of(tmp_path / "disk"), read_labels(tmp_path / "memory" / "field_labels.tif"))
    for name in ("field_objects.csv", "predictions.json"):
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()


def test_an_ome_zarr(model, image, in_memory, tmp_path):
    group = zarr.open_group(str(tmp_path / "field.ome.zarr"), mode="w", zarr_format=2)
    group.create_array("0", shape=(1, *SIDE), chunks=(1, 64, 64), dtype=np.uint16)[0] = picture()
    axes = [{"name": "c", "type": "channel"}, *({"name": n, "type": "space", "unit": "micrometer"} for n in "yx")]
    scale = [{"type": "scale", "scale": [1.0, 0.5, 0.5]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    predict_images(model, [tmp_path / "field.ome.zarr"], tmp_path, on_disk=True, **OPTIONS)
    np.testing.assert_array_equal(labels_of(tmp_path), read_labels(in_memory / "field_labels.tif"))
    ours, theirs = (pd.read_csv(out / "field_objects.csv") for out in (tmp_path, in_memory))
    for name in set(ours.columns) - {"image"}:
        if not name.startswith("intensity"):
            np.testing.assert_array_equal(ours[name], theirs[name])
    # The label image is not taken for an image when the folder is segmented again.
    summary = predict_images(model, [tmp_path], tmp_path, save=("labels",), on_disk=True, **OPTIONS)
    assert [result.name for result in summary.images] == ["field"]


def test_parquet_and_nothing_else(model, image, tmp_path, in_memory):
    predict_images(model, [image], tmp_path, on_disk=True, save=("table",), table_format="parquet", **OPTIONS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field_objects.parquet", "run.json"]
    table = pd.read_parquet(tmp_path / "field_objects.parquet")
    ordinary = pd.read_csv(in_memory / "field_objects.csv")
    assert list(table.columns) == list(ordinary.columns)
    np.testing.assert_array_equal(table["id"], ordinary["id"])
    np.testing.assert_allclose(table["intensity_mean_grey"], ordinary["intensity_mean_grey"], rtol=1e-9)


def test_overlay_without_labels(model, image, tmp_path, in_memory):
    """An image that the overview holds whole is drawn as in memory, up to the colours of objects that overlap."""
    predict_images(model, [image], tmp_path, on_disk=True, save=("overlay",), **OPTIONS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["field_overlay.png", "run.json"]
    ours, theirs = (np.asarray(Picture.open(p / "field_overlay.png")).astype(int) for p in (tmp_path, in_memory))
    background = read_labels(in_memory / "field_labels.tif") == 0
    assert (np.abs(ours - theirs).max(-1)[background] == 0).mean() > 0.9


def test_an_overview_shows_large_images_shrunk(model, image, tmp_path, monkeypatch):
    monkeypatch.setattr(giant, "OVERVIEW_SIDE", 100)
    predict_images(model, [image], tmp_path, on_disk=True, save=("overlay", "labels"), **OPTIONS)
    assert np.asarray(Picture.open(tmp_path / "field_overlay.png")).shape == (84, 73, 3)


def test_nothing_found(model, image, tmp_path):
    options = {**OPTIONS, "thresholds": {"score_threshold": 1.0}}
    summary = predict_images(model, [image], tmp_path, on_disk=True, **options)
    assert summary.images[0].n_objects == 0
    assert not labels_of(tmp_path).any()
    assert json.loads((tmp_path / "predictions.json").read_text()) == []
    assert len(pd.read_csv(tmp_path / "field_objects.csv")) == 0


class Stopped(BaseException):
    """Stands for whatever ends a process."""


def stop_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: int, *, before_work: bool) -> None:
    """Let a function be called some times, then end; before its work or when it is done."""
    original, calls = getattr(owner, name), [0]

    def limited(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] > after and before_work:
            raise Stopped
        result = original(*arguments, **options)
        if calls[0] > after:
            raise Stopped
        return result

    monkeypatch.setattr(owner, name, limited)


@pytest.mark.parametrize("before_work", [True, False])
@pytest.mark.parametrize(
    "owner, name, after",
    [
        (Spool, "add", 0),
        (Spool, "add", 7),
        (Spool, "write_fates", 3),
        (Spool, "write_objects", 5),
        (Spool, "write_ids", 2),
        (steps, "write_lines", 1),
        (giant, "copy_lines", 0),
        (steps, "measure", 3),
        (steps, "write_table", 1),
        (giant, "write_table", 0),
        (table_module, "_write_parquet", 0),
        (LabelZarrWriter, "create", 0),
        (LabelZarrWriter, "write", 1),
        (giant, "write_png", 0),
        (LabelZarrWriter, "finish", 0),
        (giant, "_move", 0),
        (ImageProgress, "write", 2),
        (workflow, "join_lines", 0),
        (workflow, "run_record", 0),
    ],
)
def test_broken_off_anywhere(model, image, in_memory, tmp_path, monkeypatch, owner, name, after, before_work):
    monkeypatch.setattr(steps, "PAINTED_CHUNKS", 1)
    create = LabelZarrWriter.create.__func__
    small = classmethod(lambda cls, *a, **options: create(cls, *a, **{**options, "chunk": 128}))
    monkeypatch.setattr(LabelZarrWriter, "create", small)
    with monkeypatch.context() as limited:
        stop_at(limited, owner, name, after, before_work=before_work)
        with pytest.raises(Stopped):
            predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    assert (tmp_path / PROGRESS_NAME).is_dir()
    assert not (tmp_path / "run.json").exists()
    predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    check_same(tmp_path, in_memory)


def test_finished_tiles_are_not_predicted_again(model, image, in_memory, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as limited:
        stop_at(limited, Spool, "add", 5, before_work=True)
        with pytest.raises(Stopped):
            predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    added = []
    original = Spool.add
    monkeypatch.setattr(Spool, "add", lambda self, number, *rest: (added.append(number), original(self, number, *rest)))
    predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    assert len(added) == len(set(added)) == 4 * 4 - 5
    assert "5 of 16 tiles are there" in capsys.readouterr().err
    check_same(tmp_path, in_memory)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"thresholds": {"nms_threshold": 0.4}}, "thresholds"),
        ({"tile": 128}, "tile"),
        ({"save": ("labels", "table", "coco")}, "save"),
    ],
)
def test_other_settings_begin_anew(model, image, tmp_path, monkeypatch, capsys, changes, said):
    with monkeypatch.context() as limited:
        stop_at(limited, Spool, "add", 5, before_work=True)
        with pytest.raises(Stopped):
            predict_images(model, [image], tmp_path / "out", on_disk=True, **OPTIONS)
    capsys.readouterr()
    predict_images(model, [image], tmp_path / "out", on_disk=True, **{**OPTIONS, **changes})
    told = capsys.readouterr().err
    assert f"is not used, since this differs: {said}" in told
    assert "tiles are there" not in told
    predict_images(model, [image], tmp_path / "fresh", on_disk=True, **{**OPTIONS, **changes})
    np.testing.assert_array_equal(labels_of(tmp_path / "out"), labels_of(tmp_path / "fresh"))


def test_another_image_begins_anew(model, image, tmp_path, monkeypatch, capsys):
    """Of a file of the same name, size and time, the pixels tell."""
    path = tmp_path / "field.tif"
    tifffile.imwrite(path, picture(1))
    os.utime(path, ns=(10**18, 10**18))
    with monkeypatch.context() as limited:
        stop_at(limited, Spool, "add", 5, before_work=True)
        with pytest.raises(Stopped):
            predict_images(model, [path], tmp_path / "out", on_disk=True, **OPTIONS)
    tifffile.imwrite(path, picture(2))
    os.utime(path, ns=(10**18, 10**18))
    capsys.readouterr()
    predict_images(model, [path], tmp_path / "out", on_disk=True, **OPTIONS)
    told = capsys.readouterr().err
    assert "the image has changed" in told
    predict_images(model, [path], tmp_path / "fresh", on_disk=True, **OPTIONS)
    np.testing.assert_array_equal(labels_of(tmp_path / "out"), labels_of(tmp_path / "fresh"))


def test_no_resume(model, image, in_memory, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as limited:
        stop_at(limited, Spool, "add", 5, before_work=True)
        with pytest.raises(Stopped):
            predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    predict_images(model, [image], tmp_path, on_disk=True, resume=False, **OPTIONS)
    assert "tiles are there" not in capsys.readouterr().err
    check_same(tmp_path, in_memory)


def test_memory_runs_out_and_then_the_process_ends(model, image, in_memory, tmp_path, monkeypatch, capsys):
    """The smaller tiles are kept in mind: going on uses them, and what they found."""
    from cytomask.models.star.segmenter import StarSegmenter

    propose = StarSegmenter.propose

    def limited_memory(self, images, postprocess, sizes=None):
        if images.shape[-1] > 160:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate much")
        return propose(self, images, postprocess, sizes)

    options = {**OPTIONS, "tile": 192}
    with monkeypatch.context() as limited:
        limited.setattr(StarSegmenter, "propose", limited_memory)
        stop_at(limited, Spool, "add", 5, before_work=True)
        with pytest.raises(Stopped):
            predict_images(model, [image], tmp_path, on_disk=True, **options)
    assert "going on with tiles of 96" in capsys.readouterr().err
    predict_images(model, [image], tmp_path, on_disk=True, **options)
    assert "5 of 16 tiles are there" in capsys.readouterr().err
    check_same(tmp_path, in_memory)


def test_a_killed_process(model, image, in_memory, tmp_path):
    """SIGKILL in the middle of the tiles, in a process of its own."""
    program = """
import os, signal, sys, torch
torch.set_num_threads(1)
from cytomask.prediction.spool import Spool
from cytomask.workflows.predict import predict_images
original, calls = Spool.add, []
def add(self, *rest):
    calls.append(0)
    if len(calls) > 6:
        os.kill(os.getpid(), signal.SIGKILL)
    original(self, *rest)
Spool.add = add
predict_images(sys.argv[1], [sys.argv[2]], sys.argv[3], on_disk=True, device="cpu", precision="float32", tile=96,
               thresholds={"nms_threshold": 0.2})
"""
    ended = subprocess.run([sys.executable, "-c", program, model, image, tmp_path], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len(list((tmp_path / PROGRESS_NAME / "field" / "spool").glob("proposals-*.npy"))) == 6
    predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    check_same(tmp_path, in_memory)


def test_two_processes_do_not_meet(model, image, tmp_path):
    path = tmp_path / PROGRESS_NAME / "field"
    with ImageProgress(tmp_path, "field", {}).locked(), pytest.raises(OutputError, match="another run"):
        predict_images(model, [image], tmp_path, on_disk=True, **OPTIONS)
    assert not path.exists()


def test_what_cannot_be_begun_leaves_nothing(model, image, tmp_path):
    with pytest.raises(ChannelError):
        predict_images(model, [image], tmp_path, on_disk=True, channels=["DAPI"], **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_from_the_command_line(model, image, in_memory, tmp_path, capsys):
    arguments = ["--quiet", "predict", str(model), str(image), "--out", str(tmp_path), "--on-disk", "--tile", "96"]
    options = ["--device", "cpu", "--precision", "float32", "--nms-threshold", "0.2"]
    assert run([*arguments, *options]) == 0
    assert "field_labels.ome.zarr" in capsys.readouterr().out
    check_same(tmp_path, in_memory)
    assert run([*arguments, *options, "--resume"]) == 0
    assert "was done in an earlier run" in capsys.readouterr().out
    check_same(tmp_path, in_memory)


def test_giants_are_found_by_their_size(model, image, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_job, "GIANT_PIXELS", SIDE[0] * SIDE[1])
    predict_images(model, [image], tmp_path / "a", save=("labels",), **OPTIONS)
    assert (tmp_path / "a" / "field_labels.ome.zarr").is_dir()
    predict_images(model, [image], tmp_path / "b", save=("labels",), on_disk=False, **OPTIONS)
    assert (tmp_path / "b" / "field_labels.tif").is_file()
    monkeypatch.setattr(predict_job, "GIANT_PIXELS", SIDE[0] * SIDE[1] + 1)
    predict_images(model, [image], tmp_path / "c", save=("labels",), **OPTIONS)
    assert (tmp_path / "c" / "field_labels.tif").is_file()
