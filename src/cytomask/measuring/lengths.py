"""The unit of lengths and areas in tables of relations: µm where the pixel size is known, else pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cytomask.errors import ConfigError

#: Pixels in a megapixel, and µm² in a mm².
_MILLION = 1e6


@dataclass(frozen=True)
class Scale:
    """How long a pixel is, and what lengths are called.

    Attributes
    ----------
    pixel
        Length of a pixel along y and x: in µm, or 1.
    unit
        ``"um"`` or ``"px"``: the end of the names of columns with lengths.

    Examples
    --------
    >>> Scale.of(0.5), Scale.of(None).per
    (Scale(pixel=(0.5, 0.5), unit='um'), 'mpx')
    >>> Scale.of((0.5, 0.25)).density(2, 1_000_000)
    16.0
    """

    pixel: tuple[float, float] = (1.0, 1.0)
    unit: str = "px"

    @classmethod
    def of(cls, pixel_size: float | tuple[float, float] | None) -> Scale:
        """The scale of a pixel size in µm, or along y and x; None for pixels.

        Raises
        ------
        ConfigError
            If it is not a positive length.
        """
        if pixel_size is None:
            return cls()
        size = np.atleast_1d(np.asarray(pixel_size, float))
        if size.shape not in ((1,), (2,)) or not (np.isfinite(size).all() and (size > 0).all()):
            raise ConfigError(
                "the pixel size is not a length", where="pixel_size", found=pixel_size,
                expected="µm per pixel, or µm along y and x, each above 0",
            )  # fmt: skip
        return cls((float(size[0]), float(size[-1])), "um")

    @property
    def area(self) -> float:
        """Area of a pixel."""
        return self.pixel[0] * self.pixel[1]

    @property
    def per(self) -> str:
        """The end of the names of columns with densities: per mm², or per million pixels."""
        return "mm2" if self.unit == "um" else "mpx"

    def density(self, count: float, pixels: float) -> float:
        """Objects per mm², or per million pixels; NaN for no pixels."""
        return count * _MILLION / (pixels * self.area) if pixels else float("nan")
