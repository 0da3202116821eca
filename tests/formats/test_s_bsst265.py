"""S-BSST265's layout: label images or drawings, the description of the images, and there and back."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from PIL import Image as Picture
from PIL import ImageDraw

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.open_annotations import open_annotations as open_any
from cytomask.formats.annotations.open_annotations import recognise_format
from cytomask.formats.annotations.s_bsst265 import open_annotations, recognise, write_annotations
from cytomask.instances import Instances

from .annotation_examples import annotations
from .label_round_trips import told

HOLDS = ANNOTATION_FORMATS["s-bsst265"].holds
NO_IMAGES = ImageFinder([])

# As the data set's own program makes drawings, and Adobe Illustrator saves them again: a layer with the picture, empty
# ones, and as the fourth child the nuclei.
DRAWN = """<?xml version="1.0" encoding="utf-8"?>
<!-- Generator: Adobe Illustrator 22.0.1, SVG Export Plug-In . SVG Version: 6.00 Build 0)  -->
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg version="1.1" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" x="0px" y="0px"
  width="40px" height="30px" viewBox="0 0 40 30" style="enable-background:new 0 0 40 30;" xml:space="preserve">
<style type="text/css">.st0{opacity:0.4;}.st1{fill:#00FF00;stroke:#800080;}</style>
<g id="raw"><image style="overflow:visible;" width="40" height="30" xlink:href="NAME.jpg"></image></g>
<g id="proposals" style="display:none"><polygon points="0,0 9,0 9,9"/></g>
<g id="nuclei" class="st0">
  <polygon class="st1" points="3,4 12,4 12,12 3,12 "/>
  <polygon class="st1" points="10,10 20,10 20,18 10,18 "/>
  <path class="st1" d="M30,20c2.8,0,5-2.2,5-5s-2.2-5-5-5s-5,2.2-5,5S27.2,20,30,20z"/>
  <polygon class="st1" points="1,1 2,2 "/>
</g>
</svg>
"""
# Columns and values in the form of the data set's table, in the encoding of Windows.
TABLE = (
    "Image_Name;Diagnosis;Preparation;Train-/Testset split;Testset class;Magnification;Modality;Device;Software;"
    "Mean BG signal;Mean FG signal;Signal/Noise;S/N Class\r\n"
    "Neuroblastoma_1;Neuroblastoma;Tumor touch imprint;test;NB-IV;63x;FM;Zeiss Axioplan II;Metafer;"
    "9,6;98,8;10,3;>=4.<40\r\n"
    "normal_26;HaCaT (größer);cytospin;train;-;20x;LSM;;;;;;<4\r\n"
    "missing_3;x;y;train;-;20x;LSM;;;;;;<4\r\n"
).encode("cp1252")


def dataset(root: Path, labels: tuple[str, ...] = (), drawings: tuple[str, ...] = ()) -> Path:
    for part in ("rawimages", "groundtruth", "groundtruth_svgs"):
        (root / part).mkdir(parents=True)
    for name in {*labels, *drawings}:
        tifffile.imwrite(root / "rawimages" / f"{name}.tif", np.zeros((30, 40), np.uint8), photometric="minisblack")
    for name in labels:
        numbers = np.zeros((30, 40), np.uint16)
        numbers[4:12, 3:12] = 17
        tifffile.imwrite(root / "groundtruth" / f"{name}.tif", numbers, photometric="minisblack")
    for name in drawings:
        (root / "groundtruth_svgs" / f"{name}.svg").write_text(DRAWN.replace("NAME", name), encoding="utf-8")
    (root / "image_description.csv").write_bytes(TABLE)
    return root


def test_label_images_count_where_there_are_any(tmp_path):
    root = dataset(tmp_path / "dataset", ("Neuroblastoma_1",), ("Neuroblastoma_1", "normal_26"))
    row = recognise_format(root)
    assert row is not None
    assert row.name == "s-bsst265"
    for path in (root, tmp_path):
        found = open_any(path, "s-bsst265")
        assert found.names == ("Neuroblastoma_1", "normal_26")
        assert found.read("Neuroblastoma_1").instances.ids.tolist() == [17]
        assert len(found.read("normal_26").instances) == 3
        assert found.read("normal_26").image == root / "rawimages" / "normal_26.tif"
    assert any("read from their drawings: 1 " in sentence for sentence in found.told)
    assert pickle.loads(pickle.dumps(found.read))("normal_26").name == "normal_26"


def test_the_folder_of_drawings_asks_for_them(tmp_path):
    root = dataset(tmp_path, ("Neuroblastoma_1",), ("Neuroblastoma_1",))
    path = root / "groundtruth_svgs"
    row = recognise_format(path)
    assert row is not None
    assert row.name == "s-bsst265"
    (found,) = open_any(path)
    assert found.image == root / "rawimages" / "Neuroblastoma_1.tif"
    assert found.facts["split"] == "test"
    objects = found.instances
    # Outlines run along pixels' edges here: the pixel (y, x) covers what lies from x to x + 1 and from y to y + 1.
    expected = np.zeros((30, 40), bool)
    expected[4:12, 3:12] = True
    np.testing.assert_array_equal(objects.full_mask(0), expected)
    expected[:] = False
    expected[10:18, 10:20] = True
    np.testing.assert_array_equal(objects.full_mask(1), expected)  # overlaps the first
    y, x = np.mgrid[:30, :40] + 0.5
    np.testing.assert_array_equal(objects.full_mask(2), np.hypot(y - 15, x - 30) < 5)


def test_facts_of_the_table(tmp_path):
    found = open_annotations(dataset(tmp_path, ("Neuroblastoma_1", "normal_26")), NO_IMAGES)
    facts = found.read("Neuroblastoma_1").facts
    assert facts == found.facts["Neuroblastoma_1"] == {
        "Diagnosis": "Neuroblastoma", "Preparation": "Tumor touch imprint", "Train-/Testset split": "test",
        "Testset class": "NB-IV", "Magnification": "63x", "Modality": "FM", "Device": "Zeiss Axioplan II",
        "Software": "Metafer", "Mean BG signal": "9,6", "Mean FG signal": "98,8", "Signal/Noise": "10,3",
        "S/N Class": ">=4.<40", "split": "test",
    }  # fmt: skip
    assert found.facts["normal_26"]["Diagnosis"] == "HaCaT (größer)"
    assert found.facts["normal_26"]["split"] == "train"
    assert any("other images are passed over: 1" in sentence for sentence in found.told)


@pytest.mark.parametrize(
    "text",
    [
        "Image_Name,Modality\nnormal_26,FM\n", "\ufeffimage_name;Modality\r\nnormal_26.tif;FM\r\n",
        "name\tModality\nnormal_26\tFM", '\nImage_Name;Modality;\n"normal_26";"FM";\n\n',
    ],
)  # fmt: skip
def test_tables_of_other_programs(text, tmp_path):
    root = dataset(tmp_path, ("normal_26",))
    (root / "image_description.csv").write_text(text, encoding="utf-8", newline="")
    assert open_annotations(root, NO_IMAGES).facts == {"normal_26": {"Modality": "FM"}}


def test_an_image_with_two_rows_is_refused(tmp_path):
    root = dataset(tmp_path, ("normal_26",))
    (root / "image_description.csv").write_text("Image_Name;x\nnormal_26;1\nnormal_26.tif;2\n")
    with pytest.raises(DataError, match="two rows"):
        open_annotations(root, NO_IMAGES)


def test_other_folders_are_not_recognised(tmp_path):
    assert not recognise(tmp_path)
    assert not recognise(tmp_path / "nowhere")
    (tmp_path / "groundtruth").mkdir()
    tifffile.imwrite(tmp_path / "groundtruth" / "a.tif", np.zeros((3, 4), np.uint8), photometric="minisblack")
    assert not recognise(tmp_path)  # a folder of label images that happens to be called so
    (tmp_path / "image_description.csv").write_text("Image_Name\na\n")
    assert recognise(tmp_path)


def test_layers(tmp_path):
    root = dataset(tmp_path, drawings=("normal_26",))
    path = root / "groundtruth_svgs" / "normal_26.svg"
    read = open_annotations(root, NO_IMAGES).read

    path.write_text(DRAWN.replace("display:none", ""))
    assert len(read("normal_26").instances) == 3  # those of the fourth child
    path.write_text(DRAWN.replace("display:none", "").replace('<g id="raw">', '<g id="more"/><g id="raw">'))
    (found,) = {len(read("normal_26").instances)}
    assert found == 1  # now the proposals are the fourth
    more = "".join(f'<g><polygon points="{k},1 9,1 9,9"/></g>' for k in range(2))
    path.write_text(f'<svg width="40" height="30">{more}</svg>')
    with pytest.raises(LabelError, match="several layers"):
        read("normal_26")
    path.write_text(f'<svg width="40" height="30">{more.replace("<g>", "").replace("</g>", "")}</svg>')
    assert len(read("normal_26").instances) == 2
    path.write_text(DRAWN.replace('id="nuclei"', 'display="none"'))
    with pytest.raises(LabelError, match="hidden"):
        read("normal_26")


def test_a_nucleus_that_covers_no_centre_is_left_out(tmp_path):
    root = dataset(tmp_path, drawings=("normal_26",))
    small, outside = (f'<polygon points="{points}"/>' for points in ("1.1,1.1 1.4,1.1 1.4,1.4", "90,1 99,1 99,9"))
    text = f'<svg width="40" height="30">{small}{outside}</svg>'
    (root / "groundtruth_svgs" / "normal_26.svg").write_text(text)
    assert len(open_annotations(root, NO_IMAGES).read("normal_26").instances) == 0


@settings(max_examples=60, deadline=None)
@given(given_=annotations(HOLDS))
def test_what_is_written_comes_back(given_, tmp_path_factory):
    place = tmp_path_factory.mktemp("bsst265") / "out"
    write_annotations(place, given_, ("object",))
    found = open_annotations(place, NO_IMAGES)
    assert sorted(found.names) == sorted(a.name for a in given_)
    by_name = {a.name: a for a in given_}
    for back in found:
        assert back.instances.shape == by_name[back.name].instances.shape
        assert told(back.instances, HOLDS) == told(by_name[back.name].instances, HOLDS)
        assert dict(back.facts) == {"tissue": "Herz", "stain": "H&E"}


def test_what_is_written_is_what_the_data_sets_own_converter_reads(tmp_path):
    # It takes the root's fourth child, and from each element there the attribute "points", in the drawing's pixels.
    objects = Instances.from_labels(np.kron(np.arange(12).reshape(3, 4), np.ones((5, 6), int)))
    write_annotations(tmp_path / "out", [Annotation("a", objects)], ("object",))
    root = ElementTree.parse(tmp_path / "out" / "groundtruth_svgs" / "a.svg").getroot()
    size = tuple(int(root.get(side).split("px")[0]) for side in ("width", "height"))
    labels = np.zeros(size[::-1], int)
    for number, child in enumerate(list(root)[3], 1):
        points = [tuple(float(n) for n in pair.split(",")) for pair in child.get("points").split()]
        picture = Picture.new("L", size)
        ImageDraw.Draw(picture).polygon([(x, y) for x, y in points], fill=1)
        labels[np.asarray(picture) > 0] = number
    agree = (labels > 0) == (objects.to_labels() > 0)
    assert agree.mean() > 0.8  # its polygons reach half a pixel further


def test_all_folders_are_written(tmp_path):
    image = tmp_path / "x.png"
    Picture.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50).save(image)
    objects = Instances.from_crops((30, 40), [np.ones((9, 9), bool)] * 2, [(2, 3), (6, 7)], ids=[5, 9])
    given_ = [
        Annotation("n/a", objects, image=image, facts={"split": "train", "Modality": "FM", "stain": "DA\nPI; x"}),
        Annotation("b", Instances.empty((4, 6))),
    ]
    write_annotations(tmp_path / "out", given_, ("object",))
    out = tmp_path / "out"
    assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.*")) == [
        "groundtruth/b.tif", "groundtruth/n/a.tif", "groundtruth_svgs/b.svg", "groundtruth_svgs/n/a.jpg",
        "groundtruth_svgs/n/a.svg", "image_description.csv", "rawimages/n/a.tif",
    ]  # fmt: skip
    np.testing.assert_array_equal(tifffile.imread(out / "groundtruth" / "n" / "a.tif"), objects.to_labels())
    np.testing.assert_array_equal(tifffile.imread(out / "rawimages" / "n" / "a.tif"), np.asarray(Picture.open(image)))
    view = Picture.open(out / "groundtruth_svgs" / "n" / "a.jpg")
    assert (view.size, view.mode) == ((40, 30), "L")
    assert np.asarray(view)[0, 0] < 9
    assert np.asarray(view)[-1, -1] > 246
    rows = list(csv.DictReader((out / "image_description.csv").read_text(encoding="utf-8").splitlines(), delimiter=";"))
    assert rows[0]["Image_Name"] == "n/a"
    assert (rows[0]["Train-/Testset split"], rows[0]["Testset class"], rows[0]["stain"]) == ("train", "-", "DA PI; x")
    found = open_annotations(out, NO_IMAGES)
    assert any("outlines follow the pixels" in sentence for sentence in found.told)
    assert found.read("n/a").instances.areas().tolist() == [81, 81]
    assert found.read("n/a").instances.ids.tolist() == [5, 9]
    assert found.read("n/a").facts["split"] == "train"
    assert found.read("n/a").image == out / "rawimages" / "n" / "a.tif"


def test_the_same_input_gives_the_same_bytes(tmp_path):
    objects = Instances.from_labels(np.array([[1, 1, 2], [0, 2, 2]]))
    for place in ("a", "b"):
        write_annotations(tmp_path / place, [Annotation("x", objects, facts={"b": "1", "a": "2"})], ("object",))
    written = [{p.name: p.read_bytes() for p in (tmp_path / place).rglob("*.*")} for place in ("a", "b")]
    assert written[0] == written[1]


def test_an_exact_drawing_of_another_image_is_refused(tmp_path):
    root = tmp_path / "out"
    write_annotations(root, [Annotation("x", Instances.from_labels(np.array([[1, 1, 2], [0, 2, 2]])))], ("object",))
    tifffile.imwrite(root / "rawimages" / "x.tif", np.zeros((4, 6), np.uint8), photometric="minisblack")
    with pytest.raises(LabelError, match="not of this image"):
        open_annotations(root, NO_IMAGES).read("x")


@pytest.mark.parametrize("name", ['a"b', "a<b", "x\x01"])
def test_names_that_are_no_file_names_are_refused(name, tmp_path):
    with pytest.raises(DataError, match="cannot be a file's name"):
        write_annotations(tmp_path / "out", [Annotation(name, Instances.empty((2, 2)))], ("object",))


def test_real_nuclei_there_and_back(shared_data, tmp_path):
    found = open_any(shared_data / "histology" / "labels", "labels", [shared_data / "histology" / "images"])
    some = [found.read(name) for name in found.names[:2]]
    write_annotations(tmp_path / "out", some, ("object",))
    back = open_annotations(tmp_path / "out", NO_IMAGES)
    assert [told(a.instances, HOLDS) for a in back] == [told(a.instances, HOLDS) for a in some]
    assert all(a.image is not None for a in back)
