"""Cellpose's segmentations: ``NAME_seg.npy`` beside each image, as its graphical program and its functions save them.

Such a file is a pickled dictionary. It is read without unpickling: the pickle is followed, the label image ``masks``
looked for in it, and nothing that the file names is imported or called
(:mod:`cytomask.formats.pickle_parts`). Of the rest only the diameter and the image's name are read; classes
there are none. In old files the background may be -1.

Written is what the program opens: masks and outlines, colours, and the name of the image, of which a copy is put beside
it where it is known. The program numbers the objects anew when their ids have gaps.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import CytomaskError, LabelError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_files import files_below
from cytomask.formats.annotations.annotation_names import FilesOfImages
from cytomask.formats.annotations.image_copies import copy_as_it_is
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.label_files import image_beside
from cytomask.formats.annotations.losses import UNNAMED
from cytomask.formats.annotations.pickle_writing import pickle_in_array
from cytomask.formats.label_images import as_label_numbers
from cytomask.formats.limits import check_label_image
from cytomask.formats.pickle_parts import PickleError, read_parts
from cytomask.formats.pickled_arrays import as_array, as_number, object_in_array
from cytomask.instances import Instances
from cytomask.output import new_folder

ENDING = "_seg.npy"
_MAGIC = b"\x93NUMPY"
#: A header of such a file has about 120 bytes.
_MOST_HEADER = 4096


@dataclass(frozen=True, eq=False)
class _Reader:
    files: dict[str, Path]
    images: dict[str, Path] = field(default_factory=dict)

    def read(self, name: str) -> Annotation:
        path = self.files[name]
        segmentation = read_segmentation(path)
        masks = _masks(segmentation, path)
        told = segmentation.get("filename")
        file_name = told.replace("\\", "/").rsplit("/", 1)[-1] if isinstance(told, str) else ""
        image = self.images.get(name)
        return Annotation(
            name,
            Instances.from_labels(masks),
            file_name=image.name if image else file_name or None,
            image=image,
            facts=_diameter(segmentation),
        )


def recognise(path: Path) -> bool:
    """Whether this is Cellpose's file, or a folder with such.

    Examples
    --------
    >>> recognise(Path("nowhere_seg.npy"))
    False
    """
    try:
        return any(_begins_as_npy(file) for file in files_below(path, (ENDING,)))
    except OSError:
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the segmentations.

    Parameters
    ----------
    path
        A folder, searched with its subfolders, or a single ``_seg.npy`` file.
    images
        The images; none is needed.
    """
    files = {}
    for file in files_below(path, (ENDING,)):
        below = file.name if path.is_file() else file.relative_to(path).as_posix()
        files[plain_name(below[: -len(ENDING)])] = file
    found = {name: image for name, file in files.items() if (image := image_beside(name, file, images)) is not None}
    return AnnotationSet(UNNAMED, tuple(sorted(files)), _Reader(files, found).read)


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:  # noqa: ARG001
    """Write a segmentation for each image, and beside it a copy of the image where it is known.

    Parameters
    ----------
    path
        The folder; it must be new or empty.
    annotations
        What to write. Where objects overlap, the better scored one is on top.
    classes
        Not written: Cellpose has none.

    Raises
    ------
    DataError
        If a name cannot be a file's, or two images would share a file.
    OutputError
        If the folder cannot be written.
    """
    with new_folder(path) as folder:
        files = FilesOfImages(folder, ENDING)
        for annotation in annotations:
            target = files.path(annotation.name)
            check_label_image(annotation.instances.shape, annotation.name)
            stem = target.name.removesuffix(ENDING)
            told = annotation.image.name if annotation.image is not None else annotation.file_name or "image.tif"
            suffix = told[len(plain_name(told)) :] if told.startswith(plain_name(told)) else ""
            image = f"{stem}{suffix or '.tif'}"
            copy_as_it_is(annotation, target.with_name(image))
            with target.open("wb") as file:
                _write_npy(file, _segmentation(annotation.instances, image))


def read_segmentation(path: Path) -> dict[Any, Any]:
    """Read the dictionary of a ``_seg.npy`` file, in parts as :mod:`cytomask.formats.pickle_parts` gives.

    Raises
    ------
    LabelError
        If the file is no such dictionary, is broken, or names functions that Cellpose's files never need.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise PickleError("it does not begin as one")
            version = file.read(2)
            size = int.from_bytes(file.read(2 if version[:1] == b"\x01" else 4), "little")
            header = file.read(size) if size <= _MOST_HEADER else b""
            if version[:1] not in (b"\x01", b"\x02", b"\x03") or b"'|O'" not in header:
                raise PickleError("it holds a plain array, not a dictionary")
            found = object_in_array(read_parts(file, path.stat().st_size))
        if not isinstance(found, dict):
            raise PickleError("it does not hold a dictionary")
    except OSError as error:
        raise LabelError("the file cannot be read", where=path, found=error.strerror) from error
    except PickleError as error:
        raise _not_cellpose(path, str(error)) from error
    return found


def _masks(segmentation: dict[Any, Any], path: Path) -> np.ndarray:
    if "masks" not in segmentation:
        raise _not_cellpose(path, "there is no label image 'masks' in it")
    try:
        masks = as_array(segmentation["masks"])
    except PickleError as error:
        raise _not_cellpose(path, f"of 'masks': {error}") from error
    if masks is None:
        raise _not_cellpose(path, "'masks' is no array of numbers")
    while masks.ndim > 2 and masks.shape[0] == 1:
        masks = masks[0]
    if masks.ndim != 2 or masks.size == 0:
        raise LabelError(
            "the segmentation is of a volume, not of an image" if masks.ndim > 2 else "the segmentation is empty",
            where=path, found=f"masks of shape {masks.shape}", expected="one plane (Y, X)",
            fix="save the planes one by one" if masks.ndim > 2 else None,
        )  # fmt: skip
    if masks.dtype.kind in "if" and masks.min() == -1:
        masks = masks + 1
    return as_label_numbers(masks, path)


def _diameter(segmentation: dict[Any, Any]) -> dict[str, str]:
    for key in ("diameter", "est_diam"):
        try:
            value = as_number(segmentation.get(key))
        except PickleError:
            continue
        if value is not None and np.isfinite(value) and value > 0:
            return {"diameter": f"{value:g}"}
    return {}


def _segmentation(objects: Instances, image: str) -> dict[str, Any]:
    labels = objects.to_labels()
    n, highest = len(objects), int(labels.max())
    labels = labels.astype(np.uint16 if highest < 2**16 - 1 else np.uint32)
    areas = objects.areas()
    # Cellpose's diameter is that of the disc with the median area.
    diameter = float(2 * np.sqrt(np.median(areas) / np.pi)) if n else None
    return {
        "outlines": labels * _inner_boundary(labels),
        "colors": np.array([_colour(i) for i in range(n)], np.uint8).reshape(-1, 3),
        "masks": labels,
        "chan_choose": [0, 0],
        "ismanual": np.zeros(n, bool),
        "filename": image,
        # Without flows, the program cannot compute the masks anew at other thresholds; it can do all else.
        "flows": [[], [], [], [], [[]]],
        "est_diam": diameter,
        "diameter": diameter,
    }


def _inner_boundary(labels: np.ndarray) -> np.ndarray:
    """Pixels with a neighbour along y or x that is not of the same object; beyond the border is none."""
    framed = np.pad(labels, 1)
    inside = framed[1:-1, 1:-1]
    same = np.ones(labels.shape, bool)
    for neighbour in (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]):
        same &= neighbour == inside
    return ~same & (labels > 0)


def _colour(i: int) -> tuple[int, int, int]:
    """Colours that differ from those of the objects before and after."""
    red, green, blue = colorsys.hsv_to_rgb(i * 0.6180339887 % 1, 0.75, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _write_npy(file: Any, content: dict[str, Any]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    for part in pickle_in_array(content):
        file.write(part)


def _begins_as_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _not_cellpose(path: Path, found: str) -> CytomaskError:
    return LabelError(
        "this is no segmentation as Cellpose saves it", where=path, found=found,
        expected="a dictionary with the label image 'masks'",
        fix="save it again in Cellpose; do not open files of unknown origin with other programs",
    )  # fmt: skip
