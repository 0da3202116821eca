"""An image with its axes, channels and pixel size settled once, and said in one sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from cytomask.errors import ChannelError, ImageError

#: An unnamed third axis of at most this many planes is taken for channels; a longer one for a stack.
FEW_CHANNELS = 8
#: Names of the samples of a colour picture.
RGB = ("red", "green", "blue")
#: Pixels looked at in one go when a whole image is searched for values that are no numbers.
_CHUNK = 4_000_000
#: Bands of rows that the depth is judged by.
_BANDS = 8


@dataclass(frozen=True, eq=False)
class Image:
    """A two-dimensional image of one or more channels, in its own depth.

    Attributes
    ----------
    pixels
        ``(C, Y, X)`` in the image's own dtype; an array, or a memory map of a file.
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

    pixels: np.ndarray
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
            raise _empty(self.pixels.shape, self.source)
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
        """
        if not (0 <= y0 <= y1 <= self.height and 0 <= x0 <= x1 <= self.width):
            raise IndexError(f"the window {y0}:{y1}, {x0}:{x1} leaves the image of {self.height} x {self.width} px")
        # Mapped files may be of the other byte order, or not aligned: kernels want neither.
        return np.require(np.asarray(self.pixels[:, y0:y1, x0:x1]), self.dtype, ["ALIGNED"])

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
        if step > 0 and all(b - a == step for a, b in pairwise(chosen)):
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
        array: np.ndarray,
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
            and 1 in uint8). It is not copied.
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
            If the axes cannot be settled, the image is empty or complex, or holds NaN or infinite values.

        Examples
        --------
        >>> Image.from_array(np.zeros((40, 30, 3), np.uint8)).channels
        ('red', 'green', 'blue')
        """
        pixels = array if isinstance(array, np.memmap) else np.asarray(array)
        notes = list(told)
        _refuse_what_is_no_number(pixels, source)
        if 0 in pixels.shape:
            raise _empty(pixels.shape, source)
        if pixels.dtype == bool:
            pixels = pixels.view(np.uint8)
            notes.append("no and yes are read as 0 and 1")
        if axes is None:
            axes, pixels, reason = _axes_by_shape(pixels, source)
        else:
            axes, reason = check_axes(axes, pixels.shape, source), "as told"
        if not told:
            notes.insert(0, f"axes {axes}: {reason}")
        pixels, samples = _channels_first(axes, pixels, source)
        if samples == 4:
            pixels = pixels[:3]
            notes.append("the fourth sample is taken for transparency and dropped")
        is_rgb = samples in (3, 4) if rgb is None else rgb
        if channels is not None:
            names = tuple(str(name) for name in channels)
        elif is_rgb and len(pixels) == 3:
            names = RGB
        else:
            names = ("grey",) if len(pixels) == 1 else tuple(f"channel {i}" for i in range(len(pixels)))
        _refuse_what_is_not_finite(pixels, source)
        image = cls(pixels, names, pixel_size, is_rgb, source)
        return replace(image, resolved=_sentence(pixels, names, is_rgb, pixel_size, notes))


def check_axes(axes: str, shape: tuple[int, ...], source: Path | None) -> str:
    """Compare axes that a person or a file tells with the shape of the array.

    Raises
    ------
    ImageError
        If they do not fit, lack Y or X, or name an axis twice.
    """
    letters = axes.strip().upper()
    if not letters.isalpha() or len(set(letters)) != len(letters) or not {"Y", "X"} <= set(letters):
        raise ImageError(
            "the axes are not understood",
            where=source,
            found=repr(axes),
            expected="each letter once, with Y and X among them: YX, CYX, YXC, YXS, ZYX, TYX, ZCYX …",
        )
    if len(letters) != len(shape):
        raise ImageError(
            "the axes do not fit the image",
            where=source,
            found=f"axes {letters} for an array of shape {shape}",
            expected=f"{len(shape)} letters",
            fix="give one letter per axis, in the order of the shape",
        )
    return letters


def _axes_by_shape(pixels: np.ndarray, source: Path | None) -> tuple[str, np.ndarray, str]:
    """Settle the axes by the shape alone: the letters, the array without axes of length 1, and the reason."""
    if pixels.ndim > 3:
        first_of_last_two = pixels.ndim - 2
        pixels = pixels.squeeze(tuple(i for i in range(first_of_last_two) if pixels.shape[i] == 1))
    shape = pixels.shape
    if len(shape) == 2:
        return "YX", pixels, "the only two axes"
    if len(shape) == 3:
        if shape[2] in (3, 4) and min(shape[:2]) > shape[2]:
            return "YXS", pixels, f"a last axis of {shape[2]} is taken for colour"
        for letters, size, place in (("CYX", shape[0], "first"), ("YXC", shape[2], "last")):
            if size == min(shape) and size <= FEW_CHANNELS:
                return letters, pixels, f"the short {place} axis is taken for channels"
    raise ImageError(
        "the axes of the image are not clear",
        where=source,
        found=f"an array of shape {shape}",
        expected=f"two axes, or three of which the first or last has at most {FEW_CHANNELS} planes, the channels",
        fix="tell the axes (--axes CYX; or --axes ZYX --plane N for one plane of a stack)",
    )


def _channels_first(axes: str, pixels: np.ndarray, source: Path | None) -> tuple[np.ndarray, int]:
    """Drop axes of length 1 and bring the others into the order C, Y, X; also tell how many samples a colour has."""
    others = [i for i, letter in enumerate(axes) if letter not in "YXCS"]
    if any(pixels.shape[i] > 1 for i in others):
        raise ImageError(
            "the array is a stack, not one plane",
            where=source,
            found=", ".join(f"{letter}={size}" for letter, size in zip(axes, pixels.shape)),
            expected="length 1 along every axis other than Y, X and the channels",
            fix="choose one plane",
        )
    pixels = pixels[tuple(0 if i in others else slice(None) for i in range(len(axes)))]
    letters = [letter for letter in axes if letter in "YXCS"]
    for letter in "CS":
        if letter not in letters:
            letters, pixels = [letter, *letters], pixels[None]
    pixels = np.transpose(pixels, [letters.index(letter) for letter in "CSYX"])
    n_channels, samples = pixels.shape[:2]
    if samples == 1:
        return pixels[:, 0], 1
    if n_channels == 1:
        return pixels[0], samples
    # Several channels of several samples each: no one colour picture.
    return pixels.reshape(-1, *pixels.shape[2:]), 1


def _refuse_what_is_no_number(pixels: np.ndarray, source: Path | None) -> None:
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


def _refuse_what_is_not_finite(pixels: np.ndarray, source: Path | None) -> None:
    """Search floats for NaN and infinite values, some rows at a time so that little memory is needed."""
    if pixels.dtype.kind != "f":
        return
    nans = infinite = 0
    step = max(1, _CHUNK // (pixels.shape[0] * pixels.shape[2]))
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
            found=f"{nans} NaN and {infinite} infinite of {pixels.size} values",
            expected="finite values only",
            fix="replace them (for instance by 0 or the median) and save the image again",
        )


def _empty(shape: tuple[int, ...], source: Path | None) -> ImageError:
    return ImageError(
        "the image has no pixels",
        where=source,
        found=f"shape {' x '.join(str(size) for size in shape)}",
        fix="export the image again",
    )


def _sentence(
    pixels: np.ndarray,
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
    return "; ".join([f"{kind} of {height} x {width} px (y by x), {_depth(pixels)}", *notes, size])


def _depth(pixels: np.ndarray) -> str:
    """Name the dtype, and how many of its bits are used (by bands of rows, so that a mapped file is not read whole)."""
    name = str(pixels.dtype.newbyteorder("="))
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize == 1:
        return name
    count, height, width = pixels.shape
    band = min(height, max(1, _CHUNK // (_BANDS * count * width)))
    starts = {round(start) for start in np.linspace(0, height - band, _BANDS)}
    bits = max(int(pixels[:, start : start + band].max()) for start in starts).bit_length()
    return f"{name} ({bits}-bit values)" if 0 < bits < 8 * pixels.dtype.itemsize else name
