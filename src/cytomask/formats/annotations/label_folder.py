"""A folder of label images: in each, every object has its own number, and the background is 0.

Read are TIFF (integers of any type, and floats that are whole numbers), PNG and BMP, called like the images, with or
without ``_labels``, ``_label``, ``_masks``, ``_mask`` or Cellpose's ``_cp_masks`` behind the name; in a folder with its
subfolders, in ``labels/`` where ``images/`` lies beside it (for each split, too), or a single file. Where some of a
folder's files have such an ending, the others are taken for the images.

Written is ``NAME_labels.tif``. Where objects have classes, ``classes.csv`` tells the class of each (columns image, id,
class) and ``classes.txt`` the names of the classes in order; both are read again, and a data set's ``object_classes``
can name the table.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile

from cytomask.errors import CytomaskError, DataError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_names import FilesOfImages
from cytomask.formats.annotations.class_names import CLASS_LIST, check_class_names, read_class_names, write_class_names
from cytomask.formats.annotations.image_finder import ImageFinder
from cytomask.formats.annotations.label_files import find_label_files, image_beside, image_name
from cytomask.formats.annotations.losses import UNNAMED
from cytomask.formats.annotations.object_class_table import CLASS_TABLE, COLUMNS, read_class_table
from cytomask.formats.images import file_kind
from cytomask.formats.label_images import LABEL_SUFFIXES, read_labels, write_labels
from cytomask.formats.limits import check_label_image
from cytomask.formats.tiff_structure import check_tiff_structure
from cytomask.instances import Instances
from cytomask.output import new_folder

#: Where a PNG file tells its kind of colours, it tells these.
_PNG_GREY, _PNG_PALETTE = b"\0", b"\3"


@dataclass(frozen=True, eq=False)
class _Reader:
    files: dict[str, Path]
    images: dict[str, Path]
    classes: tuple[str, ...]
    class_of: dict[str, dict[int, int]] | None

    def read(self, name: str) -> Annotation:
        path = self.files[name]
        labels = read_labels(path)
        if self.class_of is None:
            objects = Instances.from_labels(labels, class_names=self.classes)
        else:
            known = self.class_of.get(name, {})
            objects = Instances.from_labels(labels)
            missing = [i for i in objects.ids.tolist() if i not in known]
            if missing:
                raise DataError(
                    f"object {missing[0]} of {name} has no class",
                    where=path, found=f"{len(missing)} of {len(objects)} objects are not in {CLASS_TABLE}",
                    expected="a row for every object", fix=f"add the rows, or remove {CLASS_TABLE}",
                )  # fmt: skip
            objects = Instances.from_labels(labels, classes=known, class_names=self.classes)
        image = self.images.get(name)
        return Annotation(name, objects, file_name=image.name if image else None, image=image)


def recognise(path: Path) -> bool:
    """Whether this is an image file that may hold labels, or a folder with such.

    Examples
    --------
    >>> recognise(Path("nowhere"))
    False
    """
    try:
        first = path if path.is_file() else next(iter(_listed(path)), None)
        return first is not None and first.suffix.lower() in LABEL_SUFFIXES and _may_hold_labels(first)
    except (OSError, CytomaskError):
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the label images.

    Parameters
    ----------
    path
        A folder, or a single label image.
    images
        The images, to tell which belongs to which; none is needed.

    Raises
    ------
    DataError
        If two files are for the same image, or the table of classes is broken.
    """
    told: list[str] = []
    if path.is_file():
        listed, folder = [(path.name, path)], None
    else:
        listed, folder, left_out = find_label_files(path)
        if left_out:
            told.append(f"taken for images, since others have _labels or the like behind the name: {left_out} files")
    files: dict[str, Path] = {}
    for below, file in listed:
        name = image_name(below, file, images)
        if name in files:
            raise DataError(
                "two label images are of the same image", where=path, found=f"{files[name].name} and {file.name}",
                expected=f"one of {name}", fix="move one of them out of the folder",
            )  # fmt: skip
        files[name] = file
    found = {name: image_beside(name, file, images) for name, file in files.items()}
    classes: tuple[str, ...] = UNNAMED
    class_of = None
    table = folder / CLASS_TABLE if folder is not None else None
    if table is not None and table.is_file():
        names = read_class_names(table.with_name(CLASS_LIST)) if table.with_name(CLASS_LIST).is_file() else None
        classes, class_of, passed_over = read_class_table(table, names, list(files))
        told.append(f"the objects' classes ({', '.join(classes)}) are those of {CLASS_TABLE}")
        if passed_over:
            told.append(f"rows of {CLASS_TABLE} about other images are passed over: {passed_over}")
    reader = _Reader(files, {n: p for n, p in found.items() if p is not None}, classes, class_of)
    return AnnotationSet(classes, tuple(sorted(files)), reader.read, tuple(told))


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:
    """Write a label image for each image, in the smallest type that holds the ids; and the table of classes.

    Parameters
    ----------
    path
        The folder; it must be new or empty.
    annotations
        What to write. Where objects overlap, the better scored one is on top.
    classes
        Names of the classes; ``("object",)`` writes no table.

    Raises
    ------
    DataError
        If a name cannot be a file's, or two images would share a file.
    OutputError
        If the folder cannot be written.
    """
    named = tuple(classes) != UNNAMED
    if named:
        check_class_names(classes)
    with new_folder(path) as folder:
        files = FilesOfImages(folder, "_labels.tif")
        rows = _write_images(files, annotations)
        if not named:
            for _ in rows:
                pass
            return
        with (folder / CLASS_TABLE).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows(rows)
        write_class_names(folder / CLASS_LIST, classes)


def _write_images(files: FilesOfImages, annotations: Iterable[Annotation]) -> Iterator[tuple[str, int, str]]:
    for annotation in annotations:
        objects = annotation.instances
        target = files.path(annotation.name)
        check_label_image(objects.shape, annotation.name)
        try:
            write_labels(target, objects.to_labels())
        except LabelError as error:
            raise DataError(error.what, where=annotation.name, found=error.found, fix=error.fix) from error
        for number, kind in zip(objects.ids.tolist(), objects.classes.tolist()):
            yield annotation.name, number, objects.class_names[kind - 1]


def _listed(path: Path) -> Iterator[Path]:
    return (file for _, file in find_label_files(path)[0]) if path.is_dir() else iter(())


def _may_hold_labels(path: Path) -> bool:
    """Whether a file's header speaks of one number per pixel."""
    kind = file_kind(path)
    if kind == "TIFF":
        try:
            if check_tiff_structure(path) > 1:
                return False
            with tifffile.TiffFile(path) as tif:
                return len(tif.pages) == 1 and tif.pages.first.samplesperpixel == 1
        except Exception:  # whatever a damaged header raises
            return False
    with path.open("rb") as file:
        start = file.read(30)
    if kind == "PNG":
        return start[25:26] in (_PNG_GREY, _PNG_PALETTE)
    return kind == "BMP" and int.from_bytes(start[28:30], "little") in (1, 4, 8)
