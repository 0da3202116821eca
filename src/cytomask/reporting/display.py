"""Show an image on a screen: any depth and any number of channels become an 8-bit RGB picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cytomask.image import Image
from cytomask.lazy_pixels import coarser_levels
from cytomask.shrinking import band_rows, shrunk_rows, shrunk_shape

#: Colours of the channels of a composite: two make magenta and green, which the colour-blind tell apart as well.
CHANNEL_COLOURS = (
    (0, 255, 0), (255, 0, 255), (0, 170, 255), (255, 180, 0),
    (255, 70, 70), (120, 120, 255), (170, 255, 120), (255, 255, 255),
)  # fmt: skip
#: Percentiles that become black and white.
STRETCH, COLOUR_STRETCH = (0.5, 99.8), (0.1, 99.9)
#: A picture darker than this on average (of 1) is brightened towards it, by a gamma not below GAMMA.
DARK, GAMMA = 0.16, 0.6
#: Values from which percentiles are computed.
_SAMPLE = 1_000_000


def show(image: Image, *, channels: Sequence[str | int] | None = None, shrink: int = 1) -> np.ndarray:
    """Make a picture of an image, its contrast stretched.

    A colour picture keeps its hues (all three channels are stretched alike); one channel is shown in grey; of several,
    each gets a colour and they add up. Dark images are brightened by a gamma.

    Parameters
    ----------
    image
        Any image.
    channels
        Channels to show, by name or number; None for all.
    shrink
        Average blocks of ``shrink`` by ``shrink`` pixels. Where the image has a pyramid, a coarse level is shown.

    Returns
    -------
    numpy.ndarray
        uint8 ``(ceil(Y / shrink), ceil(X / shrink), 3)``. Besides it, only bands of the image are held.

    Examples
    --------
    >>> image = Image.from_array(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 9)
    >>> picture = show(image)
    >>> picture.shape, picture.min(), picture.max()
    ((30, 40, 3), np.uint8(0), np.uint8(255))
    """
    if channels is not None:
        image = image.select([image.channel_index(name) for name in channels])
    height, width = shrunk_shape(image.shape, shrink)
    rows = band_rows(image.pixels, shrink)
    tones = _tones(image)
    mixed = None if image.rgb or image.n_channels == 1 else _mixture(image, tones)
    picture = np.empty((height, width, 3), np.uint8)
    for y in range(0, height, rows):
        out = picture[y : y + rows]
        band = shrunk_rows(image.pixels, shrink, y, y + len(out))
        planes = [_toned(plane, tone) for plane, tone in zip(band, tones)]
        if mixed is not None:
            out[:] = _mix(planes, mixed)
        else:
            for c in range(3):
                out[..., c] = planes[c if image.rgb else 0]
    return picture


def _tones(image: Image) -> list[tuple[float, float, float]]:
    """For each channel the values that become black and white, and the gamma between them."""
    sample = _sample(image)
    if image.rgb:
        low, high = (float(v) for v in np.percentile(sample, COLOUR_STRETCH))
        return [(low, high, 1.0)] * 3
    tones = []
    for values in sample:
        low, high = (float(v) for v in np.percentile(values, STRETCH))
        if high <= low:  # few bright pixels on an even ground, or nothing at all
            low, high = float(values.min()), float(values.max())
        mean = float(np.clip((values - low) / (high - low), 0, 1).mean()) if high > low else 0.0
        gamma = math.log(DARK) / math.log(mean) if 0 < mean < DARK and image.n_channels == 1 else 1.0
        tones.append((low, high, max(GAMMA, gamma)))
    return tones


def _sample(image: Image) -> np.ndarray:
    """Values spread evenly over the image, or over a coarse level of its pyramid; float32 ``(C, M)``."""
    step = max(1, math.ceil(math.sqrt(image.height * image.width / _SAMPLE)))
    if step > 1 and coarser_levels(image.pixels):
        values = np.asarray(image.overview(-(-max(image.shape) // step)).pixels)
    else:
        values = image.sampled(step)
    return values.astype(np.float32).reshape(image.n_channels, -1)


def _toned(plane: np.ndarray, tone: tuple[float, float, float]) -> np.ndarray:
    """Stretch one channel to uint8; integers of up to 16 bits by a table."""
    if plane.dtype.kind in "ui" and plane.dtype.itemsize <= 2:
        least = int(np.iinfo(plane.dtype).min)
        values = np.arange(least, int(np.iinfo(plane.dtype).max) + 1)
        table = _stretched(values.astype(np.float32), tone)
        return table[plane if least == 0 else plane.astype(np.int32) - least]
    return _stretched(plane.astype(np.float32), tone)


def _stretched(values: np.ndarray, tone: tuple[float, float, float]) -> np.ndarray:
    low, high, gamma = tone
    if high <= low:
        return np.zeros(values.shape, np.uint8)
    part = np.clip((values - np.float32(low)) / np.float32(high - low), 0, 1)
    if gamma != 1:
        part **= np.float32(gamma)
    return np.rint(part * 255).astype(np.uint8)


def _mixture(image: Image, tones: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """The light that each channel adds at its brightest, ``(C, 3)``: together as much as the picture can show."""
    hues = np.array([CHANNEL_COLOURS[c % len(CHANNEL_COLOURS)] for c in range(image.n_channels)], np.float32)
    planes = np.stack([_stretched(values, tone) for values, tone in zip(_sample(image), tones)], axis=-1)
    brightest = float(np.percentile((planes @ (hues / 255)).max(axis=-1), STRETCH[1]))
    return hues / max(brightest, 1.0)


def _mix(planes: Sequence[np.ndarray], mixture: np.ndarray) -> np.ndarray:
    total = np.zeros((*planes[0].shape, 3), np.float32)
    for plane, light in zip(planes, mixture):
        for c in range(3):
            if light[c]:
                total[..., c] += (np.arange(256, dtype=np.float32) * light[c])[plane]
    return np.minimum(total, 255).astype(np.uint8)
