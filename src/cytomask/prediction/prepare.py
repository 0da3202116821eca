"""An image made ready for a network: channels chosen, normalised, scaled; computed window by window.

Channels, normalisation statistics and scale are settled once for the whole image. Pixels become float32 only in the
windows that are asked for, so a large image never exists as floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cytomask.data.channel_mix import FixedMix, before_mixing
from cytomask.data.channels import ChannelExpectation, program_channels, select_channels
from cytomask.data.normalise import Normalisation, NormaliseStatistics, statistics
from cytomask.data.working_size import ImageSize
from cytomask.errors import ConfigError
from cytomask.geometry.resample import resample_window, target_shape
from cytomask.image import Image
from cytomask.progress import warn

#: Scales this close to one are taken as one: the network does not notice, and pixels stay as they are.
NEAR_ONE = 0.05
#: A pixel size that asks for more than this (or less than its inverse) is an error of the file's metadata.
BELIEVABLE = 10.0
#: What a diameter may ask for.
POSSIBLE = 64.0


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as a network sees it, by windows.

    Attributes
    ----------
    image
        The image with the network's channels, in its own dtype; with a channel program those that it is made of.
    statistics
        The normalisation of the whole image.
    scale
        Network pixels per native pixel, along y and x.
    region
        The part that is looked at, ``(y0, x0, y1, x1)`` in native pixels; None for the whole image.
    told
        Sentences about the choices made, for the log and the record.
    mix
        How the network's channels are made of the image's, with a channel program.
    """

    image: Image
    statistics: NormaliseStatistics
    scale: tuple[float, float] = (1.0, 1.0)
    region: tuple[int, int, int, int] | None = None
    told: tuple[str, ...] = ()
    mix: FixedMix | None = None

    @property
    def native_shape(self) -> tuple[int, int]:
        """Height and width of the region in native pixels."""
        if self.region is None:
            return self.image.shape
        y0, x0, y1, x1 = self.region
        return y1 - y0, x1 - x0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in network pixels, before padding."""
        return target_shape(self.native_shape, self.scale)

    def window(self, y0: int, x0: int, y1: int, x1: int) -> np.ndarray:
        """Compute a window in network pixels; what lies below or right of the image repeats its edge.

        Returns
        -------
        np.ndarray
            float32 ``(C, y1 - y0, x1 - x0)``, with the same bits as that part of any larger window.
        """
        height, width = self.shape
        # A window that begins in the padding still shows the edge.
        top, left = min(y0, height - 1), min(x0, width - 1)
        bottom, right = min(y1, height), min(x1, width)
        pixels = resample_window(self._read, self.native_shape, self.scale, (top, bottom, left, right))
        if (top, left, bottom, right) == (y0, x0, y1, x1):
            return pixels
        rows, columns = np.arange(y0, y1).clip(top, bottom - 1) - top, np.arange(x0, x1).clip(left, right - 1) - left
        return np.ascontiguousarray(pixels[:, rows[:, None], columns[None, :]])

    def at_scale(self, scale: tuple[float, float], sentence: str | None = None) -> PreparedImage:
        """Look at the same image at another scale."""
        return replace(self, scale=scale, told=self.told + ((sentence,) if sentence else ()))

    def cropped(self, y0: int, x0: int, y1: int, x1: int) -> PreparedImage:
        """Look at a part only (native pixels), normalised as the whole."""
        return replace(self, region=(y0, x0, y1, x1))

    def _read(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        top, left = self.region[:2] if self.region is not None else (0, 0)
        pixels = self.statistics.apply(self.image.window(y0 + top, y1 + top, x0 + left, x1 + left))
        return pixels if self.mix is None else self.mix.apply(pixels)


def prepare_image(
    image: Image,
    *,
    channels: ChannelExpectation,
    normalisation: Normalisation,
    chosen: Sequence[str | int] | None = None,
    model_pixel_size: float | None = None,
    known: NormaliseStatistics | None = None,
) -> PreparedImage:
    """Choose channels, take the statistics, and scale to the model's pixel size where both sizes are known.

    Parameters
    ----------
    image
        The image as read.
    channels, normalisation
        What the model expects.
    chosen
        Channels by name or number, where the image has more than the model needs.
    model_pixel_size
        Pixel size in µm that the model was trained at.
    known
        The statistics, where they have been taken before.

    Raises
    ------
    ChannelError
        If the image's channels do not fit the model.
    """
    if channels.mode == "program":
        prepared = _with_program(image, channels, normalisation, chosen, known)
    else:
        selected, sentence = select_channels(image, channels, chosen)
        taken = known if known is not None else statistics(selected, normalisation)
        prepared = PreparedImage(selected, taken, told=(sentence,) if sentence else ())
    if model_pixel_size is None:
        return prepared
    if image.pixel_size is None:
        return prepared.at_scale((1.0, 1.0), "the image does not tell its pixel size, so it is not rescaled")
    return prepared.at_scale(*scale_to_pixel_size(image.pixel_size, model_pixel_size))


def _with_program(
    image: Image,
    channels: ChannelExpectation,
    normalisation: Normalisation,
    chosen: Sequence[str | int] | None,
    known: NormaliseStatistics | None,
) -> PreparedImage:
    selected, mix, sentence = program_channels(image, channels, chosen)
    taken = known if known is not None else statistics(selected, before_mixing(normalisation))
    flat = [name for name, scale in zip(mix.names, taken.scale.ravel()) if scale == 0]
    told = (sentence, f"without contrast, so zeros for the network: {', '.join(flat)}") if flat else (sentence,)
    return PreparedImage(selected, taken, told=told, mix=FixedMix.of(mix, normalisation))


def scale_to_pixel_size(image: tuple[float, float], model: float) -> tuple[tuple[float, float], str | None]:
    """Scale that brings an image to the model's pixel size, and a sentence when it differs from one.

    Examples
    --------
    >>> scale_to_pixel_size((0.25, 0.25), 0.5)
    ((0.5, 0.5), "rescaled by 0.5 from 0.25 µm to the model's 0.5 µm per pixel")
    >>> scale_to_pixel_size((0.49, 0.49), 0.5)
    ((1.0, 1.0), None)
    """
    scale = (image[0] / model, image[1] / model)
    if max(*scale, 1 / min(scale)) > BELIEVABLE:
        warn(
            f"the image says that its pixels are {image[0]:g} x {image[1]:g} µm, those of the model {model:g}: "
            "that is hardly so, and the pixel size is ignored; give the true one with --pixel-size, or use --diameter"
        )
        return (1.0, 1.0), "the image's pixel size is not believable and was ignored"
    if max(abs(math.log(s)) for s in scale) < NEAR_ONE:
        return (1.0, 1.0), None
    told = f"rescaled by {_pair(scale)} from {_pair(image)} µm to the model's {model:g} µm per pixel"
    return scale, told


def scale_to_diameter(diameter: float, model_diameter: float | None) -> tuple[tuple[float, float], str | None]:
    """Scale that brings objects of a diameter (native pixels) to the model's own, and a sentence.

    Raises
    ------
    ConfigError
        If the diameter is impossible, or the model does not know its own.

    Examples
    --------
    >>> scale_to_diameter(50, 25)
    ((0.5, 0.5), "rescaled by 0.5, from objects of 50 px to the model's 25 px")
    """
    if model_diameter is None:
        raise unknown_diameter()
    if not (math.isfinite(diameter) and diameter > 0):
        raise ConfigError(
            "the object diameter is not a length", where="--diameter", found=diameter, expected="pixels, more than 0"
        )
    scale = model_diameter / diameter
    if not 1 / POSSIBLE <= scale <= POSSIBLE:
        raise ConfigError(
            "the object diameter is far from anything the model knows",
            where="--diameter",
            found=f"{diameter:g} px",
            expected=f"between {model_diameter / POSSIBLE:.2g} and {model_diameter * POSSIBLE:.4g} px",
        )
    if abs(math.log(scale)) < NEAR_ONE:
        return (1.0, 1.0), None
    told = f"rescaled by {scale:.3g}, from objects of {diameter:.3g} px to the model's {model_diameter:.3g} px"
    return (scale, scale), told


def scale_to_size(shape: tuple[int, int], resize: ImageSize) -> tuple[tuple[float, float], str | None]:
    """Scale that brings an image to the size at which a model sees whole images, and a sentence when it differs.

    Examples
    --------
    >>> from cytomask.data.short_edge import ShortestEdge
    >>> scale_to_size((400, 600), ShortestEdge(shortest=800, longest=1333))
    ((2.0, 2.0), 'resized from 600 x 400 to 1200 x 800 px, as the model sees whole images')
    """
    height, width = resize.size(shape)
    if (height, width) == shape:
        return (1.0, 1.0), None
    told = f"resized from {shape[1]} x {shape[0]} to {width} x {height} px, as the model sees whole images"
    return (height / shape[0], width / shape[1]), told


def unknown_diameter() -> ConfigError:
    """Make the error of a model that cannot rescale by a diameter."""
    return ConfigError(
        "this model does not know the diameter it was trained at, so --diameter cannot be used",
        fix="leave --diameter out, or rescale by the pixel size",
    )


def _pair(values: tuple[float, float]) -> str:
    y, x = (f"{v:.3g}" for v in values)
    return y if y == x else f"{y} x {x}"
