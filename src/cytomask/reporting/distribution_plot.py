"""The plot of how a measurement is distributed: true and predicted objects, a panel for each class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytomask.output import replacing
from cytomask.reporting.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 100
_SIDES = ("true", "predicted")


def write_distribution_plot(measured: Mapping[str, Any], target: str | Path) -> tuple[int, int]:
    """Write the plot of one measurement as PNG, and give its height and width in pixels.

    Parameters
    ----------
    measured
        ``name``, ``unit``, ``logarithmic`` and ``classes``, as in ``measurements.json``.
    target
        The file.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    figure = draw_distribution(measured)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=_DPI, format="png")
    width, height = figure.get_size_inches() * _DPI
    return round(float(height)), round(float(width))


def draw_distribution(measured: Mapping[str, Any]) -> Figure:
    """Draw the part of the objects in each bin, so that the shapes can be compared whatever the numbers are.

    Examples
    --------
    >>> sides = {side: {"n": 3, "counts": [2, 1], "quartiles": [1, 2, 3]} for side in ("true", "predicted")}
    >>> one = {"name": "area", "unit": "px", "logarithmic": False, "classes": {"cell": {"edges": [0, 2, 4], **sides}}}
    >>> [panel.get_title() for panel in draw_distribution(one).axes]
    ['cell']
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    classes = measured["classes"]
    columns = min(3, len(classes))
    rows = -(-len(classes) // columns)
    figure = Figure(figsize=(1.5 + 4.6 * columns, 0.3 + 3.1 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    unit = f" ({measured['unit']})" if measured["unit"] else ""
    for panel, (name, found) in zip(panels, classes.items()):
        edges = np.array(found["edges"], float)
        for side, colour in zip(_SIDES, COLOURS):
            one = found[side]
            if one["n"]:
                parts = 100 * np.array(one["counts"], float) / one["n"]
                label = f"{side} (n = {one['n']:,})"
                panel.stairs(parts, edges, label=label, color=colour, linewidth=1.8, fill=False)
                panel.stairs(parts, edges, color=colour, alpha=0.15, fill=True)
                panel.axvline(one["quartiles"][1], color=colour, linewidth=1.2, linestyle=":")
        if measured["logarithmic"] and edges[0] > 0:
            panel.set_xscale("log")
        # The name of a class is text, also where it holds a dollar sign.
        panel.set_title(name, fontsize=11, parse_math=False)
        panel.set_xlabel(f"{measured['name']}{unit}", parse_math=False)
        panel.set_ylabel("objects (%)")
        panel.set_ylim(bottom=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=9, framealpha=0.85, edgecolor="none")
    for panel in panels[len(classes) :]:
        panel.set_axis_off()
    return figure
