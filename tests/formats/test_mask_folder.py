"""One mask per object: there and back, the published masks, and pictures that are no masks."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings

from cytomask.errors import DataError, LabelError, OutputError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.mask_folder import open_annotations, read_mask, recognise, write_annotations
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.formats.images import read_image
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances

from . import annotation_examples as examples

HOLDS = ANNOTATION_FORMATS["masks"].holds


def opened(path: Path, *places: Path) -> AnnotationSet:
    return open_annotations(path, ImageFinder(places))


@pytest.fixture
def png(tmp_path: Path) -> Callable[..., Path]:
    """Writes a picture below the test's folder."""

    def write(name: str, pixels: np.ndarray, mode: str | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = PIL.Image.fromarray(np.ascontiguousarray(pixels))
        (picture.convert(mode) if mode else picture).save(path)
        return path

    return write


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(given_=examples.annotations(HOLDS))
def test_what_it_holds_comes_back(tmp_path: Path, given_: list[Annotation]) -> None:
    place = tmp_path / "set"
    shutil.rmtree(place, ignore_errors=True)
    write_annotations(place, iter(given_), ["object"])
    assert recognise(place)
    assert recognise_format(place) is ANNOTATION_FORMATS["masks"]
    found = pickle.loads(pickle.dumps(opened(place)))
    assert sorted(found.names) == sorted(a.name for a in given_)
    assert (found.told, found.classes) == ((), ("object",))
    for one in given_:
        examples.assert_same(found.read(one.name), one, HOLDS)


def test_the_published_masks(shared_data: Path, tmp_path: Path) -> None:
    place, nuclei = shared_data / "nuclei_kaggle_layout", shared_data / "nuclei"
    assert recognise_format(place) is ANNOTATION_FORMATS["masks"]
    found = opened(place)
    assert len(found) == 4
    for one in found:
        assert one.file_name == f"{one.name}.png"
        assert one.image is not None
        # The same image in the other set, whose names are the beginnings of these.
        (twin,) = (nuclei / "images").glob(f"{one.name[:12]}*.png")
        # Grey images were published as RGBA.
        np.testing.assert_array_equal(read_image(one.image).pixels[0], read_image(twin).pixels[0])
        labels = read_labels(nuclei / "labels" / twin.name)
        theirs = {code["counts"] for code in Instances.from_labels(labels).to_rle()}
        assert {code["counts"] for code in one.instances.to_rle()} == theirs
        assert len(one.instances) == len(theirs) > 20
    write_annotations(tmp_path / "set", found, found.classes)
    for back, one in zip(opened(tmp_path / "set"), found, strict=True):
        examples.assert_same(back, one, HOLDS)
        assert back.image is not None
        assert one.image is not None
        assert back.image.name == one.image.name
        assert back.image.read_bytes() == one.image.read_bytes()


def test_objects_are_in_the_order_of_their_files(png: Callable[..., Path], tmp_path: Path) -> None:
    for i, name in enumerate(["c", "a", "b"]):
        png(f"x/masks/{name}.png", np.arange(6).reshape(1, 6) // 2 == i)
    objects = opened(tmp_path).read("x").instances
    assert objects.windows.tolist() == [[0, 2, 1, 4], [0, 4, 1, 6], [0, 0, 1, 2]]
    assert objects.ids.tolist() == [1, 2, 3]
    # More than nine objects are written so that they stay in order.
    many = Instances.from_labels(np.arange(1, 13).reshape(1, 12))
    write_annotations(tmp_path / "set", [Annotation("a", many)], ["object"])
    assert opened(tmp_path / "set").read("a").instances.to_labels().tolist() == [list(range(1, 13))]


def test_images_without_objects(png: Callable[..., Path], tmp_path: Path) -> None:
    png("a/images/a.png", np.zeros((3, 4), np.uint8))
    (tmp_path / "a" / "masks").mkdir()
    png("b/images/b.png", np.zeros((3, 4), np.uint8))
    png("c/masks/1.png", np.zeros((5, 6), np.uint8))
    found = opened(tmp_path)
    assert [(one.name, len(one.instances), one.instances.shape) for one in found] == [
        ("a", 0, (3, 4)),
        ("c", 0, (5, 6)),
    ]
    assert found.told == ("images without a folder of masks are not annotated, and left out: 1",)
    (tmp_path / "d" / "masks").mkdir(parents=True)
    with pytest.raises(DataError, match="image was not found"):
        opened(tmp_path).read("d")
    PIL.Image.fromarray(np.zeros((7, 8), np.uint8)).save(tmp_path / "d.png")
    one = opened(tmp_path, tmp_path / "d.png").read("d")
    assert (one.instances.shape, one.image, one.file_name) == ((7, 8), tmp_path / "d.png", "d.png")


def test_pictures_that_are_masks(png: Callable[..., Path], tmp_path: Path) -> None:
    mask = np.array([[False, True, True], [False, False, True]])
    grey = mask.astype(np.uint8)
    transparent = np.stack([grey * 0 + 255] * 3 + [grey * 255], axis=-1)
    colours = np.where(mask[..., None], np.uint8([0, 0, 255]), np.uint8([90, 0, 0]))
    for name, pixels, mode in (
        ("0 and 255", grey * 255, None),
        ("0 and 1", grey, None),
        ("3 and 200", grey * 197 + 3, None),
        ("one bit", mask, None),
        ("16 bits", grey.astype(np.uint16) * 65535, None),
        ("RGBA", np.stack([grey * 255] * 3 + [grey * 0 + 255], axis=-1), None),
        ("RGB", np.stack([grey * 255] * 3, axis=-1), None),
        ("transparent", transparent, None),
        ("palette", np.stack([grey * 255, grey * 0, grey * 0], axis=-1), "P"),
    ):
        np.testing.assert_array_equal(read_mask(png(f"{name}.png", pixels, mode)), mask, err_msg=name)
    # Of two colours the brighter one is the object.
    np.testing.assert_array_equal(read_mask(png("colours.png", colours)), mask)
    tifffile.imwrite(tmp_path / "a.tif", grey.astype(np.float32))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), mask)
    assert read_mask(png("full.png", grey * 0 + 255)).all()
    assert not read_mask(png("none.png", grey * 0)).any()
    with pytest.raises(LabelError, match="more than two values") as caught:
        read_mask(png("smooth.png", np.uint8([[0, 255, 128]])))
    assert caught.value.found == "3 values, 0 to 255"
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(LabelError, match="not a PNG image"):
        read_mask(tmp_path / "b.png")


def test_broken_folders(png: Callable[..., Path], tmp_path: Path) -> None:
    png("a/masks/1.png", np.eye(3, dtype=bool))
    png("a/masks/2.png", np.eye(4, dtype=bool))
    with pytest.raises(LabelError, match="differ in size") as caught:
        opened(tmp_path).read("a")
    assert (caught.value.where, caught.value.found) == (tmp_path / "a" / "masks" / "2.png", "4 x 4")
    png("a/images/1.png", np.eye(3, dtype=bool))
    png("a/images/2.png", np.eye(3, dtype=bool))
    with pytest.raises(DataError, match="several images"):
        opened(tmp_path)


def test_what_is_recognised(png: Callable[..., Path], tmp_path: Path) -> None:
    assert not recognise(tmp_path)
    # A folder of images and one of label images called masks is another layout.
    png("other/images/a.png", np.eye(3, dtype=bool))
    png("other/masks/a.png", np.eye(3, dtype=bool))
    assert not recognise(tmp_path / "other")
    # So is the same for each split.
    for name in ("images/a.png", "images/b.png", "masks/a.png", "masks/b.png"):
        png(f"splits/train/{name}", np.eye(3, dtype=bool))
    assert not recognise(tmp_path / "splits")
    png("empty/a/images/a.png", np.eye(3, dtype=bool))
    (tmp_path / "empty" / "a" / "masks").mkdir()
    assert recognise(tmp_path / "empty")
    for i in range(200):
        (tmp_path / "these" / f"{i}" / "images").mkdir(parents=True)
    png("these/1/masks/a.png", np.eye(3, dtype=bool))
    assert recognise(tmp_path / "these")
    png("deep/stage1/train/a/masks/1.png", np.eye(3, dtype=bool))
    assert recognise(tmp_path / "deep")
    assert not recognise(tmp_path / "missing")


def test_names(tmp_path: Path) -> None:
    def one(name: str) -> Annotation:
        return Annotation(name, Instances.from_labels(np.array([[1]])))

    for names, message in (
        (["../a"], "cannot be the name of a folder"),
        (["a/../../b"], "cannot be the name of a folder"),
        (["/a"], "cannot be the name of a folder"),
        (["..\\a"], "cannot be the name of a folder"),
        (["C:\\a"], "cannot be the name of a folder"),
        (["a/masks"], "cannot be the name of a folder"),
        ([""], "cannot be the name of a folder"),
        (["a", "a"], "into one folder"),
        (["a", "A"], "into one folder"),
        (["b\\c", "b/c"], "into one folder"),
    ):
        with pytest.raises(DataError, match=message):
            write_annotations(tmp_path / "set", map(one, names), ["object"])
        assert list(tmp_path.iterdir()) == []
    write_annotations(tmp_path / "set", map(one, ["a/b", "a", "images/c"]), ["object"])
    assert opened(tmp_path / "set").names == ("a", "a/b", "images/c")
    with pytest.raises(OutputError):
        write_annotations(tmp_path / "set", [one("a")], ["object"])
