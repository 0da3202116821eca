"""Read the files of microscopes' own software (ND2, CZI, LIF) with bioio, where that is installed.

bioio and its readers are the extra ``bioio``. The one for CZI is under the GPL, so that neither it nor the others come
with the package itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import CytomaskError, ImageError
from cytomask.formats.limits import check_unpacked_size
from cytomask.formats.planes import choose_plane
from cytomask.image import Image
from cytomask.image_axes import check_axes


@dataclass(frozen=True)
class _Kind:
    """A kind of file: its name, how it begins, and the module that reads it."""

    name: str
    starts: tuple[bytes, ...]
    module: str


_KINDS = {
    ".nd2": _Kind("ND2", (b"\xda\xce\xbe\x0a", b"\0\0\0\x0cjP  "), "bioio_nd2"),
    ".czi": _Kind("CZI", (b"ZISRAWFILE",), "bioio_czi"),
    ".lif": _Kind("LIF", (b"\x70\0\0\0",), "bioio_lif"),
}
#: Suffixes of the files that bioio reads.
BIOIO_SUFFIXES = tuple(_KINDS)


def bioio_kind(start: bytes) -> str | None:
    """Name of the kind of file that begins with these bytes, if bioio reads it.

    Examples
    --------
    >>> bioio_kind(b"ZISRAWFILE" + bytes(22)), bioio_kind(b"GIF89a")
    ('CZI', None)
    """
    return next((kind.name for kind in _KINDS.values() if start.startswith(kind.starts)), None)


def read_bioio(
    path: Path, *, axes: str | None = None, plane: int | None = None, told: Sequence[str] = (), start: bytes
) -> Image:
    """Read one plane of the first scene of an ND2, CZI or LIF file, with all its channels, into memory.

    Parameters
    ----------
    path
        The file.
    axes
        The axes, where the file tells them wrongly.
    plane
        Which plane of a stack or movie, counted from 0: times, then depths.
    told
        Clauses for ``Image.resolved``.
    start
        The first bytes of the file, which tell its kind.

    Raises
    ------
    ImageError
        If the extra ``bioio`` is not installed, the file is damaged, its plane takes more than 8 GiB, or it is a stack
        without ``plane``.
    """
    kind = next(kind for kind in _KINDS.values() if start.startswith(kind.starts))
    try:
        bioio, plugin = importlib.import_module("bioio"), importlib.import_module(kind.module)
    except ImportError as error:
        raise ImageError(
            f"reading {kind.name} needs packages that are not installed",
            where=path,
            found=f"no module {error.name!r}" if error.name else error,
            fix='install them with: pip install "cytomask[bioio]"; or export the image as OME-TIFF',
        ) from error
    try:
        return _read(bioio.BioImage(path, reader=plugin.Reader), kind.name, path, axes, plane, list(told))
    except CytomaskError:
        raise
    except Exception as error:  # whatever a reader raises on a damaged file
        raise ImageError(
            f"the {kind.name} file is damaged, or of a version that cannot be read",
            where=path,
            found=f"{type(error).__name__}: {error}",
            fix="copy it again, or export the image as OME-TIFF",
        ) from error


def _read(file: Any, kind: str, path: Path, axes: str | None, plane: int | None, told: list[str]) -> Image:
    if len(file.scenes) > 1:
        told.append(f"the first of {len(file.scenes)} scenes in the file ({file.scenes[0]})")
    array = file.dask_data
    shape = tuple(int(size) for size in array.shape)
    letters = check_axes(axes or str(file.dims.order), shape, path)
    clause = f"axes {letters}: " + ("as told" if axes else f"told by the {kind} file")
    index, clause = choose_plane(letters, shape, plane, clause, path)
    chosen = array[index]
    check_unpacked_size(chosen.shape, chosen.dtype.itemsize, path, packed=False)
    # One thread: the readers below are not all made for several.
    pixels = np.asarray(chosen.compute(scheduler="synchronous"))
    letters = "".join(letter for letter, part in zip(letters, index) if isinstance(part, slice))
    sizes = dict(zip(letters, pixels.shape))
    names = [str(name) for name in file.channel_names or []]
    size = _pixel_size(file.physical_pixel_sizes)
    told += [f"the pixel size is told by the {kind} file"] * (size is not None)
    return Image.from_array(
        pixels,
        axes=letters,
        channels=names if "S" not in sizes and len(names) == sizes.get("C", 1) and all(names) else None,
        pixel_size=size,
        source=path,
        told=[clause, *told],
    )


def _pixel_size(sizes: Any) -> tuple[float, float] | None:
    """µm along y and x, of which a file may tell none or one."""
    known = [float(size) if size and np.isfinite(size) and size > 0 else None for size in (sizes.Y, sizes.X)]
    y, x = known[0] or known[1], known[1] or known[0]
    return (y, x) if y and x else None
