"""QuPath's GeoJSON: files of the form that its versions write, valid polygons, there and back."""

from __future__ import annotations

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
from cytomask.formats.annotations.qupath_geojson import open_annotations, recognise, write_annotations
from cytomask.formats.label_images import read_labels
from cytomask.instances import Instances

from .annotation_examples import annotations, assert_same

HOLDS = ANNOTATION_FORMATS["qupath"].holds
SQUARE = [[2, 1], [6, 1], [6, 4], [2, 4], [2, 1]]


def image_files(folder: Path, given: list[Annotation]) -> ImageFinder:
    for annotation in given:
        path = folder / f"{annotation.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.zeros(annotation.instances.shape, np.uint8)).save(path)
    return ImageFinder([folder])


def one_image(folder: Path, shape: tuple[int, int] = (10, 12)) -> ImageFinder:
    return image_files(folder / "images", [Annotation("a", Instances.empty(shape))])


def feature(coordinates: Any, kind: str = "Polygon", **properties: Any) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "id": str(uuid.uuid4()), "geometry": geometry, "properties": properties}


def read_one(folder: Path, content: Any, shape: tuple[int, int] = (10, 12)) -> tuple[Instances, tuple[str, ...]]:
    path = folder / "a.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    found = open_annotations(path, one_image(folder, shape))
    return found.read("a").instances, found.told


def test_what_qupath_exports(tmp_path: Path) -> None:
    # In the form of QuPath 0.5's "Export as GeoJSON" (FeatureCollection, pretty): an annotation with a hole, a cell
    # with its nucleus and measurements, a derived class, a point, and a tile. Coordinates are (x, y) from the corner.
    hole = [[3, 2], [3, 3], [5, 3], [5, 2], [3, 2]]
    two = [[[[8, 0], [10, 0], [10, 2], [8, 2], [8, 0]]], [[[8, 5], [12, 5], [12, 6], [8, 6], [8, 5]]]]
    tumour = {"name": "Tumor", "color": [200, 0, 0]}
    features = [
        feature([SQUARE, hole], objectType="annotation", classification=tumour, isLocked=True),
        feature(two, "MultiPolygon", objectType="detection", classification={"names": ["Immune", "CD3+"]}),
        feature([[[0.2, 7.6], [3.4, 7.6], [3.4, 9.4], [0.2, 9.4], [0.2, 7.6]]], objectType="cell",
                classification=tumour, measurements={"Area µm^2": 3.5, "Detection probability": 0.75}),
        feature([1, 1], "Point", objectType="annotation"),
        feature([SQUARE], objectType="tile"),
    ]  # fmt: skip
    features[2]["nucleusGeometry"] = {"type": "Polygon", "coordinates": [SQUARE]}
    objects, told = read_one(tmp_path, json.dumps({"type": "FeatureCollection", "features": features}, indent=2))
    assert objects.class_names == ("Immune: CD3+", "Tumor")
    assert objects.classes.tolist() == [2, 1, 2]
    assert objects.scores.tolist() == [1, 1, 0.75]
    assert objects.ids.tolist() == [1, 2, 3]
    expected = np.zeros((10, 12), int)
    expected[1:4, 2:6] = 1
    expected[2, 3:5] = 0
    expected[0:2, 8:10] = expected[5, 8:12] = 2
    # Centres at 0.5, 1.5, 2.5 along x, and at 8.5 along y, lie inside.
    expected[8, 0:3] = 3
    np.testing.assert_array_equal(objects.to_labels(), expected)
    assert told == (
        "features without area (points, lines) are passed over: 1",
        "tiles, cores of tissue arrays and the like are passed over: 1",
        "cells have a nucleus within, which is passed over: 1",
    )


def test_what_older_versions_export(tmp_path: Path) -> None:
    # QuPath 0.2 and 0.3: a plain list, the type as id, colours as one number, measurements as a list.
    old = feature([SQUARE], classification={"name": "Stroma", "colorRGB": -6895466},
                  measurements=[{"name": "Area", "value": 3}, {"name": "Probability", "value": 0.5}])  # fmt: skip
    old["id"] = "PathDetectionObject"
    tile = {**feature([SQUARE]), "id": "PathTileObject"}
    plain = feature([SQUARE])
    del plain["properties"], plain["id"]
    objects, told = read_one(tmp_path, [old, tile, plain])
    assert objects.class_names == ("Stroma", "object")
    assert objects.classes.tolist() == [1, 2]
    assert objects.scores.tolist() == [0.5, 1]
    assert told == (
        "tiles, cores of tissue arrays and the like are passed over: 1",
        "features without a classification are called object: 1",
    )


def test_children_and_a_single_feature(tmp_path: Path) -> None:
    child = feature([[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]], objectType="detection")
    parent = feature([SQUARE], objectType="annotation", childObjects=[child, child])
    objects, told = read_one(tmp_path, parent)
    assert objects.areas().tolist() == [12, 1, 1]
    assert told == ()


@pytest.mark.parametrize("content", ["[]", '\ufeff{"type": "FeatureCollection", "features": []}\r\n'])
def test_no_features(tmp_path: Path, content: str) -> None:
    objects, _ = read_one(tmp_path, content)
    assert len(objects) == 0
    assert objects.shape == (10, 12)


def test_polygons_of_one_object_add_up(tmp_path: Path) -> None:
    objects, _ = read_one(tmp_path, [feature([[SQUARE], [SQUARE]], "MultiPolygon")])
    assert objects.areas().tolist() == [12]


def test_outside_the_image(tmp_path: Path) -> None:
    far = [[-5, -5], [1e12, -5], [1e12, 1.6], [-5, 1.6]]
    objects, _ = read_one(tmp_path, [feature([far])])
    np.testing.assert_array_equal(objects.full_mask(0), np.arange(10)[:, None] < 2 * np.ones((10, 12)))


@pytest.mark.parametrize(
    "coordinates", [None, [[[0, 0], [1, 1]]], [[[0], [1], [2]]], [[["a", 1], [1, 2], [3, 4]]], 5, [5]]
)
def test_broken_polygon(tmp_path: Path, coordinates: Any) -> None:
    with pytest.raises(LabelError, match="a polygon is not as GeoJSON has it") as caught:
        read_one(tmp_path, [feature([SQUARE]), feature(coordinates)])
    assert "a.geojson, object 2" in str(caught.value)


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not proper JSON"):
        read_one(tmp_path, '{"type": "FeatureCollection", "features": [')
    with pytest.raises(LabelError, match="a feature is not as GeoJSON has it"):
        read_one(tmp_path, '{"type": "FeatureCollection", "features": [3]}')
    with pytest.raises(DataError, match="no GeoJSON of QuPath"):
        open_annotations(tmp_path / "images", ImageFinder([]))
    (tmp_path / "b.json").write_text('{"images": [], "annotations": []}')
    assert not recognise(tmp_path / "b.json")
    (tmp_path / "b.json").write_text('[{"type": "Feature", "geometry": null}]')
    assert recognise(tmp_path / "b.json")


def test_two_files_of_one_image(tmp_path: Path) -> None:
    images = one_image(tmp_path)
    (tmp_path / "json").mkdir()
    for name in ("a.geojson", "a.tif.geojson"):
        (tmp_path / "json" / name).write_text("[]")
    with pytest.raises(DataError, match="two files hold features of the same image"):
        open_annotations(tmp_path / "json", images)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given=annotations(HOLDS))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, given: list[Annotation]) -> None:
    shapely = pytest.importorskip("shapely")
    folder = tmp_path_factory.mktemp("qupath")
    write_annotations(folder / "json", iter(given), given[0].instances.class_names)
    assert recognise(folder / "json")
    found = open_annotations(folder / "json", image_files(folder / "images", given))
    assert sorted(found.names) == sorted(annotation.name for annotation in given)
    assert found.told == ()
    read = pickle.loads(pickle.dumps(found.read))
    ids = set()
    for annotation in given:
        assert_same(read(annotation.name), annotation, HOLDS)
        content = json.loads((folder / "json" / f"{annotation.name}.geojson").read_text(encoding="utf-8"))
        for i, written in enumerate(content["features"]):
            shape = shapely.from_geojson(json.dumps(written["geometry"]))
            assert shape.is_valid, shapely.is_valid_reason(shape)
            assert shape.area == annotation.instances.areas()[i]
            assert all(part.exterior.is_ccw for part in getattr(shape, "geoms", [shape]))
            ids.add(uuid.UUID(written["id"]))
    assert len(ids) == sum(len(annotation.instances) for annotation in given)


def test_what_qupath_reads(tmp_path: Path) -> None:
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    objects = Instances.from_crops(
        (9, 9), [mask, mask[:1]], [(2, 1), (8, 0)], classes=[2, 1], scores=[1, 0.3], ids=[7, 4],
        class_names=("Zelle", "Kern"),
    )  # fmt: skip
    for name in ("x", "y"):
        write_annotations(tmp_path / name, [Annotation("a", objects)], objects.class_names)
    content = (tmp_path / "x" / "a.geojson").read_bytes()
    assert content == (tmp_path / "y" / "a.geojson").read_bytes()
    first, second = json.loads(content)["features"]
    assert first["geometry"] == {
        "type": "Polygon",
        "coordinates": [
            [[1, 2], [4, 2], [4, 5], [1, 5], [1, 2]],
            [[2, 4], [3, 4], [3, 3], [2, 3], [2, 4]],
        ],
    }
    assert first["properties"] == {
        "objectType": "detection",
        "classification": {"name": "Kern", "color": [86, 180, 233]},
        "metadata": {"Label": "7"},
    }
    assert second["properties"]["measurements"] == {"score": 0.3}
    assert uuid.UUID(first["id"]).version == 5
    write_annotations(tmp_path / "z", [Annotation("a", Instances.from_labels(np.eye(2, dtype=int)))], ("object",))
    (only,) = json.loads((tmp_path / "z" / "a.geojson").read_bytes())["features"]
    assert only["properties"] == {"objectType": "annotation", "metadata": {"Label": "1"}}
    assert only["geometry"]["type"] == "MultiPolygon"


def test_objects_without_pixels_are_left_out(tmp_path: Path) -> None:
    objects = Instances.from_crops((4, 4), [np.zeros((2, 2), bool), np.ones((1, 1), bool)], [(0, 0), (3, 3)])
    write_annotations(tmp_path / "json", [Annotation("a", objects)], ("object",))
    back = open_annotations(tmp_path / "json", one_image(tmp_path, (4, 4))).read("a").instances
    assert back.ids.tolist() == [2]


def test_names_that_lead_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be a file's name"):
        write_annotations(tmp_path / "json", [Annotation("../a", Instances.empty((4, 4)))], ("object",))
    assert not list(tmp_path.iterdir())


def test_real_nuclei(shared_data: Path, tmp_path: Path) -> None:
    paths = sorted((shared_data / "nuclei" / "labels").glob("*.png"))[3:6]
    given = [Annotation(path.stem, Instances.from_labels(read_labels(path))) for path in paths]
    write_annotations(tmp_path / "json", given, ("object",))
    found = open_annotations(tmp_path / "json", ImageFinder([shared_data / "nuclei" / "images"]))
    for annotation in given:
        assert len(annotation.instances) > 0
        assert_same(found.read(annotation.name), annotation, HOLDS)
