"""Data sets, images and models by their addresses, as every command takes them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from cytomask.cli.app import run
from cytomask.data.dataset import open_dataset
from cytomask.data.remote_data import local_data
from cytomask.errors import ConfigError, DataError, DownloadError, ImageError
from cytomask.formats.images import list_images, read_image
from cytomask.storage import systems
from cytomask.workflows.experiment import read_experiment

from .test_data_sets import LABELS, coco, packed, tiff
from .web_server import WebServer

IMAGE = tiff(np.where(LABELS > 0, 200, 20).astype(np.uint8))
FOLDER = {
    **{f"images/{name}.tif": IMAGE for name in ("train_a", "train_b", "val_c", "test_d")},
    **{f"labels/{name}.tif": tiff(LABELS) for name in ("train_a", "train_b", "val_c", "test_d")},
}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYTOMASK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def bucket(s3: str) -> str:
    import s3fs

    system = s3fs.S3FileSystem(skip_instance_cache=True)
    system.mkdir("lab")
    for name, content in FOLDER.items():
        system.pipe_file(f"lab/set/{name}", content)
    system.pipe_file("lab/coco/train.json", coco("a.tif"))
    system.pipe_file("lab/coco/images/a.tif", IMAGE)
    system.pipe_file("lab/data.zip", packed({f"set/{k}": v for k, v in FOLDER.items()}))
    return "s3://lab"


def test_a_data_set_in_a_bucket(bucket: str) -> None:
    dataset = open_dataset(f"{bucket}/set/")
    assert dataset.name == "set"
    assert dataset.split_names == ("train", "val", "test")
    dataset.verify()
    here = open_dataset(local_data(f"{bucket}/set"))
    assert dataset.fingerprint() == here.fingerprint()
    assert len(open_dataset(Path(f"{bucket}/data.zip"))) == 4
    one = open_dataset(f"{bucket}/coco/train.json")
    assert [s.name for s in one.samples] == ["a"]
    one.verify()
    with pytest.raises(DownloadError, match="nothing at this address"):
        open_dataset(f"{bucket}/none")


def test_an_archive_on_a_web_server(web: WebServer) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in FOLDER.items():
            info = tarfile.TarInfo(f"top/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    web.files["d/data.tar.gz"] = file.getvalue()
    assert len(open_dataset(web.url("d/data.tar.gz"))) == 4
    open_dataset(web.url("d/data.tar.gz"))
    assert web.fetched() == ["d/data.tar.gz"]
    # A changed archive is unpacked anew.
    web.files["d/data.tar.gz"] = packed({k: v for k, v in FOLDER.items() if "train_b" not in k})
    assert len(open_dataset(web.url("d/data.tar.gz"))) == 3
    web.files["evil.zip"] = packed({"../x": b"x"})
    with pytest.raises(DataError, match="leads out"):
        open_dataset(web.url("evil.zip"))


def test_a_yaml_on_a_web_server(web: WebServer) -> None:
    web.files |= {f"d/{name}": content for name, content in FOLDER.items()}
    pairs = "".join(f"  - {{image: images/{n}.tif, labels: labels/{n}.tif}}\n" for n in ("train_a", "val_c"))
    web.files["d/dataset.yaml"] = f"name: mine\npairs:\n{pairs}table: t.csv\n".encode()
    web.files["d/t.csv"] = b"name,split,stain\ntrain_a,train,DAPI\nval_c,val,Hoechst\n"
    dataset = open_dataset(web.url("d/dataset.yaml"))
    assert (dataset.name, dataset.split_names) == ("mine", ("train", "val"))
    assert dataset.samples[0].group["stain"] == "DAPI"
    dataset.verify()
    web.files["d/t.csv"] = web.files["d/t.csv"].replace(b"DAPI", b"none")
    assert open_dataset(web.url("d/dataset.yaml")).samples[0].group["stain"] == "none"
    web.files["d/dataset.yaml"] = b"images: images\nlabels: labels\n"
    with pytest.raises(ConfigError, match=r"must list its files[\s\S]*zip"):
        open_dataset(web.url("d/dataset.yaml"))
    web.files["d/dataset.yaml"] = b"pairs:\n  - {image: ../../secret.tif, labels: b.tif}\n"
    with pytest.raises(DataError, match="leads out"):
        open_dataset(web.url("d/dataset.yaml"))
    with pytest.raises(DownloadError, match="does not tell what a folder holds"):
        open_dataset(web.url("d/"))


def test_images(bucket: str, web: WebServer) -> None:
    web.files["x/a.tif"] = IMAGE
    assert read_image(web.url("x/a.tif")).shape == (20, 30)
    assert read_image(f"{bucket}/set/images/test_d.tif").shape == (20, 30)
    found = list_images([f"{bucket}/set/images/", web.url("x/a.tif?version=2")])
    assert sorted(p.name for p in found) == ["a.tif", "test_d.tif", "train_a.tif", "train_b.tif", "val_c.tif"]
    found = list_images([Path(f"{bucket}/set/*/train_[ab].tif")])
    assert [p.relative_to(p.parents[1]).as_posix() for p in found] == [
        "images/train_a.tif", "images/train_b.tif", "labels/train_a.tif", "labels/train_b.tif"
    ]  # fmt: skip
    assert len(list_images([f"{bucket}/**/*.tif"])) == 9
    with pytest.raises(DownloadError, match="nothing"):
        list_images([f"{bucket}/set/images/*.png"])
    with pytest.raises(DownloadError, match="does not tell"):
        list_images([web.url("x/")])
    web.files["x/b.tif"] = b"<html>"
    with pytest.raises(ImageError, match="not a TIFF"):
        read_image(web.url("x/b.tif"))


def test_zarr_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    zarr.save_array(str(tmp_path / "a.zarr"), pixels)
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).put(str(tmp_path / "a.zarr"), "lab/z/a.zarr", recursive=True)
    assert (np.asarray(read_image(f"{bucket}/z/a.zarr", axes="YX").pixels).squeeze() == pixels).all()
    assert [p.name for p in list_images([f"{bucket}/z"])] == ["a.zarr"]


def test_the_commands(bucket: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["check", f"{bucket}/set"]) in (0, 1)
    assert "error:" not in capfd.readouterr().err
    out = tmp_path / "out"
    assert run(["predict", "nuclei", f"{bucket}/set/images/test_d.tif", "-o", str(out), "--save", "labels"]) == 0
    assert [p.name for p in out.glob("*_labels.tif")] == ["test_d_labels.tif"]
    assert run(["evaluate", str(out), f"{bucket}/set", "--split", "test", "--out", str(tmp_path / "e")]) == 0
    assert run(["convert", f"{bucket}/coco/train.json", str(tmp_path / "x.xml"), "--to", "cvat"]) == 0
    assert run(["check", "s3://nowhere/set"]) == 2
    assert "cytomask" not in capfd.readouterr().err.partition("error:")[0]


def test_an_experiment_s_data(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("extends: nuclei\ndata: {path: 's3://lab/set'}\n")
    assert read_experiment(file).data.path == "s3://lab/set"


def test_a_file_is_created_once(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("one")
    assert systems.put_file(tmp_path / "x", f"{bucket}/new.txt", new=True)
    assert not systems.put_file(tmp_path / "x", f"{bucket}/new.txt", new=True)
