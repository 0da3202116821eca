"""Find label images in folders, and the images that they are of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cytomask.formats.annotations.image_finder import ImageFinder, plain_name
from cytomask.formats.annotations.open_annotations import IMAGE_FOLDERS
from cytomask.formats.label_images import LABEL_SUFFIXES

#: Folders of label images, where a folder of images lies beside them; the first of these that there is.
LABEL_FOLDERS = ("labels", "label", "masks", "mask", "groundtruth", "annotations")
#: Where prediction writes one mask and one label image per class; they are of the same objects as the others.
CLASS_MASKS_FOLDER = "class_masks"
#: What prediction writes in any case.
_RECORD = "run.json"
_ENDING = re.compile(r"(_cp)?_(labels?|masks?)$", re.IGNORECASE)


def find_label_files(folder: Path) -> tuple[list[tuple[str, Path]], Path, int]:
    """Find the label images in a folder and its subfolders.

    Parameters
    ----------
    folder
        The folder. Where it, or a subfolder, has a folder of images and one of label images, only the latter counts,
        and its name is left out of the images' names.

    Returns
    -------
    tuple
        For each label image its path below the folder as text, and its file; the folder in which a table of classes
        would lie; and how many files were taken for images, since others in their folder end in ``_labels`` or the
        like.
    """
    labels = _label_folder(folder)
    found, left_out = [], 0
    for prefix, files in _walk(folder, "", set()):
        marked = [file for file in files if _ENDING.search(plain_name(file.name))]
        kept = marked or files
        left_out += len(files) - len(kept)
        found += [(f"{prefix}{file.name}", file) for file in kept]
    return found, labels or folder, left_out


def image_name(below: str, file: Path, images: ImageFinder) -> str:
    """Name of the image that a label image is of.

    Parameters
    ----------
    below
        The label image's path below the folder of all.
    file
        The label image.
    images
        The images; one that is called like the label image, ending and all, counts.
    """
    whole = plain_name(below)
    short = plain_name(_ENDING.sub("", whole))
    if short == whole or not short or short.endswith("/") or image_beside(whole, file, images) is not None:
        return whole
    return short


def image_beside(name: str, labels: Path, images: ImageFinder) -> Path | None:
    """The image of a name; None where there is none, several, or only the label image itself."""
    found = images.find_clear(name)
    return None if found is None or found == labels or _same(found, labels) else found


def _same(a: Path, b: Path) -> bool:
    return a.name == b.name and a.resolve() == b.resolve()


def _label_folder(folder: Path) -> Path | None:
    """The folder of label images in a folder that has one of images, too."""
    below = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    labels = next((below[name] for name in LABEL_FOLDERS if name in below), None)
    images = next((below[name] for name in IMAGE_FOLDERS if name in below), None)
    if labels is None or images is None:
        return None
    # Our own writer may have made folders of these names, for images that are called so.
    return None if any(_ENDING.search(plain_name(file.name)) for file in _files(images)) else labels


def _walk(folder: Path, prefix: str, seen: set[Path]) -> Iterator[tuple[str, list[Path]]]:
    if (resolved := folder.resolve()) in seen:  # a link that leads round
        return
    seen.add(resolved)
    labels = _label_folder(folder)
    if labels is not None:
        yield from _walk(labels, prefix, seen)
        return
    yield prefix, _files(folder)
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and not _repeats(path):
            yield from _walk(path, f"{prefix}{path.name}/", seen)


def _repeats(folder: Path) -> bool:
    """Whether a folder holds, class by class, what a prediction wrote beside it."""
    return folder.name == CLASS_MASKS_FOLDER and (folder.parent / _RECORD).is_file()


def _files(folder: Path) -> list[Path]:
    return [
        path for path in sorted(folder.iterdir())
        if path.suffix.lower() in LABEL_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]  # fmt: skip
