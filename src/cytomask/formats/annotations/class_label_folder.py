"""A folder for each image, with one instance TIFF per class: ``NAME/image.tif``, ``NAME/class1.tif`` …

That is how challenges of several kinds of nuclei come. In each file every object has its own number, not necessarily
without gaps, and often as 64-bit floats; the background is 0. A class that does not occur in an image has no file. A
pixel may be in an object of each class: between classes, overlap is kept; within a class it cannot be.

The classes are called ``class1``, ``class2`` … or as ``classes.txt`` in the folder says, one name per line.

Written are integers in the smallest type that holds the ids, ``classes.txt``, and ``image.tif`` where the image is
known. An image without objects whose picture is not known gets an empty ``class1.tif``, which tells its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from cytomask.errors import CytomaskError, DataError, ImageError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_names import FilesOfImages
from cytomask.formats.annotations.class_names import CLASS_LIST, check_class_names, read_class_names, write_class_names
from cytomask.formats.annotations.image_copies import copy_as_tiff
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.images import check_file, file_kind, read_file
from cytomask.formats.label_images import LABEL_SUFFIXES, as_label_numbers, write_labels
from cytomask.formats.limits import check_label_image
from cytomask.formats.tiff_structure import check_tiff_structure
from cytomask.instances import Instances
from cytomask.output import new_folder

_CLASS_FILE = re.compile(r"class[ _-]?(\d{1,4})", re.IGNORECASE)
_IMAGE = "image"


@dataclass(frozen=True)
class _Folder:
    """The files of one image."""

    path: Path
    classes: Mapping[int, Path]
    image: Path | None


@dataclass(frozen=True, eq=False)
class _Reader:
    folders: dict[str, _Folder]
    images: dict[str, Path]
    classes: tuple[str, ...]
    sizes: ImageFinder

    def read(self, name: str) -> Annotation:
        folder = self.folders[name]
        image = folder.image or self.images.get(name)
        masks = {number: _read_first_channel(path) for number, path in folder.classes.items()}
        if masks:
            _check_sizes(masks, folder)
            objects = Instances.from_class_masks(masks, self.classes)
        elif image is not None:
            objects = Instances.empty(self.sizes.size(image), self.classes)
        else:
            raise DataError(
                "there is neither a class's file nor the image, so its size is not known", where=folder.path,
                expected="class1.tif … or image.tif", fix="add the image, or remove the folder",
            )  # fmt: skip
        return Annotation(name, objects, file_name=image.name if image else None, image=image)


def recognise(path: Path) -> bool:
    """Whether a folder has folders with files ``class1.tif`` and so on, or is one.

    Examples
    --------
    >>> recognise(Path("nowhere"))
    False
    """
    try:
        return path.is_dir() and any(folder.classes for _, folder in _folders(path))
    except (OSError, CytomaskError):
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images' folders and the classes.

    Parameters
    ----------
    path
        The folder of folders, at any depth, or the folder of one image.
    images
        Where images lie that are not in the folders; none is needed where there is a class's file.

    Raises
    ------
    DataError
        If a class has two files for an image, or no name in ``classes.txt``, or a file cannot be read.
    """
    folders: dict[str, _Folder] = {}
    for below, folder in _folders(path):
        name = plain_name(below)
        if name in folders:
            raise DataError(
                "two folders are of the same image", where=path, found=f"{folders[name].path.name} and {below}",
                fix="rename one of them",
            )  # fmt: skip
        folders[name] = folder
    highest = max((number for folder in folders.values() for number in folder.classes), default=1)
    listed = next((p for p in (path / CLASS_LIST, path.parent / CLASS_LIST) if p.is_file()), None)
    classes = read_class_names(listed) if listed is not None else tuple(f"class{k}" for k in range(1, highest + 1))
    if len(classes) < highest:
        raise DataError(
            "there are more classes than names", where=listed, found=", ".join(classes),
            expected=f"{highest} names, since there is a file of class {highest}", fix="add the missing names",
        )  # fmt: skip
    told = [f"classes are numbered files; their names are those of {listed.name}"] if listed is not None else []
    files = [file for folder in folders.values() for file in folder.classes.values()]
    stacks = sum(_has_more_axes(file) for file in files)
    if stacks:
        told.append(f"class files with more than two axes: {stacks}; their first channel is read")
    if any(len(folder.classes) > 1 for folder in folders.values()):
        told.append("in an image whose classes share ids, the objects are numbered anew")
    found = _images_elsewhere(path, folders, images)
    return AnnotationSet(classes, tuple(folders), _Reader(folders, found, classes, images).read, tuple(told))


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write a folder for each image, with a file for each class that occurs in it.

    Parameters
    ----------
    path
        The folder; it must be new or empty.
    annotations
        What to write. Where objects of one class overlap, the better scored one is on top.
    classes
        Names of the classes.

    Raises
    ------
    DataError
        If a name cannot be a folder's, or two images would share a folder.
    OutputError
        If the folder cannot be written, or an image cannot be copied.
    """
    check_class_names(classes)
    with new_folder(path) as folder:
        places = FilesOfImages(folder, "")
        for annotation in annotations:
            place = places.path(annotation.name)
            place.mkdir(exist_ok=True)  # the image "a/b" may have been before "a"
            known = copy_as_tiff(annotation, place / f"{_IMAGE}.tif")
            objects = annotation.instances
            check_label_image(objects.shape, annotation.name)
            for number in np.unique(objects.classes).tolist() or ([] if known else [1]):
                of_class = objects.take(objects.classes == number)
                write_labels(place / f"class{number}.tif", of_class.to_labels())
        write_class_names(folder / CLASS_LIST, classes)


def _folders(path: Path) -> Iterator[tuple[str, _Folder]]:
    if (single := _one_folder(path)) is not None:
        yield path.resolve().name, single
        return
    for below in sorted(p for p in path.rglob("*") if p.is_dir()):
        parts = below.relative_to(path).parts
        if not any(part.startswith(".") for part in parts) and (folder := _one_folder(below)) is not None:
            yield "/".join(parts), folder


def _one_folder(path: Path) -> _Folder | None:
    """The files of one image; None where there is neither an image nor a class."""
    classes: dict[int, Path] = {}
    image = None
    for file in sorted(path.iterdir()):
        if file.suffix.lower() not in LABEL_SUFFIXES or file.name.startswith(".") or not file.is_file():
            continue
        if file.stem.lower() == _IMAGE:
            image = file
        elif found := _CLASS_FILE.fullmatch(file.stem):
            number = int(found[1])
            if number in classes or number == 0:
                raise DataError(
                    "a class has two files" if number else "classes are numbered from 1", where=path,
                    found=f"{classes[number].name} and {file.name}" if number else file.name,
                )  # fmt: skip
            classes[number] = file
    return _Folder(path, dict(sorted(classes.items())), image) if classes or image is not None else None


def _images_elsewhere(root: Path, folders: Mapping[str, _Folder], images: ImageFinder) -> dict[str, Path]:
    found = {}
    for name, folder in folders.items():
        if folder.image is None:
            try:
                image = images.find(name)
            except DataError:
                continue
            # What lies in the folders belongs to other images, whatever these are called.
            if image is not None and not image.is_relative_to(root):
                found[name] = image
    return found


def _has_more_axes(path: Path) -> bool:
    """Whether a class file has more than rows and columns, by its header; damaged files fail when they are read."""
    try:
        if file_kind(path) != "TIFF":
            return False
        check_tiff_structure(path)
        with tifffile.TiffFile(path) as tif:
            return tif.series[0].ndim > 2
    except Exception:  # whatever a damaged header raises
        return False


def _read_first_channel(path: Path) -> np.ndarray:
    try:
        image = read_file(check_file(path, LABEL_SUFFIXES), stored=True, plane=0)
    except ImageError as error:
        raise LabelError(
            error.what, where=error.where, found=error.found, expected=error.expected, fix=error.fix
        ) from error
    return as_label_numbers(np.asarray(image.pixels[0]), path)


def _check_sizes(masks: Mapping[int, np.ndarray], folder: _Folder) -> None:
    sizes = {number: mask.shape for number, mask in masks.items()}
    first = next(iter(sizes.values()))
    for number, size in sizes.items():
        if size != first:
            raise LabelError(
                "the files of the classes differ in size", where=folder.classes[number],
                found=f"{size[0]} x {size[1]} pixels", expected=f"{first[0]} x {first[1]}, as the first",
                fix="export them again from the same image",
            )  # fmt: skip
