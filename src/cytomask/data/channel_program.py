"""Channel programs: for each network channel an expression, random in training and fixed in prediction.

==================================  ==================================================================================
expression                          what the network channel holds
==================================  ==================================================================================
``DAPI``                            the channel of this name (or a definition of this name)
``12``                              0 to 50: the channel of this number; above, see :mod:`cytomask.data.channel_codes`
``{channel: 60}``                   a channel by number or name, whatever the number
``{random: below}``                 one channel of a group, or of a list such as ``[2, 3, DAPI]``
``{merge: fluorescence}``           the mean of a group or a list
``black``                           zeros
==================================  ==================================================================================

``dropout`` beside ``channel`` and ``random`` is the chance of zeros instead; beside ``merge`` the chance of each member
to be left out, which dims the mean. In validation and prediction nothing is drawn: a random choice takes the middle
one of its list (of two middle ones the first), nothing is dropped, and merges are whole.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cytomask.data.channel_codes import (
    CODES,
    DEFAULT_LAYOUT,
    DROPPED,
    LAST_CHANNEL,
    LAYOUTS,
    STRATEGIES,
    Layout,
    code_words,
    may_be_defined,
)
from cytomask.data.channel_mix import (
    Black,
    Channel,
    ChannelMix,
    Dropped,
    Every,
    MergeOf,
    Node,
    RandomOf,
    channels_of,
    replaced,
)
from cytomask.errors import ChannelError
from cytomask.image import Image

_BLACK, _ALL, _BRIGHTFIELD = "black", "all", ("below", "focus", "above")
_KINDS = ("channel", "random", "merge")
#: A program is no deeper, and with its definitions written out no longer, than anybody would want.
_DEEPEST, _LONGEST, _LARGEST_NUMBER = 20, 10_000, 10_000


@dataclass(frozen=True)
class ChannelProgram:
    """What each network channel is made of.

    Attributes
    ----------
    nodes
        One for each network channel.
    groups, definitions
        The names that there are besides those of channels, for error messages.

    Examples
    --------
    >>> import numpy as np
    >>> program = read_program(["DAPI", {"random": ["actin", "tubulin"]}, "black"])
    >>> image = Image.from_array(np.zeros((3, 4, 4)), axes="CYX", channels=["tubulin", "actin", "DAPI"])
    >>> stack, mix = program.settle(image)
    >>> mix.words()
    '1 DAPI, 2 actin (the middle one of 2), 3 black'
    >>> mix.draw(np.random.default_rng(0)).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    nodes: tuple[Node, ...]
    groups: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()

    def settle(self, image: Image) -> tuple[Image, ChannelMix]:
        """Find the program's channels in an image.

        Returns
        -------
        tuple
            The image with the channels that the program may use, in the image's order, and not as a colour picture;
            and the program for these.

        Raises
        ------
        ChannelError
            If the image has not a channel that the program names, or two names mean the same one where each counts.
        """
        nodes = tuple(self._found(node, image) for node in self.nodes)
        used = sorted({int(channel) for node in nodes for channel in channels_of(node)}) or [0]
        places = {channel: place for place, channel in enumerate(used)}
        mix = ChannelMix(
            tuple(replaced(node, lambda channel: places[int(channel)]) for node in nodes),
            tuple(image.channels[channel] for channel in used),
        )
        selected = image.select(used)
        return (replace(selected, rgb=False) if selected.rgb else selected), mix

    def _found(self, node: Node, image: Image) -> Node:
        """The node with numbers of the image's channels."""
        if isinstance(node, Channel):
            return Channel(self._index(node.which, image))
        if isinstance(node, Dropped):
            return Dropped(self._found(node.of, image), node.dropout)
        if isinstance(node, RandomOf | MergeOf):
            members = node.options if isinstance(node, RandomOf) else node.members
            found: list[Node] = []
            for member in members:
                if isinstance(member, Every):
                    found += [Channel(i) for i in range(image.n_channels)]
                else:
                    found.append(self._found(member, image))
            twice = {n.which for n in found if isinstance(n, Channel) and found.count(n) > 1}
            if twice:
                raise ChannelError(
                    "the channel program names a channel twice in one list",
                    where=image.source,
                    found=", ".join(f"{i}: {image.channels[int(i)]}" for i in sorted(twice, key=int)),
                    expected="each channel once",
                    fix="take one of the two out of data.channels (the list, or the layout's group)",
                )
            return RandomOf(tuple(found)) if isinstance(node, RandomOf) else MergeOf(tuple(found), node.dropout)
        return node

    def _index(self, which: int | str, image: Image) -> int:
        try:
            return image.channel_index(which)
        except ChannelError as error:
            others = [*self.groups, *self.definitions, _BLACK]
            listed = ", ".join(f"{i}: {name}" for i, name in enumerate(image.channels))
            near = difflib.get_close_matches(str(which), [*image.channels, *others], n=1)
            raise ChannelError(
                f"the channel program names {which!r}: {error.what}",
                where=image.source,
                found=listed,
                expected=f"one of these channels, or of the names {', '.join(others)}",
                fix=(f"did you mean {near[0]!r}? " if near and near[0] != which else "")
                + "change data.channels.program or its layout, or choose the stack with --channels",
            ) from error


def read_program(
    items: Sequence[Any],
    layout: Layout | None = None,
    definitions: Mapping[str, Any] | None = None,
    *,
    channel_dropout: float = 0.0,
    merge_dropout: float = 0.0,
) -> ChannelProgram:
    """Understand a program as YAML has it.

    Parameters
    ----------
    items
        One expression for each network channel.
    layout
        Groups of channels; the layout ``polarisation`` if None.
    definitions
        Expressions by name or number, to be used in others.
    channel_dropout
        Chance of zeros in place of what the numbers from 200 on load.
    merge_dropout
        Chance of each channel to be left out of the merges of the numbers 111 and 121.

    Raises
    ------
    ValueError
        If an expression means nothing; the message lists what there is.
    """
    groups = dict(LAYOUTS[DEFAULT_LAYOUT] if layout is None else layout)
    defined = {str(name): item for name, item in (definitions or {}).items()}
    reader = _Reader(groups, defined, {"channel_dropout": channel_dropout, "merge_dropout": merge_dropout})
    reader.check_names()
    if not items:
        raise ValueError("the program is empty; it needs an expression for each channel of the network")
    nodes = tuple(reader.read(item, f"program, channel {i}") for i, item in enumerate(items, start=1))
    # A definition that nothing uses must make sense all the same.
    for name in defined:
        reader.read(name, f"definition {name}")
    return ChannelProgram(nodes, tuple(groups), tuple(defined))


def strategy(name: str) -> list[Any]:
    """A ready program by name.

    Raises
    ------
    ValueError
        If there is none of this name; the message lists them.

    Examples
    --------
    >>> strategy("all_black")
    [110, 110, 110]
    """
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"there is no ready program {name!r}{hint} There are: {', '.join(STRATEGIES)}")
    return list(STRATEGIES[name])


@dataclass
class _Reader:
    """Reads expressions; ``open_`` are the definitions that are being read, so that none leads back to itself."""

    groups: dict[str, tuple[str | int, ...]]
    definitions: dict[str, Any]
    rates: dict[str, float]
    open_: list[str] = field(default_factory=list)
    depth: int = 0
    length: int = 0

    def check_names(self) -> None:
        for name, members in self.groups.items():
            if name == _BLACK:
                raise ValueError("a group cannot be called black, which means zeros")
            if not members:
                raise ValueError(f"the group {name} of the layout is empty")
            if len(set(members)) < len(members):
                raise ValueError(f"the group {name} of the layout names a channel twice: {_list(members)}")
        for name in self.definitions:
            if name in self.groups or name in (_BLACK, _ALL, "brightfield"):
                raise ValueError(f"{name!r} is a definition and also a group or a word of its own; rename one")
            if name.lstrip("-").isdecimal() and not may_be_defined(int(name)):
                raise ValueError(
                    f"the number {name} cannot be defined: it has a meaning; free are 51 to 99, and those of "
                    f"100 to 199 that are not {_list(CODES)}"
                )

    def read(self, item: Any, place: str) -> Node:
        """Understand an expression; ``place`` is where it stands, for error messages."""
        self.depth, self.length = self.depth + 1, self.length + 1
        if self.depth > _DEEPEST or self.length > _LONGEST:
            raise ValueError(f"{place}: expressions lie deeper than {_DEEPEST}, or are more than {_LONGEST}")
        node = self._read(item, place)
        self.depth -= 1
        return node

    def _read(self, item: Any, place: str) -> Node:
        if isinstance(item, str):
            return self._name(item, place)
        if isinstance(item, int) and not isinstance(item, bool):
            return self._number(item, place)
        if isinstance(item, dict):
            return self._table(item, place)
        if isinstance(item, list | tuple):
            raise ValueError(f"{place}: a list alone says nothing; say {{random: {_list(item)}}} or {{merge: …}}")
        raise ValueError(f"{place}: {item!r} is no expression; there are names, numbers, {_list(_KINDS)} and black")

    def _name(self, name: str, place: str) -> Node:
        if name == _BLACK:
            return Black()
        if name in self.definitions:
            if name in self.open_:
                raise ValueError(f"the definition {name} leads back to itself: {' → '.join([*self.open_, name])}")
            self.open_.append(name)
            node = self.read(self.definitions[name], f"definition {name}")
            self.open_.pop()
            return node
        members = self._group(name)
        if members is None:
            return Channel(name)
        if len(members) == 1 and isinstance(members[0], Channel):
            return members[0]
        raise ValueError(
            f"{place}: {name} is a group of channels; say {{random: {name}}} or {{merge: {name}}}, "
            f"or {{channel: {name}}} for the image's channel of this name"
        )

    def _group(self, name: str) -> list[Node] | None:
        if name in self.groups:
            return [Channel(which) for which in self.groups[name]]
        if name == _ALL:
            return [Every()]
        if name == "brightfield":
            parts = [which for part in _BRIGHTFIELD for which in self.groups.get(part, ())]
            return [Channel(which) for which in parts] or None
        return None

    def _number(self, number: int, place: str) -> Node:
        times, code = (0, number) if number < DROPPED else divmod(number, DROPPED)
        node = self._code(code, number, place)
        # Each further 200 is a further chance to be lost.
        chance = 1 - (1 - self.rates["channel_dropout"]) ** times
        return Dropped(node, chance) if times else node

    def _code(self, code: int, number: int, place: str) -> Node:
        if 0 <= code <= LAST_CHANNEL and number <= _LARGEST_NUMBER:
            return Channel(code)
        if str(code) in self.definitions:
            return self._name(str(code), place)
        if code not in CODES or number > _LARGEST_NUMBER:
            of = "" if code == number else f" (that is {code} with dropout)"
            raise ValueError(
                f"{place}: the number {number}{of} means nothing; known are {code_words()} "
                f"({_list(self.definitions) or 'none'}); a channel above {LAST_CHANNEL} is {{channel: {number}}}"
            )
        item = CODES[code]
        named = isinstance(item, dict) and next((v for v in item.values() if isinstance(v, str) and v in _GROUPS), None)
        if named and self._group(named) is None:
            raise ValueError(
                f"{place}: the number {number} needs the group {named}, which the layout has not; "
                f"it has {_list(self.groups) or 'none'}"
            )
        return self.read(item, place)

    def _table(self, item: Mapping[Any, Any], place: str) -> Node:
        kinds = [kind for kind in _KINDS if kind in item]
        unknown = [str(key) for key in item if key not in (*_KINDS, "dropout")]
        if len(kinds) != 1 or unknown:
            wrong = f"{_list(unknown)} is unknown" if unknown else f"{len(kinds)} of {_list(_KINDS)} are given"
            raise ValueError(f"{place}: a table says one of {_list(_KINDS)}, and dropout if wanted; here {wrong}")
        kind, dropout = kinds[0], self._chance(item.get("dropout", 0.0), place)
        if kind == "channel":
            which = item["channel"]
            if isinstance(which, bool) or not isinstance(which, str | int) or (isinstance(which, int) and which < 0):
                raise ValueError(f"{place}: channel is one name or number from 0 on, not {which!r}")
            return Dropped(Channel(which), dropout) if dropout else Channel(which)
        members = self._members(item[kind], f"{place}, {kind}")
        if kind == "merge":
            return MergeOf(members, dropout)
        return Dropped(RandomOf(members), dropout) if dropout else RandomOf(members)

    def _members(self, items: Any, place: str) -> tuple[Node, ...]:
        members: list[Node] = []
        for item in items if isinstance(items, list | tuple) else [items]:
            group = self._group(item) if isinstance(item, str) else None
            members += [self.read(item, place)] if group is None else group
        if not members:
            raise ValueError(f"{place}: the list is empty")
        twice = {node for node in members if isinstance(node, Channel | Every) and members.count(node) > 1}
        if twice:
            names = [str(node.which) if isinstance(node, Channel) else _ALL for node in twice]
            raise ValueError(f"{place}: {_list(sorted(names))} is named twice")
        return tuple(members)

    def _chance(self, value: Any, place: str) -> float:
        if isinstance(value, str) and value in self.rates:
            return self.rates[value]
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"{place}: dropout is a chance from 0 to 1, not {value!r}")
        return float(value)


_GROUPS = ("fluorescence", "brightfield", *_BRIGHTFIELD)


def _list(items: Any) -> str:
    return ", ".join(str(item) for item in items)
