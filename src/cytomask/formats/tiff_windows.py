"""Read windows of a TIFF file: only the tiles or strips that a window touches are unpacked.

What was unpacked last is kept, as neighbouring windows touch the same tiles.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from cytomask.errors import ImageError
from cytomask.formats.kept_pieces import kept, new_number
from cytomask.formats.limits import MAX_PIECE
from cytomask.formats.tiff_structure import truncated
from cytomask.lazy_pixels import places, whole_index

#: Which of the five sizes that every page has are the axes of its shape.
_AXES = {"YX": (2, 3), "YXS": (2, 3, 4), "SYX": (0, 2, 3)}
_JPEG = {6, 7, 33007, 34892}
#: How often a piece may be larger in the file than unpacked: packing hardly ever enlarges.
_ENLARGED, _SLACK = 2, 2**16


@dataclass(frozen=True)
class _Page:
    """Where the pieces of a page are in the file, and what is needed to unpack them."""

    offsets: np.ndarray
    counts: np.ndarray
    tables: bytes | None

    @property
    def is_one_run(self) -> bool:
        """Whether the pieces follow each other without a gap."""
        return bool((self.offsets[:-1] + self.counts[:-1] == self.offsets[1:]).all())


class TiffWindows:
    """The pages of a series of a TIFF file as one array that is read window by window.

    Parameters
    ----------
    path
        The file.
    place
        Where the first page is found again: number of the series in the file, and level in the series.
    keyframe
        A page that all of them are like.
    pages
        The pages.
    leading
        Sizes of the axes that count the pages.
    coarser
        The same at lower resolutions.

    Notes
    -----
    It holds no open file, may be used by several threads at a time, and may be sent to other processes.
    """

    def __init__(
        self,
        path: Path,
        place: tuple[int, int],
        keyframe: tifffile.TiffPage,
        pages: Sequence[Any],
        leading: tuple[int, ...],
        coarser: Sequence[TiffWindows] = (),
    ) -> None:
        self.path, self.coarser = path, tuple(coarser)
        self.shape = tuple(int(size) for size in (*leading, *keyframe.shape))
        self.dtype = np.dtype(keyframe.dtype).newbyteorder("=")
        self._place = place
        self._file_dtype = np.dtype(keyframe.dtype).newbyteorder(keyframe.parent.byteorder)
        self._frame = tuple(int(size) for size in keyframe.shape)
        self._pages = [_page(page, keyframe) for page in pages]
        # Sizes of (separate samples, depth, rows, columns, samples together), and which of them the page's axes are.
        self._normal: tuple[int, ...] = tuple(int(size) for size in keyframe.shaped)
        self._axes = _AXES[keyframe.axes]
        self._piece = _piece_shape(keyframe)
        n_pieces = self._normal[0] * math.prod(-(-size // piece) for size, piece in zip(self._normal[2:], self._piece))
        if any(len(page.offsets) < n_pieces or len(page.counts) < n_pieces for page in self._pages):
            raise truncated(path, f"fewer than the {n_pieces} tiles or strips that the image is made of")
        self._mapped = is_plain(keyframe) and all(page.is_one_run for page in self._pages)
        self._nodata = keyframe.nodata
        self._start()
        self._decode: Callable | None = keyframe.decode

    def _start(self) -> None:
        self._number = new_number()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_lock", "_decode", "_number")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._start()
        self._decode = None

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements along each axis that are unpacked together."""
        n_leading = self.ndim - len(self._frame)
        rows, columns = (1, self._normal[3]) if self._mapped else self._piece
        together = (1, 1, rows, columns, self._normal[4])
        return (*[1] * n_leading, *(together[axis] for axis in self._axes))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        parts = tuple(whole_index(index, self.ndim))
        n_leading = self.ndim - len(self._frame)
        leading = self.shape[:n_leading]
        chosen = np.arange(math.prod(leading)).reshape(leading)[parts[:n_leading]]
        ranges = [places(part, size) for part, size in zip(parts[n_leading:], self._frame)]
        steps = tuple(slice(None, None, r.step) for r in ranges)
        whole = [(min(r[0], r[-1]), max(r[0], r[-1]) + 1) if r else (0, 0) for r in ranges]
        pages = [self._read(int(number), whole)[steps] for number in np.ravel(chosen)]
        dropped = tuple(i for i, part in enumerate(parts[n_leading:]) if not isinstance(part, slice))
        pixels = np.stack(pages) if pages else np.empty((0, *(len(r) for r in ranges)), self.dtype)
        pixels = pixels.reshape(*np.shape(chosen), *pixels.shape[1:])
        return pixels.squeeze(tuple(np.ndim(chosen) + i for i in dropped)) if dropped else pixels

    def _read(self, number: int, window: list[tuple[int, int]]) -> np.ndarray:
        """Read a window of a page, given as where it begins and ends along each axis of the page."""
        if self._mapped:
            mapped = np.memmap(self.path, self._file_dtype, "r", int(self._pages[number].offsets[0]), self._frame)
            return np.array(mapped[tuple(slice(a, b) for a, b in window)], self.dtype)
        ends = [window[self._axes.index(axis)] if axis in self._axes else (0, 1) for axis in range(5)]
        (s0, s1), _, (y0, y1), (x0, x1), (c0, c1) = ends
        out = np.full((s1 - s0, y1 - y0, x1 - x0, c1 - c0), self._nodata, self.dtype)
        for segment in self._touched(ends):
            s, y, x, piece = self._unpacked(number, segment)
            a, b, c, d = max(y, y0), min(y + piece.shape[0], y1), max(x, x0), min(x + piece.shape[1], x1)
            if a < b and c < d:
                out[s - s0, a - y0 : b - y0, c - x0 : d - x0] = piece[a - y : b - y, c - x : d - x, c0:c1]
        return out.reshape([b - a for a, b in window])

    def _touched(self, ends: Sequence[tuple[int, int]]) -> Iterator[int]:
        (s0, s1), _, (y0, y1), (x0, x1), _ = ends
        height, width = self._piece
        down, across = -(-self._normal[2] // height), -(-self._normal[3] // width)
        if y0 < y1 and x0 < x1:
            for s in range(s0, s1):
                for row in range(y0 // height, (y1 - 1) // height + 1):
                    for column in range(x0 // width, (x1 - 1) // width + 1):
                        yield (s * down + row) * across + column

    def _unpacked(self, number: int, segment: int) -> tuple[int, int, int, np.ndarray]:
        """Give a piece, ``(rows, columns, samples)``, and where it begins: sample, row and column."""
        height, width = self._piece
        down, across = -(-self._normal[2] // height), -(-self._normal[3] // width)
        s, row, column = segment // (down * across), segment // across % down * height, segment % across * width
        key = (self._number, number, segment)
        piece = kept.get(key)
        if piece is None:
            piece = self._unpack(self._pages[number], segment)
            kept.put(key, piece)
        return s, row, column, piece

    def _unpack(self, page: _Page, segment: int) -> np.ndarray:
        try:
            offset, count = int(page.offsets[segment]), int(page.counts[segment])
            if count > _ENLARGED * math.prod(self._piece) * self._normal[4] * self.dtype.itemsize + _SLACK:
                raise ValueError(f"{count} bytes for a piece of {' x '.join(map(str, self._piece))} pixels")
            data = None
            if count:
                with self.path.open("rb") as file:
                    file.seek(offset)
                    data = file.read(count)
                if len(data) < count:
                    raise ValueError(f"{len(data)} of {count} bytes are there")
            options = {"jpegtables": page.tables} if page.tables is not None else {}
            decoded, _, shape = self._decoder()(data, segment, **options)
        except Exception as error:  # whatever a decoder raises on a damaged file
            raise ImageError(
                "a part of the TIFF file is damaged, or packed in a way that cannot be read",
                where=self.path,
                found=f"{type(error).__name__}: {error} (piece {segment})",
                fix="open it in ImageJ or QuPath and save it again, or copy it again",
            ) from error
        if decoded is None:
            return np.full(shape[1:], self._nodata, self.dtype)
        return decoded[0].astype(self.dtype, copy=False)

    def _decoder(self) -> Callable:
        """Make the function that unpacks pieces, once more after the journey to another process."""
        with self._lock:
            if self._decode is None:
                series, level = self._place
                with tifffile.TiffFile(self.path) as tif:
                    self._decode = tif.series[series].levels[level].keyframe.decode
            return self._decode


def is_plain(keyframe: tifffile.TiffPage) -> bool:
    """Whether the pixels of a page are in the file as they are in memory, apart from the order of bytes."""
    return bool(
        keyframe.compression == tifffile.COMPRESSION.NONE
        and keyframe.predictor == tifffile.PREDICTOR.NONE
        and keyframe.fillorder == 1
        and keyframe.bitspersample in (8, 16, 32, 64)
        and keyframe.bitspersample == 8 * np.dtype(keyframe.dtype).itemsize
        and not keyframe.is_tiled
    )


def can_be_windowed(keyframe: tifffile.TiffPage) -> bool:
    """Whether a page is made of pieces small enough to be unpacked one by one."""
    if keyframe.imagedepth != 1 or keyframe.tiledepth > 1 or keyframe.axes not in _AXES or 0 in keyframe.shape:
        return False
    if is_plain(keyframe):
        return True
    return 0 < math.prod(_piece_shape(keyframe)) * keyframe.shaped[4] * np.dtype(keyframe.dtype).itemsize <= MAX_PIECE


def _piece_shape(keyframe: tifffile.TiffPage) -> tuple[int, int]:
    if keyframe.is_tiled:
        return int(keyframe.tilelength), int(keyframe.tilewidth)
    return min(int(keyframe.rowsperstrip), int(keyframe.imagelength)), int(keyframe.imagewidth)


def _page(page: Any, keyframe: tifffile.TiffPage) -> _Page:
    tables = page.jpegtables if keyframe.compression in _JPEG else None
    return _Page(np.array(page.dataoffsets, np.uint64), np.array(page.databytecounts, np.uint64), tables)


def levels_of(
    tif: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> list[tuple[tuple[int, int], tifffile.TiffPageSeries]]:
    """Find the coarser levels of a pyramid: in the first series itself, or behind it as reduced images of their own.

    Returns
    -------
    list
        For each level, finest first, its place (number of the series, and level in it), and the level.
    """
    if len(series.levels) > 1:
        found = [((0, i), level) for i, level in enumerate(series.levels)][1:]
    else:
        found = [((i, 0), other) for i, other in enumerate(tif.series) if i and other.keyframe.is_reduced]
    first, size = series.keyframe, math.inf
    levels = []
    for place, level in found:
        key = level.keyframe
        alike = (
            key.axes == first.axes
            and key.dtype == first.dtype
            and key.photometric == first.photometric
            and len(level.pages) == len(series.pages)
            and all(page is not None and page.parent is tif for page in level.pages)
        )
        # Labels and photographs of a slide are reduced images too, but of another shape.
        ratios = [a / b for a, b in zip(_rows_and_columns(first), _rows_and_columns(key))] if alike else [1.0, 2.0]
        if alike and max(ratios) <= 1.1 * min(ratios) and math.prod(key.shape) < size and min(ratios) > 1:
            if can_be_windowed(key):
                levels.append((place, level))
            size = math.prod(key.shape)
    return levels


def _rows_and_columns(page: tifffile.TiffPage) -> tuple[int, int]:
    return int(page.imagelength), int(page.imagewidth)
