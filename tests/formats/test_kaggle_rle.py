"""Kaggle's run-length tables: there and back, the competitions' own code, and what is broken."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import HealthCheck, given, settings

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.kaggle_rle import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.instances import Instances

from . import annotation_examples as examples

HOLDS = ANNOTATION_FORMATS["kaggle-rle"].holds


def opened(path: Path, *places: Path) -> AnnotationSet:
    return open_annotations(path, ImageFinder(places))


def table(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train.csv"
    path.write_bytes(text.encode())
    return path


def write_images(folder: Path, given_: list[Annotation]) -> None:
    for one in given_:
        path = folder / f"{one.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.zeros(one.instances.shape, np.uint8)).save(path)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(given_=examples.annotations(HOLDS))
def test_what_it_holds_comes_back(tmp_path: Path, given_: list[Annotation]) -> None:
    path = tmp_path / "a.csv"
    write_images(tmp_path / "images", given_)
    write_annotations(path, iter(given_), ["object"])
    assert recognise(path)
    found = pickle.loads(pickle.dumps(opened(path, tmp_path / "images")))
    assert found.names == tuple(a.name for a in given_)
    assert (found.told, found.classes) == ((), ("object",))
    for back, one in zip(found, given_, strict=True):
        examples.assert_same(back, one, HOLDS)
    first = path.read_bytes()
    write_annotations(path, found, found.classes)
    assert path.read_bytes() == first


def test_the_competitions_own_rule(tmp_path: Path) -> None:
    # Data Science Bowl 2018, evaluation page: "1 3" is pixels 1, 2, 3; pixels are numbered from top to bottom, then
    # left to right, from 1.
    path = table(tmp_path, "ImageId,EncodedPixels,Height,Width,Usage\na,1 3 10 5,4,5,Private\na,20 1,4,5,Private\n")
    one = opened(path).read("a")
    expected = np.zeros(20, int)
    expected[[0, 1, 2, 9, 10, 11, 12, 13]] = 1
    expected[19] = 2
    np.testing.assert_array_equal(one.instances.to_labels(), expected.reshape(5, 4).T)
    assert one.facts == {"usage": "Private"}
    assert recognise_format(path) is ANNOTATION_FORMATS["kaggle-rle"]
    write_annotations(tmp_path / "b.csv", [one], ["object"])
    assert (tmp_path / "b.csv").read_text() == "ImageId,EncodedPixels\na,1 3 10 5\na,20 1\n"


def test_sartorius(tmp_path: Path) -> None:
    # Sartorius 2021, train.csv: pixels are numbered from left to right, then top to bottom, from 1.
    path = table(
        tmp_path,
        "id,annotation,width,height,cell_type,plate_time,sample_date,sample_id,elapsed_timedelta\r\n"
        "0030fd,1 3 10 5,5,4,shsy5y,11h30m00s,2019-06-16,shsy5y[diff]_E10-4_Vessel-714,0 days 11:30:00\r\n"
        "0140b3,20 1,5,4,astro,09h00m00s,2019-06-17,astros_E8-1_Vessel-716,0 days 09:00:00\r\n"
        "0030fd,20 1,5,4,shsy5y,11h30m00s,2019-06-16,shsy5y[diff]_E10-4_Vessel-714,0 days 11:30:00\r\n",
    )
    assert recognise(path)
    found = opened(path)
    assert found.names == ("0030fd", "0140b3")
    assert found.classes == ("astro", "shsy5y")
    assert found.told == ("the runs go along the rows of pixels, as in the Sartorius competition",)
    one = found.read("0030fd")
    expected = np.zeros(20, int)
    expected[[0, 1, 2, 9, 10, 11, 12, 13]] = 1
    expected[19] = 2
    np.testing.assert_array_equal(one.instances.to_labels(), expected.reshape(4, 5))
    assert one.instances.classes.tolist() == [2, 2]
    assert one.facts["sample_date"] == "2019-06-16"
    assert found.read("0140b3").instances.classes.tolist() == [1]


def test_what_files_look_like(tmp_path: Path) -> None:
    quoted = '\ufeff"ImageId";"EncodedPixels";"Height";"Width"\r\n"a ""b"";c.png";"1 2";2;3\r\n\r\n"d";"";2;3\r\n'
    found = opened(table(tmp_path, quoted))
    assert found.names == ('a "b";c', "d")
    assert found.read('a "b";c').instances.areas().tolist() == [2]
    assert len(found.read("d").instances) == 0
    # Runs need not be in order; one object of many runs is longer than the csv module's limit for a cell.
    runs = " ".join(f"{2 * i + 1} 1" for i in reversed(range(20_000)))
    found = opened(table(tmp_path, f'imageid\tENCODEDPIXELS\theight\twidth\na\t"{runs}"\t200\t200'))
    assert found.read("a").instances.areas().tolist() == [20_000]
    for strange in ("", "a,b\n", "ImageId,Pixels\n", "id,annotation\n", '{"ImageId,EncodedPixels": 1}\n'):
        path = table(tmp_path, strange)
        assert not recognise(path)
        with pytest.raises(DataError, match="no run-length table"):
            opened(path)
    (tmp_path / "a.csv").write_bytes(bytes(range(256)))
    assert not recognise(tmp_path / "a.csv")
    assert not recognise(tmp_path)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("1 2 3", "ends within a pair"),
        ("1 x", "not made of whole numbers"),
        ("1 1.5", "not made of whole numbers"),
        (f"1 {10**20}", "not made of whole numbers"),
        ("0 1", "start 0, length 1"),
        ("6 2", "start 6, length 2"),
        ("2 0", "start 2, length 0"),
        (f"2 {2**63 - 1}", "not inside the image"),
        (f"{2**63 - 1} 5", "not inside the image"),
        ("-3 2", "start -3, length 2"),
        ("1 3 3 1", "the run from 1 to 3, and one from 3"),
        ("4 1 4 1", "two runs of one object overlap"),
    ],
)
def test_broken_runs(tmp_path: Path, runs: str, message: str) -> None:
    found = opened(table(tmp_path, f"ImageId,EncodedPixels,Height,Width\na,1 1,2,3\nb,1 1,2,3\n\na,{runs},2,3\n"))
    assert found.read("b").instances.areas().tolist() == [1]
    with pytest.raises(LabelError) as caught:
        found.read("a")
    assert message in str(caught.value)
    assert str(caught.value.where).endswith("train.csv, line 5 (image a)")


def test_broken_tables(tmp_path: Path) -> None:
    head = "ImageId,EncodedPixels,Height,Width\n"
    for rows, message in (
        ("a,1 1,2,3\na,2 1,2,4\n", "two rows tell different sizes"),
        (",1 1,2,3\n", "names no image"),
        ("a,1 1,2,x\n", "size of an image is not understood"),
        ("a,1 1,2\n", "size of an image is not understood"),
        ("a.png,1 1,2,3\na.tif,1 1,2,3\n", "cannot be told apart"),
    ):
        with pytest.raises(DataError, match=message):
            opened(table(tmp_path, head + rows))
    (tmp_path / "train.csv").write_bytes(head.encode() + "ü,1 1,2,3\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        opened(tmp_path / "train.csv")
    with pytest.raises(DataError, match="image was not found"):
        opened(table(tmp_path, "ImageId,EncodedPixels\na,1 1\n")).read("a")
    found = opened(table(tmp_path, head + "a,1 1,2,3\n"))
    table(tmp_path, head + "b,1 1,2,3\n")
    with pytest.raises(DataError, match="changed"):
        found.read("a")


def test_what_cannot_be_written(tmp_path: Path) -> None:
    def one(name: str) -> Annotation:
        return Annotation(name, Instances.from_labels(np.array([[1]])))

    for given_, message in (([one("a"), one("a")], "two images have one name"), ([one("a\nb")], "does not fit")):
        with pytest.raises(DataError, match=message):
            write_annotations(tmp_path / "a.csv", given_, ["object"])
    assert list(tmp_path.iterdir()) == []


def test_real_masks_there_and_back(shared_data: Path, tmp_path: Path) -> None:
    from cytomask.formats.label_images import read_labels

    files = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[:5]
    given_ = [Annotation(f.stem, Instances.from_labels(read_labels(f))) for f in files]
    write_annotations(tmp_path / "a.csv", given_, ["object"])
    found = opened(tmp_path / "a.csv", shared_data / "nuclei" / "images")
    for back, one in zip(found, given_, strict=True):
        assert back.instances.to_rle() == one.instances.to_rle()
        assert back.image is not None
        assert back.image.name == f"{one.name}.png"
