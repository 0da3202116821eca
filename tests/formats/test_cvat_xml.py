"""CVAT's XML: a file in the form of an export, what each shape covers, what is refused, there and back."""

from __future__ import annotations

import codecs
import pickle
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.cvat_shapes import row_runs
from cytomask.formats.annotations.cvat_xml import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances

from .annotation_examples import annotations, assert_same

HOLDS = ANNOTATION_FORMATS["cvat"].holds
NO_IMAGES = ImageFinder([])
#: In the form of CVAT 2's export of a project, as docs.cvat.ai tells it under "XML annotation format".
EXPORT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <project>
      <id>4</id>
      <name>cells</name>
      <tasks><task><id>7</id><name>first</name><size>3</size></task></tasks>
      <labels>
        <label>
          <name>nucleus</name>
          <color>#fa3253</color>
          <type>any</type>
          <attributes>
            <attribute><name>phase</name><mutable>False</mutable><input_type>text</input_type></attribute>
          </attributes>
        </label>
        <label><name>cell</name><color>#000000</color><type>polygon</type><attributes></attributes></label>
        <label><name>blurred</name><color>#000000</color><type>tag</type><attributes></attributes></label>
        <label><name>body</name><type>skeleton</type></label>
        <label><name>1</name><type>points</type><parent>body</parent></label>
      </labels>
    </project>
    <dumped>2024-03-01 12:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="plate 1/a.ome.tif" subset="Train" task_id="7" width="12" height="10">
    <mask label="nucleus" source="manual" occluded="1" rle="1, 2, 2, 1" left="3" top="4" width="3" height="2"
          z_order="1">
      <attribute name="phase">mitosis &amp; more</attribute>
    </mask>
    <polygon label="cell" source="manual" occluded="0" points="2.00,3.00;8.00,3.00;8.00,7.00;2.00,7.00" z_order="0">
    </polygon>
    <polyline label="cell" source="manual" occluded="0" points="2.00,3.00;8.00,3.00" z_order="0"></polyline>
    <tag label="blurred" source="manual"></tag>
    <skeleton label="body" source="manual" z_order="0"><points label="1" outside="0" points="1,1"></points></skeleton>
  </image>
  <image id="1" name="b.png" subset="Train" task_id="7" width="3" height="2">
  </image>
  <image id="2" name="c.png" subset="Test" task_id="7" width="6" height="6"/>
</annotations>
"""


def one_image(shapes: str, width: int = 12, height: int = 10) -> str:
    return f'<annotations><image id="0" name="a.png" width="{width}" height="{height}">{shapes}</image></annotations>'


def read_one(folder: Path, shapes: str, width: int = 12, height: int = 10) -> Instances:
    path = folder / "a.xml"
    path.write_text(one_image(shapes, width, height), encoding="utf-8")
    return open_annotations(path, NO_IMAGES).read("a").instances


def test_an_export(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(EXPORT, encoding="utf-8")
    assert recognise(tmp_path / "annotations.xml")
    # The folder of an unpacked export will do.
    assert recognise(tmp_path)
    found = open_annotations(tmp_path, NO_IMAGES)
    assert found.names == ("plate 1/a", "b", "c")
    assert found.classes == ("nucleus", "cell")
    assert found.told == (
        "elements that are no areas are passed over: 1 <polyline>",
        "elements that are no areas are passed over: 1 <tag>",
        "elements that are no areas are passed over: 1 <skeleton>",
        "attributes of objects are passed over: 1",
        "that objects are occluded is passed over: 1",
    )
    read = pickle.loads(pickle.dumps(found.read))
    first = read("plate 1/a")
    assert first.file_name == "plate 1/a.ome.tif"
    assert first.facts == {"split": "Train"}
    # The mask lies on top of the polygon, so it comes last.
    assert first.instances.classes.tolist() == [2, 1]
    expected = np.zeros((10, 12), int)
    expected[3:7, 2:8] = 1
    expected[4:6, 3:6] += [[0, 1, 1], [0, 0, 1]]
    np.testing.assert_array_equal(first.instances.to_labels(), expected)
    for name, shape in (("b", (2, 3)), ("c", (6, 6))):
        assert read(name).instances.shape == shape
        assert len(read(name).instances) == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "windows-1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings(tmp_path: Path, encoding: str, newline: str) -> None:
    declared = "utf-8" if encoding == "utf-8-sig" else "utf-16" if "16" in encoding else encoding
    text = EXPORT.replace("utf-8", declared).replace("nucleus", "Zellkörper").replace("\n", newline)
    # Long enough that the images are not in the first chunk.
    text = text.replace("<dumped>", "<!-- " + "ä" * 70_000 + " --><dumped>")
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b""
    (tmp_path / "a.xml").write_bytes(mark + text.encode(encoding))
    found = open_annotations(tmp_path / "a.xml", NO_IMAGES)
    assert recognise(tmp_path / "a.xml")
    assert found.classes == ("Zellkörper", "cell")
    assert found.read("plate 1/a").instances.areas().tolist() == [24, 3]
    assert len(found.read("c").instances) == 0


def test_labels_from_the_objects_alone(tmp_path: Path) -> None:
    box = '<box label="{}" xtl="0" ytl="0" xbr="1" ybr="1"/>'
    (tmp_path / "a.XML").write_text(one_image(box.format("x") + box.format("b") + box.format("x")))
    found = open_annotations(tmp_path / "a.XML", NO_IMAGES)
    assert found.classes == ("x", "b")
    assert found.read("a").instances.classes.tolist() == [1, 2, 1]
    (tmp_path / "a.xml").write_text(one_image(""))
    assert open_annotations(tmp_path / "a.xml", NO_IMAGES).classes == ("object",)


def test_boxes(tmp_path: Path) -> None:
    turned = (
        '<box label="x" xtl="1.00" ytl="4.00" xbr="9.00" ybr="6.00"/>'
        '<box label="x" xtl="1.00" ytl="4.00" xbr="9.00" ybr="6.00" rotation="90.00"/>'
        '<box label="x" xtl="2.5" ytl="-3" xbr="4.4" ybr="1.5"/>'
        '<box label="x" xtl="2" ytl="2" xbr="8" ybr="8" rotation="45"/>'
    )
    objects = read_one(tmp_path, turned)
    assert objects.windows[:3].tolist() == [[4, 1, 6, 9], [1, 4, 9, 6], [0, 2, 1, 4]]
    assert objects.areas()[:3].tolist() == [16, 16, 2]
    # A square on its corner: the centres within 3 * sqrt(2) of the middle, as the crow does not fly.
    y, x = np.mgrid[:10, :12] + 0.5
    np.testing.assert_array_equal(objects.full_mask(3), abs(y - 5) + abs(x - 5) < 3 * 2**0.5)


def test_turning_is_clockwise(tmp_path: Path) -> None:
    # A lying bar, turned by a little, sinks on its right side.
    objects = read_one(
        tmp_path,
        '<box label="x" xtl="0" ytl="4" xbr="12" ybr="6" rotation="20"/>'
        '<ellipse label="x" cx="6" cy="5" rx="6" ry="1" rotation="20"/>',
    )
    for i in range(2):
        y, x = np.nonzero(objects.full_mask(i))
        assert y[x > 8].mean() > 5 > y[x < 4].mean()


def test_ellipses(tmp_path: Path) -> None:
    objects = read_one(
        tmp_path,
        '<ellipse label="x" cx="5" cy="4" rx="3" ry="2"/><ellipse label="x" cx="5" cy="4" rx="2" ry="3" rotation="90"/>'
        '<ellipse label="x" cx="0" cy="0" rx="1" ry="1"/><ellipse label="x" cx="50" cy="50" rx="1" ry="1"/>'
        '<ellipse label="x" cx="50" cy="50" rx="0" ry="1"/><ellipse label="x" cx="5" cy="5" rx="1e300" ry="1e300"/>',
    )
    y, x = np.mgrid[:10, :12] + 0.5
    np.testing.assert_array_equal(objects.full_mask(0), ((x - 5) / 3) ** 2 + ((y - 4) / 2) ** 2 <= 1)
    np.testing.assert_array_equal(objects.full_mask(1), objects.full_mask(0))
    assert objects.areas()[2:].tolist() == [1, 0, 0, 120]


def test_groups_join_shapes_of_one_label(tmp_path: Path) -> None:
    box = '<box label="{}" group_id="{}" xtl="{}" ytl="0" xbr="{}" ybr="1"/>'
    shapes = [("x", 1, 0, 2), ("y", 1, 0, 1), ("x", 2, 5, 6), ("x", 1, 1, 3), ("x", 0, 8, 9), ("x", 0, 9, 10)]
    mask = '<mask label="x" group_id="2" rle="0, 1" left="7" top="2" width="1" height="1"/>'
    (tmp_path / "a.xml").write_text(one_image("".join(box.format(*s) for s in shapes) + mask))
    found = open_annotations(tmp_path / "a.xml", NO_IMAGES)
    objects = found.read("a").instances
    assert objects.classes.tolist() == [1, 2, 1, 1, 1]
    assert objects.areas().tolist() == [3, 1, 2, 1, 1]
    assert objects.windows[2].tolist() == [0, 5, 3, 8]
    assert found.told == ("shapes of one group and label are one object: 5 shapes are in groups",)


def test_masks_beyond_the_border_are_cut(tmp_path: Path) -> None:
    mask = '<mask label="x" rle="0, 12" left="{}" top="{}" width="4" height="3"/>'
    objects = read_one(tmp_path, "".join(mask.format(*p) for p in [(-1, -1), (10, 8), (40, 40), (-9, 0)]))
    assert objects.windows[:2].tolist() == [[0, 0, 2, 3], [8, 10, 10, 12]]
    assert objects.areas().tolist() == [6, 4, 0, 0]


@given(mask=hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_runs(mask: np.ndarray) -> None:
    runs = row_runs(mask)
    np.testing.assert_array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask.ravel())
    assert all(runs[1:])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=annotations(HOLDS))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, given: list[Annotation]) -> None:
    path = tmp_path_factory.mktemp("cvat") / "a.xml"
    classes = given[0].instances.class_names
    write_annotations(path, iter(given), classes)
    assert recognise(path)
    found = open_annotations(path, NO_IMAGES)
    assert found.names == tuple(annotation.name for annotation in given)
    assert found.classes == classes
    assert found.told == ()
    for annotation in given:
        back = found.read(annotation.name)
        assert_same(back, annotation, HOLDS)
        assert back.file_name == f"{annotation.name}.tif"


def test_what_cvat_reads(tmp_path: Path) -> None:
    # CVAT's importer takes int() of each of these attributes, and of the numbers between commas.
    mask = np.array([[0, 1, 1], [1, 0, 1]], bool)
    objects = Instances.from_crops((9, 9), [np.zeros((1, 1), bool), mask], [(0, 0), (4, 3)], class_names=('a "b" <c>',))
    given = Annotation("x/y", objects, file_name="y.tif", facts={"split": "val"})
    write_annotations(tmp_path / "a.xml", [given], objects.class_names)
    write_annotations(tmp_path / "b.xml", [given], objects.class_names)
    assert (tmp_path / "a.xml").read_bytes() == (tmp_path / "b.xml").read_bytes()
    root = ElementTree.parse(tmp_path / "a.xml").getroot()
    assert [e.text for e in root.iterfind("meta/task/labels/label/name")] == ['a "b" <c>']
    (image,) = root.iterfind("image")
    assert image.attrib == {"id": "0", "name": "x/y.tif", "subset": "val", "width": "9", "height": "9"}
    (written,) = image
    assert written.tag == "mask"
    # An object without pixels is left out.
    assert written.attrib == {
        "label": 'a "b" <c>', "source": "file", "occluded": "0", "rle": "1, 3, 1, 1", "left": "3", "top": "4",
        "width": "3", "height": "2", "z_order": "0",
    }  # fmt: skip
    assert open_annotations(tmp_path / "a.xml", NO_IMAGES).read("x/y").facts == {"split": "val"}


def test_names_and_images(tmp_path: Path) -> None:
    nothing = Instances.empty((2, 2))
    for name in ("a\0", "a\ud800"):
        with pytest.raises(DataError, match="characters that XML cannot hold"):
            write_annotations(tmp_path / "a.xml", [Annotation(name, nothing)], ("object",))
    with pytest.raises(DataError, match="two images have the same name"):
        write_annotations(tmp_path / "a.xml", [Annotation("a", nothing)] * 2, ("object",))
    assert not list(tmp_path.iterdir())
    odd = ('a & "b"', "tab\there", "x.png", "line\r\nbreak")
    write_annotations(tmp_path / "a.xml", [Annotation(name, nothing) for name in odd], odd)
    found = open_annotations(tmp_path / "a.xml", NO_IMAGES)
    assert found.names == odd
    assert found.classes == odd


def test_one_name_in_two_subsets(tmp_path: Path) -> None:
    image = '<image id="0" name="a.png" subset="{}" width="2" height="2"/>'
    path = tmp_path / "a.xml"
    path.write_text(f"<annotations>{image.format('Train')}{image.format('Test')}</annotations>")
    assert open_annotations(path, NO_IMAGES).names == ("Train/a", "Test/a")
    path.write_text(f"<annotations>{image.format('Train')}{image.format('Train')}</annotations>")
    with pytest.raises(DataError, match="two images have the same name"):
        open_annotations(path, NO_IMAGES)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ('<polygon label="x" points="1,1;2,2"/>', "three points"),
        ('<polygon label="x" points="1,1;2,b;3,3"/>', "three points"),
        ('<polygon label="x" points="1,1;2;3,3"/>', "three points"),
        ('<polygon label="x" points="1,1;2,nan;3,3"/>', "three points"),
        ('<polygon label="x"/>', "no attribute points"),
        ('<box xtl="0" ytl="0" xbr="1" ybr="1"/>', "no attribute label"),
        ('<box label="x" xtl="0" ytl="0" xbr="inf" ybr="1"/>', "xbr='inf'"),
        ('<mask label="x" rle="1, 2" left="0" top="0" width="2" height="2"/>', "of 3 pixels"),
        ('<mask label="x" rle="1, 9" left="0" top="0" width="2" height="2"/>', "of 10 pixels"),
        ('<mask label="x" rle="5, -1" left="0" top="0" width="2" height="2"/>', "of 4 pixels"),
        ('<mask label="x" rle="" left="0" top="0" width="2" height="2"/>', "of 0 pixels"),
        ('<mask label="x" rle="1, x" left="0" top="0" width="2" height="2"/>', "whole numbers"),
        ('<mask label="x" rle="1, 3" left="0.5" top="0" width="2" height="2"/>', "left='0.5'"),
        ('<mask label="x" rle="0" left="0" top="0" width="0" height="2"/>', "a box of 0 x 2"),
        ('<mask label="x" rle="9" left="0" top="0" width="100000" height="100000"/>', "a box of 100000 x 100000"),
        (f'<mask label="x" rle="{2**70}" left="0" top="0" width="2" height="2"/>', "whole numbers"),
    ],
)
def test_broken_shapes(tmp_path: Path, shape: str, found: str) -> None:
    with pytest.raises(LabelError, match="not as CVAT writes it") as caught:
        read_one(tmp_path, '\n\n<box label="x" xtl="0" ytl="0" xbr="1" ybr="1"/>' + shape)
    assert found in str(caught.value)
    assert "a.png, line 3, <" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "not proper XML"),
        (EXPORT[:1500], "not proper XML"),
        (EXPORT.replace('width="3"', ""), "without name or size"),
        (EXPORT.replace('width="3"', 'width="-3"'), "without name or size"),
        (EXPORT.replace('width="3"', 'width="9999999999"'), "without name or size"),
        (EXPORT.replace('name="b.png"', 'name="../.."'), "without name or size"),
        (EXPORT.replace("mitosis &amp; more", "&unknown;"), "not proper XML"),
        ("<svg></svg>", "no XML of CVAT"),
        ("<annotations><track id='0' label='x'></track></annotations>", "CVAT for video"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "a.xml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=what):
        open_annotations(tmp_path / "a.xml", NO_IMAGES)


def test_document_types_and_entities_are_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    bomb = "".join(f'<!ENTITY b{i} "{f"&b{i - 1};" * 10}">' for i in range(1, 10))
    for declaration in (
        f'<!DOCTYPE annotations [<!ENTITY b0 "ha">{bomb}]>',
        f'<!DOCTYPE annotations [<!ENTITY b9 SYSTEM "{secret.as_uri()}">]>',
        '<!DOCTYPE annotations SYSTEM "http://localhost/a.dtd">',
    ):
        text = EXPORT.replace("<annotations>", declaration + "<annotations>").replace("mitosis", "&b9;")
        (tmp_path / "a.xml").write_text(text)
        with pytest.raises(DataError, match="declares a document type or entities"):
            open_annotations(tmp_path / "a.xml", NO_IMAGES)


def test_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(EXPORT)
    found = open_annotations(path, NO_IMAGES)
    path.write_text(EXPORT.replace("<version>", "<versions/><version>"))
    with pytest.raises(LabelError, match="has changed since it was opened"):
        found.read("b")
    path.unlink()
    with pytest.raises(LabelError, match="cannot be read"):
        found.read("b")
    with pytest.raises(DataError, match="cannot be read"):
        open_annotations(path, NO_IMAGES)
    assert not recognise(path)


def test_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[6:9]
    given = [Annotation(f"x/{p.stem}", Instances.from_labels(read_labels(p)), file_name=p.name) for p in paths]
    write_annotations(tmp_path / "a.xml", given, ("object",))
    found = open_annotations(tmp_path / "a.xml", ImageFinder([shared_data / "nuclei" / "images"]))
    for annotation in given:
        back = found.read(annotation.name)
        assert len(back.instances) > 0
        assert_same(back, annotation, HOLDS)
        assert back.image == shared_data / "nuclei" / "images" / str(annotation.file_name)
