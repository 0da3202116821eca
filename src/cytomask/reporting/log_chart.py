"""A chart of a training: what was recorded as a thin line, its running mean as a bold one, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cytomask.reporting.figures_svg import (
    _BOTTOM,
    _HEIGHT,
    _LEFT,
    _RIGHT,
    _TOP,
    _WIDTH,
    _at,
    _figure,
    _legend,
    _points,
    _scale,
    _short,
    _svg,
    _ticks,
)
from cytomask.reporting.markup import Html, element

#: So many points show each; of more, the running mean stands in front of them.
_SMOOTH_FROM = 30
#: A thin line is drawn through at most so many points; of more, the lowest and the highest of each stretch.
_DRAWN = 600
#: Places along the axis that tell their numbers when the pointer rests on them.
_TOLD_PLACES = 60


@dataclass(frozen=True, eq=False)
class Curve:
    """A line of a chart.

    Attributes
    ----------
    name
        In the legend.
    x, y
        ``(N,)``: steps, rising, and values; what is not finite is left out.
    smooth
        Whether a running mean is drawn over it if there are many points; else the values themselves are the line.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    smooth: bool = True


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean of each value and its neighbours: a twenty-fifth of all; fewer, as many on each side, near the ends.

    Parameters
    ----------
    values
        ``(N,)``.

    Returns
    -------
    numpy.ndarray
        ``(N,)`` float64.

    Examples
    --------
    >>> running_mean(np.array([1.0, 2.0, 6.0]))
    array([1., 3., 6.])
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    half = np.minimum(max(1, n // 50), np.minimum(np.arange(n), np.arange(n)[::-1]))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(n)
    return (sums[places + half + 1] - sums[places - half]) / (2 * half + 1)


def log_chart(
    curves: Sequence[Curve],
    *,
    title: str,
    y_label: str,
    x_label: str = "step",
    logarithmic: bool = False,
    from_zero: bool = True,
    marks: Sequence[float] = (),
) -> Html:
    """Draw curves over the steps of a training.

    Parameters
    ----------
    curves
        What is drawn; those without points are left out of the plot, not of the legend's colours.
    title, y_label, x_label
        Words.
    logarithmic
        Whether the upright axis is; it is linear all the same if a value is not above 0.
    from_zero
        Whether a linear axis begins at 0 where no value is below.
    marks
        Steps at which a dotted line stands: where a run went on.

    Examples
    --------
    >>> chart = log_chart([Curve("loss", [20, 40], [2.0, 1.0])], title="Loss", y_label="loss")
    >>> "<title>step 40: 1</title>" in chart
    True
    """
    lines = [_finite(curve) for curve in curves]
    full = [line for line in lines if len(line[0])]
    if not full:
        nothing = element("text", "nothing recorded", x=_WIDTH // 2, y=_HEIGHT // 2, class_="tick middle")
        return _figure(title, _svg(title, _WIDTH, _HEIGHT, nothing))
    everything = np.concatenate([y for _, y in full])
    logarithmic = logarithmic and everything.min() > 0
    first, last = min(float(x[0]) for x, _ in full), max(float(x[-1]) for x, _ in full)
    if first == last:
        first, last = first - 0.5, last + 0.5
    y_range, y_marks = _upright(everything, logarithmic, from_zero)
    x = _scale((first, last), _LEFT, _WIDTH - _RIGHT)
    across = _scale(y_range, _HEIGHT - _BOTTOM, _TOP)

    def y(value: float) -> float:
        return across(math.log10(value) if logarithmic else value)

    parts = _frame(x, (first, last), [(y(at), text) for at, text in y_marks], x_label, y_label)
    for step in marks:
        if first < step < last:
            parts.append(
                element("line", x1=_at(x(step)), x2=_at(x(step)), y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="mark")
            )
    thin, bold = [], []
    for place, (curve, (xs, ys)) in enumerate(zip(curves, lines)):
        style = f"s{place % 6 + 1}"
        if curve.smooth and len(xs) >= _SMOOTH_FROM:
            thin.append(element("polyline", points=_points(_thinned(xs, ys), x, y), class_=f"raw {style}"))
            ys = running_mean(ys)
        bold.append(element("polyline", points=_points(_thinned(xs, ys), x, y), class_=f"line {style}"))
        if len(xs) <= 40:
            spots = zip(xs.tolist(), ys.tolist())
            bold += [element("circle", cx=_at(x(a)), cy=_at(y(b)), r=2.6, class_=f"dot {style}") for a, b in spots]
    told = _told(curves, lines, x, (first, last), x_label)
    legend = None
    if len(curves) > 1:
        legend = _legend([(curve.name, f"key s{place % 6 + 1}") for place, curve in enumerate(curves)])
    return _figure(title, _svg(title, _WIDTH, _HEIGHT, *parts, *thin, *bold, *told), legend)


def spans_decades(values: Sequence[float], decades: float) -> bool:
    """Whether values, all above 0, span more than so many powers of ten.

    Examples
    --------
    >>> spans_decades([1e-5, 1e-2], 2), spans_decades([0.0, 1.0], 2), spans_decades([], 2)
    (True, False, False)
    """
    finite = [v for v in values if math.isfinite(v)]
    return bool(finite) and min(finite) > 0 and max(finite) > 10**decades * min(finite)


def _finite(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    return x[known], y[known]


def _thinned(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    """The points, or of too many the lowest and the highest of each stretch, so that no spike is lost."""
    if len(x) <= _DRAWN:
        return list(zip(x.tolist(), y.tolist()))
    kept: list[int] = []
    edges = np.linspace(0, len(x), _DRAWN // 2 + 1).astype(int)
    for begin, end in pairwise(edges.tolist()):
        stretch = y[begin:end]
        kept += sorted({begin + int(stretch.argmin()), begin + int(stretch.argmax())})
    kept = sorted({0, *kept, len(x) - 1})
    return [(float(x[k]), float(y[k])) for k in kept]


def _upright(
    values: np.ndarray, logarithmic: bool, from_zero: bool
) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """The range of the upright axis, and its marks: value and text."""
    low, high = float(values.min()), float(values.max())
    if logarithmic:
        bounds = math.log10(low), math.log10(high)
        if bounds[1] - bounds[0] < 0.1:
            bounds = bounds[0] - 0.1, bounds[1] + 0.1
        margin = 0.04 * (bounds[1] - bounds[0])
        bounds = bounds[0] - margin, bounds[1] + margin
        factors = (1,) if bounds[1] - bounds[0] > 3 else (1, 2, 5) if bounds[1] - bounds[0] > 0.7 else range(1, 10)
        powers = range(math.floor(bounds[0]), math.ceil(bounds[1]) + 1)
        marks = [f * 10.0**p for p in powers for f in factors if bounds[0] <= math.log10(f * 10.0**p) <= bounds[1]]
        return bounds, [(mark, _mark(mark)) for mark in marks]
    if from_zero and low >= 0:
        low = 0.0
    if high == low:
        low, high = (0.0, 2 * high) if high > 0 else (low - 1, high + 1)
    step = _ticks(low, high)
    step_size = step[1] - step[0] if len(step) > 1 else high - low
    high = math.ceil(high / step_size - 1e-9) * step_size
    if low != 0:
        low = math.floor(low / step_size + 1e-9) * step_size
    return (low, high), [(tick, _mark(tick)) for tick in _ticks(low, high)]


def _frame(
    x: Callable[[float], float],
    x_range: tuple[float, float],
    y_marks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
) -> list[Html]:
    base, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for tick in _ticks(*x_range):
        if tick != round(tick) and x_range[1] - x_range[0] < 5:
            continue  # there is no half of a step
        parts.append(element("line", x1=_at(x(tick)), x2=_at(x(tick)), y1=_TOP, y2=base, class_="grid"))
        parts.append(element("text", _short(tick), x=_at(x(tick)), y=base + 18, class_="tick middle"))
    for at, text in y_marks:
        parts.append(element("line", x1=_LEFT, x2=right, y1=_at(at), y2=_at(at), class_="grid"))
        parts.append(element("text", text, x=_LEFT - 8, y=_at(at + 4), class_="tick end"))
    parts.append(element("line", x1=_LEFT, x2=right, y1=base, y2=base, class_="axis"))
    parts.append(element("text", x_label, x=_at((_LEFT + right) / 2), y=_HEIGHT - 8, class_="label middle"))
    middle = _at((_TOP + base) / 2)
    turned = f"rotate(-90 14 {middle})"
    parts.append(element("text", y_label, x=14, y=middle, class_="label middle", transform=turned))
    return parts


def _told(
    curves: Sequence[Curve],
    lines: Sequence[tuple[np.ndarray, np.ndarray]],
    x: Callable[[float], float],
    x_range: tuple[float, float],
    x_label: str,
) -> list[Html]:
    """Upright strips over the plot that tell the numbers beneath the pointer."""
    steps = np.unique(np.concatenate([xs for xs, _ in lines if len(xs)]))
    if len(steps) > _TOLD_PLACES:
        wanted = np.linspace(*x_range, _TOLD_PLACES)
        steps = np.unique(steps[np.abs(steps[None] - wanted[:, None]).argmin(1)])
    edges = [_LEFT, *(x((a + b) / 2) for a, b in pairwise(steps.tolist())), _WIDTH - _RIGHT]
    strips = []
    for step, left, right in zip(steps.tolist(), edges, edges[1:]):
        said = []
        for curve, (xs, ys) in zip(curves, lines):
            if not len(xs) or not xs[0] <= step <= xs[-1]:
                continue
            nearest = int(np.abs(xs - step).argmin())
            value = _short(float(ys[nearest]))
            if xs[nearest] != step:
                value += f" ({x_label} {_whole(float(xs[nearest]))})"
            said.append(value if len(curves) == 1 else f"{curve.name}: {value}")
        text = f"{x_label} {_whole(step)}: " + (said[0] if len(said) == 1 else "\n" + "\n".join(said))
        height = _HEIGHT - _TOP - _BOTTOM
        strips.append(
            element(
                "g",
                element("title", text),
                element("line", x1=_at(x(step)), x2=_at(x(step)), y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="guide"),
                element("rect", x=_at(left), y=_TOP, width=_at(right - left), height=height, class_="hover"),
            )
        )
    return strips


def _mark(value: float) -> str:
    """A number at the upright axis, for which there is little room.

    Examples
    --------
    >>> _mark(0.0015), _mark(0.02), _mark(2500)
    ('1.5e-3', '0.02', '2,500')
    """
    if 0 < abs(value) < 0.01:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    return _short(value)


def _whole(step: float) -> str:
    return f"{step:,.0f}" if step == round(step) else f"{step:,.1f}"
