"""Published data sets: whole or not at all, mended, checked, and open at once; of tiny sets of the same layouts."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image as Picture

from cytomask.cli.app import run
from cytomask.data.dataset import open_dataset
from cytomask.errors import ConfigError, DataError, DownloadError, OutputError
from cytomask.storage import downloads
from cytomask.workflows.data_sets import catalogue as data_sets_catalogue
from cytomask.workflows.data_sets import fetching as data_sets_get
from cytomask.workflows.data_sets.catalogue import DataSetEntry, read_catalogue
from cytomask.workflows.data_sets.fetching import get_data_set

from .web_server import WebServer

LABELS = np.zeros((20, 30), np.uint16)
LABELS[3:9, 4:12], LABELS[12:18, 15:25] = 1, 2
# As the data set has it: semicolons, decimal commas, the encoding of Windows.
TABLE = (
    "Image_Name;Diagnosis;Preparation;Train-/Testset split;Testset class;Magnification;Modality;Signal/Noise\r\n"
    + "".join(
        f"Ganglioneuroblastoma_{k};Ganglioneuroblastoma;tissue section;{split};{group};{times};FM;10,3\r\n"
        for k, (split, group, times) in enumerate([("train", "-", "20x")] * 12 + [("test", "GNB-I", "63x")] * 2)
    )
    + "normal_1;HaCaT (größer);cytospin;test;NC-I;10x;LSM;\r\n"
).encode("cp1252")
NAMES = [*(f"Ganglioneuroblastoma_{k}" for k in range(14)), "normal_1"]


def tiff(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack")
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "png")
    return file.getvalue()


def packed(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return file.getvalue()


def bsst265(top: str = "") -> bytes:
    files = {"image_description.csv": TABLE}
    for name in NAMES:
        files[f"rawimages/{name}.tif"] = tiff(np.full((20, 30), 7, np.uint8))
        files[f"groundtruth/{name}.tif"] = tiff(LABELS)
    return packed({top + name: content for name, content in files.items()} | {"__MACOSX/._x": b"junk"})


@pytest.fixture
def catalogue(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The catalogue as it is, but for where files come from, and without checksums."""
    folder = tmp_path / "catalogue"
    folder.mkdir()
    for name in read_catalogue():
        fields = yaml.safe_load((data_sets_catalogue.CATALOGUE / f"{name}.yaml").read_text(encoding="utf-8"))
        for file in fields["files"]:
            file["url"] = web.url(f"{name}/{file['url'].rpartition('/')[2]}")
            file.pop("sha256", None)
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    monkeypatch.setattr(data_sets_catalogue, "CATALOGUE", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def demand(catalogue: Path, name: str, content: bytes) -> None:
    """Let the catalogue know the checksum of a data set's only file."""
    path = catalogue / f"{name}.yaml"
    fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    fields["files"][0]["sha256"] = hashlib.sha256(content).hexdigest()
    path.write_text(yaml.safe_dump(fields), encoding="utf-8")
    data_sets_catalogue.read_catalogue.cache_clear()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    data_sets_catalogue.read_catalogue.cache_clear()


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != "catalogue")


def test_the_catalogue_is_sound() -> None:
    entries = read_catalogue()
    assert {"dsb2018", "s-bsst265", "livecell"} <= set(entries)
    for entry in entries.values():
        text = "\n".join(entry.describe())
        assert entry.licence in text
        assert ("NON-COMMERCIAL" in text) == ("NC" in entry.licence)
        assert all(file.url.startswith("http") for file in entry.files)
        assert len({file.name for file in entry.files}) == len(entry.files)


@pytest.mark.parametrize("top", ["", "dataset/"])
def test_s_bsst265(web: WebServer, catalogue: Path, tmp_path: Path, top: str) -> None:
    web.files["s-bsst265/dataset.zip"] = bsst265(top)
    got = get_data_set("s-bsst265")
    assert (got.done, got.folder) == ("fetched", Path("s-bsst265"))
    assert left(tmp_path) == ["s-bsst265"]
    dataset = open_dataset(got.folder)
    assert (dataset.name, dataset.licence, dataset.classes) == ("s-bsst265", "CC0-1.0", ("nucleus",))
    assert dataset.problems == ()
    # The set's own test images; of its training images some are for validation.
    assert {s.name for s in dataset.split("test")} == {*NAMES[12:]}
    assert {s.name for s in [*dataset.split("train"), *dataset.split("val")]} == {*NAMES[:12]}
    assert 0 < len(dataset.split("val")) < 6
    group = next(s.group for s in dataset.samples if s.name == "normal_1")
    assert {"Diagnosis": "HaCaT (größer)", "Testset class": "NC-I", "Magnification": "10x"}.items() <= group.items()
    dataset.verify()
    assert dataset.load_layers(dataset.samples[0]).n_objects == 2


def test_a_second_call_does_nothing(web: WebServer, catalogue: Path) -> None:
    web.files["s-bsst265/dataset.zip"] = bsst265()
    first = get_data_set("s-bsst265", "here/data")
    digits = hashlib.sha256(web.files["s-bsst265/dataset.zip"]).hexdigest()
    assert any(f"sha256 {digits}" in line for line in first.lines)
    web.asked.clear()
    assert get_data_set("s-bsst265", "here/data").done == "there"
    assert get_data_set("s-bsst265", "here/data", sha256={"": digits}).done == "there"
    assert web.asked == []
    with pytest.raises(DownloadError, match="made of another file"):
        get_data_set("s-bsst265", "here/data", sha256={"dataset.zip": "0" * 64})


def test_what_is_broken_is_mended_and_the_rest_left(web: WebServer, catalogue: Path, tmp_path: Path) -> None:
    web.files["s-bsst265/dataset.zip"] = bsst265()
    folder = get_data_set("s-bsst265").folder
    (folder / "groundtruth" / "normal_1.tif").write_bytes(b"cut off")
    (folder / "rawimages" / "normal_1.tif").unlink()
    (folder / "mine.txt").write_text("notes")
    (folder / "dataset.yaml").write_text((folder / "dataset.yaml").read_text() + "pixel_size: 0.5\n")
    got = get_data_set("s-bsst265")
    assert got.done == "repaired"
    assert (folder / "mine.txt").read_text() == "notes"
    assert "pixel_size" in (folder / "dataset.yaml").read_text()
    open_dataset(folder).verify()
    assert get_data_set("s-bsst265").done == "there"
    # The published file has changed since: what was fetched first is what counts.
    (folder / "rawimages" / "normal_1.tif").unlink()
    web.files["s-bsst265/dataset.zip"] = bsst265("other/")
    with pytest.raises(DownloadError, match="not what it should be"):
        get_data_set("s-bsst265")
    assert (folder / "mine.txt").is_file()


def test_an_interrupted_download_goes_on(
    web: WebServer, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BLOCK", 500)
    content = web.files["s-bsst265/dataset.zip"] = bsst265()
    demand(catalogue, "s-bsst265", content)
    web.cuts = [3000, 0]
    with pytest.raises(DownloadError, match="goes on where this one ended"):
        get_data_set("s-bsst265")
    assert left(tmp_path) == [".s-bsst265.download"]
    web.failures = [500]
    web.asked.clear()
    got = get_data_set("s-bsst265")
    assert got.done == "fetched"
    assert not any("no checksum" in line for line in got.lines)
    assert web.asked[-1][2] == "bytes=3000-"
    assert left(tmp_path) == ["s-bsst265"]


def test_a_server_that_ignores_ranges(
    web: WebServer, catalogue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "BLOCK", 500)
    content = web.files["s-bsst265/dataset.zip"] = bsst265()
    demand(catalogue, "s-bsst265", content)
    web.ranges = False
    web.cuts = [3000]
    assert get_data_set("s-bsst265").done == "fetched"
    assert left(tmp_path) == ["s-bsst265"]


def test_a_server_in_trouble(web: WebServer, catalogue: Path, tmp_path: Path) -> None:
    web.files["s-bsst265/dataset.zip"] = bsst265()
    web.failures = [500] * 20
    with pytest.raises(DownloadError, match="500"):
        get_data_set("s-bsst265")
    assert not (tmp_path / "s-bsst265").exists()


def test_a_wrong_checksum(web: WebServer, catalogue: Path, tmp_path: Path) -> None:
    web.files["s-bsst265/dataset.zip"] = bsst265()
    demand(catalogue, "s-bsst265", b"another")
    with pytest.raises(DownloadError, match="not what it should be, and was removed"):
        get_data_set("s-bsst265")
    assert not (tmp_path / "s-bsst265").exists()
    assert [p.name for p in (tmp_path / ".s-bsst265.download").iterdir()] == ["lock"]
    web.files["deepbacs/DeepBacs_Data_Segmentation_StarDist_MIXED_dataset.zip"] = b"x"
    with pytest.raises(DownloadError, match="not what it should be"):
        get_data_set("deepbacs", sha256={"": "0" * 64})
    with pytest.raises(ConfigError, match="no SHA-256"):
        get_data_set("deepbacs", sha256={"": "12"})
    with pytest.raises(ConfigError, match="has not"):
        get_data_set("deepbacs", sha256={"other.zip": "0" * 64})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (packed({"rawimages/a.tif": b"a", "../evil.txt": b"x"}), "leads out"),
        (bsst265()[:-200], "broken"),
        (b"<html>sorry</html>", "broken"),
    ],
)
def test_an_archive_that_must_not_be_unpacked(
    web: WebServer, catalogue: Path, tmp_path: Path, content: bytes, says: str
) -> None:  # fmt: skip
    web.files["s-bsst265/dataset.zip"] = content
    with pytest.raises(DataError, match=says):
        get_data_set("s-bsst265")
    assert not list(tmp_path.rglob("evil.txt"))
    assert not (tmp_path / "s-bsst265").exists()
    # Nothing stands in the way of a next try.
    web.files["s-bsst265/dataset.zip"] = bsst265()
    assert get_data_set("s-bsst265").done == "fetched"


def test_another_folder_is_left_alone(web: WebServer, catalogue: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x.txt").write_text("x")
    with pytest.raises(OutputError, match="something else"):
        get_data_set("s-bsst265", tmp_path / "mine")
    assert web.asked == []
    with pytest.raises(ConfigError, match="did you mean 's-bsst265'"):
        get_data_set("sbsst265")


def test_kaggle_s_layout(web: WebServer, catalogue: Path) -> None:
    files = {}
    for name in ("00ae", "01f3"):
        files[f"{name}/images/{name}.png"] = png(np.full((20, 30, 4), 90, np.uint8))
        for k in (1, 2):
            files[f"{name}/masks/{name}{k}.png"] = png(np.where(k == LABELS, 255, 0).astype(np.uint8))
    web.files["dsb2018/stage1_train.zip"] = packed(files)
    dataset = open_dataset(get_data_set("dsb2018").folder)
    assert len(dataset) == 2
    dataset.verify()
    assert dataset.classes == ("nucleus",)


def test_pairs_by_folders(web: WebServer, catalogue: Path) -> None:
    image = tiff(np.full((20, 30), 7, np.uint8))
    files = {f"dsb2018/{s}/images/{k}.tif": image for s, n in (("train", 12), ("test", 2)) for k in range(n)}
    files |= {name.replace("/images/", "/masks/"): tiff(LABELS) for name in files}
    web.files["dsb2018-fluorescence/dsb2018.zip"] = packed(files)
    dataset = open_dataset(get_data_set("dsb2018-fluorescence").folder)
    assert len(dataset.split("test")) == 2
    assert len(dataset.split("train")) + len(dataset.split("val")) == 12
    dataset.verify()
    organs = {}
    for organ in ("human bladder", "mouse liver"):
        organs[f"NuInsSeg/{organ}/tissue images/{organ}_1.png"] = png(np.full((20, 30, 3), 9, np.uint8))
        organs[f"NuInsSeg/{organ}/label masks modify/{organ}_1.tif"] = tiff(LABELS)
        organs[f"NuInsSeg/{organ}/label masks/{organ}_1.tif"] = tiff(LABELS)
    web.files["nuinsseg/NuInsSeg.zip"] = packed(organs)
    dataset = open_dataset(get_data_set("nuinsseg").folder)
    assert [s.group["organ"] for s in dataset.samples] == ["human bladder", "mouse liver"]
    dataset.verify()


def coco(name: str) -> bytes:
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": name, "height": 20, "width": 30}],
            "categories": [{"id": 1, "name": "cell"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[3, 3, 12, 3, 12, 9, 3, 9]],
                 "area": 54, "bbox": [3, 3, 9, 6], "iscrowd": 0},
            ],
        }
    ).encode()  # fmt: skip


def test_livecell(web: WebServer, catalogue: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = tiff(np.full((20, 30), 7, np.uint8))
    web.files["livecell/images.zip"] = packed(
        {"images/livecell_train_val_images/a.tif": image, "images/livecell_train_val_images/b.tif": image,
         "images/livecell_test_images/c.tif": image}
    )  # fmt: skip
    for split, name in (("train", "a.tif"), ("val", "b.tif"), ("test", "c.tif")):
        web.files[f"livecell/livecell_coco_{split}.json"] = coco(name)
    assert run(["data", "get", "livecell"]) == 2
    said = capfd.readouterr().err
    assert "NON-COMMERCIAL" in said
    assert "--accept-licence" in said
    assert web.asked == []
    assert run(["data", "get", "livecell", "--accept-licence", "--out", "cells"]) == 0
    assert "3 images" in capfd.readouterr().out
    dataset = open_dataset("cells")
    assert dataset.split_names == ("train", "val", "test")
    assert dataset.classes == ("cell",)
    dataset.verify()


def test_the_commands(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "list"]) == 0
    assert "livecell" in capfd.readouterr().out
    assert run(["data", "show", "s-bsst265"]) == 0
    assert "Kromp" in capfd.readouterr().out
    assert run(["data", "show", "nothing"]) == 2


def test_an_entry_needs_its_fields() -> None:
    with pytest.raises(ValueError, match="licence"):
        DataSetEntry.model_validate({"name": "x", "title": "x"})
    assert data_sets_get.SOURCE == "source.json"
