"""S-BSST265, the annotated fluorescence nuclei of Kromp et al. (2020), and folders laid out like it.

``rawimages/NAME.tif`` are the images, ``groundtruth/NAME.tif`` label images, ``groundtruth_svgs/NAME.svg`` drawings
with an outline for each nucleus, and ``image_description.csv`` (separated by semicolons) has a row for each image.

Label images are read where there are any, and drawings where there are none, or where the folder ``groundtruth_svgs``
itself is opened, or where a drawing says that its outlines follow the pixels, as those do that are written here: these
keep overlap. A pixel is a nucleus's if its centre lies inside the outline, with the picture's corner at 0, and the
drawing's fill rule. Where several layers hold outlines, the drawing's fourth child counts, which is where the data
set's own converter looks.

The columns of the table become facts of the images, and the suggested training and test set their split.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cytomask.errors import CytomaskError, DataError
from cytomask.formats.annotations.annotation import Annotation, AnnotationSet
from cytomask.formats.annotations.annotation_files import files_below
from cytomask.formats.annotations.annotation_names import FilesOfImages
from cytomask.formats.annotations.bsst265_table import DESCRIPTION, read_descriptions, write_descriptions
from cytomask.formats.annotations.image_copies import copy_as_tiff, write_view
from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.label_files import image_beside
from cytomask.formats.annotations.losses import UNNAMED
from cytomask.formats.annotations.svg_masks import is_exact, read_svg_masks, write_svg_masks
from cytomask.formats.label_images import LABEL_SUFFIXES, read_labels, write_labels
from cytomask.formats.limits import check_label_image
from cytomask.instances import Instances
from cytomask.output import new_folder

_IMAGES, _LABELS, _DRAWINGS = "rawimages", "groundtruth", "groundtruth_svgs"


@dataclass(frozen=True)
class _Files:
    labels: Path | None
    drawing: Path | None
    image: Path | None


@dataclass(frozen=True, eq=False)
class _Reader:
    files: dict[str, _Files]
    facts: dict[str, dict[str, str]]
    images: ImageFinder

    def read(self, name: str) -> Annotation:
        files = self.files[name]
        if files.labels is not None:
            objects = Instances.from_labels(read_labels(files.labels))
        else:
            assert files.drawing is not None
            size = self.images.size(files.image) if files.image is not None else None
            objects = read_svg_masks(files.drawing, size)
        return Annotation(
            name,
            objects,
            file_name=files.image.name if files.image is not None else None,
            image=files.image,
            facts=self.facts.get(name, {}),
        )


def recognise(path: Path) -> bool:
    """Whether a folder has ``groundtruth_svgs``, or ``groundtruth`` and ``image_description.csv``, or is the first.

    Examples
    --------
    >>> recognise(Path("nowhere"))
    False
    """
    try:
        if not path.is_dir():
            return False
        root, asked = _root(path)
        has_drawings = any(files_below(root / _DRAWINGS, (".svg",)))
        return has_drawings or (
            not asked and (root / DESCRIPTION).is_file() and any(files_below(root / _LABELS, LABEL_SUFFIXES))
        )
    except (OSError, CytomaskError):
        return False


def open_annotations(path: Path, images: ImageFinder) -> AnnotationSet:
    """Find the images, and what is told of them.

    Parameters
    ----------
    path
        The data set's folder (or the one in which its ``dataset`` lies), or its ``groundtruth_svgs``, to read the
        drawings in place of the label images.
    images
        Where the images are, if not in ``rawimages``.

    Raises
    ------
    DataError
        If two files are for the same image, or the table is broken.
    """
    root, asked = _root(path)
    labels = {} if asked else _by_name(root / _LABELS, LABEL_SUFFIXES)
    drawings = _by_name(root / _DRAWINGS, (".svg",))
    raw = ImageFinder([root / _IMAGES] if (root / _IMAGES).is_dir() else [])
    files, exact, outlined = {}, 0, 0
    for name in sorted({*labels, *drawings}):
        of_labels, of_drawing = labels.get(name), drawings.get(name)
        if of_drawing is not None and of_labels is not None and is_exact(of_drawing):
            of_labels, exact = None, exact + 1
        elif of_labels is None:
            outlined += 1
        beside = of_labels or of_drawing
        assert beside is not None
        image = image_beside(name, beside, raw) or image_beside(name, beside, images)
        files[name] = _Files(of_labels, of_drawing, image)
    told = []
    if outlined:
        told.append(f"read from their drawings: {outlined} images")
    if exact:
        told.append(f"read from drawings whose outlines follow the pixels, not from label images: {exact} images")
    if not asked and len(files) > exact + outlined and drawings:
        told.append(f"read from label images: {len(files) - exact - outlined}; open {_DRAWINGS} to read the drawings")
    facts: dict[str, dict[str, str]] = {}
    table = root / DESCRIPTION
    if table.is_file():
        facts, passed_over = read_descriptions(table, list(files))
        if passed_over:
            told.append(f"rows of {DESCRIPTION} about other images are passed over: {passed_over}")
    reader = _Reader(files, facts, images)
    return AnnotationSet(UNNAMED, tuple(files), reader.read, tuple(told), facts)


def write_annotations(path: Path, annotations: Iterable[Annotation], classes: Sequence[str]) -> None:  # noqa: ARG001
    """Write label images, drawings that keep overlap, copies of the images where they are known, and the table.

    Parameters
    ----------
    path
        The folder; it must be new or empty.
    annotations
        What to write. In label images the better scored of overlapping objects is on top.
    classes
        Not written: the format has none.

    Raises
    ------
    DataError
        If a name cannot be a file's, or two images would share a file.
    OutputError
        If the folder cannot be written, or an image cannot be copied.
    """
    with new_folder(path) as folder:
        images, labels, drawings = (
            FilesOfImages(folder / part, ending)
            for part, ending in ((_IMAGES, ".tif"), (_LABELS, ".tif"), (_DRAWINGS, ".svg"))
        )
        for part in (_IMAGES, _LABELS, _DRAWINGS):
            (folder / part).mkdir()
        facts = {}
        for annotation in annotations:
            name, objects = annotation.name, annotation.instances
            check_label_image(objects.shape, name)
            copy_as_tiff(annotation, images.path(name))
            write_labels(labels.path(name), objects.to_labels())
            drawing = drawings.path(name)
            view = drawing.with_suffix(".jpg") if write_view(annotation, drawing.with_suffix(".jpg")) else None
            write_svg_masks(drawing, objects, name, view.name if view is not None else None)
            facts[name] = dict(annotation.facts)
        write_descriptions(folder / DESCRIPTION, facts)


def _root(path: Path) -> tuple[Path, bool]:
    """The data set's folder, and whether the drawings are asked for."""
    if path.name.lower() != _DRAWINGS:
        path = path if path.name else path.resolve()  # "." has no name
    if path.name.lower() == _DRAWINGS:
        return path.parent, True
    inner = path / "dataset"
    has_own = any((path / part).is_dir() for part in (_LABELS, _DRAWINGS))
    return (inner, False) if not has_own and inner.is_dir() else (path, False)


def _by_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files_below(folder, suffixes):
        below = file.relative_to(folder).as_posix()
        name = plain_name(below.removesuffix(file.suffix) if file.suffix.lower() == ".svg" else below)
        if name in found:
            raise DataError(
                "two files are of the same image", where=folder, found=f"{found[name].name} and {file.name}",
                fix="remove one of them",
            )  # fmt: skip
        found[name] = file
    return found
