"""What the values of an image are: whether they are numbers at all, and how many bits they use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cytomask.errors import ImageError
from cytomask.lazy_pixels import LazyPixels, is_lazy

#: Pixels looked at in one go when a whole image is searched for values that are no numbers.
CHUNK = 4_000_000
#: Bands of rows that the depth is judged by.
_BANDS = 8
#: Side of the windows, and how many along each axis, that the depth of a lazy image is judged by.
_PROBE, _PROBES = 256, 3


def refuse_what_is_no_number(pixels: np.ndarray | LazyPixels, source: Path | None) -> None:
    if pixels.dtype.kind in "buif" and pixels.dtype.itemsize <= 8:
        return
    fix = "take its magnitude first" if pixels.dtype.kind == "c" else None
    raise ImageError(
        "the pixels are not plain numbers",
        where=source,
        found=f"dtype {pixels.dtype}",
        expected="integers, or floats of at most 64 bits",
        fix=fix,
    )


def refuse_what_is_not_finite(pixels: np.ndarray, source: Path | None) -> None:
    """Search floats for NaN and infinite values, some rows at a time so that little memory is needed."""
    if pixels.dtype.kind != "f" or pixels.size == 0:
        return
    nans = infinite = 0
    step = max(1, CHUNK // (pixels.shape[0] * pixels.shape[2]))
    for row in range(0, pixels.shape[1], step):
        part = np.asarray(pixels[:, row : row + step])
        finite = np.isfinite(part)
        if not finite.all():
            bad = part[~finite]
            nans += int(np.isnan(bad).sum())
            infinite += int(np.isinf(bad).sum())
    if nans or infinite:
        raise ImageError(
            "the image holds values that are no numbers",
            where=source,
            found=f"{nans} NaN and {infinite} infinite of {pixels.size} values that were looked at",
            expected="finite values only",
            fix="replace them (for instance by 0 or the median) and save the image again",
        )


def no_pixels(shape: tuple[int, ...], source: Path | None) -> ImageError:
    return ImageError(
        "the image has no pixels",
        where=source,
        found=f"shape {' x '.join(str(size) for size in shape)}",
        fix="export the image again",
    )


def depth(pixels: np.ndarray | LazyPixels) -> str:
    """Name the dtype, and how many of its bits are used (by parts, so that no file is read whole)."""
    name = str(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize == 1:
        return name
    count, height, width = pixels.shape
    if is_lazy(pixels):
        places = [np.linspace(0, max(0, size - _PROBE), _PROBES).astype(int) for size in (height, width)]
        parts = (pixels[:, y : y + _PROBE, x : x + _PROBE] for y in set(places[0]) for x in set(places[1]))
    else:
        band = min(height, max(1, CHUNK // (_BANDS * count * width)))
        starts = {round(start) for start in np.linspace(0, height - band, _BANDS)}
        parts = (pixels[:, start : start + band] for start in starts)
    bits = max(int(part.max()) for part in parts).bit_length()
    where = " in a few windows" if is_lazy(pixels) else ""
    return f"{name} ({bits}-bit values{where})" if 0 < bits < 8 * pixels.dtype.itemsize else name
