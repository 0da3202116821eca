"""QuPath's GeoJSON: one file of outlines for each image.

Read are the files that *File » Export objects as GeoJSON* writes, of all versions of QuPath: a ``FeatureCollection``, a
list of features or a single one, with or without the objects' children. Polygons and multipolygons with holes are
objects; the class is the ``classification``, the score a measurement called score, probability or confidence (also as
StarDist in QuPath calls it, "Detection probability"). Coordinates are pixels of the full resolution from the image's
upper left corner; a pixel belongs to an object if its centre lies inside.

Written is ``NAME.geojson`` for each image, for *File » Import objects from file*. Outlines run along the edges of
pixels, so that nothing is lost. Objects are annotations where all scores are 1, else detections; their ids are told as
the metadata ``Label``. Objects without pixels are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from cytomask.errors import DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_files import files_below
from cytomask.formats.annotations.annotation_names import FilesOfImages
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.json_elements import JsonFile
from cytomask.formats.annotations.object_parts import Part, as_score, fill_parts, join_parts, objects_of_parts
from cytomask.output import new_folder

_SUFFIXES = (".geojson", ".json")
_NO_CLASS = "object"
_SCORES = ("score", "probability", "confidence", "detection probability")
#: What QuPath calls objects that are no cells, nuclei or regions drawn by hand: of version 0.2, and since.
_OTHER_KINDS = ("root", "tile", "tmacore", "tma_core", "pathrootobject", "pathtileobject", "tmacoreobject")
#: Ids that follow from the image's name and the object's label.
_NAMESPACE = UUID("b5c2f0f4-6a52-5c1e-9d0e-3f3b8d0a7c11")
#: Colours of the classes in QuPath: those of Okabe and Ito, which everybody can tell apart.
_COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))
_TOLD = {
    "no area": "features without area (points, lines) are passed over: {}",
    "other": "tiles, cores of tissue arrays and the like are passed over: {}",
    "nucleus": "cells have a nucleus within, which is passed over: {}",
    "plane": "features on one plane of a stack are taken for the image as a whole: {}",
    "no class": "features without a classification are called object: {}",
}


@dataclass(frozen=True, eq=False)
class _Reader:
    files: dict[str, Path]
    classes: tuple[str, ...]
    images: ImageFinder

    def read(self, name: str) -> Annotation:
        path = self.files[name]
        shape = self.images.size_of(name, path)
        features = [f for f in _features(path) if _passed_over(f) is None]
        parts = _fill(shape, features, path)
        labels = [_label(f) for f in features]
        image = self.images.find(name)
        instances = objects_of_parts(
            shape,
            parts,
            classes=[self.classes.index(_class_name(f) or _NO_CLASS) + 1 for f in features],
            scores=[_score(f) for f in features],
            labels=labels,
            class_names=self.classes,
        )
        return Annotation(name, instances, file_name=image.name if image else None, image=image)


def recognise(path: Path) -> bool:
    """Whether this is a GeoJSON file, or a folder with any.

    Examples
    --------
    >>> recognise(Path("nowhere.geojson"))
    False
    """
    try:
        return any(_is_geojson(file) for file in files_below(path, _SUFFIXES))
    except OSError:
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images with features, and the classes.

    Parameters
    ----------
    path
        A folder, or a file.
    images
        The images: GeoJSON does not tell their sizes.

    Raises
    ------
    DataError
        If there is no GeoJSON, or two files are for the same image.
    LabelError
        If a file is broken.
    """
    files: dict[str, Path] = {}
    told: Counter[str] = Counter()
    classes: set[str] = set()
    for file in files_below(path, _SUFFIXES):
        if not _is_geojson(file):
            continue
        name = _image_name(file, path, images)
        if name in files:
            raise DataError(
                "two files hold features of the same image", where=path,
                found=f"{files[name].name} and {file.name}, for {name}", fix="keep one of them",
            )  # fmt: skip
        files[name] = file
        for feature in _features(file):
            passed_over = _passed_over(feature)
            if passed_over is not None:
                told[passed_over] += 1
                continue
            class_name = _class_name(feature)
            classes.add(class_name or _NO_CLASS)
            told["no class"] += class_name is None
            told["nucleus"] += isinstance(feature.get("nucleusGeometry"), dict)
            told["plane"] += _on_plane(feature["geometry"])
    if not files:
        raise DataError(
            "there is no GeoJSON of QuPath", where=path, expected="NAME.geojson for each image",
            fix="export it in QuPath with File » Export objects as GeoJSON, under the image's name",
        )  # fmt: skip
    if len(classes) < 2:
        del told["no class"]
    names = tuple(sorted(classes)) or (_NO_CLASS,)
    sentences = tuple(text.format(told[key]) for key, text in _TOLD.items() if told[key])
    return AnnotationSet(names, tuple(files), _Reader(files, names, images).read, sentences)


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write a GeoJSON file for each image into a new folder.

    Parameters
    ----------
    path
        The folder; it must be new or empty.
    annotations
        What to write, looped over once.
    classes
        The names of the classes, in the order of the objects' class ids.

    Raises
    ------
    OutputError
        If the folder is not empty or cannot be written to.
    DataError
        If an image's name is no safe name of a file, or two images have the same.
    """
    with new_folder(path) as folder:
        files = FilesOfImages(folder, ".geojson")
        for annotation in annotations:
            with files.path(annotation.name).open("w", encoding="utf-8", newline="\n") as file:
                file.write('{"type": "FeatureCollection", "features": [')
                for i, feature in enumerate(_written(annotation, classes)):
                    file.write((",\n" if i else "\n") + json.dumps(feature, ensure_ascii=False, allow_nan=False))
                file.write("\n]}\n")


def _written(annotation: Annotation, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    instances = annotation.instances.shifted(0, 0, annotation.instances.shape)
    kind = "annotation" if (instances.scores == 1).all() else "detection"
    for i, rings in enumerate(instances.to_polygons()):
        polygons: list[list[list[list[int]]]] = []
        for ring in rings:
            points = (ring[:, ::-1] + 0.5).astype(np.int64)
            closed = [*points.tolist(), points[0].tolist()]
            # Outlines run clockwise on the screen, those of holes the other way; a hole follows its outline.
            x, y = points[:, 0], points[:, 1]
            if (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() > 0:
                polygons.append([closed])
            else:
                polygons[-1].append(closed)
        label, class_id, score = int(instances.ids[i]), int(instances.classes[i]), instances.scores[i]
        properties: dict[str, Any] = {"objectType": kind}
        if tuple(classes) != (_NO_CLASS,):
            colour = _COLOURS[(class_id - 1) % len(_COLOURS)]
            properties["classification"] = {"name": classes[class_id - 1], "color": list(colour)}
        if score != 1 and np.isfinite(score):
            # The shortest number that is the same in 32 bits.
            properties["measurements"] = {"score": float(str(score))}
        properties["metadata"] = {"Label": str(label)}
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        yield {
            "type": "Feature", "id": str(uuid5(_NAMESPACE, f"{annotation.name}\n{label}")), "geometry": geometry,
            "properties": properties,
        }  # fmt: skip


def _is_geojson(path: Path) -> bool:
    """Whether a file begins like GeoJSON; a list may be empty where the suffix tells what it is a list of."""
    with path.open("rb") as file:
        begin = b"".join(file.read(4096).removeprefix(b"\xef\xbb\xbf").split())
    if begin[:1] not in (b"{", b"["):
        return False
    marks = (b'"type":"Feature', b'"geometry":{')
    return path.suffix.lower() == ".geojson" or any(mark in begin for mark in marks)


def _image_name(file: Path, path: Path, images: ImageFinder) -> str:
    whole = (file.relative_to(path).as_posix() if path.is_dir() else file.name)[: -len(file.suffix)]
    known = images.all()
    if path.is_file() and len(known) == 1 and images.find(whole) is None:
        return next(iter(known))
    return plain_name(whole)


def _features(path: Path) -> Iterator[dict[str, Any]]:
    """Every feature of a file, and the children of each behind it."""
    n = 0
    for top in _top_features(path):
        stack = [top]
        while stack:
            n += 1
            feature = stack.pop()
            if not isinstance(feature, dict) or not isinstance(feature.get("geometry", {}), dict | None):
                raise LabelError(
                    "a feature is not as GeoJSON has it", where=f"{path}, feature {n}", found=type(feature).__name__,
                    expected='{"type": "Feature", "geometry": {...}, "properties": {...}}',
                )  # fmt: skip
            yield feature
            children = _properties(feature).get("childObjects") or _properties(feature).get("children")
            if isinstance(children, list):
                stack.extend(reversed(children))


def _top_features(path: Path) -> Iterator[Any]:
    single: dict[str, Any] = {}
    for element in JsonFile.of(path).elements(["features"]):
        if element.key is not None:
            yield element.value
        else:
            single[element.section] = element.value
    if "geometry" in single:
        yield single


def _properties(feature: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = feature.get("properties")
    return properties if isinstance(properties, dict) else {}


def _passed_over(feature: Mapping[str, Any]) -> str | None:
    """Why a feature is no object; None if it is one."""
    properties = _properties(feature)
    kind = properties.get("objectType") or properties.get("object_type") or properties.get("type") or feature.get("id")
    if str(kind).lower() in _OTHER_KINDS:
        return "other"
    geometry = feature.get("geometry")
    return None if isinstance(geometry, dict) and geometry.get("type") in ("Polygon", "MultiPolygon") else "no area"


def _class_name(feature: Mapping[str, Any]) -> str | None:
    """Name of the classification; derived ones are joined as QuPath shows them."""
    classification = _properties(feature).get("classification")
    if isinstance(classification, str):
        return classification or None
    if not isinstance(classification, dict):
        return None
    names = classification.get("names")
    if isinstance(names, list) and names:
        return ": ".join(str(name) for name in names)
    name = classification.get("name")
    return str(name) if name not in (None, "") else None


def _score(feature: Mapping[str, Any]) -> float:
    """The first measurement that is a score; QuPath wrote a list of them before 0.4, a dictionary since."""
    measurements = _properties(feature).get("measurements")
    if isinstance(measurements, list):
        measurements = {m.get("name"): m.get("value") for m in measurements if isinstance(m, dict)}
    if not isinstance(measurements, dict):
        return 1.0
    by_name = {str(name).strip().lower(): value for name, value in measurements.items()}
    for name in _SCORES:
        score = as_score(by_name.get(name))
        if score is not None:
            return score
    return 1.0


def _label(feature: Mapping[str, Any]) -> int:
    metadata = _properties(feature).get("metadata")
    text = str(metadata.get("Label", "")) if isinstance(metadata, dict) else ""
    return int(text) if text.isascii() and text.isdigit() and int(text[:11]) <= np.iinfo(np.int32).max else 0


def _on_plane(geometry: Mapping[str, Any]) -> bool:
    plane = geometry.get("plane")
    return isinstance(plane, dict) and any(plane.get(axis, 0) not in (0, -1) for axis in ("c", "z", "t"))


def _fill(shape: tuple[int, int], features: Sequence[Mapping[str, Any]], path: Path) -> list[Part]:
    """The pixels of each feature; the polygons of a multipolygon add up."""
    polygons: list[list[np.ndarray]] = []
    owners: list[int] = []
    for number, feature in enumerate(features):
        geometry = feature["geometry"]
        where = f"{path}, object {number + 1} ({feature.get('id', 'without id')})"
        coordinates = geometry.get("coordinates")
        several = coordinates if geometry["type"] == "MultiPolygon" else [coordinates]
        for polygon in several if isinstance(several, list) and several else [None]:
            polygons.append(
                [_ring(ring, where) for ring in polygon] if isinstance(polygon, list) else [_ring(None, where)]
            )
            owners.append(number)
    return join_parts(fill_parts(shape, polygons, str(path)), owners)[0]


def _ring(ring: Any, where: str) -> np.ndarray:
    try:
        points = np.array([point[:2] for point in ring], np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1:] != (2,) or len(points) < 3 or not np.isfinite(points).all():
        raise LabelError(
            "a polygon is not as GeoJSON has it", where=where, found=str(ring)[:80],
            expected="rings of three points [x, y] or more",
        )  # fmt: skip
    return points[:, ::-1] - 0.5
