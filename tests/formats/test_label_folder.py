"""Folders of label images: what is found under which name, all kinds of files, classes, and there and back."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image as Picture

from cytomask.data.dataset_config import ObjectClasses
from cytomask.data.object_classes import read_object_classes
from cytomask.errors import DataError, LabelError, OutputError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.label_folder import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.open_annotations import open_annotations as open_any
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.formats.label_images import write_labels
from cytomask.instances import Instances

from .annotation_examples import CLASSES, annotations
from .label_round_trips import assert_labels_come_back

HOLDS = ANNOTATION_FORMATS["labels"].holds
NO_IMAGES = ImageFinder([])
LABELS = np.array([[0, 7, 7], [3, 0, 900]])


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".jpg"):
            Picture.new("L", (3, 2)).save(root / name)
        else:
            tifffile.imwrite(root / name, LABELS.astype(np.uint16), photometric="minisblack") if name.endswith(
                ("tif", "tiff")
            ) else Picture.fromarray(LABELS.astype(np.uint16)).save(root / name)
    return root


def files(root: Path, images: ImageFinder = NO_IMAGES) -> dict[str, str]:
    found = open_annotations(root, images)
    return {name: found.read.__self__.files[name].relative_to(root).as_posix() for name in found.names}


@settings(max_examples=60, deadline=None)
@given(given_=annotations(HOLDS))
def test_what_is_written_comes_back(given_, tmp_path_factory):
    place = tmp_path_factory.mktemp("labels") / "out"
    write_annotations(place, given_, CLASSES)
    found = open_annotations(place, NO_IMAGES)
    assert found.classes == CLASSES
    assert_labels_come_back(found, given_, HOLDS)


@settings(max_examples=20, deadline=None)
@given(given_=annotations(HOLDS - {"classes"}))
def test_objects_without_classes_need_no_table(given_, tmp_path_factory):
    place = tmp_path_factory.mktemp("labels") / "out"
    write_annotations(place, given_, ("object",))
    assert all(p.suffix == ".tif" for p in place.rglob("*") if p.is_file())
    assert_labels_come_back(open_annotations(place, NO_IMAGES), given_, HOLDS)


def test_the_table_of_classes_is_one_that_data_sets_read(tmp_path):
    objects = Instances.from_labels(LABELS, classes={3: 2, 7: 1, 900: 2}, class_names=CLASSES)
    write_annotations(tmp_path / "out", [Annotation("a/b", objects)], CLASSES)
    table = tmp_path / "out" / "classes.csv"
    assert list(csv.reader(table.read_text(encoding="utf-8").splitlines())) == [
        ["image", "id", "class"], ["a/b", "3", "cell, large"], ["a/b", "7", "nucleus"], ["a/b", "900", "cell, large"],
    ]  # fmt: skip
    config = ObjectClasses(csv="classes.csv")
    assert read_object_classes(table, config, CLASSES, ["a/b"])[1] == {"a/b": {3: 2, 7: 1, 900: 2}}


def test_written_is_the_smallest_type(tmp_path):
    for top in (255, 256, 65536):
        place = tmp_path / str(top)
        write_annotations(place, [Annotation("a", Instances.from_labels(np.array([[0, top]])))], ("object",))
        found = tifffile.imread(place / "a_labels.tif")
        assert found.tolist() == [[0, top]]
        assert found.dtype == {255: np.uint8, 256: np.uint16, 65536: np.uint32}[top]


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int8, "<u2", ">u2", np.int16, np.uint32, np.int32, np.uint64, np.float32, np.float64]
)
def test_tiff_of_any_type(dtype, tmp_path):
    labels = np.array([[0, 5], [117, 5]]).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", labels, photometric="minisblack", byteorder=">" if dtype == ">u2" else "<")
    (found,) = open_annotations(tmp_path, NO_IMAGES)
    assert found.instances.ids.tolist() == [5, 117]
    assert found.instances.areas().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", "a"), ("a_labels.tif", "a"), ("a_label.tiff", "a"), ("a_mask.png", "a"), ("a_MASKS.PNG", "a"),
        ("a_cp_masks.png", "a"), ("x/y/a_labels.tif", "x/y/a"), ("a.ome.tif", "a"), ("a_labels.ome.tif", "a"),
        ("a_labels_labels.tif", "a_labels"), ("a.v2_mask.tif", "a.v2"), ("_mask.png", "_mask"),
    ],
)  # fmt: skip
def test_names(name, expected, tmp_path):
    assert files(make(tmp_path, name)) == {expected: name}


def test_images_are_told_from_labels(tmp_path):
    make(tmp_path, "a.tif", "a_labels.tif", "b.png", "b_labels.tif", "sub/c.tif", ".hidden.tif", "d.jpg")
    found = open_annotations(tmp_path, ImageFinder([tmp_path]))
    assert found.names == ("a", "b", "sub/c")
    assert any("2 files" in sentence for sentence in found.told)
    assert found.read("a").image == tmp_path / "a.tif"
    assert found.read("sub/c").image is None  # the label image itself is no image


def test_labels_beside_images(tmp_path):
    make(tmp_path, "images/a.tif", "images/b.png", "labels/a.png", "labels/b.png", "overlays/a.png")
    found = open_any(tmp_path, "labels")
    assert found.names == ("a", "b")
    assert found.read("b").image == tmp_path / "images" / "b.png"


def test_labels_beside_images_for_each_split(tmp_path):
    make(
        tmp_path,
        *(
            f"{split}/{kind}/{name}.tif"
            for split, name in (("train", "a"), ("val", "b"))
            for kind in ("images", "masks")
        ),
    )
    assert files(tmp_path) == {"train/a": "train/masks/a.tif", "val/b": "val/masks/b.tif"}


def test_names_of_folders_that_mean_something_come_back(tmp_path):
    given_ = [
        Annotation(name, Instances.from_labels(LABELS)) for name in ("images/a", "labels/a", "a.png", "a_mask", "b.ome")
    ]
    write_annotations(tmp_path / "out", given_, ("object",))
    assert set(open_annotations(tmp_path / "out", NO_IMAGES).names) == {a.name for a in given_}


def test_an_image_that_is_called_like_a_mask(tmp_path):
    make(tmp_path / "pictures", "x_mask.tif", "y.tif")
    make(tmp_path / "truth", "x_mask.png", "y_mask.png")
    assert files(tmp_path / "truth", ImageFinder([tmp_path / "pictures"])) == {
        "x_mask": "x_mask.png",
        "y": "y_mask.png",
    }


def test_a_single_file(tmp_path):
    path = make(tmp_path, "a_labels.tif") / "a_labels.tif"
    assert recognise(path)
    (found,) = open_annotations(path, NO_IMAGES)
    assert (found.name, len(found.instances)) == ("a", 3)
    assert pickle.loads(pickle.dumps(open_annotations(path, NO_IMAGES).read))("a").name == "a"


def test_two_files_of_one_image_are_refused(tmp_path):
    with pytest.raises(DataError, match="two label images are of the same image"):
        open_annotations(make(tmp_path, "a_labels.tif", "a_mask.png"), NO_IMAGES)


def test_a_folder_that_links_to_itself_ends(tmp_path):
    make(tmp_path, "sub/a.png")
    (tmp_path / "sub" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert files(tmp_path) == {"sub/a": "sub/a.png"}


def test_recognised_is_what_may_hold_labels(tmp_path):
    Picture.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((3, 4, 4), np.uint8), photometric="minisblack")
    (tmp_path / "text.tif").write_text("hello")
    (tmp_path / "broken.tif").write_bytes(b"II*\0\xff\xff\xff")
    (tmp_path / "short.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name in ("colour.png", "stack.tif", "text.tif", "nothing.tif", "broken.tif", "short.png"):
        assert not recognise(tmp_path / name)
    assert not recognise(tmp_path)
    (tmp_path / "sub").mkdir()
    assert not recognise(tmp_path / "sub")
    for kind in ("png", "bmp"):
        for mode in ("L", "P", "1"):
            Picture.new(mode, (4, 4)).save(tmp_path / f"one.{kind}")
            assert recognise(tmp_path / f"one.{kind}")
    row = recognise_format(make(tmp_path / "sub", "a.png"))
    assert row is not None
    assert row.name == "labels"


def test_what_is_no_label_image_is_refused_when_it_is_read(tmp_path):
    make(tmp_path, "a.png")
    Picture.new("RGB", (4, 4)).save(tmp_path / "b.png")
    found = open_annotations(tmp_path, NO_IMAGES)
    assert len(found.read("a").instances) == 3
    with pytest.raises(LabelError, match="one channel") as caught:
        found.read("b")
    assert caught.value.where == tmp_path / "b.png"


def with_table(root: Path, text: str, names: str = "") -> Path:
    make(root, "x/a_labels.tif", "b_labels.tif")
    (root / "classes.csv").write_bytes(text.encode("utf-8-sig"))
    if names:
        (root / "classes.txt").write_text(names, encoding="utf-8")
    return root


ROWS = "a,3,cell\na,7,nucleus\na.tif,900,cell\nb,3,cell\nb,7,cell\nb,900,nucleus\n"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_other_programs(separator, tmp_path):
    text = "Class,note,ID,Image\n" + "".join(f"{c},-,{i},{n}\n" for n, i, c in (r.split(",") for r in ROWS.split()))
    text = text.replace(",", separator).replace("\n", "\r\n") + "\r\n"
    found = open_annotations(with_table(tmp_path, text + separator.join(["cell", "", "1", "other"])), NO_IMAGES)
    assert found.classes == ("cell", "nucleus")
    assert any("other images are passed over: 1" in sentence for sentence in found.told)
    objects = found.read("x/a").instances
    assert (objects.ids.tolist(), objects.classes.tolist()) == ([3, 7, 900], [1, 2, 1])


def test_the_list_of_classes_tells_their_order(tmp_path):
    found = open_annotations(with_table(tmp_path, "image,id,class\n" + ROWS, "\nnucleus\r\ndebris\ncell\n"), NO_IMAGES)
    assert found.classes == ("nucleus", "debris", "cell")
    assert found.read("b").instances.classes.tolist() == [3, 3, 1]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "empty"),
        ("image,id\nb,3\n", "no column 'class'"),
        ("image,id,class\nb,0,cell\n", "line 2"),
        ("image,id,class\nb,x,cell\n", "line 2"),
        ("image,id,class\nb,3\n", "too short"),
        ("image,id,class\nb,3,\n", "names no class"),
        ("image,id,class\nb,3,cell\nb,3,nucleus\n", "two classes"),
    ],
)
def test_broken_tables_are_refused(text, what, tmp_path):
    with pytest.raises(DataError, match=what):
        open_annotations(with_table(tmp_path, text), NO_IMAGES)


def test_an_object_without_a_class_is_refused(tmp_path):
    found = open_annotations(with_table(tmp_path, "image,id,class\nb,3,cell\n"), NO_IMAGES)
    with pytest.raises(DataError, match="object 7 of b has no class"):
        found.read("b")


def test_an_unknown_class_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'cell'"):
        open_annotations(with_table(tmp_path, "image,id,class\n" + ROWS, "nucleus\n"), NO_IMAGES)


@pytest.mark.parametrize("names", ["", "a\na\n", "\n\n"])
def test_broken_lists_of_classes_are_refused(names, tmp_path):
    with_table(tmp_path, "image,id,class\n" + ROWS)
    (tmp_path / "classes.txt").write_text(names)
    with pytest.raises(DataError, match="list of classes"):
        open_annotations(tmp_path, NO_IMAGES)


@pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "C:\\a", "", "nul"])
def test_no_name_leads_out_of_the_folder(name, tmp_path):
    place = tmp_path / "inner" / "out"
    place.parent.mkdir()
    with pytest.raises(DataError, match="cannot be a file's name"):
        write_annotations(place, [Annotation(name, Instances.from_labels(LABELS))], ("object",))
    assert not [p for p in tmp_path.rglob("*") if p.name != "inner"]


def test_nothing_is_written_by_half_or_over_what_is_there(tmp_path):
    def failing():
        yield Annotation("a", Instances.from_labels(LABELS))
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_annotations(tmp_path / "out", failing(), CLASSES)
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    write_labels(tmp_path / "out" / "mine.tif", LABELS)
    with pytest.raises(OutputError, match="mix"):
        write_annotations(tmp_path / "out", [], CLASSES)


def test_names_of_classes_that_cannot_be_lines_are_refused(tmp_path):
    for name in ("a\nb", " a", ""):
        with pytest.raises(DataError, match="class's name"):
            write_annotations(tmp_path / "out", [], ("cell", name))


def test_real_labels_there_and_back(shared_data, tmp_path):
    source = shared_data / "nuclei" / "labels"
    found = open_annotations(source, ImageFinder([shared_data / "nuclei" / "images"]))
    assert len(found) == 664
    some = [found.read(name) for name in found.names[::80]]
    assert all(a.image is not None and a.image.stem == a.name for a in some)
    write_annotations(tmp_path / "out", some, ("object",))
    assert_labels_come_back(open_annotations(tmp_path / "out", NO_IMAGES), some, HOLDS)
