"""Which images are for training, which for validation, which for testing.

A split comes from a column of a table, from the names of folders or files, from lists of names, or is drawn. What is
drawn depends on the seed and on each image's own name alone, so adding images never moves an old one to another split.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, field_validator, model_validator

#: What people call the three usual splits.
USUAL_NAMES = {
    "train": "train", "training": "train", "trainset": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "testset": "test",
}  # fmt: skip
#: Shares when nothing else is said.
DEFAULT_FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


class TableSplits(BaseModel):
    """A column of the data set's table (or of another CSV file) names the split of each image."""

    model_config = ConfigDict(extra="forbid")

    csv: str | None = Field(None, description="CSV file; the data set's own table if not given")
    column: str = Field("split", description="column with the names of the splits")
    name: str | None = Field(None, description="column with the images' names")
    validation: float | None = Field(
        None, gt=0, lt=1, description="share of `train` that is drawn for validation, where the table has none"
    )
    seed: int = 0


class DrawnSplits(BaseModel):
    """Each image draws its split by itself, from a hash of the seed and its name."""

    model_config = ConfigDict(extra="forbid")

    fractions: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default_factory=lambda: dict(DEFAULT_FRACTIONS), description="share of each split; they sum to 1"
    )
    seed: int = 0
    together: str | None = Field(None, description="column whose equal values (a patient, a slide) stay in one split")

    @field_validator("fractions")
    @classmethod
    def _usual(cls, value: dict[str, float]) -> dict[str, float]:
        named = {usual_name(name): share for name, share in value.items()}
        if len(named) < len(value):
            raise ValueError("two of the names mean the same split: " + ", ".join(value))
        return named

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.fractions.values()) - 1) > 1e-6:
            raise ValueError(f"the fractions must sum to 1, not to {sum(self.fractions.values()):g}")
        return self


class ListedSplits(RootModel[dict[str, list[str]]]):
    """Names of images, or patterns of names such as ``train_*``, for each split."""


class NamedSplits(RootModel[Literal["folders", "prefixes"]]):
    """The images' names tell: their first folder, or what stands before the first ``_`` or ``-`` (``train_01``)."""


def _form(value: Any) -> str:
    if isinstance(value, BaseModel):
        return {TableSplits: "table", DrawnSplits: "drawn", NamedSplits: "names"}.get(type(value), "lists")
    if isinstance(value, str):
        return "names"
    keys = set(value) if isinstance(value, dict) else set()
    if keys and all(isinstance(v, list) for v in value.values()):
        return "lists"
    # A table may carve its validation images out of training: there, `validation` is a share, not a split's list.
    if keys & {"csv", "column"} and isinstance(value.get("validation", 0.0), int | float):
        return "table"
    if any(str(key).casefold() in USUAL_NAMES for key in keys):
        return "lists"
    if keys & {"fractions", "together"} or keys == {"seed"}:
        return "drawn"
    # Misspelt keys go to the form that they resemble, whose message then names the right one.
    near = [k for k in keys if difflib.get_close_matches(str(k), ["fractions", "together"], n=1, cutoff=0.75)]
    return "drawn" if near else "table"


SplitConfig = Annotated[
    Annotated[TableSplits, Tag("table")]
    | Annotated[DrawnSplits, Tag("drawn")]
    | Annotated[ListedSplits, Tag("lists")]
    | Annotated[NamedSplits, Tag("names")],
    Discriminator(_form),
]


@dataclass
class Assignment:
    """Which split each image got.

    Attributes
    ----------
    splits
        Name of an image to its split; images that belong to no split are left out.
    names
        All splits that there are, also empty ones, in order.
    how
        How the splits came about, in words.
    drawn
        Whether chance decided; an empty split is then no fault of the data.
    problems
        What contradicts itself.
    """

    splits: dict[str, str]
    names: tuple[str, ...]
    how: str
    drawn: bool = False
    problems: list[str] = field(default_factory=list)


def usual_name(text: str) -> str:
    """Give the usual splits their usual names, and leave others alone.

    Examples
    --------
    >>> [usual_name(t) for t in (" Training", "validation", "GNB-I")]
    ['train', 'val', 'GNB-I']
    """
    text = text.strip()
    return USUAL_NAMES.get(text.casefold(), text)


def draw_split(key: str, fractions: Mapping[str, float], seed: int = 0) -> str:
    """Draw the split of one image from a hash of the seed and a key, usually its name.

    Parameters
    ----------
    key
        What alone decides, together with the seed.
    fractions
        Share of each split; the order matters, too.
    seed
        Another seed, another draw.

    Examples
    --------
    >>> drawn = [draw_split(str(i), {"train": 0.8, "val": 0.1, "test": 0.1}) for i in range(1000)]
    >>> drawn.count("train"), drawn.count("val"), drawn.count("test")
    (794, 106, 100)
    """
    digest = hashlib.sha256(f"{seed}\0{key}".encode("utf-8", "surrogateescape")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64 * sum(fractions.values())
    reached, last = 0.0, ""
    for name, share in fractions.items():
        reached += share
        if share > 0:
            last = name
            if place < reached:
                return name
    return last


def assign_splits(
    config: TableSplits | DrawnSplits | ListedSplits | NamedSplits | None,
    names: Sequence[str],
    rows: Mapping[str, Mapping[str, str]],
    table: str = "the table",
) -> Assignment:
    """Give each image its split.

    Parameters
    ----------
    config
        What the data set says; None takes the table's column ``split`` if there is one, else the usual names of
        splits as the first folder or prefix of all names, else draws.
    names
        The images.
    rows
        The table's rows by the image's name.
    table
        What to call the table in messages.
    """
    if config is None:
        config = _unsaid(names, rows)
    if isinstance(config, TableSplits):
        return _by_table(config, names, rows, table)
    if isinstance(config, ListedSplits):
        return _by_lists(config.root, names)
    if isinstance(config, NamedSplits):
        return _by_names(names, config.root)
    return _drawn(config, names, rows)


def _unsaid(names: Sequence[str], rows: Mapping[str, Mapping[str, str]]) -> TableSplits | DrawnSplits | NamedSplits:
    if any("split" in row for row in rows.values()):
        return TableSplits()
    for kind in ("folders", "prefixes"):
        found = {usual_name(_first_part(name, kind) or "") for name in names}
        # A prefix that all names share, such as test_, is hardly meant as a split.
        if found and found <= set(USUAL_NAMES.values()) and (kind == "folders" or len(found) > 1):
            return NamedSplits.model_validate(kind)
    return DrawnSplits()


def _by_table(
    config: TableSplits, names: Sequence[str], rows: Mapping[str, Mapping[str, str]], table: str
) -> Assignment:
    problems = []
    splits = {}
    for name in names:
        if name not in rows:
            problems.append(f"{name}: is not listed in {table}, so its split is unknown")
        elif rows[name].get(config.column, "").strip():
            splits[name] = usual_name(rows[name][config.column])
    how = f"column {config.column!r} of {table}"
    if config.validation is not None:
        if "val" in splits.values():
            problems.append(f"{table} has a validation split already, so none is drawn: remove `validation`")
        else:
            shares = {"val": config.validation, "train": 1 - config.validation}
            splits |= {n: draw_split(n, shares, config.seed) for n, split in splits.items() if split == "train"}
            how += f", and {config.validation:.0%} of train drawn with seed {config.seed} for validation"
    return Assignment(splits, in_order(splits.values()), how, problems=problems)


def _by_lists(lists: Mapping[str, list[str]], names: Sequence[str]) -> Assignment:
    problems: list[str] = []
    found: dict[str, list[str]] = {name: [] for name in names}
    for split, entries in lists.items():
        if not entries:
            problems.append(f"split {split!r}: its list is empty")
        for entry in entries:
            matching = [name for name in names if _is_meant(entry, name)]
            if not matching:
                problems.append(f"split {split!r}: no image is called {entry!r}")
            for name in matching:
                if usual_name(split) not in found[name]:
                    found[name].append(usual_name(split))
    problems += [f"{name}: is in several splits: {', '.join(s)}" for name, s in found.items() if len(s) > 1]
    splits = {name: s[0] for name, s in found.items() if s}
    return Assignment(splits, in_order(map(usual_name, lists)), "lists in the data set's file", problems=problems)


def _is_meant(entry: str, name: str) -> bool:
    """An entry is the name, the name with a file's suffix, or a pattern of either."""
    entry = entry.replace("\\", "/")
    if any(c in entry for c in "*?["):
        return fnmatchcase(name, entry) or fnmatchcase(name, _without_suffix(entry))
    return entry == name or _without_suffix(entry) == name


def _without_suffix(text: str) -> str:
    head, dot, suffix = text.rpartition(".")
    return head.removesuffix(".ome") if dot and "/" not in suffix and len(suffix) <= 4 else text


def _by_names(names: Sequence[str], kind: str) -> Assignment:
    firsts = {name: _first_part(name, kind) for name in names}
    without = {"folders": "lies in no split's folder", "prefixes": "does not begin with a split's name"}[kind]
    problems = [f"{name}: {without}" for name, first in firsts.items() if first is None]
    splits = {name: usual_name(first) for name, first in firsts.items() if first is not None}
    how = {"folders": "by folders", "prefixes": "by the beginning of the names"}[kind]
    return Assignment(splits, in_order(splits.values()), how, problems=problems)


def _first_part(name: str, kind: str) -> str | None:
    """The first folder of a name, or the beginning of its last part; None where there is neither."""
    if kind == "folders":
        return name.split("/")[0] if "/" in name else None
    found = re.match(r"([^_-]+)[_-].", name.rpartition("/")[2])
    return found[1] if found else None


def _drawn(config: DrawnSplits, names: Sequence[str], rows: Mapping[str, Mapping[str, str]]) -> Assignment:
    problems = []
    splits = {}
    for name in names:
        key = name
        if config.together is not None:
            key = rows.get(name, {}).get(config.together, "").strip()
            if not key:
                problems.append(f"{name}: has no value of {config.together!r}, by which images are kept together")
        splits[name] = draw_split(key, config.fractions, config.seed)
    shares = ", ".join(f"{name} {share:g}" for name, share in config.fractions.items())
    how = f"drawn with seed {config.seed}: {shares}"
    return Assignment(splits, in_order(config.fractions), how, drawn=True, problems=problems)


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names of splits, each once, the usual ones first."""
    usual = ("train", "val", "test")
    return tuple(sorted(dict.fromkeys(names), key=lambda n: (usual.index(n) if n in usual else 3, n)))
