"""The table of annotation formats: what each is called, what it can hold, and which module reads and writes it.

A format is one module in this package with three functions:

``recognise(path: Path) -> bool``
    Whether a file or folder is of this format, by a look at its beginning; never raises on strange content.
``open_annotations(path: Path, images: ImageFinder) -> AnnotationSet``
    Find the images that are annotated; their objects are read when asked for.
``write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None``
    Write all; what the format cannot hold has been told by the caller. The result appears complete or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal

#: What an annotation may have, in words that complete "the format cannot hold …".
FEATURES = {
    "overlap": "objects that overlap",
    "class-overlap": "objects of different classes that overlap",
    "pieces": "objects in several pieces",
    "holes": "objects with holes",
    "pixels": "masks exact to the pixel",
    "classes": "classes",
    "scores": "scores",
    "crowd": "crowd regions",
    "ids": "the objects' ids",
    "empty": "images without objects",
}


@dataclass(frozen=True)
class AnnotationFormat:
    """One row of the table.

    Attributes
    ----------
    name
        What ``--from`` and ``--to`` call it.
    title
        What people call it.
    module
        The module's name in ``cytomask.formats.annotations``.
    kind
        Whether it is one file or a folder.
    suffix
        Suffix of the file; empty for folders.
    holds
        Which of :data:`FEATURES` it keeps.
    told_size
        Whether it tells the images' sizes; without, the images themselves are needed to read it.
    """

    name: str
    title: str
    module: str
    kind: Literal["file", "folder"]
    suffix: str
    holds: frozenset[str]
    told_size: bool = True

    def load(self) -> ModuleType:
        """Import the module."""
        return import_module(f"cytomask.formats.annotations.{self.module}")


def _row(
    name: str, title: str, module: str, kind: Literal["file", "folder"], suffix: str, holds: str, told_size: bool = True
) -> AnnotationFormat:
    words = frozenset(holds.split())
    if "overlap" in words:
        words |= {"class-overlap"}
    assert words <= FEATURES.keys(), f"{name}: {words - FEATURES.keys()}"
    return AnnotationFormat(name, title, module, kind, suffix, words, told_size)


_ROWS = (
    _row("labels", "label images", "label_folder", "folder", "",
         "pieces holes pixels ids classes empty"),
    _row("masks", "one binary mask per object (Kaggle 2018)", "mask_folder", "folder", "",
         "overlap pieces holes pixels empty"),
    _row("class-labels", "one instance TIFF per class", "class_label_folder", "folder", "",
         "class-overlap pieces holes pixels ids classes empty"),
    _row("coco", "COCO JSON", "coco_json", "file", ".json",
         "overlap pieces holes pixels classes scores crowd ids empty"),
    _row("coco-results", "COCO results JSON", "coco_results", "file", ".json",
         "overlap pieces holes pixels classes scores"),
    _row("kaggle-rle", "Kaggle run-length CSV", "kaggle_rle", "file", ".csv", "overlap pieces holes pixels empty",
         told_size=False),
    _row("s-bsst265", "S-BSST265 (SVG, label TIFF and description CSV)", "s_bsst265", "folder", "",
         "overlap pieces holes pixels ids empty"),
    _row("cvat", "CVAT for images XML", "cvat_xml", "file", ".xml",
         "overlap pieces holes pixels classes empty"),
    _row("labelbox", "Labelbox NDJSON", "labelbox_ndjson", "file", ".ndjson",
         "overlap pieces holes pixels classes empty"),
    _row("imagej-rois", "ImageJ ROI zip", "imagej_rois", "folder", "",
         "overlap pieces holes pixels classes scores ids empty", told_size=False),
    _row("qupath", "QuPath GeoJSON", "qupath_geojson", "folder", "",
         "overlap pieces holes pixels classes scores ids empty", told_size=False),
    _row("cellpose", "Cellpose _seg.npy", "cellpose_seg", "folder", "", "pieces holes pixels ids empty"),
)  # fmt: skip

#: All formats by name.
ANNOTATION_FORMATS = {row.name: row for row in _ROWS}
