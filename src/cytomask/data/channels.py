"""Which channels of an image a model gets.

A model says what it expects; an image says what it has. What is done to make them fit is told in a sentence, and
nothing is guessed beyond the few rules that are written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cytomask.data.luminance import luminance
from cytomask.errors import ChannelError
from cytomask.image import Image

#: What a channel of stained nuclei is commonly called.
NUCLEAR = re.compile(
    r"dapi|hoechst|(?<![a-z0-9])h33(?:342|258)(?![0-9])|draq\s*-?\s*[57]|nucle(?:us|i|ar)|"
    r"(?<![a-z0-9])(?:dna|nuc|h2a|h2b|sytox|sytogreen|to-?pro-?3|propidium)(?![a-z])",
    re.IGNORECASE,
)
#: "cytoplasm without nuclei" and the like: a name that holds one of these does not say nucleus.
_NOT_NUCLEAR = re.compile(r"\b(?:non|anti|without|no)[\s_-]*nucle", re.IGNORECASE)


class ChannelExpectation(BaseModel):
    """What a model expects.

    ``gray``: one channel; a colour picture is turned into its luminance. ``rgb``: three channels; a colour picture,
    or one channel shown thrice. ``select``: ``count`` channels, by name where ``names`` are given.

    Examples
    --------
    >>> ChannelExpectation(mode="rgb").count
    3
    >>> ChannelExpectation(mode="select", names=("nucleus", "membrane")).count
    2
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["gray", "rgb", "select"] = Field("gray", description="gray, rgb, or select")
    count: int = Field(1, ge=1, description="number of channels, needed for `select` without names")
    names: tuple[str, ...] | None = Field(None, description="names of the channels, for `select`")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        if fields.get("mode") == "grey":
            fields["mode"] = "gray"
        if fields.get("count") is None:
            fields.pop("count", None)
            names = fields.get("names")
            known = {"gray": 1, "rgb": 3, "select": len(names) if isinstance(names, (list, tuple)) else None}
            count = known.get(fields.get("mode", "gray"), 1)
            if count is None:
                raise ValueError("mode select needs count or names")
            fields["count"] = count
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        needed = {"gray": 1, "rgb": 3}.get(self.mode, self.count)
        if self.count != needed:
            raise ValueError(f"mode {self.mode} means {needed} channels, not {self.count}")
        if self.names is not None and len(self.names) != self.count:
            raise ValueError(f"{len(self.names)} names are given for {self.count} channels")
        return self


def select_channels(
    image: Image, expected: ChannelExpectation, chosen: Sequence[str | int] | None = None
) -> tuple[Image, str | None]:
    """Make an image fit what a model expects.

    Parameters
    ----------
    image
        The image as read.
    expected
        What the model expects.
    chosen
        The user's choice of channels, by name or number; None leaves it to the rules.

    Returns
    -------
    tuple
        The image with the model's channels (a view where possible), and a sentence about what was done, or None when
        the image fits as it is.

    Raises
    ------
    ChannelError
        If the image does not fit; the message lists its channels.

    Examples
    --------
    >>> image = Image.from_array(np.zeros((2, 4, 4)), axes="CYX", channels=["membrane", "DAPI"])
    >>> selected, sentence = select_channels(image, ChannelExpectation(mode="gray"))
    >>> selected.channels, sentence
    (('DAPI',), "channel 'DAPI' was taken, because its name says nucleus; choose others with --channels")
    """
    told: list[str] = []
    if chosen is not None and len(chosen):
        indices = [image.channel_index(name) for name in chosen]
        image = _take(image, indices)
        told.append(f"channels chosen: {', '.join(image.channels)}")
    fit = {"gray": _as_gray, "rgb": _as_rgb, "select": _as_selection}[expected.mode]
    image = fit(image, expected, bool(told), told)
    return image, "; ".join(told) or None


def _as_gray(image: Image, expected: ChannelExpectation, chosen: bool, told: list[str]) -> Image:
    if image.n_channels == 1:
        return image
    if image.rgb and image.n_channels == 3 and not chosen:
        told.append("the colour picture was turned into its luminance")
        return luminance(image)
    return _nuclear_channel(image, expected, chosen, told)


def _as_rgb(image: Image, expected: ChannelExpectation, chosen: bool, told: list[str]) -> Image:
    if image.n_channels == 3 and (image.rgb or chosen):
        return image if image.rgb else replace(image, rgb=True)
    if image.n_channels != 1:
        image = _nuclear_channel(image, expected, chosen, told)
    name = image.channels[0]
    return replace(_repeated(image), channels=(name, name, name), rgb=True)


def _as_selection(image: Image, expected: ChannelExpectation, chosen: bool, told: list[str]) -> Image:
    if chosen and image.n_channels == expected.count:
        return image
    if not chosen and expected.names is not None:
        have = [name.casefold() for name in image.channels]
        wanted = [name.casefold() for name in expected.names]
        if have == wanted:
            return image
        if all(have.count(name) == 1 for name in wanted):
            told.append(f"channels chosen by the model's names: {', '.join(expected.names)}")
            return _take(image, [have.index(name) for name in wanted])
    if not chosen and image.n_channels == expected.count:
        if expected.names is not None:
            told.append(f"the channels {_listed(image)} were taken, in this order, as {', '.join(expected.names)}")
        return image
    raise _misfit(image, expected, chosen)


def _nuclear_channel(image: Image, expected: ChannelExpectation, chosen: bool, told: list[str]) -> Image:
    """The one channel whose name says nucleus, unless the user has chosen."""
    if not chosen:
        nuclear = [i for i, name in enumerate(image.channels) if says_nucleus(name)]
        if len(nuclear) == 1:
            name = image.channels[nuclear[0]]
            told.append(f"channel {name!r} was taken, because its name says nucleus; choose others with --channels")
            return _take(image, nuclear)
    raise _misfit(image, expected, chosen)


def says_nucleus(name: str) -> bool:
    """Whether a channel's name is one of a nuclear stain.

    Examples
    --------
    >>> [says_nucleus(name) for name in ("DAPI", "Hoechst 33342", "membrane", "Ch1")]
    [True, True, False, False]
    """
    return bool(NUCLEAR.search(name)) and not _NOT_NUCLEAR.search(name)


def _take(image: Image, indices: list[int]) -> Image:
    if indices == list(range(image.n_channels)):
        return image
    return image.select(indices)


def _repeated(image: Image) -> Image:
    """Show one channel thrice, without copying pixels where they are an array."""
    if isinstance(image.pixels, np.ndarray):
        return replace(image, pixels=np.broadcast_to(image.pixels, (3, *image.shape)), channels=image.channels * 3)
    return image.select([0, 0, 0])


def _listed(image: Image) -> str:
    return ", ".join(f"{i}: {name}" for i, name in enumerate(image.channels))


def _misfit(image: Image, expected: ChannelExpectation, chosen: bool) -> ChannelError:
    wanted = {
        "gray": "one grey channel, or a colour picture",
        "rgb": "a colour picture, or one grey channel",
        "select": f"{expected.count} channels" + (f" ({', '.join(expected.names)})" if expected.names else ""),
    }[expected.mode]
    how_many = {"gray": "one", "rgb": "one (or three, as red, green and blue)", "select": str(expected.count)}
    plural = "" if image.n_channels == 1 else "s"
    return ChannelError(
        "the chosen channels do not fit the model" if chosen else "the image's channels do not fit the model",
        where=image.source,
        found=f"{image.n_channels} channel{plural} ({_listed(image)})",
        expected=wanted,
        fix=f"choose {how_many[expected.mode]} with --channels NAME|NUMBER, separated by commas",
    )
