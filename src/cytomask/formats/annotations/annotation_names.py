"""Names of images in what is written: file names in lists, and files named after images in folders.

Names come from other people's files. None of them leads out of the folder that is written, and no two images share a
file.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from cytomask.errors import DataError
from cytomask.formats.annotations.annotation import Annotation
from cytomask.formats.annotations.image_finder import plain_name

#: Characters that no file name has on all systems, beside the control characters.
_FORBIDDEN = frozenset('<>:"|?*\\')
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{p}{i}" for p in ("com", "lpt") for i in range(1, 10))})


def listed_name(annotation: Annotation) -> str:
    """The file name under which a list tells an image, so that a reader arrives at the same name again.

    Parameters
    ----------
    annotation
        Its file name is taken where it fits its name, else the name with the file's suffix, else the name.

    Examples
    --------
    >>> from cytomask.instances import Instances
    >>> nothing = Instances.empty((4, 4))
    >>> listed_name(Annotation("a/b", nothing, file_name="b.tif")), listed_name(Annotation("a", nothing))
    ('a/b.tif', 'a')
    """
    name = annotation.name
    told = annotation.file_name or (annotation.image.name if annotation.image else "")
    last = plain_name(told).rsplit("/", 1)[-1]
    suffix = told[told.rfind(last) + len(last) :] if last and last in told else ""
    for candidate in (told, name + suffix, name, f"{name}.tif"):
        if candidate and plain_name(candidate) == name:
            return candidate
    return name


class FilesOfImages:
    r"""Where the files of images go in a folder that is written: one each, named after the image.

    Parameters
    ----------
    folder
        The folder; subfolders are made as the names need them.
    ending
        What follows the image's name, such as ``".zip"``.

    Examples
    --------
    >>> import tempfile
    >>> files = FilesOfImages(Path(tempfile.mkdtemp()), ".geojson")
    >>> files.path("a/b").name
    'b.geojson'
    >>> files.path("../b")
    Traceback (most recent call last):
    ...
    cytomask.errors.DataError: the image's name cannot be a file's name
      where:    ../b
      expected: folders and a name without .., and without < > : " | ? * \ and control characters
      to do:    rename the image
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self.ending = folder, ending
        self._taken: dict[str, str] = {}

    def path(self, name: str) -> Path:
        """Path of an image's file; its folder is made.

        Raises
        ------
        DataError
            If the name is not safe as a path, or another image has the same, but for upper and lower case.
        """
        parts = name.split("/")
        if not all(_is_safe(part) for part in parts):
            raise DataError(
                "the image's name cannot be a file's name",
                where=name,
                expected='folders and a name without .., and without < > : " | ? * \\ and control characters',
                fix="rename the image",
            )
        # Where the name itself looks like a file of an image, a suffix of its own protects it from being cut.
        stem = name if plain_name(name) == name else f"{name}.tif"
        key = stem.casefold()
        if key in self._taken:
            raise DataError(
                "two images would have the same file",
                where=f"{stem}{self.ending}",
                found=f"{self._taken[key]} and {name}",
                fix="rename one of the images",
            )
        self._taken[key] = name
        target = self.folder.joinpath(*PurePosixPath(stem + self.ending).parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        return target


def _is_safe(part: str) -> bool:
    return (
        part not in ("", ".", "..")
        and part == part.strip()
        and not part.endswith(".")
        and part.split(".")[0].lower() not in _RESERVED
        and not any(c in _FORBIDDEN or ord(c) < 32 or ord(c) == 127 for c in part)
    )
