"""Read images of any supported kind, and find them in folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

from cytomask.errors import ImageError
from cytomask.formats.raster import read_raster
from cytomask.formats.tiff import read_tiff
from cytomask.image import Image
from cytomask.progress import say

TIFF_SUFFIXES = (".tif", ".tiff", ".btf")
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
#: Suffixes of the files that can be read, in lower case.
IMAGE_SUFFIXES = TIFF_SUFFIXES + RASTER_SUFFIXES
#: What prediction writes beside images; not taken for images when a folder is listed.
OUR_OUTPUTS = ("_labels.tif", "_labels.png", "_overlay.png")


def read_image(path: str | Path, *, axes: str | None = None, plane: int | None = None) -> Image:
    """Read an image file.

    Parameters
    ----------
    path
        A TIFF (plain, OME or ImageJ), PNG, JPEG or BMP file.
    axes
        The file's axes, where it does not tell them or tells them wrongly: one letter each, such as ``"CYX"``.
    plane
        Which plane of a stack or movie to read, counted from 0.

    Returns
    -------
    Image
        Its ``resolved`` says how the file was understood. Uncompressed TIFF is mapped, not loaded.

    Raises
    ------
    ImageError
        If the file is missing, damaged, of another kind, a stack without ``plane``, or holds no proper pixels.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> path = Path(tempfile.mkdtemp()) / "cells.tif"
    >>> tifffile.imwrite(path, np.zeros((2, 30, 20), np.uint16), metadata={"axes": "CYX"})
    >>> read_image(path).shape
    (30, 20)
    """
    path = check_file(path, IMAGE_SUFFIXES, ImageError)
    if path.suffix.lower() in TIFF_SUFFIXES:
        return read_tiff(path, axes=axes, plane=plane)
    return read_raster(path, axes=axes, plane=plane)


def check_file(path: str | Path, suffixes: Sequence[str], error: type[ImageError]) -> Path:
    """Make sure that a path is a file of a supported kind with something in it."""
    path = Path(path)
    if path.is_dir():
        raise error("this is a folder, not an image", where=path, fix="name the files in it")
    if not path.exists():
        raise error("the file does not exist", where=path, fix="check the name and the folder")
    if path.suffix.lower() not in suffixes:
        raise error(
            "this kind of file is not supported",
            where=path,
            found=path.suffix or "no suffix",
            expected=", ".join(suffixes),
            fix="export it as TIFF",
        )
    if path.stat().st_size == 0:
        raise error("the file is empty", where=path, found="0 bytes", fix="export or copy it again")
    return path


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """Find the images that files, folders and patterns name.

    Parameters
    ----------
    paths
        Files; folders (their images, without subfolders); patterns with ``*``, ``?``, ``[…]`` and ``**``.

    Returns
    -------
    list of Path
        In natural order (``img2`` before ``img10``), each once. Hidden files, and in folders and patterns the label
        images and overlays of an earlier prediction, are left out.

    Raises
    ------
    ImageError
        If a path does not exist, is of an unsupported kind, or matches no image.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for image in _matches(path):
            found.setdefault(os.path.abspath(image), image)  # noqa: PTH100 - links stay apart
    if not found:
        raise ImageError("no image was named", expected="files, folders or patterns")
    return sorted(found.values(), key=_natural)


def _matches(path: str | Path) -> list[Path]:
    place = Path(path)
    if place.is_dir():
        inside = [entry for entry in place.iterdir() if entry.is_file()]
    elif not place.exists() and glob.has_magic(str(path)):
        inside = [Path(name) for name in glob.glob(str(path), recursive=True) if Path(name).is_file()]  # noqa: PTH207
    else:
        return [check_file(place, IMAGE_SUFFIXES, ImageError)]
    images = [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
    kept = [p for p in images if not p.name.lower().endswith(OUR_OUTPUTS)]
    if not images or (place.is_dir() and not kept):
        raise ImageError(
            "there is no image here" if place.is_dir() else "nothing matches the pattern",
            where=path,
            found=f"{len(inside)} other files" if inside else "no files",
            expected=", ".join(IMAGE_SUFFIXES),
        )
    if kept and len(kept) < len(images):
        say(f"{path}: {len(images) - len(kept)} label images or overlays of an earlier prediction are left out")
    return kept or images


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]
