"""ImageJ's regions of interest: a zip of ``.roi`` files for each image, as the ROI Manager saves them.

Read are ``NAME.zip``, ``NAME--ROI.zip``, ``NAME_rois.zip``, ``NAME-RoiSet.zip``, ``NAME/RoiSet.zip`` and a single
``NAME.roi``, where ``NAME`` is the image's, in a folder and the folders in it, or one such file. Every region that
covers pixels is an object; :mod:`cytomask.formats.annotations.imagej_shapes` tells which pixels.

Written is ``NAME.zip``. Each object is one region along the edges of its pixels, so that ImageJ's mask of it has the
very same pixels: a traced outline, or a composite region where it has several pieces or holes. Its class, score and id
are properties of the region (``class``, ``score``, ``label``, which ImageJ's *Properties…* shows), parts of its name in
the ROI Manager, and its class is its group, so that ImageJ colours the classes. Objects without pixels are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytomask.errors import DataError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_files import files_below
from cytomask.formats.annotations.annotation_names import FilesOfImages
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.imagej_files import holds_rois, is_empty_zip, read_regions, write_regions
from cytomask.formats.annotations.imagej_shapes import fill_rois, is_area, is_spline
from cytomask.formats.annotations.object_parts import objects_of_parts
from cytomask.output import new_folder

_SUFFIXES = (".zip", ".roi")
#: What people and programs put behind the image's name.
_ENDING = re.compile(r"(--roi|(^|[-_ /])(roiset|rois?))$", re.IGNORECASE)
_NO_CLASS = "object"
_TOLD = {
    "no rois": "zip files without regions of interest are passed over: {}",
    "no area": "regions without area (lines, points, texts) are passed over: {}",
    "position": "regions on one plane of a stack are taken for the image as a whole: {}",
    "group": "groups of regions are not taken for classes: {} regions have one",
    "spline": "curves through points may differ from ImageJ's mask by a pixel: {} regions",
    "no class": "regions without a class are called object: {}",
}


@dataclass(frozen=True, eq=False)
class _Reader:
    files: dict[str, Path]
    classes: tuple[str, ...]
    images: ImageFinder

    def read(self, name: str) -> Annotation:
        path = self.files[name]
        shape = self.images.size_of(name, path)
        regions = [region for region in read_regions(path) if is_area(region.roi)]
        parts = fill_rois(shape, [r.roi for r in regions], [r.name for r in regions], str(path))
        labels = [region.label for region in regions]
        image = self.images.find(name)
        instances = objects_of_parts(
            shape,
            parts,
            classes=[self.classes.index(region.class_name or _NO_CLASS) + 1 for region in regions],
            scores=[region.score for region in regions],
            labels=labels,
            class_names=self.classes,
        )
        return Annotation(name, instances, file_name=image.name if image else None, image=image)


def recognise(path: Path) -> bool:
    """Whether this is a ``.roi`` file, a zip of such, or a folder with any of them.

    Examples
    --------
    >>> recognise(Path("nowhere.zip"))
    False
    """
    try:
        return any(holds_rois(file) for file in files_below(path, _SUFFIXES))
    except OSError:
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images with regions of interest, and the classes.

    Parameters
    ----------
    path
        A folder, a zip, or a ``.roi`` file.
    images
        The images: the files do not tell their sizes.

    Raises
    ------
    DataError
        If there are no regions, or two files are for the same image.
    LabelError
        If a file is broken, or holds more than can be meant.
    """
    files: dict[str, Path] = {}
    told: Counter[str] = Counter()
    classes: set[str] = set()
    for file in files_below(path, _SUFFIXES):
        if not holds_rois(file) and not is_empty_zip(file):
            told["no rois"] += 1
            continue
        name = _image_name(file, path, images)
        if name in files:
            raise DataError(
                "two files hold regions of the same image", where=path,
                found=f"{files[name].name} and {file.name}, for {name}",
                fix="keep one of them, or open both in ImageJ's ROI Manager and save them as one",
            )  # fmt: skip
        files[name] = file
        for region in read_regions(file):
            roi = region.roi
            if not is_area(roi):
                told["no area"] += 1
                continue
            classes.add(region.class_name or _NO_CLASS)
            told["no class"] += region.class_name is None
            told["position"] += any((roi.position, roi.c_position, roi.z_position, roi.t_position))
            told["group"] += bool(roi.group) and region.class_name is None
            told["spline"] += is_spline(roi)
    if not files:
        raise DataError(
            "there are no regions of interest of ImageJ", where=path, expected="NAME.zip or NAME.roi for each image",
            fix="save the regions with More » Save… in ImageJ's ROI Manager, under the image's name",
        )  # fmt: skip
    if len(classes) < 2:
        del told["no class"]
    names = tuple(sorted(classes)) or (_NO_CLASS,)
    sentences = tuple(text.format(told[key]) for key, text in _TOLD.items() if told[key])
    return AnnotationSet(names, tuple(files), _Reader(files, names, images).read, sentences)


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write a zip of regions for each image into a new folder.

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
        If the folder is not empty or cannot be written to, or an object lies farther out than ImageJ's files can tell.
    DataError
        If an image's name is no safe name of a file, or two images have the same.
    """
    with new_folder(path) as folder:
        files = FilesOfImages(folder, ".zip")
        for annotation in annotations:
            write_regions(files.path(annotation.name), annotation.instances, classes)


def _image_name(file: Path, path: Path, images: ImageFinder) -> str:
    """The image that a file is for: that of the same name, without an ending, or of the folder's name."""
    whole = (file.relative_to(path).as_posix() if path.is_dir() else file.name)[: -len(file.suffix)]
    names = [whole]
    if (short := _ENDING.sub("", whole)) != whole:
        # What is left of a/RoiSet is the folder.
        names.append(short.rstrip("/"))
    for name in names:
        if name and images.find(name) is not None:
            return plain_name(name)
    known = images.all()
    if not names[-1]:
        return next(iter(known)) if len(known) == 1 else whole
    return plain_name(names[-1])
