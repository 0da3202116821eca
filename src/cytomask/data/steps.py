"""Preprocessing steps that a YAML file lists: what is done to images and labels before anything else.

::

    steps:
      - fill_label_holes
      - rescale: {pixel_size: 0.5}
      - select_channels: [DAPI]

Normalisation is no step: it has a setting of its own, because prediction must repeat it.
"""

# ruff: noqa: ARG002 (one signature for all steps)
from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from scipy import ndimage

from cytomask.data.channels import ChannelExpectation, select_channels
from cytomask.data.luminance import luminance
from cytomask.errors import ConfigError, DataError, first_problem
from cytomask.geometry.resample import resample_window, target_shape
from cytomask.image import Image
from cytomask.label_layers import LabelLayers

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Step(BaseModel):
    """One preprocessing step; a subclass is known by its ``name``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]

    def apply(self, image: Image, layers: LabelLayers, group: Mapping[str, str]) -> tuple[Image, LabelLayers]:
        """Do the step; ``group`` holds the image's row of the data set's table."""
        raise AssertionError(f"step {type(self).__name__} does nothing")


class FillLabelHoles(Step):
    """Give holes in an object to the object; other objects inside a hole stay."""

    name = "fill_label_holes"

    def apply(self, image: Image, layers: LabelLayers, group: Mapping[str, str]) -> tuple[Image, LabelLayers]:
        filled = np.stack([fill_holes(layer) for layer in layers.layers]) if len(layers.layers) else layers.layers
        return image, replace(layers, layers=filled)


class RemoveSmallObjects(Step):
    """Make objects with fewer pixels background."""

    name = "remove_small_objects"

    min_area: int = Field(ge=1, description="pixels an object must have to stay")

    def apply(self, image: Image, layers: LabelLayers, group: Mapping[str, str]) -> tuple[Image, LabelLayers]:
        # Ids are unique over all layers, so one count serves them all.
        ids, places, areas = np.unique(layers.layers, return_inverse=True, return_counts=True)
        small = (areas < self.min_area) & (ids != 0)
        kept = np.where(small, 0, ids).astype(layers.layers.dtype)[places.reshape(layers.layers.shape)]
        gone = {int(i) for i in ids[small]}
        classes = {i: c for i, c in layers.classes.items() if i not in gone}
        return image, replace(layers, layers=kept, classes=classes, crowd=layers.crowd - gone)


class Rescale(Step):
    """Change the pixel grid: images are interpolated (and smoothed when they shrink), labels take the nearest pixel."""

    name = "rescale"

    factor: _Positive | tuple[_Positive, _Positive] | None = Field(None, description="new pixels per old one (y, x)")
    pixel_size: _Positive | None = Field(None, description="µm per pixel afterwards")
    magnification: str | float | None = Field(None, description="magnification afterwards, such as 20x")
    column: str = Field("magnification", description="column of the table with the images' magnifications")

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if sum(v is not None for v in (self.factor, self.pixel_size, self.magnification)) != 1:
            raise ValueError("give one of factor, pixel_size and magnification")
        if self.magnification is not None:
            _magnification(self.magnification)
        return self

    def apply(self, image: Image, layers: LabelLayers, group: Mapping[str, str]) -> tuple[Image, LabelLayers]:
        scale = self._scale(image, group)
        if scale == (1.0, 1.0):
            return image, layers
        size = image.pixel_size
        rescaled = replace(
            image,
            pixels=_resampled(image, scale),
            pixel_size=None if size is None else (size[0] / scale[0], size[1] / scale[1]),
        )
        rows, columns = (_nearest(n, m, s) for n, m, s in zip(rescaled.shape, image.shape, scale))
        moved = layers.layers[:, rows[:, None], columns]
        here = {int(i) for i in np.unique(moved)} - {0}
        classes = {i: c for i, c in layers.classes.items() if i in here}
        return rescaled, replace(layers, layers=moved, classes=classes, crowd=layers.crowd & here)

    def _scale(self, image: Image, group: Mapping[str, str]) -> tuple[float, float]:
        if self.factor is not None:
            return self.factor if isinstance(self.factor, tuple) else (self.factor, self.factor)
        if self.pixel_size is not None:
            if image.pixel_size is None:
                raise DataError(
                    "the image does not tell its pixel size, so it cannot be rescaled to one",
                    where=image.source,
                    fix="give pixel_size in the data set's file, or rescale by a factor",
                )
            return image.pixel_size[0] / self.pixel_size, image.pixel_size[1] / self.pixel_size
        near = {key.casefold(): value for key, value in group.items()}
        text = near.get(self.column.casefold(), "")
        try:
            factor = _magnification(self.magnification or "") / _magnification(text)
        except ValueError as error:
            raise DataError(
                "the image's magnification is not known, so it cannot be rescaled",
                where=image.source,
                found=f"{self.column}: {text!r}" if text else f"no column {self.column!r}",
                expected="a number such as 20 or 20x in the data set's table",
            ) from error
        return factor, factor


class ToGray(Step):
    """Turn colour pictures into their luminance; grey images stay."""

    name = "to_gray"

    def apply(self, image: Image, layers: LabelLayers, group: Mapping[str, str]) -> tuple[Image, LabelLayers]:
        return (luminance(image) if image.rgb else image), layers


class SelectChannels(Step):
    """Keep some channels, in the order given."""

    name = "select_channels"

    channels: tuple[str | int, ...] = Field(min_length=1, description="names or numbers")

    def apply(self, image: Image, layers: LabelLayers, group: Mapping[str, str]) -> tuple[Image, LabelLayers]:
        expected = ChannelExpectation(mode="select", count=len(self.channels))
        return select_channels(image, expected, self.channels)[0], layers


#: All steps by their names.
STEPS: dict[str, type[Step]] = {
    step.name: step for step in (FillLabelHoles, RemoveSmallObjects, Rescale, SelectChannels, ToGray)
}


def parse_steps(items: Sequence[Any], where: str | Path | None = None) -> tuple[Step, ...]:
    """Read a list of steps: a name, or a name with its settings (by name, in order, or a single one).

    Raises
    ------
    ConfigError
        If a step is unknown (the known ones are listed), or a setting is wrong.

    Examples
    --------
    >>> parse_steps(["fill_label_holes", {"rescale": {"factor": 0.5}}, {"remove_small_objects": 12}])
    (FillLabelHoles(), Rescale(factor=0.5, ...), RemoveSmallObjects(min_area=12))
    """
    return tuple(item if isinstance(item, Step) else _parse_step(item, where) for item in items)


def _parse_step(item: Any, where: str | Path | None) -> Step:
    name, settings = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, None)
    if not isinstance(name, str):
        raise ConfigError(
            "a preprocessing step is not a name, nor a name with settings",
            where=where, found=repr(item), expected="such as `rescale: {factor: 0.5}`",
        )  # fmt: skip
    known = STEPS.get(name)
    if known is None:
        near = difflib.get_close_matches(name, STEPS, n=1)
        fix = f"did you mean {near[0]!r}?" if near else None
        if name.startswith("normali"):
            fix = "normalisation has its own setting, `normalisation`, in the experiment"
        raise ConfigError(
            f"there is no preprocessing step {name!r}", where=where, expected=", ".join(sorted(STEPS)), fix=fix
        )
    fields = list(known.model_fields)
    if settings is None:
        settings = {}
    elif not isinstance(settings, dict):
        # A step with one setting takes a list as that setting's value.
        values = settings if isinstance(settings, list) and len(fields) != 1 else [settings]
        if len(values) > len(fields):
            raise ConfigError(
                f"step {name!r} has too many settings", where=where, found=repr(settings),
                expected=", ".join(fields) or "none",
            )  # fmt: skip
        settings = dict(zip(fields, values))
    try:
        return known.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(
            f"step {name!r} has a wrong setting", where=where, found=first_problem(error),
            expected="settings: " + (", ".join(fields) or "none"),
        ) from error  # fmt: skip


def apply_steps(
    image: Image, layers: LabelLayers, steps: Sequence[Any], group: Mapping[str, str] | None = None
) -> tuple[Image, LabelLayers]:
    """Do the steps in order.

    Parameters
    ----------
    image, layers
        An image and its annotation, of the same height and width.
    steps
        As a YAML file lists them, or as :func:`parse_steps` gives them.
    group
        The image's row of the data set's table, for steps that need it.

    Raises
    ------
    ConfigError
        If a step is unknown or has a wrong setting.
    DataError, ChannelError
        If a step does not fit the image.
    """
    for step in parse_steps(steps):
        image, layers = step.apply(image, layers, group or {})
    return image, layers


def fill_holes(labels: np.ndarray) -> np.ndarray:
    """Give background that an object encloses to that object.

    A hole is background from which no path of pixels that share an edge leads out of the object; other objects in
    the hole stay as they are.

    Parameters
    ----------
    labels
        int ``(Y, X)``, 0 for background.

    Examples
    --------
    >>> fill_holes(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])).sum()
    np.int64(9)
    """
    filled = labels.copy()
    # Compact ids, because the search for objects takes memory for every id up to the largest.
    ids, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape) + (ids[0] != 0 if ids.size else 0)
    for index, region in enumerate(ndimage.find_objects(compact), start=1):
        own = compact[region] == index
        part = filled[region]
        part[ndimage.binary_fill_holes(own) & (part == 0)] = labels[region][own][0]
    return filled


def _resampled(image: Image, scale: tuple[float, float]) -> np.ndarray:
    """All pixels on the new grid, in the image's dtype (integers are rounded)."""
    height, width = target_shape(image.shape, scale)

    def read(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        return image.window(y0, y1, x0, x1).astype(np.float32)

    pixels = resample_window(read, image.shape, scale, (0, height, 0, width))
    dtype = np.dtype(image.dtype)
    return pixels.astype(dtype) if dtype.kind == "f" else np.rint(pixels).astype(dtype)


def _nearest(new: int, old: int, scale: float) -> np.ndarray:
    """For each new pixel, the old one in which its centre lies."""
    return np.minimum(((np.arange(new) + 0.5) / scale).astype(np.int64), old - 1)


def _magnification(text: str | float) -> float:
    found = re.fullmatch(r"\s*(\d+(?:[.,]\d+)?)\s*[xX×]?\s*", str(text))
    value = float(found[1].replace(",", ".")) if found else 0.0
    if value <= 0:
        raise ValueError(f"{text!r} is no magnification, such as 20 or 20x")
    return value
