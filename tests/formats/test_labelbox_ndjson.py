"""Labelbox's NDJSON: exports and imports in their form, what each object covers, what is refused, there and back."""

from __future__ import annotations

import base64
import io
import json
import pickle
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image as Picture

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.labelbox_ndjson import open_annotations, recognise, write_annotations
from cytomask.formats.annotations.labelbox_objects import one_outline
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances

from .annotation_examples import annotations, assert_same

HOLDS = ANNOTATION_FORMATS["labelbox"].holds
NO_IMAGES = ImageFinder([])


def points(*places: tuple[float, float]) -> list[dict[str, float]]:
    return [{"x": x, "y": y} for x, y in places]


#: Exports repeat the first point at the end.
SQUARE = points((2, 1), (6, 1), (6, 4), (2, 4), (2, 1))


def picture(pixels: Any) -> str:
    stream = io.BytesIO()
    Picture.fromarray(np.asarray(pixels, np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def tool(name: str, kind: str, **area: Any) -> dict[str, Any]:
    return {"feature_id": f"id of {name}", "name": name, "annotation_kind": kind, "classifications": [], **area}


def export_row(*objects: Any, name: str = "a.tif", **more: Any) -> dict[str, Any]:
    label = {
        "label_kind": "Default", "version": "1.0.0", "id": "clst",
        "annotations": {"objects": list(objects), "classifications": [], "relationships": []},
    }  # fmt: skip
    return {
        "data_row": {"id": f"id-{name}", "external_id": name, "row_data": f"https://example.org/{name}?x=1"},
        "media_attributes": {"height": 10, "width": 12, "mime_type": "image/tiff", "exif_rotation": "1"},
        "projects": {"clpr": {"name": "cells", "labels": [label]}},
    } | more


def write(folder: Path, *rows: Any, name: str = "a.ndjson") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_an_export(tmp_path: Path) -> None:
    # In the form of Labelbox's documentation "Export image annotations".
    objects = [
        tool("nucleus", "ImagePolygon", polygon=SQUARE),
        tool("cell", "ImageBoundingBox", bounding_box={"top": 5.0, "left": 0.0, "height": 2.4, "width": 3.0}),
        tool("tip", "ImagePoint", point={"x": 1, "y": 2}),
        tool("axon", "ImagePolyline", line=points((1, 1), (2, 2))),
    ]
    objects[0]["classifications"] = [{"name": "phase", "radio_answer": {"name": "mitosis"}}]
    tissue = [{"schema_id": "s", "schema_name": "tissue", "schema_kind": "CustomMetadataString", "value": "heart"}]
    path = write(tmp_path, export_row(*objects, metadata_fields=tissue), export_row(name="b/c.ome.tif"))
    assert recognise(path)
    found = open_annotations(path, NO_IMAGES)
    assert found.names == ("a", "b/c")
    assert found.classes == ("cell", "nucleus")
    assert found.told == ("points, lines and the like are passed over: 2", "classifications are passed over: 1")
    read = pickle.loads(pickle.dumps(found.read))
    first, second = read("a"), read("b/c")
    expected = np.zeros((10, 12), int)
    expected[1:4, 2:6] = 1
    expected[5:7, 0:3] = 2
    np.testing.assert_array_equal(first.instances.to_labels(), expected)
    assert first.instances.classes.tolist() == [2, 1]
    assert first.file_name == "a.tif"
    assert first.facts == {"tissue": "heart"}
    assert len(second.instances) == 0
    assert second.instances.shape == (10, 12)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_list_of_rows(tmp_path: Path, indent: int | None) -> None:
    rows = [export_row(tool("ü", "ImagePolygon", polygon=SQUARE)), export_row(name="b.tif")]
    (tmp_path / "a.json").write_text(json.dumps(rows, ensure_ascii=False, indent=indent), encoding="utf-8")
    assert recognise(tmp_path / "a.json")
    found = open_annotations(tmp_path / "a.json", NO_IMAGES)
    assert found.names == ("a", "b")
    assert found.classes == ("ü",)
    assert found.read("a").instances.areas().tolist() == [12]


def test_marks_line_ends_and_empty_lines(tmp_path: Path) -> None:
    lines = [json.dumps(export_row(tool("x", "ImagePolygon", polygon=SQUARE), name=n)) for n in ("a.png", "b.png")]
    (tmp_path / "a.NDJSON").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(lines).encode())
    assert recognise(tmp_path / "a.NDJSON")
    found = open_annotations(tmp_path / "a.NDJSON", NO_IMAGES)
    assert [found.read(name).instances.areas().tolist() for name in found.names] == [[12], [12]]


def test_labels_of_several_people_and_of_nobody(tmp_path: Path) -> None:
    row = export_row(tool("x", "ImagePolygon", polygon=SQUARE))
    other = export_row(tool("y", "ImagePolygon", polygon=SQUARE), tool("y", "ImagePolygon", polygon=SQUARE))
    row["projects"]["clpr"]["labels"] += other["projects"]["clpr"]["labels"]
    nobody = export_row(name="b.tif")
    nobody["projects"]["clpr"]["labels"] = []
    found = open_annotations(write(tmp_path, row, nobody), NO_IMAGES)
    assert found.names == ("a",)
    assert found.classes == ("x",)
    assert len(found.read("a").instances) == 1
    assert found.told == (
        "images with several labels: 1; of each the first label is taken",
        "data rows without a label are left out: 1",
    )


def test_names_of_data_rows(tmp_path: Path) -> None:
    rows = [export_row() for _ in range(4)]
    del rows[0]["data_row"]["external_id"]
    rows[0]["data_row"]["row_data"] = "https://example.org/x%20y.png?token=a/b"
    rows[1]["data_row"] |= {"external_id": None, "global_key": "plate/z.tif"}
    rows[2]["data_row"] |= {"global_key": "first"}
    rows[3]["data_row"] |= {"global_key": "second"}
    found = open_annotations(write(tmp_path, *rows), NO_IMAGES)
    assert found.names == ("x y", "plate/z", "a", "second")
    with pytest.raises(DataError, match="two data rows have the same name"):
        open_annotations(write(tmp_path, rows[2], rows[2], rows[2]), NO_IMAGES)
    with pytest.raises(DataError, match="two images have the same name"):
        open_annotations(write(tmp_path, export_row(name="a.tif"), export_row(name="a.png")), NO_IMAGES)
    with pytest.raises(DataError, match="a data row has no name"):
        open_annotations(write(tmp_path, {**rows[0], "data_row": {"id": ".."}}), NO_IMAGES)


def test_what_labelbox_imports(tmp_path: Path) -> None:
    mask = np.zeros((10, 12))
    mask[2, 3:5] = mask[7, 7] = 1
    colours = np.zeros((10, 12, 3))
    colours[:2] = (255, 0, 0)
    colours[5:6] = (0, 255, 0)
    key = {"dataRow": {"globalKey": "a.tif"}}
    path = write(
        tmp_path,
        {"uuid": "u1", "name": "cell", "polygon": SQUARE, "confidence": 0.25, **key},
        {"name": "cell", "bbox": {"top": 0, "left": 0, "height": 1, "width": 2}, "dataRow": {"id": "b"}},
        {"name": "nucleus", "mask": {"png": picture(mask)}, "classifications": [], **key},
        {"name": "nucleus", "mask": {"imBytes": picture(255 * mask)}, **key},
        {"name": "cell", "mask": {"png": picture(colours), "colorRGB": [0, 255, 0]}, **key},
        {"name": "cell", "mask": {"instanceURI": "data:image/png;base64," + picture(colours)}, **key},
        {"name": "phase", "answer": {"name": "mitosis"}, **key},
    )
    assert recognise(path)
    found = open_annotations(path, NO_IMAGES)
    assert found.names == ("a", "b")
    objects = found.read("a").instances
    assert objects.class_names == ("cell", "nucleus")
    assert objects.classes.tolist() == [1, 2, 2, 1, 1]
    assert objects.scores.tolist() == [0.25, 1, 1, 1, 1]
    assert objects.areas().tolist() == [12, 3, 3, 12, 36]
    np.testing.assert_array_equal(objects.full_mask(1), mask != 0)
    np.testing.assert_array_equal(objects.full_mask(3), np.arange(10)[:, None] == 5 * np.ones((10, 12)))
    with pytest.raises(DataError, match="--images"):
        found.read("b")
    (tmp_path / "images").mkdir()
    Picture.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "images" / "b.png")
    back = open_annotations(path, ImageFinder([tmp_path / "images"])).read("b")
    assert back.instances.shape == (4, 5)
    assert back.image == tmp_path / "images" / "b.png"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=annotations(HOLDS))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, given: list[Annotation]) -> None:
    path = tmp_path_factory.mktemp("labelbox") / "a.ndjson"
    write_annotations(path, iter(given), given[0].instances.class_names)
    assert recognise(path)
    found = open_annotations(path, NO_IMAGES)
    assert found.names == tuple(annotation.name for annotation in given)
    assert found.told == ()
    for annotation in given:
        back = found.read(annotation.name)
        assert_same(back, annotation, HOLDS)
        assert back.facts == annotation.facts
        assert back.file_name == f"{annotation.name}.tif"


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=annotations(HOLDS))
def test_what_is_written_for_the_importer(tmp_path_factory: pytest.TempPathFactory, given: list[Annotation]) -> None:
    folder = tmp_path_factory.mktemp("labelbox")
    path = folder / "a.import.ndjson"
    write_annotations(path, iter(given), given[0].instances.class_names)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({uuid.UUID(row["uuid"]) for row in rows}) == sum(len(a.instances) for a in given)
    assert all(row.keys() - {"confidence"} == {"uuid", "dataRow", "name", "polygon"} for row in rows)
    if not rows:
        return
    for annotation in given:
        image = folder / "images" / f"{annotation.name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.zeros(annotation.instances.shape, np.uint8)).save(image)
    found = open_annotations(path, ImageFinder([folder / "images"]))
    for annotation in given:
        if len(annotation.instances):
            assert_same(found.read(annotation.name), annotation, (HOLDS - {"empty"}) | {"scores"})


def test_an_outline_with_holes_and_pieces(tmp_path: Path) -> None:
    mask = np.array([[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]], bool)
    objects = Instances.from_crops((9, 9), [mask], [(0, 0)], class_names=("two parts",))
    for name in ("a", "b"):
        write_annotations(tmp_path / f"{name}.ndjson", [Annotation("x", objects)], objects.class_names)
    assert (tmp_path / "a.ndjson").read_bytes() == (tmp_path / "b.ndjson").read_bytes()
    (row,) = map(json.loads, (tmp_path / "a.ndjson").read_text().splitlines())
    assert row["media_attributes"] == {"height": 9, "width": 9}
    (label,) = row["projects"]["cytomask"]["labels"]
    (item,) = label["annotations"]["objects"]
    assert (item["name"], item["value"], item["annotation_kind"]) == ("two parts", "two_parts", "ImagePolygon")
    corners = [(p["x"], p["y"]) for p in item["polygon"]]
    # The outline, the hole and the second piece with four corners each; and both ends of two lines there and back.
    assert len(corners) == 3 * 4 + 2 * 2
    assert {(0, 0), (3, 3), (1, 1), (2, 2), (4, 0), (5, 1)} <= set(corners)


def test_one_ring_stays_as_it_is() -> None:
    ring = Instances.from_labels(np.ones((2, 3), int)).to_polygons()[0]
    np.testing.assert_array_equal(one_outline(ring), ring[0])


def test_objects_without_pixels_and_images_of_one_name(tmp_path: Path) -> None:
    objects = Instances.from_crops((4, 4), [np.zeros((2, 2), bool), np.ones((1, 1), bool)], [(0, 0), (3, 3)])
    write_annotations(tmp_path / "a.ndjson", [Annotation("a", objects)], ("object",))
    assert open_annotations(tmp_path / "a.ndjson", NO_IMAGES).read("a").instances.areas().tolist() == [1]
    with pytest.raises(DataError, match="two images have the same name"):
        write_annotations(tmp_path / "b.ndjson", [Annotation("a", objects)] * 2, ("object",))
    assert [path.name for path in tmp_path.iterdir()] == ["a.ndjson"]


def test_masks_elsewhere_are_refused(tmp_path: Path) -> None:
    linked = tool("road", "ImageSegmentationMask", mask={"url": "https://api.labelbox.com/x.png"})
    with pytest.raises(DataError, match="not followed") as caught:
        open_annotations(write(tmp_path, export_row(), export_row(linked, name="b.tif")), NO_IMAGES)
    assert "a.ndjson, line 2" in str(caught.value)
    assert "road in b.tif" in str(caught.value)
    linked = {"name": "x", "dataRow": {"id": "1"}, "mask": {"instanceURI": "https://x", "colorRGB": [1, 1, 1]}}
    with pytest.raises(DataError, match="not followed"):
        open_annotations(write(tmp_path, linked), NO_IMAGES)


@pytest.mark.parametrize(
    "area",
    [
        {"polygon": points((1, 1), (2, 2))},
        {"polygon": [[1, 1], [2, 2], [3, 3]]},
        {"polygon": [{"x": 1}] * 3},
        {"polygon": [{"x": "a", "y": 1}] * 3},
        {"polygon": 5},
        {"polygon": [{"x": float("nan"), "y": 1}] * 3},
        {"bounding_box": {"top": 1, "left": 1, "height": 1}},
        {"bounding_box": {"top": 1, "left": 1, "height": 1, "width": "wide"}},
        {"mask": {"png": "no base64!"}},
        {"mask": {"png": base64.b64encode(b"no picture").decode()}},
        {"mask": {"png": picture(np.ones((3, 3)))}},
        {"mask": {"png": picture(np.random.default_rng(1).integers(0, 255, (10, 12)))[:-80]}},
    ],
)
def test_broken_objects(tmp_path: Path, area: dict[str, Any]) -> None:
    row = export_row(tool("x", "ImagePolygon", polygon=SQUARE), tool("y", "", **area))
    found = open_annotations(write(tmp_path, export_row(name="b.tif"), row), NO_IMAGES)
    with pytest.raises(LabelError, match="not as Labelbox writes it") as caught:
        found.read("a")
    assert "a.ndjson, line 2, a.tif, object 2 (id of y)" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "no data rows"),
        ("\n\n", "no data rows"),
        ('{"data_row": ', "a line is not proper JSON"),
        ('[{"data_row": {"id": "x"}}, ', "not proper JSON"),
        ("[1]", "a row is not as Labelbox writes it"),
        ('{"a": 1}', "a row is not as Labelbox writes it"),
        ('{"data_row": 3}', "a row is not as Labelbox writes it"),
        ('{"ID": "x", "Labeled Data": "y", "Label": {}}', "first version"),
        (json.dumps(export_row(media_attributes={"height": -1, "width": 5})), "an image has no size"),
        (json.dumps(export_row(media_attributes={"height": 10**9, "width": 10**9})), "an image has no size"),
        (
            '{"data_row": {"id": "x"}, "projects": {"p": {"labels": [{"annotations": {"frames": {}}}]}}}',
            "about a video",
        ),
    ],
)
def test_broken_files(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "a.ndjson").write_text(text)
    with pytest.raises(DataError, match=what):
        open_annotations(tmp_path / "a.ndjson", NO_IMAGES)


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    for name, text in {
        "a.json": '{"images": [], "annotations": []}',
        "b.txt": '{"data_row": {}}',
        "c.ndjson": '{"type": "Feature"}',
        "d.json": "",
    }.items():
        (tmp_path / name).write_text(text)
        assert not recognise(tmp_path / name)
    assert not recognise(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        open_annotations(tmp_path / "e.ndjson", NO_IMAGES)


def test_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[9:12]
    given = [Annotation(path.stem, Instances.from_labels(read_labels(path)), file_name=path.name) for path in paths]
    write_annotations(tmp_path / "a.ndjson", given, ("object",))
    found = open_annotations(tmp_path / "a.ndjson", ImageFinder([shared_data / "nuclei" / "images"]))
    for annotation in given:
        back = found.read(annotation.name)
        assert len(back.instances) > 0
        assert_same(back, annotation, HOLDS)
        assert back.image is not None
