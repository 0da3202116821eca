"""An image with its axes, channels and pixel size settled once, and said in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cytomask.errors import ChannelError, ImageError
from cytomask.image_axes import axes_by_shape, channels_first, check_axes
from cytomask.lazy_pixels import ChannelView, LazyPixels, is_lazy
from cytomask.pixel_values import CHUNK, depth, no_pixels, refuse_what_is_no_number, refuse_what_is_not_finite
from cytomask.shrinking import band_rows, shrunk_rows, shrunk_shape

#: Names of the samples of a colour picture.
RGB = ("red", "green", "blue")


@dataclass(frozen=True, eq=False)
class Image:
    """A two-dimensional image of one or more channels, in its own depth.

    Attributes
    ----------
    pixels
        ``(C, Y, X)`` in the image's own dtype: an array, a memory map of a file, or an array that is read when it is
        indexed (:class:`~cytomask.lazy_pixels.LazyPixels`).
    channels
        One name per channel.
    pixel_size
        Size of a pixel in µm along y and x; None where it is not known.
    rgb
        Whether the three channels are one colour picture.
    source
        The file that it was read from.
    resolved
        One sentence: how axes, depth, channels and pixel size were understood.

    Examples
    --------
    >>> image = Image.from_array(np.zeros((2, 40, 30), np.uint16), channels=["DAPI", "actin"])
    >>> image.shape, image.n_channels, image.channel_index("actin")
    ((40, 30), 2, 1)
    >>> print(image.resolved)
    2 channels (DAPI, actin) of 40 x 30 px (y by x), uint16; axes CYX: the short first axis is taken for channels;
    pixel size unknown
    """

    pixels: np.ndarray | LazyPixels
    channels: tuple[str, ...]
    pixel_size: tuple[float, float] | None = None
    rgb: bool = False
    source: Path | None = None
    resolved: str = ""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3:
            raise ImageError(
                "an image has the axes C, Y, X",
                where=self.source,
                found=f"an array of shape {self.pixels.shape}",
                fix="use Image.from_array, which settles the axes",
            )
        if 0 in self.pixels.shape:
            raise no_pixels(self.pixels.shape, self.source)
        if len(self.channels) != len(self.pixels):
            raise ImageError(
                "the channel names do not fit the channels",
                where=self.source,
                found=f"{len(self.channels)} names ({', '.join(self.channels)})",
                expected=f"{len(self.pixels)} names",
            )
        if self.rgb and len(self.pixels) != 3:
            raise ImageError(
                "a colour picture has three channels", where=self.source, found=f"{len(self.pixels)} channels"
            )
        if self.pixel_size is not None and not (
            len(self.pixel_size) == 2 and all(math.isfinite(size) and size > 0 for size in self.pixel_size)
        ):
            raise ImageError(
                "the pixel size is not a pair of lengths",
                where=self.source,
                found=self.pixel_size,
                expected="µm along y and x, both more than 0",
            )

    @property
    def height(self) -> int:
        """Pixels along y."""
        return int(self.pixels.shape[1])

    @property
    def width(self) -> int:
        """Pixels along x."""
        return int(self.pixels.shape[2])

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def n_channels(self) -> int:
        """How many channels there are."""
        return int(self.pixels.shape[0])

    @property
    def dtype(self) -> np.dtype:
        """The pixels' dtype, in this machine's byte order."""
        return self.pixels.dtype.newbyteorder("=")

    @property
    def lazy(self) -> bool:
        """Whether pixels are read only when they are asked for (rather than being in memory, or mapped)."""
        return is_lazy(self.pixels)

    def window(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Read the rows ``y0`` to ``y1`` and the columns ``x0`` to ``x1`` (half-open) of all channels.

        Returns
        -------
        np.ndarray
            ``(C, y1 - y0, x1 - x0)`` in the image's dtype and this machine's byte order. It may be a view: do not
            write to it.

        Raises
        ------
        IndexError
            If the window leaves the image.
        ImageError
            If the image is lazy, and its file cannot be read there, or holds NaN or infinite values there.
        """
        if not (0 <= y0 <= y1 <= self.height and 0 <= x0 <= x1 <= self.width):
            raise IndexError(f"the window {y0}:{y1}, {x0}:{x1} leaves the image of {self.height} x {self.width} px")
        # Mapped files may be of the other byte order, or not aligned: kernels want neither.
        pixels = np.require(np.asarray(self.pixels[:, y0:y1, x0:x1]), self.dtype, ["ALIGNED"])
        if self.lazy:
            refuse_what_is_not_finite(pixels, self.source)
        return pixels

    def sampled(self, step: int) -> np.ndarray:
        """Read rows ``0, step, 2 step, …`` and columns ``0, step, 2 step, …`` of all channels.

        Returns
        -------
        np.ndarray
            ``(C, ceil(Y / step), ceil(X / step))``, the same whatever the image is stored in; never of a coarser level.
            Besides it, a few million values are held at a time.
        """
        if self.lazy:
            pixels = np.asarray(self.pixels[:, ::step, ::step])
            refuse_what_is_not_finite(pixels, self.source)
            return pixels
        rows = max(1, CHUNK // (self.n_channels * self.width) // step) * step
        bands = [self.window(y, min(y + rows, self.height), 0, self.width) for y in range(0, self.height, rows)]
        # A copy of each reduced band lets go of the band that it was cut from.
        parts = [np.ascontiguousarray(band[:, ::step, ::step]) for band in bands] if step > 1 else bands
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def overview(self, max_side: int) -> Image:
        """Shrink the image by averaging blocks of pixels, for a look at the whole.

        Parameters
        ----------
        max_side
            Most pixels along either axis.

        Returns
        -------
        Image
            In memory, its pixel size that of the blocks; this image itself, if it is as small as that. Where the file
            has a pyramid, a coarse level is read instead of the whole image.

        Examples
        --------
        >>> image = Image.from_array(np.arange(12, dtype=np.uint8).reshape(3, 4), pixel_size=(0.5, 0.5))
        >>> small = image.overview(2)
        >>> small.pixels.tolist(), small.pixel_size
        ([[[2, 4], [8, 10]]], (1.0, 1.0))
        """
        shrink = -(-max(self.shape) // max_side)
        if shrink <= 1:
            return self
        height, width = shrunk_shape(self.shape, shrink)
        pixels = np.empty((self.n_channels, height, width), self.dtype)
        step = band_rows(self.pixels, shrink)
        for y in range(0, height, step):
            pixels[:, y : y + step] = shrunk_rows(self.pixels, shrink, y, min(height, y + step))
        refuse_what_is_not_finite(pixels, self.source)
        size = (self.pixel_size[0] * shrink, self.pixel_size[1] * shrink) if self.pixel_size else None
        told = f"{self.resolved}; shrunk to {height} x {width} px, each the mean of {shrink} x {shrink}"
        return replace(self, pixels=pixels, pixel_size=size, resolved=told)

    def select(self, indices: Sequence[int]) -> Image:
        """Keep some channels, in the order given (the pixels are not copied where that can be avoided).

        The selection is a colour picture only if it is all of one, in order.
        """
        chosen = [self.channel_index(index) for index in indices]
        if not chosen:
            raise ChannelError("no channel was chosen", where=self.source, expected=f"one of {self._listing()}")
        if chosen == list(range(self.n_channels)):
            return self
        step = chosen[1] - chosen[0] if len(chosen) > 1 else 1
        pixels: np.ndarray | LazyPixels
        if self.lazy:
            view = self.pixels if isinstance(self.pixels, ChannelView) else ChannelView(self.pixels, "CYX")
            pixels = view.select(chosen)
        elif step > 0 and all(b - a == step for a, b in pairwise(chosen)):
            pixels = self.pixels[chosen[0] : chosen[-1] + 1 : step]
        else:
            pixels = self.pixels[np.array(chosen)]
        return replace(self, pixels=pixels, channels=tuple(self.channels[i] for i in chosen), rgb=False)

    def channel_index(self, channel: str | int) -> int:
        """Find a channel by name (upper and lower case alike) or by number, counted from 0.

        Raises
        ------
        ChannelError
            If there is no such channel, or several of that name; the error lists what there is.
        """
        if isinstance(channel, str):
            wanted = channel.strip()
            exact = [i for i, name in enumerate(self.channels) if name == wanted]
            found = exact or [i for i, name in enumerate(self.channels) if name.casefold() == wanted.casefold()]
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                raise ChannelError(
                    f"several channels are called {wanted!r}",
                    where=self.source,
                    found=self._listing(),
                    fix="choose it by its number",
                )
            if not wanted.isdecimal():
                raise self._no_channel(channel)
            channel = int(wanted)
        if not 0 <= int(channel) < self.n_channels:
            raise self._no_channel(channel)
        return int(channel)

    def _no_channel(self, channel: str | int) -> ChannelError:
        what = f"called {channel!r}" if isinstance(channel, str) else f"number {channel}"
        return ChannelError(
            f"the image has no channel {what}",
            where=self.source,
            found=self._listing(),
            fix="choose one of them by name or number",
        )

    def _listing(self) -> str:
        return ", ".join(f"{i}: {name}" for i, name in enumerate(self.channels))

    @classmethod
    def from_array(
        cls,
        array: np.ndarray | LazyPixels,
        *,
        axes: str | None = None,
        channels: Sequence[str] | None = None,
        pixel_size: tuple[float, float] | None = None,
        rgb: bool | None = None,
        source: Path | None = None,
        told: Sequence[str] = (),
    ) -> Image:
        """Settle the axes of an array.

        Parameters
        ----------
        array
            Two or three axes and any further ones of length 1; numbers of any real dtype, or bool (which becomes 0
            and 1 in uint8). It is not copied; what is not in memory (zarr, HDF5 and the like) is not read.
        axes
            One letter per axis: Y, X, C (channels), S (the samples of a colour picture), any other letter for an axis
            of length 1. None: two axes are YX; of three, a last axis of 3 or 4 is the colour (YXS); otherwise the
            first, or else the last, is taken for channels if it is the shortest and has at most 8 (``FEW_CHANNELS``)
            planes; anything else is an error. With S, a fourth sample is taken for transparency and dropped.
        channels
            Names of the channels.
        pixel_size
            µm along y and x.
        rgb
            Whether three channels are one colour picture; None: if the axes say S.
        source
            The file.
        told
            Clauses about what was understood before, beginning with the axes; they replace the clause about the axes.

        Raises
        ------
        ImageError
            If the axes cannot be settled, the image is empty or complex, or holds NaN or infinite values. (A lazy one
            is searched for these window by window, when it is read.)

        Examples
        --------
        >>> Image.from_array(np.zeros((40, 30, 3), np.uint8)).channels
        ('red', 'green', 'blue')
        """
        pixels = array if isinstance(array, np.memmap) or is_lazy(array) else np.asarray(array)
        notes = list(told)
        refuse_what_is_no_number(pixels, source)
        if 0 in pixels.shape:
            raise no_pixels(pixels.shape, source)
        if pixels.dtype == bool:
            # A lazy one is turned round by its view.
            pixels = pixels.view(np.uint8) if isinstance(pixels, np.ndarray) else pixels
            notes.append("no and yes are read as 0 and 1")
        if axes is None:
            axes, pixels, reason = axes_by_shape(pixels, source)
        else:
            axes, reason = check_axes(axes, pixels.shape, source), "as told"
        if not told:
            notes.insert(0, f"axes {axes}: {reason}")
        pixels, samples = channels_first(axes, pixels, source)
        if samples == 4:
            pixels = pixels.select([0, 1, 2]) if isinstance(pixels, ChannelView) else pixels[:3]
            notes.append("the fourth sample is taken for transparency and dropped")
        is_rgb = samples in (3, 4) if rgb is None else rgb
        if channels is not None:
            names = tuple(str(name) for name in channels)
        elif is_rgb and len(pixels) == 3:
            names = RGB
        else:
            names = ("grey",) if len(pixels) == 1 else tuple(f"channel {i}" for i in range(len(pixels)))
        if isinstance(pixels, np.ndarray):
            refuse_what_is_not_finite(pixels, source)
        image = cls(pixels, names, pixel_size, is_rgb, source)
        return replace(image, resolved=_sentence(pixels, names, is_rgb, pixel_size, notes))


def _sentence(
    pixels: np.ndarray | LazyPixels,
    names: tuple[str, ...],
    rgb: bool,
    pixel_size: tuple[float, float] | None,
    notes: Sequence[str],
) -> str:
    count, height, width = pixels.shape
    if rgb:
        kind = "colour picture"
    elif count == 1:
        kind = "one channel" + (f" ({names[0]})" if names[0] != "grey" else "")
    else:
        kind = f"{count} channels ({', '.join(names)})"
    size = "pixel size unknown"
    if pixel_size is not None:
        y, x = (f"{length:.4g}" for length in pixel_size)
        size = f"pixel size {y} µm" if y == x else f"pixel size {y} x {x} µm (y by x)"
    return "; ".join([f"{kind} of {height} x {width} px (y by x), {depth(pixels)}", *notes, size])
