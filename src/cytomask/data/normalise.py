"""Normalisation: bring pixel values of any dtype to about 0..1, with the statistics of the whole image.

The statistics are taken once per image, and then applied to any window of it; so a tile gets the same values as the
whole image, whatever is in the tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cytomask.errors import ConfigError, ImageError
from cytomask.image import Image

#: Pixels per channel that the statistics look at; larger images are sampled evenly.
MAX_PIXELS = 4_000_000


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_AboveZero = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Method(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PercentileNormalisation(_Method):
    """Two percentiles become 0 and 1; what lies beyond goes below 0 and above 1 unless clipped."""

    method: Literal["percentile"] = "percentile"
    low: float = Field(1.0, ge=0, le=100, description="percentile that becomes 0")
    high: float = Field(99.8, ge=0, le=100, description="percentile that becomes 1")
    per_channel: bool | None = Field(
        None, description="each channel by itself; by default a colour picture jointly, other channels singly"
    )
    clip: tuple[float, float] | None = Field(None, description="lowest and highest value afterwards")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order("percentiles", self.low, self.high)
        _check_clip(self.clip)
        return self


class MinMax(_Method):
    """The smallest value becomes 0, the largest 1."""

    method: Literal["min_max"] = "min_max"
    per_channel: bool | None = Field(None, description="as in percentile normalisation")


class Maximum(_Method):
    """Zero stays 0, the largest value becomes 1."""

    method: Literal["max"] = "max"
    per_channel: bool | None = Field(None, description="as in percentile normalisation")


class ZScore(_Method):
    """The mean becomes 0, the standard deviation 1."""

    method: Literal["z_score"] = "z_score"
    per_channel: bool | None = Field(None, description="as in percentile normalisation")
    clip: tuple[float, float] | None = Field(None, description="lowest and highest value afterwards")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_clip(self.clip)
        return self


class FixedRange(_Method):
    """Two given values become 0 and 1, whatever is in the image."""

    method: Literal["fixed_range"] = "fixed_range"
    low: float = Field(description="pixel value that becomes 0", allow_inf_nan=False)
    high: float = Field(description="pixel value that becomes 1", allow_inf_nan=False)
    clip: tuple[float, float] | None = Field(None, description="lowest and highest value afterwards")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order("values", self.low, self.high)
        _check_clip(self.clip)
        return self


class MeanStd(_Method):
    """Subtract a mean and divide by a standard deviation that are given in 8-bit units, as pretrained networks want it.

    Images of 8 bits are taken as they are. Of others, two percentiles become 0 and 255 first.
    """

    method: Literal["mean_std"] = "mean_std"
    mean: tuple[_Finite, ...] = Field(
        (123.675, 116.28, 103.53), min_length=1, description="of each channel, in order, or one for all; 0 to 255"
    )
    std: tuple[_AboveZero, ...] = Field((1.0,), min_length=1, description="of each channel, or one for all")
    low: float = Field(1.0, ge=0, le=100, description="percentile that becomes 0 where pixels have not 8 bits")
    high: float = Field(99.8, ge=0, le=100, description="percentile that becomes 255 where pixels have not 8 bits")
    per_channel: bool | None = Field(None, description="percentiles as in percentile normalisation")
    clip: tuple[float, float] | None = Field(None, description="lowest and highest value afterwards")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _check_order("percentiles", self.low, self.high)
        _check_clip(self.clip)
        return self

    def unit(self) -> MeanStd:
        """Give the method without its last step: pixels of about 0 to 1, as changes of intensity expect them."""
        return self.model_copy(update={"mean": (0.0,), "std": (255.0,), "clip": None})

    def from_unit(self, pixels: np.ndarray) -> np.ndarray:
        """Do the last step: from what :meth:`unit` gives, float32 ``(C, Y, X)``, to what this method gives.

        Examples
        --------
        >>> MeanStd(mean=(55,), std=(2,)).from_unit(np.ones((1, 1, 1), np.float32))
        array([[[100.]]], dtype=float32)
        """
        mean, std = (_of_channels(values, len(pixels), "mean and std") for values in (self.mean, self.std))
        offset, scale = (np.array(v, np.float32).reshape(-1, 1, 1) for v in (mean, [255 / s for s in std]))
        values = pixels * scale - offset * (scale / np.float32(255))
        return values if self.clip is None else np.clip(values, *self.clip)


#: Any of the methods, told apart by ``method``.
Normalisation = Annotated[
    PercentileNormalisation | MinMax | Maximum | ZScore | FixedRange | MeanStd,
    Field(discriminator="method"),
]


def _check_order(what: str, low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"the {what} must rise: low is {low:g}, high is {high:g}")


def _check_clip(clip: tuple[float, float] | None) -> None:
    if clip is not None and not clip[0] < clip[1]:
        raise ValueError(f"clip must rise, not go from {clip[0]:g} to {clip[1]:g}")


@dataclass(frozen=True, eq=False)
class NormaliseStatistics:
    """What was learnt from the whole image, ready to be applied to any window of it.

    Attributes
    ----------
    offset, scale
        ``(C, 1, 1)``: a pixel becomes ``(value - offset) * scale``. float32, or float64 where the image's dtype holds
        numbers that float32 cannot tell apart.
    clip
        Lowest and highest value afterwards, or None.
    """

    offset: np.ndarray
    scale: np.ndarray
    clip: tuple[float, float] | None = None

    def apply(self, window: np.ndarray) -> np.ndarray:
        """Normalise a window.

        Parameters
        ----------
        window
            ``(C, h, w)`` of the image's dtype.

        Returns
        -------
        np.ndarray
            float32 ``(C, h, w)``, a new array in C order. Pixel for pixel: the same bits in whatever window a pixel is.
        """
        values = window.astype(self.offset.dtype, order="C")
        values -= self.offset
        values *= self.scale
        if self.clip is not None:
            np.clip(values, *self.clip, out=values)
        return values.astype(np.float32, copy=False)


def statistics(image: Image, config: Normalisation, max_pixels: int = MAX_PIXELS) -> NormaliseStatistics:
    """Take the statistics of a whole image.

    Rows ``0, s, 2s, …`` and columns ``0, s, 2s, …`` are looked at, with the smallest ``s`` that leaves at most
    ``max_pixels`` pixels per channel. Percentiles are ``np.percentile(…, method="linear")`` of these.

    Parameters
    ----------
    image
        An image of any real dtype; a large one is read by parts. Coarser levels of a pyramid are not looked at: the
        same pixels give the same statistics, whatever file they are in.
    config
        The method.
    max_pixels
        Pixels per channel that are looked at.

    Returns
    -------
    NormaliseStatistics
        A channel without contrast gets the scale 0, so it becomes zeros. Where two percentiles coincide though the
        channel has contrast (few bright pixels in a dark image), its minimum and maximum stand in for them.

    Raises
    ------
    ImageError
        If the pixels that are looked at are not all finite.
    ConfigError
        If a method has means for another number of channels.

    Examples
    --------
    >>> image = Image.from_array(np.arange(101, dtype=np.uint8)[None], axes="YX")
    >>> found = statistics(image, PercentileNormalisation(low=10, high=90))
    >>> found.apply(image.window(0, 1, 10, 91))[0, 0, [0, 40, 80]].tolist()
    [0.0, 0.5, 1.0]
    """
    wide = np.dtype(image.dtype).itemsize >= (8 if np.dtype(image.dtype).kind == "f" else 4)
    dtype = np.dtype(np.float64 if wide else np.float32)
    clip = getattr(config, "clip", None)
    if isinstance(config, FixedRange):
        pairs = [(config.low, _inverse(config.high - config.low))] * image.n_channels
        return _statistics(pairs, dtype, clip)
    eight_bits = np.dtype(image.dtype) == np.uint8
    if isinstance(config, MeanStd) and eight_bits:
        return _statistics(_standardised([(0.0, 1 / 255)] * image.n_channels, config), dtype, clip)
    channels = _sample(image, max_pixels)
    _check_finite(channels, image)
    measure = _MEASURES[config.method]
    per_channel = config.per_channel if config.per_channel is not None else not image.rgb
    if per_channel:
        pairs = [measure(channel.ravel(), config) for channel in channels]
    else:
        # Equal channels (grey shown as colour) count once, so that they give the same numbers as the grey image.
        distinct = [c for i, c in enumerate(channels) if i == 0 or not np.array_equal(c, channels[0])]
        joint = distinct[0].ravel() if len(distinct) == 1 else np.concatenate([c.ravel() for c in channels])
        pairs = [measure(joint, config)] * image.n_channels
    if isinstance(config, MeanStd):
        pairs = _standardised(pairs, config)
    return _statistics(pairs, dtype, clip)


def _statistics(
    pairs: list[tuple[float, float]], dtype: np.dtype, clip: tuple[float, float] | None
) -> NormaliseStatistics:
    offset, scale = (np.array(values, dtype=dtype).reshape(-1, 1, 1) for values in zip(*pairs))
    return NormaliseStatistics(offset, scale, clip)


def _standardised(pairs: list[tuple[float, float]], config: MeanStd) -> list[tuple[float, float]]:
    """Offset and scale of each channel that lead to 0..1, changed so that they lead to ``config``'s units."""
    mean, std = (_of_channels(values, len(pairs), "mean and std") for values in (config.mean, config.std))
    # Without contrast the scale is 0, and any offset will do.
    return [(o + (m / (255 * s) if s else 0.0), 255 * s / d) for (o, s), m, d in zip(pairs, mean, std)]


def _of_channels(values: tuple[float, ...], count: int, what: str) -> tuple[float, ...]:
    if len(values) == 1:
        return values * count
    if len(values) != count:
        raise ConfigError(
            f"the {what} of the normalisation do not fit the channels",
            found=f"{len(values)} values for {count} channels",
            expected="one value, or one for each channel",
        )
    return values


def _sample(image: Image, max_pixels: int) -> np.ndarray:
    """Pixels on an even grid, ``(C, rows, columns)`` in the image's dtype."""
    height, width = image.shape
    step = max(1, int(np.ceil(np.sqrt(height * width / max_pixels))))
    while -(-height // step) * -(-width // step) > max_pixels:
        step += 1
    return image.sampled(step)


def _check_finite(channels: np.ndarray, image: Image) -> None:
    if channels.dtype.kind != "f" or np.isfinite(channels).all():
        return
    wrong = int((~np.isfinite(channels)).sum())
    raise ImageError(
        "the image has pixels that are not numbers, so it cannot be normalised",
        where=image.source,
        found=f"{wrong} NaN or infinite of {channels.size} pixels looked at",
        expected="finite numbers",
        fix="replace them, for instance by 0, before segmenting",
    )


def _inverse(span: float, noise: float = 0.0) -> float:
    """``1 / span``, or 0 where the span is no more than noise."""
    if not np.isfinite(span):
        raise ImageError("the pixel values are too far apart for floating point", expected="a range below 1e308")
    # The inverse of what lies below 1e-38 is beyond float32.
    return 1 / span if span > max(noise, 1.2e-38) else 0.0


def _rounding(values: np.ndarray, largest: float) -> float:
    """Differences that rounding alone can make; integers have none."""
    return 4 * float(np.finfo(values.dtype).eps) * largest if values.dtype.kind == "f" else 0.0


def _percentile(values: np.ndarray, config: PercentileNormalisation | MeanStd) -> tuple[float, float]:
    low, high = percentiles(values, (config.low, config.high))
    inverse = _inverse(high - low, _rounding(values, max(abs(low), abs(high))))
    return (low, inverse) if inverse else _min_max(values, config)


def _min_max(values: np.ndarray, config: object) -> tuple[float, float]:  # noqa: ARG001 (one signature for all)
    low, high = float(values.min()), float(values.max())
    return low, _inverse(high - low, _rounding(values, max(abs(low), abs(high))))


def _maximum(values: np.ndarray, config: object) -> tuple[float, float]:  # noqa: ARG001 (one signature for all)
    return 0.0, _inverse(float(values.max()))


def _z_score(values: np.ndarray, config: object) -> tuple[float, float]:
    low, scale = _min_max(values, config)
    if not scale:
        return low, 0.0
    return float(values.mean(dtype=np.float64)), _inverse(float(values.std(dtype=np.float64)))


_MEASURES: dict[str, Callable] = {
    "percentile": _percentile,
    "min_max": _min_max,
    "max": _maximum,
    "z_score": _z_score,
    "mean_std": _percentile,
}


def in_half(pixels: np.ndarray) -> np.ndarray:
    """Normalised pixels as float16, which takes half the memory; what is beyond its range is cut.

    So a few pixels that are a thousand times as bright as the others stay finite.

    Examples
    --------
    >>> in_half(np.array([0.5, -1e6, 1e6], np.float32)).tolist()
    [0.5, -65504.0, 65504.0]
    """
    limit = float(np.finfo(np.float16).max)
    return np.ascontiguousarray(np.clip(pixels, -limit, limit), np.float16)


def percentiles(values: np.ndarray, q: tuple[float, ...]) -> tuple[float, ...]:
    """``np.percentile(values, q)`` with linear interpolation; 8- and 16-bit integers are counted, not sorted.

    Examples
    --------
    >>> percentiles(np.array([1, 2, 3, 4], dtype=np.uint8), (50, 100))
    (2.5, 4.0)
    """
    if values.dtype == bool:
        values = values.view(np.uint8)
    if values.dtype == np.float16:
        # Between values of 16 bits lie many that only 32 can hold.
        values = values.astype(np.float32)
    if values.dtype not in (np.uint8, np.uint16):
        return tuple(float(value) for value in np.percentile(values, q))
    reached = np.cumsum(np.bincount(values))
    found = []
    for place in (values.size - 1) * (np.array(q, dtype=np.float64) / 100):
        before = int(np.floor(place))
        weight = place - before
        a, b = np.searchsorted(reached, [before, min(before + 1, values.size - 1)], side="right").astype(np.float64)
        # The same two formulas as NumPy's, so the same bits.
        found.append(float(a + (b - a) * weight if weight < 0.5 else b - (b - a) * (1 - weight)))
    return tuple(found)
