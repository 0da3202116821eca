"""Open annotations of any format: say which it is, and find the images that it speaks of."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from cytomask.errors import ConfigError, DataError
from cytomask.formats.annotations.annotation import AnnotationSet
from cytomask.formats.annotations.annotation_formats import ANNOTATION_FORMATS, AnnotationFormat
from cytomask.formats.annotations.image_finder import ImageFinder

#: Where images lie beside their annotations, when nobody says it; the first of these folders that there is.
IMAGE_FOLDERS = ("images", "image", "rawimages", "raw")


def find_format(name: str, option: str = "--from") -> AnnotationFormat:
    """Look a format up by its name.

    Raises
    ------
    ConfigError
        If there is none of that name; the nearest one is named.

    Examples
    --------
    >>> find_format("coco").title
    'COCO JSON'
    """
    found = ANNOTATION_FORMATS.get(name.strip().lower())
    if found is not None:
        return found
    near = difflib.get_close_matches(name.lower(), ANNOTATION_FORMATS, n=1)
    raise ConfigError(
        "there is no such annotation format",
        where=option,
        found=name,
        expected=", ".join(ANNOTATION_FORMATS),
        fix=f"did you mean {near[0]!r}?" if near else None,
    )


def recognise_format(path: str | Path) -> AnnotationFormat | None:
    """Tell the format of a file or folder by a look at it; None if it is of no known format.

    A folder of plain label images is told last, since other formats hold label images, too.
    """
    path = Path(path)
    if not path.exists():
        return None
    rows = sorted(ANNOTATION_FORMATS.values(), key=lambda row: row.name == "labels")
    return next((row for row in rows if row.load().recognise(path)), None)


def open_annotations(
    path: str | Path,
    format: str | None = None,
    images: Sequence[str | Path] = (),
    option: str = "--from",
    truth: str | Path | None = None,
) -> AnnotationSet:
    """Open annotations.

    Parameters
    ----------
    path
        A file or folder.
    format
        Name of its format; None tells it by its content.
    images
        Folders of the images, or image files. Without any, ``images/`` beside the file or in the folder is looked
        into, or else the folder itself.
    option
        What to call ``format`` in errors.
    truth
        The COCO file whose images COCO results are of; results by themselves know images by their numbers only.

    Raises
    ------
    DataError
        If there is nothing, it is of no known format, or it is broken.
    ConfigError
        If there is no such format.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from cytomask.formats.label_images import write_labels
    >>> place = Path(tempfile.mkdtemp())
    >>> write_labels(place / "a.png", np.array([[0, 7], [7, 9]]))
    >>> [(a.name, len(a.instances)) for a in open_annotations(place)]
    [('a', 2)]
    """
    path = Path(path)
    if not path.exists():
        raise DataError("there are no annotations", where=path, found="nothing", fix="check the name and the folder")
    row = recognise_format(path) if format is None else find_format(format, option)
    if row is None:
        raise DataError(
            "this is of no annotation format that is known",
            where=path,
            found=_describe(path),
            expected=", ".join(f"{row.name} ({row.title})" for row in ANNOTATION_FORMATS.values()),
            fix=f"name the format with {option}, or export the annotations in one of these",
        )
    if truth is not None and row.name != "coco-results":
        raise ConfigError(
            "only COCO results need the truth to name their images", where="--truth", found=row.title,
            fix="leave out --truth",
        )  # fmt: skip
    places = [Path(place) for place in images]
    missing = next((place for place in places if not place.exists()), None)
    if missing is not None:
        raise DataError("the folder of the images does not exist", where=missing, fix="check the name and the folder")
    more = {} if truth is None else {"truth": Path(truth)}
    found: AnnotationSet = row.load().open_annotations(path, ImageFinder(places or usual_places(path)), **more)
    if not found.names:
        raise DataError(
            "the annotations speak of no image", where=path, found=f"{row.title} without images",
            fix="export them again, or name the right file",
        )  # fmt: skip
    return found


def usual_places(path: Path) -> list[Path]:
    """Folders in which the images of annotations are looked for when nobody says where they are."""
    folders = [path, path.parent] if path.is_dir() else [path.parent]
    for folder in folders:
        images = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
        if images is not None and images.resolve() != path.resolve():
            return [images]
    return folders[:1]


def _describe(path: Path) -> str:
    if path.is_file():
        return f"a file {path.suffix or 'without a suffix'} of {path.stat().st_size} bytes"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
    return "a folder with " + (", ".join(names[:8]) + (" …" if len(names) > 8 else "") if names else "nothing in it")
