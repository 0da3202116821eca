"""Find the files of annotations in a folder, for formats that have one for each image."""

from __future__ import annotations

from pathlib import Path


def files_below(path: Path, endings: tuple[str, ...]) -> list[Path]:
    """Find the files of some endings (in small letters) in a folder and its subfolders, but for hidden ones.

    Parameters
    ----------
    path
        The folder; or a file, which is then the only one, if it ends so.
    endings
        Suffixes, or longer ends of names.

    Examples
    --------
    >>> import tempfile
    >>> place = Path(tempfile.mkdtemp())
    >>> for name in ("a.ROI", ".b.roi", "c.tif"):
    ...     (place / name).touch()
    >>> [file.name for file in files_below(place, (".roi", ".zip"))]
    ['a.ROI']
    """
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if _is_meant(file, path, endings)]
    return [path] if path.name.lower().endswith(endings) and path.is_file() else []


def _is_meant(file: Path, folder: Path, endings: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.name.lower().endswith(endings) and not hidden and file.is_file()
