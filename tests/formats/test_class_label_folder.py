"""A folder for each image with one instance TIFF per class: real kinds of files, overlap, and there and back."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image as Picture

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.class_label_folder import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.losses import Losses
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.instances import Instances

from .annotation_examples import CLASSES, annotations
from .label_round_trips import as_label_image, told

HOLDS = ANNOTATION_FORMATS["class-labels"].holds
NO_IMAGES = ImageFinder([])


def nuclei(root: Path, name: str, classes: dict[int, np.ndarray], size: tuple[int, int] | None = (4, 6)) -> Path:
    """A folder as the challenge has it: an RGBA picture, labels as 64-bit floats."""
    folder = root / name
    folder.mkdir(parents=True)
    if size is not None:
        picture = np.full((*size, 4), 255, np.uint8)
        tifffile.imwrite(
            folder / "image.tif", picture, photometric="rgb", extrasamples=["unassalpha"], compression="lzw"
        )
    for number, labels in classes.items():
        tifffile.imwrite(folder / f"class{number}.tif", labels, photometric="minisblack")
    return root


def labels_of(**places: tuple[int, int]) -> np.ndarray:
    """Labels ``(4, 6)`` of 64-bit floats with one row for each id, such as ``_7=(row, columns)``."""
    labels = np.zeros((4, 6), np.float64)
    for key, (row, columns) in places.items():
        labels[row, :columns] = int(key[1:])
    return labels


def test_files_as_the_challenge_has_them(tmp_path):
    nuclei(tmp_path, "uuid-1", {1: labels_of(_3=(0, 2), _161=(2, 5)), 4: labels_of(_7=(2, 1))})
    nuclei(tmp_path, "uuid-2", {})
    row = recognise_format(tmp_path)
    assert row is not None
    assert row.name == "class-labels"
    found = open_annotations(tmp_path, NO_IMAGES)
    assert (found.names, found.classes) == (("uuid-1", "uuid-2"), ("class1", "class2", "class3", "class4"))
    first, second = found
    objects = first.instances
    assert (objects.ids.tolist(), objects.classes.tolist()) == ([3, 161, 7], [1, 1, 4])
    assert objects.full_mask(1).astype(int).tolist() == [[0] * 6, [0] * 6, [1, 1, 1, 1, 1, 0], [0] * 6]
    assert objects.areas().tolist() == [2, 5, 1]  # a pixel of two classes counts for both
    assert (first.image, first.file_name) == (tmp_path / "uuid-1" / "image.tif", "image.tif")
    assert (len(second.instances), second.instances.shape) == (0, (4, 6))
    assert pickle.loads(pickle.dumps(found.read))("uuid-2").name == "uuid-2"


def test_ids_that_classes_share_are_numbered_anew(tmp_path):
    nuclei(tmp_path, "a", {1: labels_of(_3=(0, 2), _9=(1, 4)), 2: labels_of(_3=(2, 1))})
    found = open_annotations(tmp_path, NO_IMAGES)
    assert any("share ids" in sentence for sentence in found.told)
    objects = found.read("a").instances
    assert (objects.ids.tolist(), objects.classes.tolist(), objects.areas().tolist()) == (
        [1, 2, 3],
        [1, 1, 2],
        [2, 4, 1],
    )


@pytest.mark.parametrize("axes", ["CYX", "YXC"])
def test_of_more_than_two_axes_the_first_channel_counts(axes, tmp_path):
    planes = np.stack([labels_of(_3=(0, 2)), labels_of(_8=(1, 5)), labels_of(_9=(2, 5))])
    nuclei(tmp_path, "a", {1: planes if axes == "CYX" else np.ascontiguousarray(np.moveaxis(planes, 0, -1))})
    found = open_annotations(tmp_path, NO_IMAGES)
    assert any("more than two axes: 1" in sentence for sentence in found.told)
    assert found.read("a").instances.ids.tolist() == [3]
    assert found.read("a").instances.areas().tolist() == [2]


def test_pages_of_a_stack_without_a_word_about_them(tmp_path):
    (tmp_path / "a").mkdir()
    with tifffile.TiffWriter(tmp_path / "a" / "class1.tif") as tif:
        for labels in (labels_of(_3=(0, 2)), *[labels_of(_8=(1, 5))] * 20):
            tif.write(labels, photometric="minisblack", metadata=None, contiguous=False)
    assert open_annotations(tmp_path, NO_IMAGES).read("a").instances.ids.tolist() == [3]


def test_the_list_of_classes_names_them(tmp_path):
    nuclei(tmp_path, "train/a", {2: labels_of(_3=(0, 2))})
    (tmp_path / "classes.txt").write_text("epithelial\nlymphocyte\nneutrophil\n")
    found = open_annotations(tmp_path, NO_IMAGES)
    assert (found.names, found.classes) == (("train/a",), ("epithelial", "lymphocyte", "neutrophil"))
    assert found.read("train/a").instances.classes.tolist() == [2]
    assert open_annotations(tmp_path / "train", NO_IMAGES).classes == found.classes  # the list lies beside it
    (tmp_path / "classes.txt").write_text("epithelial\n")
    with pytest.raises(DataError, match="more classes than names"):
        open_annotations(tmp_path, NO_IMAGES)


def test_the_folder_of_one_image(tmp_path):
    nuclei(tmp_path, "a", {1: labels_of(_3=(0, 2))})
    assert recognise(tmp_path / "a")
    assert open_annotations(tmp_path / "a", NO_IMAGES).names == ("a",)


def test_images_that_lie_elsewhere(tmp_path):
    nuclei(tmp_path / "truth", "a", {1: labels_of(_3=(0, 2))}, size=None)
    nuclei(tmp_path / "truth", "image", {1: labels_of(_3=(0, 2))}, size=None)
    (tmp_path / "pictures").mkdir()
    Picture.new("RGB", (6, 4)).save(tmp_path / "pictures" / "a.png")
    found = open_annotations(tmp_path / "truth", ImageFinder([tmp_path / "pictures"]))
    assert found.read("a").image == tmp_path / "pictures" / "a.png"
    assert found.read("image").image is None
    # What lies in the folders themselves belongs to them.
    nuclei(tmp_path / "truth", "b", {1: labels_of(_3=(0, 2))})
    assert open_annotations(tmp_path / "truth", ImageFinder([tmp_path / "truth"])).read("image").image is None


def test_what_contradicts_itself_is_refused(tmp_path):
    nuclei(tmp_path, "a", {1: labels_of(_3=(0, 2)), 2: np.zeros((4, 7))})
    with pytest.raises(LabelError, match="differ in size") as caught:
        open_annotations(tmp_path, NO_IMAGES).read("a")
    assert caught.value.where == tmp_path / "a" / "class2.tif"
    tifffile.imwrite(tmp_path / "a" / "class2.tif", np.full((4, 6), 0.5))
    with pytest.raises(LabelError, match="whole numbers"):
        open_annotations(tmp_path, NO_IMAGES).read("a")
    (tmp_path / "a" / "class2.tif").write_bytes(b"II*\0broken")
    with pytest.raises(LabelError):
        open_annotations(tmp_path, NO_IMAGES).read("a")
    (tmp_path / "a" / "class_01.png").write_bytes(b"")
    with pytest.raises(DataError, match="two files"):
        open_annotations(tmp_path, NO_IMAGES)


def test_other_folders_are_not_recognised(tmp_path):
    assert not recognise(tmp_path)
    nuclei(tmp_path, "a", {})  # an image, but nothing of a class
    assert not recognise(tmp_path)
    assert not recognise(tmp_path / "a" / "image.tif")


def as_kept(objects: Instances) -> Instances:
    """As one label image for each class keeps the objects."""
    parts = [as_label_image(objects.take(objects.classes == c)) for c in range(1, len(objects.class_names) + 1)]
    return Instances.concatenate(parts)


@settings(max_examples=60, deadline=None)
@given(given_=annotations(HOLDS))
def test_what_is_written_comes_back(given_, tmp_path_factory):
    place = tmp_path_factory.mktemp("classes") / "out"
    write_annotations(place, given_, CLASSES)
    found = open_annotations(place, NO_IMAGES)
    assert found.classes == CLASSES
    assert sorted(found.names) == sorted(a.name for a in given_)
    by_name = {a.name: a.instances for a in given_}
    for back in found:
        assert back.instances.shape == by_name[back.name].shape
        assert told(back.instances, HOLDS) == told(as_kept(by_name[back.name]), HOLDS)


def test_only_classes_that_occur_have_files(tmp_path):
    objects = Instances.from_labels(np.array([[0, 5, 300]]), classes={5: 3, 300: 3}, class_names=CLASSES)
    write_annotations(tmp_path / "out", [Annotation("x/a", objects), Annotation("b", Instances.empty((4, 6)))], CLASSES)
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.t*")) == [
        "b/class1.tif", "classes.txt", "x/a/class3.tif",
    ]  # fmt: skip
    labels = tifffile.imread(tmp_path / "out" / "x" / "a" / "class3.tif")
    assert (labels.dtype, labels.tolist()) == (np.uint16, [[0, 5, 300]])
    assert open_annotations(tmp_path / "out", NO_IMAGES).read("b").instances.shape == (4, 6)


def test_the_image_is_copied(tmp_path):
    nuclei(tmp_path / "in", "a", {1: labels_of(_3=(0, 2))})
    Picture.fromarray(np.arange(72, dtype=np.uint8).reshape(4, 6, 3)).save(tmp_path / "b.png")
    Picture.fromarray(np.arange(24, dtype=np.uint16).reshape(4, 6)).save(tmp_path / "c.png")
    empty = Instances.empty((4, 6))
    given_ = [*open_annotations(tmp_path / "in", NO_IMAGES), Annotation("b", empty, image=tmp_path / "b.png"),
              Annotation("c", empty, image=tmp_path / "c.png")]  # fmt: skip
    write_annotations(tmp_path / "out", given_, ("class1",))
    copy, source = (tmp_path / place / "a" / "image.tif" for place in ("out", "in"))
    assert copy.read_bytes() == source.read_bytes()
    assert tifffile.imread(tmp_path / "out" / "b" / "image.tif").tolist() == np.arange(72).reshape(4, 6, 3).tolist()
    assert tifffile.imread(tmp_path / "out" / "c" / "image.tif").tolist() == np.arange(24).reshape(4, 6).tolist()
    assert [p.name for p in (tmp_path / "out" / "b").iterdir()] == ["image.tif"]
    found = open_annotations(tmp_path / "out", NO_IMAGES)
    assert [len(a.instances) for a in found] == [1, 0, 0]
    assert found.read("c").instances.shape == (4, 6)


def test_an_image_in_another_images_folder(tmp_path):
    given_ = [
        Annotation(name, Instances.from_labels(np.array([[k]]))) for k, name in enumerate(("a/b", "a", "c.png"), 1)
    ]
    write_annotations(tmp_path / "out", given_, ("object",))
    found = open_annotations(tmp_path / "out", NO_IMAGES)
    assert {a.name: a.instances.ids.tolist() for a in found} == {"a/b": [1], "a": [2], "c.png": [3]}


def test_overlap_is_lost_within_a_class_only():
    crops, origins = [np.ones((1, 2), bool)] * 3, [(0, 0), (0, 1), (0, 2)]
    for classes, said in (([1, 2, 1], False), ([1, 1, 2], True)):
        losses = Losses(HOLDS)
        losses.add(Annotation("a", Instances.from_crops((1, 4), crops, origins, classes, class_names=("a", "b"))))
        assert any("overlap" in sentence for sentence in losses.sentences()) == said
