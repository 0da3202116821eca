"""The luminance of colour pictures; of large ones window by window, as it is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from cytomask.errors import ChannelError
from cytomask.image import Image
from cytomask.lazy_pixels import ChannelView, chunk_shape, coarser_levels, is_lazy, places, whole_index

#: Weights of red, green and blue in luminance (ITU-R BT.601).
LUMINANCE = (0.299, 0.587, 0.114)
#: Pixels that are mixed in one go.
_BAND = 4_000_000


def luminance(image: Image) -> Image:
    """Turn a colour picture into one grey channel of the same dtype (integers are rounded).

    Of a picture that is read on demand, or mapped, the luminance is computed on demand, too.

    Raises
    ------
    ChannelError
        If the image is not a colour picture.

    Examples
    --------
    >>> grey = luminance(Image.from_array(np.full((4, 5, 3), 7, np.uint8), axes="YXS"))
    >>> grey.channels, grey.pixels.shape, int(grey.pixels[0, 0, 0])
    (('luminance',), (1, 4, 5), 7)
    """
    if not image.rgb or image.n_channels != 3:
        listed = ", ".join(f"{i}: {name}" for i, name in enumerate(image.channels))
        raise ChannelError(
            "only a colour picture has a luminance", where=image.source, found=listed, expected="an RGB image"
        )
    if image.lazy or isinstance(image.pixels, np.memmap):
        pixels: Any = ChannelView(LuminanceView(image.pixels), "CYX")
        return replace(image, pixels=pixels, channels=("luminance",), rgb=False)
    grey = np.empty((1, *image.shape), image.dtype)
    rows = max(1, _BAND // image.width)
    for y in range(0, image.height, rows):
        stop = min(y + rows, image.height)
        grey[0, y:stop] = _mixed(image.window(y, stop, 0, image.width))
    return replace(image, pixels=grey, channels=("luminance",), rgb=False)


class LuminanceView:
    """The luminance of ``(3, Y, X)`` pixels as ``(1, Y, X)``, computed for what is asked for.

    Examples
    --------
    >>> view = LuminanceView(np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    >>> view.shape, view[0, 1].tolist()
    ((1, 2, 2), [5, 6])
    """

    def __init__(self, base: Any) -> None:
        self.base = base
        self.dtype = np.dtype(base.dtype).newbyteorder("=")
        self.shape = (1, int(base.shape[1]), int(base.shape[2]))

    @property
    def ndim(self) -> int:
        """Three."""
        return 3

    @property
    def chunks(self) -> tuple[int, int, int]:
        """Elements that are stored together."""
        if not is_lazy(self.base):
            return 1, min(256, self.shape[1]), self.shape[2]
        _, rows, columns = chunk_shape(self.base)
        return 1, rows, columns

    @property
    def coarser(self) -> tuple[LuminanceView, ...]:
        """The luminance of the picture at lower resolutions."""
        return tuple(LuminanceView(level) for level in coarser_levels(self.base))

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: Any) -> np.ndarray:
        parts = whole_index(index, 3)
        channel, rows, columns = (places(part, size) for part, size in zip(parts, self.shape))
        pixels = np.asarray(self.base[:, _slice(rows), _slice(columns)])
        grey = _mixed(np.require(pixels, self.dtype))[None][_slice(channel)]
        dropped = tuple(axis for axis, part in enumerate(parts) if not isinstance(part, slice))
        return grey.squeeze(dropped) if dropped else grey


def _slice(wanted: range) -> slice:
    # A range that counts down to 0 ends at -1, which a slice would take for the last place.
    return slice(wanted.start, wanted.stop if wanted.stop >= 0 else None, wanted.step)


def _mixed(pixels: np.ndarray) -> np.ndarray:
    """Luminance ``(Y, X)`` of ``(3, Y, X)`` in its own dtype."""
    mixed = np.tensordot(np.array(LUMINANCE), pixels.astype(np.float64), axes=1)
    return (mixed if pixels.dtype.kind == "f" else np.rint(mixed)).astype(pixels.dtype)
