"""Files that are made to break a reader, or to take all memory or time: each is refused with one clear error, at once.

Every row is a few lines long, so that what it asks for cannot be meant. Most were found by changing valid files at
random.
"""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cytomask.errors import CytomaskError, LabelError
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.json_elements import look
from cytomask.formats.annotations.open_annotations import open_annotations
from cytomask.instances import Instances

FAR = 90_000
HUGE = 10**400
SQUARE = [0, 0, FAR, 0, FAR, FAR, 0, FAR]
TOO_MUCH = "far more than what is told"


def coco(segmentations: list, height: int = FAR, width: int = FAR) -> str:
    image = {"id": 1, "file_name": "a.tif", "height": height, "width": width}
    entries = [{"id": i + 7, "image_id": 1, "category_id": 1, "segmentation": s} for i, s in enumerate(segmentations)]
    return json.dumps({"images": [image], "annotations": entries, "categories": [{"id": 1, "name": "cell"}]})


def results(**members: object) -> str:
    return json.dumps([{"image_id": 1, "category_id": 1, "score": 0.5, "segmentation": [SQUARE], **members}])


def cvat(shapes: str, head: str = '<?xml version="1.0"?>', size: int = FAR) -> str:
    image = f'<image id="0" name="a.tif" width="{size}" height="{size}">{shapes}</image>'
    return f"{head}<annotations><version>1.1</version>{image}</annotations>"


def labelbox(thing: dict, size: int = FAR) -> str:
    label = {"annotations": {"objects": [{"name": "cell", **thing}]}}
    data = {"id": "x", "external_id": "a.tif"}
    media = {"height": size, "width": size}
    return json.dumps({"data_row": data, "media_attributes": media, "projects": {"p": {"labels": [label]}}}) + "\n"


def geojson(ring: list) -> str:
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    return json.dumps({"type": "FeatureCollection", "features": [feature]})


def zigzag(far: float, count: int) -> list[list[float]]:
    return [[i % 7, far * (i % 2)] for i in range(count)]


def svg(body: str, size: str = f'width="{FAR}" height="{FAR}"') -> str:
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{body}</svg>'


CODE = {"size": [2**16, 2**17], "counts": [0, 2**33]}
CORNERS = {"size": [2**16, 2**17], "counts": [0, 1, 2**33 - 2, 1]}
HOSTILE = {
    # More pixels than memory has, or than can be filled before anybody gives up.
    "coco image": ("coco", "a.json", coco([[SQUARE]]), TOO_MUCH),
    "coco side": ("coco", "a.json", coco([[SQUARE]], 2**33, 1), "size of an image is impossible"),
    "coco many": ("coco", "a.json", coco([[SQUARE]] * 200, 16_000, 16_000), TOO_MUCH),
    "coco pieces": ("coco", "a.json", coco([[SQUARE] * 500], 16_000, 16_000), TOO_MUCH),
    "coco zigzag": ("coco", "a.json", coco([[[v for p in zigzag(1e6, 4000) for v in p]]], 100, 100), TOO_MUCH),
    "coco code": ("coco", "a.json", coco([CODE], *CODE["size"]), TOO_MUCH),
    "coco corners": ("coco", "a.json", coco([CORNERS], *CODE["size"]), TOO_MUCH),
    "results code": ("coco-results", "a.json", results(segmentation=CODE), TOO_MUCH),
    "kaggle": ("kaggle-rle", "a.csv", f"ImageId,EncodedPixels,Height,Width\na,1 {2**33},{2**16},{2**17}\n", TOO_MUCH),
    "cvat box": ("cvat", "a.xml", cvat('<box label="c" xtl="0" ytl="0" xbr="80000" ybr="80000"/>'), TOO_MUCH),
    "cvat ellipse": ("cvat", "a.xml", cvat('<ellipse label="c" cx="9e3" cy="9e3" rx="9e3" ry="9e3"/>'), TOO_MUCH),
    "cvat mask": (
        "cvat", "a.xml", cvat(f'<mask label="c" left="0" top="0" width="{FAR}" height="{FAR}" rle="0, {FAR**2}"/>'),
        TOO_MUCH,
    ),
    "cvat image": ("cvat", "a.xml", cvat("", size=10**9), "without name or size"),
    "labelbox": (
        "labelbox", "a.ndjson", labelbox({"bounding_box": {"top": 0, "left": 0, "height": FAR, "width": FAR}}), TOO_MUCH
    ),
    "labelbox image": ("labelbox", "a.ndjson", labelbox({"polygon": []}, 10**9), "no size"),
    "svg": ("s-bsst265", "groundtruth_svgs/a.svg", svg(f'<path d="M0 0H{FAR}V{FAR}H0z"/>'), TOO_MUCH),
    "svg image": ("s-bsst265", "groundtruth_svgs/a.svg", svg("", 'width="9e6" height="9e6"'), "no size that an image"),
    "svg zigzag": (
        "s-bsst265", "groundtruth_svgs/a.svg", svg(f'<path d="M0 0{"L5 9e4L9 0" * 5000}z"/>', 'width="9" height="9e4"'),
        TOO_MUCH,
    ),
    # Numbers and texts that Python and numpy stumble over.
    "coco counts in counts": ("coco", "a.json", coco([{"size": [9, 9], "counts": [5, [1]]}], 9, 9), "not as COCO"),
    "coco half a letter": ("coco", "a.json", coco([{"size": [9, 9], "counts": "\ud800"}], 9, 9), "code is broken"),
    "coco endless size": ("coco", "a.json", coco([{"size": [9, 1e999], "counts": "1"}], 9, 9), "not as COCO"),
    "coco huge coordinate": ("coco", "a.json", coco([[[0, 0, HUGE, 0, 5, 5]]], 9, 9), "not made of numbers"),
    "labelbox huge": ("labelbox", "a.ndjson", labelbox({"polygon": [{"x": HUGE, "y": 1}] * 3}, 9), "not as Labelbox"),
    "qupath huge": ("qupath", "a.geojson", geojson([[0, 0], [HUGE, 0], [5, 5]]), "not as GeoJSON"),
    "cvat encoding": ("cvat", "a.xml", cvat("", '<?xml version="1.0" encoding="elvish"?>'), "encoding"),
    "svg negative picture": (
        "s-bsst265", "groundtruth_svgs/a.svg", svg('<image width="-5" height="5"/>', 'width="-9" height="9"'), "neither"
    ),
}  # fmt: skip


def one_image(place: Path, format: str, name: str, content: str) -> Path:
    path = place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    if format == "qupath":
        tifffile.imwrite(place / "a.tif", np.zeros((9, 9), np.uint8), photometric="minisblack")
    return place if format == "s-bsst265" else path


@pytest.mark.parametrize(("format", "name", "content", "match"), list(HOSTILE.values()), ids=list(HOSTILE))
def test_what_cannot_be_meant_is_refused(format, name, content, match, tmp_path):
    path = one_image(tmp_path, format, name, content)
    with pytest.raises(CytomaskError, match=match) as error:
        for _ in open_annotations(path, format, [tmp_path / "a.tif"] if format == "qupath" else ()):
            pass
    assert tmp_path.name in str(error.value.where)


def test_polygons_of_coco_may_be_text(tmp_path):
    path = one_image(tmp_path, "coco", "a.json", coco([[["1", "1", "4", "1", "4", "3", "1", "3"]]], 9, 9))
    assert open_annotations(path, "coco").read("a").instances.areas().tolist() == [6]


def test_scores_that_no_float_holds_are_no_scores(tmp_path):
    square = [{"x": x, "y": y} for x, y in ((1, 1), (4, 1), (4, 4))]
    path = one_image(tmp_path, "labelbox", "a.ndjson", labelbox({"polygon": square, "confidence": HUGE}, 9))
    assert open_annotations(path, "labelbox").read("a").instances.scores.tolist() == [1]


def test_categories_that_are_no_numbers_or_endless_are_sorted(tmp_path):
    keys = ["²", "1" * 5000, "9", "10"]
    square = [[0, 0, 2, 0, 2, 2, 0, 2]]
    entries = [{"image_id": 1, "category_id": k, "segmentation": square, "score": 1} for k in keys]
    path = one_image(tmp_path, "coco-results", "a.json", json.dumps(entries))
    found = open_annotations(path, "coco-results", [tmp_path])
    assert found.classes == ("class 9", "class 10", f"class {'1' * 5000}", "class ²")


@pytest.mark.parametrize("place", [10, 30, 40, -30, -10, -60])
def test_a_broken_zip_is_read_or_refused(place, tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", coco([[[0, 0, 2, 0, 2, 2]]], 9, 9))
    data = bytearray(path.read_bytes())
    data[place : place + 8] = b"\xff" * len(data[place : place + 8])
    path.write_bytes(data)
    look(path)
    with suppress(CytomaskError):
        list(open_annotations(path, "coco"))


@pytest.mark.parametrize("format", ["labels", "class-labels", "masks", "s-bsst265", "cellpose"])
def test_no_label_image_is_made_of_an_impossible_size(format, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(coco([[[0, 0, 2, 0, 2, 2]]]))
    with pytest.raises(LabelError, match="too large for a label image"):
        ANNOTATION_FORMATS[format].load().write_annotations(tmp_path / "out", open_annotations(path, "coco"), ["cell"])
    assert not (tmp_path / "out").exists()


def test_large_slides_cost_their_objects_only(tmp_path):
    """Polygons, codes and boxes on a slide of 10^10 pixels."""
    square = [[99_000, 70_000, 99_009, 70_000, 99_009, 70_004, 99_000, 70_004]]
    path = one_image(tmp_path, "coco", "a.json", coco([square], 100_000, 100_000))
    found = open_annotations(path, "coco").read("a").instances
    assert (found.areas().tolist(), found.windows.tolist()) == ([36], [[70_000, 99_000, 70_004, 99_009]])
    again = Instances.from_coco(found.shape, found.to_rle())
    assert again.windows.tolist() == found.windows.tolist()


def test_a_damaged_class_file_is_refused(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    tifffile.imwrite(folder / "class1.tif", np.ones((9, 9), np.uint8), photometric="minisblack", metadata=None)
    data = (folder / "class1.tif").read_bytes()
    (folder / "class2.tif").write_bytes(data[:6])
    with pytest.raises(LabelError, match="cut off"):
        list(open_annotations(tmp_path, "class-labels"))


def test_a_curve_through_points_that_are_nowhere_is_refused(tmp_path):
    from roifile import ROI_OPTIONS, ImagejRoi

    roi = ImagejRoi.frompoints(np.array([[1, 1], [5, 1.5], [3, 5]], np.float32))
    roi.subpixel_coordinates[1, 0] = np.nan
    roi.options |= ROI_OPTIONS.SPLINE_FIT
    (tmp_path / "a.roi").write_bytes(roi.tobytes())
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8), photometric="minisblack")
    with pytest.raises(LabelError, match="outline is broken"):
        list(open_annotations(tmp_path / "a.roi", "imagej-rois", [tmp_path]))
