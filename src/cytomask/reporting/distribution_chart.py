"""How a measurement is distributed among true and among predicted objects, as a chart inside a page."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

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
    _points,
    _scale,
    _short,
    _svg,
)
from cytomask.reporting.markup import Html, element

_SIDES = (("true", "s1"), ("predicted", "s2"))


def distribution_chart(
    found: Mapping[str, Any], *, title: str, x_label: str, logarithmic: bool = False, y_label: str = "objects, %"
) -> Html:
    """Draw two histograms over each other, each as the part of its own objects, with their medians.

    Parameters
    ----------
    found
        ``edges`` and, for ``true`` and ``predicted`` each, ``n``, ``counts`` and ``quartiles``, as in
        ``measurements.json``.
    title, x_label, y_label
        What stands around it.
    logarithmic
        Whether the axis is logarithmic; only where all edges are above 0.

    Examples
    --------
    >>> side = {"n": 3, "counts": [2, 1], "quartiles": [1, 1.5, 3]}
    >>> chart = distribution_chart({"edges": [0, 2, 4], "true": side, "predicted": side}, title="t", x_label="area")
    >>> "<title>0 to 2: true 66.7 %, predicted 66.7 %</title>" in chart
    True
    """
    edges = [float(edge) for edge in found["edges"]]
    logarithmic = logarithmic and edges[0] > 0
    places = list(np.log10(edges)) if logarithmic else edges
    parts = {
        side: [100 * count / found[side]["n"] for count in found[side]["counts"]]
        for side, _ in _SIDES
        if found[side]["n"]
    }
    top = max([1.0, *(max(values) for values in parts.values())])
    x_range = (float(places[0]), float(places[-1]))
    x, y = _scale(x_range, _LEFT, _WIDTH - _RIGHT), _scale((0.0, 1.05 * top), _HEIGHT - _BOTTOM, _TOP)
    bands, strokes, medians, hovers, legend = [], [], [], [], []
    for side, style in _SIDES:
        legend.append((f"{side} (n = {found[side]['n']:,})", f"key {style}"))
        if side not in parts:
            continue
        steps = [(places[0], 0.0)]
        for low, high, value in zip(places, places[1:], parts[side]):
            steps += [(low, value), (high, value)]
        steps.append((places[-1], 0.0))
        bands.append(element("polygon", points=_points(steps, x, y), class_=f"band {style}"))
        strokes.append(element("polyline", points=_points(steps, x, y), class_=f"line thin {style}"))
        middle = found[side]["quartiles"][1]
        at = x(float(np.log10(middle)) if logarithmic else float(middle))
        inside = min(max(at, _LEFT), _WIDTH - _RIGHT)
        line = element("line", x1=_at(inside), x2=_at(inside), y1=_TOP, y2=_HEIGHT - _BOTTOM, class_=f"median {style}")
        medians.append(element("g", element("title", f"median, {side}: {_short(middle)}"), line))
    for k, (low, high) in enumerate(pairwise(edges)):
        told = ", ".join(f"{side} {values[k]:.1f} %" for side, values in parts.items())
        left, right = x(places[k]), x(places[k + 1])
        area = element("rect", x=_at(left), y=_TOP, width=_at(right - left), height=_HEIGHT - _TOP - _BOTTOM,
                       class_="hover")  # fmt: skip
        hovers.append(element("g", element("title", f"{_short(low)} to {_short(high)}: {told}"), area))
    marks = _few(_log_ticks(edges[0], edges[-1])) if logarithmic else None
    axes = _axes(x_range, (0.0, 1.05 * top), x, y, x_label, y_label, x_marks=marks)
    drawing = _svg(title, _WIDTH, _HEIGHT, axes, *bands, *strokes, *medians, *hovers)
    return _figure(title, drawing, _legend(legend))


def _few(marks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """Marks that leave room for their texts."""
    return marks if len(marks) <= 8 else marks[::3]
