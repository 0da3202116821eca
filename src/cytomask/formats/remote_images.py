"""Images in buckets and on web servers, brought here."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from cytomask.storage.remote import is_remote, local_file, local_folder
from cytomask.storage.systems import as_url, lists, name_of


def image_here(path: str | Path) -> Path:
    """Give a path of this machine, of an image that may be elsewhere.

    Examples
    --------
    >>> image_here("a.tif")
    PosixPath('a.tif')
    """
    if not is_remote(path):
        return Path(path)
    url = as_url(path)
    return local_folder(url) if name_of(url).lower().endswith(".zarr") else local_file(url)


def images_here(address: str | Path, suffixes: Sequence[str]) -> list[Path]:
    """Fetch what an address names.

    Parameters
    ----------
    address
        Of an image; or of a bucket's folder, of which the images (not those in subfolders) are fetched; or a pattern of
        a bucket's files, with ``*``, ``?``, ``[…]`` and ``**``.
    suffixes
        What images' names end in.

    Returns
    -------
    list of Path
        The image, the folder, or the files that fit the pattern.

    Raises
    ------
    DownloadError
        If there is nothing, or it cannot be fetched.
    """
    url, ends = as_url(address), tuple(suffixes)
    if not (lists(url) and glob.has_magic(url)):
        # Of a folder of zarr, all that is in it.
        inside = name_of(url).lower()
        if inside.endswith(ends):
            return [image_here(url)]
        return [local_folder(url, lambda key: key.partition("/")[0].lower().endswith(ends))]
    parts = url.split("/")
    first = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    wanted = re.compile(pattern_of("/".join(parts[first:])))
    base = local_folder("/".join(parts[:first]), lambda key: wanted.fullmatch(key) is not None)
    found = sorted(path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return [base / key for key in found if wanted.fullmatch(key)]


def pattern_of(text: str) -> str:
    """Give the regular expression of a pattern of files' names: ``*`` stays in a folder, ``**`` does not.

    Examples
    --------
    >>> bool(re.fullmatch(pattern_of("**/img_[12].*"), "a/b/img_2.tif")), bool(re.fullmatch(pattern_of("*"), "a/b"))
    (True, False)
    """
    steps = []
    for part in text.split("/"):
        if part == "**":
            steps.append("(?:[^/]+/)*")
            continue
        pieces = re.findall(r"\[[^]]+]|.", part)
        known = {"*": "[^/]*", "?": "[^/]"}
        steps.append("".join(known.get(p, p.replace("[!", "[^") if len(p) > 1 else re.escape(p)) for p in pieces) + "/")
    return "".join(steps).removesuffix("/")
