"""What is wrong between splits: copies of an image, groups spread unevenly, one source in several splits."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from cytomask.data.check.examine import Examined
from cytomask.data.check.finding import Finding
from cytomask.data.check.kinds import finding, many
from cytomask.data.check.likeness import alike

#: Columns that tell where an image comes from.
SOURCES = re.compile(
    r"(^|_| )(patient|subject|donor|slide|well|plate|case|animal|mouse|embryo|movie|video|sequence|specimen|biopsy)"
    r"(_?(id|name|no|number))?$",
    re.IGNORECASE,
)
#: A column with at most so many values divides the images into groups.
MOST_GROUPS = 12
#: Images of fewer objects have so little of a pattern that any two may be alike; they must correlate so much.
PATTERN_OBJECTS, ALIKE_WITHOUT = 3, 0.995
#: Groups are unevenly spread if a split's share is so far off, and chance does so less often than this.
SHARE_OFF, CHANCE = 0.15, 1e-3


def split_faults(examined: Sequence[Examined], split_names: Sequence[str], drawn: bool) -> list[Finding]:
    """Find what is wrong between splits, and copies of images within them.

    Parameters
    ----------
    examined
        All images.
    split_names
        The splits that there are.
    drawn
        Whether chance made them.
    """
    found = list(duplicates(examined))
    if split_names and not drawn:
        found += _unassigned(examined)
    for column in _columns(examined):
        found += _leak(examined, column) if SOURCES.search(column) else _uneven(examined, column)
    return found


def duplicate_groups(examined: Sequence[Examined]) -> list[list[Examined]]:
    """Images of the same pixels, two or more in each group."""
    groups = defaultdict(list)
    for one in examined:
        if one.pixels is not None and one.pixels.low < one.pixels.high:
            groups[one.pixels.digest].append(one)
    return [group for group in groups.values() if len(group) > 1]


def duplicates(examined: Sequence[Examined]) -> Iterator[Finding]:
    """Find copies of images, exact and near."""
    copies: set[tuple[int, int]] = set()
    for group in duplicate_groups(examined):
        copies.update((id(a), id(b)) for a in group for b in group)
        splits = {one.sample.split for one in group}
        names = ", ".join(_name(one) for one in group[:5])
        last = _outside_training(group)
        yield finding(
            "exact-duplicate", f"{many(len(group), 'image')} of the same pixels: {names}",
            severity="error" if len(splits) > 1 else "warning", image=last.sample.name, file=last.sample.image_path,
            split=last.sample.split, value=len(group) + 100 * (len(splits) > 1),
        )  # fmt: skip
        annotations = {one.annotation_digest for one in group if one.anatomy is not None}
        if len(annotations) > 1:
            counts = " and ".join(str(one.n_objects) for one in group[:5])
            yield finding(
                "conflicting-labels", f"{names}: the same image, annotated with {counts} objects in different places",
                image=last.sample.name, file=last.sample.label_path, split=last.sample.split, value=len(annotations),
            )  # fmt: skip
    images = [(one, one.pixels) for one in examined if one.pixels is not None]
    pairs = alike([facts.thumb for _, facts in images], [facts.shape for _, facts in images])
    for i, j, value, how in pairs:
        a, b = images[i][0], images[j][0]
        if (id(a), id(b)) in copies:
            continue
        if min(a.n_objects, b.n_objects) < PATTERN_OBJECTS and value < ALIKE_WITHOUT:
            continue
        across = a.sample.split != b.sample.split
        last = _outside_training([a, b])
        yield finding(
            "near-duplicate",
            f"{_name(a)} and {_name(b)} correlate with {value:.3f}" + (f" when {how}" if how else ""),
            severity="warning" if across else "note", image=last.sample.name, file=last.sample.image_path,
            split=last.sample.split, value=value + across,
        )  # fmt: skip


def _name(one: Examined) -> str:
    return one.sample.name + (f" ({one.sample.split})" if one.sample.split is not None else "")


def _outside_training(group: Sequence[Examined]) -> Examined:
    return next((one for one in group if one.sample.split not in ("train", None)), group[-1])


def _unassigned(examined: Sequence[Examined]) -> Iterator[Finding]:
    left = [one for one in examined if one.sample.split is None]
    if left:
        yield finding(
            "unassigned", f"{many(len(left), 'annotated image')} of {len(examined)} in no split, such as "
            + ", ".join(one.sample.name for one in left[:3]),
            image=left[0].sample.name, file=left[0].sample.image_path, value=len(left),
        )  # fmt: skip


def _columns(examined: Sequence[Examined]) -> list[str]:
    return list(dict.fromkeys(column for one in examined for column in one.sample.group))


def _leak(examined: Sequence[Examined], column: str) -> Iterator[Finding]:
    places = defaultdict(set)
    for one in examined:
        if one.sample.split is not None and one.sample.group.get(column, ""):
            places[one.sample.group[column]].add(one.sample.split)
    shared = [value for value, splits in places.items() if len(splits) > 1]
    if shared and len(places) > 1:
        value = shared[0]
        yield finding(
            "group-leak",
            f"{len(shared)} of {len(places)} values of {column!r} are in several splits, such as {value!r} in "
            + " and ".join(sorted(places[value])), value=len(shared),
        )  # fmt: skip


def _uneven(examined: Sequence[Examined], column: str) -> Iterator[Finding]:
    from scipy.stats import chi2_contingency

    pairs = Counter(
        (one.sample.group[column], one.sample.split)
        for one in examined
        if one.sample.split is not None and one.sample.group.get(column, "")
    )
    values = sorted({value for value, _ in pairs})
    splits = sorted({split for _, split in pairs})
    if not 2 <= len(values) <= MOST_GROUPS or len(splits) < 2:
        return
    table = np.array([[pairs[value, split] for split in splits] for value in values], float)
    shares = table / table.sum(axis=0)
    total = table.sum(axis=1) / table.sum()
    off = np.abs(shares - total[:, None])
    if off.max() < SHARE_OFF or chi2_contingency(table).pvalue > CHANCE:
        return
    k, s = np.unravel_index(int(off.argmax()), off.shape)
    yield finding(
        "split-imbalance",
        f"{column} {values[k]} makes up {shares[k, s]:.0%} of {splits[s]}, and {total[k]:.0%} of all images",
        split=splits[s], value=float(off.max()),
    )  # fmt: skip
