"""What an image's pixels are like: their range, their contrast under the annotation, and what is odd about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding
from cytomask.data.check.likeness import thumbnail
from cytomask.image import Image

#: An image of at most so many different values looks like a mask.
FEW_LEVELS = 8
#: Share of the objects' pixels at the highest value, beyond which they count as saturated.
SATURATED = 0.25
#: Bits that cameras and microscopes deliver in 16-bit files.
_CAMERA_BITS = (8, 10, 12, 14)


@dataclass(frozen=True, slots=True, eq=False)
class PixelFacts:
    """What of an image is remembered after it was looked at.

    Attributes
    ----------
    shape
        Height and width.
    dtype
        Name of the number type.
    channels
        Names of the channels.
    rgb
        Whether it is a colour picture.
    equal_channels
        Whether its three channels are equal: a grey image.
    alpha
        Whether the file has a transparency channel.
    pixel_size
        µm along y and x, or None.
    low, high
        Lowest and highest value.
    bits
        Bits that the values need, for integers; else 0.
    contrast
        How much brighter (or, negative, darker) objects are than the background, in standard deviations of the
        background; 0 without objects.
    digest
        Hash of the pixels: equal for equal images, whatever the file.
    thumb
        float32 ``(T, T)``: see :func:`~cytomask.data.check.likeness.thumbnail`.
    """

    shape: tuple[int, int]
    dtype: str
    channels: tuple[str, ...]
    rgb: bool
    equal_channels: bool
    alpha: bool
    pixel_size: tuple[float, float] | None
    low: float
    high: float
    bits: int
    contrast: float
    digest: str
    thumb: npt.NDArray[np.float32]

    @property
    def colour(self) -> bool:
        """Whether there is colour in it."""
        return self.rgb and not self.equal_channels


def look_at_pixels(
    image: Image, union: npt.NDArray[np.bool_] | None, /, **about: Any
) -> tuple[PixelFacts, npt.NDArray[np.float32], list[Finding]]:
    """Measure an image, and find what is odd about it.

    Parameters
    ----------
    image
        The image.
    union
        bool ``(Y, X)``: where objects are; None where that is unknown.
    about
        Fields for the findings: image, file, split.

    Returns
    -------
    tuple
        The facts; the image as one grey channel, float32 ``(Y, X)``; the findings.

    Examples
    --------
    >>> flat = Image.from_array(np.full((8, 8), 7, np.uint8))
    >>> [f.kind for f in look_at_pixels(flat, None)[2]]
    ['constant-image']
    """
    pixels = image.window(0, image.height, 0, image.width)
    low, high = float(pixels.min()), float(pixels.max())
    integers = pixels.dtype.kind in "ui"
    equal = image.n_channels == 3 and bool((pixels[0] == pixels[1]).all() and (pixels[0] == pixels[2]).all())
    grey = grey_of(pixels, union)
    facts = PixelFacts(
        shape=image.shape,
        dtype=str(image.dtype),
        channels=image.channels,
        rgb=image.rgb,
        equal_channels=equal,
        alpha="transparency" in image.resolved,
        pixel_size=image.pixel_size,
        low=low,
        high=high,
        bits=int(high).bit_length() if integers and low >= 0 else 0,
        contrast=_contrast(grey, union),
        digest=_digest(pixels[:1] if equal else pixels),
        thumb=thumbnail(grey),
    )
    return facts, grey, list(_faults(facts, pixels, union, about))


def grey_of(pixels: npt.NDArray[np.generic], union: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.float32]:
    """One grey channel: the mean of three colours; of other channels, the one in which objects stand out most."""
    if len(pixels) == 1:
        return pixels[0].astype(np.float32)
    if len(pixels) == 3 or union is None or not union.any() or union.all():
        return np.asarray(pixels.mean(axis=0, dtype=np.float32))
    channels = [channel.astype(np.float32) for channel in pixels]
    return max(channels, key=lambda channel: abs(_contrast(channel, union)))


def _contrast(grey: np.ndarray, union: np.ndarray | None) -> float:
    if grey.min() >= grey.max() or union is None or not union.any() or union.all():
        return 0.0
    inside, outside = grey[union], grey[~union]
    step = float(np.median(inside)) - float(np.median(outside))
    spread = np.sqrt((float(inside.var()) + float(outside.var())) / 2) + 1e-9
    return float(step / spread)


def _digest(pixels: np.ndarray) -> str:
    # The same values in a wider type are the same image.
    plain = np.ascontiguousarray(pixels, np.uint8 if pixels.dtype.kind in "ui" and _fits(pixels) else pixels.dtype)
    return hashlib.blake2b(plain.tobytes() + repr(plain.shape).encode(), digest_size=16).hexdigest()


def _fits(pixels: np.ndarray) -> bool:
    return bool(pixels.min() >= 0 and pixels.max() <= np.iinfo(np.uint8).max)


def _faults(facts: PixelFacts, pixels: np.ndarray, union: np.ndarray | None, about: dict[str, Any]) -> list[Finding]:
    if facts.low == facts.high:
        return [finding("constant-image", f"every pixel is {facts.low:g}", **about)]
    found = []
    levels = len(np.unique(pixels[..., :: max(1, pixels.shape[-1] // 512)]))
    if levels <= FEW_LEVELS and len(np.unique(pixels)) <= FEW_LEVELS:
        looks = "; it looks like a mask rather than an image" if levels == 2 else ""
        found.append(finding("few-levels", f"{levels} different values from {facts.low:g} to {facts.high:g}{looks}",
                             value=-levels, **about))  # fmt: skip
    elif union is not None and union.any() and facts.contrast > 0 and not facts.colour:
        top = _highest(facts)
        if top is not None:
            share = float((pixels[:, union] >= top).mean(axis=1).max())
            if share > SATURATED:
                found.append(finding(
                    "saturated", f"{share:.0%} of the objects' pixels have the highest value, {top:g}",
                    value=share, **about,
                ))  # fmt: skip
    return found


def _highest(facts: PixelFacts) -> float | None:
    """The value at which the image is cut off, if it reaches it."""
    if facts.dtype == "uint8":
        return 255.0 if facts.high == 255 else None
    if facts.dtype == "uint16":
        return facts.high if facts.high in {2.0**bits - 1 for bits in (*_CAMERA_BITS, 16)} else None
    return None
