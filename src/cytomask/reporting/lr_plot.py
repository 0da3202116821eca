"""The plot of a learning-rate search: the loss by learning rate, and the suggested rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cytomask.output import replacing
from cytomask.reporting.curves import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of several models, losses over their lowest are shown in this range.
RELATIVE = (1.0, 4.0)
MARKERS = ("o", "s", "D", "^")


@dataclass(frozen=True)
class SweptModel:
    """Losses by rate ``(N,)``, raw and smoothed; a mark is a rule, its rate and loss, and whether it is recommended."""

    name: str
    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    marks: Sequence[tuple[str, float, float, bool]] = ()


def write_lr_plot(models: Sequence[SweptModel], target: str | Path) -> None:
    """Write the plot as PNG; it appears complete or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    figure = draw_lr_plot(models)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def draw_lr_plot(models: Sequence[SweptModel]) -> Figure:
    """Draw the loss by learning rate: of one model as it is, of several over the lowest of each.

    Examples
    --------
    >>> model = SweptModel("a", np.array([1e-3, 1e-2]), np.array([2.0, 1.0]), np.array([2.0, 1.5]))
    >>> draw_lr_plot([model]).axes[0].get_xscale()
    'log'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    if len(models) == 1:
        _one(panel, models[0])
    else:
        _several(panel, models)
    panel.set_xscale("log")
    panel.set_xlabel("learning rate")
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(True, which="major", color="0.9", linewidth=0.8)
    panel.set_axisbelow(True)
    panel.legend(fontsize=9, framealpha=0.85, edgecolor="none")
    return figure


def _one(panel: Axes, model: SweptModel) -> None:
    panel.plot(model.rates, model.losses, color="0.7", linewidth=0.9, label="loss of each step")
    panel.plot(model.rates, model.smoothed, color=COLOURS[0], linewidth=2, label="smoothed")
    for k, (rule, rate, loss, chosen) in enumerate(model.marks):
        colour = COLOURS[1 + k % (len(COLOURS) - 1)]
        if chosen:
            panel.axvline(rate, color=colour, linewidth=1, linestyle="--", zorder=1)
        panel.plot(
            rate, loss, MARKERS[k % len(MARKERS)], color=colour, markersize=9, markeredgecolor="white",
            label=f"{rule}: {rate:.2g}" + (" (recommended)" if chosen else ""), zorder=5,
        )  # fmt: skip
    # One step's loss may be far beyond: the smoothed ones must remain visible.
    low, high = float(model.smoothed.min()), float(model.smoothed.max())
    margin = 0.25 * (high - low) or 0.1 * abs(high) or 1.0
    panel.set_ylim(max(low - margin, min(0.0, low)), high + margin)
    panel.set_ylabel("loss")
    panel.set_title(f"learning rates tried on {model.name}", fontsize=11)


def _several(panel: Axes, models: Sequence[SweptModel]) -> None:
    for k, model in enumerate(models):
        colour = COLOURS[k % len(COLOURS)]
        lowest = float(model.smoothed.min())
        style = "-" if k < len(COLOURS) else "--"
        chosen = [(rate, loss) for _, rate, loss, is_chosen in model.marks if is_chosen]
        told = f"{model.name}: {chosen[0][0]:.2g}" if chosen else f"{model.name}: no suggestion"
        panel.plot(model.rates, model.smoothed / lowest, style, color=colour, linewidth=2, label=told)
        for rate, loss in chosen:
            panel.plot(rate, loss / lowest, "o", color=colour, markersize=9, markeredgecolor="white", zorder=5)
    panel.set_ylim(*RELATIVE)
    panel.set_ylabel("smoothed loss over its lowest")
    panel.set_title("learning rates tried; dots are the recommended ones", fontsize=11)
