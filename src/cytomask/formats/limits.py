"""How much files may ask for, so that a small hostile or damaged one cannot ask for all the memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from cytomask.errors import ImageError, LabelError

#: Most bytes that one image may take when it is unpacked into memory (what is
#: mapped, or read by windows, is not limited).
MAX_UNPACKED = 8 * 2**30
#: Images that unpack to more than this are read by windows where their file allows it, smaller ones at once.
LAZY_FROM = 2**28
#: Most bytes that one tile, strip or chunk may unpack to where an image is read by windows.
MAX_PIECE = 2**28
#: Up to this size a file is believed whatever it says.
BELIEVED = 2**30
#: Beyond it, a file that unpacks to more than this many times its own size is not. (Deflate reaches 1032 at most, and
#: 8 times that for pictures of one bit.)
MAX_RATIO = 10_000
#: An image of more pixels, or with a longer side, is surely a mistake. Nothing that annotations tell takes as much as
#: their image, so that the largest slides are let pass.
_MAX_PIXELS, _MAX_SIDE = 2**36, 2**24


def check_unpacked_size(shape: Sequence[int], itemsize: int, path: Path, packed: bool = True) -> None:
    """Refuse an image whose header asks for more memory than its file can be meant to hold.

    Parameters
    ----------
    shape, itemsize
        Sizes of the axes, and bytes of a value.
    path
        The file.
    packed
        Whether the size of the file limits what may come of it.

    Raises
    ------
    ImageError
        If the image has no pixels, takes more than 8 GiB, or more than 1 GiB and 10000 times the size of its file.

    Examples
    --------
    >>> check_unpacked_size((100_000, 100_000), 2, Path("a.png"))
    Traceback (most recent call last):
    ...
    cytomask.errors.ImageError: the image is too large to be unpacked
      where:    a.png
      found:    100000 x 100000 values, 18.6 GiB
      expected: at most 8 GiB
      to do:    export a part of it, or save it as TIFF in tiles or as OME-Zarr, which are read by windows
    """
    n_bytes = math.prod(shape) * itemsize
    found = f"{' x '.join(str(size) for size in shape)} values, {_size(n_bytes)}"
    if n_bytes <= 0:
        raise ImageError("the image has no pixels", where=path, found=found, fix="export the image again")
    if n_bytes > MAX_UNPACKED:
        raise ImageError(
            "the image is too large to be unpacked",
            where=path,
            found=found,
            expected=f"at most {_size(MAX_UNPACKED)}",
            fix="export a part of it, or save it as TIFF in tiles or as OME-Zarr, which are read by windows",
        )
    if packed and n_bytes > BELIEVED and n_bytes > MAX_RATIO * path.stat().st_size:
        raise ImageError(
            "the file is too small for the image that it announces",
            where=path,
            found=f"{found}, in a file of {_size(path.stat().st_size)}",
            expected=f"at most {MAX_RATIO} times the size of the file when more than {_size(BELIEVED)}",
            fix="export it again; if it is truly that uniform, save it as uncompressed TIFF",
        )


def is_possible_size(height: int, width: int) -> bool:
    """Whether an image can have the size that an annotation tells.

    Examples
    --------
    >>> is_possible_size(100_000, 150_000), is_possible_size(0, 5), is_possible_size(10**9, 10)
    (True, False, False)
    """
    return min(height, width) > 0 and max(height, width) <= _MAX_SIDE and height * width <= _MAX_PIXELS


def check_label_image(shape: tuple[int, int], where: str | Path) -> None:
    """Refuse to make a label image or mask of a whole image that takes more than 8 GiB.

    Raises
    ------
    LabelError
        If it does.
    """
    if math.prod(shape) * 4 > MAX_UNPACKED:
        raise LabelError(
            "the image is too large for a label image", where=where, found=f"{shape[0]} x {shape[1]} pixels",
            expected=f"at most {_size(MAX_UNPACKED)}, with 4 bytes for each pixel",
            fix="choose a format that holds outlines or run-length codes, such as coco",
        )  # fmt: skip


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.3g} TiB"
