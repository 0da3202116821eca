"""Pixels that are read when they are asked for: what such an array must offer, and views of it that read nothing.

An array in a file (a tiled TIFF, a zarr array, an HDF5 data set) has a shape and a dtype and gives NumPy arrays when
it is indexed. The views here bring its axes into the order C, Y, X, choose a plane of a stack and channels, and pass
only the window that is asked for on to the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

#: Values that are read in one go when every n-th pixel of a large array is wanted.
_BLOCK = 8_000_000
#: Rows that are read together where an array does not tell how it is cut into pieces.
_ROWS = 256


class LazyPixels(Protocol):
    """An array that is indexed by integers and slices, and then read.

    It may tell two things more: ``chunks``, how many elements along each axis are stored together; and ``coarser``, the
    same picture at ever lower resolution (a pyramid), as arrays of the same axes.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype: ...

    @property
    def ndim(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> np.ndarray: ...


def is_lazy(array: object) -> bool:
    """Tell an array that is read when it is indexed from one that is in memory (or mapped), or becomes one.

    Examples
    --------
    >>> is_lazy(np.zeros((2, 3))), is_lazy([[1, 2]]), is_lazy(ChannelView(np.zeros((2, 3)), "YX"))
    (False, False, True)
    """
    return (
        not isinstance(array, np.ndarray | np.generic)
        and isinstance(getattr(array, "dtype", None), np.dtype)
        and hasattr(array, "shape")
        and hasattr(array, "__getitem__")
        and hasattr(array, "__len__")
    )


def coarser_levels(array: object) -> tuple[Any, ...]:
    """The same picture at lower resolutions, finest first; none where the array has no pyramid."""
    return tuple(getattr(array, "coarser", ()))


def chunk_shape(array: Any) -> tuple[int, ...]:
    """How many elements along each axis are read together; a lazy array that does not tell it is read by rows."""
    shape = tuple(int(size) for size in array.shape)
    if not is_lazy(array):
        return (1,) * len(shape)
    chunks = getattr(array, "chunks", None)
    if not isinstance(chunks, tuple) or not all(isinstance(c, int | np.integer) for c in chunks):
        chunks = (*[1] * (len(shape) - 2), _ROWS, *shape[-1:])
    return tuple(max(1, min(int(c), size)) for c, size in zip(chunks, shape))


def indexed(array: Any, index: Sequence[int | slice]) -> Any:
    """``array[tuple(index)]`` for integers and slices of step 1, without reading an array that is lazy."""
    index = tuple(index)
    if not is_lazy(array):
        return array[index]
    if all(part == slice(None) for part in index):
        return array
    return PartView(array, (*index, *[slice(None)] * (array.ndim - len(index))))


@dataclass(frozen=True, eq=False)
class PartView:
    """A part of an array: some axes at one place, others from one place to another.

    Examples
    --------
    >>> stack = np.arange(24).reshape(2, 3, 4)
    >>> part = PartView(stack, (1, slice(0, 2), slice(None)))
    >>> part.shape, part[1, 2:].tolist()
    ((2, 4), [18, 19])
    """

    base: Any
    index: tuple[int | slice, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes that are left."""
        return tuple(len(own) for own in self._ranges() if isinstance(own, range))

    @property
    def dtype(self) -> np.dtype:
        """As that of the whole array."""
        return np.dtype(self.base.dtype)

    @property
    def ndim(self) -> int:
        """Number of axes that are left."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Elements that are stored together, along the axes that are left."""
        return tuple(c for c, part in zip(chunk_shape(self.base), self.index) if isinstance(part, slice))

    @property
    def coarser(self) -> tuple[PartView, ...]:
        """The same part at lower resolutions, where these differ along axes only that are left whole."""
        shape = self.base.shape
        return tuple(
            PartView(level, self.index)
            for level in coarser_levels(self.base)
            if all(a == b or part == slice(None) for a, b, part in zip(shape, level.shape, self.index))
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        wanted = iter(whole_index(index, self.ndim))
        full: list[int | slice] = []
        for own in self._ranges():
            if isinstance(own, int):
                full.append(own)
                continue
            chosen = own[next(wanted)]
            if isinstance(chosen, range):
                # A range that counts down to 0 ends at -1, which a slice would take for the last place.
                full.append(slice(chosen.start, chosen.stop if chosen.stop >= 0 else None, chosen.step))
            else:
                full.append(chosen)
        return np.asarray(self.base[tuple(full)])

    def _ranges(self) -> Iterator[range | int]:
        for part, size in zip(self.index, self.base.shape):
            yield range(size)[part] if isinstance(part, slice) else int(range(size)[part])


class ChannelView:
    """An array of any axes as ``(C, Y, X)``.

    Parameters
    ----------
    base
        An array; axes other than Y, X, C and S (the samples of a colour) have length 1.
    axes
        A letter for each of its axes.
    channels
        Which of the channels (all samples of the first channel, then of the second …), in which order; None for all.

    Notes
    -----
    Values come in this machine's byte order; bool comes as uint8. A window is read from the array as it is asked for;
    every n-th pixel of a large array by pieces of it, so that little memory is needed.

    Examples
    --------
    >>> view = ChannelView(np.arange(24).reshape(2, 4, 3), "YXS", [2, 0])
    >>> view.shape, view[:, 1, 1:3].tolist()
    ((2, 2, 4), [[17, 20], [15, 18]])
    """

    def __init__(self, base: Any, axes: str, channels: Sequence[int] | None = None) -> None:
        self.base, self.axes = base, axes
        sizes = dict(zip(axes, (int(size) for size in base.shape)))
        self._n_samples = sizes.get("S", 1)
        n_channels = sizes.get("C", 1) * self._n_samples
        self._channels = tuple(range(n_channels)) if channels is None else tuple(int(c) for c in channels)
        if not all(0 <= c < n_channels for c in self._channels):
            raise IndexError(f"channels {self._channels} of an array that has {n_channels}")
        dtype = np.dtype(base.dtype)
        self.dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")
        self.shape = (len(self._channels), sizes["Y"], sizes["X"])

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Elements that are stored together."""
        sizes = dict(zip(self.axes, chunk_shape(self.base)))
        return 1, sizes["Y"], sizes["X"]

    @property
    def coarser(self) -> tuple[ChannelView, ...]:
        """The same channels at lower resolutions."""
        return tuple(ChannelView(level, self.axes, self._channels) for level in coarser_levels(self.base))

    def select(self, channels: Sequence[int]) -> ChannelView:
        """Choose some of the channels of this view."""
        return ChannelView(self.base, self.axes, [self._channels[c] for c in channels])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("pixels in a file cannot become an array without a copy")
        pixels = self[:]
        return pixels if dtype is None else pixels.astype(dtype, copy=False)

    def __getitem__(self, index: Any) -> np.ndarray:
        parts = whole_index(index, 3)
        ranges = [places(part, size) for part, size in zip(parts, self.shape)]
        dropped = tuple(axis for axis, part in enumerate(parts) if not isinstance(part, slice))
        pixels = self._read([self._channels[c] for c in ranges[0]], ranges[1], ranges[2])
        return pixels.squeeze(dropped) if dropped else pixels

    def _read(self, channels: Sequence[int], rows: range, columns: range) -> np.ndarray:
        out_shape = (len(channels), len(rows), len(columns))
        if 0 in out_shape:
            return np.empty(out_shape, self.dtype)
        if rows.step == columns.step == 1:
            return self._window(channels, rows.start, rows.stop, columns.start, columns.stop)
        out = np.empty(out_shape, self.dtype)
        for (y0, y1), these_rows in _pieces(rows, self.chunks[1]):
            wide = max(self.chunks[2], _BLOCK // ((y1 - y0) * len(channels)) // self.chunks[2] * self.chunks[2])
            for (x0, x1), these_columns in _pieces(columns, wide):
                window = self._window(channels, y0, y1, x0, x1)
                inner_y = [rows[i] - y0 for i in these_rows]
                inner_x = [columns[i] - x0 for i in these_columns]
                picked = window[:, inner_y][:, :, inner_x]
                out[:, these_rows.start : these_rows.stop, these_columns.start : these_columns.stop] = picked
        return out

    def _window(self, channels: Sequence[int], y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Read whole rows and columns of some channels, neighbouring ones in one go, none twice."""
        blocks = []
        planes: dict[int, np.ndarray] = {}
        for first, last in self._runs(sorted(set(channels))):
            c, sample = divmod(first, self._n_samples)
            if self._n_samples == 1:
                block = self._base_window(slice(first, last + 1), slice(0, 1), y0, y1, x0, x1)
            else:
                block = self._base_window(slice(c, c + 1), slice(sample, sample + last - first + 1), y0, y1, x0, x1)
            blocks.append(block)
            planes |= {first + k: plane for k, plane in enumerate(block)}
        if len(blocks) == 1 and list(channels) == list(planes):
            return blocks[0]
        return np.stack([planes[c] for c in channels])

    def _runs(self, channels: Sequence[int]) -> Iterator[tuple[int, int]]:
        """First and last of the channels that are read together: neighbours, or samples of one channel."""
        first = 0
        for i, channel in enumerate(channels):
            after = channels[i + 1] if i + 1 < len(channels) else -1
            together = (
                after == channel + 1 if self._n_samples == 1 else after // self._n_samples == channel // self._n_samples
            )
            if not together:
                yield channels[first], channel
                first = i + 1

    def _base_window(self, c: slice, s: slice, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        wanted = {"C": c, "S": s, "Y": slice(y0, y1), "X": slice(x0, x1)}
        pixels = np.asarray(self.base[tuple(wanted.get(letter, 0) for letter in self.axes)])
        letters = [letter for letter in self.axes if letter in wanted]
        for letter in "SC":
            if letter not in letters:
                letters, pixels = [letter, *letters], pixels[None]
        pixels = np.transpose(pixels, [letters.index(letter) for letter in "CSYX"])
        pixels = pixels.reshape(-1, *pixels.shape[2:])
        return np.require(pixels, self.dtype, ["ALIGNED"])


def whole_index(index: Any, ndim: int) -> list[int | slice]:
    """One integer or slice for each axis."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in parts:
        place = parts.index(Ellipsis)
        parts[place : place + 1] = [slice(None)] * (ndim - len(parts) + 1)
    if len(parts) > ndim or not all(isinstance(part, int | np.integer | slice) for part in parts):
        raise IndexError(f"pixels that are read on demand are indexed by integers and slices, not by {index!r}")
    return [*(part if isinstance(part, slice) else int(part) for part in parts), *[slice(None)] * (ndim - len(parts))]


def places(part: int | slice, size: int) -> range:
    """Places along an axis that an index means."""
    if isinstance(part, slice):
        return range(size)[part]
    one = range(size)[part]
    return range(one, one + 1)


def _pieces(wanted: range, length: int) -> Iterator[tuple[tuple[int, int], range]]:
    """Cut places along an axis at the multiples of a length: from where to where to read, and which places those are.

    Examples
    --------
    >>> list(_pieces(range(1, 12, 4), 8))
    [((1, 6), range(0, 2)), ((9, 10), range(2, 3))]
    """
    first = 0
    while first < len(wanted):
        last = first
        while last + 1 < len(wanted) and wanted[last + 1] // length == wanted[first] // length:
            last += 1
        ends = wanted[first], wanted[last]
        yield (min(ends), max(ends) + 1), range(first, last + 1)
        first = last + 1
