"""Charts of measurements as SVG inside a page: boxes with the images' means, and clouds of points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cytomask.reporting.figures_svg import (
    _BOTTOM,
    _HEIGHT,
    _LEFT,
    _RIGHT,
    _TOP,
    _WIDTH,
    _at,
    _axes,
    _figure,
    _legend,
    _log_ticks,
    _scale,
    _short,
    _svg,
)
from cytomask.reporting.markup import Html, element

#: Points of a cloud that are drawn at most; more make a page heavy and tell nothing more.
_MOST_POINTS = 1500
#: Ratio of the largest to the smallest value from which an axis is logarithmic.
_WIDE = 60


@dataclass(frozen=True)
class Box:
    """The values of a class, or of a class in a group: a row of :func:`box_chart`.

    Attributes
    ----------
    name
        What they are of.
    values
        One per object; those that are not finite are left out.
    means
        Mean of each image.
    note
        Stands beneath the name.
    style
        Number of the colour, from 1.
    """

    name: str
    values: Sequence[float]
    means: Sequence[float] = ()
    note: str = ""
    style: int = 1


def box_chart(rows: Sequence[Box], *, title: str, x_label: str, wide: bool = False) -> Html | None:
    """Draw the middle half of the values as a box with the median, the middle 90 % as whiskers, and images as dots.

    With ``wide``, the axis is logarithmic where the values are all above 0 and range widely.

    Returns
    -------
    Html or None
        None where there are no values.

    Examples
    --------
    >>> chart = box_chart([Box("cell", [1, 2, 3, 4, 5], [2.5])], title="t", x_label="x")
    >>> "<title>cell: median 3, middle half 2 to 4, 90 % 1.2 to 4.8, n = 5</title>" in chart
    True
    """
    known = [np.asarray(row.values, float) for row in rows]
    known = [values[np.isfinite(values)] for values in known]
    kept = [(row, values) for row, values in zip(rows, known) if len(values)]
    if not kept:
        return None
    spread = [np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)) for _, values in kept]
    means = [[m for m in row.means if math.isfinite(m)] for row, _ in kept]
    low = min(min(q[0] for q in spread), *(min(m) for m in means if m), math.inf)
    high = max(max(q[-1] for q in spread), *(max(m) for m in means if m), -math.inf)
    logarithmic = wide and low > 0 and high / low > _WIDE
    if not logarithmic:
        low = 0.0 if 0 < low < 0.6 * high else low
        room = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
        low, high = (0.0 if low == 0 else low - room), high + room
    where = math.log10 if logarithmic else float
    longest = max(len(row.name) for row, _ in kept)
    left, step = min(190, 34 + 7 * longest), 42
    height = _TOP + step * len(kept) + _BOTTOM
    x_range = (where(low), where(high))
    x = _scale(x_range, left, _WIDTH - _RIGHT)
    parts = []
    for place, ((row, values), q, own) in enumerate(zip(kept, spread, means)):
        y, style = _TOP + step * (place + 0.5), f"s{(row.style - 1) % 6 + 1}"
        name = row.name if len(row.name) <= 24 else row.name[:23] + "…"
        parts.append(element("text", name, x=left - 10, y=_at(y + (-2 if row.note else 4)), class_="label end"))
        if row.note:
            parts.append(element("text", row.note, x=left - 10, y=_at(y + 12), class_="tick end faint"))
        at = [x(where(value)) for value in q]
        told = (
            f"{row.name}{f' ({row.note})' if row.note else ''}: median {_short(q[2])}, middle half {_short(q[1])} to "
            f"{_short(q[3])}, 90 % {_short(q[0])} to {_short(q[4])}, n = {len(values):,}"
        )
        marks = [
            element("line", x1=_at(at[0]), x2=_at(at[4]), y1=_at(y), y2=_at(y), class_=f"axis {style}"),
            element("rect", x=_at(at[1]), y=_at(y - 11), width=_at(max(at[3] - at[1], 1)), height=22, rx=3,
                    class_=f"band {style}"),
            element("line", x1=_at(at[2]), x2=_at(at[2]), y1=_at(y - 11), y2=_at(y + 11), class_=f"whisker {style}"),
        ]  # fmt: skip
        for k, mean in enumerate(own[:60]):
            shift = (k % 5 - 2) * 3.2
            marks.append(element("circle", cx=_at(x(where(mean))), cy=_at(y + shift), r=3.2, class_=f"dot {style}"))
        hover = element("rect", x=left, y=_at(y - step / 2), width=_WIDTH - _RIGHT - left, height=step, class_="hover")
        parts.append(element("g", element("title", told), *marks, hover))
    marks_at = _thinned(_log_ticks(low, high)) if logarithmic else None
    axes = _axes(x_range, (0, 1), x, None, x_label, "", x_marks=marks_at, left=left, height=height)
    return _figure(title, _svg(title, _WIDTH, height, axes, *parts))


def cloud_chart(
    clouds: Sequence[tuple[str, Sequence[float], Sequence[float]]], *, title: str, x_label: str, y_label: str
) -> Html | None:
    """Draw two measurements of the same objects against each other, a colour for every class.

    The horizontal axis is logarithmic where its values range widely. Of very many objects, some are drawn.

    Examples
    --------
    >>> cloud_chart([("cell", [1, 2], [3, 4])], title="t", x_label="x", y_label="y").count("<circle")
    2
    """
    known = []
    for name, xs, ys in clouds:
        both = np.column_stack([np.asarray(xs, float), np.asarray(ys, float)])
        known.append((name, both[np.isfinite(both).all(axis=1)]))
    known = [(name, both) for name, both in known if len(both)]
    total = sum(len(both) for _, both in known)
    if not total:
        return None
    every = np.concatenate([both for _, both in known])
    ranges, logs = [], []
    for axis in range(2):
        low, high = float(every[:, axis].min()), float(every[:, axis].max())
        wide = axis == 0 and low > 0 and high / low > _WIDE
        if wide:
            low, high = math.log10(low), math.log10(high)
        room = 0.04 * (high - low) or 0.5
        ranges.append((low - room, high + room))
        logs.append(wide)
    x, y = _scale(ranges[0], _LEFT, _WIDTH - _RIGHT), _scale(ranges[1], _HEIGHT - _BOTTOM, _TOP)
    dots = []
    stride = max(1, math.ceil(total / _MOST_POINTS))
    for place, (_, both) in enumerate(known):
        for a, b in both[::stride]:
            at = x(math.log10(a) if logs[0] else a), y(b)
            dots.append(
                element("circle", cx=_at(at[0]), cy=_at(at[1]), r=2.6, class_=f"bar s{place % 6 + 1}", opacity=0.6)
            )
    marks = _thinned(_log_ticks(10 ** ranges[0][0], 10 ** ranges[0][1])) if logs[0] else None
    axes = _axes(ranges[0], ranges[1], x, y, x_label, y_label, x_marks=marks)
    legend = _legend([(name, f"bar s{place % 6 + 1}") for place, (name, _) in enumerate(known)])
    return _figure(title, _svg(title, _WIDTH, _HEIGHT, axes, *dots), legend if len(known) > 1 else None)


def correlation_matrix(names: Sequence[str], values: Sequence[Sequence[float]], *, title: str) -> Html:
    """Draw correlations of channels as squares, the stronger the larger; filled where positive, with the numbers.

    Parameters
    ----------
    names
        N names.
    values
        N rows of N correlations, -1 to 1; NaN leaves a square out.
    title
        What they are.

    Examples
    --------
    >>> chart = correlation_matrix(["a", "b"], [[1, 0.5], [0.5, 1]], title="t")
    >>> chart.count("<title>a and b: 0.500</title>")
    1
    """
    n = len(names)
    longest = max(len(name) for name in names)
    left = min(150, 20 + 7.5 * min(longest, 18))
    step = min(64.0, (_WIDTH - _RIGHT - left) / max(1, n))
    top = 14
    height = top + step * n + 30
    parts = []
    for i, name in enumerate(names):
        short = name if len(name) <= 18 else name[:17] + "…"
        below = name if len(name) * 7 <= step else name[: max(1, int(step / 7) - 1)] + "…"
        parts.append(element("text", short, x=_at(left - 8), y=_at(top + step * (i + 0.5) + 4), class_="tick end"))
        parts.append(
            element("text", below, x=_at(left + step * (i + 0.5)), y=_at(top + step * n + 18), class_="tick middle")
        )
        for j in range(i):
            value = float(values[i][j])
            if not math.isfinite(value):
                continue
            side = max(3.0, math.sqrt(abs(value)) * (step - 4))
            middle = left + step * (j + 0.5), top + step * (i + 0.5)
            square = element(
                "rect", x=_at(middle[0] - side / 2), y=_at(middle[1] - side / 2), width=_at(side), height=_at(side),
                rx=3, class_="yes" if value >= 0 else "no",
            )  # fmt: skip
            # The number stands at the mirrored place.
            at = left + step * (i + 0.5), top + step * (j + 0.5) + 4
            number = element("text", f"{value:.2f}", x=_at(at[0]), y=_at(at[1]), class_="tick middle")
            shown = number if step >= 34 else None
            parts.append(element("g", element("title", f"{names[j]} and {names[i]}: {value:.3f}"), square, shown))
    return _figure(title, _svg(title, _WIDTH, int(height), *parts))


def _thinned(marks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    return marks if len(marks) <= 7 else marks[:: math.ceil(len(marks) / 7)]
