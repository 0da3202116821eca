"""COCO results: there and back, other programs' lists, and what their images and boxes are."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations import coco_json
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.coco_results import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.instances import Instances

from . import annotation_examples as examples

HOLDS = ANNOTATION_FORMATS["coco-results"].holds


@pytest.fixture
def results(tmp_path: Path) -> Callable[..., Path]:
    def write(*entries: dict[str, Any], name: str = "results.json") -> Path:
        (tmp_path / name).write_text(json.dumps(list(entries)), encoding="utf-8")
        return tmp_path / name

    return write


def found_object(left: int = 4, top: int = 3, corners: bool = False, **entries: Any) -> dict[str, Any]:
    """A square of 5 x 5 in an image of 20 x 30, as a program would send it."""
    mask = np.zeros((20, 30), np.uint8, order="F")
    mask[top : top + 5, left : left + 5] = 1
    code = coco_mask.encode(mask)
    box = [left, top, left + 5, top + 5] if corners else [left, top, 5, 5]
    whole = {"image_id": 7, "category_id": 1, "bbox": box, "score": 0.5}
    whole["segmentation"] = {"size": list(code["size"]), "counts": code["counts"].decode()}
    return {k: v for k, v in (whole | entries).items() if v is not None}


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(given_=examples.annotations(HOLDS))
def test_what_it_holds_comes_back(tmp_path: Path, given_: list[Annotation]) -> None:
    path = tmp_path / "a.json"
    write_annotations(path, iter(given_), examples.CLASSES)
    held = [a for a in given_ if len(a.instances)]
    if not held:
        assert json.loads(path.read_text()) == []
        return
    assert recognise(path)
    assert not coco_json.recognise(path)
    found = open_annotations(path, ImageFinder())
    assert found.told == ()
    assert found.names == tuple(a.name for a in held)
    for back, one in zip(found, held, strict=True):
        examples.assert_same(back, one, HOLDS)
        np.testing.assert_array_equal(back.instances.boxes, one.instances.boxes)
    # What was read is written to the same bytes.
    first = path.read_bytes()
    write_annotations(path, found, found.classes)
    assert path.read_bytes() == first


def test_pycocotools_takes_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    given_ = [examples.one_annotation(rng, name, 5) for name in "abc"]
    coco_json.write_annotations(tmp_path / "truth.json", given_, examples.CLASSES)
    write_annotations(tmp_path / "a.json", given_, examples.CLASSES)
    theirs = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "a.json"))
    assert len(theirs.anns) == 15
    for image_id, one in zip(theirs.getImgIds(), given_, strict=True):
        entries = theirs.imgToAnns[image_id]
        assert [e["segmentation"]["counts"] for e in entries] == [c["counts"] for c in one.instances.to_rle()]
        assert np.float32([e["score"] for e in entries]).tolist() == one.instances.scores.tolist()
        y0, x0, y1, x1 = one.instances.boxes.T
        assert [e["bbox"] for e in entries] == np.stack([x0, y0, x1 - x0, y1 - y0], axis=1).tolist()


def test_images_and_classes_of_foreign_results(results: Callable[..., Path], tmp_path: Path) -> None:
    path = results(found_object(), found_object(left=8, image_id="12", category_id=3), found_object(score=0.9))
    found = pickle.loads(pickle.dumps(open_annotations(path, ImageFinder())))
    assert recognise_format(path) is ANNOTATION_FORMATS["coco-results"]
    assert found.names == ("7", "12")
    assert found.classes == ("class 1", "class 2", "class 3")
    seven, twelve = found
    assert seven.instances.scores.tolist() == [0.5, pytest.approx(0.9)]
    assert seven.instances.shape == (20, 30)
    assert twelve.instances.classes.tolist() == [3]
    assert twelve.instances.windows.tolist() == [[3, 8, 8, 13]]
    assert twelve.file_name is None
    # Categories that do not count from 1 are classes in their order.
    found = open_annotations(results(found_object(category_id=0), found_object(category_id=5)), ImageFinder())
    assert found.classes == ("class 0", "class 5")
    assert found.read("7").instances.classes.tolist() == [1, 2]
    found = open_annotations(results(found_object()), ImageFinder())
    assert found.classes == ("object",)


def test_file_names(results: Callable[..., Path], tmp_path: Path) -> None:
    entries = [
        found_object(image_id=i, file_name=n) for i, n in enumerate(["x/a.tif", "b.png", "b.tif", None, "../c.tif"])
    ]
    (tmp_path / "x").mkdir()
    PIL.Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "x" / "a.tif")
    found = open_annotations(results(*entries), ImageFinder([tmp_path]))
    # Two are called b: they go by their numbers.
    assert found.names == ("x/a", "1", "2", "3", "c")
    assert found.read("x/a").image == tmp_path / "x" / "a.tif"


def test_results_of_a_prediction(results: Callable[..., Path], tmp_path: Path) -> None:
    def image(number: int, name: str, **counts: int) -> dict[str, Any]:
        entry = {"image_id": number, "file": f"in\\{name}.tif", "name": f"in_{name}", "height": 20, "width": 30}
        return {**entry, "objects": {"cell": 0, "debris": 0, **counts}}

    record = {"images": [image(1, "a", cell=1), image(2, "b"), image(7, "c", debris=1)]}
    path = results(found_object(image_id=1), found_object(category_id=2))
    (tmp_path / "run.json").write_text(json.dumps(record))
    found = open_annotations(path, ImageFinder())
    assert found.classes == ("cell", "debris")
    assert [(a.name, a.file_name, len(a.instances)) for a in found] == [
        ("in_a", "a.tif", 1), ("in_b", "b.tif", 0), ("in_c", "c.tif", 1)
    ]  # fmt: skip
    assert found.read("in_b").instances.shape == (20, 30)
    (tmp_path / "run.json").write_text(
        json.dumps({**record, "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "y"}]})
    )
    assert open_annotations(path, ImageFinder()).classes == ("x", "y")
    found = open_annotations(results(found_object(image_id=99)), ImageFinder())
    assert (found.names, found.told) == (("99",), ("run.json beside it is of other results, and is not used",))
    for strange in ("[]", "{", '{"images": [{"name": "a"}]}', '{"images": []}', '{"images": [{"objects": 3}]}'):
        (tmp_path / "run.json").write_text(strange)
        assert open_annotations(path, ImageFinder()).names == ("99",)


def test_with_the_truth(results: Callable[..., Path], tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 30} for i in (5, 7)]
    categories = [{"id": 4, "name": "cell"}, {"id": 1, "name": "debris"}]
    truth.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    path = results(found_object(), found_object(category_id=4), found_object(image_id=8))
    found = open_annotations(path, ImageFinder(), truth=truth)
    assert (found.names, found.classes) == (("5", "7"), ("debris", "cell"))
    assert found.read("7").instances.classes.tolist() == [1, 2]
    assert len(found.read("5").instances) == 0
    assert found.told == ("results of images that the truth does not list are left out: image_id 8",)
    with pytest.raises(DataError, match="none of the images of the truth"):
        open_annotations(results(found_object(image_id=8)), ImageFinder(), truth=truth)
    with pytest.raises(LabelError, match="do not list"):
        open_annotations(results(found_object(category_id=2)), ImageFinder(), truth=truth).read("7")
    # A bare list of images, as some competitions give it.
    truth.write_text(json.dumps(images))
    path = results(found_object(), found_object(category_id=4))
    found = open_annotations(path, ImageFinder(), truth=truth)
    assert (found.names, len(found.classes)) == (("5", "7"), 4)
    truth.write_text(json.dumps([{"id": 3}]))
    with pytest.raises(DataError, match="no list of images"):
        open_annotations(path, ImageFinder(), truth=truth)


def test_boxes_as_corners(results: Callable[..., Path], tmp_path: Path) -> None:
    # The form of the submissions of NYCU's visual recognition course 2025, homework 3: a zip of
    # {image_id, bbox [x1, y1, x2, y2], score, category_id, segmentation}.
    entries = [found_object(left=i, top=12 - i, corners=True) for i in range(12)]
    entries[3]["bbox"][3] -= 0.75
    path = results(*entries, name="test-results.json")
    with zipfile.ZipFile(tmp_path / "submission.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.write(path, "test-results.json")
    for place in (path, tmp_path / "submission.zip"):
        assert recognise(place)
        found = open_annotations(place, ImageFinder())
        assert found.told == ("boxes are two corners (x, y, x, y), as the masks show",)
        objects = found.read("7").instances
        expected = np.array([[12 - i, i, 17 - i, i + 5] for i in range(12)], np.float32)
        expected[3, 2] -= 0.75
        assert objects.boxes.tolist() == expected.tolist()
        assert objects.windows.tolist() == np.ceil(expected).tolist()
    write_annotations(tmp_path / "usual.json", found, found.classes)
    whole = json.loads((tmp_path / "usual.json").read_text())
    assert [e["bbox"] for e in whole][:4] == [[0, 12, 5, 5], [1, 11, 5, 5], [2, 10, 5, 5], [3, 9, 5, 4.25]]
    # Boxes that a model found itself need not be those of its masks.
    entries = [found_object(left=i, top=12 - i, bbox=[i - 1.5, 12 - i, 8, 4.5]) for i in range(12)]
    found = open_annotations(results(*entries), ImageFinder())
    assert found.told == ()
    assert found.read("7").instances.boxes[2].tolist() == [10, 0.5, 14.5, 8.5]
    # Half and half: nobody can know.
    entries = [found_object(left=i, top=12 - i, corners=i % 2 == 0) for i in range(12)]
    found = open_annotations(results(*entries), ImageFinder())
    assert "fit the masks neither" in found.told[0]
    assert found.read("7").instances.boxes.tolist() == found.read("7").instances.windows.tolist()


def test_boxes_only(results: Callable[..., Path], tmp_path: Path) -> None:
    path = results(found_object(segmentation=None), found_object(segmentation=None, bbox=None))
    with pytest.raises(DataError, match="image was not found"):
        open_annotations(path, ImageFinder()).read("7")
    PIL.Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "7.png")
    found = open_annotations(path, ImageFinder([tmp_path]))
    assert found.told == (
        "1 object with a box only: taken for rectangles", "1 object without an outline or a box: left out",
    )  # fmt: skip
    assert found.read("7").instances.windows.tolist() == [[3, 4, 8, 9]]


def test_broken_results(results: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no list of COCO results"):
        open_annotations(results({"category_id": 1}), ImageFinder())
    (tmp_path / "a.json").write_text('{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}')
    assert not recognise(tmp_path / "a.json")
    with pytest.raises(DataError, match="no list of COCO results"):
        open_annotations(tmp_path / "a.json", ImageFinder())
    path = results(found_object(), found_object(segmentation={"size": [20, 30], "counts": "~"}))
    with pytest.raises(LabelError, match="broken") as caught:
        open_annotations(path, ImageFinder()).read("7")
    assert str(caught.value.where).endswith("results.json, image 7, annotation number 2 of the image")
    other = found_object(segmentation={"size": [2, 3], "counts": [6]})
    with pytest.raises(LabelError, match="another size"):
        open_annotations(results(found_object(), other), ImageFinder()).read("7")
    found = open_annotations(path, ImageFinder())
    results(found_object(image_id=8), found_object(image_id=8))
    with pytest.raises(DataError, match="changed"):
        found.read("7")
    one = Annotation("a", Instances.from_labels(np.array([[1]])))
    with pytest.raises(DataError, match="two images have one name"):
        write_annotations(tmp_path / "b.json", [one, one], ["object"])
    assert not (tmp_path / "b.json").exists()
