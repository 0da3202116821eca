"""Read TIFF: plain, OME and ImageJ, of any depth; mapped where nothing needs to be unpacked."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import tifffile

from cytomask.errors import CytomaskError, ImageError
from cytomask.formats.limits import check_unpacked_size
from cytomask.formats.tiff_metadata import read_metadata
from cytomask.formats.tiff_structure import check_tiff_structure, truncated
from cytomask.image import Image
from cytomask.image_axes import FEW_CHANNELS, check_axes

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
    index, clause = _choose_plane(letters, series.shape, plane, clause, path)
    pixels, slices = _pixels(tif, series, index, path)
    letters = "".join(letter for letter, chosen in zip(letters, index) if isinstance(chosen, slice))
    if len(tif.series) > 1:
        told.append(f"the first of {len(tif.series)} images in the file")
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


def _choose_plane(
    letters: str, shape: tuple[int, ...], plane: int | None, clause: str, path: Path
) -> tuple[tuple[slice | int, ...], str]:
    """Index of the plane that is meant: all of rows, columns, channels and samples, and one of everything else."""
    stack = [i for i, letter in enumerate(letters) if letter not in "YXCS" and shape[i] > 1]
    n_planes = math.prod(shape[i] for i in stack)
    listing = ", ".join(f"{letters[i]}={shape[i]}" for i in stack)
    if plane is None and stack:
        raise ImageError(
            f"the file is a stack of {n_planes} planes",
            where=path,
            found=listing,
            expected="one plane",
            fix=f"choose one with --plane N, from 0 to {n_planes - 1}; if they are channels, say so with --axes CYX",
        )
    if plane is not None and not 0 <= plane < n_planes:
        raise ImageError(
            "the file has no such plane",
            where=path,
            found=f"--plane {plane}",
            expected=f"0 to {n_planes - 1} ({listing})" if stack else "0: there is only one plane",
        )
    index: list[slice | int] = [slice(None) if letter in "YXCS" else 0 for letter in letters]
    if stack and plane is not None:
        place = [int(i) for i in np.unravel_index(plane, [shape[i] for i in stack])]
        for i, number in zip(stack, place):
            index[i] = number
        told = ", ".join(f"{letters[i]}={number}" for i, number in zip(stack, place))
        clause += f"; plane {plane} of {n_planes}" + (f" ({told})" if len(stack) > 1 else "")
    return tuple(index), clause


def _pixels(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, index: tuple[slice | int, ...], path: Path
) -> tuple[np.ndarray, list[int]]:
    """Map or read the chosen part of a series; also the numbers of the slices that it is made of."""
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
    if here and series.dataoffset is not None:
        size = path.stat().st_size
        end = series.dataoffset + math.prod(shape) * series.dtype.itemsize
        if end > size:
            raise truncated(path, f"{size} bytes where the image needs {end}")
        dtype = series.dtype.newbyteorder(tif.byteorder)
        return np.memmap(path, dtype, "r", series.dataoffset, shape)[index], chosen

    by_page = paged and len(pages) == math.prod(leading)
    _check_segments(series.keyframe, [pages[i] for i in chosen] if by_page else pages, path)
    itemsize = np.dtype(series.dtype).itemsize
    if not by_page:
        check_unpacked_size(shape, itemsize, path)
        return series.asarray()[index], chosen
    check_unpacked_size((len(chosen), *frame), itemsize, path)
    pixels = tif.asarray(series=0, key=chosen).reshape(*slices.shape, *frame)
    return pixels[(slice(None),) * slices.ndim + index[n_leading:]], chosen


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
        size = page.parent.filehandle.size
        end = max((a + b for a, b in zip(page.dataoffsets, page.databytecounts)), default=0)
        if end > size:
            raise truncated(path, f"{size} bytes where page {page.index} needs {end}")


def _samples(pixels: np.ndarray, letters: str, page: tifffile.TiffPage, told: list[str]) -> tuple[np.ndarray, str]:
    """Tell the samples of a colour from channels that are stored the same way, and drop transparency."""
    if "S" not in letters:
        return pixels, letters
    axis = letters.index("S")
    if page.photometric in (_PHOTOMETRIC.RGB, _PHOTOMETRIC.YCBCR) and pixels.shape[axis] in (3, 4):
        return pixels, letters
    if page.extrasamples and page.extrasamples[-1] in (1, 2) and pixels.shape[axis] > 1:
        pixels = pixels[(slice(None),) * axis + (slice(0, -1),)]
        told.append("the last sample is transparency and dropped")
    return pixels, letters if "C" in letters else letters.replace("S", "C")


def _as_shown(
    pixels: np.ndarray, letters: str, tif: tifffile.TiffFile, page: tifffile.TiffPage, told: list[str]
) -> tuple[np.ndarray, str]:
    """Turn palette indices into colours, and white-is-zero round, so that numbers mean light."""
    if page.photometric == _PHOTOMETRIC.PALETTE and page.colormap is not None and pixels.dtype.kind == "u":
        palette = page.colormap
        ramp = bool((np.diff(palette.sum(axis=0, dtype=np.int64)) >= 0).all())
        if ramp or tif.is_imagej or tif.is_ome:
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
