"""Find the image files that annotations speak of, and their sizes without reading the pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from cytomask.errors import DataError, ImageError
from cytomask.formats.images import IMAGE_SUFFIXES, read_image

#: Suffix of the folders that are images.
ZARR = ".zarr"
_SUFFIXES = tuple(sorted((".ome.tif", ".ome.tiff", ".ome.zarr", *IMAGE_SUFFIXES), key=len, reverse=True))


def plain_name(file_name: str) -> str:
    r"""Name of an image: its path as annotations tell it, with ``/`` between folders and without the suffix.

    Examples
    --------
    >>> plain_name("a/b.ome.tif"), plain_name("b.v2.png"), plain_name("c"), plain_name(r".\a\b.TIF")
    ('a/b', 'b.v2', 'c', 'a/b')
    """
    parts = [part for part in file_name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    name = "/".join(parts)
    suffix = next((s for s in _SUFFIXES if name.lower().endswith(s) and len(name) > len(s)), "")
    return name[: len(name) - len(suffix)] if suffix else name


def _images_below(folder: Path) -> Iterator[Path]:
    """Image files, and zarr folders, which are images themselves, in a folder and its subfolders."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        is_zarr = path.suffix.lower() == ZARR
        if path.is_dir() and not is_zarr and not path.is_symlink():
            yield from _images_below(path)
        elif path.suffix.lower() in IMAGE_SUFFIXES and path.is_dir() == is_zarr:
            yield path


class ImageFinder:
    """The images of some folders, by name; files outside them are never looked at, whatever an annotation says.

    Parameters
    ----------
    places
        Folders (searched with their subfolders) and image files; none of them finds nothing.

    Examples
    --------
    >>> ImageFinder([]).find("a.tif") is None
    True
    """

    def __init__(self, places: Iterable[str | Path] = ()) -> None:
        self.places = tuple(Path(place) for place in places)
        self._full: dict[str, list[Path]] | None = None
        self._short: dict[str, list[Path]] = {}
        self._sizes: dict[Path, tuple[int, int]] = {}

    def find(self, file_name: str) -> Path | None:
        """Find an image by the name that an annotation tells, with or without folders and suffix.

        The whole path below a folder counts first, then the end of it, then the file's name alone, where one image only
        bears it.

        Raises
        ------
        DataError
            If several images bear that name.
        """
        self._look()
        assert self._full is not None
        name = plain_name(file_name)
        for place in (self._full, self._short):
            key = name if place is self._full else name.rsplit("/", 1)[-1]
            found = place.get(key, [])
            exact = [p for p in found if p.name == PureWindowsPath(PurePosixPath(file_name).name).name] or found
            if len(exact) == 1:
                return exact[0]
            if exact:
                raise DataError(
                    f"several images are called {file_name}",
                    where=exact[0].parent,
                    found=", ".join(str(p) for p in exact[:5]),
                    fix="give the folder that the annotation is about, or rename the files",
                )
        return None

    def find_clear(self, file_name: str) -> Path | None:
        """As :meth:`find`, for annotations that can do without the image: None where several images bear the name."""
        try:
            return self.find(file_name)
        except DataError:
            return None

    def size(self, path: Path) -> tuple[int, int]:
        """Height and width of an image file.

        Raises
        ------
        ImageError
            If the file is no image.
        """
        if path not in self._sizes:
            self._sizes[path] = read_image(path).shape
        return self._sizes[path]

    def size_of(self, file_name: str, where: Path) -> tuple[int, int]:
        """Height and width of the image of that name, for formats that do not tell them.

        Raises
        ------
        DataError
            If there is no such image; ``where`` is the annotation's file.
        """
        path = self.find(file_name)
        if path is None:
            looked = ", ".join(str(place) for place in self.places) or "nowhere: no folder of images was named"
            raise DataError(
                "the annotation does not tell the image's size, and the image was not found",
                where=where,
                found=f"{file_name}; looked in {looked}",
                expected="the image itself",
                fix="name the folder of the images with --images",
            )
        try:
            return self.size(path)
        except ImageError as error:
            raise DataError(
                error.what, where=path, found=error.found, expected=error.expected, fix=error.fix
            ) from error

    def all(self) -> dict[str, Path]:
        """All images by name, those of unclear name left out; in the order of their names."""
        self._look()
        assert self._full is not None
        return {name: paths[0] for name, paths in sorted(self._full.items()) if len(paths) == 1}

    def _look(self) -> None:
        if self._full is not None:
            return
        full: dict[str, list[Path]] = defaultdict(list)
        short: dict[str, list[Path]] = defaultdict(list)
        for place in self.places:
            single = place.is_file() or place.suffix.lower() == ZARR
            for path in [place] if single else sorted(_images_below(place)):
                below = path.name if single else path.relative_to(place).as_posix()
                full[plain_name(below)].append(path)
                short[plain_name(path.name)].append(path)
        self._full, self._short = dict(full), dict(short)
