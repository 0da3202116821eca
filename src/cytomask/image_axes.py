"""Which axis of an array is which: told, or settled by the shape alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cytomask.errors import ImageError
from cytomask.lazy_pixels import ChannelView, indexed, is_lazy

#: An unnamed third axis of at most this many planes is taken for channels; a longer one for a stack.
FEW_CHANNELS = 8


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


def axes_by_shape(pixels: Any, source: Path | None) -> tuple[str, Any, str]:
    """Settle the axes by the shape alone: the letters, the array without axes of length 1, and the reason."""
    if pixels.ndim > 3:
        last_two = pixels.ndim - 2
        pixels = indexed(pixels, [0 if i < last_two and n == 1 else slice(None) for i, n in enumerate(pixels.shape)])
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


def channels_first(axes: str, pixels: Any, source: Path | None) -> tuple[Any, int]:
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
    letters = [letter for letter in axes if letter in "YXCS"]
    sizes = dict(zip(axes, pixels.shape))
    pixels = indexed(pixels, [0 if i in others else slice(None) for i in range(len(axes))])
    if is_lazy(pixels):
        one_colour = sizes.get("C", 1) == 1
        return ChannelView(pixels, "".join(letters)), sizes.get("S", 1) if one_colour else 1
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
