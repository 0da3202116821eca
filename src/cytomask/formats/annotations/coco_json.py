"""COCO JSON: images, categories, and annotations that are polygons or run-length codes.

Coordinates count from the upper left corner of the first pixel; polygons are filled pixel for pixel as pycocotools
does. Objects are written as polygons along the edges of their pixels, which every program that reads COCO takes, and
which give the very same mask back when they are filled by COCO's rule. Only what polygons cannot hold, which is holes,
is written as a compressed run-length code, and crowd regions as an uncompressed one, as COCO itself has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.coco_index import index_coco
from cytomask.formats.annotations.coco_writing import write_coco
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.json_elements import look

_MEMBER = r'"{}"\s*:\s*[\[{{]'
_IMAGE = re.compile(r'"(id|file_name)"\s*:')


def recognise(path: Path) -> bool:
    """Whether a file is COCO JSON: a dictionary with images, and annotations or categories."""
    if not path.is_file() or path.suffix.lower() not in (".json", ".zip"):
        return False
    begin, end = look(path)
    if not begin.startswith("{"):
        return False
    text = begin + end
    has = {w: re.search(_MEMBER.format(w), text) for w in ("images", "annotations", "categories")}
    images = has["images"]
    # Other lists of images are without ids, such as the record of a prediction.
    if images and (has["annotations"] or has["categories"]):
        first = text[images.end() :].partition("}")[0]
        return _IMAGE.search(first) is not None
    return has["annotations"] is not None and '"image_id"' in text and ('"segmentation"' in text or '"bbox"' in text)


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images that a COCO file lists; each one's objects are read when asked for.

    A zip with one such file is read, too.

    Raises
    ------
    DataError
        If it is no JSON, lists no images or one twice, or all annotations are of other images. Broken annotations raise
        a :class:`cytomask.errors.LabelError` when they are read.

    Examples
    --------
    >>> import json, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.json"
    >>> square = {"id": 7, "image_id": 3, "category_id": 1, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}
    >>> image = {"id": 3, "file_name": "a/b.tif", "width": 5, "height": 4}
    >>> _ = path.write_text(json.dumps({"images": [image], "annotations": [square]}))
    >>> found = open_annotations(path, ImageFinder())
    >>> found.names, found.classes
    (('a/b',), ('object',))
    >>> found.read("a/b").instances.to_labels()
    array([[0, 0, 0, 0, 0],
           [0, 7, 7, 0, 0],
           [0, 7, 7, 0, 0],
           [0, 0, 0, 0, 0]], dtype=int32)
    """
    index = index_coco(Path(path), images)
    return AnnotationSet(index.classes, tuple(index.images), index, index.told)


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write a COCO file, with categories from 1 in the order of the classes.

    Each annotation has ``segmentation``, ``bbox`` (x, y, width, height), ``area`` in pixels and ``iscrowd``; ``score``
    where it is not 1. Image and annotation ids are kept where they are free; an object whose annotation id must differ
    from its own id has that as ``instance_id``.

    Raises
    ------
    DataError
        If two images have one name.
    OutputError
        If the file cannot be written.
    """
    write_coco(Path(path), annotations, classes)
