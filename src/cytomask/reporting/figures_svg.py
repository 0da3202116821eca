"""Charts as SVG inside a page: lines with bands, histograms, bars, and intervals.

Colours come from the page's style sheet by class, so that charts follow light and dark. What is under the pointer tells
its numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cytomask.reporting.markup import Html, element, join

#: Room around the plot: left, top, right, bottom.
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 14, 16, 46
_WIDTH, _HEIGHT = 480, 300


@dataclass(frozen=True, eq=False)
class Line:
    """A curve.

    Attributes
    ----------
    name
        In the legend.
    x, y
        ``(N,)``; NaN leaves a point out.
    low, high
        Bounds of a band around it, ``(N,)``, if there is one.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Interval:
    """A figure with its interval, one row of :func:`interval_chart`.

    Attributes
    ----------
    name
        What it is of.
    value
        The figure; None where it is not defined.
    low, high
        Its interval, if there is one.
    note
        Stands beneath the name, such as the number of images.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def line_chart(
    lines: Sequence[Line],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float] = (0.0, 1.0),
) -> Html:
    """Draw curves with bands.

    Examples
    --------
    >>> curve = Line("F1", [0.5, 0.75], [0.9, 0.6])
    >>> chart = line_chart([curve], title="F1", x_label="IoU", y_label="F1", x_range=(0, 1))
    >>> chart.count("<title>F1 at 0.5: 0.9</title>")
    1
    """
    x, y = _scale(x_range, _LEFT, _WIDTH - _RIGHT), _scale(y_range, _HEIGHT - _BOTTOM, _TOP)
    bands, strokes, points = [], [], []
    for place, line in enumerate(lines):
        style = f"s{place % 6 + 1}"
        if line.low is not None and line.high is not None:
            edge = _known(line.x, line.high) + _known(line.x, line.low)[::-1]
            if edge:
                bands.append(element("polygon", points=_points(edge, x, y), class_=f"band {style}"))
        known = _known(line.x, line.y)
        strokes.append(element("polyline", points=_points(known, x, y), class_=f"line {style}"))
        bounds = {} if line.low is None or line.high is None else dict(zip(line.x, zip(line.low, line.high)))
        for at, value in known if len(known) <= 40 else ():
            told = f"{line.name} at {_short(at)}: {_short(value)}"
            low, high = bounds.get(at, (math.nan, math.nan))
            if math.isfinite(low) and math.isfinite(high):
                told += f" ({_short(low)} to {_short(high)})"
            spot = {"cx": _at(x(at)), "cy": _at(y(value))}
            points.append(
                element(
                    "g",
                    element("title", told),
                    element("circle", r=3, class_=f"dot {style}", **spot),
                    element("circle", r=11, class_="hover", **spot),
                )
            )
    axes = _axes(x_range, y_range, x, y, x_label, y_label)
    legend = None
    if len(lines) > 1:
        legend = _legend([(line.name, f"key s{place % 6 + 1}") for place, line in enumerate(lines)])
    return _figure(title, _svg(title, _WIDTH, _HEIGHT, axes, *bands, *strokes, *points), legend)


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    logarithmic: bool = False,
) -> Html:
    """Draw a histogram.

    Parameters
    ----------
    edges, counts
        ``(N + 1,)`` and ``(N,)``.
    logarithmic
        Whether the edges lie on a logarithmic axis (they are all above 0 then).

    Examples
    --------
    >>> "<title>2 to 4: 7</title>" in histogram([0, 2, 4], [1, 7], title="t", x_label="x", y_label="y")
    True
    """
    logarithmic = logarithmic and min(edges) > 0
    where = (lambda v: math.log10(v)) if logarithmic else (lambda v: float(v))
    x_range = where(edges[0]), where(edges[-1]) if edges[-1] > edges[0] else where(edges[0]) + 1
    top = max([*counts, 1])
    y_range = (0.0, _ticks(0, top)[-1] if _ticks(0, top)[-1] >= top else float(top))
    x, y = _scale(x_range, _LEFT, _WIDTH - _RIGHT), _scale(y_range, _HEIGHT - _BOTTOM, _TOP)
    bars = []
    for low, high, count in zip(edges, edges[1:], counts):
        left, right, base, peak = x(where(low)), x(where(high)), y(0), y(count)
        bars.append(
            element(
                "g",
                element("title", f"{_short(low)} to {_short(high)}: {_short(count)}"),
                element(
                    "rect",
                    x=_at(left + 0.5),
                    y=_at(peak),
                    width=_at(max(right - left - 1, 0.5)),
                    height=_at(max(base - peak, 0)),
                    class_="bar s1",
                ),
                element(
                    "rect",
                    x=_at(left),
                    y=_TOP,
                    width=_at(right - left),
                    height=_HEIGHT - _TOP - _BOTTOM,
                    class_="hover",
                ),
            )
        )
    marks = _log_ticks(edges[0], edges[-1]) if logarithmic else None
    axes = _axes(x_range, y_range, x, y, x_label, y_label, x_marks=marks)
    return _figure(title, _svg(title, _WIDTH, _HEIGHT, axes, *bars))


def bar_chart(
    names: Sequence[str],
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    notes: Sequence[str] = (),
    top: float = 1.0,
) -> Html:
    """Draw upright bars, several beside each other for each name.

    Parameters
    ----------
    names
        N names along the axis.
    series
        Name and N values of each series; None leaves a bar out.
    notes
        N short texts beneath the names.
    top
        The end of the axis.

    Examples
    --------
    >>> chart = bar_chart(["small"], [("recall", [0.5])], title="t", x_label="size", y_label="part")
    >>> "<title>small, recall: 0.5</title>" in chart
    True
    """
    bottom = _BOTTOM + (16 if any(notes) else 0)
    height = _HEIGHT + (16 if any(notes) else 0)
    y = _scale((0, top), height - bottom, _TOP)
    slot = (_WIDTH - _RIGHT - _LEFT) / max(1, len(names))
    width = min(34.0, slot * 0.72 / max(1, len(series)))
    bars = []
    for place, name in enumerate(names):
        middle = _LEFT + slot * (place + 0.5)
        for k, (what, values) in enumerate(series):
            value = values[place]
            if value is None or not math.isfinite(value):
                continue
            left = middle + (k - len(series) / 2) * width
            bars.append(
                element(
                    "g",
                    element("title", f"{name}, {what}: {_short(value)}"),
                    element(
                        "rect",
                        x=_at(left + 1),
                        y=_at(y(value)),
                        width=_at(width - 2),
                        height=_at(y(0) - y(value)),
                        rx=2,
                        class_=f"bar s{k + 1}",
                    ),
                )
            )
        bars.append(element("text", name, x=_at(middle), y=height - bottom + 18, class_="tick middle"))
        if any(notes):
            bars.append(
                element("text", notes[place], x=_at(middle), y=height - bottom + 33, class_="tick middle faint")
            )
    axes = _axes(
        (0, 1), (0, top), _scale((0, 1), _LEFT, _WIDTH - _RIGHT), y, x_label, y_label, x_marks=[], height=height
    )
    legend = _legend([(what, f"bar s{k + 1}") for k, (what, _) in enumerate(series)]) if len(series) > 1 else None
    return _figure(title, _svg(title, _WIDTH, height, axes, *bars), legend)


def interval_chart(
    rows: Sequence[Interval], *, title: str, x_label: str, x_range: tuple[float, float] = (0.0, 1.0)
) -> Html:
    """Draw figures as points with their intervals, a row each.

    Examples
    --------
    >>> chart = interval_chart([Interval("brightfield", 0.8, 0.7, 0.9)], title="t", x_label="F1")
    >>> "<title>brightfield: 0.8 (0.7 to 0.9)</title>" in chart
    True
    """
    longest = max([len(row.name) for row in rows] + [0])
    left, step = min(190, 34 + 7 * longest), 40
    height = _TOP + step * len(rows) + _BOTTOM
    x = _scale(x_range, left, _WIDTH - _RIGHT)
    parts = []
    for place, row in enumerate(rows):
        y = _TOP + step * (place + 0.5)
        name = row.name if len(row.name) <= 24 else row.name[:23] + "…"
        parts.append(element("line", x1=left, x2=_WIDTH - _RIGHT, y1=_at(y), y2=_at(y), class_="grid"))
        parts.append(element("text", name, x=left - 10, y=_at(y + (-2 if row.note else 4)), class_="label end"))
        if row.note:
            parts.append(element("text", row.note, x=left - 10, y=_at(y + 12), class_="tick end faint"))
        if row.value is None:
            parts.append(element("text", "not defined", x=left + 6, y=_at(y + 4), class_="tick faint"))
            continue
        told = f"{row.name}: {_short(row.value)}"
        marks = []
        if row.low is not None and row.high is not None:
            told += f" ({_short(row.low)} to {_short(row.high)})"
            low, high = (max(x_range[0], min(x_range[1], bound)) for bound in (row.low, row.high))
            marks.append(element("line", x1=_at(x(low)), x2=_at(x(high)), y1=_at(y), y2=_at(y), class_="whisker s1"))
            marks += [
                element("line", x1=_at(x(end)), x2=_at(x(end)), y1=_at(y - 5), y2=_at(y + 5), class_="whisker s1")
                for end in (low, high)
            ]
        marks.append(element("circle", cx=_at(x(row.value)), cy=_at(y), r=5.5, class_="dot s1"))
        hover = element("rect", x=left, y=_at(y - step / 2), width=_WIDTH - _RIGHT - left, height=step, class_="hover")
        parts.append(element("g", element("title", told), *marks, hover))
    axes = _axes(x_range, (0, 1), x, None, x_label, "", left=left, height=height)
    return _figure(title, _svg(title, _WIDTH, height, axes, *parts))


def _figure(title: str, drawing: Html, legend: Html | None = None) -> Html:
    return element("figure", element("figcaption", title), legend, drawing, class_="chart")


def _svg(title: str, width: int, height: int, *parts: object) -> Html:
    return element("svg", *parts, viewBox=f"0 0 {width} {height}", role="img", aria_label=title)


def _legend(entries: Sequence[tuple[str, str]]) -> Html:
    items = []
    for name, style in entries:
        sample = element("line", x1=1, x2=21, y1=6, y2=6, class_=style)
        if style.startswith("bar"):
            sample = element("rect", x=5, y=0, width=12, height=12, rx=2, class_=style)
        items.append(element("span", element("svg", sample, viewBox="0 0 22 12", aria_hidden="true"), name))
    return element("div", *items, class_="legend")


def _axes(
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    x: Callable[[float], float],
    y: Callable[[float], float] | None,
    x_label: str,
    y_label: str,
    *,
    x_marks: Sequence[tuple[float, str]] | None = None,
    left: int = _LEFT,
    height: int = _HEIGHT,
) -> Html:
    base = height - _BOTTOM
    if y is not None and y(y_range[0]) < base - 1:  # room for notes beneath the names
        base = int(y(y_range[0]))
    if x_marks is None:
        x_marks = [(tick, _short(tick)) for tick in _ticks(*x_range)]
    parts: list[Html] = []
    for at, text in x_marks:
        parts.append(element("line", x1=_at(x(at)), x2=_at(x(at)), y1=_TOP, y2=base, class_="grid"))
        parts.append(element("text", text, x=_at(x(at)), y=base + 18, class_="tick middle"))
    for tick in _ticks(*y_range) if y is not None else ():
        assert y is not None
        parts.append(element("line", x1=left, x2=_WIDTH - _RIGHT, y1=_at(y(tick)), y2=_at(y(tick)), class_="grid"))
        parts.append(element("text", _short(tick), x=left - 8, y=_at(y(tick) + 4), class_="tick end"))
    parts.append(element("line", x1=left, x2=_WIDTH - _RIGHT, y1=base, y2=base, class_="axis"))
    parts.append(element("text", x_label, x=_at((left + _WIDTH - _RIGHT) / 2), y=height - 8, class_="label middle"))
    if y_label:
        middle = _at((_TOP + base) / 2)
        turned = f"rotate(-90 14 {middle})"
        parts.append(element("text", y_label, x=14, y=middle, class_="label middle", transform=turned))
    return join(parts)


def _scale(values: tuple[float, float], start: float, end: float) -> Callable[[float], float]:
    low, high = values
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, about five.

    Examples
    --------
    >>> _ticks(0, 1), _ticks(0, 730)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.0, 200.0, 400.0, 600.0])
    """
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * k, 10) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    marks = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for factor in (1, 2, 5):
            value = factor * 10.0**power
            if low <= value <= high:
                marks.append((math.log10(value), _short(value)))
    return marks


def _known(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    pairs = [(math.nan if a is None else float(a), math.nan if b is None else float(b)) for a, b in zip(x, y)]
    return [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]


def _points(pairs: Sequence[tuple[float, float]], x: Callable[[float], float], y: Callable[[float], float]) -> str:
    return " ".join(f"{_at(x(a))},{_at(y(b))}" for a, b in pairs)


def _at(value: float) -> str:
    """A coordinate, short."""
    return f"{value:.1f}".removesuffix(".0")


def _short(value: float) -> str:
    """A number, short.

    Examples
    --------
    >>> [_short(value) for value in (0.85, 0.001, 0.0002, -0.000123, 1234, 250000)]
    ['0.85', '0.001', '2e-4', '-1.23e-4', '1,234', '250k']
    """
    if abs(value) >= 100_000 and value % 1000 == 0:
        return f"{value / 1000:,.0f}k"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if 0 < abs(value) < 0.001:
        number, _, power = f"{value:.2e}".partition("e")
        return f"{float(number):g}e{int(power)}"
    return f"{value:.3g}"
