"""Which channels of an image a model gets.

A model says what it expects; an image says what it has. What is done to make them fit is told in a sentence, and
nothing is guessed beyond the few rules that are written here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from cytomask.data.channel_codes import DEFAULT_LAYOUT, LAYOUTS
from cytomask.data.channel_mix import ChannelMix
from cytomask.data.channel_program import ChannelProgram, read_program, strategy
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


#: What only programs have.
_OF_PROGRAMS = ("program", "layout", "definitions", "channel_dropout", "merge_dropout")
_Chance = Annotated[float, Field(ge=0, le=1)]


class ChannelExpectation(BaseModel):
    """What a model expects.

    ``gray``: one channel; a colour picture is turned into its luminance. ``rgb``: three channels; a colour picture,
    or one channel shown thrice. ``select``: ``count`` channels, by name where ``names`` are given. ``program``: for
    each network channel an expression, see :mod:`cytomask.data.channel_program`.

    Examples
    --------
    >>> ChannelExpectation(mode="rgb").count
    3
    >>> ChannelExpectation(mode="select", names=("nucleus", "membrane")).count
    2
    >>> ChannelExpectation(mode="program", program=["DAPI", {"random": ["CD4", "CD8"]}, "black"]).count
    3
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["gray", "rgb", "select", "program"] = Field("gray", description="gray, rgb, select, or program")
    count: int = Field(1, ge=1, description="number of channels, needed for `select` without names")
    names: tuple[str, ...] | None = Field(
        None,
        description="names of the channels; for `program` those of the stack, for `gray` and `rgb` those to take of "
        "images that have more",
    )
    program: tuple[Any, ...] | None = Field(
        None, description="an expression for each channel of the network, or the name of a ready program"
    )
    layout: dict[str, tuple[int | str, ...]] | None = Field(
        None, description="groups of channels, by number or name, or the name of a known layout; for `program`"
    )
    definitions: dict[str, Any] | None = Field(
        None, description="expressions by name or number, to be used in others; for `program`"
    )
    channel_dropout: _Chance = Field(0.0, description="chance of zeros, for the numbers from 200 on of a `program`")
    merge_dropout: _Chance = Field(
        0.0, description="chance of a channel to be left out of a merge, for the numbers 111 and 121 of a `program`"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        fields = dict(fields)
        if fields.get("mode") == "grey":
            fields["mode"] = "gray"
        if fields.get("program") is not None:
            _fill_in_program(fields)
        if fields.get("count") is None:
            fields.pop("count", None)
            names = fields.get("names")
            known = {"gray": 1, "rgb": 3, "select": _length(names), "program": _length(fields.get("program"))}
            mode = fields.get("mode", "gray")
            count = known.get(mode, 1)
            if count is None:
                raise ValueError(
                    "mode select needs count or names" if mode == "select" else "mode program needs program, a list"
                )
            fields["count"] = count
        return fields

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "program":
            if self.program is None or self.count != len(self.program):
                raise ValueError(f"count is {self.count}, but the program has {len(self.program or ())} channels")
            _ = self.channel_program
            return self
        for name in _OF_PROGRAMS:
            if getattr(self, name):
                raise ValueError(f"{name} is given, but mode is {self.mode}, not program")
        needed = {"gray": 1, "rgb": 3}.get(self.mode, self.count)
        if self.count != needed:
            raise ValueError(f"mode {self.mode} means {needed} channels, not {self.count}")
        if self.names is not None and len(self.names) != self.count:
            raise ValueError(f"{len(self.names)} names are given for {self.count} channels")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_empty(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = write(self)
        return fields if self.mode == "program" else {k: v for k, v in fields.items() if k not in _OF_PROGRAMS}

    @cached_property
    def channel_program(self) -> ChannelProgram:
        """The program, understood; only in the mode ``program``."""
        assert self.program is not None
        return read_program(
            self.program,
            self.layout,
            self.definitions,
            channel_dropout=self.channel_dropout,
            merge_dropout=self.merge_dropout,
        )


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, (list, tuple)) and value else None


def _fill_in_program(fields: dict[str, Any]) -> None:
    """Write out what is given by name, so that a saved model says all of it."""
    fields.setdefault("mode", "program")
    if isinstance(fields["program"], str):
        fields["program"] = strategy(fields["program"])
    layout = fields.get("layout")
    if layout is None or isinstance(layout, str):
        name = DEFAULT_LAYOUT if layout is None else layout
        if name not in LAYOUTS:
            raise ValueError(f"there is no layout {name!r}; known are {', '.join(LAYOUTS)}, or say the groups")
        fields["layout"] = LAYOUTS[name]
    elif isinstance(layout, dict):
        # A group may be a single channel.
        fields["layout"] = {k: v if isinstance(v, (list, tuple)) else [v] for k, v in layout.items()}
    if isinstance(fields.get("definitions"), dict):
        fields["definitions"] = {str(name): item for name, item in fields["definitions"].items()}


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
    if expected.mode == "program":
        image, _, sentence = program_channels(image, expected, chosen)
        return image, sentence
    told: list[str] = []
    image = _chosen(image, chosen, told)
    if not told and expected.names is not None and expected.mode != "select" and image.n_channels > 1:
        image = _named(image, tuple(dict.fromkeys(expected.names)), told)
    fit = {"gray": _as_gray, "rgb": _as_rgb, "select": _as_selection}[expected.mode]
    image = fit(image, expected, bool(told), told)
    return image, "; ".join(told) or None


def program_channels(
    image: Image, expected: ChannelExpectation, chosen: Sequence[str | int] | None = None
) -> tuple[Image, ChannelMix, str]:
    """Find the channels of a program in an image.

    Parameters
    ----------
    image, expected, chosen
        As for :func:`select_channels`; what is chosen are the channels that the program's numbers count.

    Returns
    -------
    tuple
        The image with the channels that the program may use; the program for these; and a sentence about it.

    Raises
    ------
    ChannelError
        If the image has not what the program names.
    """
    told: list[str] = []
    image = _chosen(image, chosen, told)
    if not told and expected.names is not None:
        image = _as_selection(image, expected.model_copy(update={"count": len(expected.names)}), False, told)
    image, mix = expected.channel_program.settle(image)
    told.append(f"the network's channels: {mix.words()}")
    return image, mix, "; ".join(told)


def _chosen(image: Image, chosen: Sequence[str | int] | None, told: list[str]) -> Image:
    if chosen is None or not len(chosen):
        return image
    image = _take(image, [image.channel_index(name) for name in chosen])
    told.append(f"channels chosen: {', '.join(image.channels)}")
    return image


def _named(image: Image, names: tuple[str, ...], told: list[str]) -> Image:
    """The channels of these names, where the image has each of them once; otherwise the image as it is."""
    have = [name.casefold() for name in image.channels]
    wanted = [name.casefold() for name in names]
    if have == wanted or any(have.count(name) != 1 for name in wanted):
        return image
    told.append(f"channels chosen by the model's names: {', '.join(names)}")
    return _take(image, [have.index(name) for name in wanted])


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
        if [name.casefold() for name in image.channels] == [name.casefold() for name in expected.names]:
            return image
        named = _named(image, expected.names, told)
        if told:
            return named
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
    }.get(expected.mode, f"{expected.count} channels" + (f" ({', '.join(expected.names)})" if expected.names else ""))
    how_many = {"gray": "one", "rgb": "one (or three, as red, green and blue)"}
    plural = "" if image.n_channels == 1 else "s"
    return ChannelError(
        "the chosen channels do not fit the model" if chosen else "the image's channels do not fit the model",
        where=image.source,
        found=f"{image.n_channels} channel{plural} ({_listed(image)})",
        expected=wanted,
        fix=f"choose {how_many.get(expected.mode, expected.count)} with --channels NAME|NUMBER, separated by commas",
    )
