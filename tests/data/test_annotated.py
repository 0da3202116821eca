"""Data sets that annotation files describe, in place of label images."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytomask.data.dataset import open_dataset
from cytomask.data.sample import load_sample
from cytomask.errors import ConfigError, DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.coco_json import write_annotations
from cytomask.instances import Instances

NAMES = ("nucleus", "dead cell")


def annotation(name: str, shape: tuple[int, int] = (20, 30), crowd: bool = False, classes=(1, 2)) -> Annotation:
    crops = [np.ones((5, 6), bool), np.ones((5, 6), bool)]
    objects = Instances.from_crops(shape, crops, [(2, 2), (4, 6)], classes=classes, class_names=NAMES)
    return Annotation(name, objects, frozenset([2] if crowd else []), f"{name}.tif")


def picture(folder: Path, name: str, shape: tuple[int, int] = (20, 30)) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    tifffile.imwrite(folder / f"{name}.tif", np.zeros(shape, np.uint8), photometric="minisblack")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        picture(tmp_path / "images", name)
    write_annotations(tmp_path / "train.json", [annotation("a"), annotation("b", crowd=True)], NAMES)
    write_annotations(tmp_path / "val.json", [annotation("c")], NAMES)
    return tmp_path


def test_a_folder_with_a_file_for_each_split(folder):
    dataset = open_dataset(folder)
    assert [(s.name, s.split) for s in dataset.samples] == [("a", "train"), ("b", "train"), ("c", "val")]
    assert dataset.classes == NAMES
    assert dataset.how_split == "by file: train.json, val.json"
    dataset.verify()
    image, layers = load_sample(dataset.samples[1])
    assert image.shape == layers.shape
    assert (layers.n_objects, len(layers.layers)) == (2, 2)  # they overlap
    assert layers.classes == {1: 1, 2: 2}
    assert layers.crowd == {2}


def test_one_file_is_a_data_set_whose_splits_are_drawn(folder):
    dataset = open_dataset(folder / "train.json")
    assert len(dataset) == 2
    assert dataset.how_split.startswith("drawn")


def test_a_yaml_names_the_files_and_the_images(folder):
    (folder / "images").rename(folder / "raw data")
    (folder / "d.yaml").write_text("images: raw data\nannotations: {training: train.json, dev: val.json}\n")
    dataset = open_dataset(folder / "d.yaml")
    assert dataset.split_names == ("train", "val")
    assert dataset.samples[0].image_path == folder / "raw data/a.tif"


def test_samples_pickle_for_the_loaders_workers(folder):
    sample = pickle.loads(pickle.dumps(open_dataset(folder).samples[0]))
    assert load_sample(sample)[1].n_objects == 2


def test_classes_of_several_files_are_joined_by_name(folder):
    write_annotations(folder / "val.json", [annotation("c", classes=(2, 2))], NAMES)
    content = json.loads((folder / "val.json").read_text())
    content["categories"] = [c for c in content["categories"] if c["name"] == "dead cell"]
    (folder / "val.json").write_text(json.dumps(content))
    dataset = open_dataset(folder)
    assert dataset.classes == NAMES
    assert load_sample(dataset.samples[2])[1].classes == {1: 2, 2: 2}


def test_a_class_that_the_yaml_does_not_name_is_an_error(folder):
    (folder / "dataset.yaml").write_text("annotations: {train: train.json}\nclasses: [nucleus]\n")
    with pytest.raises(DataError, match="dead cell"):
        open_dataset(folder)


def test_an_image_that_two_splits_annotate_is_two_images(folder):
    write_annotations(folder / "val.json", [annotation("a")], NAMES)
    dataset = open_dataset(folder)
    assert [s.name for s in dataset.samples] == ["b", "train/a", "val/a"]


def test_images_that_are_missing_or_of_another_size_are_told(folder):
    (folder / "images/a.tif").unlink()
    picture(folder / "images", "c", (20, 31))
    dataset = open_dataset(folder)
    assert "a: its image was not found" in dataset.problems[0]
    with pytest.raises(DataError) as error:
        dataset.verify()
    assert "another size" in str(error.value)
    with pytest.raises(LabelError, match="annotation has another size"):
        load_sample(dataset.samples[-1])


def test_files_whose_names_tell_no_split_must_be_named(folder):
    shutil.copy(folder / "val.json", folder / "more.json")
    with pytest.raises(DataError, match=r"more\.json"):
        open_dataset(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("annotations: train.json\nlabels: labels", "exclude each other"),
        ("annotation_format: coco", "none are named"),
        ("annotations: {train: train.json}\nsplits: {column: fold}", "exclude each other"),
        ("annotations: ../train.json", "leads out"),
        ("annotations: {train: a.json, training: b.json}", "once"),
    ],
)
def test_contradictions_in_the_yaml_are_errors(text, said, folder):
    (folder / "d.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        open_dataset(folder / "d.yaml")


def test_the_fingerprint_knows_the_annotations(folder):
    before = open_dataset(folder).fingerprint()
    write_annotations(folder / "val.json", [annotation("c", crowd=True)], NAMES)
    assert open_dataset(folder).fingerprint() != before


def test_real_annotations(shared_data):
    cells = open_dataset(shared_data / "livecell")
    assert (len(cells.split("train")), len(cells.split("val"))) == (13, 3)
    assert sum(len(cells.load_layers(s).classes) for s in cells.split("val")) == 986
    organelles = open_dataset(shared_data / "platelet_em")
    assert (len(organelles), len(organelles.classes)) == (4, 5)
    organelles.verify()
    kaggle = open_dataset(shared_data / "nuclei_kaggle_layout")
    assert len(kaggle) == 4
    kaggle.verify()
