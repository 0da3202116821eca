"""Data sets: found, paired, split, read, checked; every fault told before training."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from imagecodecs import png_encode

from cytomask.data.dataset import open_dataset
from cytomask.data.sample import load_sample
from cytomask.errors import ConfigError, DataError, LabelError
from cytomask.formats.label_images import write_labels
from cytomask.formats.ome_zarr_labels import LabelZarrWriter

#: Writes a tiny data set: names of images, names of labels.
Make = Callable[..., Path]


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        path.write_bytes(png_encode(pixels))
    else:
        tifffile.imwrite(path, pixels)
    return path


def write_pair(root: Path, name: str, suffix: str = ".tif", seed: int = 0) -> None:
    labels = np.zeros((12, 10), np.uint16)
    labels[2:5, 2:6], labels[6:9, 5:8] = 3, 700
    pixels = np.random.default_rng(seed).integers(0, 255, (12, 10)).astype(np.uint8)
    write(root / "images" / f"{name}{suffix}", pixels)
    write(root / "labels" / f"{name}.png", labels)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four pairs and a manifest."""
    for seed, name in enumerate("abcd"):
        write_pair(tmp_path, name, seed=seed)
    rows = ["name,split,stain", "a,train,DAPI", "b,train,H&E", "c,val,DAPI", "d,test,H&E"]
    (tmp_path / "manifest.csv").write_text("\n".join(rows))
    return tmp_path


def config(root: Path, text: str) -> Path:
    (root / "dataset.yaml").write_text(text, encoding="utf-8")
    return root / "dataset.yaml"


def names(samples: list) -> list[str]:
    return [sample.name for sample in samples]


def test_a_folder_with_a_manifest(root: Path) -> None:
    dataset = open_dataset(root)
    assert names(dataset.samples) == ["a", "b", "c", "d"]
    assert names(dataset.split("train")) == ["a", "b"]
    assert names(dataset.split("val")) == ["c"]
    assert dataset.samples[1].group == {"stain": "H&E"}
    assert dataset.classes == ("object",)
    assert dataset.problems == ()
    assert dataset.describe() == f"{root.name}: 4 images (train 2, val 1, test 1; column 'split' of manifest.csv)"
    dataset.verify()


def test_load_sample(root: Path) -> None:
    image, layers = load_sample(open_dataset(root).samples[0])
    assert image.shape == layers.shape == (12, 10)
    assert layers.layers.dtype == np.int32
    assert dict(layers.classes) == {3: 1, 700: 1}


def test_only_one_split(root: Path) -> None:
    assert names(open_dataset(root, split="val").samples) == ["c"]


def test_a_split_that_is_not_there(root: Path) -> None:
    with pytest.raises(DataError, match="no split 'validate'") as error:
        open_dataset(root).split("validate")
    assert "train, val, test" in str(error.value)


def test_a_folder_without_a_manifest_is_drawn(root: Path) -> None:
    (root / "manifest.csv").unlink()
    dataset = open_dataset(root)
    assert dataset.split_names == ("train", "val", "test")
    before = {sample.name: sample.split for sample in dataset.samples}
    write_pair(root, "0 first")
    after = {sample.name: sample.split for sample in open_dataset(root).samples}
    assert before == {name: after[name] for name in before}


@pytest.mark.parametrize("layout", ["train/images/a", "images/train/a"])
def test_folders_for_splits(tmp_path: Path, layout: str) -> None:
    for split in ("train", "valid"):
        for what in ("images", "labels"):
            path = tmp_path / (layout.replace("train", split).replace("images", what) + ".tif")
            write(path, np.zeros((4, 4), np.uint8))
    dataset = open_dataset(tmp_path)
    assert names(dataset.samples) == ["train/a", "valid/a"]
    assert dataset.split_names == ("train", "val")
    assert names(dataset.split("val")) == ["valid/a"]


def test_other_usual_names(tmp_path: Path) -> None:
    write(tmp_path / "rawimages" / "x.ome.tif", np.zeros((4, 4), np.uint8))
    write(tmp_path / "groundtruth" / "x_mask.PNG".lower(), np.zeros((4, 4), np.uint8))
    assert names(open_dataset(tmp_path).samples) == ["x"]


def test_images_and_labels_in_one_folder(tmp_path: Path) -> None:
    for name in ("a_img.tif", "a_masks.tif", "b_img.tif", "b_masks.tif", "c_masks.tif"):
        write(tmp_path / name, np.zeros((4, 4), np.uint8))
    file = config(tmp_path, "images: .\nlabels: .\nimage_suffix: _img\nlabel_suffix: _masks\n")
    dataset = open_dataset(file)
    assert names(dataset.samples) == ["a", "b"]
    assert dataset.problems == (f"{tmp_path.name}/c_masks.tif: labels without an image",)


def test_one_folder_and_nothing_to_tell_apart(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="nothing tells them apart"):
        open_dataset(config(tmp_path, "images: .\nlabels: ."))


def test_labels_below_the_images_are_no_images(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    write(tmp_path / "labels" / "a.tif", np.zeros((4, 4), np.uint8))
    dataset = open_dataset(config(tmp_path, "images: .\nlabels: labels"))
    assert names(dataset.samples) == ["a"]
    assert dataset.problems == ()


def test_patterns(root: Path) -> None:
    dataset = open_dataset(config(root, "images: images/[ab].tif\nlabels: labels/[ab].*\nsplits: {seed: 1}"))
    assert names(dataset.samples) == ["a", "b"]


def test_a_whole_yaml(root: Path) -> None:
    text = """
    name: my nuclei
    licence: CC0
    images: images
    labels: labels
    classes: [nucleus]
    splits: {train: [a, b], val: c, test: ["d*"]}
    channels: [Hoechst]
    pixel_size: 0.5
    steps:
      train: [{remove_small_objects: 10}]
    """
    dataset = open_dataset(config(root, text))
    assert (dataset.name, dataset.licence, dataset.classes) == ("my nuclei", "CC0", ("nucleus",))
    image, layers = dataset.load(dataset.split("train")[0])
    assert image.channels == ("Hoechst",)
    assert image.pixel_size == (0.5, 0.5)
    assert set(layers.classes) == {3}
    assert layers.class_names == ("nucleus",)
    assert set(dataset.load_layers(dataset.split("train")[0]).classes) == {3}
    assert set(dataset.load(dataset.split("val")[0])[1].classes) == {3, 700}
    assert set(dataset.load_layers(dataset.split("val")[0]).classes) == {3, 700}
    dataset.verify()


def test_the_folder_of_a_yaml_is_enough(root: Path) -> None:
    config(root, "name: other")
    assert open_dataset(root).name == "other"


def test_samples_can_be_sent_to_other_processes(root: Path) -> None:
    sample = open_dataset(config(root, "steps: [{rescale: 2}]")).samples[0]
    image, _ = load_sample(pickle.loads(pickle.dumps(sample)))
    assert image.shape == (24, 20)


def test_the_description_of_a_public_data_set(tmp_path: Path) -> None:
    """Semicolons, decimal commas, odd column names, as S-BSST265 has them."""
    for name in ("Ganglio_0", "normal_1", "Neuro_2"):
        write(tmp_path / "rawimages" / f"{name}.tif", np.zeros((8, 8), np.uint8))
        write(tmp_path / "groundtruth" / f"{name}.tif", np.zeros((8, 8), np.uint8))
    rows = [
        "\ufeffImage_Name;Train-/Testset split;Testset class;Magnification;Mean BG signal;",
        "Ganglio_0;train;-;20x;12,5;",
        "normal_1;test;NC-I;40x;3,25;",
        "Neuro_2.tif;test;NB-I;10x;3,25;",
        ";;;;;",
    ]
    (tmp_path / "image_description.csv").write_text("\r\n".join(rows), encoding="utf-8")
    text = """
    splits: {csv: image_description.csv, column: Train-/Testset split}
    steps: [fill_label_holes, {rescale: {magnification: 20x}}]
    """
    dataset = open_dataset(config(tmp_path, text))
    assert names(dataset.split("test")) == ["Neuro_2", "normal_1"]
    assert dataset.samples[0].group == {"Testset class": "-", "Magnification": "20x", "Mean BG signal": "12,5"}
    assert [dataset.load(sample)[0].shape for sample in dataset.samples] == [(8, 8), (16, 16), (4, 4)]


def test_a_table_that_a_spreadsheet_saved(root: Path) -> None:
    text = "split\tname\r\n" + "\r\n".join(f"val\t{name}" for name in "abcd")
    (root / "manifest.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert len(open_dataset(root).split("val")) == 4


def test_classes_of_objects(root: Path) -> None:
    rows = ["image,id,class"] + [f"{n},3,cell\n{n}.tif,700,2" for n in "abcd"] + ["other,1,cell"]
    (root / "objects.csv").write_text("\n".join(rows))
    dataset = open_dataset(config(root, "classes: [nucleus, cell]\nobject_classes: {csv: objects.csv}"))
    _, layers = dataset.load(dataset.samples[0])
    assert dict(layers.classes) == {3: 2, 700: 2}
    (root / "objects.csv").write_text("\n".join(["image,id,class"] + [f"{n},3,cell\n{n},700,alga" for n in "abc"]))
    dataset = open_dataset(config(root, "object_classes: {csv: objects.csv}"))
    assert dataset.classes == ("alga", "cell")
    with pytest.raises(DataError, match=r"d.png: 2 objects have no class .*values 3, 700"):
        dataset.verify()


@pytest.mark.parametrize(
    "row, message",
    [
        ("a,3,worm", "object '3' of class 'worm'"),
        ("a,0,cell", "object '0'"),
        ("a,x,cell", "object 'x'"),
        ("a,3,cell\na,3,nucleus", "two classes"),
        ("a,3,3", "of class '3'"),
    ],
)
def test_wrong_classes_of_objects(root: Path, row: str, message: str) -> None:
    (root / "objects.csv").write_text("image,id,class\n" + row)
    file = config(root, "classes: [nucleus, cell]\nobject_classes: {csv: objects.csv}")
    with pytest.raises(DataError, match=message):
        open_dataset(file)


def test_classes_without_names(root: Path) -> None:
    (root / "objects.csv").write_text("image,id,class\na,3,1")
    with pytest.raises(DataError, match="the classes have no names"):
        open_dataset(config(root, "object_classes: {csv: objects.csv}"))


# What is wrong is told, all of it, before anything starts.


def test_all_problems_are_told_together(root: Path) -> None:
    write_pair(root, "wrong size")
    write(root / "labels" / "wrong size.png", np.zeros((5, 10), np.uint8))
    write(root / "images" / "lonely.tif", np.zeros((4, 4), np.uint8))
    write(root / "labels" / "orphan.png", np.zeros((4, 4), np.uint8))
    write_pair(root, "cut off")
    whole = (root / "images" / "cut off.tif").read_bytes()
    (root / "images" / "cut off.tif").write_bytes(whole[: len(whole) // 2])
    write_pair(root, "twice")
    shutil.copy(root / "images" / "twice.tif", root / "images" / "twice.tiff")
    write_pair(root, "unlisted")
    write_pair(root, "text")
    (root / "images" / "text.tif").write_text("this is no image")
    with (root / "manifest.csv").open("a") as file:
        file.write("\nwrong size,train,\ncut off,train,\ntext,val,\na,val,\nghost,test,")
    dataset = open_dataset(root)
    with pytest.raises(DataError) as error:
        dataset.verify()
    text = str(error.value)
    for message in (
        "the data set has 9 problems",
        "wrong size.png: the label image has another size",
        "5 x 10",
        "12 x 10",
        "images/lonely.tif: has no label image",
        "labels/orphan.png: labels without an image",
        "cut off.tif: ",
        "text.tif: ",
        "twice: several images of this name: twice.tif, twice.tiff",
        "unlisted: is not listed in manifest.csv",
        "line 9: 'a' is listed twice",
        "line 10: there is no annotated image 'ghost'",
    ):
        assert message in text, message


def test_ten_problems_are_listed_and_the_rest_counted(root: Path) -> None:
    for i in range(13):
        write(root / "images" / f"lonely{i}.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError) as error:
        open_dataset(root).verify()
    assert "the data set has 13 problems" in str(error.value)
    assert str(error.value).count("has no label image") == 10
    assert "and 3 more" in str(error.value)


def test_what_is_left_out_is_said_when_opened(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(root / "images" / "lonely.tif", np.zeros((4, 4), np.uint8))
    open_dataset(root)
    assert "1 problem; what they are about is left out; the first: images/lonely.tif" in capsys.readouterr().err


def test_only_the_samples_in_question_are_read(root: Path) -> None:
    (root / "images" / "d.tif").write_text("broken")
    dataset = open_dataset(root)
    dataset.verify(dataset.split("train"))
    with pytest.raises(DataError, match=r"1 problem\n"):
        dataset.verify()


def test_loading_a_sample_of_another_size(root: Path) -> None:
    write(root / "labels" / "a.png", np.zeros((5, 10), np.uint8))
    with pytest.raises(LabelError, match="5 x 10"):
        load_sample(open_dataset(root).samples[0])


def test_channels_that_are_not_there(root: Path) -> None:
    dataset = open_dataset(config(root, "channels: [a, b]"))
    with pytest.raises(DataError, match="2 \\(a, b\\)"):
        load_sample(dataset.samples[0])


def test_an_empty_split(root: Path) -> None:
    dataset = open_dataset(config(root, "splits: {train: [a, b], val: []}"))
    with pytest.raises(DataError, match="split 'val': has no images"):
        dataset.verify()


def test_chance_may_leave_a_small_split_empty(root: Path) -> None:
    dataset = open_dataset(config(root, "splits: {fractions: {train: 1.0, val: 0.0}}"))
    assert dataset.split("val") == []
    dataset.verify()
    dataset = open_dataset(config(root, "splits: {fractions: {train: 0.0, val: 1.0}}"))
    with pytest.raises(DataError, match="split 'train': has no images"):
        dataset.verify()


def test_hidden_and_other_files_are_passed_over(root: Path) -> None:
    (root / "images" / "._a.tif").write_text("left by a Mac")
    (root / "images" / "Thumbs.db").write_text("left by Windows")
    (root / "images" / ".cache").mkdir()
    shutil.copy(root / "images" / "a.tif", root / "images" / ".cache" / "a.tif")
    assert open_dataset(root).problems == ()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda root: root / "nowhere", "there is no such data set"),
        (lambda root: root / "manifest.csv", "this is no data set"),
        (lambda root: root / "images", "has no folder images/ and labels/"),
        (lambda root: config(root, "labels: masks"), "label images should lie in a folder"),
        (lambda root: config(root, "images: '*.png'"), "has no images"),
        (lambda root: config(root, "splits: {csv: none.csv}"), "table cannot be read"),
        (lambda root: config(root, "splits: {column: Split type}"), "no column 'Split type'"),
        (lambda root: config(root, "name_column: nmae"), "did you mean 'name'"),
    ],
)
def test_what_is_no_data_set(root: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(make(root))


@pytest.mark.parametrize(
    "text, message",
    [
        ("imagse: x", "unknown setting 'imagse'"),
        ("imagse: x", "did you mean 'images'"),
        ("splits: {csv: m.csv, colum: x}", "unknown setting 'splits.colum'"),
        ("splits: {csv: m.csv, colum: x}", "did you mean 'column'"),
        ("splits: {fraction: {train: 1.0}}", "did you mean 'fractions'"),
        ("object_classes: {csv: a.csv, clas: x}", "did you mean 'class'"),
        ("pixel_size: -1", "pixel_size"),
        ("classes: []", "one or more different names"),
        ("classes: [a, a]", "one or more different names"),
        ("classes: nucleus", "classes"),
        ("steps: [sharpen]", "no preprocessing step 'sharpen'"),
        ("steps: {trian: [to_gray]}", "for a split that the data set has not"),
        ("steps: to_gray", "steps"),
        ("- a", "not a table of settings"),
        ("", "not a table of settings"),
        ("a: [", "cannot be read"),
        ("images: raw\nlabels: [a", "line 2, column 11: expected ',' or ']'"),
        ("a: !!python/object/apply:os.getcwd []", "cannot be read"),
    ],
)
def test_wrong_yaml(root: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        open_dataset(config(root, text))
    assert "dataset.yaml" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "images: ../images",
        "images: images/../../images",
        "labels: ../../labels/*.png",
        "root: ..",
        "table: ../manifest.csv",
        "splits: {csv: ../manifest.csv}",
        "object_classes: {csv: ../o.csv}",
    ],
)
def test_relative_paths_stay_inside(root: Path, text: str) -> None:
    inner = root / "inner"
    inner.mkdir()
    shutil.copytree(root / "images", inner / "images")
    shutil.copytree(root / "labels", inner / "labels")
    with pytest.raises(ConfigError, match="leads out of the data set's folder"):
        open_dataset(config(inner, text))


def test_absolute_paths_are_the_users_own(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    text = f"images: {root}/images\nlabels: {root}/labels\nsplits: {{csv: {root}/manifest.csv}}"
    assert names(open_dataset(config(elsewhere, text)).split("train")) == ["a", "b"]
    assert names(open_dataset(config(elsewhere, f"root: {root}")).split("train")) == ["a", "b"]


def test_names_in_a_table_open_nothing_outside(root: Path) -> None:
    write(root.parent / "secret.tif", np.zeros((12, 10), np.uint8))
    with (root / "manifest.csv").open("a") as file:
        file.write(f"\n../secret.tif,train,\n{root.parent}/secret.tif,train,\n../{root.name}/images/a,train,")
    dataset = open_dataset(root)
    assert names(dataset.samples) == ["a", "b", "c", "d"]
    assert len(dataset.problems) == 3
    assert all("there is no annotated image" in problem for problem in dataset.problems)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the table is empty"),
        (b"name,split,split\na,b,c", "columns of the same name"),
        (b"name,split\na,train,extra", "line 2 of the table has more cells"),
        (b"name\n\xff\xfe\xfa", "not text in UTF-8"),
    ],
)
def test_broken_tables(root: Path, content: bytes, message: str) -> None:
    (root / "manifest.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_dataset(root)


def test_fingerprint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    original = open_dataset(root).fingerprint()
    assert len(original) == 64
    copy = tmp_path_factory.mktemp("copy") / "other name"
    shutil.copytree(root, copy)
    assert open_dataset(copy).fingerprint() == original
    manifest = (copy / "manifest.csv").read_text()
    (copy / "manifest.csv").write_text(manifest.replace("b,train", "b,val"))
    assert open_dataset(copy).fingerprint() != original
    (copy / "manifest.csv").write_text(manifest)
    labels = bytearray((copy / "labels" / "a.png").read_bytes())
    labels[-1] ^= 1
    (copy / "labels" / "a.png").write_bytes(labels)
    assert open_dataset(copy).fingerprint() != original
    assert open_dataset(config(root, "classes: [cell]")).fingerprint() != original


def test_fingerprint_of_a_file_that_went_away(root: Path) -> None:
    dataset = open_dataset(root)
    (root / "images" / "b.tif").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        dataset.fingerprint()


# Real micrographs.


def test_nuclei(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "nuclei")
    assert [len(dataset.split(name)) for name in ("train", "val", "test")] == [532, 65, 67]
    assert {sample.group["modality"] for sample in dataset.samples} == {"fluorescence", "histology", "brightfield"}
    for sample in dataset.samples[::60]:
        image, layers = load_sample(sample)
        assert image.shape == (int(sample.group["height"]), int(sample.group["width"]))
        assert len(layers.classes) == int(sample.group["objects"])


def test_phase_by_prefix(shared_data: Path, tmp_path: Path) -> None:
    text = f"root: {shared_data / 'phase'}\nclasses: [cell]\nsplits: {{train: ['train_*'], val: ['val_*']}}"
    dataset = open_dataset(config(tmp_path, text))
    assert [len(dataset.split(name)) for name in ("train", "val")] == [21, 3]
    plain = open_dataset(shared_data / "phase")
    assert [len(plain.split(name)) for name in ("train", "val")] == [21, 3]
    dataset.verify(dataset.split("val"))


def test_pairs_may_be_listed(tmp_path):
    for name in ("field", "other"):
        tifffile.imwrite(tmp_path / f"{name}.ome.tif", np.zeros((8, 9), np.uint8), photometric="minisblack")
        write_labels(tmp_path / f"cells_{name}.tif", np.ones((8, 9), np.int32))
    listed = "pairs:\n- {image: field.ome.tif, labels: cells_field.tif}\n"
    (tmp_path / "d.yaml").write_text(listed + "- {image: other.ome.tif, labels: cells_other.tif, name: second}\n")
    dataset = open_dataset(tmp_path / "d.yaml")
    assert [sample.name for sample in dataset.samples] == ["field", "second"]
    dataset.verify()
    (tmp_path / "d.yaml").write_text(listed + listed[7:] + "- {image: none.tif, labels: cells_other.tif}\n")
    problems = open_dataset(tmp_path / "d.yaml").problems
    assert "several pairs" in problems[0]
    assert "no file none.tif" in problems[1]
    (tmp_path / "d.yaml").write_text(listed + "images: raw\n")
    with pytest.raises(ConfigError, match="exclude each other"):
        open_dataset(tmp_path / "d.yaml")
    (tmp_path / "d.yaml").write_text("pairs:\n- {image: field.ome.tif, label: cells_field.tif}\n")
    with pytest.raises(ConfigError):
        open_dataset(tmp_path / "d.yaml")


def test_zarr_folders_are_images_and_label_images(tmp_path):
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    for path in (tmp_path / "images/a.ome.zarr", tmp_path / "labels/a_labels.ome.zarr"):
        writer = LabelZarrWriter.create(path, (40, 50), chunk=32, dtype=np.uint16)
        writer.write(0, 0, np.full((40, 50), 3, np.uint16))
        writer.finish()
    (sample,) = open_dataset(tmp_path).samples
    assert sample.name == "a"
    image, layers = load_sample(sample)
    assert (image.shape, layers.n_objects) == ((40, 50), 1)
