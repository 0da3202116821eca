"""Read TIFF: plain, OME and ImageJ, of any depth and size.

What is not packed is mapped; what is packed is read at once, or by windows where it is large.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cytomask.errors import CytomaskError, ImageError
from cytomask.formats.limits import LAZY_FROM, MAX_PIECE, MAX_UNPACKED, check_unpacked_size
from cytomask.formats.planes import choose_plane
from cytomask.formats.tiff_metadata import read_metadata
from cytomask.formats.tiff_structure import check_tiff_structure, truncated
from cytomask.formats.tiff_windows import TiffWindows, can_be_windowed, levels_of
from cytomask.image import Image
from cytomask.image_axes import FEW_CHANNELS, check_axes
from cytomask.lazy_pixels import indexed

_JPEG = {tifffile.COMPRESSION.JPEG, tifffile.COMPRESSION.OJPEG}

# The library logs what it finds odd in a file; here that becomes an error or a clause of `Image.resolved`.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_WHO = {"ome": "the OME metadata", "imagej": "the ImageJ metadata", "shaped": "the file's own metadata"}
_PHOTOMETRIC = tifffile.PHOTOMETRIC
_NOT_A_PICTURE = {
    _PHOTOMETRIC.SEPARATED: "CMYK",
    _PHOTOMETRIC.CIELAB: "CIE Lab",
    _PHOTOMETRIC.ICCLAB: "ICC Lab",
    _PHOTOMETRIC.ITULAB: "ITU Lab",
    _PHOTOMETRIC.LOGL: "LogL",
    _PHOTOMETRIC.LOGLUV: "LogLuv",
    _PHOTOMETRIC.CFA: "a camera's colour mosaic",
}


def read_tiff(
    path: Path, *, axes: str | None = None, plane: int | None = None, stored: bool = False, told: Sequence[str] = ()
) -> Image:
    """Read one plane of a TIFF file, with all its channels.

    Parameters
    ----------
    path
        A file that begins as a TIFF does.
    axes
        The file's axes, where it does not tell them or tells them wrongly.
    plane
        Which plane of a stack or movie, counted from 0 in the order of the file.
    stored
        Leave the numbers as they are stored, as label images need: no palette is applied, no white-is-zero turned.
    told
        Clauses for ``Image.resolved``.

    Notes
    -----
    Pages whose meaning the file does not tell are channels when there are at most 8 (``FEW_CHANNELS``); more are a
    stack, of which ``plane`` chooses. Of several images in one file the first is read. ``resolved`` says so.

    An image of more than 256 MiB (``LAZY_FROM``) that is packed in tiles or strips is read by windows, and so is one
    with a pyramid, whose levels then serve as overviews. What is damaged in it is found when it is read.

    Raises
    ------
    ImageError
        If the file is cut off or damaged, too large to be unpacked, or a stack without ``plane``.
    """
    check_tiff_structure(path)
    try:
        with tifffile.TiffFile(path) as tif:
            return _read(tif, path, axes, plane, stored, list(told))
    except CytomaskError:
        raise
    except Exception as error:  # whatever a decoder raises on a damaged file
        raise ImageError(
            "the TIFF file is damaged, or packed in a way that cannot be read",
            where=path,
            found=f"{type(error).__name__}: {error}",
            fix="open it in ImageJ and save it again as TIFF, or copy it again",
        ) from error


def _read(
    tif: tifffile.TiffFile, path: Path, axes: str | None, plane: int | None, stored: bool, told: list[str]
) -> Image:
    series = tif.series[0]
    if 0 in series.shape:
        check_unpacked_size(series.shape, 1, path)
    page = series.keyframe
    if page.photometric in _NOT_A_PICTURE or (page.photometric == _PHOTOMETRIC.YCBCR and page.compression not in _JPEG):
        raise ImageError(
            "the colours of this TIFF file cannot be read",
            where=path,
            found=_NOT_A_PICTURE.get(tifffile.PHOTOMETRIC(page.photometric), "YCbCr without JPEG"),
            expected="grey or RGB",
            fix="export it as RGB",
        )
    letters, clause = _axes(series, axes, plane, path)
    index, clause = choose_plane(letters, series.shape, plane, clause, path)
    lazily = not stored and _stays_as_stored(tif, page)
    pixels, slices = _pixels(tif, series, index, path, lazily)
    letters = "".join(letter for letter, chosen in zip(letters, index) if isinstance(chosen, slice))
    images = [other for other in tif.series if other is series or not other.keyframe.is_reduced]
    if len(images) > 1:
        told.append(f"the first of {len(images)} images in the file")
    told += _told_of_levels(pixels)
    if axes is None:
        pixels, letters = _samples(pixels, letters, page, told)
    if not stored:
        pixels, letters = _as_shown(pixels, letters, tif, page, told)
    metadata = read_metadata(tif, series, slices)
    sizes = dict(zip(letters, pixels.shape))
    colour = sizes.get("S") in (3, 4) and sizes.get("C", 1) == 1
    named = not colour and len(metadata.names) == sizes.get("C", 1) * sizes.get("S", 1)
    return Image.from_array(
        pixels,
        axes=letters,
        channels=metadata.names if named else None,
        pixel_size=metadata.pixel_size,
        source=path,
        told=[clause, *told, *metadata.told],
    )


def _axes(series: tifffile.TiffPageSeries, axes: str | None, plane: int | None, path: Path) -> tuple[str, str]:
    """Name every axis of the series, and say how; ``_`` is an axis of length 1, ``P`` one of pages."""
    shape: tuple[int, ...] = series.shape
    if axes is not None:
        long = [size for size in shape if size > 1]
        if len(axes.strip()) == len(long) < len(shape):
            given = iter(check_axes(axes, tuple(long), path))
            return "".join(next(given) if size > 1 else "_" for size in shape), f"axes {axes.upper()}: as told"
        return check_axes(axes, shape, path), f"axes {axes.strip().upper()}: as told"
    letters: str = series.axes
    unknown = [i for i, letter in enumerate(letters) if letter in "QI" and shape[i] > 1]
    if not unknown:
        told = "one page" if series.kind in ("uniform", "generic") else ""
        return letters, f"axes {letters}: {told or 'told by ' + _WHO.get(series.kind, f'the {series.kind} metadata')}"
    if len(unknown) == 1 and len(shape) == 3 and plane is None:
        pages, _, last = shape
        if unknown == [0] and pages <= FEW_CHANNELS:
            return "CYX", (
                f"axes CYX: the {pages} pages, of which nothing is told, are taken for channels "
                f"(at most {FEW_CHANNELS} are; --plane takes them for a stack)"
            )
        if last <= FEW_CHANNELS:
            letters, kind = ("YXS", "colour") if last in (3, 4) else ("YXC", "channels")
            return letters, f"axes {letters}: the short last axis is taken for {kind}"
    letters = "".join("P" if i in unknown else letter for i, letter in enumerate(letters))
    return letters, f"axes {letters}: the pages, of which nothing is told, are taken for a stack"


def _pixels(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, index: tuple[slice | int, ...], path: Path, lazily: bool
) -> tuple[Any, list[int]]:
    """Map, read or open the chosen part of a series; also the numbers of the slices that it is made of."""
    pages = _pages_there(tif, series, path)
    if len(pages) < len(series.pages):
        raise ImageError(
            "some pages of the image are missing",
            where=path,
            found=f"{len(series.pages) - len(pages)} of {len(series.pages)} pages are not there",
            fix="put the other files of this image beside it, or export it as one file",
        )
    shape: tuple[int, ...] = series.shape
    frame: tuple[int, ...] = series.keyframe.shape
    n_leading = len(shape) - len(frame)
    paged = n_leading >= 0 and shape[n_leading:] == frame
    leading = shape[:n_leading] if paged else ()
    slices = np.arange(math.prod(leading)).reshape(leading)[index[: len(leading)]]
    chosen = [int(i) for i in slices.ravel()] if paged else []

    here = all(page.parent is tif for page in pages)
    by_page = paged and len(pages) == math.prod(leading)
    itemsize = np.dtype(series.dtype).itemsize
    large = (len(chosen) * math.prod(frame) if by_page else math.prod(shape)) * itemsize > LAZY_FROM
    levels = levels_of(tif, series) if large and lazily and here and by_page else []
    if here and series.dataoffset is not None and not levels:
        size = path.stat().st_size
        end = series.dataoffset + math.prod(shape) * series.dtype.itemsize
        if end > size:
            raise truncated(path, f"{size} bytes where the image needs {end}")
        dtype = series.dtype.newbyteorder(tif.byteorder)
        return np.memmap(path, dtype, "r", series.dataoffset, shape)[index], chosen

    _check_segments(series.keyframe, [pages[i] for i in chosen] if by_page else pages, path)
    if not by_page:
        check_unpacked_size(shape, itemsize, path)
        return series.asarray()[index], chosen
    if large and lazily and here:
        if can_be_windowed(series.keyframe):
            return _windows(series, levels, chosen, slices.shape, path), chosen
        if len(chosen) * math.prod(frame) * itemsize > MAX_UNPACKED:
            raise ImageError(
                "the image is packed in pieces that are too large to be unpacked",
                where=path,
                found=f"{' x '.join(str(size) for size in frame)} values, each plane packed in one piece"
                if len(pages[0].dataoffsets) == 1
                else f"{' x '.join(str(size) for size in frame)} values in {len(pages[0].dataoffsets)} pieces",
                expected=f"tiles or strips of at most {MAX_PIECE >> 20} MiB",
                fix="save it as TIFF in tiles or as OME-Zarr, which are read by windows",
            )
    check_unpacked_size((len(chosen), *frame), itemsize, path)
    pixels = tif.asarray(series=0, key=chosen).reshape(*slices.shape, *frame)
    return pixels[(slice(None),) * slices.ndim + index[n_leading:]], chosen


def _windows(
    series: tifffile.TiffPageSeries,
    levels: Sequence[tuple[tuple[int, int], tifffile.TiffPageSeries]],
    chosen: Sequence[int],
    leading: tuple[int, ...],
    path: Path,
) -> TiffWindows:
    """Open the chosen pages of a series, and those of its coarser levels that are all there."""
    coarser = []
    for place, level in levels:
        pages = [page for page in level.pages if page is not None]
        pages = [pages[i] for i in chosen]
        with suppress(ImageError):
            _check_segments(level.keyframe, pages, path)
            coarser.append(TiffWindows(path, place, level.keyframe, pages, leading))
    return TiffWindows(path, (0, 0), series.keyframe, [series.pages[i] for i in chosen], leading, coarser)


def _told_of_levels(pixels: Any) -> list[str]:
    if not isinstance(pixels, TiffWindows):
        return []
    n_levels = len(pixels.coarser) + 1
    return ["read by windows" + (f"; the finest of {n_levels} levels" if n_levels > 1 else "")]


def _pages_there(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path
) -> list[tifffile.TiffPage | tifffile.TiffFrame]:
    pages: list[tifffile.TiffPage | tifffile.TiffFrame] = []
    with suppress(IndexError):  # a page that the metadata announce, and that the file has not
        pages += (page for page in series.pages if page is not None and len(page.dataoffsets) > 0)
    if tif.is_imagej and series.kind != "imagej" and series.dataoffset is not None:
        # ImageJ keeps a large stack as one page with all planes behind it.
        announced, size = int((tif.imagej_metadata or {}).get("images", 1)), path.stat().st_size
        planes = (size - series.dataoffset) // max(1, series.keyframe.nbytes)
        if 2 <= planes < announced:
            raise truncated(path, f"{planes} whole planes where ImageJ's metadata announce {announced}")
    return pages


def _check_segments(
    keyframe: tifffile.TiffPage, pages: Sequence[tifffile.TiffPage | tifffile.TiffFrame], path: Path
) -> None:
    """Make sure that all strips or tiles are in the file, and are of a size that can be unpacked."""
    if keyframe.is_tiled:
        check_unpacked_size((keyframe.tilelength, keyframe.tilewidth), np.dtype(keyframe.dtype).itemsize, path)
    for page in pages:
        if Path(page.parent.filehandle.path).resolve().parent != path.resolve().parent:
            raise ImageError(
                "the metadata name a file in another folder, which is not read",
                where=path,
                found=page.parent.filehandle.name,
                fix="put the other files of this image beside it, or export it as one file",
            )
        size = page.parent.filehandle.size
        end = max((a + b for a, b in zip(page.dataoffsets, page.databytecounts)), default=0)
        if end > size:
            raise truncated(path, f"{size} bytes where page {page.index} needs {end}")


def _samples(pixels: Any, letters: str, page: tifffile.TiffPage, told: list[str]) -> tuple[Any, str]:
    """Tell the samples of a colour from channels that are stored the same way, and drop transparency."""
    if "S" not in letters:
        return pixels, letters
    axis = letters.index("S")
    if page.photometric in (_PHOTOMETRIC.RGB, _PHOTOMETRIC.YCBCR) and pixels.shape[axis] in (3, 4):
        return pixels, letters
    if page.extrasamples and page.extrasamples[-1] in (1, 2) and pixels.shape[axis] > 1:
        pixels = indexed(pixels, (slice(None),) * axis + (slice(0, -1),))
        told.append("the last sample is transparency and dropped")
    return pixels, letters if "C" in letters else letters.replace("S", "C")


def _stays_as_stored(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Whether the numbers of a page are its light, without a palette or turning round."""
    return page.photometric != _PHOTOMETRIC.MINISWHITE and (
        page.photometric != _PHOTOMETRIC.PALETTE or _tints(tif, page)
    )


def _tints(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bool:
    """Whether a palette only colours a grey image, so that the stored numbers are what was measured."""
    if page.colormap is None or tif.is_imagej or tif.is_ome:
        return True
    return bool((np.diff(page.colormap.sum(axis=0, dtype=np.int64)) >= 0).all())


def _as_shown(
    pixels: Any, letters: str, tif: tifffile.TiffFile, page: tifffile.TiffPage, told: list[str]
) -> tuple[Any, str]:
    """Turn palette indices into colours, and white-is-zero round, so that numbers mean light."""
    if page.photometric == _PHOTOMETRIC.PALETTE and page.colormap is not None and pixels.dtype.kind == "u":
        palette = page.colormap
        if _tints(tif, page):
            told.append("its palette only tints it: the stored numbers are taken")
            return pixels, letters
        palette = (palette >> 8 if palette.max() > 255 else palette).astype(np.uint8)
        told.append("its palette is applied")
        return palette.T[pixels], letters + "S"
    # One bit comes as bool, and stays: there programs disagree on what white as 0 means.
    if page.photometric == _PHOTOMETRIC.MINISWHITE and pixels.dtype.kind == "u":
        told.append("stored with white as 0 and turned round")
        return pixels.dtype.type(2**page.bitspersample - 1) - pixels, letters
    return pixels, letters
