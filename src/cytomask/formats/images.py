"""Read images of any supported kind, and find them in folders."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cytomask.errors import CytomaskError, ImageError
from cytomask.formats.bioio_images import BIOIO_SUFFIXES, bioio_kind, read_bioio
from cytomask.formats.ome_zarr import is_zarr, read_zarr
from cytomask.formats.raster import SIGNATURES, read_raster
from cytomask.formats.remote_images import image_here, images_here
from cytomask.formats.tiff import read_tiff
from cytomask.formats.tiff_structure import is_tiff
from cytomask.image import Image
from cytomask.progress import say
from cytomask.storage.remote import is_remote

_KINDS = {
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".btf": "TIFF",
    ".svs": "TIFF",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".zarr": "zarr",
    **{suffix: suffix[1:].upper() for suffix in BIOIO_SUFFIXES},
}
#: Suffixes of the files that can be read, in lower case; what ends in ``.zarr`` is a folder.
IMAGE_SUFFIXES = tuple(_KINDS)
#: What prediction writes beside images; not taken for images when a folder is listed.
OUR_OUTPUTS = (
    "_labels.tif", "_labels.png", "_overlay.png", "_labels.zarr", "_labels.ome.zarr",
    "objects_per_class.png", "area_per_class.png",
)  # fmt: skip
_OTHER_KINDS = {
    b"\x89HDF": "HDF5",
    b"PK\x03\x04": "ZIP",
    b"\x1f\x8b": "gzip",
    b"GIF8": "GIF",
    b"\x93NUMPY": "NumPy",
    b"%PDF": "PDF",
    b"RIFF": "WebP or AVI",
    b"\0\0\0\x0cjP": "JPEG 2000",
}


def read_image(path: str | Path, *, axes: str | None = None, plane: int | None = None) -> Image:
    """Read an image file.

    Parameters
    ----------
    path
        A TIFF (plain, OME or ImageJ), PNG, JPEG or BMP file; a folder of OME-Zarr or zarr; or, where the extra
        ``bioio`` is installed, an ND2, CZI or LIF file. Or the address of one: ``https://…``, ``s3://…``.
    axes
        The file's axes, where it does not tell them or tells them wrongly: one letter each, such as ``"CYX"``.
    plane
        Which plane of a stack or movie to read, counted from 0.

    Returns
    -------
    Image
        Its ``resolved`` says how the file was understood. Uncompressed TIFF is mapped, not loaded; of other TIFF and
        zarr, more than 256 MiB are not loaded either, but read by windows.

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
    return read_file(check_file(image_here(path), IMAGE_SUFFIXES), axes=axes, plane=plane)


def read_file(path: Path, *, axes: str | None = None, plane: int | None = None, stored: bool = False) -> Image:
    """Read a file by what it is, which its first bytes tell; ``stored`` leaves the numbers as label images need."""
    if path.is_dir():
        return read_zarr(path, axes=axes, plane=plane, stored=stored)
    announced = _KINDS[path.suffix.lower()]
    kind = file_kind(path)
    if kind is None:
        raise ImageError(
            f"the file is not a {announced} image",
            where=path,
            found=_describe(path),
            expected=f"a {announced} file, as its name says",
            fix="check where it comes from, and export or copy it again",
        )
    told = [] if kind == announced else [f"it is a {kind} file in spite of its name"]
    if kind == "TIFF":
        return read_tiff(path, axes=axes, plane=plane, stored=stored, told=told)
    if kind not in SIGNATURES:
        return read_bioio(path, axes=axes, plane=plane, told=told, start=_start(path))
    return read_raster(path, kind, axes=axes, plane=plane, stored=stored, told=told)


def file_kind(path: Path) -> str | None:
    """Tell TIFF, PNG, JPEG, BMP, ND2, CZI and LIF by the first bytes; None for anything else."""
    start = _start(path)
    if is_tiff(start):
        return "TIFF"
    return next((kind for kind, signature in SIGNATURES.items() if start.startswith(signature)), bioio_kind(start))


def _start(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(64)
    except OSError as error:
        raise ImageError(
            "the file cannot be read", where=path, found=error.strerror or error, fix="check its permissions"
        ) from error


def _describe(path: Path) -> str:
    start = _start(path)
    for signature, name in _OTHER_KINDS.items():
        if start.startswith(signature):
            return f"a file of the kind {name}"
    if not start.strip(b"\0"):
        return "zeros: perhaps a copy that was broken off"
    with suppress(UnicodeDecodeError):
        text = start[:60].decode()  # a letter may be cut in two, but hardly in a text that matters here
        if text.isprintable() or "\n" in text:
            return f"text that begins with {text.splitlines()[0][:40]!r}"
    return f"a file that begins with the bytes {start[:8].hex(' ')}"


def check_file(path: str | Path, suffixes: Sequence[str], error: type[CytomaskError] = ImageError) -> Path:
    """Make sure that a path is a file of a supported kind with something in it."""
    path = check_kind(path, suffixes, error)
    if path.is_file() and path.stat().st_size == 0:
        raise error("the file is empty", where=path, found="0 bytes", fix="export or copy it again")
    return path


def check_kind(path: str | Path, suffixes: Sequence[str], error: type[CytomaskError] = ImageError) -> Path:
    """Make sure that a path is a file, or a folder of zarr, and that its name tells a supported kind."""
    path = Path(path)
    if path.is_dir():
        if ".zarr" in suffixes and is_zarr(path):
            return path
        if path.suffix.lower() == ".zarr":
            if ".zarr" not in suffixes:
                raise error("zarr is not read here", where=path, found="a folder", expected=", ".join(suffixes))
            raise error(
                "the zarr folder is empty or incomplete",
                where=path,
                found="no .zgroup, .zarray or zarr.json in it",
                fix="copy or export it again",
            )
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
    return path


def list_images(paths: Sequence[str | Path]) -> list[Path]:
    """Find the images that files, folders and patterns name.

    Parameters
    ----------
    paths
        Files; folders (their images, without subfolders); patterns with ``*``, ``?``, ``[…]`` and ``**``. A folder of
        zarr is an image, not a folder of images. Addresses of files, and of buckets' folders and patterns, are fetched.

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
    if is_remote(path):
        return [image for one in images_here(path, IMAGE_SUFFIXES) for image in _matches(one)]
    place = Path(path)
    if place.is_dir() and not is_zarr(place) and place.suffix.lower() != ".zarr":
        inside = [entry for entry in place.iterdir() if _may_be_image(entry)]
    elif not place.exists() and glob.has_magic(str(path)):
        inside = [Path(name) for name in glob.glob(str(path), recursive=True) if _may_be_image(Path(name))]  # noqa: PTH207
    else:
        # What the file holds is seen when it is read: one that is empty or broken does not keep others from being read.
        return [check_kind(place, IMAGE_SUFFIXES)]
    named = [p for p in inside if p.suffix.lower() in IMAGE_SUFFIXES or p.is_dir()]
    images = [p for p in named if not p.name.startswith(".")]
    kept = [p for p in images if not p.name.lower().endswith(OUR_OUTPUTS)]
    if not images or (place.is_dir() and not kept):
        raise ImageError(
            "there is no image here" if place.is_dir() else "nothing matches the pattern",
            where=path,
            found="only label images and overlays of an earlier prediction" if images else f"{len(inside)} other files",
            expected=", ".join(IMAGE_SUFFIXES),
        )
    if kept and len(kept) < len(images):
        say(f"{path}: {len(images) - len(kept)} label images or overlays of an earlier prediction are left out")
    return kept or images


def _may_be_image(path: Path) -> bool:
    """Whether this is a file, or a folder that is one image, and not a part of such a folder."""
    if path.is_dir():
        return path.suffix.lower() == ".zarr" or is_zarr(path)
    return path.is_file() and not any(parent.suffix.lower() == ".zarr" for parent in path.parents)


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path).casefold())
    return [(1, int(part), part) if part.isdecimal() else (0, 0, part) for part in parts]
