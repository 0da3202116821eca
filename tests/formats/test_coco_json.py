"""COCO JSON: there and back, pycocotools' masks, and what other programs write."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings
from pycocotools.coco import COCO

from cytomask.errors import DataError, LabelError, OutputError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.coco_json import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.instances import Instances

from . import annotation_examples as examples

HOLDS = ANNOTATION_FORMATS["coco"].holds
SQUARE = [[1, 1, 3, 1, 3, 3, 1, 3]]


def opened(path: Path, *places: Path) -> AnnotationSet:
    return open_annotations(path, ImageFinder(places))


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes a COCO file of one image, 6 x 5, and one square, with some of it replaced."""

    def write(**changes: Any) -> Path:
        whole = {
            "images": [{"id": 3, "file_name": "a.tif", "height": 6, "width": 5}],
            "annotations": [{"id": 8, "image_id": 3, "category_id": 2, "segmentation": SQUARE, "iscrowd": 0}],
            "categories": [{"id": 2, "name": "nucleus"}],
        }
        path = tmp_path / "coco.json"
        path.write_text(json.dumps({k: v for k, v in {**whole, **changes}.items() if v is not None}), encoding="utf-8")
        return path

    return write


def annotation(**entries: Any) -> dict[str, Any]:
    return {"id": 8, "image_id": 3, "category_id": 2, "segmentation": SQUARE, **entries}


def as_text(code: dict[str, Any]) -> str:
    """pycocotools gives bytes or text, as it was given."""
    return code["counts"] if isinstance(code["counts"], str) else code["counts"].decode()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(given_=examples.annotations(HOLDS, empty_masks=True))
def test_what_it_holds_comes_back(tmp_path: Path, given_: list[Annotation]) -> None:
    path = tmp_path / "a.json"
    write_annotations(path, iter(given_), examples.CLASSES)
    assert recognise(path)
    found = opened(path)
    assert found.names == tuple(a.name for a in given_)
    assert found.classes == examples.CLASSES
    assert found.told == ()
    for back, one in zip(found, given_, strict=True):
        examples.assert_same(back, one, HOLDS)
        assert back.facts == {**one.facts, "coco_id": back.facts["coco_id"]}
        full = one.instances.areas() > 0
        np.testing.assert_array_equal(back.instances.boxes[full], one.instances.boxes[full])
    first = path.read_bytes()
    # What was read is written to the same bytes.
    write_annotations(path, found, found.classes)
    assert path.read_bytes() == first


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_pycocotools_reads_what_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    given_ = [examples.one_annotation(rng, name, 8) for name in "abcdef"]
    write_annotations(tmp_path / "a.json", given_, examples.CLASSES)
    theirs = COCO(str(tmp_path / "a.json"))
    assert [c["name"] for c in theirs.loadCats(theirs.getCatIds())] == list(examples.CLASSES)
    assert len(theirs.anns) == 48
    kinds = set()
    for image_id, one in zip(theirs.getImgIds(), given_, strict=True):
        image, objects = theirs.imgs[image_id], one.instances
        assert (image["file_name"], image["height"], image["width"]) == (one.file_name, *objects.shape)
        for i, entry in enumerate(theirs.imgToAnns[image_id]):
            mask = theirs.annToMask(entry)
            np.testing.assert_array_equal(mask, objects.full_mask(i))
            ys, xs = np.nonzero(mask)
            assert entry["area"] == mask.sum()
            assert entry["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert entry["category_id"] == objects.classes[i]
            assert entry["iscrowd"] == (objects.ids[i] in one.crowd)
            kinds.add((entry["iscrowd"], type(entry["segmentation"]).__name__))
            if entry["iscrowd"]:
                assert isinstance(entry["segmentation"]["counts"], list)
    assert kinds == {(0, "list"), (0, "dict"), (1, "dict")}


def test_objects_without_holes_are_polygons(tmp_path: Path) -> None:
    labels = np.zeros((9, 12), int)
    labels[1:4, 1:5] = 1
    # In two pieces that meet in a corner, then with a hole.
    labels[4:6, 5:7] = 1
    labels[5:9, 8:12] = 2
    labels[6, 9] = 0
    write_annotations(tmp_path / "a.json", [Annotation("a", Instances.from_labels(labels))], ["object"])
    first, second = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert first["segmentation"] == [[1, 1, 5, 1, 5, 4, 1, 4], [5, 4, 7, 4, 7, 6, 5, 6]]
    assert set(second["segmentation"]) == {"size", "counts"}
    assert isinstance(second["segmentation"]["counts"], str)


@pytest.mark.parametrize("name", ["livecell/train.json", "livecell/val.json", "platelet_em/val.json"])
def test_real_masks_are_those_of_pycocotools(
    shared_data: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared_data / name
    theirs = COCO(str(path))
    assert recognise_format(path) is ANNOTATION_FORMATS["coco"]
    found = pickle.loads(pickle.dumps(opened(path, path.parent)))
    assert len(found) == len(theirs.imgs)
    for one in found:
        (image_id,) = (i for i, entry in theirs.imgs.items() if entry["file_name"] == one.file_name)
        entries = theirs.imgToAnns[image_id]
        assert one.image is not None
        assert one.image.name == one.file_name
        assert one.instances.ids.tolist() == [entry["id"] for entry in entries]
        codes = [theirs.annToRLE(entry) for entry in entries]
        assert [code["counts"] for code in one.instances.to_rle()] == [as_text(code) for code in codes]
        boxes = np.array([entry["bbox"] for entry in entries])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(one.instances.boxes, boxes[:, [1, 0, 3, 2]], rtol=1e-6)
    # And again, from our own file.
    write_annotations(tmp_path / "a.json", found, found.classes)
    ours = COCO(str(tmp_path / "a.json"))
    assert ours.imgs.keys() == theirs.imgs.keys()
    assert ours.anns.keys() == theirs.anns.keys()
    for number in list(theirs.anns)[::7]:
        assert as_text(ours.annToRLE(ours.anns[number])) == as_text(theirs.annToRLE(theirs.anns[number]))


def test_livecell_variant(tmp_path: Path) -> None:
    # LIVECell's files of single cell types hold dictionaries by id, with ids as text here and there.
    whole = {
        "images": {"3": {"id": "3", "file_name": "a.tif", "height": "6", "width": 5.0}},
        "annotations": {"11": {"image_id": 3, "category_id": "1", "segmentation": SQUARE[0]},
                        "12": {"id": 12, "image_id": 3.0, "category_id": 1, "segmentation": [[1, 1], [3, 1], [3, 3]]}},
    }  # fmt: skip
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(whole, indent=1).replace("\n", "\r\n").encode())
    assert recognise(path)
    found = opened(path)
    assert found.classes == ("object",)
    assert found.told == ()
    (one,) = found
    assert one.instances.ids.tolist() == [11, 12]
    assert one.instances.shape == (6, 5)
    assert one.instances.areas().tolist() == [4, 1]
    assert np.argwhere(one.instances.full_mask(0)).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_categories_in_the_order_of_their_ids(coco: Callable[..., Path]) -> None:
    categories = [{"id": 10, "name": "cell"}, {"id": 7, "name": "debris"}, {"id": 90, "name": "cell"}]
    entries = [annotation(id=i, category_id=c) for i, c in enumerate([90, 7, 10], start=1)]
    found = opened(coco(categories=categories, annotations=entries))
    assert found.classes == ("debris", "cell (10)", "cell (90)")
    assert found.told == (
        "several categories are called cell: they stay apart, with their numbers behind the name",
        "the file's categories are numbered from 1: 7 is 1 (debris), 10 is 2 (cell (10)), 90 is 3 (cell (90))",
    )
    assert found.read("a").instances.classes.tolist() == [3, 1, 2]


def test_categories_without_a_list(coco: Callable[..., Path]) -> None:
    entries = [annotation(id=i, category_id=c) for i, c in enumerate([5, 0], start=1)]
    found = opened(coco(categories=None, annotations=entries))
    assert found.classes == ("class 0", "class 5")
    assert found.read("a").instances.classes.tolist() == [2, 1]
    assert "does not name its categories" in found.told[0]
    entry = {k: v for k, v in annotation().items() if k != "category_id"}
    found = opened(coco(annotations=[entry]))
    assert found.read("a").instances.classes.tolist() == [1]
    assert found.told[-1] == "1 annotation without a category: taken for nucleus"
    with pytest.raises(LabelError, match="does not list") as caught:
        opened(coco(annotations=[annotation(category_id=3)])).read("a")
    assert "annotation 8" in str(caught.value.where)


def test_boxes_only(coco: Callable[..., Path]) -> None:
    entries = [
        {"id": 1, "image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 2]},
        annotation(id=2, segmentation=[], bbox=[0, 0, 5, 6]),
        annotation(id=3, segmentation=None, bbox=None),
        annotation(id=4, segmentation=[[1, 1, 2, 2]]),
        annotation(id=5, segmentation=[[1, 1, 2, 2], *SQUARE]),
    ]
    found = opened(coco(annotations=entries))
    objects = found.read("a").instances
    assert objects.ids.tolist() == [1, 2, 5]
    assert objects.areas().tolist() == [6, 30, 4]
    assert objects.windows.tolist() == [[2, 1, 4, 4], [0, 0, 6, 5], [1, 1, 3, 3]]
    assert found.told[1:] == (
        "2 annotations with a box only: taken for rectangles",
        "pieces with fewer than three points cover nothing and are left out: in 1 annotation",
        "2 annotations without an outline or a box: left out",
    )


def test_boxes_that_do_not_fit_are_not_believed(coco: Callable[..., Path]) -> None:
    # The second is x, y, x, y.
    entries = [annotation(id=1, bbox=[0.5, 1, 2.5, 2.25]), annotation(id=2, bbox=[1, 1, 6, 6])]
    objects = opened(coco(annotations=entries)).read("a").instances
    assert objects.boxes.tolist() == [[1, 0.5, 3.25, 3], [1, 1, 3, 3]]


def test_sizes(coco: Callable[..., Path], tmp_path: Path) -> None:
    path = coco(images=[{"id": 3, "file_name": "x/a.png"}])
    with pytest.raises(DataError, match="image was not found"):
        opened(path).read("x/a")
    (tmp_path / "images" / "x").mkdir(parents=True)
    PIL.Image.fromarray(np.zeros((4, 7), np.uint8)).save(tmp_path / "images" / "x" / "a.png")
    one = opened(path, tmp_path / "images").read("x/a")
    assert one.instances.shape == (4, 7)
    assert one.image == tmp_path / "images" / "x" / "a.png"
    code = {"size": [3, 2], "counts": [1, 2, 3]}
    path = coco(images=[{"id": 3, "file_name": "x/a.png"}], annotations=[annotation(segmentation=code)])
    assert opened(path).read("x/a").instances.shape == (3, 2)
    with pytest.raises(LabelError, match="size of an image is impossible"):
        opened(coco(images=[{"id": 3, "file_name": "a", "width": 10**9, "height": 10**9}]))


def test_run_length_codes(coco: Callable[..., Path]) -> None:
    codes = [{"size": [6, 5], "counts": [7, 2, 21]}, {"counts": "7200"}, [{"size": [6, 5], "counts": [0, 30]}]]
    entries = [annotation(id=i, segmentation=c, iscrowd=i - 1) for i, c in enumerate(codes[:1], start=1)]
    entries += [annotation(id=2, segmentation={"counts": [7, 2, 21]}, iscrowd=1)]
    entries += [annotation(id=3, segmentation=codes[2])]
    one = opened(coco(annotations=entries)).read("a")
    assert one.instances.areas().tolist() == [2, 2, 30]
    assert np.argwhere(one.instances.full_mask(0)).tolist() == [[1, 1], [2, 1]]
    assert one.crowd == {2}


def test_scores(coco: Callable[..., Path]) -> None:
    entries = [annotation(id=1, score=0.25), annotation(id=2), annotation(id=3, score=None)]
    assert opened(coco(annotations=entries)).read("a").instances.scores.tolist() == [0.25, 1, 1]
    with pytest.raises(LabelError, match="score of an annotation"):
        opened(coco(annotations=[annotation(score="high")])).read("a")


@pytest.mark.parametrize("ids", [[4, 4], [1, 0], [1, -5], [1, 2**31], [1, None], [1, "x"], [1, 1.5]])
def test_ids_that_cannot_be_kept(coco: Callable[..., Path], ids: list[Any]) -> None:
    images = [{"id": i, "file_name": f"{i}.tif", "height": 6, "width": 5} for i in (3, 4)]
    entries = [annotation(id=i) for i in ids] + [annotation(id=9, image_id=4)]
    found = opened(coco(images=images, annotations=entries))
    assert found.read("3").instances.ids.tolist() == [1, 2]
    assert found.read("4").instances.ids.tolist() == [9]
    assert "annotations of 1 image are numbered anew" in found.told[-1]


def test_images_without_annotations_and_the_other_way_round(coco: Callable[..., Path]) -> None:
    images = [{"id": i, "file_name": f"{i}.tif", "height": 6, "width": 5} for i in (9, 3)]
    found = opened(coco(images=images, annotations=[annotation(image_id=77), annotation(), annotation(image_id=78)]))
    assert [(one.name, len(one.instances)) for one in found] == [("9", 0), ("3", 1)]
    assert found.told[-1] == "2 annotations of images that the file does not list: image_id 77, 78"
    with pytest.raises(DataError, match="all annotations are of images"):
        opened(coco(annotations=[annotation(image_id=77)]))
    assert len(opened(coco(annotations=[])).read("a").instances) == 0


def test_names(coco: Callable[..., Path]) -> None:
    def names(*files: Any) -> tuple[str, ...]:
        return opened(
            coco(images=[{"id": i + 3, "file_name": f, "height": 6, "width": 5} for i, f in enumerate(files)])
        ).names

    assert names("x/a.tif", "y\\a.tif", "../../b.tif", "/c/d.ome.tif") == ("x/a", "y/a", "b", "c/d")
    assert names("a.tif", "a.png", "b.png") == ("a.tif", "a.png", "b")
    assert names(None, "") == ("3", "4")
    with pytest.raises(DataError, match="cannot be told apart"):
        names("a.tif", "./a.tif")
    image = {"id": 3, "file_name": "a.tif", "height": 6, "width": 5}
    assert opened(coco(images=[image, image])).names == ("a",)
    with pytest.raises(DataError, match="cannot be told apart"):
        opened(coco(images=[image, {**image, "file_name": "b.tif"}]))


def test_facts_and_licences(coco: Callable[..., Path], tmp_path: Path) -> None:
    image = {"id": 3, "file_name": "a.tif", "height": 6, "width": 5, "license": 2, "tissue": "liver", "stack": [1]}
    path = coco(images=[image], licenses=[{"id": 1, "name": "x"}, {"id": 2, "name": "CC0"}])
    found = opened(path)
    assert found.read("a").facts == {"coco_id": "3", "tissue": "liver", "license": "CC0"}
    write_annotations(tmp_path / "b.json", found, found.classes)
    whole = json.loads((tmp_path / "b.json").read_text())
    assert whole["licenses"] == [{"id": 1, "name": "CC0", "url": ""}]
    assert whole["images"] == [
        {"id": 3, "file_name": "a.tif", "width": 5, "height": 6, "license": 1, "tissue": "liver"}
    ]
    assert opened(tmp_path / "b.json").read("a").facts == found.read("a").facts


def test_ids_of_images_and_annotations_stay_unique(tmp_path: Path) -> None:
    objects = Instances.from_labels(np.array([[1, 2, 7]]))
    later = Instances.from_labels(np.array([[8, 9, 0]]))
    given_ = [
        Annotation("a", objects, facts={"coco_id": "5"}), Annotation("b", objects, facts={"coco_id": "5"}),
        Annotation("c", objects), Annotation("d", later), Annotation("e", later, facts={"coco_id": "2"}),
    ]  # fmt: skip
    write_annotations(tmp_path / "a.json", given_, ["object"])
    whole = json.loads((tmp_path / "a.json").read_text())
    assert [image["id"] for image in whole["images"]] == [5, 6, 3, 4, 2]
    numbers = [entry["id"] for entry in whole["annotations"]]
    assert numbers == [1, 2, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
    for back, one in zip(opened(tmp_path / "a.json"), given_, strict=True):
        assert back.instances.ids.tolist() == one.instances.ids.tolist()


def test_what_cannot_be_written(tmp_path: Path) -> None:
    one = Annotation("a", Instances.from_labels(np.array([[1]])))
    with pytest.raises(DataError, match="two images have one name"):
        write_annotations(tmp_path / "a.json", [one, one], ["object"])
    with pytest.raises(LabelError, match="not among those to write"):
        write_annotations(tmp_path / "a.json", [one], ["cell"])
    with pytest.raises(OutputError):
        write_annotations(tmp_path / "missing" / "a.json", [one], ["object"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 3, 1, 3, 3, 1]], "not a list of points"),
        ([[1, 1, 3, "a", 3, 3]], "not made of numbers"),
        ([[1, 1, 3, 1e9, 3, 3]], "points that are nowhere"),
        ("7200", "not a list of pieces"),
        ({"size": [5, 6], "counts": [7, 2, 21]}, "of another size"),
        ({"size": [6, 5], "counts": [7, 2]}, "does not fill its image"),
        ({"size": [6, 5], "counts": "~~"}, "broken"),
    ],
)
def test_broken_annotations(coco: Callable[..., Path], segmentation: Any, message: str) -> None:
    entries = [annotation(id=1), annotation(id=17, segmentation=segmentation)]
    with pytest.raises(LabelError, match=message) as caught:
        opened(coco(annotations=entries)).read("a")
    assert str(caught.value.where).endswith("coco.json, image a.tif, annotation 17")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "lists no images"),
        ({"images": []}, "lists no images"),
        ({"images": "x"}, "neither a list nor a dictionary"),
        ({"images": [3]}, "no dictionary"),
        ({"images": [{"file_name": "a"}]}, "has no id"),
        ({"annotations": [{"id": 5, "segmentation": SQUARE}]}, "annotation 5 without image_id"),
    ],
)
def test_broken_files(coco: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(coco(**changes))
    assert message in str(caught.value)
    assert caught.value.where is not None


def test_what_is_recognised(coco: Callable[..., Path], tmp_path: Path) -> None:
    path = coco()
    assert recognise(path)
    assert recognise_format(path) is ANNOTATION_FORMATS["coco"]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.write(path, "annotations/instances_default.json")
    assert recognise(tmp_path / "a.zip")
    assert len(opened(tmp_path / "a.zip").read("a").instances) == 1
    assert recognise(coco(annotations=[]))
    # The record of a prediction has images and categories, too.
    record = '{"categories": [{"id": 1, "name": "a"}], "images": [{"image_id": 1, "name": "a"}]}'
    for strange in (
        "",
        "{",
        "[]",
        record,
        '{"images": [{"file": "a"}]}',
        '{"type": "FeatureCollection", "features": []}',
    ):
        (tmp_path / "b.json").write_text(strange)
        assert not recognise(tmp_path / "b.json")
    (tmp_path / "b.json").write_bytes(bytes(range(256)))
    assert not recognise(tmp_path / "b.json")
    assert not recognise(tmp_path)
    assert not recognise(tmp_path / "missing.json")
    shutil.copy(path, tmp_path / "c.txt")
    assert not recognise(tmp_path / "c.txt")


def test_a_file_that_changed(coco: Callable[..., Path]) -> None:
    found = opened(coco())
    coco(annotations=[annotation(image_id=4)])
    with pytest.raises(DataError, match="changed since"):
        found.read("a")
