"""Settings of augmentation, by themselves: reading an experiment needs none of what makes the changes.

:mod:`cytomask.data.augment` makes those of geometry, :mod:`cytomask.data.intensity` those of pixel values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if not pair[0] <= pair[1]:
        raise ValueError(f"the range must rise, not go from {pair[0]:g} to {pair[1]:g}")
    return pair


def _above_zero(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError(f"the range must lie above 0, not begin at {pair[0]:g}")
    return pair


def _not_negative(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] < 0:
        raise ValueError(f"the range must not go below 0, but begins at {pair[0]:g}")
    return pair


_Finite = Annotated[float, Field(allow_inf_nan=False)]
#: Lowest and highest value.
Range = Annotated[tuple[_Finite, _Finite], AfterValidator(_rising)]
PositiveRange = Annotated[Range, AfterValidator(_above_zero)]
AmountRange = Annotated[Range, AfterValidator(_not_negative)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Change(BaseModel):
    """A random change that is made with a probability."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    probability: Probability = Field(0.0, description="how often the change is made")


class Inversion(Change):
    """Dark becomes bright: ``1 - value``."""

    probability: Probability = 0.05


class Gamma(Change):
    """Contrast of dark against bright parts: ``value ** gamma`` (values below 0 stay)."""

    probability: Probability = 0.3
    gamma: PositiveRange = Field((0.6, 1.6), description="exponent, drawn log-uniformly")


class Brightness(Change):
    """Gain and offset: ``value * gain + offset``."""

    probability: Probability = 0.6
    gain: PositiveRange = Field((0.6, 1.4), description="factor, drawn log-uniformly")
    offset: Range = Field((-0.1, 0.1), description="added after the factor")


class Unevenness(Change):
    """Background or illumination that changes over the picture: a random slope and bulge, added or multiplied."""

    probability: Probability = 0.15
    strength: AmountRange = Field((0.05, 0.35), description="from the darkest to the brightest place")


class Tint(Change):
    """Show a grey picture in a random colour, one channel of it at full weight (for models of colour pictures).

    A bright picture is tinted half as strongly: lamps and stains colour the light, but do not take it all.
    """

    others: AmountRange = Field((0.0, 1.0), description="weights of the other channels")


class Colour(Change):
    """Another hue and saturation (for models of colour pictures)."""

    hue: float = Field(8.0, ge=0, le=180, description="turn of the hue to either side, at most, in degrees")
    saturation: AmountRange = Field((0.7, 1.3), description="0 is grey, 1 as it is")


class Blur(Change):
    """Out of focus: a Gaussian filter."""

    probability: Probability = 0.15
    sigma: PositiveRange = Field((0.4, 2.0), description="pixels, drawn log-uniformly")
    of_diameter: float = Field(0.1, gt=0, description="at most this share of the objects' diameter")


class LowResolution(Change):
    """A coarse camera: averaged to larger pixels and interpolated back."""

    probability: Probability = 0.1
    factor: PositiveRange = Field((1.5, 3.0), description="side of the larger pixels, drawn log-uniformly")
    of_diameter: float = Field(0.2, gt=0, description="at most this share of the objects' diameter")


class Noise(Change):
    """Noise of the camera (the same everywhere) and of the photons (grows with the root of the signal)."""

    probability: Probability = 0.3
    camera: AmountRange = Field((0.0, 0.08), description="standard deviation")
    photons: AmountRange = Field((0.0, 0.12), description="standard deviation where the value is 1")


class IntensityConfig(BaseModel):
    """All changes of pixel values, in the order in which they are made.

    Noise comes before or after the low resolution, by chance: cameras bin, and people resize.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    inversion: Inversion = Field(default_factory=Inversion)
    gamma: Gamma = Field(default_factory=Gamma)
    unevenness: Unevenness = Field(default_factory=Unevenness)
    brightness: Brightness = Field(default_factory=Brightness)
    tint: Tint = Field(default_factory=Tint)
    colour: Colour = Field(default_factory=Colour)
    blur: Blur = Field(default_factory=Blur)
    noise: Noise = Field(default_factory=Noise)
    low_resolution: LowResolution = Field(default_factory=LowResolution)


class Rotation(Change):
    """Turn by any angle."""

    probability: Probability = 0.3
    degrees: float = Field(180.0, ge=0, le=180, description="to either side, at most")


class Scale(Change):
    """Make objects larger or smaller.

    Without ``diameter``, by a factor from ``zoom``. With it, the diameter that the objects of the image shall have is
    drawn, and the factor follows from the median diameter that they do have: so a network sees all sizes alike,
    whatever the images hold.
    """

    probability: Probability = 0.8
    zoom: PositiveRange = Field((0.7, 1.4), description="factor, drawn log-uniformly")
    diameter: PositiveRange | None = Field(
        None, description="median object diameter in network pixels, drawn log-uniformly; takes the place of zoom"
    )
    min_zoom: float = Field(0.25, gt=0, description="smallest factor that a diameter may lead to")
    max_zoom: float = Field(4.0, gt=0, description="largest factor that a diameter may lead to")
    stretch: float = Field(1.15, ge=1, description="ratio of the factors in two perpendicular directions, at most")

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.min_zoom > self.max_zoom:
            raise ValueError(f"min_zoom {self.min_zoom:g} is above max_zoom {self.max_zoom:g}")
        return self


class Elastic(Change):
    """Bend smoothly, by random displacements of the points of a coarse grid."""

    probability: Probability = 0.2
    spacing: PositiveRange = Field((32.0, 96.0), description="pixels between the grid's points, drawn log-uniformly")
    strength: AmountRange = Field(
        (0.02, 0.1), description="standard deviation of the displacements, as a share of the spacing"
    )

    @model_validator(mode="after")
    def _not_folding(self) -> Self:
        if self.strength[1] > 0.25:
            raise ValueError(f"a strength of {self.strength[1]:g} would fold the picture; at most 0.25")
        return self


class AugmentConfig(BaseModel):
    """How training patches are varied.

    Examples
    --------
    >>> AugmentConfig.none().flips
    0.0
    >>> AugmentConfig(scale={"diameter": [8, 120]}).scale.diameter
    (8.0, 120.0)
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flips: Probability | tuple[Probability, Probability] = Field(
        0.5, description="how often each axis is flipped: one number, or for top with bottom and for left with right"
    )
    quarter_turns: Probability = Field(1.0, description="how often one of the four quarter turns is drawn")
    rotation: Rotation = Field(default_factory=Rotation)
    scale: Scale = Field(default_factory=Scale)
    elastic: Elastic = Field(default_factory=Elastic)
    intensity: IntensityConfig = Field(default_factory=IntensityConfig)
    min_object_pixels: int = Field(
        4, ge=1, description="connected parts of objects with fewer pixels are taken out of the labels"
    )

    @classmethod
    def none(cls) -> AugmentConfig:
        """Make the settings that leave every patch as it is."""
        off = {name: {"probability": 0.0} for name in IntensityConfig.model_fields}
        return cls.model_validate(
            {
                "flips": 0.0,
                "quarter_turns": 0.0,
                "rotation": {"probability": 0.0},
                "scale": {"probability": 0.0},
                "elastic": {"probability": 0.0},
                "intensity": off,
                "min_object_pixels": 1,
            }
        )

    def diameter_range(self, sizes: Mapping[str, Any]) -> tuple[float, float]:
        """Tell which object diameters, in network pixels, training shows with these settings.

        Parameters
        ----------
        sizes
            ``diameter_p5`` and ``diameter_p95`` of the annotated objects, in pixels.

        Examples
        --------
        >>> AugmentConfig(scale={"zoom": [0.5, 2]}).diameter_range({"diameter_p5": 10, "diameter_p95": 30})
        (5.0, 60.0)
        """
        low, high = float(sizes["diameter_p5"]), float(sizes["diameter_p95"])
        if self.scale.probability > 0:
            if self.scale.diameter is not None:
                # Never more than the zoom can make of the objects that there are.
                low_drawn, high_drawn = self.scale.diameter
                least, most = low * self.scale.min_zoom, high * self.scale.max_zoom
                low, high = min(low, max(low_drawn, least)), max(high, min(high_drawn, most))
            else:
                low, high = low * min(1.0, self.scale.zoom[0]), high * max(1.0, self.scale.zoom[1])
        return round(low, 2), round(high, 2)
