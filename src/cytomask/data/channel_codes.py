"""The numbers, layouts and ready programs of channel programs.

The numbers are the loading codes of Cameron et al. (APL Bioengineering, 2021), who trained networks on stacks of
fluorescence and brightfield planes; each stands for an expression that can also be written out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

#: An expression as YAML has it: a name, a number, or a table such as ``{random: below}``.
Item: TypeAlias = str | int | dict[str, Any]
#: Names of groups, and their channels by number or name.
Layout: TypeAlias = Mapping[str, tuple[str | int, ...]]

#: Known layouts of a stack. ``polarisation``: three fluorophores, each followed by its two polarised partners, then
#: brightfield at -10, -5, -3, 0, 3, 5 and 10 µm. ``external``: the macrophages of Selinummi et al. (PLoS ONE, 2009).
LAYOUTS: dict[str, dict[str, tuple[str | int, ...]]] = {
    "polarisation": {
        "fluorescence": (0, 3, 6),
        "below": (9, 10, 11),
        "focus": (12,),
        "above": (13, 14, 15),
    },
    "external": {"fluorescence": (0, 1), "below": (2,), "focus": (3,), "above": (4, 5, 6)},
}
DEFAULT_LAYOUT = "polarisation"

#: Numbers up to here are channels.
LAST_CHANNEL = 50
#: Numbers from here on are those of 200 less, lost with the chance ``channel_dropout``.
DROPPED = 200

#: What a number between stands for. In place of a chance, the name of the rate.
CODES: dict[int, Item] = {
    100: {"merge": "fluorescence"},
    101: {"random": "below"},
    102: {"random": "above"},
    103: {"random": "brightfield"},
    104: {"merge": "brightfield"},
    107: {"random": "all"},
    108: {"random": "fluorescence"},
    110: "black",
    111: {"merge": "fluorescence", "dropout": "merge_dropout"},
    # These three are of the layout ``external``, whatever the program's own.
    121: {"merge": [0, 1], "dropout": "merge_dropout"},
    122: {"channel": 2},
    123: {"random": [4, 5, 6]},
}

_FOCUS: Item = {"merge": "focus"}
#: Ready programs, by name. Those that name groups follow the layout; the others are of the layout ``polarisation``.
STRATEGIES: dict[str, list[Item]] = {
    "fluorescence": [0, 3, 6],
    "first_fluorophore": [0, 0, 0],
    "second_fluorophore": [3, 3, 3],
    "third_fluorophore": [6, 6, 6],
    "low_brightfield": [11, 12, 13],
    "medium_brightfield": [10, 12, 14],
    "high_brightfield": [9, 12, 15],
    "in_focus": [_FOCUS, _FOCUS, _FOCUS],
    "above_and_below": [101, _FOCUS, 102],
    "merge_and_brightfield": [111, _FOCUS, 102],
    "random_fluorescence_and_brightfield": [108, _FOCUS, 102],
    "random_brightfield": [103, 103, 103],
    "all_random": [107, 107, 107],
    "all_black": [110, 110, 110],
}


def may_be_defined(number: int) -> bool:
    """Whether users may give a number a meaning of their own.

    Examples
    --------
    >>> [may_be_defined(number) for number in (50, 51, 99, 100, 105, 199, 200)]
    [False, True, True, False, True, True, False]
    """
    return LAST_CHANNEL < number < DROPPED and number not in CODES


def code_words() -> str:
    """All numbers that mean something by themselves, for error messages."""
    return (
        f"0-{LAST_CHANNEL}, {', '.join(str(code) for code in CODES)}, {DROPPED} + one of these, or one of definitions"
    )
